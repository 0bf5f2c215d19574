"""How loud sound is over its length, to be drawn. Of samples only: the rest needs a decoder."""

from __future__ import annotations

import array
import sys

from conversation._values.sound import samples_of

_INTEGERS = 1
_EXTENSIBLE = 0xFFFE
"""Kinds of WAV; of the second, the real kind stands further on."""

_SIGNED = bytes(byte ^ 0x80 for byte in range(256))
_LOUDEST = 32_768


def peaks(data: bytes, audio_format: str | None, count: int) -> list[float] | None:
    """The loudest sample of each of `count` stretches of the same length, by the loudest of all.

    Args:
        data: WAV of whole numbers, or raw `pcm16`.
        audio_format: Its format.
        count: How many there are to be.

    Returns:
        Numbers from 0 to 1; None of other formats, which only a decoder can read.
    """
    width = _width(data, audio_format)
    if width is None:
        return None
    samples = _samples(samples_of(data) if audio_format == "wav" else data, width)
    found = []
    for number in range(count):
        stretch = samples[len(samples) * number // count : len(samples) * (number + 1) // count]
        highest, lowest = max(stretch, default=0), min(stretch, default=0)
        found.append(max(highest, -lowest) / _LOUDEST)
    loudest = max(found, default=0.0)
    return [peak / loudest for peak in found] if loudest > 0 else found


def _width(data: bytes, audio_format: str | None) -> int | None:
    """Bytes of a sample."""
    if audio_format == "pcm16":
        return 2
    at = data.find(b"fmt ")
    if audio_format != "wav" or at < 0:
        return None
    kind, bits = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (8, 22))
    if kind == _EXTENSIBLE:
        kind = int.from_bytes(data[at + 32 : at + 34], "little")
    return bits // 8 if kind == _INTEGERS and bits in (8, 16, 24, 32) else None


def _samples(data: bytes, width: int) -> array.array[int]:
    """The two highest bytes of each sample, as numbers."""
    data = data[: len(data) // width * width]
    pairs = bytearray(len(data) // width * 2)
    if width == 1:
        pairs[1::2] = data.translate(_SIGNED)  # samples of one byte have no sign
    else:
        pairs[::2], pairs[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    samples = array.array("h", bytes(pairs))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples
