"""`conversation chat`: a conversation in the terminal, or with lines from a pipe."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from conversation._cli.places import AnyStore
from conversation._cli.sound import sound_from
from conversation._cli.terminal import Text, one_line, report, write_line, write_text
from conversation._conversation import Conversation
from conversation._values.events import AudioDelta, TextDelta, TranscriptDelta
from conversation._values.parts import AudioInput
from conversation._values.sound import PCM_RATE
from conversation._values.turns import AssistantTurn
from conversation.errors import InvalidSetting
from conversation.stores._session import StoredFile

if TYPE_CHECKING:
    from openai import OpenAI

_T = TypeVar("_T")

_STAND_IN = "stand_in"
"""Key in the metadata of sessions whose answers come from a stand-in."""

_SHOWN_AGAIN = 6
"""Turns shown when a session is resumed."""

_HELP = (
    "/audio FILE   send a sound file as your speech",
    "/undo         remove the last exchange",
    "/why          show what the next request would send, and why",
    "/quit         quit, like Ctrl-D",
    "An empty line retries a missing answer; Ctrl-C interrupts an answer.",
)


def chat(options: argparse.Namespace, store: AnyStore) -> int:
    """Talk until the end of input, and return the exit status."""
    settings = {key: getattr(options, key) for key in ("model", "voice", "instructions")}
    given = {key: value for key, value in settings.items() if value is not None}
    speaker = _speaker() if options.play else _silent
    first = sound_from(options.audio) if options.audio else None
    with (
        _client() as (client, is_real),
        Conversation.open(options.id, store=store, client=client, **given) as conversation,
    ):
        if not is_real:
            _refuse_other_turns(conversation)
        return _Chat(conversation, speaker, is_real=is_real).run(first)


@contextlib.contextmanager
def _client() -> Iterator[tuple[OpenAI, bool]]:
    """Yield OpenAI's client and True, or without a key a stand-in's client and False."""
    from openai import OpenAI

    from conversation.testing import StandIn

    if os.environ.get("OPENAI_API_KEY"):
        with OpenAI() as client:
            yield client, True
        return
    with StandIn() as server:
        report(
            "OPENAI_API_KEY is not set: a stand-in on this machine answers; it understands nothing "
            "and hums"
        )
        yield server.client(), False


def _refuse_other_turns(conversation: Conversation) -> None:
    """Keep the stand-in's answers out of sessions with a real model."""
    if conversation.turns and not conversation.metadata.get(_STAND_IN):
        msg = (
            f"session {conversation.id!r} has turns that are not from a stand-in; set "
            "OPENAI_API_KEY to continue it, or start another session: conversation chat ID"
        )
        raise InvalidSetting(msg)


def _mark_stand_in(conversation: Conversation, *, is_real: bool) -> None:
    """Set or remove the mark, if that changes."""
    metadata = conversation.metadata
    if is_real and metadata.pop(_STAND_IN, None):
        conversation.set_metadata(metadata)
    elif not is_real and not metadata.get(_STAND_IN):
        conversation.set_metadata({**metadata, _STAND_IN: True})


def _silent(_: int) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


def _speaker() -> Callable[[int], AbstractContextManager[Any]]:
    """Return the function that opens the loudspeaker for mono s16le of a rate (Hz)."""
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        msg = f"--play needs PortAudio and the extra `sound`: pip install '.[sound]' ({error})"
        raise InvalidSetting(msg) from error

    def opened(rate: int) -> AbstractContextManager[Any]:
        try:
            stream: AbstractContextManager[Any] = sounddevice.RawOutputStream(
                samplerate=rate, channels=1, dtype="int16"
            )
        except sounddevice.PortAudioError as error:
            msg = f"no loudspeaker to play on ({error}); leave out --play"
            raise OSError(msg) from error
        return stream

    return opened


class _Chat:
    def __init__(
        self,
        conversation: Conversation,
        speaker: Callable[[int], AbstractContextManager[Any]],
        *,
        is_real: bool,
    ) -> None:
        self._conversation = conversation
        self._is_real = is_real
        self._speaker = speaker
        self._is_interactive = sys.stdin.isatty()  # else the first error ends the chat

    def run(self, first: AudioInput | None) -> int:
        if self._is_interactive:
            self._greet()
        try:
            if first is not None:
                self._attempt(self._answer, first)
            while (line := self._line()) is not None:
                self._attempt(self._enter, line)
        except KeyboardInterrupt:
            write_line()
        return 0

    def _attempt(self, action: Callable[[_T], None], argument: _T) -> None:
        try:
            action(argument)
        except Exception as error:
            if not self._is_interactive:
                raise
            report(one_line(error))

    def _greet(self) -> None:
        turns = self._conversation.turns
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")
        name = self._conversation.id
        write_line((f"session {name}, {len(turns)} turns; /help lists the commands", "dim"))
        for turn in turns[-_SHOWN_AGAIN:]:
            write_text(turn.text or "(sound)", "dim", before=f"{turn.role}: ", before_colour="dim")

    def _line(self) -> str | None:
        try:
            line = input("you> " if self._is_interactive else "").strip()
        except EOFError:
            if self._is_interactive:
                write_line()
            return None
        return None if line == "/quit" else line

    def _enter(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        match command:
            case "":
                if self._is_interactive and self._conversation.unanswered:
                    self._answer()
            case "/audio":
                self._answer(sound_from(argument.strip()))
            case "/undo":
                undone = self._conversation.undo()
                write_line(f"removed {len(undone)} turns")
            case "/why":
                for item in self._conversation.render().items:
                    write_line(f"{item.role}: {item.why}")
            case _ if command.startswith("/"):
                for about in _HELP:
                    write_line(about)
            case _:
                self._answer(line)

    def _answer(self, *content: str | AudioInput) -> None:
        """Stream the answer to the content, or without any to the last turn."""
        conversation = self._conversation
        before = conversation.turns[-1:]
        _mark_stand_in(conversation, is_real=self._is_real)
        try:
            if self._is_interactive:
                write_line(("it> ", "blue"), end="")
            self._show(*content)
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
            match conversation.turns[-1:]:
                case same if content and same == before:
                    write_line(("(interrupted; nothing was sent)", "dim"), end="")
                case [AssistantTurn(interrupted=True)]:
                    write_line((" (interrupted; this part is kept)", "dim"), end="")
                case _ if conversation.unanswered:
                    write_line(("(interrupted; an empty line retries)", "dim"), end="")
        finally:
            write_line()
        if conversation.turns[-1:] != before:
            self._show_sound_file()

    def _show(self, *content: str | AudioInput) -> None:
        answer = Text("    ", 4 if self._is_interactive else 0)
        with contextlib.ExitStack() as playing:
            speaker, its_rate = playing.enter_context(self._speaker(PCM_RATE)), PCM_RATE
            for event in playing.enter_context(self._conversation.stream(*content)):
                match event:
                    case TranscriptDelta(text) | TextDelta(text):
                        answer.write(text)
                    case AudioDelta(data, rate) if speaker:
                        if rate != its_rate:
                            speaker = playing.enter_context(self._speaker(rate))
                            its_rate = rate
                        speaker.write(data)

    def _show_sound_file(self) -> None:
        match self._conversation.turns[-1:]:
            case [AssistantTurn(audio=audio)] if (
                self._is_interactive and audio and isinstance(audio.data, StoredFile)
            ):
                write_line((f"    {audio.duration or 0:.1f} s  {audio.data.path}", "dim"))
