"""Locks between processes: a file that one descriptor holds, safe in forked children."""

from __future__ import annotations

import functools
import io
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

from conversation.stores._disk import hand_over

_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

_open: weakref.WeakSet[LockFile] = weakref.WeakSet()
_opening = threading.RLock()


@functools.cache
def _lock_functions() -> tuple[Callable[..., bool], Callable[[int], None]]:
    import filelock

    return filelock.lock_descriptor, filelock.unlock_descriptor


class LockFile:
    """A file that can be locked against all other openings of it, in this process and in others.

    The lock is gone when the file is closed, by `close`, by garbage collection or by the end of the
    process; a forked child closes its copies, so that it does not keep the locks of its parent.

    Args:
        path: The file.
        create: Create it if it does not exist.

    Raises:
        OSError: if it cannot be opened.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        self._name = str(path)
        self._inode: int | None = None
        with _opening:  # no fork comes between opening and noting
            # The object closes its descriptor however it ends.
            self._file = io.FileIO(
                self._name, "r+", opener=lambda name, _: self._opened(name, create=create)
            )
            _open.add(self)

    def _opened(self, name: str, *, create: bool) -> int:
        try:
            return os.open(name, _FLAGS)
        except FileNotFoundError:
            if not create:
                raise
        descriptor = os.open(name, _FLAGS | os.O_CREAT, 0o600)
        if hasattr(os, "fchmod"):
            os.fchmod(descriptor, 0o600)  # whatever the umask
        hand_over(descriptor, self.path.parent)
        return descriptor

    @property
    def is_abandoned(self) -> bool:
        """True if it was closed, perhaps because this is a forked child."""
        return self._file.closed

    def try_lock(self) -> bool:
        """Take the lock, if it is free."""
        return _lock_functions()[0](self._file.fileno(), blocking=False)

    def is_current(self) -> bool:
        """Return True if the path still leads to this file."""
        if self._inode is None:
            self._inode = os.fstat(self._file.fileno()).st_ino
        try:
            return os.lstat(self._name).st_ino == self._inode
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Release the lock; idempotent."""
        if not self._file.closed:
            _lock_functions()[1](self._file.fileno())
            self._file.close()

    def __del__(self) -> None:
        # Quietly, for a stream that was dropped inside of its block.
        if hasattr(self, "_file"):
            self._file.close()

    def abandon(self) -> None:
        """Close the copy of a forked child; its parent keeps the lock."""
        self._file.close()


def _after_fork() -> None:
    _opening.release()
    for lock in list(_open):
        lock.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork
    )
