"""`conversation chat`: a conversation in the terminal, or with lines from a pipe."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from conversation._cli.places import AnyStore
from conversation._cli.prompt import Entered, Prompt, is_ready
from conversation._cli.session import OpenSession, opened_session, remarks
from conversation._cli.sound import loudspeaker, recorded, sound_from
from conversation._cli.terminal import (
    Text,
    answering,
    name_remedies,
    note,
    one_line,
    report,
    show_progress,
    write_line,
    write_text,
)
from conversation._cli.wording import IN_CHAT, Remedies
from conversation._conversation import Conversation
from conversation._values.events import AudioDelta, TextDelta, TranscriptDelta
from conversation._values.parts import AudioInput
from conversation._values.sound import PCM_RATE
from conversation._values.text import counted
from conversation._values.turns import AssistantTurn, Turn, UserTurn
from conversation.errors import InvalidSetting
from conversation.stores._stored_file import StoredFile

_T = TypeVar("_T")

_SHOWN_AGAIN = 6
"""Turns shown when a session is resumed."""

_SHOWN_WORDS = 40
"""Characters by which a turn is recognised."""

_LONGEST_RECORDING = 290.0
"""Seconds, some 19 MB of base64; a request may have 20."""

_RECORDED_IN_PIPES = 5.0
"""Seconds, where nobody can press Enter."""

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "/retry": ("", "ask again: after a cut answer, or for another one"),
    "/undo": ("", "remove the last exchange"),
    "/record": ("[SECONDS]", "speak; Enter or Ctrl-C ends the recording, and sends it"),
    "/audio": ("FILE", "send a sound file as your speech"),
    "/title": ("[TEXT]", "name the session, or show its name"),
    "/why": ("", "show what the next request would send, and why"),
    "/help": ("", "list the commands"),
    "/quit": ("", "quit, like Ctrl-D"),
}
_MORE_HELP = (
    "Ctrl-C interrupts an answer. Several pasted lines are one message, and what is pasted is no "
    "command. A message that begins like a command takes two slashes: //undo is wise."
)


def chat(options: argparse.Namespace, store: AnyStore) -> int:
    """Talk until the end of input, and return the exit status."""
    place = f"in `conversation chat {shlex.quote(options.id)}`"  # once this one has ended
    after = Remedies(f"`/retry` {place}", f"`/undo` {place}")
    name_remedies(after)
    speaker = loudspeaker() if options.play else lambda _: contextlib.nullcontext()
    first = sound_from(options.audio) if options.audio else None
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    with opened_session(options, store) as session:
        try:
            return _Chat(session, speaker).run(first)
        finally:
            name_remedies(after)


class _Chat:
    def __init__(
        self, session: OpenSession, speaker: Callable[[int], AbstractContextManager[Any]]
    ) -> None:
        self._session = session
        self._speaker = speaker
        # Else the first error ends the chat.
        self._is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._shown_folder: Path | None = None
        self._prompt = Prompt("user> " if self._is_interactive else "")

    @property
    def _conversation(self) -> Conversation:
        return self._session.conversation

    # --- what is entered -------------------------------------------------------------------------

    def run(self, first: AudioInput | None) -> int:
        """Answer the first message and what is entered, until the end of input."""
        if self._is_interactive:
            name_remedies(IN_CHAT)
            self._greet()
        if first is not None:
            self._attempt(self._answer, first)
        while (entered := self._entered()) is not None:
            self._attempt(self._enter, entered)
        return 0

    def _greet(self) -> None:
        conversation = self._conversation
        turns = conversation.turns
        title = f" ({conversation.title})" if conversation.title else ""
        about = f"session {conversation.id}, {counted(len(turns), 'turn')}{title}"
        if len(turns) > _SHOWN_AGAIN:
            about += f", the last {_SHOWN_AGAIN} of them here"
        write_text(f"{about}; /help lists the commands", "dim", before="")
        for turn in turns[-_SHOWN_AGAIN:]:
            write_text(turn.text or "(sound)", "dim", before=f"{turn.role}: ", before_colour="dim")
        if conversation.unanswered:
            note("the last message has no answer: /retry asks for one")
        elif turns and getattr(turns[-1], "interrupted", False):
            note("the last answer was cut off: /retry asks again")

    def _entered(self) -> Entered | None:
        """Return what is entered; None at the end of input, or after Ctrl-C twice in a row."""
        for is_second in (False, True):
            try:
                entered = self._prompt.read()
            except KeyboardInterrupt:
                if not self._is_interactive:
                    raise
                write_line()
                if not is_second:
                    note("Ctrl-C again, Ctrl-D or /quit ends the chat")
                continue
            if entered is None and self._is_interactive:
                write_line()
            is_over = entered and entered.is_typed and entered.text.lower() == "/quit"
            return None if is_over else entered
        return None

    def _attempt(self, action: Callable[[_T], None], argument: _T) -> None:
        try:
            action(argument)
        except KeyboardInterrupt:
            if not self._is_interactive:
                raise
            note("interrupted")
        except Exception as error:
            if not self._is_interactive:
                raise
            report(one_line(error))

    def _enter(self, entered: Entered) -> None:
        text = entered.text
        found = re.fullmatch(r"(/[a-zA-Z]+)(?:[ \t]+(.*))?", text) if entered.is_typed else None
        if found:
            self._obey(found[1].lower(), (found[2] or "").strip())
        elif text:
            self._answer(text[entered.is_typed and text.startswith("//") :])
        elif self._is_interactive and self._conversation.unanswered:
            self._answer()

    def _obey(self, command: str, argument: str) -> None:
        if command not in _COMMANDS:
            near = difflib.get_close_matches(command, _COMMANDS, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise InvalidSetting(f"{command} is no command; {hint}/help lists the commands")
        if argument and not _COMMANDS[command][0]:
            msg = (
                f"{command} takes nothing behind it; for a message that begins so, write "
                f"/{command} …"
            )
            raise InvalidSetting(msg)
        getattr(self, f"_{command[1:]}")(*filter(None, [argument]))

    def _undo(self) -> None:
        undone = self._conversation.undo()
        said = [_beginning(turn) or "(sound)" for turn in undone if isinstance(turn, UserTurn)]
        about = " · ".join([f"removed {counted(len(undone), 'turn')}", *said[:1]])
        write_text(about if undone else "there is nothing to remove", before="")

    def _audio(self, name: str = "") -> None:
        self._answer(sound_from(_path(name)))

    def _title(self, text: str = "") -> None:
        if text:
            self._conversation.set_title(text)
        self._conversation.refresh()  # others may talk here, too
        title = self._conversation.title or "it has no title. /title TEXT gives it one."
        write_text(title, before="", indent="")

    def _why(self) -> None:
        self._conversation.refresh()
        numbers = {id(turn): number for number, turn in enumerate(self._conversation.turns, 1)}
        items = self._conversation.render().items
        if not items:
            write_text("nothing yet", before="")
        for item in items:
            number = f"{numbers[id(item.turn)]} " if id(item.turn) in numbers else ""
            words = _beginning(item.turn) if item.turn else ""
            write_text(" · ".join(filter(None, (item.why, words))), before=f"{number}{item.role}: ")

    def _help(self) -> None:
        for name, (takes, about) in _COMMANDS.items():
            write_text(about, before=f"{f'{name} {takes}':18} ", indent=" " * 19)
        write_text(_MORE_HELP, before="", indent="")

    # --- answers ---------------------------------------------------------------------------------

    def _retry(self) -> None:
        if not any(isinstance(turn, UserTurn) for turn in self._conversation.turns):
            raise InvalidSetting("there is nothing to ask again; write a message first")
        self._answer(again=True)

    def _record(self, argument: str = "") -> None:
        try:
            longest = float(argument or _LONGEST_RECORDING)
        except ValueError:
            longest = 0.0
        if not 0 < longest <= _LONGEST_RECORDING:
            msg = f"/record takes seconds, at most {_LONGEST_RECORDING:g}, got {argument}"
            raise InvalidSetting(msg)
        if not argument and not self._is_interactive:
            longest = _RECORDED_IN_PIPES

        def is_over(seconds: float) -> bool:
            if self._is_interactive:
                if seconds == round(seconds):
                    show_progress(f"recording, {seconds:.0f} s; Enter sends it")
                if is_ready():
                    os.read(sys.stdin.fileno(), 4096)
                    return True
            return seconds >= longest

        try:
            sound = recorded(is_over)
        finally:
            show_progress("")
        write_line((f"recorded {sound.duration or 0:.1f} s", "dim"))
        self._answer(sound)

    def _answer(self, *content: str | AudioInput, again: bool = False) -> None:
        """Stream the answer to the content, or without any to the last turn, or another one."""
        conversation = self._conversation
        if content and self._session.repeats(content):
            content = ()
        before = conversation.turns[-1:]
        shown = ("assistant> ", "blue", "    ") if self._is_interactive else ("", "blue", "    ")
        another = self._session.another_answer() if again else contextlib.nullcontext()
        try:
            with self._session.exchange(), self._prompt.away(), another, answering(*shown) as text:
                self._show(text, *content)
        except KeyboardInterrupt as interruption:
            if not self._is_interactive:
                raise
            note(one_line(interruption))
        except Exception as error:
            if not content and conversation.unanswered:
                error.add_note("/retry asks again")
            raise
        last = conversation.turns[-1:]
        if last != before and self._is_interactive and isinstance(last[0], AssistantTurn):
            self._show_sound_file(last[0])
            for remark in remarks(last[0]):
                note(remark)

    def _show(self, text: Text, *content: str | AudioInput) -> None:
        with contextlib.ExitStack() as playing:
            speaker, its_rate = playing.enter_context(self._speaker(PCM_RATE)), PCM_RATE
            for event in playing.enter_context(self._conversation.stream(*content)):
                match event:
                    case TranscriptDelta(piece) | TextDelta(piece):
                        text.write(piece)
                    case AudioDelta(data, rate) if speaker:
                        if rate != its_rate:
                            speaker = playing.enter_context(self._speaker(rate))
                            its_rate = rate
                        speaker.write(data)

    def _show_sound_file(self, turn: AssistantTurn) -> None:
        audio = turn.audio
        if audio and isinstance(audio.data, StoredFile):
            path = audio.data.path
            place = path.name if path.parent == self._shown_folder else path
            self._shown_folder = path.parent
            write_line((f"    {audio.duration or 0:.1f} s  {place}", "dim"))


def _beginning(turn: Turn) -> str:
    """Return the words by which a turn is recognised; empty if it has none."""
    words = " ".join(turn.text.split())
    return f"{words[:_SHOWN_WORDS]}{'…' * (len(words) > _SHOWN_WORDS)}"


def _path(argument: str) -> Path:
    """Return a file's path; terminals quote the names of dropped files as for a shell."""
    if not argument:
        raise InvalidSetting("name a sound file: /audio FILE")
    path = Path(argument).expanduser()
    if not path.exists():
        with contextlib.suppress(ValueError):  # an odd quote
            if len(words := shlex.split(argument)) == 1:
                return Path(words[0])
    return path
