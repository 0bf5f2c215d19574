"""`conversation …`: saved sessions at hand.

Exit status: 0 if all is well, 1 if something is wrong, 2 if it was asked wrongly; 130 after Ctrl-C,
as shells have it.
"""

from __future__ import annotations

import argparse
import codecs
import logging
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from conversation._cli.terminal import (
    coloured,
    complain,
    escaped,
    one_line,
    plain,
    plain_line,
    progress,
    show_progress,
    table,
)
from conversation._client import run
from conversation._conversation import Conversation
from conversation._export.formats import ENDINGS, form_of
from conversation._export.outline import counts, notes, texts_of
from conversation._rendering.forms import Form
from conversation._rendering.window import Context
from conversation._wire.writing import line_from_turn, usage_entry
from conversation.errors import InvalidSetting, SessionCorrupt, SessionError
from conversation.stores.files import FileStore, file_name


def _print_json(value: Any) -> None:
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
    print(escaped(text))


def _begin_chat(options: argparse.Namespace, store: FileStore) -> int:
    from conversation._cli import chat

    settings = {key: getattr(options, key) for key in ("model", "voice", "instructions")}
    return chat.chat(
        store,
        options.id,
        {key: value for key, value in settings.items() if value is not None},
        audio=options.audio and Path(options.audio),
        plays=options.play,
    )


def _list(options: argparse.Namespace, store: FileStore) -> int:
    found = store.list()
    if options.json:
        keys = ("id", "title", "created_at", "updated_at", "size")
        _print_json([{key: getattr(info, key) for key in keys} for info in found])
        return 0
    if not found:
        complain(f"there are no sessions in {store.root}; `conversation chat` begins one")
        return 0
    rows = [
        (
            plain_line(info.id),
            f"{info.updated_at.astimezone():%Y-%m-%d %H:%M}",
            f"{(info.size + 1023) // 1024} KB",
            plain_line(info.title or ""),
        )
        for info in found
    ]
    for line in table(rows):
        print(line)
    return 0


def _show(options: argparse.Namespace, store: FileStore) -> int:
    chat = Conversation.open(options.id, store=store, read_only=True)
    exported = chat._exported()
    if options.json:
        header = {"id": chat.id, "title": chat.title, "metadata": chat.metadata}
        turns = []
        for turn in exported.turns:
            form, why = exported.reasons.get(id(turn), (None, None))
            now = {"form": form and form.value, "why": why}
            turns.append({**orjson.loads(line_from_turn(turn)), "sent": now})
        usage = usage_entry(exported.usage)
        settings = chat._history.header.get("settings")
        _print_json({**header, "settings": settings, "usage": usage, "turns": turns})
        return 0
    print(coloured(plain_line(exported.title), "bold"))
    print(coloured(plain_line(" · ".join(exported.about)), "dim"))
    if exported.instructions:
        print(f"\n{coloured('instructions', 'yellow')}\n  {plain(exported.instructions)}")
    for turn in exported.turns:
        form, why = exported.reasons.get(id(turn), (Form.PLAIN, ""))
        colour = "green" if turn.role == "user" else "blue"
        sent = "" if form is Form.PLAIN else f" → {why}"
        told = plain(" · ".join(notes(turn)) + sent)
        print(f"\n{coloured(turn.role, colour)} {coloured(told, 'dim')}".rstrip())
        for text in texts_of(turn):
            print("\n".join(f"  {line}" for line in plain(text).splitlines()))
        for call in getattr(turn, "tool_calls", ()):
            print(plain(f"  {call.name}({call.arguments})"))
    counted = ", ".join(f"{count:,} {name}" for name, count in counts(exported.usage))
    print(coloured(f"\ntokens: {counted or 'none'}", "dim"))
    return 0


# --- out and in -----------------------------------------------------------------------------------


def _export_sessions(options: argparse.Namespace, store: FileStore) -> int:
    ids = [info.id for info in store.list()] if options.all else options.id
    if not ids:
        msg = "name a session to export, or pass --all; `conversation list` shows them"
        raise InvalidSetting(msg)
    output = options.output
    folder = Path(output) if output and (len(ids) > 1 or Path(output).is_dir()) else None
    form = options.format or "html"
    if not options.format and output not in (None, "-") and not folder:
        form = form_of(Path(output), None)
    status = 0
    for session_id in progress("exporting", list(dict.fromkeys(ids))):
        try:
            _export_one(options, store, session_id, form, folder)
        except SessionError as error:
            if not options.all:
                raise
            show_progress("")
            complain(one_line(error))
            status = 1  # the others are exported
    return status


def _export_one(
    options: argparse.Namespace, store: FileStore, session_id: str, form: str, folder: Path | None
) -> None:
    if options.transcribe:
        with Conversation.open(session_id, store=store, create=False) as chat:
            chat.transcribe()
    chat = Conversation.open(session_id, store=store, read_only=True)
    if options.output == "-":
        sys.stdout.flush()
        for piece in chat._pieces(form):
            sys.stdout.buffer.write(piece)
        return
    path = Path(options.output or ".")
    if folder or not options.output:
        path = (folder or path) / f"{file_name(session_id)}{ENDINGS[form]}"
    if path.is_file() and not options.force:
        msg = f"{path} is there already; --force writes over it, -o PATH writes elsewhere"
        raise InvalidSetting(msg)
    inside = path.resolve()
    if inside.is_relative_to(store.root.resolve()) and (
        inside.suffix == ".json" or inside.parent.suffix == ".audio"
    ):
        msg = f"{path} is where sessions are saved; choose another place"
        raise InvalidSetting(msg)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    chat.export(path, form)
    show_progress("")
    if path.is_file():
        print(path)


def _import(options: argparse.Namespace, store: FileStore) -> int:
    path = Path(options.file)
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)  # which some editors write
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        msg = f"{path} is not JSON ({error.msg}, line {error.lineno})"
        if data.count(b"\n{"):
            msg = f"{msg}; if it holds several conversations, a line each, import one at a time"
        raise SessionCorrupt(msg, path=path, line=error.lineno, reason=error.msg) from error
    if isinstance(document, dict) and "messages" in document:
        document = document["messages"]  # a line for fine-tuning, or a request
    if isinstance(document, list):
        chat = Conversation.from_messages(document)
        if document and not chat.turns:
            msg = f"{path}: none of its {len(document)} messages can be kept"
            raise SessionCorrupt(msg, path=path, reason="no message can be kept")
    else:
        given: Any = {"client": None, "clock": time.time, "context": Context(), "settings": {}}
        chat = Conversation._loaded(path, **given, data=data)
    name = path.name.removesuffix(".json").removesuffix(".jsonl").removesuffix(".messages")
    session_id = options.id or chat.id or name
    with run(chat._moving(store, session_id)) as moved:
        print(f"session {moved.id!r} of {len(moved.turns)} turns")
    return 0


# --- looking after sessions -----------------------------------------------------------------------


def _delete(options: argparse.Namespace, store: FileStore) -> int:
    if not options.yes:
        if not sys.stdin.isatty():
            msg = "what is deleted is gone for good: pass --yes, or answer on a terminal"
            raise InvalidSetting(msg)
        question = f"delete {', '.join(map(repr, options.id))} and all sound for good? [y/N] "
        try:
            answer = input(plain(question))
        except EOFError:
            answer = ""
            print()
        if answer.strip().lower() not in ("y", "yes"):
            return 1
    for session_id in options.id:
        store.delete(session_id)
        print(f"deleted {plain(session_id)}")
    return 0


def _verify(options: argparse.Namespace, store: FileStore) -> int:
    from conversation._cli.verification import check, documents

    paths = [store.session(session_id).file for session_id in options.id]
    for session_id, path in zip(options.id, paths, strict=True):
        if not path.exists():
            raise store.session(session_id).not_found()
    logging.getLogger("conversation").setLevel(logging.CRITICAL)  # all is told once, below
    found = [check(store, path) for path in progress("verifying", paths or documents(store))]
    if options.json:
        keys = ("id", "turns", "files", "problems")
        rows = [{"path": str(c.path), **{k: getattr(c, k) for k in keys}} for c in found]
        _print_json(rows)
    else:
        for checked in found:
            for problem in checked.problems:
                told = plain_line(f"{checked.id or checked.path.name}: {problem}")
                print(f"{coloured('damaged', 'red')} {told}")
        turns, files = sum(c.turns for c in found), sum(c.files for c in found)
        damaged = sum(bool(c.problems) for c in found)
        print(f"{len(found)} sessions, {turns} turns, {files} files; {damaged} damaged")
    return 1 if any(checked.problems for checked in found) else 0


def _repair(options: argparse.Namespace, store: FileStore) -> int:
    salvage = store.repair(options.id)
    print(f"kept {salvage.kept} turns; the damaged file is {salvage.original}")
    if salvage.header_lost:
        print("title, settings and metadata could not be read")
    for piece in salvage.lost:
        print(f"lost: {plain(piece[:200].decode(errors='replace'))}")
    return 0
