"""Sound, images and files in a user turn."""

from __future__ import annotations

import base64
import gzip
import io
import re
import struct
import wave
from pathlib import Path
from typing import Any

import pytest

from conversation import AssistantAudio, AudioInput, FileInput, ImageInput
from conversation._values.data import Unsaved
from conversation._values.samples import Encoding
from conversation.errors import InvalidTurn, UnsupportedAudio
from tests.samples import MP3, PNG, SOUND


def test_format_of_sound_is_detected_from_its_bytes() -> None:
    """`AudioInput` recognises WAV and MP3."""
    assert AudioInput(SOUND).format == "wav"
    assert AudioInput(MP3).format == "mp3"
    assert AudioInput(b"ID3\4\0\0\0\0\0\0" + MP3).format == "mp3"


def test_sound_is_read_from_a_file_of_any_name(tmp_path: Path) -> None:
    """`AudioInput.from_file` goes by the bytes of a file, not by its suffix."""
    path = tmp_path / "voice.bin"
    path.write_bytes(MP3)
    assert AudioInput.from_file(path, transcript="hm").format == "mp3"
    with pytest.raises(FileNotFoundError):
        AudioInput.from_file(tmp_path / "missing.wav")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"Hello, this is text.", "no sound file but text: b'Hello, this"),
        ("import os\r\n\tprint('ü')\n".encode(), "no sound file but text: b'import os"),
        (b"", "it is empty (0 bytes)"),
        (b"\xff\xfbquiet PCM", "no sound file: b'"),
        (bytes(480), "no sound file: b'"),
        (b"\1\0" * 240, "no sound file: b'"),
    ],
)
def test_sound_that_is_not_wav_or_mp3_is_refused(data: bytes, found: str) -> None:
    """The error says what was found; only what may be samples is sent to `from_pcm`."""
    for call in (AudioInput, AudioInput.convert):
        with pytest.raises(UnsupportedAudio, match=re.escape(found)) as caught:
            call(data)
        assert ("from_pcm" in str(caught.value)) == found.endswith(" b'")


OGG = b"OggS" + bytes(24)
MP3_IN_WAV = b"RIFF\x50\0\0\0WAVEfmt \x10\0\0\0" + (
    b"\x55\0\1\0\xc0]\0\0\0\0\0\0\1\0\0\0" + b"data\xc0\0\0\0" + MP3[:192]
)
NAMES = {
    "Ogg/Opus": OGG + b"OpusHead" + bytes(40),
    "Ogg/Vorbis": OGG + b"\x01vorbis" + bytes(40),
    "Ogg/FLAC": OGG + b"\x7fFLAC" + bytes(40),
    "Ogg (": OGG + bytes(40),
    "FLAC": b"fLaC" + bytes(40),
    "WebM": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x84webm" + bytes(40),
    "Matroska": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\x82\x88matroska" + bytes(40),
    "MP4/M4A": b"\0\0\0\x1cftypM4A \0\0\0\0" + bytes(40),
    "CAF": b"caff\0\1\0\0desc" + bytes(40),
    "AMR": b"#!AMR\n" + bytes(40),
    "AMR ": b"#!AMR-WB\n" + bytes(40),
    "AIFF": b"FORM\0\0\0\x40AIFFCOMM" + bytes(40),
    "8SVX": b"FORM\0\0\0\x408SVXVHDR" + bytes(40),
    "MP4/M4A ": b"\0\0\0\x18styp" + bytes(40),
    "QuickTime": b"\0\0\0\x08wide\0\0\0\x20mdat" + bytes(40),
    "AU": b".snd\0\0\0\x18" + bytes(40),
    "ADTS AAC": (b"\xff\xf1\x50\x80\x02\x1f" + bytes(10)) * 9,
    "ADTS AAC (": b"ID3\4\0\0\0\0\0\0" + (b"\xff\xf1\x50\x80\x02\x1f" + bytes(10)) * 9,
    "WMA": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(40),
    "W64": b"riff.\x91\xcf\x11\xa5\xd6(\xdb\x04\xc1\0\0" + bytes(40),
    "MP2": (b"\xff\xfd\x84\xc4" + bytes(380)) * 3,
    "big-endian WAV (RIFX)": b"RIFX\0\0\0\0WAVE" + bytes(40),
    "MP3 in a WAV file": MP3_IN_WAV,
    "MP2 in a WAV file": MP3_IN_WAV[:20] + b"\x50" + MP3_IN_WAV[21:],
    "VOC": b"Creative Voice File\x1a" + bytes(40),
    "NIST SPHERE": b"NIST_1A\n   1024\n" + bytes(40),
    "SoX": b".SoX\x1c\0\0\0" + bytes(40),
    "MIDI": b"MThd\0\0\0\6\0\1" + bytes(40),
    "IFF": b"FORM\0\0\0\x40MAUDMHDR" + bytes(40),
    "WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "GIF": b"GIF89a" + bytes(40),
    "JPEG": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(40),
    "ZIP": b"PK\3\4\x14\0" + bytes(40),
    "JSON": b'{"error": {"message": "Rate limit"}}',
    "SILK": b"\x02#!SILK_V3" + bytes(40),
    "WavPack": b"wvpk" + bytes(40),
    "MPEG video": b"\0\0\x01\xba" + bytes(40) + MP3,
    "AVI": b"RIFF\0\0\0\0AVI " + bytes(40),
    "PDF": b"%PDF-1.7",
    "HTML": b"<html><body>502</body></html>",
}


UNREAD = {
    *("SILK", "WavPack", "MPEG video", "AVI", "PDF", "HTML", "8SVX", "VOC", "NIST SPHERE", "SoX"),
    *("MIDI", "WebP", "GIF", "JPEG", "ZIP", "JSON", "IFF"),
}


@pytest.mark.parametrize("name", NAMES)
def test_other_formats_are_refused_by_their_names(name: str) -> None:
    """The error names the format truly, what the API takes, and who can convert it."""
    with pytest.raises(UnsupportedAudio) as caught:
        AudioInput(NAMES[name])
    told = str(caught.value)
    assert told.startswith(f"sound must be WAV or MP3, this is {name.partition(' (')[0].strip()}")
    is_read = name not in UNREAD
    convert = "AudioInput.convert(data) makes WAV of it (needs the extra 'formats')"
    assert told.endswith(convert if is_read else "; convert it")
    assert "no sound" not in told


def test_mp3_in_a_wav_file_can_be_extracted() -> None:
    """The remedy in the error works: the bytes behind the head are MP3."""
    assert AudioInput(MP3_IN_WAV[44:] + MP3).format == "mp3"


def test_format_that_contradicts_the_bytes_is_refused() -> None:
    """A `format` that does not match the bytes is an error, as it is to the API."""
    with pytest.raises(UnsupportedAudio, match="'mp3', but the bytes are wav"):
        AudioInput(SOUND, format="mp3")


def test_str_for_sound_is_refused_with_the_remedy() -> None:
    """The error for a path passed as data names `from_file`."""
    with pytest.raises(InvalidTurn, match="from_file"):
        AudioInput("dog.wav")  # type: ignore[arg-type]  # the mistake under test


def test_duration_of_sound_is_detected_in_seconds() -> None:
    """`duration` is that of the WAV or MP3 file, also of a WAV file with invalid sizes."""
    assert AudioInput(SOUND).duration == pytest.approx(0.1)
    assert AudioInput(MP3).duration == pytest.approx(1.2)
    piped = SOUND[:40] + b"\xff\xff\xff\xff" + SOUND[44:]
    assert AudioInput(piped).duration == pytest.approx(0.1)


def test_raw_samples_become_a_wav_file() -> None:
    """`AudioInput.from_pcm` makes a WAV file of raw samples and their rate."""
    sound = AudioInput.from_pcm(b"\0\1" * 16_000, 16_000, transcript="hello")
    assert sound.format == "wav"
    assert sound.duration == pytest.approx(1.0)
    assert sound.transcript == "hello"


def wave_of(sound: AudioInput) -> tuple[int, int, bytes]:
    """Return channels, rate and samples, as the standard library reads them."""
    with wave.open(io.BytesIO(sound.read())) as file:
        assert file.getsampwidth() == 2
        return file.getnchannels(), file.getframerate(), file.readframes(file.getnframes())


def test_raw_samples_may_be_stereo() -> None:
    """Discord's 48 kHz stereo lasts as long as it is heard, and keeps its channels."""
    samples = bytes(range(240)) * 800
    sound = AudioInput.from_pcm(samples, 48_000, channels=2)
    assert sound.duration == 1.0
    assert wave_of(sound) == (2, 48_000, samples)


@pytest.mark.parametrize(
    ("encoding", "data", "expected"),
    [
        ("mulaw", b"\xff\x7f\x80\0\xf0\x8f", [0, 0, 32124, -32124, 120, 16764]),
        ("alaw", b"\xd5\x55\xaa\x2a\x80\x00", [8, -8, 32256, -32256, 5504, -5504]),
        (
            "f32le",
            struct.pack("<7f", 0, 1, -1, 0.5, 2, -9, float("nan")),
            [0, 32767, -32767, 16384, 32767, -32768, 0],
        ),
    ],
)
def test_raw_samples_of_other_encodings_become_16_bit(
    encoding: Encoding, data: bytes, expected: list[int]
) -> None:
    """Twilio's mu-law, A-law (G.711) and the floats of browsers sound as they should."""
    sound = AudioInput.from_pcm(data, 8_000, encoding=encoding)
    assert wave_of(sound) == (1, 8_000, struct.pack(f"<{len(expected)}h", *expected))
    assert sound.duration == len(expected) / 8_000


@pytest.mark.parametrize(
    ("data", "options", "match"),
    [
        (b"\0", {}, "whole samples"),
        (b"", {}, "whole samples"),
        (b"", {"encoding": "mulaw"}, "whole samples"),
        (bytes(6), {"channels": 2}, "whole samples .4 bytes"),
        (bytes(6), {"encoding": "f32le"}, "whole samples .4 bytes"),
        (bytes(2), {"rate": 0}, "rate must be"),
        (bytes(2), {"rate": 24_000.0}, "rate must be"),
        (bytes(2), {"rate": True}, "rate must be"),
        (bytes(2), {"channels": 0}, "channels must be"),
        (bytes(2), {"channels": True}, "channels must be"),
        (bytes(2), {"encoding": "opus"}, "'s16le', 'mulaw', 'alaw', 'f32le', got 'opus'"),
    ],
)
def test_invalid_samples_and_rates_are_refused(
    data: bytes, options: dict[str, Any], match: str
) -> None:
    """`from_pcm` refuses part of a frame, no samples, and rates and codings that there are not."""
    with pytest.raises(UnsupportedAudio, match=match):
        AudioInput.from_pcm(data, **{"rate": 16_000, **options})


def test_image_is_bytes_or_a_url() -> None:
    """The type of an image is detected from its bytes; data URLs are decoded."""
    assert ImageInput(PNG).media_type == "image/png"
    assert ImageInput("https://example.org/dog.png").media_type is None
    assert ImageInput("data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA==") == ImageInput(PNG)
    with pytest.raises(InvalidTurn, match="PNG, JPEG, GIF or WebP"):
        ImageInput(b"BM, a bitmap")
    with pytest.raises(InvalidTurn, match="from_file"):
        ImageInput("dog.png")


def test_file_needs_a_name_or_an_id(tmp_path: Path) -> None:
    """A file has bytes and a name, or the id of an upload, and never both."""
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF")
    assert FileInput.from_file(path) == FileInput(b"%PDF", "report.pdf")
    for wrong in ({}, {"data": b"x", "file_id": "f"}, {"data": b"x"}):
        with pytest.raises(InvalidTurn):
            FileInput(**wrong)


def test_repr_shows_sizes_instead_of_bytes() -> None:
    """The `repr` of sound and images has the number of bytes, so that logs stay short."""
    shown = "AudioInput(data=<4844 bytes>, format='wav', transcript=None, duration=0.1)"
    assert repr(AudioInput(SOUND)) == shown
    assert repr(ImageInput(PNG)) == "ImageInput(data=<16 bytes>, detail=None)"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (base64.b64encode(SOUND), "this is the base64 of it; pass base64.b64decode"),
        (base64.b64encode(MP3), "this is the base64 of it; pass base64.b64decode"),
        (
            b"data:audio/mpeg;base64," + base64.b64encode(MP3),
            "a data URL of it; pass base64.b64decode(data.",
        ),
        (
            b"\xff\xfb\x02\x44" + bytes(300) + (b"\xff\xfb\0\x44" + bytes(299)) * 3,
            "MP3 of free bit",
        ),
        (gzip.compress(SOUND, mtime=0), "this is gzip"),
        (b"\0\0\0\x24ftypheix" + bytes(99), "this is HEIC (111 bytes); convert it"),
        (b"\0\0\0\x14ftypqt  " + bytes(99), "this is QuickTime (111 bytes); AudioInput.convert"),
    ],
)
def test_refusals_say_what_the_bytes_are(data: bytes, said: str) -> None:
    """Base64 is not taken for raw samples, nor the head of an MP3 file for WAV."""
    with pytest.raises(UnsupportedAudio, match=re.escape(said)):
        AudioInput(data)


@pytest.mark.parametrize(
    ("audio_format", "media_type"),
    [
        ("wav", "audio/wav"),
        ("mp3", "audio/mpeg"),
        ("flac", "audio/flac"),
        ("opus", "audio/ogg"),
        ("aac", "audio/aac"),
        ("pcm16", "audio/pcm"),
        (None, None),
    ],
)
def test_media_type_follows_from_the_format(
    audio_format: str | None, media_type: str | None
) -> None:
    """Each format of sound has its media type; where no format is known, there is none."""
    stored = Unsaved(b"sound")
    assert AssistantAudio(data=stored, format=audio_format).media_type == media_type
    assert AssistantAudio("audio_1").media_type is None
    if audio_format in ("wav", "mp3"):
        assert AudioInput(stored, audio_format).media_type == media_type
