"""Repair of a damaged session: its readable turns in a new document; the damaged one is kept."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from conversation.errors import SessionError
from conversation.stores import Salvage
from conversation.stores._disk import Disk, open_regular, read_all
from conversation.stores._document import Document
from conversation.stores._format import TURNS, parse_header


def salvage(path: Path, session_id: str, is_turn: Callable[[Any], bool], disk: Disk) -> Salvage:
    """Put the readable turns of a document in its place, and the document itself beside it.

    The caller holds the session's lock.

    Args:
        path: The damaged document.
        session_id: Its session, for a header that cannot be read.
        is_turn: Returns True if a JSON object is a turn.
        disk: The system calls to write with.

    Raises:
        OSError: if it cannot be read, or the disk refuses; the document is unchanged.
    """
    descriptor = open_regular(path)
    if descriptor is None:
        raise FileNotFoundError(f"there is no {path}")
    try:
        data = read_all(descriptor)
    finally:
        os.close(descriptor)
    header, start = _header(data, path)
    lines: list[bytes] = []
    lost: list[bytes] = []
    for piece, value in _pieces(data[start:]):
        if value is not None and is_turn(value):
            lines.append(orjson.dumps(value) if b"\n" in piece else piece)
        else:
            lost.append(piece)
    original = path.with_suffix(f".damaged-{os.urandom(4).hex()}")
    temporary = path.with_name(f".{path.name}.tmp")
    os.close(disk.write_new(original, (data,), temporary=temporary))
    disk.sync_folder(path.parent)
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    begun: dict[str, Any] = {"created_at": now, "title": None, "settings": {}, "metadata": {}}
    document = Document(path, disk)
    document.replace({"id": session_id} | begun | header | {"id": session_id}, lines)
    return Salvage(len(lines), tuple(lost), not header, original)


def _header(data: bytes, path: Path) -> tuple[dict[str, Any], int]:
    """Return the readable part of the header, and the offset of the turns."""
    end = data.find(TURNS)
    while end >= 0:
        end += len(TURNS)
        with contextlib.suppress(SessionError):
            return parse_header(data[:end], path), end
        end = data.find(TURNS, end)
    with contextlib.suppress(ValueError, AttributeError):
        # Another layout: the header is whatever stands before the turns.
        at = data.index(b'"turns"')
        return dict(orjson.loads(data[:at].rstrip(b" \n\r\t,") + b"}")), at
    return {}, 0


def _pieces(data: bytes) -> Iterator[tuple[bytes, dict[str, Any] | None]]:
    """Yield the objects in the bytes, and the pieces between them."""
    text = data.decode("utf-8", "surrogateescape")
    decoder = json.JSONDecoder(strict=False)
    at = between = 0
    while (begin := text.find("{", at)) >= 0:
        try:
            value, end = decoder.raw_decode(text, begin)
            piece = text[begin:end].encode("utf-8", "surrogateescape")
            orjson.loads(piece)
        except (ValueError, RecursionError):
            at = begin + 1
            continue
        if isinstance(value, dict) and "role" in value:
            if rubble := text[between:begin].strip(" \t\r\n,[]}\0"):
                yield rubble.encode("utf-8", "surrogateescape"), None
            yield piece, value
            between = end
        at = end
    if rubble := text[between:].strip(" \t\r\n,[]}\0"):
        yield rubble.encode("utf-8", "surrogateescape"), None
