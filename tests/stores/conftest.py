"""Fixtures of the tests of stores."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from conversation import FileStore


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Return an empty store that does not wait for the disk."""
    return FileStore(tmp_path / "sessions", fsync=False)


@pytest.fixture
def no_hang() -> Iterator[None]:
    """Fail a test that hangs for five minutes."""

    def fail(_: int, __: FrameType | None) -> None:
        raise AssertionError("the test hangs")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def count_descriptors() -> Callable[[], int]:
    """Return a function that counts the open file descriptors of this process."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("/proc/self/fd does not exist")
    return lambda: len(list(descriptors.iterdir()))
