"""A saved conversation's document in a file, that grows in place.

To add a turn, the closing brackets are overwritten; any other change replaces the file at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from conversation.errors import SessionChanged, SessionCorrupt, corrupt
from conversation.stores._disk import Disk, open_regular, read_all, read_at
from conversation.stores._format import END, Snapshot, dump, is_laid_out, parse

_PAGE = 4096
"""Bytes that a file system finds room for at once, at least, so that they are written or not."""

_PATIENCE = 40
"""How often a read that is not whole is done again before it counts."""


class Document:
    """A document in a file.

    Every change expects the file to be as this object last saw it; who changes it holds a lock.

    Args:
        path: The file.
        disk: How to write.
    """

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._name = str(path)
        self._temporary = path.with_name(f".{path.name}.tmp")
        self._inode: tuple[int, int] | None = None
        self._disk = disk
        self._descriptor: int | None = None
        self._writable = False
        self._size = 0
        self._count = 0
        self._process = os.getpid()
        self.is_unsure = False
        """Whether a failed sync or restore leaves open what the disk holds."""
        self.can_grow = False
        """Whether an append may follow; else the next write is a whole rewrite."""

    def read(self) -> Snapshot | None:
        """What the file says now; None if there is none.

        Needs no lock: a read that is not whole is done again until it is, or nothing changes.

        Raises:
            SessionCorrupt, SessionTooNew: as `parse`.
            OSError: if it cannot be read.
        """
        self._close()
        try:
            self._set(open_regular(self._path), writable=False)
        except OSError as error:
            if error.errno in (None, errno.ELOOP, errno.ENXIO):
                raise corrupt(self._path, "it is a link or no regular file") from error
            raise
        if self._descriptor is None:
            return None
        try:
            data, snapshot = self._read_stable(self._descriptor)
        except BaseException:
            self._close()
            raise
        self._size, self._count = len(data), len(snapshot.entries)
        self.is_unsure = False
        self.can_grow = snapshot.torn is None and is_laid_out(data, snapshot)
        return snapshot

    def _read_stable(self, descriptor: int) -> tuple[bytes, Snapshot]:
        """A whole document; or what there is, once it does not change any more."""
        before = None
        for patience in range(_PATIENCE, -1, -1):
            data = read_all(descriptor)
            is_stable = data == before or not patience
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

    def news(self) -> Snapshot | list[Any] | None:
        """What others wrote since: entries that were added, else the whole; None if nothing.

        Raises:
            SessionChanged: if the file is gone.
            SessionCorrupt, SessionTooNew, OSError: as `read`.
        """
        if self._descriptor is None:
            snapshot = self.read()
            if snapshot is None and self._inode is not None:
                raise self._changed("it was deleted")
            return snapshot
        try:
            now = os.lstat(self._name)
        except FileNotFoundError as error:
            raise self._changed("it was deleted") from error
        if (now.st_dev, now.st_ino) == self._inode:
            if now.st_nlink > 1:
                self.can_grow = False  # a backup by links must not grow along
            if now.st_size == self._size:
                return None
            if now.st_size > self._size and self.can_grow and (added := self._added(now.st_size)):
                self._size = now.st_size
                self._count += len(added)
                return added
        return self.read()

    def _added(self, size: int) -> list[Any] | None:
        start = self._size - len(END)
        tail = read_at(self._descriptor or 0, size - start, start)
        if len(tail) != size - start or not tail.endswith(END):
            return None
        body = tail[: -len(END)]
        if self._count:
            if not body.startswith(b",\n"):
                return None
            body = body[1:]
        with contextlib.suppress(orjson.JSONDecodeError):
            added = orjson.loads(b"[" + body + b"]")
            if body.count(b"\n") == len(added):
                return list(added)
        return None

    def append(self, entry: bytes) -> None:
        """Add one turn at the end, durably. The cost does not grow with the document.

        Raises:
            SessionChanged: if the file is not as it was; nothing was written.
            OSError: if the disk refuses; the file is as it was.
        """
        self._check()
        if not self._writable:
            self._open_for_writing()
        descriptor, end = self._descriptor or 0, self._size
        data = (b",\n" if self._count else b"\n") + entry + END
        try:
            start = end - len(END)
            if start // _PAGE == (start + len(data)) // _PAGE:
                self._disk.write(descriptor, data, start)
            else:
                # What is beyond the old end first: until that is overwritten, it still stands.
                self._disk.write(descriptor, data[len(END) :], end)
                self._disk.write(descriptor, data[: len(END)], start)
        except BaseException:
            self._restore(descriptor, end)
            raise
        try:
            self._disk.sync(descriptor)
        except BaseException:
            self._restore(descriptor, end)
            # After a failed sync nobody knows what is on the disk, whatever reads say.
            self.is_unsure, self.can_grow = True, False
            raise
        self._size = end - len(END) + len(data)
        self._count += 1

    def _restore(self, descriptor: int, end: int) -> None:
        try:
            self._disk.write(descriptor, END, end - len(END))
            self._disk.truncate(descriptor, end)
        except OSError:
            self.is_unsure, self.can_grow = True, False
            # What stands there now is no news of somebody else's.
            with contextlib.suppress(OSError):
                self._size = os.fstat(descriptor).st_size

    def lines(self) -> list[bytes] | None:
        """The entries as they stand in the file, byte for byte; None if lines do not tell them."""
        if self._descriptor is None or not self.can_grow:
            return None
        lines = [line.removesuffix(b",") for line in read_all(self._descriptor).split(b"\n")[1:-2]]
        with contextlib.suppress(orjson.JSONDecodeError):
            if all(isinstance(orjson.loads(line), dict) for line in lines):
                return lines
        return None

    def rewrite(self, header: Mapping[str, Any], lines: Sequence[bytes]) -> None:
        """Put a whole new document in the place of the old one, durably and at once.

        Args:
            header: Its keys but `conversation` and `turns`.
            lines: The turns.

        Raises:
            SessionChanged: if the file is not as it was; nothing was written.
            OSError: if the disk refuses; the file is as it was.
        """
        self._check()
        self.replace(header, lines)

    def replace(self, header: Mapping[str, Any], lines: Sequence[bytes]) -> None:
        """Same as `rewrite`, whatever the file is now.

        Raises:
            OSError: if the disk refuses; the file is as it was.
        """
        data = dump(header, lines)
        if os.name == "nt":
            self._close()  # an open file cannot be replaced there
        before, is_new = self._count, not os.path.lexists(self._path)
        descriptor = self._disk.write_new(self._path, (data,), temporary=self._temporary)
        old, self._descriptor = self._descriptor, None
        try:
            self._set(descriptor, writable=True)
            self._size, self._count = len(data), len(lines)
            # If the folder cannot be synced, nobody knows which file a power cut leaves.
            self.is_unsure, self.can_grow = True, False
            try:
                self._disk.sync_folder(self._path.parent)
            except BaseException:
                with contextlib.suppress(OSError):
                    self._put_back(old, before, is_new=is_new)
                raise
            self.is_unsure, self.can_grow = False, True
        finally:
            if old is not None:
                os.close(old)

    def _put_back(self, old: int | None, count: int, *, is_new: bool) -> None:
        """What was there before, for whoever reads; the disk itself may hold either."""
        if old is not None:
            data = read_all(old)
            descriptor = self._disk.write_new(self._path, (data,), temporary=self._temporary)
            self._close()
            self._set(descriptor, writable=True)
            self._size, self._count = len(data), count
        elif is_new:
            self._path.unlink()
            self._close()
            self._inode = None

    def close(self) -> None:
        """Let go of the file."""
        self._close()

    def _close(self) -> None:
        descriptor, self._descriptor, self._writable = self._descriptor, None, False
        if descriptor is not None:
            os.close(descriptor)

    def _open_for_writing(self) -> None:
        descriptor = open_regular(self._path, writable=True)
        if descriptor is None:
            raise self._changed("it was deleted")
        before = self._inode
        self._close()
        self._set(descriptor, writable=True)
        with contextlib.suppress(OSError):
            self._temporary.unlink()  # of a writer that was killed
        if self._inode != before:
            raise self._changed("another file is in its place")

    def _set(self, descriptor: int | None, *, writable: bool) -> None:
        self._descriptor, self._writable = descriptor, writable
        if descriptor is not None:
            status = os.fstat(descriptor)
            # While it is open, no other file gets its number.
            self._inode = (status.st_dev, status.st_ino)

    def _check(self) -> None:
        """Refuse to write to a file that is not as it was."""
        if self._process != os.getpid():
            raise self._changed("this is another process than the one that opened it")
        try:
            now = os.lstat(self._name)
        except FileNotFoundError as error:
            if self._descriptor is None:
                return
            raise self._changed("it was deleted") from error
        if self._descriptor is None:
            raise self._changed("another program made it")
        if (now.st_dev, now.st_ino) != self._inode:
            raise self._changed("another file is in its place")
        if self.is_unsure:
            return
        end = read_at(self._descriptor, len(END), self._size - len(END))
        if now.st_size != self._size or (self.can_grow and end != END):
            raise self._changed(f"it has {now.st_size} bytes instead of {self._size}")

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self._path} was changed by something else while it was in use: {what}; nothing was "
            "written; open the session anew, and save(path) keeps what this object holds"
        )
        return SessionChanged(msg, path=self._path)
