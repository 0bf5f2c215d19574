"""The user's sound as it was appended, and which part of it each item of the session holds."""

from __future__ import annotations

import logging
import threading
from collections import deque

from conversation._values.samples import WIDTHS, Encoding
from conversation._values.sound import PCM_RATE

log = logging.getLogger("conversation")

MOST_MS = 600_000
"""Milliseconds of sound that are held at most: older sound that became no item is dropped."""

Format = tuple[Encoding, int]
"""Coding of a sample, and samples a second (Hz)."""

PCM: Format = ("s16le", PCM_RATE)


class AppendedSound:
    """Sound in the order in which it was appended; times are milliseconds since the first of it.

    Whoever sends and whoever receives may be different threads.

    Attributes:
        format: The format of what is appended now.
    """

    def __init__(self) -> None:
        self.format = PCM
        self._lock = threading.Lock()
        self._data = bytearray()
        self._dropped = 0  # bytes in this format before those that are held
        self._base = 0.0  # time at which this format began
        self._uncommitted = 0.0
        self._commits: deque[tuple[float, float]] = deque()
        self._clears = 0  # sent, and not confirmed
        self._speech: dict[str, tuple[float, float | None]] = {}

    def change_format(self, new: Format) -> None:
        """Note the format of what is appended from now on."""
        with self._lock:
            if new != self.format:
                self._base = self._end
                self._data.clear()
                self._dropped, self.format = 0, new

    def append(self, data: bytes) -> None:
        """Add sound that was sent."""
        with self._lock:
            self._data += data
            oldest = self._end - MOST_MS
            if self._time(0) < oldest - 10_000:
                self._drop(oldest)

    def commit(self) -> None:
        """Note that the sound since the last commit was sent to become an item."""
        with self._lock:
            self._commits.append((self._uncommitted, self._end))
            self._uncommitted = self._end

    def clear(self, *, is_confirmed: bool = False) -> None:
        """Note that the sound since the last commit was discarded: when that was sent, if seen."""
        with self._lock:
            if not is_confirmed or not self._clears:
                self._uncommitted = self._end
            self._clears = max(0, self._clears - 1) if is_confirmed else self._clears + 1

    def refuse_commit(self) -> None:
        """Forget the oldest commit, which the server has refused."""
        with self._lock:
            if self._commits:
                self._commits.popleft()

    def begin_speech(self, item_id: str, start: float) -> None:
        """Note the time at which the server heard speech begin."""
        with self._lock:
            self._speech[item_id] = (start, None)

    def end_speech(self, item_id: str, end: float) -> None:
        """Note the time at which the server heard speech end."""
        with self._lock:
            start, _ = self._speech.get(item_id, (self._uncommitted, None))
            self._speech[item_id] = (start, end)

    def take(self, item_id: str) -> bytes:
        """Return the sound of an item that was committed, in `format`; empty if there is none."""
        with self._lock:
            start, end = self._speech.pop(item_id, (None, None))
            if end is None and self._commits:
                start, end = self._commits.popleft()
            start = self._uncommitted if start is None else start
            end = self._end if end is None else end
            first, last = self._index(start), self._index(end)
            taken = bytes(self._data[first:last])
            self._uncommitted = max(self._uncommitted, min(end, self._end))
            self._drop(min([end, *(begin for begin, _ in self._waiting)]))
            return taken

    def take_early(self, item_id: str) -> bytes:
        """Same as `take`, for an item that is told before its commit; empty unless it is spoken."""
        with self._lock:
            is_spoken = item_id in self._speech or self._commits
        return self.take(item_id) if is_spoken else b""

    @property
    def begun(self) -> list[str]:
        """The items of which speech was heard, and that were not taken yet."""
        with self._lock:
            return list(self._speech)

    @property
    def _waiting(self) -> list[tuple[float, float | None]]:
        return [*self._speech.values(), *self._commits]

    @property
    def _bytes_per_second(self) -> int:
        encoding, rate = self.format
        return WIDTHS[encoding] * rate

    @property
    def _end(self) -> float:
        return self._time(len(self._data))

    def _time(self, index: int) -> float:
        return self._base + 1000 * (self._dropped + index) / self._bytes_per_second

    def _index(self, time: float) -> int:
        encoding, rate = self.format
        sample = round((time - self._base) * rate / 1000)
        return min(max(sample * WIDTHS[encoding] - self._dropped, 0), len(self._data))

    def _drop(self, time: float) -> None:
        count = self._index(time)
        del self._data[:count]
        self._dropped += count
