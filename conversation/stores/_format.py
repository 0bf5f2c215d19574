"""The bytes of a saved conversation: one JSON document, one turn a line.

::

    {"conversation":1,…,"turns":[
    {"role":"user",…},
    {"role":"assistant",…}
    ]}

Kinds of turns are unknown here: an entry is the bytes of one JSON object.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import orjson

from conversation.errors import SessionCorrupt, SessionTooNew, corrupt

VERSION = 1
TURNS = b'"turns":['
END = b"\n]}\n"


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
        header: Its keys but `conversation` and `turns`.
        entries: The turns, as JSON values.
        torn: The fault at its end; None if it is whole.
    """

    header: dict[str, Any]
    entries: list[Any]
    torn: Torn | None = None


def pieces(header: Mapping[str, Any], lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the whole document, piece by piece. The header's keys stand before the turns."""
    yield orjson.dumps({"conversation": VERSION, **header})[:-1] + b"," + TURNS
    between = b"\n"
    for line in lines:
        yield between + line
        between = b",\n"
    yield END


def dump(header: Mapping[str, Any], lines: Iterable[bytes]) -> bytes:
    """Return the whole document."""
    return b"".join(pieces(header, lines))


def parse(data: bytes, path: Path) -> Snapshot:
    """Return the content of a document, whole or torn.

    Args:
        data: The document.
        path: Its file, for errors.

    Raises:
        SessionCorrupt: if it is no saved conversation, or a damaged one.
        SessionTooNew: if a later version wrote it.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return _parse_torn(data, path, error)
    return _checked(document, path)


def parse_header(line: bytes, path: Path) -> dict[str, Any]:
    """Return the header in a document's first line.

    Raises:
        SessionCorrupt, SessionTooNew: as `parse`.
    """
    try:
        document = orjson.loads(line.rstrip() + b"]}")
    except orjson.JSONDecodeError as error:
        raise corrupt(path, f"its header is not JSON ({error.msg})", 1) from error
    return _checked(document, path).header


def is_laid_out(data: bytes, snapshot: Snapshot) -> bool:
    """Return True if the document has one turn a line: line `i + 2` is entry `i`, and no more."""
    end = data.find(b"\n")
    first, lines = data[:end], data[end + 1 : -len(END)].split(b"\n")
    if not data.endswith(END) or not first.endswith(TURNS):
        return False
    if snapshot.entries:
        *most, last = lines
        if len(lines) != len(snapshot.entries) or not last.startswith(b"{"):
            return False
        if not all(line.startswith(b"{") and line.endswith(b",") for line in most):
            return False
    elif len(data) != len(first) + len(END):
        return False
    with contextlib.suppress(orjson.JSONDecodeError):
        # Keys that stand behind the turns are missing here.
        header = orjson.loads(first + b"]}")
        ours = {"conversation", "turns", *snapshot.header}
        return isinstance(header, dict) and header.keys() == ours
    return False


def _checked(document: Any, path: Path) -> Snapshot:
    version = document.get("conversation") if isinstance(document, dict) else None
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise corrupt(path, 'it has no format number under "conversation"')
    if version > VERSION:
        msg = (
            f"{path} is in format {version}, and this version of conversation reads up to "
            f"{VERSION}; it was not changed; upgrade conversation to open it"
        )
        raise SessionTooNew(msg, path=path, version=version)
    entries = document.pop("turns", None)
    if not isinstance(entries, list):
        raise corrupt(path, 'it has no list under "turns"')
    del document["conversation"]
    try:
        orjson.dumps(document)
    except orjson.JSONEncodeError as error:
        raise corrupt(path, f"its header cannot be written again ({error})", 1) from error
    return Snapshot(document, entries)


def _parse_torn(data: bytes, path: Path, error: orjson.JSONDecodeError) -> Snapshot:
    first = data.partition(b"\n")[0]
    header, at = _torn_header(first, path, error)
    if first[at:].strip(b"\0"):
        raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error
    lines: list[bytes] = []
    entries: list[Any] = []
    while at < len(data):
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        line = data[at:end]
        if line.strip():
            whole = _entry_in(line)
            if whole is None:
                break
            lines.append(whole[0])
            entries.append(whole[1])
        at = end + 1
    number = data.count(b"\n", 0, at) + 1
    rest = data[at:]
    if any(_entry_in(line) for line in rest.split(b"\n")[1:]):
        reason = "this line is damaged, and whole turns follow it"
        raise corrupt(path, reason, number) from error
    with contextlib.suppress(orjson.JSONDecodeError):
        orjson.loads(dump(header, lines))
        return Snapshot(header, entries, Torn(number, tuple(lines), rest))
    raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error


def _torn_header(
    line: bytes, path: Path, error: orjson.JSONDecodeError
) -> tuple[dict[str, Any], int]:
    """Return the header in a first line that may run into something else, and its end."""
    end = line.find(TURNS)
    while end >= 0:
        end += len(TURNS)
        with contextlib.suppress(SessionCorrupt):
            return parse_header(line[:end], path), end
        end = line.find(TURNS, end)
    raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error


def _entry_in(line: bytes) -> tuple[bytes, dict[str, Any]] | None:
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
