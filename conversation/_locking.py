"""One change or exchange at a time, in order of arrival; and pauses while others hold a lock."""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ClassVar

from conversation.errors import ConversationBusy, InvalidSetting, SessionLocked


class Ticket:
    """A place in the queue of a `Lock`.

    Attributes:
        is_exchange: True while code of others runs under the lock: a tool, a stream's consumer.
        inside: For a hold, the lock that its holder's own calls take; else None.
        steps: The generator that holds the ticket; when it has ended, so has its turn.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self.is_exchange = False
        self.inside: Lock | None = None
        self.steps: Generator[Any, Any, Any] | None = None

    @property
    def is_stale(self) -> bool:
        """True if its holder has ended, or was left behind in a parent process."""
        has_ended = getattr(self.steps, "gi_frame", self) is None
        return has_ended or self.process != os.getpid()


_around: ContextVar[tuple[Ticket, ...]] = ContextVar("conversation_exchanges", default=())
"""The exchanges that the running code was called from, and the holds that it belongs to."""


class Lock:
    """Admits the holders of tickets in the order in which they came.

    The first in the queue holds the lock, so that acquiring and releasing are one operation each.
    It belongs to no thread: a task may run in several. Inside of a hold there is another lock, for
    the code that belongs to the holder: by its context, which tasks inherit and threads do not.
    """

    def __init__(self) -> None:
        self._queue: deque[Ticket] = deque()

    @property
    def is_in_exchange(self) -> bool:
        """True if an exchange holds the lock."""
        with suppress(IndexError):
            first = self._queue[0]
            inside = first.inside  # which another thread may leave now
            is_inside = inside is not None and inside.is_in_exchange
            return (first.is_exchange or is_inside) and not first.is_stale
        return False

    @property
    def is_kept(self) -> bool:
        """True if an exchange or a hold has the lock."""
        with suppress(IndexError):
            first = self._queue[0]
            return (first.is_exchange or first.inside is not None) and not first.is_stale
        return False

    @property
    def holder(self) -> Ticket:
        """The ticket that holds the lock."""
        return self._queue[0]

    @property
    def is_in_use(self) -> bool:
        """True if anybody holds the lock, or waits for it."""
        return any(not ticket.is_stale for ticket in list(self._queue))

    def within(self) -> Lock:
        """Return the lock inside of the innermost hold of the running code; without one, this."""
        with suppress(IndexError):
            first = self._queue[0]
            inside = None if first.is_stale or first not in _around.get() else first.inside
            return self if inside is None else inside.within()
        return self

    def enqueue(self, ticket: Ticket) -> None:
        """Take the last place in the queue."""
        self._queue.append(ticket)

    def try_acquire(self, ticket: Ticket) -> bool:
        """Return True if the ticket is the first in the queue.

        Raises:
            ConversationBusy: if the calling code runs inside of the exchange that holds the lock.
        """
        first = self._queue[0]
        while first.is_stale:
            with suppress(ValueError):
                self._queue.remove(first)
            first = self._queue[0]
        if first is not ticket and first.is_exchange and first in _around.get():
            msg = (
                "this code was called by an exchange of the conversation (as a tool, or while "
                "consuming a stream) and cannot change it; change it after the exchange"
            )
            raise ConversationBusy(msg)
        return first is ticket

    def is_held_by(self, ticket: Ticket) -> bool:
        """Return True if the ticket is the first in the queue; raises nothing."""
        with suppress(IndexError):
            return self._queue[0] is ticket
        return False

    def begin_exchange(self) -> None:
        """Note that whoever holds the lock is about to call code of others."""
        ticket = self.within().holder
        ticket.is_exchange = True
        _enter(ticket)

    def begin_hold(self) -> Lock:
        """Have the running code hold the lock, and return the one that it takes meanwhile."""
        ticket = self.within().holder
        ticket.inside = inside = Lock()
        _enter(ticket)
        return inside

    def left_open(self) -> Generator[Any, Any, Any] | None:
        """Return the exchange that holds the lock, if the running code is inside of it."""
        with suppress(IndexError):
            first = self._queue[0]
            return first.steps if first.is_exchange and first in _around.get() else None
        return None

    def release(self, ticket: Ticket) -> None:
        """Leave the queue; idempotent."""
        ticket.is_exchange, ticket.inside = False, None
        with suppress(ValueError):
            self._queue.remove(ticket)


def _enter(ticket: Ticket) -> None:
    around = (other for other in _around.get() if other.is_exchange or other.inside)
    _around.set((*around, ticket))


_read_locks: weakref.WeakSet[ReadLock] = weakref.WeakSet()


class ReadLock:
    """A reentrant lock of threads, for short looks at a state; free in a forked child."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _read_locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget threads of the parent process."""
        self._lock = threading.RLock()


def _after_fork() -> None:
    for lock in list(_read_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def check_timeout(timeout: object) -> None:
    """Refuse what is no number of seconds.

    Raises:
        InvalidSetting: if it is no number >= 0.
    """
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not (0 <= timeout < 1e12 or timeout == math.inf)
    ):
        msg = f"timeout must be a number of seconds >= 0, got {timeout!r}"
        raise InvalidSetting(msg)


class Polling:
    """Growing pauses between attempts, up to a deadline.

    Args:
        timeout: Seconds from the first failed attempt to the deadline; None: no deadline.
        pauses: The first and the longest pause, in seconds.
        place: The session, as errors name it.
        file: The session's file, where it has one.
    """

    PAUSES: ClassVar = (0.0005, 0.01)
    """Pauses that suit a lock in memory or in a file of this machine."""

    def __init__(
        self,
        timeout: float | None,
        pauses: tuple[float, float] = PAUSES,
        place: str = "",
        file: Path | None = None,
    ) -> None:
        self._timeout = timeout
        self._deadline: float | None = None
        self._pause, self._longest = pauses
        self._place, self._file = place, file

    def pause(self) -> float:
        """Return the seconds to sleep before the next attempt.

        Raises:
            SessionLocked: if the deadline has passed.
        """
        if self._timeout is not None and self._is_over(self._timeout):
            msg = (
                f"{self._place} is in use by another process, thread or object (waited "
                f"{self._timeout:g} s); finish there first, or pass read_only=True"
            )
            raise SessionLocked(msg, path=self._file)
        pause = self._pause
        self._pause = min(2 * pause, self._longest)
        return pause

    def slow_down(self, pauses: tuple[float, float]) -> None:
        """Take other pauses from now on; the deadline stays."""
        self._pause, self._longest = pauses

    def _is_over(self, timeout: float) -> bool:
        now = time.monotonic()
        if self._deadline is None:
            self._deadline = now + timeout
        return now >= self._deadline
