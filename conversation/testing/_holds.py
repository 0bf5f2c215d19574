"""Streams that are held until a test lets them go on."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Holds:
    """The held streams, oldest first, each identified by its function `is_disconnected`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[Callable[[], bool]] = []

    def hold(self, is_disconnected: Callable[[], bool]) -> bool:
        """Block until `go_on` releases the stream; return False if its client disconnects."""
        with self._changed:
            self._held.append(is_disconnected)
            self._changed.notify_all()
            while is_disconnected in self._held:
                if is_disconnected():
                    self._held.remove(is_disconnected)
                    return False
                self._changed.wait(0.02)  # polls: a client that disconnects notifies nobody
        return True

    def first(self, timeout: float) -> Callable[[], bool]:
        """Wait for a held stream with a connected client and return the oldest.

        Raises:
            TimeoutError: if there is none within `timeout` seconds.
        """
        with self._changed:
            held = self._changed.wait_for(
                lambda: [stream for stream in self._held if not stream()], timeout
            )
        if not held:
            msg = f"no stream was held within {timeout:g} s; script one with hold_after=…"
            raise TimeoutError(msg)
        return held[0]

    def go_on(self, timeout: float) -> None:
        """Release the oldest held stream; raises the same errors as `first`."""
        with self._changed:
            self._held.remove(self.first(timeout))
            self._changed.notify_all()
