"""`conversation import`: sessions of exported files, API messages and other programs' histories."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from conversation._cli.places import AnyStore
from conversation._cli.terminal import one_line, progress, report, show_progress, write_line
from conversation._client import run
from conversation._conversation import Conversation
from conversation._rendering.window import Context
from conversation._values.conversion import can_convert
from conversation._values.sound import name_of
from conversation._values.text import counted
from conversation._wire.foreign.conversations import Found, conversations, is_own
from conversation._wire.foreign.messages import TOO_DEEP
from conversation._wire.importing import Skipped, none_imported, turns_from_messages
from conversation._wire.strict_json import read_json
from conversation.errors import InvalidSetting, InvalidTurn, SessionCorrupt, SessionError

_ENDINGS = (".jsonl", ".json", ".messages")


def import_file(options: argparse.Namespace, store: AnyStore) -> int:
    """Make a session of each conversation in a file; exit status 1 if not all of it was read."""
    is_piped = options.file == "-"
    path = Path("standard input" if is_piped else options.file)
    document = _document(path, sys.stdin.buffer.read() if is_piped else path.read_bytes())
    name = None if is_piped else _name(path)
    try:
        found = conversations(document, options.key)
        if len(found) == 1:
            chat, status = _conversation(found[0], path, "")
            _save(chat, options.id or _id(found[0]) or _given(name), store)
            return status
    except InvalidTurn as error:
        raise SessionCorrupt(f"{path}: {error}", path=path, reason=str(error)) from error
    status = 0
    for session_id, each in progress("importing", list(_named(found, options.id, name))):
        try:
            chat, unread = _conversation(each, path, f" of {session_id!r}")
            status |= unread
            _save(chat, session_id, store)
        except (InvalidTurn, SessionError) as error:
            show_progress("")
            report(f"{session_id}: {one_line(error)}")
            status = 1  # and goes on with the others
    return status


def _document(path: Path, data: bytes) -> Any:
    """Return the JSON value in a file, or a list of those in its lines."""
    if data.startswith(b"PK\3\4"):
        msg = f"{path} is an archive; unpack it, and import the JSON in it"
        raise SessionCorrupt(msg, path=path, reason="it is an archive")
    raw, encoding = data, json.detect_encoding(data)
    if not encoding.startswith("utf-8"):
        data = data.decode(encoding, "replace").encode()
    try:
        return read_json(data)
    except orjson.JSONDecodeError as error:
        why, at, values = error.msg, error.lineno, []
        for number, line in enumerate(data.split(b"\n"), 1):
            try:
                values += [read_json(line)] if line.strip() else []
            except orjson.JSONDecodeError as fault:
                if "depth" in fault.msg:
                    values.append(TOO_DEEP)
                    continue
                if values:  # by lines, of which this one is broken
                    why, at = fault.msg, number
                break
        else:
            if any(value is not TOO_DEEP for value in values):
                return values
        what = _kind(path, raw)
        if what is None:
            what = "is nested too deep to be read" if "depth" in why else "is not JSON"
            what += f" ({why}, line {at})"
        msg = f"{path} {what}"
        raise SessionCorrupt(msg, path=path, line=at, reason=why) from error


def _kind(path: Path, data: bytes) -> str | None:
    """Return what a file is that is no JSON, and what to do with it; None if that is unknown."""
    if not data.strip():
        return "is empty"
    name = name_of(data)
    if name == "gzip":
        return "is compressed (gzip); unpack it, and import the JSON in it"
    if can_convert(name):
        return f"is sound ({name}), not JSON; `conversation say ID --audio FILE` says it"
    if data.lstrip()[:1] == b"<" or path.suffix.lower() in (".md", ".markdown", ".html", ".htm"):
        return "is a page, not JSON, and cannot be imported; export the session as .json"
    if name:
        return f"is {name}, not JSON, and cannot be imported"
    return "is not JSON, but no text at all" if b"\0" in data[:4096] else None


def _conversation(found: Found, path: Path, of: str) -> tuple[Conversation, int]:
    """Return a conversation, and the exit status: 1 if messages could not be read."""
    if is_own(own := found.messages[0] if found.messages else None):
        given: Any = {"client": None, "clock": time.time, "context": Context(), "settings": {}}
        return Conversation._loaded(path, **given, data=orjson.dumps(own)), 0
    skipped = Skipped(of)
    turns = turns_from_messages(found.messages, skipped)
    if not turns:
        raise InvalidTurn(none_imported(len(found.messages)))
    chat = Conversation._imported(turns)
    chat.set_title(found.title)
    return chat, 1 if skipped.unread else 0


def _save(chat: Conversation, session_id: str, store: AnyStore) -> None:
    with run(chat._moving(store, session_id)) as moved:
        write_line(f"imported session {moved.id!r}, {counted(len(moved.turns), 'turn')}")


def _named(found: list[Found], prefix: str | None, name: str | None) -> Iterator[tuple[str, Found]]:
    """Yield the conversations with different ids: their own, their titles, or with numbers."""
    taken: set[str] = set()
    for number, each in enumerate(found, 1):
        session_id = f"{prefix}-{number}" if prefix else _id(each) or f"{_given(name)}-{number}"
        if session_id in taken:
            session_id = f"{session_id}-{number}"
        taken.add(session_id)
        yield session_id, each


def _id(found: Found) -> str | None:
    """Return the id or title that a conversation has, as the id of a session."""
    label = " ".join((found.id or found.title or "").split())
    return "".join(filter(str.isprintable, label))[:100] or None


def _given(name: str | None) -> str:
    if name is None:
        raise InvalidSetting("what comes from standard input has no name: pass --id ID")
    return name


def _name(path: Path) -> str:
    name = path.name
    for ending in _ENDINGS:
        name = name.removesuffix(ending)
    return name
