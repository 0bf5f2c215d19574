"""`conversation chat`: a conversation in the terminal, or with what comes through a pipe."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversation._cli.terminal import coloured, complain, one_line, plain
from conversation._conversation import Conversation
from conversation._values.events import AudioDelta, TextDelta, TranscriptDelta
from conversation._values.parts import AudioInput
from conversation._values.sound import PCM_RATE
from conversation._values.turns import AssistantTurn, UserTurn
from conversation.errors import InvalidSetting
from conversation.stores._session import StoredFile
from conversation.stores.files import FileStore

if TYPE_CHECKING:
    from openai import OpenAI

_STAND_IN = "stand_in"
"""Under this name a session's metadata say that no real model speaks in it."""

_SHOWN = 6
"""Turns of a resumed session that are shown again."""

_HELP = """\
/audio FILE   send a WAV or MP3 file as your speech
/undo         take the last exchange back
/why          what the next request would send, and why
/quit         end, as Ctrl-D does; Ctrl-C breaks an answer off
An empty line asks again where an answer is missing."""


def chat(
    store: FileStore,
    session_id: str,
    settings: Mapping[str, Any],
    *,
    audio: Path | None = None,
    plays: bool = False,
) -> int:
    """Talk until the end of input.

    Args:
        store: Where the session lives.
        session_id: Which.
        settings: Those of `Conversation` that were given.
        audio: A file to begin with.
        plays: Play the answers.

    Returns:
        The exit status.

    Raises:
        InvalidSetting: if it cannot be so.
    """
    speaker = _speaker() if plays else contextlib.nullcontext
    first = None if audio is None else AudioInput.from_file(audio)
    with (
        _client() as (client, is_real),
        Conversation.open(session_id, store=store, client=client, **settings) as conversation,
    ):
        if not is_real:
            _refuse_what_is_real(conversation)
        return _Chat(conversation, speaker, is_real=is_real).run(first)


@contextlib.contextmanager
def _client() -> Iterator[tuple[OpenAI, bool]]:
    """OpenAI's, where there is a key; else a stand-in's. Whether it is the real one."""
    from openai import OpenAI

    from conversation.testing import StandIn

    if os.environ.get("OPENAI_API_KEY"):
        with OpenAI() as client:
            yield client, True
        return
    with StandIn() as server:
        complain(
            "no OPENAI_API_KEY: a stand-in on this machine answers, which understands nothing and "
            "hums its answers"
        )
        yield server.client(), False


def _refuse_what_is_real(conversation: Conversation) -> None:
    """A stand-in must not speak in a session with a real model.

    It knows none of that one's audio ids, and what it says would stay in the session.
    """
    if conversation.turns and not conversation.metadata.get(_STAND_IN):
        msg = (
            f"session {conversation.id!r} was held with a real model, and without OPENAI_API_KEY "
            "only a stand-in is here; set the key, or begin another session: conversation chat ID"
        )
        raise InvalidSetting(msg)


def _note_who_speaks(conversation: Conversation, *, is_real: bool) -> None:
    metadata = conversation.metadata
    if is_real and metadata.pop(_STAND_IN, None):
        conversation.set_metadata(metadata)
    elif not is_real and not metadata.get(_STAND_IN):
        conversation.set_metadata({**metadata, _STAND_IN: True})


def _speaker() -> Callable[[], AbstractContextManager[Any]]:
    """What opens the loudspeaker, for 24 kHz mono s16le."""
    try:
        sounddevice: Any = importlib.import_module("sounddevice")
    except (ImportError, OSError) as error:  # OSError: its library PortAudio is missing
        msg = f"--play needs PortAudio and pip install 'conversation[sound]' ({error})"
        raise InvalidSetting(msg) from error

    def opened() -> AbstractContextManager[Any]:
        try:
            stream: AbstractContextManager[Any] = sounddevice.RawOutputStream(
                samplerate=PCM_RATE, channels=1, dtype="int16"
            )
        except sounddevice.PortAudioError as error:
            msg = f"there is nothing to play on ({error}); leave --play out"
            raise OSError(msg) from error
        return stream

    return opened


class _Chat:
    def __init__(
        self,
        conversation: Conversation,
        speaker: Callable[[], AbstractContextManager[Any]],
        *,
        is_real: bool,
    ) -> None:
        self._conversation = conversation
        self._is_real = is_real
        self._speaker = speaker
        # Where nobody can see an error and go on, it ends the chat.
        self._asks = sys.stdin.isatty()

    def run(self, first: AudioInput | None) -> int:
        if self._asks:
            self._greet()
        try:
            while first is not None or (line := self._line()) is not None:
                try:
                    if first is not None:
                        sound, first = first, None
                        self._answer(sound)
                    else:
                        self._obey(line or "")
                except Exception as error:
                    if not self._asks:
                        raise
                    complain(one_line(error))
        except KeyboardInterrupt:
            print()
        return 0

    def _greet(self) -> None:
        turns = self._conversation.turns
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")
        name = plain(str(self._conversation.id))
        print(coloured(f"session {name} of {len(turns)} turns; /help helps", "dim"))
        for turn in turns[-_SHOWN:]:
            print(coloured(f"{turn.role}: {plain(turn.text) or '(sound)'}", "dim"))

    def _line(self) -> str | None:
        try:
            line = input("you> " if self._asks else "").strip()
        except EOFError:
            if self._asks:
                print()
            return None
        return None if line == "/quit" else line

    def _obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        match command:
            case "":
                turns = self._conversation.turns
                if self._asks and turns and turns[-1].role == "user":
                    self._answer()
            case "/audio":
                self._answer(AudioInput.from_file(Path(argument.strip()).expanduser()))
            case "/undo":
                taken = self._conversation.undo()
                print(f"took back {len(taken)} turns")
            case "/why":
                print(plain(str(self._conversation.render())))
            case _ if command.startswith("/"):
                print(_HELP)
            case _:
                self._answer(line)

    def _answer(self, *content: str | AudioInput) -> None:
        """Get the answer, to what is already there if there is no content; show it as it comes."""
        conversation = self._conversation
        before = conversation.turns[-1:]
        _note_who_speaks(conversation, is_real=self._is_real)
        if self._asks:
            print(coloured("it> ", "blue"), end="", flush=True)
        try:
            self._show(*content)
        except KeyboardInterrupt:
            if not self._asks:
                raise
            match conversation.turns[-1:]:
                case same if content and same == before:
                    print(coloured("(broken off; nothing was sent)", "dim"), end="")
                case [AssistantTurn(interrupted=True)]:
                    print(coloured(" (broken off; what had come is kept)", "dim"), end="")
                case [UserTurn()]:
                    print(coloured("(broken off; an empty line asks again)", "dim"), end="")
        finally:
            print()
        if conversation.turns[-1:] != before:
            self._tell_of_sound()

    def _show(self, *content: str | AudioInput) -> None:
        with self._speaker() as speaker, self._conversation.stream(*content) as events:
            for event in events:
                match event:
                    case TranscriptDelta(text) | TextDelta(text):
                        print(plain(text), end="", flush=True)
                    case AudioDelta(data) if speaker:
                        speaker.write(data)

    def _tell_of_sound(self) -> None:
        match self._conversation.turns[-1:]:
            case [AssistantTurn(audio=audio)] if (
                self._asks and audio and isinstance(audio.data, StoredFile)
            ):
                print(coloured(f"    {audio.duration or 0:.1f} s  {audio.data.path}", "dim"))
