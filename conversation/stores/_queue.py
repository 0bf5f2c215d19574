"""The lock of a session, and the queue of processes that wait for it: first come, first served.

Each waiter holds a numbered file under a lock of its own; the lowest live number is next.
The files of waiters that died are not locked; whoever comes next removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from conversation.errors import SessionChanged
from conversation.stores._disk import Disk, make_folder
from conversation.stores._lockfile import LockFile

_NUMBER = re.compile("[0-9]{12,18}")


class QueuedLock:
    """The lock of a session, which waiters get in the order in which they came.

    Args:
        path: The lock's file; the queue lies beside it.
        document: The session's document, for errors.
        disk: The system calls to write with.
    """

    def __init__(self, path: Path, document: Path, disk: Disk) -> None:
        self.path = path
        self._document = document
        self._disk = disk
        self._queue = Queue(path.with_suffix(".queue"))
        self._held: LockFile | None = None

    def try_acquire(self) -> bool:
        """Take the lock, if it is free and nobody waits for it longer; else wait in the queue."""
        if self._held is not None:
            self.release()  # a release was interrupted
        while self._queue.is_next():
            self._held = held = self._open()
            if not held.try_lock():
                held.close()
                self._held = None
                self._queue.enter()
                return False
            if held.is_current():
                self._queue.leave()
                return True
            held.close()  # whoever deleted the session has removed this lock
        return False

    def release(self) -> None:
        """Give up the lock, and the place in the queue; idempotent."""
        try:
            self._queue.leave()
        finally:
            held = self._held
            if held is not None:
                with contextlib.suppress(OSError):  # what was written is written
                    held.close()
                self._held = None

    def check(self) -> None:
        """Refuse to write without the lock, or where its file was removed: others may hold one.

        Raises:
            SessionChanged: if so.
        """
        if self._held is None:
            msg = f"{self._document} is not locked by this object; nothing was written"
            raise SessionChanged(msg, path=self._document)
        if not self._held.is_current():
            msg = f"the lock {self.path} was removed while it was held; nothing was written"
            raise SessionChanged(msg, path=self._document)

    def is_taken(self) -> bool:
        """Return True if another one holds the lock; makes no file."""
        with contextlib.suppress(OSError):
            lock = LockFile(self.path, create=False)
            try:
                return not lock.try_lock()
            finally:
                lock.close()
        return False

    def _open(self) -> LockFile:
        try:
            return LockFile(self.path)
        except FileNotFoundError:
            self._disk.make_folder(self.path.parent)
            return LockFile(self.path)


class Queue:
    """The place of one waiter in the queue of a session.

    Args:
        folder: The folder with the files of all waiters; there is none while nobody waits.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name = str(folder)
        self._ticket: LockFile | None = None

    def is_next(self) -> bool:
        """Return True if nobody waits who came before; else wait in the queue from now on."""
        if self._ticket is not None and self._ticket.is_abandoned:
            self._ticket = None  # the place is the parent process's
        if self._ticket is None and not (
            os.path.lexists(self._name) and self._has_live_waiter_before()
        ):
            return True
        self.enter()
        return not self._has_live_waiter_before()

    def enter(self) -> None:
        """Take the last place, if none is taken yet; a disk that has no room for it gives none."""
        with contextlib.suppress(OSError):
            self._enter()

    def _enter(self) -> None:
        while self._ticket is None:
            with contextlib.suppress(FileExistsError):
                make_folder(self._folder)
            with contextlib.suppress(FileNotFoundError):
                self._ticket = LockFile(self._folder / f".{os.urandom(8).hex()}")
        ticket = self._ticket
        ticket.try_lock()
        while ticket.path.name.startswith("."):
            path = self._folder / f"{max(self._numbers(), default=0) + 1:012}"
            with contextlib.suppress(FileExistsError):
                # It is locked already when others see it.
                os.link(ticket.path, path)
                temporary, ticket.path = ticket.path, path
                temporary.unlink()

    def leave(self) -> None:
        """Give up the place; idempotent."""
        ticket = self._ticket
        if ticket is not None and ticket.is_abandoned:
            self._ticket = ticket = None
        if ticket is not None:
            with contextlib.suppress(OSError):
                ticket.path.unlink()
            ticket.close()
            self._ticket = None
            self._remove_folder()

    def _numbers(self) -> list[int]:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            names = [path.name for path in self._folder.iterdir()]
            return sorted(int(name) for name in names if _NUMBER.fullmatch(name))
        return []

    def _has_live_waiter_before(self) -> bool:
        name = None if self._ticket is None else self._ticket.path.name
        own = int(name) if name and _NUMBER.fullmatch(name) else None
        for number in reversed(self._numbers()):
            if own is not None and number >= own:
                continue
            try:
                other = LockFile(self._folder / f"{number:012}", create=False)
            except OSError:
                continue  # it got its turn in between, or is no file of ours
            try:
                if not other.try_lock():
                    return True
                other.path.unlink(missing_ok=True)
            finally:
                other.close()
        if self._ticket is None:
            self._remove_folder()
        return False

    def _remove_folder(self) -> None:
        with contextlib.suppress(OSError):  # somebody waits
            self._folder.rmdir()
