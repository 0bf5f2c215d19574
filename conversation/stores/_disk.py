"""System calls that write durably, on each platform.

Calls that a full or failing disk can refuse go through a `Disk`, so that tests can inject faults.
"""

from __future__ import annotations

import contextlib
import errno
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
        done = 0
        while done < len(data):
            written = self.write_some(descriptor, data[done:], at + done)
            if not written:
                raise OSError(errno.EIO, "no byte was written, and no reason given")
            done += written

    def write_some(self, descriptor: int, data: bytes, at: int) -> int:
        """Write some of `data` at that offset, and return the number of bytes."""
        return _write_at(descriptor, data, at)

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

    def make_folder(self, folder: Path) -> None:
        """Create a private folder where there is none, and those above it."""
        if not folder.is_dir():
            self.make_folder(folder.parent)
            with contextlib.suppress(FileExistsError):  # another one was faster
                make_folder(folder)
            self.sync_folder(folder.parent)

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another one."""
        source.replace(target)

    def create(self, path: Path) -> int:
        """Create a new, empty file and return its descriptor; a file of that name is removed."""
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _CAREFUL, 0o600)

    def write_new(
        self,
        path: Path,
        pieces: Iterable[bytes],
        *,
        temporary: Path,
        adopted: bool = True,
        modified: int | None = None,
    ) -> int:
        """Create a file with this content atomically and durably.

        It gets owner and mode of the regular file that it replaces; else it is private.

        Args:
            path: Its name.
            pieces: Its content.
            temporary: Its name until it is whole.
            adopted: Hand a new file over to the owner of its folder.
            modified: Time of its last change, in nanoseconds; None: now.

        Returns:
            Its descriptor, open for reading and writing.
        """
        descriptor, at = self.create(temporary), 0
        try:
            _set_owner_and_mode(descriptor, path, adopted=adopted)
            for piece in pieces:
                self.write(descriptor, piece, at)
                at += len(piece)
            if modified is not None:
                os.utime(temporary, ns=(modified, modified))
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


def _set_owner_and_mode(descriptor: int, path: Path, *, adopted: bool) -> None:
    if not hasattr(os, "fchown"):
        return
    mode = 0o600
    try:
        before = path.lstat()
    except FileNotFoundError:
        before = None
    if before is not None and stat.S_ISREG(before.st_mode):
        mode = stat.S_IMODE(before.st_mode)
        with contextlib.suppress(PermissionError):  # only root gives files away
            os.fchown(descriptor, before.st_uid, before.st_gid)
    elif adopted:
        hand_over(descriptor, path.parent)
    os.fchmod(descriptor, mode)


def hand_over(descriptor: int, folder: Path) -> None:
    """Give what root made in a folder to the folder's owner, who could not use it otherwise."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def make_folder(folder: Path) -> None:
    """Create a private folder for the owner of the one above.

    Raises:
        FileExistsError: if there is anything of that name.
        OSError: if it cannot be created, or somebody put something else in its place.
    """
    folder.mkdir(mode=0o700)
    if not hasattr(os, "fchown"):
        return
    # By a descriptor: a name may lead elsewhere by now.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _CAREFUL)
    try:
        os.fchmod(descriptor, 0o700)  # whatever the umask
        hand_over(descriptor, folder.parent)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a folder and all that is in it, or whatever else has that name."""
    import shutil

    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)  # `rmtree` would block on a FIFO


def open_regular(path: Path) -> int | None:
    """Return a descriptor of a regular file, for reading; None if there is no file.

    Raises:
        OSError: if it is a link, a folder, a FIFO or the like, or cannot be opened.
    """
    opened = open_with_status(path, writable=False)
    return None if opened is None else opened[0]


def read_regular(path: Path) -> bytes | None:
    """Return the content of a regular file; None if there is no file. Errors as `open_regular`."""
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    try:
        return read_all(descriptor)
    finally:
        os.close(descriptor)


def open_with_status(path: Path | str, *, writable: bool) -> tuple[int, os.stat_result] | None:
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
        os.close(disk.write_new(path, pieces, temporary=temporary, adopted=False))
        disk.sync_folder(path.parent)
    except OSError as error:
        msg = (
            f"{path} could not be written ({error.strerror or error}); what was there is unchanged"
        )
        raise SaveFailed(msg, path=path) from error
