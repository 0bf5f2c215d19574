"""Streams that wait until a test lets them go on."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Holds:
    """The streams that wait, each known by a function that tells whether its client is gone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[Callable[[], bool]] = []

    def hold(self, is_gone: Callable[[], bool]) -> bool:
        """Wait for `go_on`; False as soon as nobody waits for the rest of the stream."""
        with self._changed:
            self._held.append(is_gone)
            self._changed.notify_all()
            while is_gone in self._held:
                if is_gone():
                    self._held.remove(is_gone)
                    return False
                self._changed.wait(0.02)  # a client that hangs up notifies nobody
        return True

    def first(self, timeout: float) -> Callable[[], bool]:
        """The stream that waits longest for a client that is there.

        Raises:
            TimeoutError: if none waits within so many seconds.
        """
        with self._changed:
            held = self._changed.wait_for(
                lambda: [is_gone for is_gone in self._held if not is_gone()], timeout
            )
        if not held:
            msg = f"no stream was held within {timeout:g} s; script one with hold_after=…"
            raise TimeoutError(msg)
        return held[0]

    def go_on(self, timeout: float) -> None:
        """Let go the stream that waits longest; errors as `first`."""
        with self._changed:
            self._held.remove(self.first(timeout))
            self._changed.notify_all()
