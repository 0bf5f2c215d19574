"""Sound that arrives in pieces: what can be played at once, and the file that is kept."""

from __future__ import annotations

import io
import struct
import wave

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantTurn, AudioDelta, AudioInput, Conversation
from conversation._values.samples import as_mono, as_s16
from conversation._values.streamed import StreamedSound
from conversation.testing import StandIn
from tests.samples import MP3, chunk, piece

PCM = bytes(range(256)) * 40
NONE = b"\xff\xff\xff\xff"
ID3 = b"ID3\4\0\0\0\0\0\x05about"
LIST = b"LIST\x0c\0\0\0INFOISFT\0\0\0\0"


def wav(pcm: bytes, rate: int = 24_000, channels: int = 1) -> bytes:
    """Return a WAV file."""
    return AudioInput.from_pcm(pcm, rate, channels=channels).read()


def heard(*pieces: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return what can be played of a stream, by rates, and the file that is kept."""
    sound = StreamedSound()
    found: list[tuple[int, bytes]] = []
    for samples, rate in [each for data in pieces for each in sound.add(data)] + sound.finish():
        assert samples
        assert len(samples) % 2 == 0
        if found and found[-1][0] == rate:
            found[-1] = rate, found[-1][1] + samples
        else:
            found.append((rate, samples))
    assert sound.finish() == []
    return found, sound.whole()


def samples_in(data: bytes) -> bytes:
    """Return the samples of a WAV file, whose sizes must be true."""
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as file:
        samples: bytes = file.readframes(file.getnframes())
        return samples


def cut_at(data: bytes, places: list[int]) -> list[bytes]:
    """Return the data in pieces."""
    places = sorted(place % (len(data) + 1) for place in places)
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]


places = st.lists(st.integers(0, 100) | st.integers(0, 10**6), max_size=8)

WAVS = {
    "of its own size, raw samples behind": (wav(PCM[:3000]) + PCM[3000:], PCM),
    "without a size": (wav(PCM)[:40] + NONE + PCM, PCM),
    "with a size of 0": (wav(PCM)[:40] + b"\0\0\0\0" + PCM, PCM),
    "with a comment behind": (wav(PCM) + LIST, PCM),
    "with a comment, and another file": (wav(PCM) + LIST + wav(PCM), PCM + PCM),
    "with another chunk of samples": (wav(PCM) + b"data\x00\x28\0\0" + PCM, PCM + PCM),
    "two of them": (wav(PCM) + wav(PCM), PCM + PCM),
    "two of them, raw samples behind": (wav(PCM) + wav(PCM) + PCM, PCM * 3),
    "two without a size": ((wav(PCM)[:40] + NONE + PCM) * 2, PCM * 2),
    "one without a size, and another": (wav(PCM)[:40] + NONE + PCM + wav(PCM), PCM * 2),
    "words of a head": (wav(PCM)[:40] + NONE + b"RIFFRIBW6RRR" * 9, b"RIFFRIBW6RRR" * 9),
}


@pytest.mark.parametrize("name", WAVS)
@given(places)
def test_wav_that_is_cut_anywhere_is_played_and_kept(name: str, places: list[int]) -> None:
    """Heads are never heard, all samples are, and the file has the size of all of them."""
    data, samples = WAVS[name]
    found, whole = heard(*cut_at(data, places))
    assert found == [(24_000, samples)]
    assert samples_in(whole) == samples


@pytest.mark.parametrize("name", WAVS)
def test_a_cut_near_a_head_changes_nothing(name: str) -> None:
    """Each place around the end of a file is tried, as random ones seldom hit them."""
    data, samples = WAVS[name]
    end = len(wav(PCM))
    for at in (*range(60), *range(end - 4, end + 90)):
        found, whole = heard(*cut_at(data, [at]))
        assert found == [(24_000, samples)], at
        assert samples_in(whole) == samples


@pytest.mark.parametrize("channels", [1, 2])
@given(places)
def test_a_comment_behind_samples_of_unknown_size_is_not_kept(
    channels: int, places: list[int]
) -> None:
    """Only with the end of the stream is it known that these were no samples."""
    data = wav(PCM, channels=channels)[:40] + NONE + PCM + LIST
    assert heard(*cut_at(data, places))[1] == wav(PCM, channels=channels)


@given(places)
def test_raw_samples_that_are_cut_anywhere_are_played_and_kept(places: list[int]) -> None:
    """Samples that are split between two pieces come with the second."""
    found, whole = heard(*cut_at(PCM + b"\1", places))
    assert found == [(24_000, PCM)]
    assert samples_in(whole) == PCM


@pytest.mark.parametrize(
    "data",
    [
        ID3 + MP3,
        MP3,
        b"ID3\4\0\0\0\0\x60\0" + bytes(12_288) + MP3,
        b"APETAGEX" + (2000).to_bytes(4, "little") + (12_288).to_bytes(4, "little") * 4 + MP3,
        (b"\xff\xf1\x50\x80\x02\x1f" + bytes(10)) * 40,
    ],
    ids=["a short tag", "no tag", "a long tag", "another long tag", "AAC"],
)
@given(places)
def test_compressed_sound_is_never_played_as_samples(data: bytes, places: list[int]) -> None:
    """A tag alone, or a few bytes of a frame, do not go to the speaker."""
    assert heard(*cut_at(data, places)) == ([], data)


AAC = (b"\xff\xf1\x50\x80\x2e\x7f\xfc" + bytes(364)) * 20
"""Frames of 371 bytes."""

MP2 = (b"\xff\xfd\x84\xc4" + bytes(380)) * 20
"""Frames of 384 bytes: 128 kbit/s at 48 kHz."""


@pytest.mark.parametrize("data", [MP3, AAC, MP2], ids=["MP3", "AAC", "MP2"])
@pytest.mark.parametrize("missing", [1, 90, 180])
@pytest.mark.parametrize("size", [1, 7, 100, 1500, 6000])
def test_a_stream_that_was_joined_late_is_never_played_as_samples(
    data: bytes, missing: int, size: int
) -> None:
    """The rest of a frame is held back until the frames behind it tell the format."""
    data = data[missing:]
    assert heard(*(data[at : at + size] for at in range(0, len(data), size))) == ([], data)


QUIET = bytes.fromhex("fbff fbff fbfe f1ff e2fe") * 1000
"""Samples that look like beginnings of frames."""


@pytest.mark.parametrize("header", [MP3[:4], AAC[:7], MP2[:4]], ids=["MP3", "AAC", "MP2"])
def test_a_tone_with_samples_like_a_header_is_no_frame(header: bytes) -> None:
    """Frames of which each is the same, but no silence, are periods of raw samples."""
    size = {MP3[:4]: 192, AAC[:7]: 371, MP2[:4]: 384}[header]
    period = bytes(range(30)) + header + bytes(range(226)) + bytes(range(226))
    tone = period[:size] * 40
    assert heard(tone[:999], tone[999:]) == ([(24_000, tone)], wav(tone))


@pytest.mark.parametrize(("data", "most"), [(PCM, 2200), (QUIET, 6500)])
@pytest.mark.parametrize("size", [2, 99, 960])
def test_raw_samples_in_small_pieces_are_held_back_within_a_bound(
    data: bytes, most: int, size: int
) -> None:
    """The first of them come after 0.05 s, or 0.14 s where they may be frames, and none is lost."""
    sound = StreamedSound()
    found, at = b"", 0
    while not found:
        found = b"".join(samples for samples, _ in sound.add(data[at : at + size]))
        at += size
    assert at < most + size
    found += b"".join(samples for samples, _ in sound.add(data[at:]) + sound.finish())
    assert found == data
    assert samples_in(sound.whole()) == data


@pytest.mark.parametrize(
    "start", [b"OggS", b"fLaC", b"\x1aE\xdf\xa3", b"\0\0\0\x18ftypM4A ", b"caff", b"FORM", b".snd"]
)
def test_other_formats_are_kept_as_they_came(start: bytes) -> None:
    """Containers that only a decoder can read are not played as samples."""
    data = start + bytes(20_000)
    assert heard(data[:3], data[3:]) == ([], data)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_rate_is_that_of_the_wav_head(rate: int) -> None:
    """It is known with the first samples, also if they come long after the head."""
    data = wav(PCM, rate)
    found, whole = heard(data[:20], data[20:44], data[44:60], data[60:])
    assert found == [(rate, PCM)]
    assert AudioInput(whole).duration == len(PCM) / 2 / rate


def test_stereo_is_played_as_mono_and_kept_as_it_is() -> None:
    """A player of one channel hears the mean of both, at the right speed."""
    frames = b"".join(struct.pack("<hh", i, -3 * i) for i in range(1000))
    data = wav(frames, 48_000, channels=2)
    found, whole = heard(data[:1001], data[1001:])
    assert found == [(48_000, b"".join(struct.pack("<h", -i) for i in range(1000)))]
    assert whole == data


@pytest.mark.parametrize(
    ("tag", "bits", "encoding"),
    [(1, 8, "u8"), (1, 24, "s24le"), (1, 32, "s32le"), (3, 32, "f32le"), (6, 8, "alaw")],
)
def test_samples_of_other_codings_are_played_as_16_bit(tag: int, bits: int, encoding: str) -> None:
    """Whatever the samples of a WAV file are, events hold s16le; the file is kept as it is."""
    data = bytes(range(240))
    head = struct.pack("<HHIIHH", tag, 1, 8_000, 1_000 * bits, bits // 8, bits)
    file = (
        b"RIFF" + struct.pack("<I", 276) + b"WAVEfmt \x10\0\0\0" + head + b"data\xf0\0\0\0" + data
    )
    found, whole = heard(file[:50], file[50:99], file[99:])
    assert found == [(8_000, as_s16(data, encoding))]
    assert whole == file


def test_file_of_another_rate_is_not_mixed_in(caplog: pytest.LogCaptureFixture) -> None:
    """It is played at its own rate, but one file cannot keep both."""
    found, whole = heard(wav(PCM), wav(PCM, 16_000))
    assert found == [(24_000, PCM), (16_000, PCM)]
    assert samples_in(whole) == PCM
    assert "another coding or rate" in caplog.text


@pytest.mark.parametrize("data", [b"", b"\1", wav(PCM)[:30], wav(PCM)[:44]])
def test_nothing_is_played_of_a_stream_without_samples(data: bytes) -> None:
    """A head that breaks off, or half a sample, is no sound."""
    assert heard(data)[0] == []


@pytest.mark.parametrize("step", [1, 7, 5000])
def test_a_tag_before_a_stream_and_a_byte_of_padding_are_no_sound(step: int) -> None:
    """A WAV file is played behind an ID3 tag, and without the byte that pads an odd size."""
    file = bytearray(wav(PCM, 16_000))
    file[32:36] = b"\1\0\x08\0"  # of 8 bits
    file[40:44], end = (len(PCM) - 1).to_bytes(4, "little"), len(file) - 1
    data = ID3 + bytes(file[:end]) + b"\0" + LIST
    found, kept = heard(*(data[i : i + step] for i in range(0, len(data), step)))
    assert found == [(16_000, as_s16(PCM[:-1], "u8"))]
    assert AudioInput(kept).duration == (len(PCM) - 1) / 16_000


def test_events_and_turn_of_a_stream_agree(server: StandIn, chat: Conversation) -> None:
    """A head of its own size, raw samples behind: rate and samples come as events, all is kept."""
    pieces = [wav(PCM, 44_100)[:17], wav(PCM, 44_100)[17:], PCM, PCM]
    server.will_stream(
        [chunk({"audio": {"data": piece(each)}}) for each in pieces] + [chunk(finish_reason="stop")]
    )
    with chat.stream("Hi") as events:
        sounds = [event for event in events if isinstance(event, AudioDelta)]
    assert {event.rate for event in sounds} == {44_100}
    assert b"".join(event.data for event in sounds) == PCM * 3
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    assert samples_in(turn.audio.read()) == PCM * 3
    assert turn.audio.duration == len(PCM) * 3 / 2 / 44_100


def test_a_short_stream_of_raw_samples_is_heard_at_its_end(
    server: StandIn, chat: Conversation
) -> None:
    """Too few bytes to tell a format are held back until the stream ends."""
    server.will_stream([chunk({"audio": {"data": "AAEC"}}), chunk(finish_reason="stop")])
    with chat.stream("Hi") as events:
        sounds = [event for event in events if isinstance(event, AudioDelta)]
    assert sounds == [AudioDelta(b"\0\1", 24_000)]


def test_as_mono_leaves_out_half_a_frame() -> None:
    """A last frame that lacks a channel has no mean."""
    assert as_mono(struct.pack("<hhh", 2, 4, 9), 2) == struct.pack("<h", 3)
