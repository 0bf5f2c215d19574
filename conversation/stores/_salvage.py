"""Repair of a damaged session: its readable turns in a new document; the damaged one is kept."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from conversation._values.turns import Turn
from conversation._wire.strict_json import json_text
from conversation._wire.writing import line_from_turn
from conversation.errors import SessionCorrupt, another_session, corrupt
from conversation.stores import Salvage
from conversation.stores._disk import Disk, read_regular
from conversation.stores._document import Document
from conversation.stores._format import TURNS, entry_in, parse, parse_header

_TOKEN = re.compile(
    rb'[\s,:]*+(?:([{\[])|([}\]])|(?:"(?:[^"\\\n]|\\.)*+"|[-+.\w]++)(?=\s*+(?:[,:}\]]|$)))'
)
"""A bracket that opens, one that closes, or a string, number or name with its end."""

_DEPTH = 1000
"""Nesting that no reader accepts."""

_TRIES = 8
"""Number of times that bytes are read at most, as parts of objects inside each other."""

_TORN = re.compile(r"(.+)\.torn-[0-9a-f]{8}", re.DOTALL)

_RUBBLE = b" \t\r\n,[]}\0"

_BEGIN = re.compile(rb'\{\s*+"conversation"')
"""The beginning of a document, as all layouts of ours have it."""


def salvage(
    path: Path,
    session_id: str,
    read_turn: Callable[[Any], Turn | None],
    disk: Disk,
    check_lock: Callable[[], None],
) -> Salvage:
    """Put the readable turns of a document in its place, and the document itself beside it.

    Turns in bytes that an earlier recovery put aside come last, unless the session went on since.
    Nothing is done where the document is whole and nothing was put aside. The caller holds the
    session's lock.

    Args:
        path: The damaged document.
        session_id: Its session, for a header that cannot be read.
        read_turn: Returns the turn in a JSON object; None if it is no turn.
        disk: The system calls to write with.
        check_lock: Raises an error if the lock is not held any more.

    Raises:
        SessionCorrupt: if it is another session's, or nothing in it can be read.
        SessionTooNew: if a later version wrote it.
        OSError: if it cannot be read, or the disk refuses; the document is unchanged.
    """
    data = read_regular(path)
    if data is None:
        raise FileNotFoundError(f"there is no {path}")
    torn = torn_files(path.parent).get(path.name, [])
    header, begin, start = _header(data, path)
    if isinstance(said := header.get("id"), str) and said != session_id:
        raise another_session(path, said, session_id)
    wrong = [key for key in ("settings", "metadata") if not isinstance(header.get(key, {}), dict)]
    # A summary counts turns, of which some may be lost.
    header = {key: value for key, value in header.items() if key not in (*wrong, "summary")}
    lines: list[bytes] = []
    lost: list[bytes] = []
    latest = datetime.min.replace(tzinfo=UTC)
    if not torn and not wrong and header.get("id") == session_id:
        with contextlib.suppress(SessionCorrupt):
            found = parse(data, path)
            if found.torn is None and all(map(read_turn, found.entries)):
                return Salvage(len(found.entries), (), header_lost=False, original=path)
    for piece, turn in chain(_turns(data[:begin], read_turn), _turns(data[start:], read_turn)):
        (lost if turn is None else lines).append(piece)
        latest = max(latest, (turn and turn.at) or latest)
    for piece, turn in (
        found for each in torn for found in _turns(read_regular(each) or b"", read_turn)
    ):
        if piece not in lines:
            fits = turn is not None and turn.at is not None and turn.at >= latest
            (lines if fits else lost).append(piece)
    if not header and not lines:
        reason = "neither a header nor a turn of a saved conversation can be read in it"
        raise corrupt(path, f"{reason}; it was left as it is: move it away, or delete it")
    original = path.with_suffix(f".damaged-{os.urandom(4).hex()}")
    temporary = path.with_name(f".{path.name}.tmp")
    os.close(disk.write_new(original, (data,), temporary=temporary))
    disk.sync_folder(path.parent)
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    begun: dict[str, Any] = {"created_at": now, "title": None, "settings": {}, "metadata": {}}
    document = Document(path, disk)
    check_lock()
    document.replace({"id": session_id} | begun | header | {"id": session_id}, lines)
    for each in torn:
        disk.replace(each, each.with_suffix(each.suffix.replace("torn", "damaged")))
    return Salvage(len(lines), tuple(lost), bool(wrong) or not header, original)


def torn_files(folder: Path) -> dict[str, list[Path]]:
    """Return the files with bytes that recoveries put aside, oldest first, by document's name."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in folder.iterdir():
        if name := _TORN.fullmatch(path.name):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.setdefault(f"{name[1]}.json", []).append((status.st_mtime_ns, path))
    return {name: [path for _, path in sorted(files)] for name, files in found.items()}


def _header(data: bytes, path: Path) -> tuple[dict[str, Any], int, int]:
    """Return the readable part of the header, its offset, and the offset of the turns."""
    first = max(data.find(b"{"), 0)
    begins = [found.start() for found in islice(_BEGIN.finditer(data), _TRIES)]
    for begin in dict.fromkeys((first, *begins)):
        end = begin
        for _ in range(_TRIES):
            end = data.find(TURNS, end) + len(TURNS)
            if end < len(TURNS):
                break
            with contextlib.suppress(SessionCorrupt):
                return parse_header(data[begin:end], path), begin, end
        with contextlib.suppress(SessionCorrupt):
            return parse(data[begin:], path).header, begin, begin  # whole, in another layout
        at = data.find(b'"turns"', begin)
        with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError, SessionCorrupt):
            # Another layout: the header is whatever stands before the turns.
            before = orjson.loads(data[begin:at].rstrip(b" \n\r\t,") + b"}")
            before.pop("turns_at_least", None)
            return parse(orjson.dumps({**before, "turns": []}), path).header, begin, at
    return {}, 0, 0


def _turns(
    data: bytes, read_turn: Callable[[Any], Turn | None]
) -> Iterator[tuple[bytes, Turn | None]]:
    """Yield the turns in the bytes, and the pieces between them: first all that are whole lines."""
    at = between = 0
    for line in data.split(b"\n"):
        found = entry_in(line)
        turn = found and read_turn(found[1])
        if found and turn:
            yield from _turns_between(data[between:at], read_turn)
            yield found[0], turn
            between = at + len(line)
        at += len(line) + 1
    yield from _turns_between(data[between:], read_turn)


def _turns_between(
    data: bytes, read_turn: Callable[[Any], Turn | None]
) -> Iterator[tuple[bytes, Turn | None]]:
    """Yield the turns in bytes that are no lines, and the pieces between them; in linear time."""
    between = inside = 0
    unread: list[int] = []

    for begin, end in sorted(_objects(data)):
        while unread and unread[-1] <= begin:
            unread.pop()
        if begin < inside or len(unread) == _TRIES:
            continue
        piece = data[begin:end]
        try:
            value = orjson.loads(piece)
        except orjson.JSONDecodeError:
            unread.append(end)  # perhaps an object inside can be read
            continue
        inside = end
        # Without a role it may be a document in another layout.
        entries = [value] if "role" in value else value.get("turns")
        if isinstance(entries, list):
            if rubble := data[between:begin].strip(_RUBBLE):
                yield rubble, None
            between = end
            for entry in entries:
                turn = read_turn(entry)
                is_line = entry is value and b"\n" not in piece
                yield piece if is_line else _line(entry, turn), turn
    if rubble := data[between:].strip(_RUBBLE):
        yield rubble, None


def _line(entry: Any, turn: Turn | None) -> bytes:
    try:
        return orjson.dumps(entry)
    except orjson.JSONEncodeError:  # nested too deep
        return line_from_turn(turn) if turn else json_text(entry).encode()


def _objects(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield begin and end of all that may be an object, because its brackets match."""
    opened: list[int] = []
    at = data.find(b"{")
    while at >= 0:
        token = _TOKEN.match(data, at)
        if token is None:
            opened.clear()  # no JSON: what is open never ends
        else:
            at = token.end()
            if token[1] and len(opened) < _DEPTH:
                opened.append(at - 1)
            elif token[2] and opened and data[opened[-1]] + 2 == data[at - 1]:  # as in ASCII
                begin = opened.pop()
                if token[2] == b"}":
                    yield begin, at
            elif token[1] or token[2]:
                opened.clear()
        if not opened:
            at = data.find(b"{", at)
