"""A session that a command talks in: its client, and what is saved when.

Settings that are given are saved once they gave an answer; a first message that is refused leaves
nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import os
import signal
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from conversation._cli.places import AnyStore
from conversation._cli.terminal import note, report, show_progress
from conversation._client import run
from conversation._conversation import Conversation
from conversation._exchange.exchange import KEPT, PARTLY_KEPT
from conversation._rendering.settings import Settings
from conversation._values.parts import AudioInput, Part
from conversation._values.sound import AudioFormat
from conversation._values.turns import AssistantTurn, Turn, UserTurn
from conversation.errors import AudioFileMissing, InvalidSetting, SessionError
from conversation.stores.files import FileStore

if TYPE_CHECKING:
    from openai import OpenAI

_DEFAULTS = Settings()

_VOICES = (
    *("alloy", "ash", "ballad", "cedar", "coral", "echo", "fable"),
    *("marin", "nova", "onyx", "sage", "shimmer", "verse"),
)

SETTINGS = {
    "--model": f"the model (default: {_DEFAULTS.model})",
    "--voice": f"its voice (default: {_DEFAULTS.voice}): {', '.join(_VOICES)}",
    "--instructions": "how it is to answer, sent before all messages (default: none)",
}
"""Options, and what they set."""

_STAND_IN = "stand_in"
"""Key in the metadata of sessions whose answers come from a stand-in."""

_STAYS = "the earlier answer stays"


@contextlib.contextmanager
def opened_session(
    options: argparse.Namespace, store: AnyStore, *, create: bool = True
) -> Iterator[OpenSession]:
    """Yield the session that the options name; it may be new, unless `create` is False.

    Raises:
        SessionNotFound: if it is not there, and `create` is False.
        InvalidSetting: if a setting cannot work, or a stand-in would answer among real answers.
    """
    if options.voice and options.voice not in _VOICES:  # the server knows best
        near = difflib.get_close_matches(options.voice, _VOICES, 1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(_VOICES)}"
        report(f"the voice {options.voice!r} is unknown here{hint}")
    with _client() as (client, is_real), _ended_by_signals():
        yield OpenSession(options, store, client, is_real=is_real, create=create)


@contextlib.contextmanager
def _client() -> Iterator[tuple[OpenAI, bool]]:
    """Yield OpenAI's client and True, or without a key a stand-in's client and False."""
    show_progress("starting")  # it takes seconds on slow machines
    from openai import OpenAI

    from conversation.testing import StandIn

    show_progress("")
    if key := os.environ.get("OPENAI_API_KEY"):
        if not key.isascii():
            msg = "OPENAI_API_KEY holds characters that no key has; copy it anew, without quotes"
            raise InvalidSetting(msg)
        with OpenAI() as client:
            yield client, True
        return
    with StandIn() as server:
        report(
            "OPENAI_API_KEY is not set: a stand-in on this machine answers; it understands "
            "nothing, hums, and forgets its answers' ids when this command ends"
        )
        yield server.client(), False


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Leave as after an error when the terminal hangs up: what an answer has brought is kept."""
    before: dict[int, Any] = {}
    for name in ("SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # in another thread
                before[number] = signal.signal(number, _leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


class OpenSession:
    """A session and the settings that are given for it.

    Attributes:
        conversation: The session; another object after a first message that was refused.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        store: AnyStore,
        client: OpenAI,
        *,
        is_real: bool,
        create: bool,
    ) -> None:
        self._id: str = options.id
        self._store = store
        self._client = client
        self._is_real = is_real
        self._create = create
        settings = {key: getattr(options, key) for key in ("model", "voice", "instructions")}
        self._given = {key: value for key, value in settings.items() if value is not None}
        self.conversation = self._open()
        self._refuse_other_turns()

    def _open(self) -> Conversation:
        """Open the session with the settings that are given, which are not saved yet."""
        conversation = Conversation.open(
            self._id, store=self._store, client=self._client, create=self._create
        )
        conversation._try_settings(**self._given)
        give_up_stand_in(conversation)
        return conversation

    def _refuse_other_turns(self) -> None:
        """Keep the stand-in's answers out of sessions with a real model."""
        conversation = self.conversation
        if not self._is_real and conversation.turns and not conversation.metadata.get(_STAND_IN):
            msg = (
                f"session {self._id!r} has turns that a command's stand-in did not answer; set "
                "OPENAI_API_KEY to continue it, or start another session: conversation chat ID"
            )
            raise InvalidSetting(msg)

    @contextlib.contextmanager
    def exchange(self, audio_format: AudioFormat | None = None) -> Iterator[None]:
        """Keep the settings if the block brings an answer; leave no empty session if it fails.

        Args:
            audio_format: The format of its answer, which is not saved; None: as it is set.
        """
        conversation, is_new = self.conversation, not self.conversation._is_begun
        before = conversation.turns[-1:]
        self._mark()
        if audio_format is not None:
            conversation._try_settings(audio_format=audio_format)
        try:
            yield
        except KeyboardInterrupt as error:
            if not hasattr(error, "__notes__"):
                error.add_note(self._fate(before))
            self._keep_settings(before)
            raise
        except Exception:
            if is_new:
                self._forget_if_empty()
            raise
        self._keep_settings(before)

    def _fate(self, before: Sequence[Turn]) -> str:
        """Return what became of a message whose answer was interrupted."""
        last = self.conversation.turns[-1:]
        if last == before and not self.conversation.unanswered:
            return "nothing was sent"
        return PARTLY_KEPT if _worth(last) < (True, 0) and last != before else KEPT

    def repeats(self, content: Sequence[str | AudioInput]) -> bool:
        """Return True, with a note, if the same stands last already, and waits for its answer."""
        match self.conversation.turns[-1:]:
            case [UserTurn(content=last, name=None)] if self.conversation.unanswered:
                is_same = len(last) == len(content) and all(map(_is_same, last, content))
                if is_same:
                    note("this message is there already, without an answer: asking again")
                return is_same
        return False

    @contextlib.contextmanager
    def another_answer(self) -> Iterator[None]:
        """Have the block ask for another answer, which replaces the last one, if there is any.

        A copy in memory asks. The last answer goes in the write that brings the other one, and
        stays if none comes, however the block or the program ends; of two cut ones, the longer.
        """
        original = self.conversation
        with original.hold():
            if original.unanswered:
                yield
                return
            self.conversation = copy = original._without_answer()
            start = len(copy.turns)
            try:
                yield
            except BaseException as error:
                if not self._replaced(original, start):
                    error.__notes__ = [_STAYS]
                raise
            if not self._replaced(original, start):
                note(_STAYS)

    def _replaced(self, original: Conversation, start: int) -> bool:
        """Take over what a copy has answered; return False if the earlier answer is better."""
        copy, self.conversation = self.conversation, original
        is_better = _worth(copy.turns[start:]) >= _worth(original.turns[start:])
        run(original._taking_over(copy, start, is_better=is_better))
        return is_better

    def _mark(self) -> None:
        """Mark a session whose answers come from a stand-in."""
        metadata = self.conversation.metadata
        if self._is_real or metadata.get(_STAND_IN):
            return
        marked = metadata | {_STAND_IN: True}
        if self.conversation._is_begun:
            self.conversation.set_metadata(marked)
        else:
            self.conversation._begin_with("metadata", marked)

    def _keep_settings(self, before: Sequence[Turn]) -> None:
        """Save the settings that gave another answer, and remove the mark of a stand-in."""
        conversation = self.conversation
        last = conversation.turns[-1:]
        if last == before or not any(isinstance(turn, AssistantTurn) for turn in last):
            return
        run(conversation._keeping_settings(self._given))
        metadata = conversation.metadata
        if self._is_real and metadata.pop(_STAND_IN, None):
            conversation.set_metadata(metadata)

    def _forget_if_empty(self) -> None:
        """Leave nothing of a session whose first message was refused."""
        conversation = self.conversation
        if conversation.turns or not conversation._is_begun:
            return
        with contextlib.suppress(SessionError):
            if isinstance(self._store, FileStore):
                session = self._store.session(self._id)
                with session.locked(timeout=60.0):
                    state = session.read()
                    if state is not None and not state.entries:
                        session.remove()
            else:
                infos = {info.id: info for info in self._store.list(prefix=self._id)}
                if self._id in infos and not conversation.refresh():
                    seen = infos[self._id].updated_at  # whoever adds a turn from now on changes it
                    self._store.session(self._id).sweep(seen, sound_only=False, dry_run=False)
        self.conversation = self._open()


def give_up_stand_in(conversation: Conversation) -> None:
    """Give up the ids of a stand-in, in memory: it forgot them when its command ended."""
    if conversation.metadata.get(_STAND_IN):
        conversation._give_up_ids()


def remarks(answer: AssistantTurn) -> Iterator[str]:
    """Yield what is special about an answer that its words do not tell."""
    if answer.finish_reason == "length":
        yield "the answer was cut off: it reached the most that one may hold"
    if answer.finish_reason == "content_filter":
        yield "the answer was cut off by the content filter"
    if answer.refusal:
        yield "the model refused to answer"
    elif answer.voice_dropped:
        yield "the model did not speak: it answered in writing"
    for call in answer.tool_calls:
        yield f"the model called the tool {call.name!r}, which this program does not have"
    if not (answer.text or answer.audio or answer.tool_calls):
        yield "the answer is empty"


def _worth(answer: Sequence[Turn]) -> tuple[bool, int]:
    """Return how good an answer is: a whole one is better than any part, a longer part better."""
    is_whole = bool(answer) and not getattr(answer[-1], "interrupted", False)
    return is_whole, 0 if is_whole else sum(len(turn.text) for turn in answer)


def _is_same(part: Part, given: str | AudioInput) -> bool:
    """Return True if a saved part is what is given: the same words, or the same sound."""
    if not (isinstance(part, AudioInput) and isinstance(given, AudioInput)):
        return part == given
    try:
        return part.read() == given.read()
    except (AudioFileMissing, OSError):
        return False
