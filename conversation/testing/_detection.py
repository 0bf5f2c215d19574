"""Detection of speech by its energy, as a server does it in a Realtime session."""

from __future__ import annotations

import attrs

from conversation._values.samples import WIDTHS, as_s16, integers

_FRAME_MS = 20
_LOUDEST = 1000  # mean amplitude that any threshold lets pass


@attrs.frozen
class Speech:
    """A moment at which speech begins or ends.

    Attributes:
        begins: True if it begins.
        at_ms: Milliseconds since the first sound of the session.
    """

    begins: bool
    at_ms: int


@attrs.define(eq=False)
class Input:
    """The input buffer of a session, and the speech in it; times are milliseconds since its begin.

    Attributes:
        encoding: Coding of a sample.
        rate: Samples a second (Hz).
        start_ms: Time of the first sound that was not committed.
        checked_ms: Time up to which speech was looked for.
        is_speaking: True while speech goes on.
    """

    encoding: str = "s16le"
    rate: int = 24_000
    start_ms: float = 0.0
    checked_ms: int = 0
    is_speaking: bool = False
    _data: bytearray = attrs.field(factory=bytearray)
    _silence_ms: int = 0

    @property
    def _bytes_per_ms(self) -> int:
        return WIDTHS[self.encoding] * self.rate // 1000

    @property
    def length_ms(self) -> float:
        """Length of what was not committed yet."""
        return len(self._data) / self._bytes_per_ms

    def add(self, data: bytes) -> None:
        """Append sound."""
        self._data += data

    def clear(self) -> None:
        """Discard what was not committed."""
        self.start_ms += self.length_ms
        self._data.clear()
        self.checked_ms = int(self.start_ms)
        self.is_speaking = False

    def take(self, start_ms: float | None = None, end_ms: float | None = None) -> bytes:
        """Return the sound between two times, and drop all before the second one."""
        first = 0 if start_ms is None else round((start_ms - self.start_ms) * self._bytes_per_ms)
        last = len(self._data)
        if end_ms is not None:
            last = round((end_ms - self.start_ms) * self._bytes_per_ms)
        taken = bytes(self._data[max(first, 0) : last])
        del self._data[:last]
        self.start_ms += last / self._bytes_per_ms
        return taken

    def next_speech(self, threshold: float, padding_ms: int, silence_ms: int) -> Speech | None:
        """Return the next moment at which speech begins or ends; None if there is none yet.

        Args:
            threshold: Energy from 0 to 1 that counts as speech.
            padding_ms: Milliseconds before speech that belong to it.
            silence_ms: Milliseconds without speech that end it.
        """
        size = _FRAME_MS * self._bytes_per_ms
        while True:
            at = round((self.checked_ms - self.start_ms) * self._bytes_per_ms)
            frame = bytes(self._data[at : at + size])
            if len(frame) < size:
                return None
            self.checked_ms += _FRAME_MS
            samples = integers(as_s16(frame, self.encoding))
            is_loud = sum(map(abs, samples)) >= _LOUDEST * threshold * len(samples)
            self._silence_ms = 0 if is_loud else self._silence_ms + _FRAME_MS
            if is_loud and not self.is_speaking:
                self.is_speaking = True
                begun = self.checked_ms - _FRAME_MS - padding_ms
                return Speech(True, max(begun, int(self.start_ms)))
            if self.is_speaking and self._silence_ms >= silence_ms:
                self.is_speaking = False
                return Speech(False, self.checked_ms)
