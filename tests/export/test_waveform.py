"""How loud sound is, for all kinds of samples."""

from __future__ import annotations

import math
import struct

import pytest

from conversation._export import waveform
from conversation._values.sound import samples_of
from tests.samples import MP3

RAMP = [0.25, -0.5, 0.75, -1.0]
"""The loudest sample of each quarter."""


def wav(width: int, *, channels: int = 1, kind: int = 1, extensible: bool = False) -> bytes:
    """A WAV file of whole numbers with these four peaks, each once in a hundred samples."""
    samples = b""
    for peak in RAMP:
        for at in range(100):
            value = peak if at == 50 else peak / 4
            number = round(value * (2 ** (8 * width - 1) - 1))
            raw = (number + 128) if width == 1 else number
            samples += raw.to_bytes(width, "little", signed=width > 1) * channels
    head = struct.pack(
        "<HHIIHH", 0xFFFE if extensible else kind, channels, 8000, 8000 * width, width, 8 * width
    )
    if extensible:
        head += struct.pack("<HHIH14s", 22, 8 * width, 0, kind, b"")
    body = b"fmt " + struct.pack("<I", len(head)) + head
    body += b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WAVE" + body


@pytest.mark.parametrize("width", [1, 2, 3, 4])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("extensible", [False, True])
def test_the_loudest_sample_of_each_stretch(width: int, channels: int, extensible: bool) -> None:
    """Of samples of one to four bytes, in one channel or two."""
    peaks = waveform.peaks(wav(width, channels=channels, extensible=extensible), "wav", 4)
    assert peaks == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)


def test_raw_samples_are_drawn_too() -> None:
    """The API's `pcm16`; half a sample at the end is left off."""
    data = samples_of(wav(2))
    assert waveform.peaks(data + b"\1", "pcm16", 4) == waveform.peaks(wav(2), "wav", 4)


def test_quiet_sound_is_drawn_as_high_as_loud_sound() -> None:
    """By its own loudest sample; silence stays flat."""
    tone = [round(20 * math.sin(at / 3)) for at in range(600)]
    peaks = waveform.peaks(struct.pack("<600h", *tone), "pcm16", 6)
    assert peaks == pytest.approx([1.0] * 6, abs=0.06)
    assert waveform.peaks(bytes(600), "pcm16", 6) == [0.0] * 6


def test_less_sound_than_stretches() -> None:
    """Stretches without a sample are silent; no sound is silence."""
    peaks = waveform.peaks(struct.pack("<2h", 100, -50), "pcm16", 4)
    assert peaks is not None
    assert sorted(peaks) == [0.0, 0.0, 0.5, 1.0]
    assert waveform.peaks(b"", "pcm16", 3) == [0.0] * 3


@pytest.mark.parametrize(
    ("data", "audio_format"),
    [(MP3, "mp3"), (b"fLaC", "flac"), (wav(4, kind=3), "wav"), (b"RIFF", "wav"), (b"", None)],
)
def test_what_needs_a_decoder_is_left_to_one(data: bytes, audio_format: str | None) -> None:
    """Coded sound, floating point, and what is none."""
    assert waveform.peaks(data, audio_format, 4) is None
