"""A stream of events, shared by both twins: it is entered once, read by one, and left.

So is a hold, without the reading.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from inspect import GEN_CLOSED, getgeneratorstate
from typing import Any

from conversation._exchange.exchange import NOT_KEPT
from conversation._exchange.steps import Left, Over, Steps
from conversation._values.events import Event
from conversation._values.naming import Naming
from conversation.errors import SessionError


class BaseStream:
    """The events of one exchange; its methods are steps that a twin's driver performs."""

    def __init__(self, exchange: Callable[[], Steps[Any]]) -> None:
        self._begin = exchange
        self._exchange: Steps[Any] | None = None
        self._event: Event | None = None
        self._is_over = self._is_read = False
        self._naming = Naming()  # left at each event: the consumer's log lines are its own

    def _entering(self) -> Steps[None]:
        """Go to the first event, so that faults of a request are raised here."""
        if self._exchange is not None:
            raise RuntimeError("it is entered once; call chat.stream(…) or chat.hold() for another")
        self._exchange = self._begin()
        self._event = yield from self._advancing(self._exchange)

    def _reading(self) -> Steps[Event | None]:
        """Return the next event; None at the end."""
        if self._exchange is None:
            msg = "enter a stream to read its events: with chat.stream(…) as events: …"
            raise RuntimeError(msg)
        if self._is_read:
            msg = "another thread or task is waiting for the next event of this stream already"
            raise RuntimeError(msg)
        event, self._event = self._event, None
        if event is None and not self._is_over:
            self._is_read = True
            try:
                event = yield from self._advancing(self._exchange)
            finally:
                self._is_read = False
        return event

    def _leaving(self, error: BaseException | None) -> Steps[None]:
        """Go to the end of the exchange, which keeps what had arrived."""
        try:
            if self._exchange is not None and getgeneratorstate(self._exchange) != GEN_CLOSED:
                with contextlib.suppress(Left):
                    yield from self._advancing(self._exchange, Left(error))
        except SessionError as failure:
            if error is None or isinstance(error, Exception):
                raise
            error.add_note(NOT_KEPT.format(failure))  # Ctrl-C, a cancellation

    def _advancing(
        self, exchange: Steps[Any], error: BaseException | None = None
    ) -> Steps[Event | None]:
        """Pass the exchange's steps on until its next event, and return that."""
        outcome = None
        try:
            with self._naming:
                while True:
                    step = exchange.send(outcome) if error is None else exchange.throw(error)
                    if isinstance(step, Event):
                        return step
                    if isinstance(step, Over):
                        self._is_over = True
                        return None
                    outcome = error = None
                    try:
                        outcome = yield step
                    except BaseException as raised:  # noqa: BLE001  # the exchange decides
                        error = raised
        except StopIteration:
            self._is_over = True
            return None
        except BaseException:
            self._is_over = True
            raise
        finally:
            del error  # whose traceback has this frame

    def _abandon(self) -> None:
        """End an exchange that could not be left; it keeps what has arrived."""
        if self._exchange is not None:
            self._exchange.close()
