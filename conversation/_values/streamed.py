"""Sound that arrives in pieces: its format, the samples to play, and in the end the whole file."""

from __future__ import annotations

import logging

from conversation._values import mp3, wav
from conversation._values.samples import as_mono, as_s16
from conversation._values.sound import (
    FRAME,
    LONGEST_FRAME,
    PCM_RATE,
    bare,
    bytes_of_first_frame,
    name_of,
    wav_from_pcm,
)

log = logging.getLogger("conversation")

_TELLING = 12
"""Bytes by which each format tells itself, or that more are needed."""

_LONGEST_TAG = 2**16
"""Bytes of a tag whose end is waited for."""

_HEADER = 6
"""Bytes of a frame by which AAC tells its size; MP3 needs fewer."""

Samples = tuple[bytes, int]
"""Mono s16le samples, and how many there are in a second (Hz)."""


class StreamedSound:
    """Sound that arrives in pieces, cut anywhere: raw PCM, WAV (several files too), or another.

    Attributes:
        is_empty: True until so much has come that its format is known.
    """

    def __init__(self) -> None:
        self.is_empty = True
        self._format: str | None = None  # "pcm16", "wav", or "other": nothing to play
        self._telling = _TELLING  # bytes with which to look for it again
        self._held = b""
        self._pieces: list[bytes] = []
        self._first: wav.Wav | None = None
        self._wav: wav.Wav | None = None
        self._left: int | None = 0  # bytes of the chunk that are still to come; None for any
        self._is_sound = True  # this chunk holds samples
        self._is_odd = False  # this chunk has an odd size, which a byte may pad
        self._part = b""  # of a sample

    def add(self, piece: bytes) -> list[Samples]:
        """Add a piece, and return the samples that can be played now."""
        return self._read(self._held + piece if self._held else piece)

    def finish(self) -> list[Samples]:
        """Return the samples that were held back until more had come; idempotent."""
        return self._read(self._held, is_last=True)

    def _read(self, data: bytes, *, is_last: bool = False) -> list[Samples]:
        self._held = b""
        if not data:
            return []
        if self._format is None and (is_last or len(data) >= self._telling):
            data = bare(data)
            self._format = _format(data, is_last=is_last)
            self._telling = len(data) * 5 // 4
        if self._format is None:
            self._held = data
            return []
        self.is_empty = False
        if self._format == "wav":
            return self._read_wav(data, is_last=is_last)
        if self._format == "pcm16":
            data = self._whole(data, 2)
        self._pieces.append(data)
        return _playable(data, "s16le", 1, PCM_RATE) if self._format == "pcm16" else []

    def _read_wav(self, data: bytes, *, is_last: bool) -> list[Samples]:
        """Read samples, and heads, which stand where a file has ended or a piece begins."""
        found: list[Samples] = []
        may_be_head = True
        while data := self._unpadded(data):
            may_be_head |= self._left == 0
            if may_be_head and wav.is_wav(data):
                head = wav.walked(data)
                if head is None:
                    self._held = b"" if is_last else data
                    return found
                self._wav, self._left, self._part = head, head.declared, b""
                self._is_odd = bool((head.declared or 0) % 2)
                self._is_sound, may_be_head = True, False
                data = data[head.start :]
                continue
            needed = _TELLING if wav.may_be_wav(data) else 8 if self._left == 0 else 0
            if not is_last and len(data) < needed:
                self._held = data
                return found
            may_be_head = False
            if self._left == 0:
                self._is_sound = data[:4] not in wav.CHUNKS_BEHIND
                if not self._is_sound or data[:4] == b"data":
                    size = int.from_bytes(data[4:8], "little")
                    self._left, self._is_odd, data = size, bool(size % 2), data[8:]
                    continue
                self._left = None  # raw samples follow
            if self._left is None:  # up to the next head
                end = wav.next_file(data, 0)
                may_be_head = end < len(data)
                if not may_be_head and not is_last:
                    end = _beginning_of_head(data)
                    self._held = data[end:]
                taken, data = data[:end], data[end:] if may_be_head else b""
            else:
                taken, data = data[: self._left], data[self._left :]
                self._left -= len(taken)
            found += self._samples_of_file(taken) if self._is_sound else []
        return found

    def _unpadded(self, data: bytes) -> bytes:
        """Return the data without the byte that pads a chunk of an odd size, if that has ended."""
        if not data or self._left != 0 or not self._is_odd:
            return data
        self._is_odd = False
        return data if data[0] else data[1:]

    def _samples_of_file(self, data: bytes) -> list[Samples]:
        assert self._wav is not None  # noqa: S101  # a head was read first
        layout, self._first = self._wav, self._first or self._wav
        data = self._whole(data, layout.block)
        if layout.is_like(self._first):
            self._pieces.append(data)
        elif data:
            log.warning("skipping a piece of sound in another coding or rate than the first")
        encoding = layout.encoding
        return _playable(data, encoding, layout.channels, layout.rate) if encoding else []

    def _whole(self, data: bytes, block: int) -> bytes:
        """Return whole samples, and keep the rest for the next."""
        if self._part or len(data) % block:
            data = self._part + data
            end = len(data) - len(data) % block
            data, self._part = data[:end], data[end:]
        return data

    def whole(self) -> bytes:
        """Return all as one file: WAV if it is raw PCM or WAV files; empty if nothing came."""
        if self._format == "pcm16":
            return wav_from_pcm(*self._pieces)
        if self._format == "wav":
            head, pieces = self._first or self._wav, self._pieces
            if head and self._left is None:  # perhaps with chunks behind them
                samples = b"".join((*pieces, self._part))
                end = wav.end_of_samples(samples, 0, len(samples))
                pieces = [samples[: end - end % head.block]]
            return head.with_samples(*pieces) if head else b""
        return b"".join(self._pieces)


def _beginning_of_head(data: bytes) -> int:
    """Return the offset of the last bytes if they may begin a WAV file, else the end."""
    last = range(max(0, len(data) - _TELLING + 1), len(data))
    return next((at for at in last if wav.may_be_wav(data[at:])), len(data))


def _format(data: bytes, *, is_last: bool) -> str | None:
    """Return the format by the beginning of a stream; None if more of it is needed."""
    if wav.is_wav(data):
        return "wav"
    if not is_last and len(data) < max(_TELLING, bytes_of_first_frame(data) + _HEADER):
        return None
    tags = min(mp3.end_of_tags(data), _LONGEST_TAG)
    if tags and not is_last and len(data) < tags + _TELLING:
        return None
    if data.startswith((b"ID3", b"APETAGEX")) or name_of(data):
        return "other"
    # A stream that was joined late begins with the rest of a frame.
    may_begin = FRAME.search(data, 0, LONGEST_FRAME)
    needed = 3 * LONGEST_FRAME + _HEADER if may_begin else LONGEST_FRAME
    return "pcm16" if is_last or len(data) >= needed else None


def _playable(data: bytes, encoding: str, channels: int, rate: int) -> list[Samples]:
    samples = as_mono(as_s16(data, encoding), channels)
    return [(samples, rate)] if samples else []
