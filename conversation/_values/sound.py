"""Formats and durations of sound, cutting it, and WAV files of raw PCM."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Callable

AudioFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"]
FORMATS: tuple[str, ...] = get_args(AudioFormat)

PCM_RATE = 24_000
"""Samples per second (Hz) of the API's `pcm16`: mono, signed 16 bit, little-endian."""

# MPEG audio layer III, kbit/s by the header's four bits: version 1, then versions 2 and 2.5.
_BITRATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}


def format_of(data: bytes) -> AudioFormat | None:
    """Return the format that the bytes tell; None for raw PCM and unknown formats."""
    if data[:4] in (b"RIFF", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"fLaC":
        return "flac"
    if data[:4] == b"OggS":
        return "opus"
    if _starts_a_chain(data, 0, _aac_frame):
        return "aac"
    if _starts_a_chain(data, _mp3_start(data), _mp3_frame):
        return "mp3"
    return None


def duration_of(data: bytes, audio_format: str | None) -> float | None:
    """Return the seconds of WAV, MP3 and the API's raw PCM; None if only a decoder could tell."""
    if audio_format == "pcm16":
        return len(data) / (2 * PCM_RATE)
    if audio_format == "wav":
        return _wav_duration(data)
    if audio_format == "mp3":
        return _mp3_duration(data)
    return None


def wav_from_pcm(*pieces: bytes, rate: int = PCM_RATE) -> bytes:
    """Return a WAV file of mono s16le samples, without half a sample at the end."""
    size = sum(map(len, pieces))
    half = size % 2
    size -= half
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, 1, rate, rate * 2, 2, 16,
        b"data", size,
    )  # fmt: skip
    wav = b"".join((header, *pieces))
    return wav[:-1] if half else wav


def joined(pieces: list[bytes]) -> bytes:
    """Return the pieces of a stream as one file: WAV if they are raw PCM or a WAV file each."""
    if len(pieces) > 1 and all(format_of(piece) == "wav" for piece in pieces):
        samples = [samples_of(piece) for piece in pieces]
        whole = [piece for piece, heard in zip(pieces, samples, strict=True) if heard]
        if whole:
            return _with_samples(whole[0], b"".join(samples))
    # A long piece tells the format as well as all of them, and joining them takes time.
    head = pieces[0] if pieces and len(pieces[0]) > 4096 else b"".join(pieces)
    return b"".join(pieces) if not head or format_of(head) else wav_from_pcm(*pieces)


def cut(data: bytes, audio_format: str | None, seconds: float) -> bytes:
    """Return the first seconds of WAV, MP3 and raw PCM; formats that need a decoder stay whole."""
    if not seconds:
        return b""
    if audio_format == "pcm16":
        return data[: round(seconds * PCM_RATE) * 2]
    if audio_format == "wav":
        return _cut_wav(data, seconds)
    if audio_format == "mp3":
        at = start = _mp3_start(data)
        while seconds > 0 and (frame := _mp3_frame(data, at)):
            at += frame[0]
            seconds -= frame[1]
        return data[:at] if at > start else data
    return data


def _cut_wav(data: bytes, seconds: float) -> bytes:
    start, size, bytes_per_second = _wav_layout(data)
    if start > len(data):
        return data
    at = data.find(b"fmt ")
    frame = int.from_bytes(data[at + 20 : at + 22], "little") or 1
    length = min(size, round(seconds * bytes_per_second) // frame * frame)
    return _with_samples(data, data[start : start + length])


def _with_samples(wav: bytes, samples: bytes) -> bytes:
    """Return a WAV file with the header of another."""
    start = _wav_layout(wav)[0]
    head = bytearray(wav[:start])
    head[:4] = b"RIFF"  # RF64 keeps its sizes elsewhere
    head[4:8] = (start - 8 + len(samples)).to_bytes(4, "little")
    head[start - 4 : start] = len(samples).to_bytes(4, "little")
    return bytes(head) + samples


def samples_of(wav: bytes) -> bytes:
    """Return the samples in a WAV file, or in the beginning of one."""
    start, size, _ = _wav_layout(wav)
    return wav[start : start + size]


def _wav_duration(data: bytes) -> float | None:
    start, size, bytes_per_second = _wav_layout(data)
    return size / bytes_per_second if bytes_per_second and start <= len(data) else None


def _wav_layout(data: bytes) -> tuple[int, int, int]:
    """Return the offset of the samples (past the end if none), their size, and bytes per second."""
    # Not by `wave`: it refuses sizes of 0 or 2**32-1, which writers into a pipe leave.
    at, bytes_per_second = 12, 0
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if kind == b"fmt ":
            bytes_per_second = int.from_bytes(data[at + 8 : at + 12], "little")
        elif kind == b"data":
            there = len(data) - at
            return at, min(size, there) or there, bytes_per_second
        at += size + size % 2
    return len(data) + 1, 0, bytes_per_second


def _mp3_start(data: bytes) -> int:
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:
            size = size << 7 | byte & 0x7F
        at += size + (20 if data[at + 5] & 0x10 else 10)
    padding = data[at : at + 4096]
    return at + len(padding) - len(padding.lstrip(b"\0"))


def _starts_a_chain(
    data: bytes, at: int, frame_at: Callable[[bytes, int], tuple[int, float] | None]
) -> bool:
    # One frame header is only eleven set bits, which quiet PCM has too; two in a row are none.
    frame = frame_at(data, at)
    if frame is None:
        return False
    end = at + frame[0]
    return end == len(data) or data[end : end + 3] == b"TAG" or frame_at(data, end) is not None


def _aac_frame(data: bytes, at: int) -> tuple[int, float] | None:
    """Return the bytes of the ADTS frame that begins at `at`; its duration is not needed."""
    header = data[at : at + 6]
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return None
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return (size, 0.0) if size >= 7 else None


def _mp3_frame(data: bytes, at: int) -> tuple[int, float] | None:
    """Return the bytes and seconds of the layer III frame that begins at `at`."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return None
    version, rate_index = header[1] >> 3 & 3, header[2] >> 2 & 3
    bitrate = _BITRATES[version != 3][header[2] >> 4]
    if version == 1 or rate_index == 3 or not bitrate:
        return None
    rate = _SAMPLE_RATES[version][rate_index]
    samples = 1152 if version == 3 else 576
    return samples // 8 * bitrate * 1000 // rate + (header[2] >> 1 & 1), samples / rate


def _mp3_duration(data: bytes) -> float | None:
    at, seconds = _mp3_start(data), 0.0
    while frame := _mp3_frame(data, at):
        size, length = frame
        at += size
        seconds += length
    return seconds or None
