"""The commands that list, show, export, delete and repair saved sessions.

Each takes the parsed arguments and the store, and returns the exit status.
"""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta
from pathlib import Path

import orjson

from conversation._cli.places import AnyStore, listed
from conversation._cli.terminal import (
    ask,
    one_line,
    plain_line,
    progress,
    report,
    show_progress,
    write_json,
    write_line,
    write_text,
)
from conversation._cli.verification import note_lost
from conversation._conversation import Conversation
from conversation._export.formats import FORMATS, format_for
from conversation._export.outline import Exported, counts, text_of, time_and_notes
from conversation._rendering.forms import Form
from conversation._values.naming import Naming
from conversation._wire.failures import is_refused_sound
from conversation._wire.writing import line_from_turn, usage_entry
from conversation.errors import InvalidSetting, SessionError
from conversation.stores.files import FileStore, file_name

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
    turns = []
    for turn in exported.turns:
        form, why = exported.reasons.get(id(turn), (None, None))
        sent = {"form": form and form.value, "why": why}
        turns.append({**orjson.loads(line_from_turn(turn)), "sent": sent})
    header = {"id": chat.id, "title": chat.title, "metadata": chat.metadata}
    settings = chat._history.header.get("settings")
    usage = usage_entry(exported.usage)
    write_json({**header, "settings": settings, "usage": usage, "turns": turns})


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


def export(options: argparse.Namespace, store: AnyStore) -> int:
    """Write sessions in another format, each into its own file or all to stdout."""
    sessions, status = listed(store) if options.all else ((), 0)
    ids = [info.id for info in sessions] if options.all else options.id
    if not ids:
        msg = "name at least one session, or pass --all; `conversation list` shows them"
        raise InvalidSetting(msg)
    output = options.output
    folder = Path(output) if output and (len(ids) > 1 or Path(output).is_dir()) else None
    format_name = options.format or "html"
    if not options.format and output not in (None, "-") and not folder:
        format_name = format_for(Path(output), None, option="--format")
    for session_id in progress("exporting", list(dict.fromkeys(ids))):
        try:
            _export_one(options, store, session_id, format_name, folder)
        except SessionError as error:
            if not options.all:
                raise
            show_progress("")
            report(one_line(error))
            status = 1  # and goes on with the others
    return status


def _export_one(
    options: argparse.Namespace,
    store: AnyStore,
    session_id: str,
    format_name: str,
    folder: Path | None,
) -> None:
    if options.transcribe:
        _transcribe(store, session_id)
    chat = Conversation.open(session_id, store=store, read_only=True)
    path = Path(options.output or ".")
    if options.output == "-":
        sys.stdout.flush()
        with Naming(chat.id):
            sys.stdout.buffer.writelines(chat._pieces(format_name))
        return
    if folder or not options.output:
        path = (folder or path) / f"{file_name(session_id)}{FORMATS[format_name].ending}"
    if path.is_file() and not options.force:
        msg = f"{path} already exists; --force overwrites it, -o PATH writes elsewhere"
        raise InvalidSetting(msg)
    target = path.resolve()
    root = store.root.resolve() if isinstance(store, FileStore) else None
    if (
        root
        and target.is_relative_to(root)
        and (target.suffix == ".json" or target.parent.suffix == ".audio")
    ):
        msg = f"{path} would overwrite a saved session; choose another path"
        raise InvalidSetting(msg)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    chat.export(path, format_name)
    show_progress("")
    if path.is_file():
        write_line(str(path))


def _transcribe(store: AnyStore, session_id: str) -> None:
    """Find the words of user sound; sound that fails by itself is exported without them."""
    with Conversation.open(session_id, store=store, create=False) as chat:
        before: object = None
        while before != chat.turns:
            first, before = before is None, chat.turns
            try:
                chat.transcribe()
            except Exception as error:
                if not is_refused_sound(error) and (getattr(error, "status_code", 0) or 0) < 500:
                    raise
                show_progress("")
                if first:
                    report(plain_line(f"{session_id}: {one_line(error)}"))
                    before = ()  # behind two failures in a row, there may be others
            else:
                return


def delete(options: argparse.Namespace, store: AnyStore) -> int:
    """Delete sessions, after asking."""
    if not options.yes:
        if not sys.stdin.isatty():
            raise InvalidSetting("cannot ask for confirmation without a terminal; pass --yes")
        ids = ", ".join(map(repr, options.id))
        answer = ask(f"permanently delete {ids} and all audio? [y/N]")
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    for session_id in options.id:
        store.delete(session_id)
        write_line(f"deleted {session_id}")
    return 0


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
        what = f"{len(lost)} lost file(s) noted" if lost else "nothing was changed"
        write_line(f"all {salvage.kept} turns can be read; {what}")
        for line in lost:
            write_line(plain_line(f"lost: {line}"))
        return 0
    write_line(f"kept {salvage.kept} turns; the damaged file is {salvage.original}")
    if salvage.header_lost:
        write_line("title, settings and metadata could not be read")
    for piece in salvage.lost:
        write_line(f"lost: {piece[:200].decode(errors='replace')}")
    for line in note_lost(store, options.id):
        write_line(plain_line(f"lost: {line}"))
    return 0
