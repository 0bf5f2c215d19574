"""Sound, images and files in a user turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversation import AudioInput, FileInput, ImageInput
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
        (b"Hello, this is text.", "b'Hello, this"),
        (b"", "0 bytes"),
        (b"\xff\xfbquiet PCM", "no sound file"),
        (b"RIFF\0\0\0\0AVI ", "no sound file"),
    ],
)
def test_sound_that_is_not_wav_or_mp3_is_refused(data: bytes, found: str) -> None:
    """The error for bytes that are not WAV or MP3 says what was found and what to do."""
    with pytest.raises(UnsupportedAudio, match="must be WAV or MP3") as caught:
        AudioInput(data)
    assert found in str(caught.value)
    assert "from_pcm" in str(caught.value)


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


@pytest.mark.parametrize(("data", "rate"), [(b"\0", 16_000), (b"", 16_000), (b"\0\0", 0)])
def test_invalid_samples_and_rates_are_refused(data: bytes, rate: int) -> None:
    """`from_pcm` refuses half a sample, no samples, and a rate of 0."""
    with pytest.raises(UnsupportedAudio):
        AudioInput.from_pcm(data, rate)


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
