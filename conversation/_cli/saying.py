"""`conversation say`: one exchange, for scripts."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from pathlib import Path

from conversation._cli.places import AnyStore
from conversation._cli.showing import shown_entry
from conversation._cli.sound import sound_from
from conversation._cli.talk import talking
from conversation._cli.terminal import report, write_json, write_text
from conversation._cli.wording import Remedies
from conversation._conversation import Conversation
from conversation._values.parts import AudioInput
from conversation._values.sound import FORMATS
from conversation._values.turns import AssistantTurn
from conversation.errors import InvalidSetting


def say(options: argparse.Namespace, store: AnyStore) -> int:
    """Print the answer; exit status 1 if there is none, or no sound that was to be saved."""
    options.remedies = Remedies(retry=f"`conversation say {shlex.quote(options.id)} --retry`")
    content = _content(options)
    save = None if options.save is None else _writable(Path(options.save))
    with talking(options, store) as talk:
        with talk.exchange():
            answer = _answer(talk.conversation, content)
        if options.json:
            write_json(shown_entry(answer, talk.conversation._exported()))
        else:
            write_text(answer.text, before="", indent="")
        return 0 if save is None else _save(answer, save)


def _content(options: argparse.Namespace) -> list[str | AudioInput]:
    """Return what is said; nothing for another try."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    text = sys.stdin.read() if options.text == ["-"] else " ".join(options.text)
    content: list[str | AudioInput] = [text.strip()] if text.strip() else []
    if options.retry:
        if content or options.audio:
            raise InvalidSetting("--retry says nothing new: leave out the text and --audio")
        return []
    if options.audio:
        content.append(sound_from(options.audio))
    if not content:
        raise InvalidSetting("nothing to say: give a text, - for standard input, or --audio FILE")
    return content


def _writable(path: Path) -> Path:
    """Refuse a file that cannot be written, before an answer is paid for.

    Raises:
        InvalidSetting: if it is a folder, or lies in none.
    """
    if path.is_dir():
        raise InvalidSetting(f"--save needs the name of a file, and {path} is a folder")
    if not path.parent.is_dir():
        raise InvalidSetting(f"--save: there is no folder {path.parent}")
    return path


def _answer(conversation: Conversation, content: list[str | AudioInput]) -> AssistantTurn:
    if content:
        return conversation.say(*content)
    match conversation.turns[-1:]:
        case [AssistantTurn(interrupted=True)]:
            conversation.undo(answer_only=True)
    return conversation.reply()


def _save(answer: AssistantTurn, path: Path) -> int:
    if answer.audio is None or answer.audio.data is None:
        report(f"the answer came in writing, without sound: {path} was not written")
        return 1
    answer.audio.save(path)
    ending, form = path.suffix[1:].lower(), answer.audio.format
    if ending in FORMATS and ending != form and (ending, form) != ("wav", "pcm16"):
        report(f"{path} holds {form}, whatever its name says")
    return 0
