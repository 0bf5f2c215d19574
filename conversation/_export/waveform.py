"""Waveforms of uncompressed sound; other formats need a decoder."""

from __future__ import annotations

from conversation._values import wav
from conversation._values.samples import as_s16, integers


def peaks(data: bytes, audio_format: str | None, count: int) -> list[float] | None:
    """Return the peaks of `count` stretches of equal length, relative to the loudest of them.

    Args:
        data: WAV, or raw `pcm16`.
        audio_format: Its format.
        count: Number of stretches.

    Returns:
        Numbers from 0 to 1; None if the format needs a decoder.
    """
    encoding: str | None = "s16le"
    if audio_format == "wav" and (layout := wav.walked(data)):
        encoding, data = layout.encoding, data[layout.start : layout.start + layout.size]
    elif audio_format != "pcm16":
        return None
    if encoding is None:
        return None
    samples = integers(as_s16(data, encoding))
    found = []
    for number in range(count):
        stretch = samples[len(samples) * number // count : len(samples) * (number + 1) // count]
        highest, lowest = max(stretch, default=0), min(stretch, default=0)
        found.append(max(highest, -lowest))
    loudest = max(found, default=0) or 1
    return [peak / loudest for peak in found]
