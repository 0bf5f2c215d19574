"""Formats of sound: names, durations, cuts, and heads with true sizes."""

from __future__ import annotations

import contextlib
import re
import struct
from typing import TYPE_CHECKING, Literal, get_args

from conversation._values import mp3, wav

if TYPE_CHECKING:
    from collections.abc import Callable

AudioFormat = Literal["wav", "mp3", "flac", "opus", "aac", "pcm16"]
FORMATS: tuple[str, ...] = get_args(AudioFormat)

MEDIA_TYPES = {
    "wav": "audio/wav",
    "mp3": "audio/mpeg",
    "flac": "audio/flac",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "pcm16": "audio/pcm",
}
"""Media types by format."""

PCM_RATE = 24_000
"""Samples per second (Hz) of the API's `pcm16`: mono, signed 16 bit, little-endian."""

_NAMES = {"wav": "WAV", "mp3": "MP3", "flac": "FLAC", "opus": "Ogg/Opus", "aac": "ADTS AAC"}

FRAME = re.compile(rb"\xff[\xe2-\xe5\xf0-\xf5\xf8-\xfd][^\xff]")
"""The beginning of a frame of MP3, MP2 or AAC."""

LONGEST_FRAME = 1729
"""Bytes of the longest of them: MP2 of 384 kbit/s at 32 kHz."""

_BEFORE = re.compile(rb"(?:\xef\xbb\xbf|[\0\t\r\n ]){0,4096}")
"""What programs leave before a WAV file, perhaps behind a tag."""

_CONTROLS = re.compile("[\0-\x08\x0e-\x1f\x7f]")
_OGG_CODECS = {
    b"OpusHead": "Ogg/Opus",
    b"\x01vorbis": "Ogg/Vorbis",
    b"\x7fFLAC": "Ogg/FLAC",
    b"Speex   ": "Ogg/Speex",
}
_SIGNATURES = (
    (0, b"\x1aE\xdf\xa3", "Matroska"),
    (4, b"ftypqt", "QuickTime"),
    (4, b"ftyphe", "HEIC"),
    (4, b"ftypmif1", "HEIC"),
    (4, b"ftypavif", "AVIF"),
    (4, b"ftyp", "MP4/M4A"),
    (4, b"styp", "MP4/M4A"),
    (4, b"moov", "QuickTime"),
    (4, b"mdat", "QuickTime"),
    (4, b"wide", "QuickTime"),
    (0, b"caff", "CAF"),
    (0, b"#!AMR", "AMR"),
    (8, b"AIFF", "AIFF"),
    (8, b"AIFC", "AIFF"),
    (8, b"8SVX", "8SVX"),
    (0, b"FORM", "IFF"),
    (0, b".snd", "AU"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "WMA"),
    (0, b"riff.\x91\xcf\x11", "W64"),
    (0, b"RIFX", "big-endian WAV (RIFX)"),
    (8, b"WEBP", "WebP"),
    (0, b"Creative Voice File", "VOC"),
    (0, b"NIST_1A", "NIST SPHERE"),
    (0, b".SoX", "SoX"),
    (0, b"MThd", "MIDI"),
    (0, b"#!SILK", "SILK"),
    (1, b"#!SILK", "SILK"),
    (0, b"\x7f\xfe\x80\x01", "DTS"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"TTA1", "TTA"),
    (0, b"MPCK", "Musepack"),
    (0, b"DSD ", "DSF"),
    (0, b"\0\0\x01\xba", "MPEG video"),
    (0, b"FLV\1", "Flash video"),
    (0, b".RMF", "RealMedia"),
    (8, b"AVI ", "AVI"),
    (0, b"%PDF", "PDF"),
    (0, b"\x89PNG", "PNG"),
    (0, b"GIF8", "GIF"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"PK\3\4", "ZIP"),
    (0, b"\x1f\x8b\x08", "gzip"),
    (0, b'{"error"', "JSON"),
    (0, b"<!DOCTYPE", "HTML"),
    (0, b"<html", "HTML"),
)
"""Offsets, the bytes that are there, and the formats that they tell."""


def format_of(data: bytes) -> AudioFormat | None:
    """Return the format that the bytes tell; None for raw PCM and unknown formats."""
    if wav.is_wav(data) or wav.is_wav(bare(data)[:12]):
        return "wav"
    if data[:4] == b"OggS":
        return "opus" if _ogg_codec(data) == "Ogg/Opus" else None
    if data.startswith(b"fLaC", mp3.end_of_tags(data)):
        return "flac"
    if _has_frames(data, _aac_size):
        return "aac"
    return "mp3" if _signature(data) is None and mp3.is_mp3(data) else None


def bare(data: bytes) -> bytes:
    """Return a WAV file without what stands before it: tags, blanks; all else as it is."""
    if wav.is_wav(data):
        return data
    found = _BEFORE.match(data, mp3.end_of_tags(data))
    at = found.end() if found else 0
    return data[at:] if at and wav.is_wav(data[at : at + 12]) else data


def name_of(data: bytes) -> str | None:
    """Return the name of the format for people; None for raw PCM and unknown formats."""
    found = format_of(data)
    if found:
        return _NAMES[found]
    if data[:4] == b"OggS":
        return _ogg_codec(data)
    if mp3.is_free_format(data):
        return "MP3 of free bit rate"
    return _signature(data) or ("MP2" if _has_frames(data, _mp2_size) else None)


def no_sound(data: bytes) -> str:
    """Return words for bytes of no known format, and a remedy if they may be samples."""
    if not data:
        return "no sound file: it is empty (0 bytes)"
    found = f"{data[:12]!r}… ({len(data)} bytes)"
    with contextlib.suppress(UnicodeDecodeError):
        if not _CONTROLS.search(data.decode()):
            return f"no sound file but text: {found}"
    return f"no sound file: {found}; use AudioInput.from_pcm(data, rate) for raw samples"


def mpeg_in_wav(data: bytes) -> str | None:
    """Return the name of the MPEG stream behind the head of a WAV file; None if there is none."""
    layout = wav.walked(wav.in_order(bare(data)))
    return layout.mpeg if layout else None


def bytes_of_first_frame(data: bytes) -> int:
    """Return the bytes of the MP3, MP2 or AAC frame that may begin here; 0 if none does."""
    return mp3.size_at(data, 0) or _mp2_size(data, 0) or _aac_size(data, 0)


def _ogg_codec(data: bytes) -> str:
    first = data[:512]
    return next((name for mark, name in _OGG_CODECS.items() if mark in first), "Ogg")


def _signature(data: bytes) -> str | None:
    for at, mark, name in _SIGNATURES:
        if data.startswith(mark, at):
            return "WebM" if name == "Matroska" and b"webm" in data[:64] else name
    return None


def duration_of(data: bytes, audio_format: str | None) -> float | None:
    """Return the seconds of WAV, MP3 and the API's raw PCM; None if only a decoder could tell."""
    if audio_format == "pcm16":
        return len(data) / (2 * PCM_RATE)
    if audio_format == "wav":
        layout = wav.walked(wav.in_order(bare(data)))
        return layout.seconds if layout else None
    return mp3.measured(data)[0] if audio_format == "mp3" else None


def mended(data: bytes) -> bytes:
    """Return a WAV file with true sizes and rates in its head; all else as it is.

    Several that follow one another become one. The same object if nothing is to be mended, else one
    copy. RF64 and BW64 become RIFF.
    """
    data = wav.joined(wav.in_order(bare(data)))
    layout = wav.walked(data)
    return layout.mended(data) if layout else data


def measured(data: bytes, audio_format: str | None) -> tuple[bytes, float | None]:
    """Return sound, mended, and its duration in seconds.

    An MP3 file also loses frames that tell of another length, as those of joined files do.
    """
    if audio_format == "mp3":
        seconds, is_true = mp3.measured(data)
        return data if is_true else mp3.cut(data), seconds
    if audio_format == "wav":
        data = mended(data)
    return data, duration_of(data, audio_format)


def identified(data: bytes, asked: str | None) -> tuple[bytes, str | None]:
    """Return sound and its true format. Raw samples that came instead of WAV get a head.

    Args:
        data: The sound.
        asked: The format that was asked for; raw samples tell none.
    """
    found = format_of(data)
    if found or name_of(data):
        return data, found
    if asked == "wav" and len(data) > 1:
        return wav_from_pcm(data), "wav"
    return data, "pcm16" if asked in MEDIA_TYPES else None


def wav_from_pcm(*pieces: bytes, rate: int = PCM_RATE, channels: int = 1) -> bytes:
    """Return a WAV file of s16le samples, without half a sample at the end."""
    size = sum(map(len, pieces))
    rest = size % (2 * channels)
    size -= rest
    header = struct.pack(
        "<4sI8sIHHIIHH4sI", b"RIFF", 36 + size, b"WAVEfmt ", 16, 1, channels, rate,
        2 * channels * rate, 2 * channels, 16, b"data", size,
    )  # fmt: skip
    file = b"".join((header, *pieces))
    return file[:-rest] if rest else file


def cut(data: bytes, audio_format: str | None, seconds: float) -> bytes:
    """Return the first seconds of WAV, MP3 and raw PCM; formats that need a decoder stay whole."""
    if not seconds:
        return b""
    if audio_format == "pcm16":
        return data[: round(seconds * PCM_RATE) * 2]
    if audio_format == "wav":
        data = wav.in_order(bare(data))
        layout = wav.walked(data)
        return layout.cut(data, seconds) if layout and layout.seconds else data
    return mp3.cut(data, seconds) if audio_format == "mp3" else data


def samples_of(data: bytes) -> bytes:
    """Return the samples in a WAV file, or in the beginning of one."""
    data = wav.in_order(bare(data))
    layout = wav.walked(data)
    return data[layout.start : layout.start + layout.size] if layout else b""


def _has_frames(data: bytes, size_at: Callable[[bytes, int], int]) -> bool:
    """Return True if frames follow one another from the beginning, or behind the rest of one.

    One header is only eleven set bits, which quiet PCM has too; two in a row are none.
    """
    start = mp3.end_of_tags(data)
    for match in FRAME.finditer(data, start, start + LONGEST_FRAME):
        first = at = match.start()
        if first > start and mp3.is_periodic(data, first, size_at(data, first)):
            continue
        for more in (1, 0) if first == start else (2, 1, 0):
            size = size_at(data, at)
            if not size or not mp3.is_like(data, first, at):
                break
            at += size
            if at == len(data) and more < 2:
                return True
        else:
            return True
    return False


def _mp2_size(data: bytes, at: int) -> int:
    return mp3.size_at(data, at, "II")


def _aac_size(data: bytes, at: int) -> int:
    """Return the bytes of the ADTS frame that begins at `at`; 0 if none does."""
    header = data[at : at + 6]
    if len(header) < 6 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    size = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return size if size >= 7 else 0
