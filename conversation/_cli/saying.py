"""`conversation say`: one exchange, for scripts."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from functools import partial
from pathlib import Path

from conversation._cli.chat import _Chat, _client, _ended_by_signals, _silent
from conversation._cli.commands import shown_entry
from conversation._cli.places import AnyStore
from conversation._cli.sound import sound_from
from conversation._cli.terminal import report, write_json, write_text
from conversation._cli.wording import Ways
from conversation._conversation import Conversation
from conversation._values.parts import AudioInput
from conversation._values.sound import FORMATS
from conversation._values.turns import AssistantTurn
from conversation.errors import InvalidSetting


def say(options: argparse.Namespace, store: AnyStore) -> int:
    """Print the answer; exit status 1 if there is none, or no sound that was to be saved."""
    options.ways = Ways(retry=f"`conversation say {shlex.quote(options.id)} --retry`")
    content = _content(options)
    save = None if options.save is None else _writable(Path(options.save))
    settings = {key: getattr(options, key) for key in ("model", "voice", "instructions")}
    given = {key: value for key, value in settings.items() if value is not None}
    with _client() as (client, is_real), _ended_by_signals():
        opened = partial(Conversation.open, options.id, store=store, client=client)
        talk = _Chat(opened, store, given, _silent, is_real=is_real)
        answer = _answer(talk, content)
        if options.json:
            write_json(shown_entry(answer, talk._conversation._exported()))
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


def _answer(talk: _Chat, content: list[str | AudioInput]) -> AssistantTurn:
    conversation, is_new = talk._conversation, not talk._is_saved
    try:
        if content:
            talk._mark()
            answer = conversation.say(*content)
        else:
            match conversation.turns[-1:]:
                case [AssistantTurn(interrupted=True)]:
                    conversation.undo(answer_only=True)
            answer = conversation.reply()
    except Exception:
        if is_new:
            talk._forget_if_empty()
        raise
    talk._keep_settings()
    return answer


def _save(answer: AssistantTurn, path: Path) -> int:
    if answer.audio is None or answer.audio.data is None:
        report(f"the answer came in writing, without sound: {path} was not written")
        return 1
    answer.audio.save(path)
    ending, form = path.suffix[1:].lower(), answer.audio.format
    if ending in FORMATS and ending != form and (ending, form) != ("wav", "pcm16"):
        report(f"{path} holds {form}, whatever its name says")
    return 0
