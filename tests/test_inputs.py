"""Sound, pictures and files that a user turn carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversation import AudioInput, FileInput, ImageInput
from conversation.errors import InvalidTurn, UnsupportedAudio
from tests.samples import MP3, PNG, SOUND


def test_the_format_is_told_from_the_bytes() -> None:
    """WAV and MP3 are recognised without being named."""
    assert AudioInput(SOUND).format == "wav"
    assert AudioInput(MP3).format == "mp3"
    assert AudioInput(b"ID3\4\0\0\0\0\0\0" + MP3).format == "mp3"


def test_a_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    """The bytes decide, not the suffix."""
    path = tmp_path / "voice.bin"
    path.write_bytes(MP3)
    assert AudioInput.from_file(path, transcript="hm").format == "mp3"
    with pytest.raises(FileNotFoundError):
        AudioInput.from_file(tmp_path / "missing.wav")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"Hello, this is text.", "begins b'Hello, this"),
        (b"", "0 bytes"),
        (b"fLaC" + bytes(40), "flac"),
        (b"OggS" + bytes(40), "opus"),
        (b"\xff\xfbquiet PCM", "no sound file"),
        (b"RIFF\0\0\0\0AVI ", "no sound file"),
    ],
)
def test_what_is_no_wav_or_mp3_is_refused(data: bytes, found: str) -> None:
    """The error says what was found and what to do."""
    with pytest.raises(UnsupportedAudio, match="WAV or MP3") as caught:
        AudioInput(data)
    assert found in str(caught.value)
    assert "from_pcm" in str(caught.value)


def test_a_format_that_the_bytes_contradict_is_refused() -> None:
    """The API would refuse a label that is not what the bytes are."""
    with pytest.raises(UnsupportedAudio, match="'mp3', but the bytes are wav"):
        AudioInput(SOUND, format="mp3")


def test_text_for_bytes_is_refused_with_the_remedy() -> None:
    """A path or base64 given as data is a mistake that is named."""
    with pytest.raises(InvalidTurn, match="from_file"):
        AudioInput("dog.wav")  # type: ignore[arg-type]  # the mistake under test


def test_lengths_are_told_in_seconds() -> None:
    """WAV and MP3 tell their length, WAV also where a pipe left no sizes."""
    assert AudioInput(SOUND).duration == pytest.approx(0.1)
    assert AudioInput(MP3).duration == pytest.approx(1.2)
    piped = SOUND[:40] + b"\xff\xff\xff\xff" + SOUND[44:]
    assert AudioInput(piped).duration == pytest.approx(0.1)


def test_raw_samples_become_wav() -> None:
    """What a microphone gives is wrapped with its rate."""
    sound = AudioInput.from_pcm(b"\0\1" * 16_000, 16_000, transcript="hello")
    assert sound.format == "wav"
    assert sound.duration == pytest.approx(1.0)
    assert sound.transcript == "hello"


@pytest.mark.parametrize(("data", "rate"), [(b"\0", 16_000), (b"", 16_000), (b"\0\0", 0)])
def test_samples_that_cannot_be_are_refused(data: bytes, rate: int) -> None:
    """Half samples, no samples, no rate."""
    with pytest.raises(UnsupportedAudio):
        AudioInput.from_pcm(data, rate)


def test_images_are_bytes_or_urls() -> None:
    """The type is told from the bytes; inline URLs are taken apart."""
    assert ImageInput(PNG).media_type == "image/png"
    assert ImageInput("https://example.org/dog.png").media_type is None
    assert ImageInput("data:image/png;base64,iVBORw0KGgoAAAAAAAAAAA==") == ImageInput(PNG)
    with pytest.raises(InvalidTurn, match="PNG, JPEG, GIF or WebP"):
        ImageInput(b"BM, a bitmap")
    with pytest.raises(InvalidTurn, match="from_file"):
        ImageInput("dog.png")


def test_files_need_a_name_or_an_id(tmp_path: Path) -> None:
    """Bytes have a name, uploaded files an id, and never both."""
    path = tmp_path / "report.pdf"
    path.write_bytes(b"%PDF")
    assert FileInput.from_file(path) == FileInput(b"%PDF", "report.pdf")
    for wrong in ({}, {"data": b"x", "file_id": "f"}, {"data": b"x"}):
        with pytest.raises(InvalidTurn):
            FileInput(**wrong)


def test_a_repr_shows_counts_and_no_sound() -> None:
    """Bytes do not flood a log."""
    shown = "AudioInput(data=<4844 bytes>, format='wav', transcript=None, duration=0.1)"
    assert repr(AudioInput(SOUND)) == shown
    assert repr(ImageInput(PNG)) == "ImageInput(data=<16 bytes>, detail=None)"
