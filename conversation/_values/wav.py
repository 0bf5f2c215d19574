"""WAV files: one walk over the chunks tells the coding, the samples, and a head that is true."""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Iterator, Sequence

import attrs

log = logging.getLogger("conversation")

_IDS = (b"RIFF", b"RF64", b"BW64")
_INTEGERS, _FLOATS, _EXTENSIBLE = 1, 3, 0xFFFE
_CODINGS = {6: "alaw", 7: "mulaw"}
_MS_ADPCM, _IMA_ADPCM, _GSM = 2, 0x11, 0x31
_WITHOUT_END = 0x7FFFF000
"""Writers into a pipe leave a size of 0, or one between this and 2**32-1."""

_LARGEST = 2**32 - 1
_MOST_CHUNKS = 4096
_CHUNK = re.compile(rb"[ -~]{4}.{4}", re.DOTALL)

CHUNKS_BEHIND = (
    *(b"LIST", b"INFO", b"fact", b"cue ", b"smpl", b"inst", b"bext", b"iXML", b"axml", b"chna"),
    *(b"id3 ", b"ID3 ", b"PEAK", b"JUNK", b"junk", b"PAD ", b"cart", b"DISP", b"_PMX", b"C2PA"),
)
"""Chunks that may stand behind the samples of a WAV file."""

_FILE = re.compile(rb"WAVE(?<=(?:RIFF|RF64|BW64).{4}WAVE)", re.DOTALL)  # the quickest form
_BEHIND = re.compile(b"|".join(CHUNKS_BEHIND))
_KNOWN = re.compile(b"fmt |data|" + _BEHIND.pattern)
_NO_SAMPLES = re.compile(rb"\0{1,4096}+\Z|TAG|ID3|APETAGEX|LYRICSBEGIN|" + _BEHIND.pattern)
_NEAR_END = 2**18  # bytes in which chunks are looked for if the size of the samples is unknown
_MOST_SILENCE = 2**26  # bytes that a file may have instead of silence


@attrs.frozen
class Wav:
    """Layout of a WAV file (RIFF, RF64 or BW64), or of the beginning of one.

    Sizes and rates in the head are not trusted: recorders get them wrong.

    Attributes:
        head: Everything before the samples, as it came.
        size: Bytes of samples that are there.
        declared: Bytes of samples by the head; None if it tells none.
        end: Offset behind the last chunk, in the bytes that were walked.
        coding: Tag of the coding, such as 1 for integers.
        channels: Number of channels.
        rate: Samples per second (Hz).
        block: Bytes of a frame (a sample of each channel), or of a compressed block.
        byte_rate: Bytes per second by the head.
        fact: Frames by the `fact` chunk; 0 without one.
        fmt_at: Offset of the format in the head.
        fact_at: Offset of the number of frames in the head; 0 without one.
    """

    head: bytes = attrs.field(repr=False)
    size: int
    declared: int | None
    end: int
    coding: int
    channels: int
    rate: int
    block: int
    byte_rate: int
    fact: int
    fmt_at: int
    fact_at: int

    @property
    def start(self) -> int:
        """Offset of the samples."""
        return len(self.head)

    @property
    def encoding(self) -> str | None:
        """The coding by its name in `samples.WIDTHS`; None if it is not read there."""
        width = self.block // self.channels
        if self.coding == _INTEGERS:
            return {1: "u8", 2: "s16le", 3: "s24le", 4: "s32le"}.get(width)
        if self.coding == _FLOATS:
            return {4: "f32le", 8: "f64le"}.get(width)
        return _CODINGS.get(self.coding)

    @property
    def mpeg(self) -> str | None:
        """The format of an MPEG stream that stands for samples; None if none does."""
        return {0x50: "MP2", 0x55: "MP3"}.get(self.coding)

    @property
    def seconds(self) -> float | None:
        """Duration in seconds; None if the head tells no rate."""
        return self.frames / self.rate if self.rate and self.frames else None

    @property
    def frames(self) -> int:
        """Number of samples of each channel."""
        most = self._frames_in(self.size)
        if self._is_linear or not 0 < self.fact < _LARGEST:
            return most
        return min(self.fact, most) if self._frames_per_block else self.fact

    @property
    def _is_linear(self) -> bool:
        return self.coding in (_INTEGERS, _FLOATS, *_CODINGS)

    @property
    def _frames_per_block(self) -> int:
        if self._is_linear:
            return 1
        per_channel = self.block // self.channels
        if self.coding == _MS_ADPCM:
            return max(0, 2 * per_channel - 12)
        if self.coding == _IMA_ADPCM:
            return max(0, 2 * per_channel - 7)
        return 320 if self.coding == _GSM else 0

    def _frames_in(self, size: int) -> int:
        if self._frames_per_block:
            return size // self.block * self._frames_per_block
        return size * self.rate // self.byte_rate if self.byte_rate else 0

    def is_like(self, other: Wav) -> bool:
        """Return True if the samples of both can stand in one file."""
        mine = (self.coding, self.channels, self.rate, self.block)
        return mine == (other.coding, other.channels, other.rate, other.block)

    def mended(self, data: bytes) -> bytes:
        """Return the file with a true head: the same object if it is, else one copy."""
        size, end = self.size, self.end
        if self.declared != size:
            # Of a file that was cut off, or never finished, whole frames are kept.
            size -= size % self.block if self._is_linear else 0
            end = self.start + size
        head = self._head(size, end - self.start, self.frames)
        if head == self.head or end > _LARGEST:
            return data
        return b"".join((head, memoryview(data)[self.start : end]))

    def with_samples(self, *pieces: bytes | memoryview) -> bytes:
        """Return a file with this head and other samples."""
        size = sum(map(len, pieces))
        return b"".join((self._head(size, size, self._frames_in(size)), *pieces))

    def cut(self, data: bytes, seconds: float) -> bytes:
        """Return the first seconds of the file, without the chunks behind its samples."""
        per_block, frames = self._frames_per_block, round(seconds * self.rate)
        length = -(-frames // per_block) * self.block if per_block else 0
        if not per_block:  # cut in proportion
            length = int(self.size * seconds / (self.seconds or seconds))
            length -= length % (self.block or 1)
        if length >= self.size:
            frames, length = self.frames, self.size
        samples = memoryview(data)[self.start : self.start + length]
        return b"".join((self._head(length, length, min(frames, self.frames)), samples))

    def _head(self, size: int, length: int, frames: int) -> bytes:
        """Return the head for `size` bytes of samples, with the chunks behind `length` bytes."""
        head = bytearray(self.head)
        if head[:4] != b"RIFF":  # RF64 keeps its sizes in a chunk of its own
            head[:4], head[12:16] = b"RIFF", b"JUNK" if head[12:16] == b"ds64" else head[12:16]
        if self._is_linear:
            byte_rate, block = min(self.rate * self.block, _LARGEST), min(self.block, 0xFFFF)
            fields = (self.channels, self.rate, byte_rate, block)
            struct.pack_into("<HIIH", head, self.fmt_at + 2, *fields)
            bits = int.from_bytes(head[self.fmt_at + 14 : self.fmt_at + 16], "little")
            if self.coding == _INTEGERS and (bits + 7) // 8 * self.channels != self.block:
                bits = min(8 * self.block // self.channels, 0xFFFF)
                struct.pack_into("<H", head, self.fmt_at + 14, bits)
        if self.fact_at:
            struct.pack_into("<I", head, self.fact_at, min(frames, _LARGEST))
        struct.pack_into("<I", head, 4, min(self.start - 8 + length, _LARGEST))
        struct.pack_into("<I", head, self.start - 4, min(size, _LARGEST))
        return bytes(head)


def is_wav(data: bytes) -> bool:
    """Return True if the bytes begin as a WAV file does."""
    return data[:4] in _IDS and data[8:12] == b"WAVE"


def may_be_wav(data: bytes) -> bool:
    """Return True if the bytes are too few to say that they begin no WAV file."""
    return len(data) < 12 and any(kind.startswith(data[:4]) for kind in _IDS)


def in_order(data: bytes) -> bytes:
    """Return a WAV file with one chunk of samples behind a whole format; the same if it is so.

    The format may stand behind the samples, or lack its number of bits; the samples may lie in a
    list of pieces and silences (`wavl`); chunks of an odd size before them may not be padded.
    """
    fmt, is_plain, samples, gaps = b"", True, list[tuple[bytes, int, int]](), [0]
    for kind, at, size in _chunks(data):
        if kind == b"fmt ":
            fmt = fmt or data[at : at + size]
        if kind in (b"data", b"slnt"):
            samples.append((kind, at, size))
            if is_plain and len(fmt) > 15:
                pieces = zip(gaps, [*gaps[1:], None], strict=True)
                return b"\0".join(data[a:b] for a, b in pieces) if gaps[1:] else data
        elif kind == b"wavl":
            is_plain = False
        elif size % 2 and _behind(data, at, size) == at + size:
            gaps.append(at + size)
    if len(fmt) < 14 or not samples:
        return data
    return _rebuilt(data, fmt, samples) or data


def _rebuilt(data: bytes, fmt: bytes, samples: Sequence[tuple[bytes, int, int]]) -> bytes | None:
    """Return a file of a format, and of samples and silences; None if those are absurdly long."""
    coding, channels, _, _, block = _coding(fmt)
    if len(fmt) == 14:
        fmt += struct.pack("<H", min(8 * block // channels, 0xFFFF))
    silence = {6: b"\xd5", 7: b"\xff", 1: b"\x80" if block == channels else b"\0"}.get(
        coding, b"\0"
    )
    parts, left = list[bytes | memoryview](), _MOST_SILENCE
    for kind, at, size in samples:
        if kind == b"data":
            parts.append(memoryview(data)[at : at + size])
            continue
        count = int.from_bytes(data[at : at + 4], "little") * block
        if count > left:
            return None
        left -= count
        parts.append(silence * count)
    size = min(sum(map(len, parts)), _LARGEST)
    head = (b"WAVEfmt ", struct.pack("<I", len(fmt)), fmt, b"\0" * (len(fmt) % 2), b"data")
    told = struct.pack("<I", min(sum(map(len, head)) + 4 + size, _LARGEST))
    return b"".join((b"RIFF", told, *head, struct.pack("<I", size), *parts))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, offset and size of all chunks, also of those in a list of samples (`wavl`)."""
    at = 12
    for _ in range(_MOST_CHUNKS if is_wav(data) else 0):
        if at + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8
        if kind == b"LIST" and data.startswith(b"wavl", at):
            yield b"wavl", at, size
            at += 4
            continue
        yield kind, at, size
        at = _behind(data, at, size)


def _behind(data: bytes, at: int, size: int) -> int:
    """Return the offset behind a chunk; some programs do not pad those of an odd size."""
    at += size
    return at + (size % 2 and not _KNOWN.match(data, at))


def joined(data: bytes) -> bytes:
    """Return WAV files that follow one another, and raw samples behind them, as one file.

    Samples in another coding or rate than the first are left out. The same object if nothing that
    could be joined stands behind the first file.
    """
    first = layout = walked(data)
    pieces: list[memoryview] = []
    at = 0
    while first and layout:
        begin = at + layout.start
        end = begin + layout.size
        at = next_file(data, layout.end)
        more = list(_more_samples(data, layout.end, at))
        if layout is first and not more and not is_wav(data[at : at + 12]):
            return data
        runs = [(begin, end), *more]
        if more and more[0][0] == end:  # perhaps in the middle of a frame
            runs = [(begin, more[0][1]), *more[1:]]
        if layout.is_like(first):
            pieces += [memoryview(data)[a : b - (b - a) % layout.block] for a, b in runs]
        else:
            log.warning("skipping sound in another coding or rate than that of the first file")
        layout = walked(data, at)
    return first.with_samples(*pieces) if first else data


def _more_samples(data: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where samples stand behind those of a file: in more chunks, or raw."""
    while data.startswith(b"data", at) and at + 8 < end:
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        behind = min(at + 8 + size, end)
        yield at + 8, behind
        at = min(_end_of_chunks(data, _behind(data, at + 8, size)), end)
    if at < end and not _NO_SAMPLES.match(data, at, end):
        yield at, end_of_samples(data, at, end)


def next_file(data: bytes, at: int) -> int:
    """Return the offset of the next WAV file, the end of the data if there is none."""
    found = _FILE.search(data, at + 8)
    return found.start() - 8 if found else len(data)


def end_of_samples(data: bytes, start: int, end: int) -> int:
    """Return the offset behind samples of unknown size: chunks may follow up to the end."""
    ends = {end}
    for match in reversed(list(_BEHIND.finditer(data, max(start, end - _NEAR_END), end))):
        size = int.from_bytes(data[match.end() : match.end() + 4], "little")
        behind = match.end() + 4 + size
        if behind in ends or behind + size % 2 in ends:
            ends.add(match.start())
    return min(ends)


def walked(data: bytes, at: int = 0) -> Wav | None:
    """Return the layout of the WAV file that begins at `at`.

    None if it ends before its samples, or has no format.
    """
    chunks = dict(_chunks_to_samples(data, at + 12)) if is_wav(data[at : at + 12]) else {}
    fmt_at, fmt_size = chunks.get(b"fmt ", (0, 0))
    if b"data" not in chunks or fmt_size < 14:
        return None
    start, told = chunks[b"data"]
    if told == _LARGEST and b"ds64" in chunks:
        told = int.from_bytes(data[chunks[b"ds64"][0] + 8 :][:8], "little")
    there = len(data) - start
    padding = told % 2 and data[start + told : start + told + 1] == b"\0"
    behind = _end_of_chunks(data, start + told + padding)
    is_told = 0 < told < _WITHOUT_END or 0 < told <= there
    size = told
    if not is_told or told > there:
        is_empty = told == 0 and behind == len(data)  # chunks follow, and no samples
        behind = next_file(data, start)
        size = 0 if is_empty else end_of_samples(data, start, behind) - start
    coding, channels, rate, byte_rate, block = _coding(data[fmt_at : fmt_at + fmt_size])
    fact_at, fact_size = chunks.get(b"fact", (0, 0))
    fact_at = fact_at if fact_size >= 4 else 0
    return Wav(
        head=data[at:start],
        size=size,
        declared=told if is_told else None,
        end=behind,
        coding=coding,
        channels=channels,
        rate=rate,
        block=block,
        byte_rate=byte_rate,
        fact=int.from_bytes(data[fact_at : fact_at + 4], "little") if fact_at else 0,
        fmt_at=fmt_at - at,
        fact_at=fact_at and fact_at - at,
    )


def _chunks_to_samples(data: bytes, at: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """Yield kind, offset and size of the chunks from `at` up to that of the samples."""
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            return
        kind, size = struct.unpack_from("<4sI", data, at)
        at += 8
        yield kind, (at, size)
        if kind == b"data":
            return
        at = _behind(data, at, size)


def _coding(fmt: bytes) -> tuple[int, int, int, int, int]:
    """Return coding, channels, rate, byte rate and block of the `fmt` chunk."""
    coding, channels, rate, byte_rate, block = struct.unpack_from("<HHIIH", fmt)
    if coding == _EXTENSIBLE:
        coding = int.from_bytes(fmt[24:26], "little") or _INTEGERS  # the GUID begins with it
    channels = channels or 1
    bits = int.from_bytes(fmt[14:16], "little")
    if coding in _CODINGS:
        block = channels
    elif coding in (_INTEGERS, _FLOATS) and bits:
        least = channels * ((bits + 7) // 8)
        # Fewer bits than their place has are believed only if the byte rate says the same.
        is_wide = least < block <= 8 * channels and not block % channels
        block = block if is_wide and byte_rate == rate * block else least
    block = block or 1
    return coding, channels, rate or byte_rate // block, byte_rate, block


def _end_of_chunks(data: bytes, at: int) -> int:
    """Return the offset behind the chunks that begin at `at`, before more samples or a file."""
    for _ in range(_MOST_CHUNKS):
        if not _CHUNK.match(data, at) or data.startswith(b"data", at) or is_wav(data[at : at + 12]):
            break
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + size > len(data):
            break
        at = min(_behind(data, at + 8, size), len(data))
    return at
