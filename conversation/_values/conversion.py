"""Sound of any format: decoded to samples, and encoded, by PyAV (the extra `formats`).

Sound from strangers is hostile. Its format is told by its first bytes alone, never guessed by the
decoder, so that no playlist and no session description is followed; nothing but these bytes is
read; and reading, decoding and resampling are bounded.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import time
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any

from conversation._values import mp3
from conversation._values.sound import (
    PCM_RATE,
    format_of,
    measured,
    name_of,
    no_sound,
    wav_from_pcm,
)
from conversation._values.text import counted
from conversation.errors import UnsupportedAudio

_DEMUXERS = {
    "WAV": "wav",
    "MP3": "mp3",
    "MP2": "mp3",
    "FLAC": "flac",
    "ADTS AAC": "aac",
    "Matroska": "matroska",
    "WebM": "matroska",
    "MP4/M4A": "mov",
    "QuickTime": "mov",
    "CAF": "caf",
    "AMR": "amr",
    "AIFF": "aiff",
    "AU": "au",
    "WMA": "asf",
    "W64": "w64",
    "big-endian WAV (RIFX)": "wav",
} | dict.fromkeys(("Ogg", "Ogg/Opus", "Ogg/Vorbis", "Ogg/FLAC", "Ogg/Speex"), "ogg")
"""Demuxers of PyAV by the formats' names."""

_LINEAR = ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f32be", "f64le", "f64be")
_DECODERS = (
    *(f"pcm_{coding}" for coding in (*_LINEAR, "u8", "s8", "mulaw", "alaw")),
    *("adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "g722", "g726", "gsm", "gsm_ms", "speex"),
    *("opus", "libopus", "vorbis", "flac", "alac", "mp3", "mp3float", "mp2", "mp2float"),
    *("aac", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "ac3", "eac3"),
    *("wmav1", "wmav2", "wmapro", "wmalossless", "wmavoice"),
)
_PREFERRED = {"amrnb": "libopencore_amrnb", "amrwb": "libopencore_amrwb"}
"""Decoders that also know the packets by which telephones tell silence."""

_ENCODERS = {
    "mp3": ("libmp3lame", "mp3", 48_000),
    "opus": ("libopus", "ogg", 48_000),
    "aac": ("aac", "adts", 64_000),
    "flac": ("flac", "flac", None),
}
"""Encoder, muxer, and bits per second of each format that can be made."""

_RATES = range(1_000, 768_001)
_CHANNELS = 8
_LINKS = 500
_WORK = 60.0
"""Seconds of processor time that a file may take; half an hour of speech takes some three."""

_READINGS = 100
"""How often each byte may be read, on average: hostile files send a decoder back and forth."""

_EMPTY = 0.02
"""Seconds for which a packet counts that tells no duration and brings no sound."""


def can_convert(name: str | None) -> bool:
    """Return True for the name of a format that can be decoded."""
    return name in _DEMUXERS


def is_available() -> bool:
    """Return True if PyAV is installed."""
    with contextlib.suppress(ImportError):
        return _pyav("sound") is not None
    return False


def _pyav(what: str) -> Any:
    try:
        return importlib.import_module("av")
    except ImportError as error:
        msg = f"converting {what} needs PyAV, the extra 'formats': pip install '.[formats]'"
        raise ImportError(msg) from error


def converted(data: bytes, to: str, max_seconds: float) -> bytes:
    """Return the sound of a file of any format as mono of 24 kHz.

    Args:
        data: The bytes of the whole file.
        to: `"wav"` or `"mp3"`.
        max_seconds: The longest duration in seconds.

    Raises:
        UnsupportedAudio: if it cannot be decoded, has no sound, or is longer.
        ImportError: if PyAV is missing.
    """
    name = name_of(data)
    if name is None:
        raise UnsupportedAudio(f"this is {no_sound(data)}")
    if name not in _DEMUXERS:
        msg = f"this is {name} ({len(data)} bytes), which is not read here; convert it elsewhere"
        raise UnsupportedAudio(msg)
    av = _pyav(name)
    try:
        pieces = _Decoding(av, data, name, max_seconds).pieces()
        return encoded(pieces, to)
    except UnsupportedAudio:
        raise
    except Exception as error:  # decoders raise whatever they like
        told = " ".join(str(getattr(error, "strerror", None) or error).split())
        msg = f"this {name} file ({len(data)} bytes) is damaged or cut off: {told}"
        raise UnsupportedAudio(msg) from error


def encoded(pieces: Iterable[bytes], audio_format: str) -> bytes:
    """Return 24 kHz mono s16le samples in a format: `"wav"` or a key of `_ENCODERS`."""
    if audio_format == "wav":
        return wav_from_pcm(*pieces)
    av = _pyav(audio_format)
    encoder, muxer, bits = _ENCODERS[audio_format]
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(encoder, rate=PCM_RATE, layout="mono")
        if bits:
            stream.bit_rate = bits
        stream.thread_count = 1
        at = 0
        for piece in pieces:
            frame = av.AudioFrame(format="s16", layout="mono", samples=len(piece) // 2)
            frame.planes[0].update(piece)
            frame.sample_rate, frame.time_base, frame.pts = PCM_RATE, Fraction(1, PCM_RATE), at
            at += frame.samples
            container.mux(stream.encode(frame))
        if at:
            container.mux(stream.encode(None))
    return file.getvalue() if at else b""


_AMR = (13, 14, 16, 18, 20, 21, 27, 32, 6, 1, 1, 1, 1, 1, 1, 1)
_AMR_WIDE = (18, 24, 33, 37, 41, 47, 51, 59, 61, 6, 1, 1, 1, 1, 1, 1)
"""Bytes of a packet by its mode. Those of one byte are silence, which takes long to decode."""


def amr_seconds(data: bytes, most: float) -> float:
    """Return the duration of an AMR file in seconds, at most a little more than `most`."""
    is_wide = data.startswith(b"#!AMR-WB\n")
    sizes, at = (_AMR_WIDE, 9) if is_wide else (_AMR, 6)
    packets = 0
    while at < len(data) and packets <= most * 50:
        at += sizes[data[at] >> 3 & 15]
        packets += 1
    return packets / 50


def ogg_links(data: bytes) -> Iterator[bytes]:
    """Yield the links of an Ogg file, which may follow one another in any coding and rate."""
    begin = at = 0
    was_first = True
    while data.startswith(b"OggS", at) and len(data) > at + 26:
        is_first = bool(data[at + 5] & 2)  # page of a stream
        if is_first and not was_first:
            yield data[begin:at]
            begin = at
        was_first = is_first
        body = at + 27 + data[at + 26]
        at = body + sum(data[at + 27 : body])
    yield data[begin:]


class _Source(io.BytesIO):
    """The bytes of a file, which may be read a bounded number of times."""

    def __init__(self, data: bytes, about: str) -> None:
        super().__init__(data)
        self._about = about
        self._left = _READINGS * len(data) + 1_000_000

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._left -= max(len(data), 512)
        if self._left < 0:
            raise UnsupportedAudio(f"{self._about} sends its reader in circles")
        return data


class _Decoding:
    """One file on its way to samples."""

    def __init__(self, av: Any, data: bytes, name: str, max_seconds: float) -> None:
        self._av = av
        self._name = name
        self._about = f"this {name} file ({len(data)} bytes)"
        self._max_seconds = max_seconds
        self._seconds = 0.0
        self._end = time.thread_time() + _WORK
        if found := format_of(data):
            data, seconds = measured(data, found)
            self._count(seconds or 0)  # before any work, where the head tells
        if name == "AMR":
            self._count(amr_seconds(data, max_seconds))
        self._seconds = 0.0
        if name in ("FLAC", "ADTS AAC"):
            data = data[mp3.end_of_tags(data) :]
        self._data = data
        self._resampler: tuple[object, Any] = (None, None)

    def pieces(self) -> Iterator[bytes]:
        """Yield mono s16le samples of 24 kHz."""
        demuxer = _DEMUXERS[self._name]
        links = ogg_links(self._data) if demuxer == "ogg" else (self._data,)
        for number, link in enumerate(links):
            if number == _LINKS:
                raise UnsupportedAudio(f"{self._about} is a chain of more than {_LINKS} files")
            self._count(0)
            yield from self._pieces_of(link, demuxer)

    def _pieces_of(self, data: bytes, demuxer: str) -> Iterator[bytes]:
        replaces_bad_tags = int(self._av.__version__.partition(".")[0]) >= 19  # whatever one says
        with self._av.open(
            _Source(data, self._about),
            format=demuxer,
            **({} if replaces_bad_tags else {"metadata_errors": "replace"}),
            container_options={
                "format_whitelist": ",".join(set(_DEMUXERS.values())),
                "codec_whitelist": ",".join(_DECODERS),
                "protocol_whitelist": "none",
            },
        ) as container:
            for piece in itertools.chain(self._decoded(container), self._resampled(None)):
                paused = time.thread_time()
                yield piece  # the encoder's time does not count
                self._end += time.thread_time() - paused

    def _decoded(self, container: Any) -> Iterator[bytes]:
        stream = container.streams.best("audio")
        if stream is None:
            raise UnsupportedAudio(f"{self._about} has no sound")
        decoder = self._decoder(stream)
        packets = failed = 0
        for packet in container.demux():
            if packet.stream.index != stream.index:
                self._count(0)
                continue
            packets += 1
            before = self._seconds
            try:
                frames = decoder.decode(packet)
            except self._av.FFmpegError:
                frames = []
                failed += 1
            if packets == 1 and decoder.name == "aac":
                frames = []  # of AAC, the first packet only fills the decoder
            for frame in frames:
                if frame.samples:
                    self._check(frame.sample_rate, frame.layout.nb_channels)
                    self._count(frame.samples / frame.sample_rate)
                    yield from self._resampled(frame)
            if self._seconds == before and packet.size:
                self._count(float((packet.duration or 0) * (packet.time_base or 0)) or _EMPTY)
        if failed > 1 + packets // 10:
            raise UnsupportedAudio(f"{self._about} is damaged: {failed} of {packets} packets")

    def _decoder(self, stream: Any) -> Any:
        context = stream.codec_context
        if context is None or context.name not in _DECODERS:
            found = context.name if context else "unknown"
            raise UnsupportedAudio(f"{self._about} holds sound of a coding not read here: {found}")
        self._check(stream.rate, context.channels)
        preferred = _PREFERRED.get(context.name)
        if preferred in self._av.codecs_available:
            context = self._av.CodecContext.create(preferred, "r")
            context.sample_rate, context.layout = stream.rate, "mono"
        context.thread_count = 1
        return context

    def _check(self, rate: int, channels: int) -> None:
        if rate not in _RATES or not 0 < channels <= _CHANNELS:
            found = f"{counted(channels, 'channel')} of {rate} Hz"
            msg = f"{self._about} has {found}; record mono of 24000 Hz"
            raise UnsupportedAudio(msg)

    def _count(self, seconds: float) -> None:
        self._seconds += seconds
        if self._seconds > self._max_seconds:
            msg = (
                f"{self._about} is longer than max_seconds={self._max_seconds:g}; shorten it, or "
                "raise max_seconds"
            )
            raise UnsupportedAudio(msg)
        if time.thread_time() > self._end:
            raise UnsupportedAudio(f"{self._about} takes more than {_WORK:g} s to decode")

    def _resampled(self, frame: Any) -> Iterator[bytes]:
        kind, resampler = self._resampler
        now = frame and (frame.sample_rate, frame.layout.name, frame.format.name)
        if kind != now:  # a stream may change on its way
            if resampler is not None:
                yield from map(_samples, resampler.resample(None))
            if frame is None:
                self._resampler = (None, None)
                return
            resampler = self._av.AudioResampler(format="s16", layout="mono", rate=PCM_RATE)
            self._resampler = (now, resampler)
        if frame is not None:
            frame.pts = None
            yield from map(_samples, resampler.resample(frame))


def _samples(frame: Any) -> bytes:
    return bytes(frame.planes[0])[: 2 * frame.samples] if frame is not None else b""
