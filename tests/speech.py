"""Speech of a synthesizer in the formats of phones and browsers, and how alike sounds are."""

from __future__ import annotations

import array
import functools
import io
import math
import shutil
import subprocess
import tempfile
import wave
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

needs_speech = pytest.mark.skipif(
    not (shutil.which("espeak-ng") and shutil.which("ffmpeg")), reason="needs espeak-ng and ffmpeg"
)

WORDS = "Is a golden retriever a good family dog? Yes, it is."

FORMS = {
    "Ogg/Opus": ("ogg", "-c:a libopus -b:a 24k"),
    "Ogg/Vorbis": ("ogg", "-c:a libvorbis -ar 44100"),
    "Ogg/FLAC": ("ogg", "-c:a flac"),
    "FLAC": ("flac", "-ar 48000 -ac 2"),
    "WebM/Opus": ("webm", "-c:a libopus"),
    "Matroska/AAC": ("matroska", "-c:a aac -ar 48000"),
    "MP4/AAC": ("mp4", "-c:a aac -ar 44100"),
    "MP4/ALAC": ("mp4", "-c:a alac"),
    "fragmented MP4/AAC": ("mp4", "-c:a aac -ar 48000 -movflags frag_keyframe+empty_moov"),
    "QuickTime/PCM": ("mov", "-c:a pcm_s16be"),
    "CAF": ("caf", "-c:a pcm_s16be -ar 44100"),
    "AMR": ("amr", ""),
    "AIFF": ("aiff", "-ac 2"),
    "AU, mu-law": ("au", "-c:a pcm_mulaw -ar 8000"),
    "ADTS AAC": ("adts", "-c:a aac"),
    "WMA": ("asf", "-c:a wmav2 -ar 44100"),
    "W64": ("w64", "-c:a pcm_f32le"),
    "MP2": ("mp2", "-ar 48000"),
    "MP3": ("mp3", "-b:a 32k"),
    "WAV, mu-law": ("wav", "-c:a pcm_mulaw -ar 8000"),
    "WAV, stereo": ("wav", "-c:a pcm_s16le -ar 48000 -ac 2"),
    "WAV, ADPCM": ("wav", "-c:a adpcm_ima_wav"),
}
"""Muxers of ffmpeg, and its options, by what they make."""


@functools.cache
def spoken(words: str = WORDS) -> bytes:
    """Return speech as WAV: mono, 22,050 Hz."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "speech.wav")
        subprocess.run(["espeak-ng", "-w", str(path), words], check=True)
        return path.read_bytes()


@functools.cache
def _in_forms(words: str) -> dict[str, bytes]:
    """Return speech in all forms that ffmpeg makes, by one start of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["ffmpeg", "-v", "error", "-f", "wav", "-i", "-"]
        paths = {}
        for number, (form, (muxer, options)) in enumerate(FORMS.items()):
            if muxer != "amr":
                paths[form] = Path(folder, str(number))
                metadata = ("-metadata", "title=TITLE of 22 characters")
                command += [*options.split(), *metadata, "-f", muxer, str(paths[form])]
        subprocess.run(command, input=spoken(words), check=True)
        return {form: path.read_bytes() for form, path in paths.items()}


@functools.cache
def in_form(form: str, words: str = WORDS) -> bytes:
    """Return speech in one of `FORMS`."""
    return _amr(words) if form == "AMR" else _in_forms(words)[form]


def _amr(words: str) -> bytes:
    """Return AMR, for which Debian's ffmpeg has no encoder."""
    av: Any = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(io.BytesIO(spoken(words))) as source, av.open(file, "w", format="amr") as target:
        stream = target.add_stream("libopencore_amrnb", rate=8_000, layout="mono")
        stream.bit_rate = 12_200
        for frame in source.decode(audio=0):
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return file.getvalue()


def envelope(wav: bytes) -> list[float]:
    """Return the loudness of a mono WAV file in dB, every 20 ms; silence is -60."""
    with wave.open(io.BytesIO(wav)) as file:
        samples, rate = array.array("h", file.readframes(file.getnframes())), file.getframerate()
    edges = [round(i * rate * 0.02) for i in range(int(len(samples) / rate / 0.02) + 1)]
    powers = (sum(x * x for x in samples[a:b]) / (b - a) for a, b in pairwise(edges))
    return [max(-60.0, 10 * math.log10(power / 32768**2 + 1e-9)) for power in powers]


def likeness(one: bytes, other: bytes) -> float:
    """Return the correlation of the envelopes of two mono WAV files, at most 60 ms apart."""
    ones, others = envelope(one), envelope(other)
    shifted = [(ones[n:], others) for n in range(4)] + [(ones, others[n:]) for n in range(1, 4)]
    return max(correlation(*pair) for pair in shifted)


def correlation(ones: list[float], others: list[float]) -> float:
    """Return the correlation of two envelopes, as far as both go."""
    pairs = list(zip(ones, others, strict=False))
    means = [sum(side) / len(pairs) for side in zip(*pairs, strict=True)]
    (xx, yy, xy) = (0.0, 0.0, 0.0)
    for x, y in pairs:
        dx, dy = x - means[0], y - means[1]
        xx, yy, xy = xx + dx * dx, yy + dy * dy, xy + dx * dy
    return xy / math.sqrt(xx * yy)
