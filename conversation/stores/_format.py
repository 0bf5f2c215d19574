"""The bytes of a saved conversation: one JSON document, one turn a line.

::

    {"conversation":1,"turns_at_least":1         ,"revision":"9f3a1c22",…,"turns":[
    {"role":"user",…},
    {"role":"assistant",…}
    ]}

Kinds of turns are unknown here: an entry is the bytes of one JSON object.

`turns_at_least` is the number of turns that were durable before the last write. It stands at a
fixed place, so that an append can update it, and a document with fewer turns is damaged. `revision`
is random and new with each rewrite: file systems give the number of an old file to a new one.
"""

from __future__ import annotations

import contextlib
import os
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import orjson

from conversation.errors import SessionTooNew, corrupt

VERSION = 1
TURNS = b'"turns":['
END = b"\n]}\n"

_BEGIN = b'{"conversation":%d,"turns_at_least":' % VERSION
COUNT_AT = len(_BEGIN)
"""Offset of the number of turns. Its bytes lie in one sector: the disk has the old or the new."""

_REVISION = b',"revision":"%s"'
REVISION_SIZE = len(_REVISION % bytes(8))
"""Number of bytes of the revision, right behind the number of turns."""

PAGE = 4096
"""Bytes that a file system allocates at once: a write inside of them is all or nothing."""

_CLOSED = re.compile(rb'\n\]|,\]\}|\n\n\{|,\n[{}]\n|\n\{[}"]\n')
"""The closing bytes that an append overwrites, or some of them among the first of its own."""

_BEGUN = re.compile(rb",?(\n(\{[^\n]*)?)?")
"""The beginning of an appended entry, up to any byte before its end."""


@attrs.frozen
class Torn:
    """The end of a document whose last write was cut off.

    Attributes:
        line: The line (from 1) at which it stops being whole.
        lines: The entries before, as bytes.
        rest: The bytes from there on.
    """

    line: int
    lines: tuple[bytes, ...]
    rest: bytes = attrs.field(repr=False)


@attrs.frozen
class Snapshot:
    """The content of a document.

    Attributes:
        header: Its keys but `conversation`, `turns_at_least`, `revision` and `turns`.
        entries: The turns, as JSON values.
        torn: The fault at its end; None if it is whole.
        at_least: The number of turns that it says it has at least; None if it does not say.
    """

    header: dict[str, Any]
    entries: list[Any]
    torn: Torn | None = None
    at_least: int | None = None


def count(turns: int) -> bytes:
    """Return the bytes of `turns_at_least`: always as many."""
    return b"%-10d" % turns


def pieces(
    header: Mapping[str, Any], lines: Iterable[bytes], at_least: int | None = None
) -> Iterator[bytes]:
    """Yield the whole document, piece by piece. The header's keys stand before the turns."""
    begin = b'{"conversation":%d' % VERSION
    if at_least is not None:
        begin = _BEGIN + count(at_least) + _REVISION % os.urandom(4).hex().encode()
    yield begin + b"," + orjson.dumps({**header, "turns": []})[1:-2]
    between = b"\n"
    for line in lines:
        yield between + line
        between = b",\n"
    yield END


def dump(header: Mapping[str, Any], lines: Sequence[bytes]) -> bytes:
    """Return the whole document, with the number of its turns."""
    return b"".join(pieces(header, lines, len(lines)))


def revision_of(data: bytes) -> bytes:
    """Return the bytes of a document's revision; empty if it has none."""
    at = COUNT_AT + len(count(0))
    revision = data[at : at + REVISION_SIZE]
    return revision if revision.startswith(_REVISION.partition(b"%")[0]) else b""


def parse(data: bytes, path: Path | str) -> Snapshot:
    """Return the content of a document, whole or torn.

    Args:
        data: The document.
        path: Its file, for errors.

    Raises:
        SessionCorrupt: if it is no saved conversation, or a damaged one.
        SessionTooNew: if a later version wrote it.
    """
    data = data.removeprefix(BOM_UTF8)  # of an editor
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        snapshot = _parse_torn(data, path, error)
    else:
        snapshot = _checked(document, path)
    if not data.startswith(_BEGIN):
        # Elsewhere it is a label that another version copied, and not counted on.
        snapshot = attrs.evolve(snapshot, at_least=None)
    found = len(snapshot.entries)
    if found < (snapshot.at_least or 0):
        line = snapshot.torn.line if snapshot.torn else None
        raise corrupt(path, f"it has {found} whole turns, and had {snapshot.at_least}", line)
    return snapshot


def parse_header(line: bytes, path: Path | str) -> dict[str, Any]:
    """Return the header in a document's first line.

    Raises:
        SessionCorrupt, SessionTooNew: as `parse`.
    """
    return _beginning(line, path).header


def _beginning(line: bytes, path: Path | str) -> Snapshot:
    """Return the document as it would be without turns."""
    try:
        document = orjson.loads(line.removeprefix(BOM_UTF8).rstrip() + b"]}")
    except orjson.JSONDecodeError as error:
        raise corrupt(path, f"its header is not JSON ({error.msg})", 1) from error
    return _checked(document, path)


def id_in(data: bytes) -> str | None:
    """Return the id that a document's header names, in any format; None if it cannot be read."""
    data = data.removeprefix(BOM_UTF8)
    for text in (data.partition(b"\n")[0].rstrip() + b"]}", data):
        with contextlib.suppress(orjson.JSONDecodeError):
            found = orjson.loads(text)
            if isinstance(found, dict) and isinstance(found.get("id"), str):
                return str(found["id"])
    return None


def is_laid_out(data: bytes, snapshot: Snapshot) -> bool:
    """Return True if the document has one turn a line: line `i + 2` is entry `i`, and no more."""
    end, turns = data.find(b"\n"), len(snapshot.entries)
    first = data[:end]
    if not data.endswith(END) or not first.endswith(TURNS):
        return False
    at_least = snapshot.at_least
    if at_least is not None and not first.startswith(_BEGIN + count(at_least) + b","):
        return False
    # A raw line break stands between values, never in one.
    lines = data.count(b"\n", end, -len(END))
    between = data.count(b",\n{", end, -len(END))
    if lines != turns or between != max(turns - 1, 0):
        return False
    if turns and not data.startswith(b"{", end + 1):
        return False
    if not turns and len(data) != len(first) + len(END):
        return False
    with contextlib.suppress(orjson.JSONDecodeError):
        # Keys that stand behind the turns are missing here.
        header = orjson.loads(first + b"]}")
        ours = {"conversation", "turns", *snapshot.header}
        return isinstance(header, dict) and header.keys() - {"turns_at_least", "revision"} == ours
    return False


def _checked(document: Any, path: Path | str) -> Snapshot:
    version = document.get("conversation") if isinstance(document, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise corrupt(path, 'it has no format number under "conversation"')
    if version > VERSION:
        msg = (
            f"{path} is in format {version}, and this version of conversation reads up to "
            f"{VERSION}; it was not changed; upgrade conversation to open it"
        )
        raise SessionTooNew(msg, path=Path(path), version=version)
    entries = document.pop("turns", None)
    if not isinstance(entries, list):
        raise corrupt(path, 'it has no list under "turns"')
    at_least = document.pop("turns_at_least", None)
    if at_least is not None and (type(at_least) is not int or at_least < 0):
        raise corrupt(path, f"turns_at_least must be a number of turns, got {at_least!r}", 1)
    document.pop("revision", None)
    del document["conversation"]
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise corrupt(path, f"its header cannot be written again ({error})", 1) from error
    return Snapshot(document, entries, at_least=at_least)


def _parse_torn(data: bytes, path: Path | str, error: orjson.JSONDecodeError) -> Snapshot:
    first, _, _ = data.partition(b"\n")
    at = len(first) + 1
    first = first.rstrip(b"\0")
    if not first.endswith(TURNS):
        raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error
    begun, whole = _beginning(first, path), len(first)
    lines: list[bytes] = []
    entries: list[Any] = []
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end]
        if line.strip():
            found = entry_in(line)
            if found is None:
                break
            lines.append(found[0])
            entries.append(found[1])
            whole = at + line.index(found[0]) + len(found[0])
        at = end + 1
    number = data.count(b"\n", 0, at) + 1
    if not _is_torn(data, whole):
        reason = "this line is damaged, and not by a write that was cut off"
        raise corrupt(path, reason, number) from error
    with contextlib.suppress(orjson.JSONDecodeError):
        orjson.loads(dump(begun.header, lines))
        torn = Torn(number, tuple(lines), data[at:])
        return attrs.evolve(begun, entries=entries, torn=torn)
    raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error


def _is_torn(data: bytes, at: int) -> bool:
    """Return True if a crash during an append can leave what stands behind the last whole entry.

    The blocks of an append arrive in any order; one that did not is as it was: the old closing
    bytes, and NULs where there was nothing.

    Args:
        data: The document.
        at: The end of its last whole entry.
    """
    rest = data[at:]
    if b"\n{" in rest[4:]:
        return False  # one turn is appended at a time
    if _CLOSED.match(rest):
        return True
    begun, _, hole = rest.partition(b"\0")
    late = len(hole.lstrip(b"\0"))
    return bool(_BEGUN.fullmatch(begun)) and (len(data) - late) % (PAGE if late else 1) == 0


def entry_in(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
    """Return the one object in a line, however old and new ends ran together with it."""
    line = line.strip(b"\0\r ")
    for before in (b"", b"]", b"]}"):
        for after in (b"", b",", b",]}", b",]", b"]}", b"]"):
            if line.startswith(before + b"{") and line.endswith(after):
                entry = line[len(before) : len(line) - len(after)]
                with contextlib.suppress(orjson.JSONDecodeError):
                    value = orjson.loads(entry)
                    # `{` of a new turn and `}` of the old end are no turn.
                    if isinstance(value, dict) and value:
                        return entry, value
    return None
