"""The bytes of a saved conversation: one JSON document, one turn a line.

::

    {"conversation":1,…,"turns":[
    {"role":"user",…},
    {"role":"assistant",…}
    ]}

It knows no kinds of turns: an entry is the bytes of one JSON object.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from conversation.errors import SaveFailed, SessionCorrupt, SessionTooNew

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VERSION = 1


def dump(header: Mapping[str, Any], entries: Iterable[bytes]) -> bytes:
    """The whole document. The header's keys stand before the turns."""
    first = orjson.dumps({"conversation": VERSION, **header})
    lines = b",\n".join(entries)
    return first[:-1] + b',"turns":[\n' + lines + (b"\n]}\n" if lines else b"]}\n")


def parse(data: bytes, path: Path) -> tuple[dict[str, Any], list[Any]]:
    """The header, without `turns`, and the entries as JSON objects.

    Args:
        data: The document.
        path: Where it came from, for the error.

    Raises:
        SessionCorrupt: if it is no saved conversation, or a damaged one.
        SessionTooNew: if a later version wrote it.
    """
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise corrupt(path, f"it is not JSON ({error.msg})", error.lineno) from error
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
    return document, entries


def corrupt(path: Path, reason: str, line: int | None = None) -> SessionCorrupt:
    """The error for a file that is no sound saved conversation."""
    place = f"{path}, line {line}," if line else f"{path}"
    msg = f"{place} is not a saved conversation that can be read: {reason}; it was not changed"
    return SessionCorrupt(msg, path=path, line=line, reason=reason)


def replace(path: Path, data: bytes) -> None:
    """Put `data` in the place of the file, durably, so that there is always the old or the new.

    Raises:
        SaveFailed: if the disk refuses; the old file is as it was.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(path.parent)
    except OSError as error:
        msg = (
            f"{path} could not be written ({error.strerror or error}); what was there is unchanged"
        )
        raise SaveFailed(msg, path=path) from error


def sync_folder(folder: Path) -> None:
    """Make names in the folder durable, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
