"""Who may change a conversation: one thread, task, object or process at a time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextvars import ContextVar
from pathlib import Path

from conversation.errors import ConversationBusy, SessionLocked

_SHORT, _LONG = 0.0005, 0.01
"""Seconds between two looks at what somebody else holds: at first, and in the end."""


class _Exchange:
    """An exchange under way, or over."""

    is_over = False


_around: ContextVar[tuple[_Exchange, ...]] = ContextVar("conversation_exchanges", default=())
"""The exchanges that the running code was called from, as a tool or as a stream's consumer."""


class Hold:
    """What a conversation's changes and exchanges take, and give back.

    It belongs to no thread: a task may go through several.

    Args:
        try_lock: Takes what others may hold too, if it is free.
        unlock: Gives it back, if it is taken.
        timeout: Seconds to wait for others; None: without end.
        place: What errors name.
    """

    def __init__(
        self,
        try_lock: Callable[[], bool],
        unlock: Callable[[], None],
        timeout: float | None,
        place: Path,
    ) -> None:
        self._try_lock = try_lock
        self._unlock = unlock
        self._timeout = timeout
        self._place = place
        self._mutex = threading.Lock()
        self._exchange: _Exchange | None = None
        self._last: Callable[[], None] | None = None
        self._queue: deque[object] = deque()

    @property
    def is_in_exchange(self) -> bool:
        """Whether it is held by an exchange, which takes its time."""
        return self._exchange is not None

    def begin_exchange(self) -> None:
        """Note that code of others will be called while this is held."""
        self._exchange = _Exchange()
        around = (exchange for exchange in _around.get() if not exchange.is_over)
        _around.set((*around, self._exchange))

    def taken(self, ticket: object = None) -> bool:
        """Take it, if it is free and nobody waits for it longer.

        Args:
            ticket: The place of who waits already.

        Raises:
            ConversationBusy: if it is held by an exchange that this code was called from.
        """
        is_next = not self._queue or self._queue[0] is ticket
        if is_next and self._mutex.acquire(blocking=False):
            is_taken = False
            try:
                is_taken = self._try_lock()
            finally:
                if not is_taken:
                    self._mutex.release()
            return is_taken
        if self._exchange in _around.get():
            msg = (
                "this conversation is in the middle of the exchange that called this code (a "
                "tool, or what consumes a stream); change it when the exchange has ended"
            )
            raise ConversationBusy(msg)
        return False

    def waits(self) -> Generator[float]:
        """Seconds to sleep, again and again, until it is taken; who comes first is first.

        Raises:
            SessionLocked: if others held it for too long.
            ConversationBusy: as `taken`.
        """
        deadline = None if self._timeout is None else time.monotonic() + self._timeout
        pause = _SHORT
        ticket = object()
        self._queue.append(ticket)
        try:
            while not self.taken(ticket):
                if deadline is not None and time.monotonic() >= deadline:
                    msg = (
                        f"{self._place} is in use by another process, thread or object (waited "
                        f"{self._timeout:g} s); finish there first, or pass read_only=True"
                    )
                    raise SessionLocked(msg, path=self._place)
                yield pause
                pause = min(pause * 2, _LONG)
        finally:
            self._queue.remove(ticket)

    def release(self) -> None:
        """Give it back."""
        try:
            if self._exchange is not None:
                self._exchange.is_over = True
            self._exchange = None
            self._unlock()
        finally:
            self._mutex.release()
        if self._last is not None:
            self.finally_do(self._last)

    def finally_do(self, last: Callable[[], None]) -> None:
        """Do it as soon as this is not held, perhaps now. It may be done more than once."""
        self._last = last
        if self._mutex.acquire(blocking=False):
            try:
                last()
            finally:
                self._mutex.release()
