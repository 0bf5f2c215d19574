"""A saved conversation's document in a file, that grows in place.

Appending a turn overwrites the closing brackets; any other change replaces the file. Between two
calls no descriptor is open: the file is recognized by its status, as `stat` gives it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from conversation.errors import SessionChanged, SessionCorrupt, corrupt
from conversation.stores import News
from conversation.stores._disk import (
    Disk,
    open_regular,
    open_with_status,
    read_all,
    read_at,
    read_regular,
)
from conversation.stores._format import (
    COUNT_AT,
    END,
    PAGE,
    REVISION_SIZE,
    Snapshot,
    count,
    dump,
    is_laid_out,
    parse,
    revision_of,
)

_RETRIES = 40
"""Number of times that a read is repeated that is not whole."""


_Status: TypeAlias = tuple[int, int, int, int, int]
"""A file as it was last seen: device, inode, size, and the times of its last changes."""


def _status(status: os.stat_result) -> _Status:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,  # links and permissions change it too
    )


class Document:
    """A document in a file.

    All methods but `read` expect that the caller holds the session's lock.

    Args:
        path: The file.
        disk: The system calls to write with.
        dump: Writes an entry that is copied from another layout.
    """

    def __init__(self, path: Path, disk: Disk, dump: Callable[[Any], bytes] = orjson.dumps) -> None:
        self._path = path
        self._name = str(path)
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._disk = disk
        self._dump = dump
        self._was_read = self._was_cleaned = False
        self._status: _Status | None = None
        self._header: Mapping[str, Any] = {}
        self._count = 0
        self._at_least: int | None = None
        self._revision = b""
        self._is_laid_out = False
        self.is_unsure = False
        """True after a failed sync or restore: nobody knows what is on the disk itself."""

    def read(self) -> Snapshot | None:
        """Return the content of the file; None if there is no file.

        Needs no lock: a read that is not whole is repeated until it is, or nothing changes.

        Raises:
            SessionCorrupt, SessionTooNew: as `parse`.
            OSError: if it cannot be read.
        """
        self._was_read, self._status, self._count = True, None, 0
        try:
            descriptor = open_regular(self._path)
        except OSError as error:
            if error.errno in (None, errno.ELOOP, errno.ENXIO):
                raise corrupt(self._path, "it is a link or no regular file") from error
            raise
        if descriptor is None:
            return None
        try:
            data, snapshot = self._read_stable(descriptor)
            status = _status(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        self._status = (*status[:2], len(data), *status[3:])
        self._header, self._count = snapshot.header, len(snapshot.entries)
        self._at_least, self._revision = snapshot.at_least, revision_of(data)
        self._is_laid_out = snapshot.torn is None and is_laid_out(data, snapshot)
        self.is_unsure = False
        # A torn end may be a write under way: the next look has to be a whole one.
        self._was_read = snapshot.torn is None
        return snapshot

    def _read_stable(self, descriptor: int) -> tuple[bytes, Snapshot]:
        """Return a whole document; or the one there is, once it does not change any more."""
        before = None
        for retries in range(_RETRIES, -1, -1):
            data = read_all(descriptor)
            is_stable = data == before or not retries
            try:
                snapshot = parse(data, self._path)
            except SessionCorrupt:
                if is_stable:
                    raise
            else:
                if snapshot.torn is None or is_stable:
                    return data, snapshot
            before = data
            time.sleep(0.002)
        raise AssertionError  # the last round returns or raises

    def news(self) -> News | Snapshot:
        """Return what others wrote since the last read or write: added entries, or the whole.

        Raises:
            SessionChanged: if the file is gone.
            SessionCorrupt, SessionTooNew, OSError: as `read`.
        """
        seen, revision = self._status, self._revision
        if self._was_read:
            try:
                status = os.lstat(self._name)
            except FileNotFoundError as error:
                if seen is None:
                    return News()
                raise self._changed("it was deleted") from error
            if _status(status) == seen:
                return News()
            if seen is not None and (added := self._added(seen)):
                return News(added)
        snapshot = self.read()
        if snapshot is None and seen is not None:
            self._status = seen  # it stays deleted, however often it is tried
            raise self._changed("it was deleted")
        if seen and self._status and self._status[:2] == seen[:2] and self._revision == revision:
            # Edited in place: the next write renews the revision, so that others notice.
            self._is_laid_out = False
        return snapshot or News()

    def look(self) -> News | None:
        """Return added entries, if that is all that others did; else None. Needs no lock."""
        seen = self._status
        if self._was_read and seen is not None:
            with contextlib.suppress(OSError):
                if _status(os.lstat(self._name)) == seen:
                    return News()
                if added := self._added(seen):
                    return News(added)
        return None

    def _added(self, seen: _Status) -> tuple[Any, ...] | None:
        """Return the entries behind the known ones, if that is all that was changed."""
        can_tell = self._is_laid_out and self._revision
        descriptor = open_regular(self._path) if can_tell else None
        if descriptor is None:
            return None
        try:
            status = _status(os.fstat(descriptor))
            if status[:2] != seen[:2] or status[2] <= seen[2]:
                return None
            start = seen[2] - len(END)
            tail = read_at(descriptor, status[2] - start, start)
            begin = read_at(descriptor, len(count(0)) + REVISION_SIZE, COUNT_AT)
        finally:
            os.close(descriptor)
        at_least, revision = begin[:-REVISION_SIZE], begin[-REVISION_SIZE:]
        if revision != self._revision or len(tail) != status[2] - start or not tail.endswith(END):
            return None
        body = tail[: -len(END)]
        if self._count:
            if not body.startswith(b",\n"):
                return None
            body = body[1:]
        with contextlib.suppress(ValueError):
            added = orjson.loads(b"[" + body + b"]")
            if body.count(b"\n") != len(added):
                return None
            if self._at_least is not None:
                said = int(at_least)
                if not self._at_least <= said <= self._count + len(added):
                    return None
                self._at_least = said
            self._status = status
            self._count += len(added)
            return tuple(added)
        return None

    def append(self, lines: Sequence[bytes]) -> None:
        """Add turns at the end, durably. The cost of one does not grow with the document.

        Raises:
            SessionChanged: if the file is not as it was; nothing was written.
            OSError: if the disk refuses; the file is as it was.
        """
        descriptor, links = self._open()
        try:
            # A backup by a hard link must not grow along.
            if self._is_laid_out and not self.is_unsure and len(lines) == links == 1:
                self._append(descriptor, lines[0])
                return
        finally:
            os.close(descriptor)
        added = dict(enumerate(lines, self._count))
        self.rewrite(self._header, added, self._count + len(added))

    def _append(self, descriptor: int, line: bytes) -> None:
        end = self._status[2] if self._status else 0
        data = (b",\n" if self._count else b"\n") + line + END
        start = end - len(END)
        try:
            if start // PAGE == (start + len(data)) // PAGE:
                self._disk.write(descriptor, data, start)
            else:
                # Beyond the old end first: until that is overwritten, it still stands.
                self._disk.write(descriptor, data[len(END) :], end)
                self._disk.write(descriptor, data[: len(END)], start)
            # The new turn does not count yet, so that the two writes may arrive in any order.
            if self._at_least not in (None, self._count):
                self._disk.write(descriptor, count(self._count), COUNT_AT)
        except BaseException:
            self._restore(descriptor, end)
            raise
        try:
            self._disk.sync(descriptor)
        except BaseException:
            self._restore(descriptor, end)
            # After a failed sync nobody knows what is on the disk, whatever reads say.
            self.is_unsure = True
            raise
        if self._at_least is not None:
            self._at_least = self._count
        self._count += 1
        self._note(descriptor)

    def _restore(self, descriptor: int, end: int) -> None:
        try:
            self._disk.write(descriptor, END, end - len(END))
            if self._at_least not in (None, self._count):
                self._disk.write(descriptor, count(self._at_least), COUNT_AT)
            self._disk.truncate(descriptor, end)
        except OSError:
            self.is_unsure = True
        # What stands there now is no news of somebody else's.
        with contextlib.suppress(OSError):
            self._note(descriptor)

    def rewrite(
        self,
        header: Mapping[str, Any],
        changed: Mapping[int, bytes],
        length: int,
        *,
        modified: int | None = None,
    ) -> None:
        """Replace the file by one with another header and other turns, durably and at once.

        Args:
            header: Its keys but `conversation` and `turns`.
            changed: New lines by position; the others are copied from the file.
            length: Number of turns in the new document.
            modified: Time of the file's last change, in nanoseconds; None: now.

        Raises:
            SessionChanged: if the file is not as it was; nothing was written.
            OSError: if the disk refuses; the file is as it was.
        """
        before = self._read_checked()
        lines: Sequence[bytes] = ()
        if not changed.keys() >= set(range(length)):
            lines = self._lines(before or b"")
            if len(lines) < length - len(changed):
                raise self._changed(f"it has {len(lines)} turns instead of {self._count}")
        new = [changed.get(i) or lines[i] for i in range(length)]
        self._replace(header, new, before, modified)

    def _lines(self, data: bytes) -> list[bytes]:
        """Return the entries as they stand in the file, byte for byte if lines tell them."""
        if self._is_laid_out:
            lines = [line.removesuffix(b",") for line in data.split(b"\n")[1 : self._count + 1]]
            with contextlib.suppress(orjson.JSONDecodeError):
                if all(isinstance(orjson.loads(line), dict) for line in lines):
                    return lines
        return [self._dump(entry) for entry in parse(data, self._path).entries]

    def replace(self, header: Mapping[str, Any], lines: Sequence[bytes]) -> None:
        """Put a new document in the place of the old one, whatever that is now.

        Raises:
            OSError: if the disk refuses; the file is as it was.
        """
        self._replace(header, lines, self._read_any())

    def _replace(
        self,
        header: Mapping[str, Any],
        lines: Sequence[bytes],
        before: bytes | None,
        modified: int | None = None,
    ) -> None:
        was = self._count, self._at_least, self._revision, self._header, self._is_laid_out
        data, status = dump(header, lines), self._status
        descriptor = self._disk.write_new(
            self._path, (data,), temporary=self._temporary, modified=modified
        )
        try:
            self._note(descriptor)
            self._count = self._at_least = len(lines)
            self._revision = revision_of(data)
            self._header, self._is_laid_out = header, True
            # If the folder cannot be synced, nobody knows which file a power cut leaves.
            self.is_unsure = True
            self._disk.sync_folder(self._path.parent)
            self.is_unsure = False
        except BaseException:
            # Where that fails, the next look has to be a whole one.
            self._was_read = False
            with contextlib.suppress(OSError):
                self._put_back(before, status and status[3])
                self._count, self._at_least, self._revision, self._header, self._is_laid_out = was
                self._was_read = True
            raise
        finally:
            os.close(descriptor)

    def _put_back(self, before: bytes | None, modified: int | None) -> None:
        """Restore what was there, for whoever reads; the disk itself may hold either."""
        if before is None:
            self._path.unlink()
            self._status = None
            return
        descriptor = self._disk.write_new(
            self._path, (before,), temporary=self._temporary, modified=modified
        )
        try:
            self._note(descriptor)
        finally:
            os.close(descriptor)

    # --- the file as it was --------------------------------------------------------------------

    def _note(self, descriptor: int) -> None:
        self._status = _status(os.fstat(descriptor))

    def _open(self) -> tuple[int, int]:
        """Open the file to write into it, check that it is as it was, and count its links."""
        opened = open_with_status(self._path, writable=True)
        if opened is None:
            raise self._changed("it was deleted")
        descriptor, status = opened
        try:
            self._check(_status(status))
        except BaseException:
            os.close(descriptor)
            raise
        if not self._was_cleaned:
            with contextlib.suppress(OSError):
                self._temporary.unlink()  # of a writer that was killed
            self._was_cleaned = True
        return descriptor, status.st_nlink

    def _read_checked(self) -> bytes | None:
        if self._status is None:
            if os.path.lexists(self._name):
                raise self._changed("another program made it")
            return None
        descriptor, _ = self._open()
        try:
            return read_all(descriptor)
        finally:
            os.close(descriptor)

    def _read_any(self) -> bytes | None:
        with contextlib.suppress(OSError):
            return read_regular(self._path)
        return None

    def _check(self, now: _Status) -> None:
        """Refuse to write to a file that is not as it was."""
        seen = self._status
        if seen is None or now[:2] != seen[:2]:
            raise self._changed("another file is in its place")
        if self.is_unsure:
            return
        if now[2] != seen[2]:
            raise self._changed(f"it has {now[2]} bytes instead of {seen[2]}")
        if now[3] != seen[3]:
            raise self._changed("it was written to")

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self._path} was changed by something else while it was in use: {what}; nothing was "
            "written; open the session anew, and save(path) keeps what this object holds"
        )
        return SessionChanged(msg, path=self._path)
