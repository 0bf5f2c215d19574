"""What a user turn can carry beside text: sound, pictures, files."""

from __future__ import annotations

import base64
import contextlib
from pathlib import Path
from typing import TypeAlias

import attrs

from conversation._values.data import (
    Data,
    Stored,
    as_bytes,
    as_data,
    as_optional_data,
    read_data,
    size_of,
)
from conversation._values.sound import duration_of, format_of, wav_from_pcm
from conversation._values.text import as_optional_text, clean_text, shown
from conversation.errors import InvalidTurn, UnsupportedAudio


@attrs.frozen
class AudioInput:
    """Sound that the user said: a part of a user turn.

    The API takes WAV and MP3, at most some 20 MB a request.

    Attributes:
        data: The whole file's bytes; of a saved turn, where they are kept. `read()` gives them.
        format: `"wav"` or `"mp3"`, told from the bytes; what is given must agree with them.
        transcript: The words in it, where they are known. Sent instead of old sound.
        duration: Length in seconds, told from the bytes; None where they do not tell.

    Raises:
        UnsupportedAudio: if the bytes are neither, or not what `format` says.
    """

    data: Data = attrs.field(converter=as_data, repr=size_of)
    format: str | None = None
    transcript: str | None = attrs.field(default=None, converter=as_optional_text)
    duration: float | None = attrs.field(default=None, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.data, bytes):
            if self.format not in ("wav", "mp3"):
                msg = f"the format of kept sound is wav or mp3, not {self.format!r}"
                raise UnsupportedAudio(msg)
            return
        found = format_of(self.data)
        if found == "wav" and not duration_of(self.data, found):
            msg = f"this WAV file ({len(self.data)} bytes) has no samples in it"
            raise UnsupportedAudio(msg)
        if found not in ("wav", "mp3"):
            what = f"{found} sound" if found else f"no sound file, it begins {self.data[:12]!r}"
            msg = (
                f"a user turn takes WAV or MP3; this is {what} ({len(self.data)} bytes); convert "
                "it first, or use AudioInput.from_pcm(data, rate) for raw 16-bit samples"
            )
            raise UnsupportedAudio(msg)
        if self.format not in (None, found):
            msg = f"format says {self.format!r}, but the bytes are {found}; leave format out"
            raise UnsupportedAudio(msg)
        object.__setattr__(self, "format", found)
        if self.duration is None:
            object.__setattr__(self, "duration", duration_of(self.data, found))

    @classmethod
    def from_file(cls, path: str | Path, transcript: str | None = None) -> AudioInput:
        """The sound in a WAV or MP3 file, whatever its name.

        Raises:
            UnsupportedAudio: if it is neither.
            OSError: if it cannot be read.
        """
        return cls(Path(path).read_bytes(), transcript=transcript)

    @classmethod
    def from_pcm(cls, data: bytes, rate: int, transcript: str | None = None) -> AudioInput:
        """Raw samples, as a microphone gives them: mono, signed 16 bit, little-endian.

        Args:
            data: The samples, two bytes each.
            rate: Samples a second, in Hz.
            transcript: The words in it, where they are known.
        """
        data = as_bytes(data)
        if len(data) % 2 or not data:
            msg = (
                f"16-bit samples are two bytes each; {len(data)} bytes hold no whole number of them"
            )
            raise UnsupportedAudio(msg)
        if isinstance(rate, bool) or not isinstance(rate, int) or not 0 < rate <= 768_000:
            msg = f"rate is samples a second (Hz), such as 24000; got {rate!r}"
            raise UnsupportedAudio(msg)
        return cls(wav_from_pcm(data, rate=rate), transcript=transcript)

    def read(self) -> bytes:
        """The whole file's bytes.

        Raises:
            AudioFileMissing: if the saved file is gone.
        """
        return read_data(self.data)


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
            f"an image's URL begins with https:, http: or data:, not {shown(data)}; use "
            "ImageInput.from_file(path) for a file"
        )
        raise InvalidTurn(msg)
    data = as_bytes(data)
    if _image_type(data) is None:
        msg = f"an image is PNG, JPEG, GIF or WebP; these {len(data)} bytes begin {data[:12]!r}"
        raise InvalidTurn(msg)
    return data


def _detail(detail: str | None) -> str | None:
    return as_optional_text(detail) or None


@attrs.frozen
class ImageInput:
    """A picture that the user shows: a part of a user turn.

    Attributes:
        data: The bytes of a PNG, JPEG, GIF or WebP file; or a `str` with its URL.
        detail: `"low"`, `"high"` or `"auto"`; None leaves it to the API.

    Raises:
        InvalidTurn: if it is neither.
    """

    data: Data | str = attrs.field(
        repr=lambda data: shown(data) if isinstance(data, str) else size_of(data), converter=_image
    )
    detail: str | None = attrs.field(default=None, converter=_detail)

    @classmethod
    def from_file(cls, path: str | Path, detail: str | None = None) -> ImageInput:
        """The picture in a file, whatever its name."""
        return cls(Path(path).read_bytes(), detail)

    @property
    def media_type(self) -> str | None:
        """Such as `"image/png"`, told from the bytes; None where only a URL is known."""
        if isinstance(self.data, bytes):
            return _image_type(self.data)
        return None if isinstance(self.data, str) else f"image/{Path(self.data.name).suffix[1:]}"


@attrs.frozen
class FileInput:
    """A document, such as a PDF, that the user hands over: a part of a user turn.

    Attributes:
        data: The file's bytes; None where `file_id` names an uploaded one.
        filename: Its name, which tells the API its type.
        file_id: The id of a file that was uploaded to the API before.
    """

    data: Data | None = attrs.field(default=None, converter=as_optional_data, repr=size_of)
    filename: str | None = attrs.field(default=None, converter=as_optional_text)
    file_id: str | None = attrs.field(default=None, converter=as_optional_text)

    def __attrs_post_init__(self) -> None:
        if (self.data is None) == (self.file_id is None):
            msg = "a file is either data with a filename, or a file_id; give one of them"
            raise InvalidTurn(msg)
        if self.data is not None and not self.filename:
            msg = "a file's bytes need a filename, such as 'report.pdf': it tells their type"
            raise InvalidTurn(msg)

    @classmethod
    def from_file(cls, path: str | Path) -> FileInput:
        """The file at `path`, under its own name."""
        path = Path(path)
        return cls(path.read_bytes(), path.name)


Part: TypeAlias = str | AudioInput | ImageInput | FileInput
PARTS = (str, AudioInput, ImageInput, FileInput)
