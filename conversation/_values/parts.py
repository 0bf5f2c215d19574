"""Content of a user turn besides text: sound, images, files."""

from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path
from typing import Literal, TypeAlias

import attrs

from conversation._values.data import (
    Data,
    Stored,
    as_bytes,
    as_data,
    as_optional_data,
    path_of,
    size_of,
)
from conversation._values.samples import ENCODINGS, WIDTHS, Encoding, as_s16
from conversation._values.sound import (
    MEDIA_TYPES,
    format_of,
    measured,
    mended,
    mpeg_in_wav,
    name_of,
    no_sound,
    wav_from_pcm,
)
from conversation._values.text import as_optional_text, clean_text, counted, shown
from conversation._values.wav import walked
from conversation.errors import InvalidTurn, UnsupportedAudio

NO_WORDS_YET = "[spoken, no words yet]"
"""Text of a user turn whose sound is not there and whose words are still to come."""


@attrs.frozen
class AudioInput:
    """Sound from the user: a part of a user turn.

    The API takes WAV and MP3, at most some 20 MB per request. `convert` makes them of others.

    Attributes:
        data: The bytes of the whole file, with true sizes and rates in the head of a WAV file; in a
            saved turn, a reference to them. Use `read()`.
        format: `"wav"` or `"mp3"`, detected from the bytes; a given format must match them.
        transcript: The words, if known. They are sent instead of old sound.
        duration: Duration in seconds, detected from the bytes (of MP3 frame by frame, which players
            may estimate); None if they do not tell.
        refused_by: The model that refused to transcribe it for good; it is not asked again.

    Raises:
        UnsupportedAudio: if the bytes are neither WAV nor MP3, or do not match `format`.
    """

    data: Data = attrs.field(converter=as_data, repr=size_of)
    format: str | None = None
    transcript: str | None = attrs.field(default=None, converter=as_optional_text)
    duration: float | None = attrs.field(default=None, kw_only=True)
    refused_by: str | None = attrs.field(
        default=None, kw_only=True, repr=False, converter=as_optional_text
    )

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            if self.format not in ("wav", "mp3"):
                msg = f"format must be 'wav' or 'mp3' for stored sound, got {self.format!r}"
                raise UnsupportedAudio(msg)
            return
        found = format_of(self.data)
        if found not in ("wav", "mp3"):
            raise UnsupportedAudio(_refusal(self.data))
        if self.format not in (None, found):
            msg = f"format is {self.format!r}, but the bytes are {found}; omit format"
            raise UnsupportedAudio(msg)
        object.__setattr__(self, "format", found)
        if self.duration is not None:  # it was measured before
            object.__setattr__(self, "data", mended(self.data))
            return
        data, seconds = measured(self.data, found)
        if not seconds or mpeg_in_wav(data):
            raise UnsupportedAudio(_fault_in(data, found))
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "duration", seconds)

    @classmethod
    def from_file(cls, path: str | Path, transcript: str | None = None) -> AudioInput:
        """Read a WAV or MP3 file, whatever its name.

        Raises:
            UnsupportedAudio: if it is neither WAV nor MP3.
            OSError: if it cannot be read.
        """
        return cls(Path(path).read_bytes(), transcript=transcript)

    @classmethod
    def from_pcm(
        cls,
        data: bytes,
        rate: int,
        transcript: str | None = None,
        *,
        channels: int = 1,
        encoding: Encoding = "s16le",
    ) -> AudioInput:
        """Wrap raw samples, as from a microphone or a telephone, in a WAV file of 16-bit samples.

        Args:
            data: The samples, of all channels in turn.
            rate: Samples per second (Hz) of each channel.
            transcript: The words, if known.
            channels: Number of channels: 1 is mono, 2 is stereo.
            encoding: Coding of a sample: `"s16le"` (signed 16 bit, little-endian), `"f32le"`
                (32-bit float from -1 to 1), `"mulaw"` or `"alaw"` (telephony, 8 bit).

        Raises:
            UnsupportedAudio: if there are no samples, or `rate`, `channels` or `encoding` do not
                fit.
        """
        data = as_bytes(data)
        if encoding not in ENCODINGS:
            known = ", ".join(map(repr, ENCODINGS))
            msg = f"encoding must be one of {known}, got {encoding!r}"
            raise UnsupportedAudio(msg)
        if isinstance(channels, bool) or not isinstance(channels, int) or not 0 < channels <= 64:
            msg = f"channels must be a number from 1 to 64, got {channels!r}"
            raise UnsupportedAudio(msg)
        frame = WIDTHS[encoding] * channels
        if len(data) % frame or not data:
            msg = (
                f"data must be whole samples ({frame} bytes for {counted(channels, 'channel')} of "
                f"{encoding}), got {len(data)} bytes"
            )
            raise UnsupportedAudio(msg)
        if isinstance(rate, bool) or not isinstance(rate, int) or not 0 < rate <= 768_000:
            msg = f"rate must be samples per second (Hz), such as 24000, got {rate!r}"
            raise UnsupportedAudio(msg)
        samples = as_s16(data, encoding)
        return cls(wav_from_pcm(samples, rate=rate, channels=channels), transcript=transcript)

    @classmethod
    def convert(
        cls,
        data: bytes | str | os.PathLike[str],
        *,
        to: Literal["wav", "mp3"] = "wav",
        max_seconds: float = 1800,
        transcript: str | None = None,
    ) -> AudioInput:
        """Make WAV or MP3 of sound of any usual format: 24 kHz, mono.

        It reads Ogg, WebM, Matroska, MP4, QuickTime, CAF, AMR, FLAC, AAC, MP2, WMA, AIFF, AU, W64,
        WAV and MP3, also from strangers: a file reaches nothing but itself. Needs the extra
        `formats` (PyAV, whose wheels link GPL encoders).

        Args:
            data: The bytes of the whole file, or its path; text is never taken for a URL.
            to: `"mp3"` (48 kbit/s) is some 8 times smaller, and costs the same tokens.
            max_seconds: The longest duration, in seconds.
            transcript: The words, if known.

        Raises:
            UnsupportedAudio: if it cannot be decoded, holds no sound, or is longer than
                `max_seconds`; it is never cut.
            ImportError: if PyAV is missing.
            OSError: if there is no such file.
        """
        if to not in ("wav", "mp3"):
            raise UnsupportedAudio(f"to must be 'wav' or 'mp3', got {to!r}")
        is_number = isinstance(max_seconds, int | float) and not isinstance(max_seconds, bool)
        if not is_number or not max_seconds > 0:
            raise UnsupportedAudio(f"max_seconds must be a number > 0, got {max_seconds!r}")
        whole = Path(data).read_bytes() if isinstance(data, str | os.PathLike) else as_bytes(data)
        from conversation._values.conversion import converted

        return cls(converted(whole, to, max_seconds), transcript=transcript)

    @property
    def media_type(self) -> str:
        """The media type for an HTTP header: `"audio/wav"` or `"audio/mpeg"`."""
        return MEDIA_TYPES[self.format or "wav"]

    @property
    def path(self) -> Path | None:
        """The file in which a `FileStore` keeps the sound; None where there is none.

        The file goes when its turn goes.
        """
        return path_of(self.data)

    def read(self) -> bytes:
        """Return the bytes of the whole file.

        Raises:
            AudioFileMissing: if the saved file is gone.
        """
        return self.data if isinstance(self.data, bytes) else mended(self.data.read())


_CONVERT = "AudioInput.convert(data) makes WAV of it (needs the extra 'formats')"


def _refusal(data: bytes) -> str:
    """Return the message for sound that is neither WAV nor MP3."""
    if name := name_of(data):
        from conversation._values.conversion import can_convert

        remedy = _CONVERT if can_convert(name) else "convert it"
        return f"sound must be WAV or MP3, this is {name} ({len(data)} bytes); {remedy}"
    head, comma, text = data[:100].partition(b",")
    is_url = head.startswith(b"data:") and bool(comma)
    text = data[len(head) + 1 :] if is_url else data
    with contextlib.suppress(ValueError):
        if name_of(base64.b64decode(text[:1600], validate=True)):
            found = "a data URL" if is_url else "the base64"
            body = "data.partition(b',')[2]" if is_url else "data"
            return f"sound must be WAV or MP3, this is {found} of it; pass base64.b64decode({body})"
    return f"sound must be WAV or MP3, got {no_sound(data)}"


def _fault_in(data: bytes, audio_format: str) -> str:
    if name := mpeg_in_wav(data):
        return (
            f"sound must be WAV or MP3, this is {name} in a WAV file; extract the {name} from it: "
            f"{_CONVERT}"
        )
    about = f"this {audio_format.upper()} file ({len(data)} bytes)"
    layout = walked(data)
    if audio_format == "wav" and (not layout.rate if layout else b"data" in data):
        lacks = "tells no sample rate" if layout else "has a damaged head, which tells no format"
        return f"{about} {lacks}; use AudioInput.from_pcm(samples, rate) if you know them"
    return f"{about} has no samples; record some sound"


_IMAGE_SIGNATURES = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
}


def _image_type(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    types = (kind for sign, kind in _IMAGE_SIGNATURES.items() if data.startswith(sign))
    return next(types, None)


def _image(data: Data | str) -> Data | str:
    if isinstance(data, Stored):
        return data
    if isinstance(data, str):
        head, _, body = data.partition(",")
        if head.startswith("data:") and head.endswith(";base64"):
            with contextlib.suppress(ValueError):
                inline = base64.b64decode(body, validate=True)
                return inline if _image_type(inline) else data
        if data.startswith(("http://", "https://", "data:")):
            return clean_text(data)
        msg = (
            f"the URL of an image must begin with https:, http: or data:, got {shown(data)}; use "
            "ImageInput.from_file(path) for a file"
        )
        raise InvalidTurn(msg)
    data = as_bytes(data)
    if _image_type(data) is None:
        msg = f"an image must be PNG, JPEG, GIF or WebP, got {len(data)} bytes: {data[:12]!r}…"
        raise InvalidTurn(msg)
    return data


def _detail(detail: str | None) -> str | None:
    return as_optional_text(detail) or None


@attrs.frozen
class ImageInput:
    """An image from the user: a part of a user turn.

    Attributes:
        data: The bytes of a PNG, JPEG, GIF or WebP file, or its URL as a `str`.
        detail: `"low"`, `"high"` or `"auto"`; None leaves it to the API.

    Raises:
        InvalidTurn: if it is not an image.
    """

    data: Data | str = attrs.field(
        repr=lambda data: shown(data) if isinstance(data, str) else size_of(data), converter=_image
    )
    detail: str | None = attrs.field(default=None, converter=_detail)

    @classmethod
    def from_file(cls, path: str | Path, detail: str | None = None) -> ImageInput:
        """Read an image file, whatever its name."""
        return cls(Path(path).read_bytes(), detail)

    @property
    def media_type(self) -> str | None:
        """The media type, such as `"image/png"`; None if only a URL is known."""
        if isinstance(self.data, bytes):
            return _image_type(self.data)
        return None if isinstance(self.data, str) else f"image/{Path(self.data.name).suffix[1:]}"


@attrs.frozen
class FileInput:
    """A document from the user, such as a PDF: a part of a user turn.

    Attributes:
        data: The bytes of the file; None if `file_id` names an uploaded one.
        filename: The name, from which the API takes the type.
        file_id: The id of a file that was uploaded to the API.
    """

    data: Data | None = attrs.field(default=None, converter=as_optional_data, repr=size_of)
    filename: str | None = attrs.field(default=None, converter=as_optional_text)
    file_id: str | None = attrs.field(default=None, converter=as_optional_text)

    def __attrs_post_init__(self) -> None:
        if (self.data is None) == (self.file_id is None):
            msg = "a file needs either data with a filename, or a file_id; pass one of them"
            raise InvalidTurn(msg)
        if self.data is not None and not self.filename:
            msg = "data needs a filename, such as 'report.pdf': it tells the type"
            raise InvalidTurn(msg)

    @classmethod
    def from_file(cls, path: str | Path) -> FileInput:
        """Read a file, and keep its name."""
        path = Path(path)
        return cls(path.read_bytes(), path.name)


Part: TypeAlias = str | AudioInput | ImageInput | FileInput
PARTS = (str, AudioInput, ImageInput, FileInput)
