"""System calls that write durably, on each platform.

Calls that a full or failing disk can refuse go through a `Disk`, so that tests can inject faults.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable
from pathlib import Path

from conversation.errors import SaveFailed

_OPEN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
# Links are not followed, and opening a FIFO does not block.
_CAREFUL = _OPEN | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def _seek_and_write(descriptor: int, data: bytes, at: int) -> int:
    os.lseek(descriptor, at, os.SEEK_SET)
    return os.write(descriptor, data)


def _sync_past_the_cache(descriptor: int) -> None:
    # On macOS fsync leaves the bytes in the drive's cache.
    import fcntl

    try:
        fcntl.fcntl(descriptor, getattr(fcntl, "F_FULLFSYNC", 51))
    except OSError:
        os.fsync(descriptor)


_write_at = getattr(os, "pwrite", _seek_and_write)
_sync = getattr(os, "fdatasync", os.fsync)
if sys.platform == "darwin":
    _sync = _sync_past_the_cache


class Disk:
    """Durable writes.

    Args:
        fsync: False leaves power cuts to the operating system.
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self.fsync = fsync

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        """Write all of `data` at that offset."""
        done = _write_at(descriptor, data, at)
        while done < len(data):
            done += _write_at(descriptor, data[done:], at + done)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to that size."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Flush the file's bytes to the disk itself."""
        if self.fsync:
            _sync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Flush the folder's names to the disk itself."""
        if not self.fsync or os.name == "nt":
            return
        descriptor = os.open(folder, os.O_RDONLY | _OPEN)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another one."""
        source.replace(target)

    def create(self, path: Path, mode: int | None) -> int:
        """Create a new, empty file and return its descriptor; a file of that name is removed.

        Args:
            path: Its name.
            mode: Its permissions; None: the default ones.
        """
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL
        descriptor = os.open(path, flags, 0o666 if mode is None else mode)
        if mode is not None and hasattr(os, "fchmod"):
            os.fchmod(descriptor, mode)
        return descriptor

    def write_new(
        self, path: Path, pieces: Iterable[bytes], *, temporary: Path, mode: int | None = 0o600
    ) -> int:
        """Create a file with this content atomically and durably.

        Returns:
            Its descriptor, open for reading and writing.
        """
        descriptor, at = self.create(temporary, mode), 0
        try:
            for piece in pieces:
                self.write(descriptor, piece, at)
                at += len(piece)
            self.sync(descriptor)
            if os.name == "nt":
                # An open file cannot be renamed on Windows.
                os.close(descriptor)
                self.replace(temporary, path)
                return os.open(path, os.O_RDWR | _OPEN)
            self.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        return descriptor


def open_regular(path: Path, *, writable: bool = False) -> int | None:
    """Return a descriptor of a regular file; None if there is no file.

    Raises:
        OSError: if it is a link, a folder, a FIFO or the like, or cannot be opened.
    """
    opened = open_with_status(path, writable=writable)
    return None if opened is None else opened[0]


def open_with_status(path: Path, *, writable: bool) -> tuple[int, os.stat_result] | None:
    """Same as `open_regular`, with the status of the file."""
    try:
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | _CAREFUL)
    except FileNotFoundError:
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return descriptor, status


def read_all(descriptor: int) -> bytes:
    """Return the whole content of the file."""
    pieces, at = [], 0
    while piece := read_at(descriptor, 1 << 20, at):
        pieces.append(piece)
        at += len(piece)
    return b"".join(pieces)


def read_at(descriptor: int, size: int, at: int) -> bytes:
    """Return up to `size` bytes from that offset."""
    if hasattr(os, "pread"):
        return os.pread(descriptor, size, at)
    os.lseek(descriptor, at, os.SEEK_SET)
    return os.read(descriptor, size)


def replace_file(path: Path, pieces: Iterable[bytes]) -> None:
    """Replace a file atomically and durably; a terminal, a pipe or the like is written into.

    Raises:
        SaveFailed: if it cannot be written; the old file is as it was.
    """
    disk = Disk()
    try:
        status = path.stat() if path.exists() else None
        if status is not None and not stat.S_ISREG(status.st_mode):
            with path.open("wb") as special:
                special.writelines(pieces)
            return
        path = Path(os.path.realpath(path))
        temporary = path.with_name(f".{os.urandom(4).hex()}.tmp")
        mode = None if status is None else stat.S_IMODE(status.st_mode)
        os.close(disk.write_new(path, pieces, temporary=temporary, mode=mode))
        disk.sync_folder(path.parent)
    except OSError as error:
        msg = (
            f"{path} could not be written ({error.strerror or error}); what was there is unchanged"
        )
        raise SaveFailed(msg, path=path) from error
