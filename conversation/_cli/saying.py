"""`conversation say`: one exchange, for scripts."""

from __future__ import annotations

import argparse
import io
import shlex
import sys
from pathlib import Path
from typing import get_args

from conversation._cli.places import AnyStore
from conversation._cli.session import OpenSession, opened_session, remarks
from conversation._cli.showing import shown_entry
from conversation._cli.sound import sound_from
from conversation._cli.terminal import name_remedies, note, report, write_json, write_text
from conversation._cli.wording import Remedies
from conversation._values.parts import AudioInput
from conversation._values.sound import AudioFormat
from conversation._values.turns import AssistantAudio, AssistantTurn, Turn
from conversation.errors import InvalidSetting, SaveFailed, SessionChanged

_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
_OTHER_NAMES = {"ogg": "opus", "oga": "opus", "pcm": "pcm16"}
_NO_ANSWERS = ("3gp", "aif", "aiff", "amr", "au", "caf", "m4a", "mka", "mp4", "weba", "webm", "wma")


def say(options: argparse.Namespace, store: AnyStore) -> int:
    """Print the answer; exit status 1 if there is none, or no sound that was to be saved."""
    name_remedies(Remedies(retry=f"`conversation say {shlex.quote(options.id)} --retry`"))
    content = _content(options)
    save = None if options.save is None else _writable(Path(options.save))
    form = None if save is None else _format_by(save)
    with opened_session(options, store, create=not options.retry) as session:
        if options.retry and save is not None:
            _refuse_other_format(session.conversation.turns[-1:], save, form)
        try:
            with session.exchange(form):
                answer = _answer(session, content)
        except (SaveFailed, SessionChanged) as error:
            if isinstance(error.turn, AssistantTurn):  # it is paid for
                write_text(error.turn.text, before="", indent="")
            raise
        if options.json:
            exported = session.conversation._exported()
            number = 1 + [turn is answer for turn in exported.turns].index(True)
            write_json(shown_entry(number, answer, exported))
        else:
            write_text(answer.text, before="", indent="")
            for remark in remarks(answer):
                note(remark)
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
        taken = "the text is empty"
        if not options.text:
            taken = f"{options.id!r} was taken for the session"
        msg = f"nothing to say: {taken}; give a text, - for standard input, or --audio FILE"
        raise InvalidSetting(msg)
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


def _format_by(path: Path) -> AudioFormat | None:
    """Return the format that a file's name asks for; None if it asks for none.

    Raises:
        InvalidSetting: if it is one in which no model answers.
    """
    ending = path.suffix[1:].lower()
    ending = _OTHER_NAMES.get(ending, ending)
    if ending in _NO_ANSWERS:
        msg = f"--save: answers do not come as .{ending}; name the file .{', .'.join(_FORMATS)}"
        raise InvalidSetting(msg)
    return next((form for form in _FORMATS if form == ending), None)


def _refuse_other_format(last: tuple[Turn, ...], path: Path, form: AudioFormat | None) -> None:
    """Refuse a name that contradicts the sound of an answer that is there already."""
    match last:
        case [AssistantTurn(audio=AssistantAudio(format=found), interrupted=False)] if form not in (
            None,
            found,
        ) and (form, found) != ("wav", "pcm16"):
            msg = f"--save: the answer is there already, as {found}: name the file .{found}"
            raise InvalidSetting(f"{msg}, got {path}")


def _answer(session: OpenSession, content: list[str | AudioInput]) -> AssistantTurn:
    conversation = session.conversation
    if content and not session.repeats(content):
        return conversation.say(*content)
    match conversation.turns[-1:]:
        case [AssistantTurn(interrupted=True)]:
            with session.another_answer():
                session.conversation.reply()
            return next(t for t in reversed(conversation.turns) if isinstance(t, AssistantTurn))
    return conversation.reply()


def _save(answer: AssistantTurn, path: Path) -> int:
    if answer.audio is None or answer.audio.data is None:
        report(f"the answer came in writing, without sound: {path} was not written")
        return 1
    try:
        answer.audio.save(path)
    except OSError as error:
        msg = f"{path} could not be written ({error.strerror}); --retry --save FILE repeats it"
        raise OSError(msg) from error
    named, form = _format_by(path), answer.audio.format  # servers may make what they like
    if named not in (None, form) and (named, form) != ("wav", "pcm16"):
        report(f"{path} holds {form}, whatever its name says")
    return 0
