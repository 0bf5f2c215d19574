"""Lengths of generated files, judged by other programs.

Needs `ffmpeg`, `soxi` (Debian: ffmpeg, sox) and the extra `formats`. Each start of `ffmpeg` takes a
tenth of a second, so that it is given all files of a test at once.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversation import AudioInput
from conversation._values.sound import cut, duration_of, samples_of

pytestmark = pytest.mark.slow

av: Any = pytest.importorskip("av", reason="needs the extra `formats`")

for program in ("ffmpeg", "soxi"):
    if shutil.which(program) is None:
        pytest.skip(f"needs {program} (Debian: ffmpeg, sox)", allow_module_level=True)

NONE = 2**32 - 1


def ran(*command: str | Path) -> bytes:
    """Return what a program writes."""
    done = subprocess.run(command, capture_output=True, check=False, timeout=300)
    assert not done.returncode, done.stderr.decode(errors="replace")
    return done.stdout


def by_demuxer(path: Path) -> float:
    """Return the length in seconds that the library of `ffprobe` shows."""
    with av.open(str(path)) as file:
        return float(file.duration / av.time_base)


def by_decoding(*paths: Path) -> list[float]:
    """Return the lengths in seconds of the samples that `ffmpeg` decodes."""
    raw = ("-ac", "1", "-ar", "48000", "-f", "s16le")
    decoded = [path.with_suffix(".raw") for path in paths]
    command: list[str | Path] = ["ffmpeg", "-v", "quiet", "-y"]
    for path in paths:
        command += ["-f", path.suffix[1:], "-i", path]
    for number, path in enumerate(decoded):
        command += ["-map", str(number), *raw, path]
    ran(*command)
    return [path.stat().st_size / 96_000 for path in decoded]


def by_soxi(*paths: Path) -> list[float]:
    """Return the lengths in seconds that `soxi` shows."""
    return [float(line) for line in ran("soxi", "-V1", "-D", *paths).split()]


@attrs.frozen
class Coding:
    """A coding of WAV files.

    Attributes:
        tag: Its number.
        bits: Bits per sample.
        block: Bytes of a block for each channel.
        frames: Samples of each channel in a block.
        extra: What it adds to its format.
    """

    tag: int
    bits: int
    block: int
    frames: int = 1
    extra: bytes = b""


CODINGS = {
    **{f"s{8 * width}": Coding(1, 8 * width, width) for width in (1, 2, 3, 4)},
    **{f"f{8 * width}": Coding(3, 8 * width, width) for width in (4, 8)},
    "A-law": Coding(6, 8, 1),
    "mu-law": Coding(7, 8, 1),
    "IMA ADPCM": Coding(17, 4, 512, 1017, struct.pack("<H", 1017)),
    "GSM": Coding(49, 0, 65, 320, struct.pack("<H", 320)),
}

FAULTS = (
    *("none", "piped", "sizes of 0", "sizes of sox", "cut off", "RIFF", "no byte rate"),
    *("half the byte rate", "twice the byte rate", "no block", "twice the block"),
)


def written(
    coding: Coding, rate: int, channels: int, blocks: int, kind: str, fault: str, *, chunks: bool
) -> bytes:
    """Return a file of that many blocks, with a fault in its head."""
    block = coding.block * channels
    samples = b"\1\2" * (block * blocks // 2) + b"\3" * (block * blocks % 2)
    byte_rate = rate * block // coding.frames
    times = {"no byte rate": 0, "half the byte rate": 0.5, "twice the byte rate": 2}
    byte_rate = int(byte_rate * times.get(fault, 1))
    if coding.frames == 1:
        block = {"no block": 0, "twice the block": 2 * block}.get(fault, block)
    is_extensible = kind == "extensible" and coding.tag in (1, 3)
    tag, extra = coding.tag, coding.extra
    if is_extensible:
        guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
        tag, extra = 0xFFFE, struct.pack("<HI", coding.bits, 0) + guid
    fmt = struct.pack("<HHIIHH", tag, channels, rate, byte_rate, block, coding.bits)
    fmt += struct.pack("<H", len(extra)) + extra if extra else b""
    body = b"WAVE"
    if kind in ("RF64", "BW64"):
        body += struct.pack("<4sIQQQI", b"ds64", 28, 0, len(samples), blocks * coding.frames, 0)
    if chunks:
        body += b"LIST\x0c\0\0\0INFOfmt \0\0\0\0"
    body += struct.pack("<4sI", b"fmt ", len(fmt)) + fmt
    if coding.frames > 1:
        body += struct.pack("<4sII", b"fact", 4, blocks * coding.frames)
    sizes = {"piped": NONE, "sizes of 0": 0, "sizes of sox": 0x7FFFF000, "cut off": 2**30}
    size = sizes.get(fault, NONE if kind in ("RF64", "BW64") else len(samples))
    body += struct.pack("<4sI", b"data", size) + samples + bytes(len(samples) % 2)
    has_tail = chunks and size == len(samples)
    body += b"LIST\x0c\0\0\0INFOdata\0\0\0\0" if has_tail else b""
    whole = {"piped": NONE, "sizes of 0": 0, "RIFF": 77}.get(fault, len(body))
    return (kind if kind in ("RF64", "BW64") else "RIFF").encode() + struct.pack("<I", whole) + body


@settings(max_examples=max(settings().max_examples // 3, 10))
@given(
    st.sampled_from(list(CODINGS)),
    st.sampled_from([8_000, 16_000, 22_050, 24_000, 44_100, 48_000]),
    st.sampled_from([1, 2, 6]),
    st.integers(1, 200),
    st.sampled_from(["RIFF", "RF64", "BW64", "extensible"]),
    st.sampled_from(FAULTS),
    st.booleans(),
)
def test_wav_of_any_kind_is_as_long_as_others_say(
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    rate: int,
    channels: int,
    tens: int,
    kind: str,
    fault: str,
    chunks: bool,
) -> None:
    """`ffmpeg` and `soxi` agree on the length of what is kept and sent, whatever the head was."""
    coding = CODINGS[name]
    channels = min(channels, 1 if name == "GSM" else 2 if name == "IMA ADPCM" else 6)
    blocks = tens * (50 if coding.frames == 1 else 1)
    data = written(coding, rate, channels, blocks, kind, fault, chunks=chunks)
    sound = AudioInput(data)
    seconds = blocks * coding.frames / rate
    if coding.tag == 1 and coding.bits == 8 and blocks % 2 and fault in ("piped", "sizes of 0"):
        seconds = sound.duration or 0  # padding cannot be told from a sample
    assert sound.duration == pytest.approx(seconds, abs=1.5 / rate)
    path, half = (tmp_path_factory.getbasetemp() / name for name in ("judged.wav", "half.wav"))
    path.write_bytes(sound.read())
    half.write_bytes(cut(data, "wav", seconds / 2))
    # It may take 4 bits a sample for ADPCM, also for the heads of blocks.
    loose = 0.01 * seconds if name == "IMA ADPCM" else 1e-6
    assert by_demuxer(path) == pytest.approx(sound.duration, abs=1.5 / rate + loose)
    lengths = by_soxi(path, half)
    assert lengths[0] == pytest.approx(sound.duration, abs=1.5 / rate + 1e-6)
    if coding.frames == 1:
        assert len(samples_of(sound.read())) == round(seconds * rate) * coding.block * channels
    short = pytest.approx(seconds / 2, abs=coding.frames / rate + loose)
    assert by_demuxer(half) == short
    assert lengths[1] == short


CODECS = ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw",
          "adpcm_ima_wav", "adpcm_ms", "libgsm_ms"]  # fmt: skip


@pytest.mark.parametrize("codec", CODECS)
def test_wav_by_ffmpeg_is_as_long_as_others_say(tmp_path: Path, codec: str) -> None:
    """Files that `ffmpeg` writes, also into pipes, have the length of the sound in them."""
    source = ("-f", "lavfi", "-i", "sine=frequency=300:duration=3:sample_rate=8000")
    paths = []
    for options in ((), ("-rf64", "always")):
        target = ("-c:a", codec, *options, "-f", "wav")
        paths += [tmp_path / f"{kind}{len(options)}.wav" for kind in ("seekable", "piped")]
        piped = ran("ffmpeg", "-v", "error", *source, *target, paths[-2], *target, "-")
        paths[-1].write_bytes(piped)
    durations = []
    for path in paths:
        sound = AudioInput.from_file(path)
        assert sound.duration == pytest.approx(3.0, abs=1 / 8 if "adpcm" in codec else 0.001), path
        path.write_bytes(sound.read())
        durations += [sound.duration]
        # Without `fact` it takes 4 bits a sample for ADPCM, also for the heads of its blocks.
        loose = 0.02 if "adpcm" in codec else 1e-3
        assert by_demuxer(path) == pytest.approx(sound.duration, abs=loose), path
    assert by_decoding(*paths) == pytest.approx(durations, abs=0.001)
    assert by_soxi(*paths) == pytest.approx(durations, abs=0.001)


OPTIONS = {
    "constant": ("-b:a", "64k"),
    "variable": ("-q:a", "6"),
    "no tag": ("-b:a", "64k", "-id3v2_version", "0"),
    "no frame that tells": ("-b:a", "64k", "-write_xing", "0"),
    "both tags": ("-b:a", "64k", "-id3v2_version", "3", "-write_id3v1", "1"),
}


@pytest.mark.parametrize(("rate", "channels"), [(8_000, 1), (24_000, 1), (24_000, 2), (44_100, 2)])
def test_mp3_is_as_long_as_others_say(tmp_path: Path, rate: int, channels: int) -> None:
    """`ffmpeg` decodes as much as was measured, of whole files, cut, joined and damaged ones."""
    source = ("-f", "lavfi", "-i", f"aevalsrc=0.4*sin(300*t*t)*random(0):s={rate}:d=3")
    form = ("-ac", str(channels), "-c:a", "libmp3lame")
    made = {kind: tmp_path / f"{kind}.mp3" for kind in OPTIONS}
    command: list[str | Path] = ["ffmpeg", "-v", "error", *source]
    for kind, options in OPTIONS.items():
        command += [*form, *options, made[kind]]
    ran(*command)
    frame = (1152 if rate > 24_000 else 576) / rate
    measured: dict[Path, tuple[float | None, float]] = {}
    for kind, path in made.items():
        data = path.read_bytes()
        loose = 4 * frame if kind == "no frame that tells" else 1e-6
        assert duration_of(data, "mp3") == pytest.approx(3.0, abs=loose), kind
        measured[path] = duration_of(data, "mp3"), 2 * frame
        middle = len(data) // 2
        changed = {
            "cut": cut(data, "mp3", 2.0),
            "joined": data * 3,
            "hole": data[:middle] + bytes(2000) + data[middle:],
            "junk in front": data[:45] + b"junk" * 500 + data[45:] if data[:3] == b"ID3" else data,
            "cut off": data[:middle],
            "begun in mid-frame": data[middle - 100 :],
        }
        for name, each in changed.items():
            varied = tmp_path / f"{kind}, {name}.mp3"
            varied.write_bytes(AudioInput(each).read())
            measured[varied] = AudioInput(each).duration, 5 * frame + 0.01
        assert AudioInput(data * 3).duration == pytest.approx(9.0, abs=15 * frame), kind
        assert duration_of(changed["cut"], "mp3") == pytest.approx(2.0, abs=frame), kind
        if kind != "variable":  # its rate can only be estimated
            raw = tmp_path / "cut.mp3"
            raw.write_bytes(changed["cut"])
            assert by_demuxer(raw) == pytest.approx(2.0, abs=2 * frame), kind
    for (path, (seconds, loose)), decoded in zip(
        measured.items(), by_decoding(*measured), strict=True
    ):
        assert seconds == pytest.approx(decoded, abs=loose), path
