"""Durations and formats of sound bytes, and cutting them."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantAudio, AudioInput
from conversation._values.data import Unsaved
from conversation._values.sound import cut, duration_of, format_of, samples_of, wav_from_pcm
from conversation.testing import _voice
from tests.samples import MP3

PCM = b"".join((i % 30_000).to_bytes(2, "little") for i in range(24_000))
"""One second of sound."""

WAV = AudioInput.from_pcm(PCM, 24_000).read()
FRAME = 192
"""Size of each of the 50 frames of `MP3`, which last 24 ms."""


def file_of(pcm: bytes, channels: int = 1, width: int = 2, rate: int = 24_000) -> bytes:
    """Return a WAV file as the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


def played(wav: bytes) -> tuple[Any, bytes]:
    """Return parameters and samples of a valid WAV file, read by the standard library."""
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    with wave.open(io.BytesIO(wav)) as file:
        return file.getparams(), file.readframes(file.getnframes())


@pytest.mark.parametrize("seconds", [1 / 24_000, 0.25, 0.5, 0.99999, 1])
def test_wav_is_cut_to_the_sample(seconds: float) -> None:
    """A WAV file is cut at a sample; its header has the new sizes and is otherwise unchanged."""
    params, pcm = played(cut(WAV, "wav", seconds))
    assert pcm == PCM[: round(seconds * 24_000) * 2]
    assert params[:3] == (1, 2, 24_000)
    assert params.nframes == len(pcm) // 2


@given(
    st.integers(1, 2), st.integers(1, 4), st.sampled_from([8_000, 44_100]), st.floats(1e-6, 0.02)
)
def test_wav_of_any_kind_is_cut_between_frames(
    channels: int, width: int, rate: int, seconds: float
) -> None:
    """A WAV file of any rate, width and number of channels is cut between two frames."""
    frame = channels * width
    pcm = bytes(i % 251 for i in range(rate // 100 * frame))
    short = cut(file_of(pcm, channels, width, rate), "wav", seconds)
    heard = played(short)[1]
    assert short == file_of(heard, channels, width, rate)
    assert pcm.startswith(heard)
    assert abs(len(heard) / frame - min(seconds, 0.01) * rate) <= 1


def test_cut_wav_keeps_the_chunks_before_its_samples() -> None:
    """Cutting a WAV file keeps chunks before the samples and drops those after them."""
    spoken = _voice.spoken("one two", "wav", old_wav_head=True)
    assert spoken[36:40] == b"LIST"
    short = cut(spoken, "wav", 0.1)
    assert short[36:78] == spoken[36:74] + (4800).to_bytes(4, "little")
    assert played(short)[1] == samples_of(spoken)[:4800]
    assert played(cut(WAV + b"LIST\4\0\0\0INFO", "wav", 0.75))[1] == PCM[:36_000]


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_cut_wav_from_a_pipe_has_valid_sizes(size: bytes) -> None:
    """A WAV file with sizes of 0 or 2**32-1 is cut, and gets valid sizes."""
    assert played(cut(WAV[:40] + size + PCM, "wav", 0.5))[1] == PCM[:24_000]


@pytest.mark.parametrize("size", [12, 30, 40, 43])
def test_wav_that_ends_in_its_header_is_not_cut(size: int) -> None:
    """A WAV file without samples is returned as it is."""
    assert cut(WAV[:size], "wav", 0.5) == WAV[:size]


def test_raw_pcm_is_cut_between_samples() -> None:
    """Raw PCM has 24,000 samples of two bytes per second, and is cut between two."""
    assert cut(PCM, "pcm16", 0.25) == PCM[:12_000]
    assert cut(PCM, "pcm16", 1 / 48_000 + 1e-9) == PCM[:2]
    assert cut(PCM, "pcm16", 2.0) == PCM


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 1), (0.03, 2), (0.5, 21), (1.19, 50)])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\0\5about"])
def test_mp3_is_cut_between_frames(seconds: float, frames: int, tag: bytes) -> None:
    """An MP3 file is cut after the frame that was heard in part; tags stay."""
    short = cut(tag + MP3, "mp3", seconds)
    assert short == tag + MP3[: frames * FRAME]
    assert duration_of(short, "mp3") == pytest.approx(frames * 0.024)


def test_bytes_without_an_mp3_frame_are_not_cut() -> None:
    """Bytes that are called MP3 but have no frame are returned as they are."""
    assert cut(b"no frames here", "mp3", 0.5) == b"no frames here"


@pytest.mark.parametrize("audio_format", ["flac", "opus", "aac", None])
def test_formats_that_need_a_decoder_are_not_cut(audio_format: str | None) -> None:
    """FLAC, Opus and AAC are returned whole: half a file might not play at all."""
    assert cut(b"some bytes", audio_format, 0.5) == b"some bytes"


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "pcm16", "flac"])
def test_cutting_to_0_seconds_returns_no_bytes(audio_format: str) -> None:
    """Sound that was not heard at all is cut to nothing, whatever its format."""
    assert cut(WAV, audio_format, 0) == b""


def test_samples_of_a_wav_file_exclude_other_chunks() -> None:
    """`samples_of` returns the samples without the chunks before and after them."""
    assert samples_of(WAV) == PCM
    assert samples_of(WAV + b"LIST\4\0\0\0INFO") == PCM
    spoken = _voice.spoken("one two", "wav")
    assert samples_of(spoken) == _voice.spoken("one two", "pcm16")


LOUD = b"\x20\x4e\xe0\xb1" * 12_000
"""A second of samples that look like no format."""


@pytest.mark.parametrize("pcm", [PCM, LOUD, bytes(48_000), PCM + b"\1"])
def test_raw_samples_that_came_instead_of_wav_get_a_head(pcm: bytes, tmp_path: Path) -> None:
    """They have a duration, can be saved, and sent again as sound of the user."""
    audio = AssistantAudio(data=pcm, format="wav")
    assert (audio.format, audio.duration) == ("wav", 1.0)
    assert audio.read() == wav_from_pcm(pcm[:48_000])
    assert audio.save(tmp_path / "a.wav").read_bytes() == audio.read()
    assert AudioInput(audio.read()).duration == 1.0
    stored = attrs.evolve(audio, data=Unsaved(pcm, "0001-old.wav"))  # as an older version kept it
    assert stored.read() == audio.read()


@pytest.mark.parametrize("asked", ["mp3", "flac", "opus", "aac", "pcm16"])
def test_raw_samples_are_called_so_whatever_was_asked_for(asked: str, tmp_path: Path) -> None:
    """They are kept as they came, and saved as WAV where a WAV file is wanted."""
    audio = AssistantAudio(data=LOUD, format=asked)
    assert (audio.format, audio.duration, audio.read()) == ("pcm16", 1.0, LOUD)
    assert audio.save(tmp_path / "a.wav").read_bytes() == wav_from_pcm(LOUD)


@pytest.mark.parametrize("asked", [None, "wav", "mp3", "pcm16"])
@pytest.mark.parametrize(
    ("data", "true"),
    [
        (MP3, "mp3"),
        (WAV, "wav"),
        (b"fLaC" + bytes(50), "flac"),
        (b"OggS" + bytes(24) + b"OpusHead", "opus"),
        (b"OggS" + bytes(24) + b"\1vorbis", None),
        (b"\0\0\0\x18ftypM4A " + bytes(50), None),
    ],
    ids=["MP3", "WAV", "FLAC", "Opus", "Vorbis", "M4A"],
)
def test_format_of_an_answer_is_that_of_its_bytes(
    asked: str | None, data: bytes, true: str | None
) -> None:
    """The format that was asked for counts for raw samples alone; others have no name here."""
    audio = AssistantAudio(data=data, format=asked)
    assert (audio.format, audio.read()) == (true, data)


def test_samples_of_unknown_format_have_none() -> None:
    """Nothing is known of bytes for which no format was asked."""
    audio = AssistantAudio(data=LOUD)
    assert (audio.format, audio.duration) == (None, None)


@given(st.integers(0, 100))
def test_samples_of_an_incomplete_wav_file_are_those_present(size: int) -> None:
    """`samples_of` a WAV file that is cut off returns the samples up to its end."""
    assert format_of(WAV) == "wav"
    assert samples_of(WAV[:size]) == PCM[: max(0, size - 44)]
