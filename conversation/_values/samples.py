"""Samples of any uncompressed coding as signed 16-bit integers."""

from __future__ import annotations

import array
import bisect
import functools
import itertools
import sys
from typing import Literal, get_args

Encoding = Literal["s16le", "mulaw", "alaw", "f32le"]
ENCODINGS: tuple[str, ...] = get_args(Encoding)

WIDTHS = {
    "u8": 1, "s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4, "f64le": 8, "alaw": 1, "mulaw": 1,
}  # fmt: skip
"""Bytes per sample of each coding that is read here."""


def as_s16(data: bytes, encoding: str) -> bytes:
    """Return samples as s16le; half a sample at the end is left out.

    Args:
        data: The samples, of all channels in turn.
        encoding: A key of `WIDTHS`.
    """
    width = WIDTHS[encoding]
    count = len(data) // width
    data = data[: count * width]
    if encoding == "s16le":
        return data
    if encoding in ("f32le", "f64le"):
        return _integers(data, encoding[1:3])
    low, high = _tables().get(encoding, (None, None))
    pairs = bytearray(2 * count)
    if high:
        pairs[::2], pairs[1::2] = data.translate(low), data.translate(high)
    else:  # longer integers: the two most significant bytes
        pairs[::2], pairs[1::2] = data[width - 2 :: width], data[width - 1 :: width]
    return bytes(pairs)


def _integers(data: bytes, bits: str) -> bytes:
    floats = _array("f" if bits == "32" else "d", data)
    # Comparisons with "not a number" are false.
    whole = (
        round(x * 32767) if -1 <= x <= 1 else 32767 if x > 1 else -32768 if x < -1 else 0
        for x in floats
    )
    return _bytes(array.array("h", whole))


def integers(data: bytes) -> array.array[int]:
    """Return s16le samples as numbers."""
    return _array("h", data)


def as_mono(data: bytes, channels: int) -> bytes:
    """Return the mean of the channels of s16le samples."""
    if channels == 1:
        return data
    samples = integers(data)
    tracks = (samples[channel::channels] for channel in range(channels))
    # A last frame that is not whole is left out.
    mixed = (sum(frame) // channels for frame in zip(*tracks, strict=False))
    return _bytes(array.array("h", mixed))


def resampled(data: bytes, rate: int, to: int) -> bytes:
    """Return mono s16le samples at another rate (Hz), on straight lines between them.

    Each new sample of a lower rate is the mean of those that it stands for: tones that are too high
    for it do not come back as others.
    """
    if rate == to:
        return data
    sums = array.array("q", itertools.accumulate(integers(data), initial=0))
    count = len(sums) - 1
    if rate > to:
        edges = [i * rate // to for i in range(count * to // rate + 1)]
        means = ((sums[b] - sums[a]) // (b - a) for a, b in itertools.pairwise(edges))
        return _bytes(array.array("h", means))
    samples = integers(data)
    samples.append(samples[-1] if count else 0)
    new = (
        (samples[at // to] * (to - at % to) + samples[at // to + 1] * (at % to)) // to
        for at in range(0, count * to, rate)
    )
    return _bytes(array.array("h", new))


def _array(kind: str, data: bytes) -> array.array[int]:
    samples = array.array(kind, data)
    if sys.byteorder == "big":
        samples.byteswap()
    return samples


def _bytes(samples: array.array[int]) -> bytes:
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()


def _mulaw(byte: int) -> int:
    byte ^= 0xFF
    size = ((byte & 15) << 3) + 132 << (byte >> 4 & 7)
    return 132 - size if byte & 0x80 else size - 132


def _alaw(byte: int) -> int:
    byte ^= 0x55
    exponent = byte >> 4 & 7
    size = ((byte & 15) << 4) + (264 if exponent else 8) << max(exponent - 1, 0)
    return size if byte & 0x80 else -size


def _table(values: list[int]) -> tuple[bytes, bytes]:
    """Return the low and the high bytes of 256 values."""
    return bytes(v & 255 for v in values), bytes(v >> 8 & 255 for v in values)


def companded(data: bytes, encoding: str) -> bytes:
    """Return s16le samples in a telephone's coding, each as the nearest that it has."""
    levels = integers(as_s16(bytes(range(256)), encoding))
    known = sorted((level, byte) for byte, level in enumerate(levels))
    found: dict[int, int] = {}
    for value in {*integers(data)}:
        at = bisect.bisect(known, (value, 256))
        found[value] = min(known[max(at - 1, 0) : at + 1], key=lambda pair: abs(pair[0] - value))[1]
    return bytes(map(found.__getitem__, integers(data)))


@functools.cache
def _tables() -> dict[str, tuple[bytes, bytes]]:
    return {
        "u8": _table([(byte - 128) << 8 for byte in range(256)]),
        "mulaw": _table([_mulaw(byte) for byte in range(256)]),
        "alaw": _table([_alaw(byte) for byte in range(256)]),
    }
