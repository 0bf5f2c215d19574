"""A disk that fails on demand."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

from conversation.stores._disk import Disk


class FaultyDisk(Disk):
    """A disk whose n-th operation of a kind fails; a write fails halfway.

    Attributes:
        fails: The operation that is going to fail; None once it has failed.
        done: The operations that were called, in order, failed ones included.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails: str | None = None
        self.then: str | None = None
        self.countdown = 0
        self.error = errno.ENOSPC
        self.done: list[str] = []

    def arm(
        self,
        operation: str,
        countdown: int = 0,
        error: int = errno.ENOSPC,
        *,
        then: str | None = None,
    ) -> None:
        """Fail the operation after `countdown` successful ones, and then the next `then`."""
        self.fails, self.countdown, self.error, self.then = operation, countdown, error, then

    def _check(self, operation: str, halfway: Callable[[], None] = lambda: None) -> None:
        self.done.append(operation)
        if operation != self.fails:
            return
        self.countdown -= 1
        if self.countdown < 0:
            halfway()
            self.fails, self.then = self.then, None
            raise OSError(self.error, os.strerror(self.error))

    def truncate(self, descriptor: int, size: int) -> None:
        self._check("truncate")
        super().truncate(descriptor, size)

    def sync_folder(self, folder: Path) -> None:
        self._check("sync_folder")
        super().sync_folder(folder)

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        write = super().write
        self._check("write", lambda: write(descriptor, data[: len(data) // 2], at))
        write(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        self._check("sync")
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._check("replace")
        super().replace(source, target)

    def create(self, path: Path) -> int:
        self._check("create")
        return super().create(path)


@contextlib.contextmanager
def limited_file_size(size: int) -> Iterator[None]:
    """Fail writes beyond `size` bytes, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in the folder, except locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
