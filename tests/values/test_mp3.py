"""MP3: tags, frames that tell about the others, junk, and joined or damaged files."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantAudio, AudioInput, Conversation
from conversation._values.sound import cut, duration_of, format_of
from conversation.errors import UnsupportedAudio
from tests.samples import MP3

HEAD = b"\xff\xf3\x84\xc4"
FRAME = 192
"""Size of each frame of `MP3`: 24 ms of 24 kHz mono, 576 samples."""

ID3 = b"ID3\4\0\0\0\0\0\x23TSSE\0\0\0\x0f\0\0\3Lavf58.76.100\0" + bytes(10)
APE = b"APETAGEX" + struct.pack("<IIII8x", 2000, 60, 1, 2**31) + bytes(60)


def info(mark: bytes = b"Xing", frames: int | None = 50, delay: int = 0, padding: int = 0) -> bytes:
    """Return the frame that tells about others, as LAME and Lavf write it."""
    body = mark + struct.pack(">II", 15 if frames is not None else 14, frames or 0)
    body = body if frames is not None else body[:8]
    body += bytes(4) + bytes(100) + bytes(4)
    body += b"LAME3.100" + bytes(12) + (delay << 12 | padding).to_bytes(3, "big")
    return (HEAD + bytes(9) + body).ljust(FRAME, b"\0")


def vbri(frames: int = 50) -> bytes:
    """Return the frame that tells about others, as Fraunhofer's encoder writes it."""
    body = b"VBRI" + struct.pack(">HHHII", 1, 1159, 75, 10_000, frames)
    return (HEAD + bytes(32) + body).ljust(FRAME, b"\0")


@pytest.mark.parametrize("tag", [b"", ID3])
@pytest.mark.parametrize("told", [info(b"Xing"), info(b"Info"), info(frames=None), vbri()])
def test_frame_that_tells_about_others_is_no_sound(tag: bytes, told: bytes) -> None:
    """It counts no time, and a cut file is without it."""
    data = tag + told + MP3
    assert duration_of(data, "mp3") == pytest.approx(1.2)
    assert cut(data, "mp3", 0.5) == tag + MP3[: 21 * FRAME]
    sound = AudioInput(data)
    assert sound.data == data
    assert sound.duration == pytest.approx(1.2)


@pytest.mark.parametrize("second", [0xFB, 0xFA])
@pytest.mark.parametrize(("mode", "side"), [(0xC4, 17), (0x44, 32)])
def test_frame_that_tells_is_found_behind_any_side_information(
    second: int, mode: int, side: int
) -> None:
    """Its mark stands elsewhere in mono and stereo, and in MPEG 1 than in MPEG 2."""
    head = bytes([0xFF, second, 0x90, mode])  # 128 kbit/s, 44.1 kHz: 417 bytes
    told = (head + bytes(side) + b"Info" + struct.pack(">II", 1, 100)).ljust(417, b"\0")
    sounds = head + bytes(413)
    assert duration_of(told + sounds * 100, "mp3") == pytest.approx(100 * 1152 / 44_100)


def test_delay_and_padding_of_the_encoder_do_not_count() -> None:
    """The length is that of the sound that was encoded."""
    data = ID3 + info(delay=576, padding=1000) + MP3
    assert duration_of(data, "mp3") == pytest.approx((50 * 576 - 1576) / 24_000)
    silly = ID3 + info(frames=1, delay=4000, padding=4000) + MP3[:FRAME]
    assert duration_of(silly, "mp3") == pytest.approx(0.024)


@pytest.mark.parametrize("piece", [ID3 + info() + MP3, info() + MP3, APE + info(b"Info") + MP3])
def test_joined_files_are_as_long_as_their_sum(piece: bytes) -> None:
    """Three files, one behind the other, sound one behind the other; none tells its own length."""
    data = piece * 3 + b"TAG" + bytes(125)
    assert duration_of(data, "mp3") == pytest.approx(3.6)
    for sound in (AudioInput(data), AssistantAudio(data=data)):
        assert sound.duration == pytest.approx(3.6)
        assert b"Xing" not in sound.read()
        assert b"Info" not in sound.read()
        assert duration_of(sound.read(), "mp3") == sound.duration
    assert duration_of(cut(data, "mp3", 2.4), "mp3") == pytest.approx(2.4, abs=0.025)


def test_file_that_was_cut_off_does_not_tell_its_old_length() -> None:
    """A frame that promises more than there is does not stay."""
    sound = AudioInput(ID3 + info(frames=270) + MP3 + MP3[:100])
    assert sound.duration == pytest.approx(1.2)
    assert sound.read() == ID3 + MP3


NOISE = random.Random(1).randbytes(3000)
BEGINNINGS = {
    "junk behind the tag": ID3 + NOISE,
    "zeros behind the tag": ID3 + bytes(9000),
    "tag whose size is too small": ID3[:9] + b"\x1d" + ID3[10:],
    "tag whose size is too large": ID3[:9] + b"\x25" + ID3[10:],
    "tag whose size is not in sevens": ID3[:6] + b"\0\0\0\xa3" + bytes(0xA3),
    "APEv2": APE,
    "APEv2 and ID3": APE + ID3,
    "the end of a frame": MP3[50:FRAME],
    "the end of a frame that tells nothing": NOISE[:1000],
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_first_frame_is_found_behind_anything(name: str) -> None:
    """Tags and junk in front of the frames are passed over."""
    data = BEGINNINGS[name] + MP3
    assert format_of(data) == "mp3"
    assert AudioInput(data).duration == pytest.approx(1.2, abs=0.03)


@pytest.mark.parametrize("hole", [bytes(1), bytes(1000), bytes(100_000), NOISE, ID3, b"\xff" * 500])
def test_sound_behind_a_hole_counts(hole: bytes) -> None:
    """Frames behind zeros or junk are found, whether it stands between frames or inside of one."""
    between, inside = 20 * FRAME, 20 * FRAME + 100
    assert duration_of(MP3[:between] + hole + MP3[between:], "mp3") == pytest.approx(1.2)
    damaged = MP3[:inside] + hole + MP3[inside:]
    assert duration_of(damaged, "mp3") == pytest.approx(1.2, abs=0.05)
    short = cut(damaged, "mp3", 1.0)
    assert duration_of(short, "mp3") == pytest.approx(1.0, abs=0.05)
    assert len(short) < len(MP3)


@given(st.integers(0, 2**32), st.integers(1, 9000))
def test_raw_samples_are_no_mp3(seed: int, size: int) -> None:
    """Loud and quiet samples are not taken for MP3, nor for any other format."""
    loud = random.Random(seed).randbytes(size)
    quiet = bytes(byte if at % 2 == 0 else (0, 0xFF)[byte > 127] for at, byte in enumerate(loud))
    for data in (loud, quiet):
        assert AssistantAudio(data=data, format="pcm16").format == "pcm16"


@given(st.binary(max_size=400), st.integers(0, 400), st.floats(0, 9))
def test_damage_is_no_error(damage: bytes, at: int, seconds: float) -> None:
    """A file of frames with anything written over it is measured and cut."""
    whole = ID3 + info() + MP3[: 5 * FRAME]
    data = whole[:at] + damage + whole[at + len(damage) :]
    duration_of(data, "mp3")
    assert len(cut(data, "mp3", seconds)) <= len(data)


def test_one_frame_with_noise_behind_it_is_no_mp3() -> None:
    """A header by chance is not enough."""
    with pytest.raises(UnsupportedAudio, match="no sound file"):
        AudioInput(MP3[:FRAME] + NOISE)


def test_truncated_answer_in_mp3_is_as_long_as_it_says() -> None:
    """`truncate` leaves a file of that length, with its tag."""
    chat = Conversation()
    audio = {"id": "audio_1", "data": None, "expires_at": 9, "transcript": "one two three four"}
    message = {"role": "assistant", "audio": {**audio, "data": ID3 + info(frames=250) + MP3 * 5}}
    turn = chat.add_completion({"choices": [{"index": 0, "message": message}]})
    assert turn.audio is not None
    assert turn.audio.duration == pytest.approx(6.0)
    chat.truncate(2.0)
    [cut_turn] = chat.turns
    assert cut_turn.audio.duration == 2.0  # type: ignore[union-attr]
    data = cut_turn.audio.read()  # type: ignore[union-attr]
    assert data == ID3 + MP3[:FRAME] * 84
