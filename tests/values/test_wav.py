"""WAV files: their heads as recorders, pipes and servers write them, and as they should be."""

from __future__ import annotations

import io
import struct
import sys
import tracemalloc
import wave
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantAudio, AudioInput
from conversation._values.sound import cut, duration_of, mended, samples_of
from conversation.errors import UnsupportedAudio

PCM = b"".join((i % 30_000).to_bytes(2, "little") for i in range(24_000))
"""A second of 24 kHz mono s16le."""

NONE = b"\xff\xff\xff\xff"
LIST = b"LIST\x0c\0\0\0INFOISFT\0\0\0\0"


def chunk(kind: bytes, body: bytes, size: int | None = None) -> bytes:
    """Return a chunk, padded, perhaps with a size that is not its own."""
    size = len(body) if size is None else size
    return kind + struct.pack("<I", size) + body + bytes(len(body) % 2)


def fmt(
    *, tag: int = 1, channels: int = 1, rate: int = 24_000, bits: int = 16, extra: bytes = b"",
    byte_rate: int | None = None, block: int | None = None,
) -> bytes:  # fmt: skip
    """Return a `fmt` chunk; byte rate and block may be wrong."""
    true = channels * bits // 8
    byte_rate = rate * true if byte_rate is None else byte_rate
    block = true if block is None else block
    head = struct.pack("<HHIIHH", tag, channels, rate, byte_rate, block, bits)
    return chunk(b"fmt ", head + (struct.pack("<H", len(extra)) + extra if extra else b""))


def riff(*chunks: bytes, kind: bytes = b"RIFF", size: int | None = None) -> bytes:
    """Return a file of these chunks, perhaps with a wrong size."""
    body = b"WAVE" + b"".join(chunks)
    return kind + struct.pack("<I", len(body) if size is None else size) + body


def ds64(samples: int) -> bytes:
    """Return the chunk in which RF64 and BW64 keep their sizes."""
    return chunk(b"ds64", struct.pack("<QQQI", samples + 72, samples, samples // 2, 0))


def played(data: bytes) -> tuple[int, int, bytes]:
    """Return channels, rate and samples, as the standard library reads them; sizes must be true."""
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with wave.open(io.BytesIO(data)) as file:
        assert file.getnframes() * file.getsampwidth() * file.getnchannels() <= len(data)
        return file.getnchannels(), file.getframerate(), file.readframes(file.getnframes())


UNFINISHED = {
    "today's API": riff(fmt(), b"data" + NONE + PCM, size=2**32 - 1),
    "ffmpeg into a pipe": riff(fmt(), LIST, b"data" + NONE + PCM, size=2**32 - 1),
    "sizes of 0": riff(fmt(), b"data\0\0\0\0" + PCM, size=0),
    "sox into a pipe": riff(fmt(), b"data\0\xf0\xff\x7f" + PCM, size=0x7FFFF024),
    "a size of 2**31-1": riff(fmt(), b"data\xff\xff\xff\x7f" + PCM),
    "cut off": riff(fmt(), chunk(b"data", PCM, 96_000)),
    "the size of RIFF alone is wrong": riff(fmt(), chunk(b"data", PCM), size=36),
    "RF64 into a pipe": riff(ds64(0), fmt(), b"data" + NONE + PCM, kind=b"RF64", size=2**32 - 1),
    "RF64": riff(ds64(48_000), fmt(), b"data" + NONE + PCM, LIST, kind=b"RF64", size=2**32 - 1),
    "BW64": riff(ds64(48_000), fmt(), b"data" + NONE + PCM, LIST, kind=b"BW64", size=2**32 - 1),
    "BW64 with its size in the chunk": riff(ds64(0), fmt(), chunk(b"data", PCM), kind=b"BW64"),
    "no bytes a second": riff(fmt(byte_rate=0), chunk(b"data", PCM)),
    "half of the bytes a second": riff(fmt(byte_rate=24_000), chunk(b"data", PCM)),
    "twice the block": riff(fmt(block=4), chunk(b"data", PCM)),
    "no block": riff(fmt(block=0, byte_rate=0), chunk(b"data", PCM)),
    "no bits": riff(fmt(bits=0, block=2, byte_rate=48_000), chunk(b"data", PCM)),
    "no rate": riff(fmt(rate=0, byte_rate=48_000), chunk(b"data", PCM)),
}


@pytest.mark.parametrize("name", UNFINISHED)
def test_heads_are_mended_when_turns_are_made(name: str) -> None:
    """User sound and answers have the right length, and heads that the standard library reads."""
    for sound in (AudioInput(UNFINISHED[name]), AssistantAudio(data=UNFINISHED[name])):
        assert sound.duration == 1.0
        assert played(sound.read()) == (1, 24_000, PCM)


@pytest.mark.parametrize("name", UNFINISHED)
def test_mended_files_are_not_mended_again(name: str) -> None:
    """A file with a true head stays the same object, so that nothing is copied."""
    sound = AudioInput(UNFINISHED[name])
    assert isinstance(sound.data, bytes)
    assert AudioInput(sound.data).data is sound.data


@pytest.mark.parametrize(
    "data",
    [
        riff(fmt(), chunk(b"data", PCM)),
        riff(fmt(), LIST, chunk(b"data", PCM), LIST),
        riff(fmt(bits=8), chunk(b"data", PCM[1::2][:-1]), LIST),
        riff(fmt(channels=2), chunk(b"data", PCM)),
        riff(fmt(tag=3, bits=32), chunk(b"data", PCM)),
        riff(fmt(), chunk(b"data", PCM)) + b"TAG" + bytes(125),
        riff(fmt(), chunk(b"data", PCM)) + b"ID3\4\0\0\0\0\0\x05about",
        riff(fmt(), chunk(b"data", PCM)) + bytes(512),
        riff(fmt(), chunk(b"data", PCM)) + b"LIST\0\1\0\0INFOcut off",
    ],
)
def test_true_files_stay_as_they_are(data: bytes) -> None:
    """Chunks in front of the samples and behind them stay, and so does the object."""
    assert AudioInput(data).data is data
    assert mended(data) is data


HALF = len(PCM) // 2
TRUE = riff(fmt(), chunk(b"data", PCM[:HALF]))
PIPED = riff(fmt(), b"data" + NONE + PCM[HALF:], size=2**32 - 1)

JOINED = {
    "two files": TRUE + riff(fmt(), chunk(b"data", PCM[HALF:])),
    "two files, comments behind": TRUE + LIST + riff(fmt(), LIST, chunk(b"data", PCM[HALF:]), LIST),
    "two of today's API": riff(fmt(), b"data" + NONE + PCM[:HALF], size=2**32 - 1) + PIPED,
    "two with sizes of 0": riff(fmt(), b"data\0\0\0\0" + PCM[:HALF], size=0) + PIPED,
    "an empty one in front": riff(fmt(), b"data\0\0\0\0", size=0) + TRUE + PIPED,
    "one that is cut off in front": riff(fmt(), chunk(b"data", PCM[:HALF], 96_000)) + PIPED,
    "other chunks in the second": TRUE + riff(LIST, fmt(), LIST, chunk(b"data", PCM[HALF:])),
    "the second is RF64": TRUE + riff(ds64(HALF), fmt(), b"data" + NONE + PCM[HALF:], kind=b"RF64"),
    "the head of a third that is cut off": TRUE + PIPED + TRUE[:40],
    "two chunks of samples": riff(fmt(), chunk(b"data", PCM[:HALF]), chunk(b"data", PCM[HALF:])),
    "three, comments between": riff(
        fmt(), chunk(b"data", PCM[:HALF]), LIST, chunk(b"data", PCM[HALF:-9000]), LIST,
        chunk(b"data", PCM[-9000:]), LIST,
    ),
    "chunks of samples, and a file": riff(
        fmt(), chunk(b"data", PCM[:9000]), chunk(b"data", PCM[9000:HALF])
    ) + PIPED,
    "raw samples": TRUE + PCM[HALF:],
    "raw samples, and a file": TRUE + PCM[HALF:HALF + 7000] + riff(
        fmt(), chunk(b"data", PCM[HALF + 7000:])
    ),
    "raw samples, and a comment": TRUE + PCM[HALF:] + LIST,
    "raw samples behind a comment": TRUE + LIST + PCM[HALF:],
    "a file of half a frame, and another": TRUE + b"\1" + riff(fmt(), chunk(b"data", PCM[HALF:])),
    "no size, and a comment": riff(fmt(), b"data" + NONE + PCM, LIST, size=2**32 - 1),
    "a size of 0, and comments": riff(fmt(), b"data\0\0\0\0" + PCM, LIST, chunk(b"id3 ", b"abc")),
    "no size, and a chunk in a chunk": riff(fmt(), b"data" + NONE + PCM, chunk(b"id3 ", LIST)),
    "cut off, and a comment": riff(fmt(), b"data\0\0\1\0" + PCM, LIST),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_joined_files_become_one(name: str) -> None:
    """All samples are kept, and nothing else is taken for samples: neither heads nor comments."""
    for sound in (AudioInput(JOINED[name]), AssistantAudio(data=JOINED[name])):
        assert played(sound.read()) == (1, 24_000, PCM)
        assert sound.duration == 1.0
        assert mended(sound.read()) is sound.read()


@given(
    st.lists(
        st.tuples(st.integers(1, 300), st.sampled_from([None, 0, 2**32 - 1, 2**30])), min_size=1
    ),
    st.sampled_from([(1, 16), (2, 16), (1, 8), (2, 24)]),
)
def test_any_number_of_files_is_joined(files: list[tuple[int, int | None]], kind: Any) -> None:
    """Whatever the sizes in their heads, the result has the samples of all, and true sizes."""
    channels, bits = kind
    block = channels * bits // 8
    samples = [bytes([n % 200 + 1]) * (block * n * (1 + block % 2)) for n, _ in files]
    parts = [
        riff(fmt(channels=channels, bits=bits), chunk(b"data", pcm, size)[: 8 + len(pcm)])
        for pcm, (_, size) in zip(samples, files, strict=True)
    ]
    assert played(AudioInput(b"".join(parts)).read())[2] == b"".join(samples)


def test_a_joined_file_of_another_rate_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """One file has one rate: the warning says that something is missing."""
    data = TRUE + riff(fmt(rate=16_000), chunk(b"data", PCM)) + riff(fmt(), chunk(b"data", PCM))
    assert played(AudioInput(data).read()) == (1, 24_000, PCM[:HALF] + PCM)
    assert "another coding or rate" in caplog.text


@pytest.mark.parametrize(
    "data",
    [
        riff(fmt(), b"data" + NONE + b"LIST\0\0\0\0" * 1000 + b"\1"),
        PIPED[:100] * 1000,
        riff(fmt(), b"data" + NONE + b"WAVE" * 1000),
        TRUE[:100] + b"RIFF\0\0\0\0WAVE" * 1000,
    ],
    ids=["chunks", "files", "words", "beginnings"],
)
def test_hostile_files_are_joined_in_linear_time(data: bytes) -> None:
    """No chunk, file or word is walked again and again."""
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        mended(data)
    finally:
        sys.setprofile(None)
    assert calls < 200_000


def test_mending_keeps_the_chunks_around_the_samples() -> None:
    """Comments and markers stay if only the size of RIFF is wrong."""
    true = riff(LIST, fmt(), chunk(b"data", PCM[:-1]), LIST, chunk(b"id3 ", b"abc"))
    assert mended(true[:4] + NONE + true[8:]) == true


def test_mending_copies_a_large_file_once() -> None:
    """Mending 40 MB needs the memory of one more copy; reading it again needs none."""
    large = riff(fmt(), b"data" + NONE + bytes(40_000_000), size=0)
    tracemalloc.start()
    sound = AudioInput(large)
    assert tracemalloc.get_traced_memory()[1] < 41_000_000
    tracemalloc.reset_peak()
    assert len(sound.read()) == len(large)
    assert tracemalloc.get_traced_memory()[1] < 41_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("words", [b"fmt ", b"data", b"fact"])
@pytest.mark.parametrize("kind", [b"bext", b"LIST", b"JUNK"])
def test_names_of_chunks_inside_a_chunk_are_no_chunks(words: bytes, kind: bytes) -> None:
    """A comment with the words `fmt ` or `data` does not change how stereo is cut or measured."""
    frames = b"".join(struct.pack("<hh", i, -i) for i in range(1000))
    body = b"see " + words + b"\1\0\1\0\0\0\0\0 and more"
    data = riff(chunk(kind, body), fmt(channels=2, rate=8000), chunk(b"data", frames))
    assert AudioInput(data).duration == 1 / 8
    assert samples_of(data) == frames
    assert played(cut(data, "wav", 0.0001))[2] == frames[:4]
    assert played(cut(data, "wav", 0.1))[2] == frames[:3200]


def test_chunks_behind_the_samples_of_rf64_are_not_heard() -> None:
    """The size of the samples is in `ds64`; a cut file is RIFF and has none of the chunks."""
    data = UNFINISHED["RF64"]
    assert samples_of(data) == PCM
    assert played(cut(data, "wav", 0.5)) == (1, 24_000, PCM[:24_000])


def test_a_file_of_unknown_length_ends_with_a_whole_frame() -> None:
    """Half a frame at the end of an unfinished stereo file is left out."""
    data = riff(fmt(channels=2), b"data" + NONE + PCM + b"\1\2\3", size=0)
    assert played(AudioInput(data).read()) == (2, 24_000, PCM)


IMA = b"\2\0\xf9\3"
"""What IMA ADPCM adds to its format: 1,017 samples in a block of 512 bytes."""


@pytest.mark.parametrize(
    ("about", "chunks", "seconds"),
    [
        ("A-law", (fmt(tag=6, rate=8000, bits=8, byte_rate=0),), 1.0),
        ("mu-law, said to have 16 bits", (fmt(tag=7, rate=8000, bits=16),), 1.0),
        ("floats", (fmt(tag=3, rate=2000, bits=32, byte_rate=7),), 1.0),
        ("ADPCM by its blocks", (fmt(tag=17, rate=8000, bits=4, block=512, byte_rate=1),), 1.9),
        (
            "ADPCM by `fact`",
            (
                fmt(tag=17, rate=8000, bits=4, block=512, byte_rate=1, extra=IMA),
                chunk(b"fact", struct.pack("<I", 15_000)),
            ),
            1.875,
        ),
        (
            "ADPCM, `fact` not filled in",
            (
                fmt(tag=17, rate=8000, bits=4, block=512, byte_rate=1),
                chunk(b"fact", NONE),
            ),
            1.9,
        ),
        ("GSM", (fmt(tag=49, rate=8000, bits=0, block=65, byte_rate=3),), 4.92),
        ("another coding", (fmt(tag=99, rate=8000, bits=0, block=9, byte_rate=4000),), 2.0),
        (
            "another coding by `fact`",
            (
                fmt(tag=99, rate=8000, bits=0, block=9, byte_rate=0),
                chunk(b"fact", struct.pack("<I", 12_000)),
            ),
            1.5,
        ),
    ],
)
def test_length_is_not_taken_from_the_bytes_a_second(
    about: str, chunks: tuple[bytes, ...], seconds: float
) -> None:
    """It is samples by rate, or for compressed sound blocks, `fact`, and the byte rate last."""
    data = riff(*chunks, chunk(b"data", bytes(8000)))
    assert AudioInput(data).duration == pytest.approx(seconds, abs=0.01), about


def test_a_cut_compressed_file_tells_its_new_length() -> None:
    """ADPCM is cut behind a block, and `fact` says how many samples are left."""
    head = fmt(tag=17, rate=8000, bits=4, block=512, extra=IMA)
    whole = riff(head, chunk(b"fact", struct.pack("<I", 15_000)), chunk(b"data", bytes(8192)))
    short = cut(whole, "wav", 0.5)
    assert duration_of(short, "wav") == 0.5
    assert len(samples_of(short)) == 4 * 512
    assert cut(whole, "wav", 5) == whole


WAVL = struct.pack("<I", 12_000)


@pytest.mark.parametrize(
    ("about", "data", "samples"),
    [
        ("a tag", b"ID3\3\0\0\0\0\0\x0a" + bytes(10) + riff(fmt(), chunk(b"data", PCM)), PCM),
        ("a byte order mark", b"\xef\xbb\xbf" + riff(fmt(), chunk(b"data", PCM)), PCM),
        ("the line that ends a form's head", b"\r\n" + riff(fmt(), chunk(b"data", PCM)), PCM),
        ("samples before the format", riff(chunk(b"data", PCM), LIST, fmt()), PCM),
        ("a chunk that is not padded", riff(b"bext\3\0\0\0abc", fmt(), chunk(b"data", PCM)), PCM),
        ("two", riff(b"bext\1\0\0\0a", b"JUNK\1\0\0\0b", fmt(), chunk(b"data", PCM)), PCM),
        (
            "a list of samples and silence",
            riff(
                fmt(),
                chunk(
                    b"LIST",
                    b"wavl"
                    + chunk(b"data", PCM[:24_000])
                    + chunk(b"slnt", WAVL)
                    + chunk(b"data", PCM),
                ),
            ),
            PCM[:24_000] + bytes(24_000) + PCM,
        ),
        (
            "a format without its bits",
            riff(
                chunk(b"fmt ", struct.pack("<HHIIH", 1, 1, 24_000, 48_000, 2)), chunk(b"data", PCM)
            ),
            PCM,
        ),
        ("no channels", riff(fmt(channels=0, block=2), chunk(b"data", PCM)), PCM),
    ],
)
def test_unusual_orders_of_a_file_are_made_usual(about: str, data: bytes, samples: bytes) -> None:
    """What stands before a file, its order and its padding become what every reader knows."""
    said = AudioInput(data)
    assert played(said.read()) == (1, 24_000, samples), about
    assert said.duration == len(samples) / 48_000
    assert duration_of(data, "wav") == said.duration
    assert samples_of(data)[-24_000:] == samples[-24_000:]
    kept = AssistantAudio(data=data)
    assert kept.format == "wav"
    assert kept.read() == said.read()


def test_samples_of_24_bits_may_have_a_place_of_32() -> None:
    """The size of a frame counts if the byte rate agrees; the head then says 32 bits."""
    wide = b"".join(b"\0\0" + PCM[i : i + 2] for i in range(0, len(PCM), 2))
    said = AudioInput(riff(fmt(bits=24, block=4, byte_rate=96_000), chunk(b"data", wide)))
    assert said.duration == 1.0
    with wave.open(io.BytesIO(said.read())) as file:
        assert (file.getsampwidth(), file.getnframes()) == (4, 24_000)
    narrow = AudioInput(riff(fmt(bits=16, block=4), chunk(b"data", PCM)))
    assert played(narrow.read()) == (1, 24_000, PCM)


def test_silence_of_a_list_is_bounded() -> None:
    """A small file cannot ask for gigabytes."""
    bomb = chunk(b"LIST", b"wavl" + chunk(b"slnt", NONE) + chunk(b"data", PCM))
    with pytest.raises(UnsupportedAudio, match="damaged head"):
        AudioInput(riff(fmt(), bomb))


@pytest.mark.parametrize(
    ("data", "lack"),
    [
        (riff(fmt()), "no samples; record some sound"),
        (riff(fmt(), chunk(b"data", b"")), "no samples; record some sound"),
        (riff(fmt(), chunk(b"data", b""), LIST), "no samples; record some sound"),
        (riff(fmt(), chunk(b"data", b"\1")), "no samples; record some sound"),
        (riff(chunk(b"data", PCM)), "a damaged head, which tells no format"),
        (riff(fmt(), chunk(b"LIST", b"INFO", 2**31), chunk(b"data", PCM)), "a damaged head"),
        (riff(fmt(rate=0, byte_rate=0), chunk(b"data", PCM)), "no sample rate; use .*from_pcm"),
    ],
)
def test_files_without_samples_or_format_are_refused(data: bytes, lack: str) -> None:
    """The error says what the file lacks."""
    with pytest.raises(UnsupportedAudio, match=lack):
        AudioInput(data)


@given(st.binary(max_size=120), st.sampled_from([b"RIFF", b"RF64", b"BW64"]), st.floats(0, 1e9))
def test_bytes_behind_the_signature_may_be_anything(
    tail: bytes, kind: bytes, seconds: float
) -> None:
    """Hostile files are measured, mended and cut without any other error."""
    for data in (
        kind + NONE + b"WAVE" + tail,
        riff(b"fmt \x10\0\0\0" + tail, b"data" + NONE + tail),
    ):
        AssistantAudio(data=data)
        assert cut(data, "wav", seconds) is not None
        again = mended(mended(data))
        assert again == mended(data)


def test_thousands_of_chunks_are_not_walked() -> None:
    """A file of nothing but heads of chunks is refused after some thousand of them."""
    with pytest.raises(UnsupportedAudio):
        AudioInput(riff(b"JUNK\0\0\0\0" * 5000, fmt(), chunk(b"data", PCM)))
