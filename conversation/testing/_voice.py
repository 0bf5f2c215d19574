"""Sound of the stand-in's answers: a hum for each word, as long as its tokens (CONTRACT §4)."""

from __future__ import annotations

import array
import functools
import sys
import zlib

from conversation._values import conversion
from conversation._values.sound import PCM_RATE, wav_from_pcm

_ENCODED = ("opus", "aac", "flac")
"""Formats that need an encoder."""

VOICES = (
    *("alloy", "ash", "ballad", "coral", "echo", "fable", "nova", "onyx", "sage", "shimmer"),
    *("verse", "marin", "cedar"),
)
"""Built-in voices, of chat models and of the newer speech models."""

OLD_VOICES = ("nova", "shimmer", "echo", "onyx", "fable", "alloy", "ash", "sage", "coral")
"""Voices of `tts-1` and `tts-1-hd`, in the order of their refusal."""

TOKENS_PER_SECOND = 20
"""Audio tokens per second of a spoken answer."""

_TOKENS_PER_WORD = 8
_RATE = PCM_RATE
_WORD_SAMPLES = _RATE * _TOKENS_PER_WORD // TOKENS_PER_SECOND
_HUM_SAMPLES = _WORD_SAMPLES * 3 // 4
_FADE_SAMPLES = _RATE // 100

# Layer III, MPEG 2, 64 kbit/s, 24 kHz, mono; a frame of zeros is 24 ms of silence.
_MP3_FRAME = b"\xff\xf3\x84\xc4" + bytes(188)
_MP3_FRAME_SECONDS = 0.024

_NO_SIZE = b"\xff\xff\xff\xff"
_COMMENT = b"LIST\x1a\0\0\0INFOISFT\x0e\0\0\0Lavf58.76.100\0"


def can_make(audio_format: str) -> bool:
    """Return True for a format that can be made here; some need the extra `formats`."""
    return audio_format not in _ENCODED or conversion.is_available()


def spoken_tokens(text: str) -> int:
    """Return the number of audio tokens of the spoken text."""
    return _TOKENS_PER_WORD * max(1, len(text.split()))


def spoken(text: str, audio_format: str, *, old_wav_head: bool = False) -> bytes:
    """Return the sound of the text, `spoken_tokens(text) / 20` seconds long.

    Args:
        text: Text to speak.
        audio_format: `"wav"`, `"pcm16"`, `"mp3"`, which is silent, or one that needs an encoder.
        old_wav_head: True for the head of WAV files of early 2025, with true sizes.
    """
    pcm = b"".join(_hum(word) for word in text.split() or [""])
    if audio_format == "pcm16":
        return pcm
    if audio_format in _ENCODED:
        return _encoded(pcm, audio_format)
    if audio_format == "mp3":
        return _MP3_FRAME * round(len(pcm) / 2 / _RATE / _MP3_FRAME_SECONDS)
    wav = wav_from_pcm(pcm)
    if not old_wav_head:  # of today, as into a pipe (CONTRACT §1)
        return b"".join((wav[:4], _NO_SIZE, wav[8:40], _NO_SIZE, wav[44:]))
    size = len(wav) - 8 + len(_COMMENT)
    return b"".join((wav[:4], size.to_bytes(4, "little"), wav[8:36], _COMMENT, wav[36:]))


@functools.lru_cache(maxsize=16)
def _encoded(pcm: bytes, audio_format: str) -> bytes:
    return conversion.encoded([pcm], audio_format)


@functools.lru_cache(maxsize=512)
def _hum(word: str) -> bytes:
    loudness, pitch = divmod(zlib.crc32(word.encode()), 120)
    period, peak = 100 + pitch, 4000 + loudness % 4000
    wave = [peak - 4 * peak * min(i, period - i) // period for i in range(period)]
    samples = array.array("h", (wave * (_HUM_SAMPLES // period + 1))[:_HUM_SAMPLES])
    for i in range(_FADE_SAMPLES):
        samples[i] = samples[i] * i // _FADE_SAMPLES
        samples[-1 - i] = samples[-1 - i] * i // _FADE_SAMPLES
    samples.extend([0] * (_WORD_SAMPLES - _HUM_SAMPLES))
    if sys.byteorder == "big":
        samples.byteswap()
    return samples.tobytes()
