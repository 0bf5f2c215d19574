"""Sound bytes: cut short, and taken out of their files."""

from __future__ import annotations

import io
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AudioInput
from conversation._values.sound import cut, duration_of, format_of, samples_of
from conversation.testing import _voice
from tests.samples import MP3

PCM = b"".join((i % 30_000).to_bytes(2, "little") for i in range(24_000))
"""One second."""

WAV = AudioInput.from_pcm(PCM, 24_000).read()
FRAME = 192
"""Bytes of one of the 50 frames of `MP3`, 24 ms each."""


def file_of(pcm: bytes, channels: int = 1, width: int = 2, rate: int = 24_000) -> bytes:
    """A WAV file of these samples, as the standard library writes it."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        out.writeframes(pcm)
    return file.getvalue()


def played(wav: bytes) -> tuple[Any, bytes]:
    """What the standard library reads of a WAV file, which has to be whole."""
    assert int.from_bytes(wav[4:8], "little") == len(wav) - 8
    with wave.open(io.BytesIO(wav)) as file:
        return file.getparams(), file.readframes(file.getnframes())


@pytest.mark.parametrize("seconds", [1 / 24_000, 0.25, 0.5, 0.99999, 1])
def test_wav_is_cut_to_the_sample(seconds: float) -> None:
    """The head says the new length, and what it says else is as before."""
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
    """Stereo stays stereo, and no sample is cut in two."""
    frame = channels * width
    pcm = bytes(i % 251 for i in range(rate // 100 * frame))
    short = cut(file_of(pcm, channels, width, rate), "wav", seconds)
    heard = played(short)[1]
    assert short == file_of(heard, channels, width, rate)
    assert pcm.startswith(heard)
    assert abs(len(heard) / frame - min(seconds, 0.01) * rate) <= 1


def test_chunks_before_the_samples_stay_and_those_behind_go() -> None:
    """The real server's files have a comment in front; others have one at the end."""
    spoken = _voice.spoken("one two", "wav")
    assert spoken[36:40] == b"LIST"
    short = cut(spoken, "wav", 0.1)
    assert short[36:78] == spoken[36:74] + (4800).to_bytes(4, "little")
    assert played(short)[1] == samples_of(spoken)[:4800]
    assert played(cut(WAV + b"LIST\4\0\0\0INFO", "wav", 0.75))[1] == PCM[:36_000]


@pytest.mark.parametrize("size", [b"\0\0\0\0", b"\xff\xff\xff\xff"])
def test_wav_from_a_pipe_is_cut_and_gets_its_sizes(size: bytes) -> None:
    """Its writer could not go back to fill them in."""
    assert played(cut(WAV[:40] + size + PCM, "wav", 0.5))[1] == PCM[:24_000]


@pytest.mark.parametrize("size", [12, 30, 40, 43])
def test_a_wav_that_ends_in_its_head_is_left_alone(size: int) -> None:
    """There is nothing to be cut."""
    assert cut(WAV[:size], "wav", 0.5) == WAV[:size]


def test_raw_samples_are_cut_between_them() -> None:
    """24,000 a second, two bytes each."""
    assert cut(PCM, "pcm16", 0.25) == PCM[:12_000]
    assert cut(PCM, "pcm16", 1 / 48_000 + 1e-9) == PCM[:2]
    assert cut(PCM, "pcm16", 2.0) == PCM


@pytest.mark.parametrize(("seconds", "frames"), [(0.001, 1), (0.03, 2), (0.5, 21), (1.19, 50)])
@pytest.mark.parametrize("tag", [b"", b"ID3\4\0\0\0\0\0\5about"])
def test_mp3_is_cut_between_frames(seconds: float, frames: int, tag: bytes) -> None:
    """Tags stay, and the last frame that was heard in part stays whole."""
    short = cut(tag + MP3, "mp3", seconds)
    assert short == tag + MP3[: frames * FRAME]
    assert duration_of(short, "mp3") == pytest.approx(frames * 0.024)


def test_what_is_said_to_be_mp3_and_is_not_stays_whole() -> None:
    """No frame is found in it."""
    assert cut(b"no frames here", "mp3", 0.5) == b"no frames here"


@pytest.mark.parametrize("audio_format", ["flac", "opus", "aac", None])
def test_what_needs_a_decoder_stays_whole(audio_format: str | None) -> None:
    """Half a file of it might not play at all."""
    assert cut(b"some bytes", audio_format, 0.5) == b"some bytes"


@pytest.mark.parametrize("audio_format", ["wav", "mp3", "pcm16", "flac"])
def test_no_seconds_are_no_bytes(audio_format: str) -> None:
    """Nothing was heard of it."""
    assert cut(WAV, audio_format, 0) == b""


def test_samples_are_taken_out_of_their_file() -> None:
    """Without what stands before and behind them."""
    assert samples_of(WAV) == PCM
    assert samples_of(WAV + b"LIST\4\0\0\0INFO") == PCM
    spoken = _voice.spoken("one two", "wav")
    assert samples_of(spoken) == _voice.spoken("one two", "pcm16")


@given(st.integers(0, 100))
def test_samples_of_the_beginning_of_a_file_are_those_that_are_there(size: int) -> None:
    """Its head says more; a head alone has none."""
    assert format_of(WAV) == "wav"
    assert samples_of(WAV[:size]) == PCM[: max(0, size - 44)]
