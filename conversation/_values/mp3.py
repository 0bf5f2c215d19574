"""MP3: one walk from frame to frame, over tags and junk, tells the sound and its length."""

from __future__ import annotations

import functools
import math
import re
import struct
from collections.abc import Iterator
from typing import TypeAlias

_LOW = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
# kbit/s by the header's four bits: MPEG version 1, then versions 2 and 2.5.
_BITRATES = {
    "III": ((0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0), _LOW),
    "II": ((0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 0), _LOW),
}
_LAYERS = {2: "III", 4: "II"}
_SAMPLE_RATES = {
    3: (44_100, 48_000, 32_000),
    2: (22_050, 24_000, 16_000),
    0: (11_025, 12_000, 8_000),
}

_BEGINNING = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")
_FREE = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x00-\x0b]")
_LONGEST_FREE = 5766  # of 640 kbit/s
_TAGS = (b"ID3", b"TAG", b"APETAGEX")
_MARKS = (b"Xing", b"Info", b"VBRI")

_JUNK = 4096
"""Bytes in which a file without a tag has to begin; a frame has at most 1,441."""

_JUNK_BEHIND_TAG = 65_536
_MOST_TRIES = 100_000

_Info: TypeAlias = tuple[int, int, int]
"""Number of frames (0 if not told), and samples that the encoder put in front and behind."""

Frame: TypeAlias = tuple[int, int, int, int, _Info | None]
"""Offset, bytes, samples of each channel, and samples per second (Hz).

The last is None for sound, and what a frame that holds none tells about the others.
"""


@functools.cache
def _frame(second: int, third: int) -> tuple[int, int, int, str] | None:
    """Return bytes, samples, rate and layer of a frame, by two bytes of its header."""
    version, rate_index, layer = second >> 3 & 3, third >> 2 & 3, _LAYERS.get(second & 6)
    bitrate = _BITRATES[layer][version != 3][third >> 4] if layer else 0
    if second & 0xE0 != 0xE0 or version == 1 or rate_index == 3 or not bitrate or not layer:
        return None
    rate = _SAMPLE_RATES[version][rate_index]
    samples = 1152 if version == 3 or layer == "II" else 576
    return samples // 8 * bitrate * 1000 // rate + (third >> 1 & 1), samples, rate, layer


def _frame_at(data: bytes, at: int, layer: str = "III") -> tuple[int, int, int] | None:
    if at + 3 >= len(data) or data[at] != 0xFF:
        return None
    frame = _frame(data[at + 1], data[at + 2])
    return frame[:3] if frame and frame[3] == layer else None


def size_at(data: bytes, at: int, layer: str = "III") -> int:
    """Return the bytes of the frame that begins at `at`; 0 if none does."""
    frame = _frame_at(data, at, layer)
    return frame[0] if frame else 0


def is_mp3(data: bytes) -> bool:
    """Return True if the bytes begin as an MP3 file does, perhaps behind tags and some junk."""
    return next(frames(data, _JUNK), None) is not None


def end_of_tags(data: bytes, at: int = 0) -> int:
    """Return the offset behind the tags that begin at `at`: ID3 and APEv2."""
    while size := _tag_size(data[at : at + 32]):
        at += size
    return at


def _tag_size(head: bytes) -> int:
    if head[:3] == b"ID3" and len(head) > 9 and max(head[6:10]) < 0x80:
        size = 0
        for byte in head[6:10]:
            size = size << 7 | byte
        return size + (20 if head[5] & 0x10 else 10)
    if head[:8] == b"APETAGEX" and len(head) > 31:
        return int.from_bytes(head[12:16], "little") + 32
    return 128 if head[:3] == b"TAG" else 0


def frames(data: bytes, within: int | None = None) -> Iterator[Frame]:
    """Yield the whole frames of a file.

    Where no frame follows another, the next is searched: it has to be followed by one of its kind.

    Args:
        data: The bytes.
        within: Bytes in which the first has to begin, if there is no tag before it.
    """
    marks, mark = _marks(data), -1.0
    at, is_synchronous, tries = 0, False, 0
    while at < len(data):
        frame = _frame_at(data, at)
        if (
            frame
            and (end := at + frame[0]) <= len(data)
            and (is_synchronous or _is_followed(data, at, 1))
        ):
            while mark < at:
                mark = next(marks, math.inf)
            yield at, *frame, _info(data, at) if mark < end else None
            at, is_synchronous, within = end, True, None
            continue
        is_synchronous = False
        if (behind := end_of_tags(data, at)) > at:
            at = behind
            within = within and at + _JUNK_BEHIND_TAG
            continue
        for match in _BEGINNING.finditer(data, at + 1, within or len(data)):
            at = match.start()
            # Without a tag two frames may be chance.
            if _is_followed(data, at, 2 if within == _JUNK else 1) and not (
                within == _JUNK and is_periodic(data, at, size_at(data, at))
            ):
                break
            tries += 1
            if tries > _MOST_TRIES:
                return
        else:
            return


def _marks(data: bytes) -> Iterator[int]:
    """Yield where a frame may tell about others, which is far quicker than to look into each."""
    yield from sorted(match.start() for mark in _MARKS for match in re.finditer(mark, data))


def _is_followed(data: bytes, at: int, count: int) -> bool:
    """Return True if a frame is followed by others of its kind, or the last by the end or a tag."""
    for left in range(count, 0, -1):
        frame = _frame_at(data, at)
        end = at + frame[0] if frame else len(data) + 1
        if left == 1 and (end == len(data) or data.startswith(_TAGS, end)):
            return True
        if end + 3 > len(data) or data[end] != 0xFF:
            return False
        if not is_like(data, at, end):
            return False
        at = end
    return _frame_at(data, at) is not None


def is_free_format(data: bytes) -> bool:
    """Return True for frames that tell no bit rate, so that each has to be searched for."""
    at = end_of_tags(data)
    header = data[at : at + 4]
    if len(header) < 4 or not _FREE.match(header):
        return False
    first = bytes((header[2] & 0xFD,)), bytes((header[2] | 2,))  # without padding, and with it
    second = re.compile(re.escape(header[:2]) + b"[" + b"".join(map(re.escape, first)) + b"]")
    found = second.search(data, at + 24, at + _LONGEST_FREE)
    step = found.start() - at if found else 0
    return bool(step) and any(second.match(data, at + 2 * step + more) for more in (-1, 0, 1))


def is_periodic(data: bytes, at: int, size: int) -> bool:
    """Return True if bytes that may be a frame come again at once: rather samples of a tone."""
    frame = data[at : at + size]
    return data.startswith(frame, at + size) and len(set(frame)) > 20  # silence has few values


def is_like(data: bytes, at: int, other: int) -> bool:
    """Return True if two headers tell the same version, layer and rate."""
    differs = (data[at + 1] ^ data[other + 1]) & 0xFE or (data[at + 2] ^ data[other + 2]) & 0x0C
    return not differs


def _info(data: bytes, at: int) -> _Info | None:
    """Return the information in a frame of Xing, LAME or Fraunhofer, None if it holds sound."""
    sides = (17, 32) if data[at + 1] & 0x18 == 0x18 else (9, 17)  # of mono, and of two channels
    mark = at + 4 + sides[data[at + 3] & 0xC0 != 0xC0]
    if data.startswith(b"VBRI", at + 36):
        return int.from_bytes(data[at + 50 : at + 54], "big"), 0, 0
    if not data.startswith((b"Xing", b"Info"), mark):
        return None
    flags, expected = struct.unpack(">II", data[mark + 4 : mark + 12].ljust(8, b"\0"))
    # Behind the flags: frames, bytes, a table of 100 bytes and quality, each where its flag is set.
    encoder = mark + 8 + sum(n for bit, n in enumerate((4, 4, 100, 4)) if flags >> bit & 1)
    added = 0
    if data.startswith((b"LAME", b"Lavf", b"Lavc"), encoder):
        added = int.from_bytes(data[encoder + 21 : encoder + 24], "big")
    return expected if flags & 1 else 0, added >> 12, added & 0xFFF


def measured(data: bytes) -> tuple[float | None, bool]:
    """Return the seconds of an MP3 file, and False if a frame in it tells of another length.

    What the encoder says to have put in front and behind does not count, unless that is so.
    """
    infos: list[_Info] = []
    samples: dict[int, int] = {}
    sounds, rate = 0, 1
    for _, _, count, rate, info in frames(data):
        if info:
            infos.append(info)
        else:
            samples[rate] = samples.get(rate, 0) + count
            sounds += 1
    seconds = sum(count / rate for rate, count in samples.items())
    if not infos:
        return seconds or None, True
    expected, delay, padding = infos[0]
    is_true = len(infos) == 1 and (not expected or abs(sounds - expected) < 2)
    added = (delay + padding) / rate if is_true else 0
    return (seconds - added if added < seconds else seconds) or None, is_true


def cut(data: bytes, seconds: float = math.inf) -> bytes:
    """Return the tags and the frames of the first seconds, without those that tell about others."""
    kept = [data[: end_of_tags(data)]]
    for at, size, samples, rate, info in frames(data):
        if seconds <= 0:
            break
        if not info:
            kept.append(data[at : at + size])
            seconds -= samples / rate
    return b"".join(kept) if len(kept) > 1 else data
