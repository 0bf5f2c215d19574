"""Waveforms: the peaks of sound, for all kinds of samples."""

from __future__ import annotations

import math
import struct

import pytest

from conversation._export import waveform
from conversation._values.sound import samples_of
from tests.samples import MP3

RAMP = [0.25, -0.5, 0.75, -1.0]
"""The peak of each quarter of the sound that `wav` makes."""


def wav(width: int, *, channels: int = 1, kind: int = 1, extensible: bool = False) -> bytes:
    """Return an integer WAV whose quarters have the peaks `RAMP`, 100 samples each."""
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
def test_each_peak_is_the_loudest_sample_of_its_stretch(
    width: int, channels: int, extensible: bool
) -> None:
    """The peaks are right for samples of one to four bytes, in one channel or two."""
    peaks = waveform.peaks(wav(width, channels=channels, extensible=extensible), "wav", 4)
    assert peaks == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.01)


def test_raw_samples_have_the_same_peaks_as_wav() -> None:
    """Half a sample at the end of `pcm16` is ignored."""
    data = samples_of(wav(2))
    assert waveform.peaks(data + b"\1", "pcm16", 4) == waveform.peaks(wav(2), "wav", 4)


def test_peaks_are_relative_to_the_loudest() -> None:
    """A quiet tone is drawn as high as a loud one; silence stays flat."""
    tone = [round(20 * math.sin(at / 3)) for at in range(600)]
    peaks = waveform.peaks(struct.pack("<600h", *tone), "pcm16", 6)
    assert peaks == pytest.approx([1.0] * 6, abs=0.06)
    assert waveform.peaks(bytes(600), "pcm16", 6) == [0.0] * 6


def test_stretches_without_a_sample_are_silent() -> None:
    """There may be more stretches than samples, or no samples at all."""
    peaks = waveform.peaks(struct.pack("<2h", 100, -50), "pcm16", 4)
    assert peaks is not None
    assert sorted(peaks) == [0.0, 0.0, 0.5, 1.0]
    assert waveform.peaks(b"", "pcm16", 3) == [0.0] * 3


@pytest.mark.parametrize(
    ("data", "audio_format"),
    [(MP3, "mp3"), (b"fLaC", "flac"), (wav(4, kind=2), "wav"), (b"RIFF", "wav"), (b"", None)],
)
def test_formats_that_need_a_decoder_have_no_peaks(data: bytes, audio_format: str | None) -> None:
    """Compressed sound, also in WAV, and broken files give None."""
    assert waveform.peaks(data, audio_format, 4) is None
