"""Waveforms of uncompressed sound; other formats need a decoder."""

from __future__ import annotations

import array
import sys

from conversation._values.sound import samples_of

_INTEGERS = 1
_EXTENSIBLE = 0xFFFE
"""Format tags of WAV. With the second, the real tag is further on in the header."""

_SIGNED = bytes(byte ^ 0x80 for byte in range(256))


def peaks(data: bytes, audio_format: str | None, count: int) -> list[float] | None:
    """Return the peaks of `count` stretches of equal length, relative to the loudest of them.

    Args:
        data: Integer WAV, or raw `pcm16`.
        audio_format: Its format.
        count: Number of stretches.

    Returns:
        Numbers from 0 to 1; None if the format needs a decoder.
    """
    width = _width(data, audio_format)
    if width is None:
        return None
    samples = _samples(samples_of(data) if audio_format == "wav" else data, width)
    found = []
    for number in range(count):
        stretch = samples[len(samples) * number // count : len(samples) * (number + 1) // count]
        highest, lowest = max(stretch, default=0), min(stretch, default=0)
        found.append(max(highest, -lowest))
    loudest = max(found, default=0) or 1
    return [peak / loudest for peak in found]


def _width(data: bytes, audio_format: str | None) -> int | None:
    """Return the bytes per sample, or None if the samples cannot be read."""
    if audio_format == "pcm16":
        return 2
    at = data.find(b"fmt ")
    if audio_format != "wav" or at < 0:
        return None
    tag, bits = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (8, 22))
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(data[at + 32 : at + 34], "little")
    return bits // 8 if tag == _INTEGERS and bits in (8, 16, 24, 32) else None


def _samples(data: bytes, width: int) -> array.array[int]:
    """Return the two most significant bytes of each sample as a signed number."""
    data = data[: len(data) // width * width]
    pairs = bytearray(len(data) // width * 2)
    if width == 1:
        pairs[1::2] = data.translate(_SIGNED)  # 8-bit samples are unsigned
    else:
        pairs[::2], pairs[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    samples = array.array("h", bytes(pairs))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
