"""The commands that show, delete, sweep and repair saved sessions.

Each takes the parsed arguments and the store, and returns the exit status.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta
from typing import Any

import orjson

from conversation._cli.listing import size_in, sound_of
from conversation._cli.places import AnyStore
from conversation._cli.terminal import (
    ask,
    one_line,
    plain_line,
    report,
    write_json,
    write_line,
    write_text,
)
from conversation._cli.verification import note_lost
from conversation._conversation import Conversation
from conversation._export.outline import Exported, counted, counts, text_of, time_and_notes
from conversation._rendering.forms import Form
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_turn, usage_entry
from conversation.errors import InvalidSetting, SessionError, SessionUnavailable, not_found
from conversation.stores._session import FileSession
from conversation.stores.files import FileStore

_UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def show(options: argparse.Namespace, store: AnyStore) -> int:
    """Print a session's turns, and how each would be sent now."""
    chat = Conversation.open(options.id, store=store, read_only=True)
    exported = chat._exported()
    if options.json:
        _show_json(chat, exported)
    else:
        _show_text(exported)
    return 0


def _show_json(chat: Conversation, exported: Exported) -> None:
    turns = [shown_entry(turn, exported) for turn in exported.turns]
    header = {"id": chat.id, "title": chat.title, "metadata": chat.metadata}
    settings = chat._history.header.get("settings")
    usage = usage_entry(exported.usage)
    write_json({**header, "settings": settings, "usage": usage, "turns": turns})


def shown_entry(turn: Turn, exported: Exported) -> dict[str, Any]:
    """Return a turn as it is saved, and how it would be sent now."""
    form, why = exported.reasons.get(id(turn), (None, None))
    sent = {"form": form and form.value, "why": why}
    return {**orjson.loads(line_from_turn(turn)), "sent": sent}


def _show_text(exported: Exported) -> None:
    write_text(plain_line(exported.title), "bold", before="")
    write_text(plain_line(" · ".join(exported.about)), "dim", before="")
    if exported.instructions:
        write_line()
        write_line(("instructions", "yellow"))
        write_text(exported.instructions)
    for number, turn in enumerate(exported.turns, 1):
        form, why = exported.reasons.get(id(turn), (Form.PLAIN, ""))
        colour = "green" if turn.role == "user" else "blue"
        sent = "" if form is Form.PLAIN else f" → {why}"
        about = plain_line(" · ".join(time_and_notes(turn)) + sent)
        write_line()
        role = f"{number} {turn.role}{' ' if about else ''}"
        write_text(about, "dim", before=role, before_colour=colour)
        if text := text_of(turn):
            write_text(text)
        for call in getattr(turn, "tool_calls", ()):
            write_text(f"{call.name}({call.arguments})")
    counted = ", ".join(f"{count:,} {name}" for name, count in counts(exported.usage))
    write_line()
    write_line((f"tokens: {counted or 'none'}", "dim"))


def delete(options: argparse.Namespace, store: AnyStore) -> int:
    """Delete sessions, after looking at all of them, and asking."""
    if not options.yes and not sys.stdin.isatty():
        raise InvalidSetting("cannot ask for confirmation without a terminal; pass --yes")
    ids = list(dict.fromkeys(options.id))
    found = [_about(store, session_id) for session_id in ids]
    if not options.yes:
        answer = ask(f"permanently delete {'; '.join(found)}? [y/N]")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    for session_id in ids:
        store.delete(session_id)
        write_line(f"deleted {session_id}")
    return 0


def _about(store: AnyStore, session_id: str) -> str:
    """Return what a session has to lose, read or damaged.

    Raises:
        SessionNotFound: if there is nothing to delete.
        SessionUnavailable: if the store cannot be reached.
    """
    session, sound = store.session(session_id), sound_of(store, session_id)
    try:
        state = session.read()
    except SessionUnavailable:
        raise
    except (SessionError, OSError) as error:
        report(one_line(error))
        turns = "damaged"
    else:
        if state is None and not (isinstance(session, FileSession) and session.exists()):
            raise not_found(session_id, store.place, session.file)
        turns = counted(len(state.entries), "turn") if state else "not a turn"
    if not sound:
        return f"{session_id!r} ({turns}, no sound)"
    files = f"{counted(len(sound), 'sound file')} of {size_in(sum(sound))}"
    return f"{session_id!r} ({turns}, {files})"


def sweep(options: argparse.Namespace, store: AnyStore) -> int:
    """Delete old sessions, or their sound; does not ask, as it is for timers."""
    older_than = _age(options.older_than)
    swept = store.sweep(older_than=older_than, sound_only=options.sound, dry_run=options.dry_run)
    what = "the sound of " if options.sound else ""
    for info in swept:
        write_line(f"{'would delete' if options.dry_run else 'deleted'} {what}{info.id}")
    if not swept:
        write_line(f"nothing to delete is older than {options.older_than}")
    return 0


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})\s*(min|h|d|w)", text.strip())
    if found is None:
        msg = f"--older-than must be a number with min, h, d or w, such as 90d, got {text!r}"
        raise InvalidSetting(msg)
    return int(found[1]) * _UNITS[found[2]]


def repair(options: argparse.Namespace, store: AnyStore) -> int:
    """Recover a damaged session."""
    if not isinstance(store, FileStore):
        msg = "repair is for sessions in files; for a database, restore a backup"
        raise InvalidSetting(msg)
    salvage = store.repair(options.id)
    if salvage.original == store.session(options.id).file:
        lost = note_lost(store, options.id)
        what = f"{counted(len(lost), 'lost file')} noted" if lost else "nothing was changed"
        write_line(f"all {counted(salvage.kept, 'turn')} can be read; {what}")
        for line in lost:
            write_line(plain_line(f"lost: {line}"))
        return 0
    write_line(f"kept {counted(salvage.kept, 'turn')}; the damaged file is {salvage.original}")
    if salvage.header_lost:
        write_line("title, settings and metadata could not be read")
    for piece in salvage.lost:
        write_line(f"lost: {piece[:200].decode(errors='replace')}")
    for line in note_lost(store, options.id):
        write_line(plain_line(f"lost: {line}"))
    return 0
