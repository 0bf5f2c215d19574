"""Sound of any format becomes WAV or MP3; hostile sound is refused."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput
from conversation._values.conversion import amr_seconds, encoded, ogg_links
from conversation._values.sound import samples_of
from conversation.errors import InvalidTurn, UnsupportedAudio
from tests import speech
from tests.samples import MP3, SOUND

WIDE = ((0, 17), (8, 60), (9, 5), (15, 0))
"""Modes of AMR-WB, with the bytes behind the first of a packet."""

av: Any = pytest.importorskip("av", reason="needs the extra `formats`")

ROOT = Path(__file__).parents[2]
FUZZ = int(os.environ.get("CONVERSATION_FUZZ", "3000"))


def wav(rate: int, channels: int = 1, size: int = 9_600, bits: int = 16) -> bytes:
    """Return a silent WAV file."""
    block = channels * bits // 8
    fmt = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    head = b"RIFF" + struct.pack("<I", 36 + size) + b"WAVEfmt \x10\0\0\0"
    return head + fmt + b"data" + struct.pack("<I", size) + bytes(size)


# --- good sound -----------------------------------------------------------------------------------


@speech.needs_speech
@pytest.mark.parametrize("form", speech.FORMS)
def test_speech_of_any_format_is_converted(form: str) -> None:
    """The words are as long and as loud as they were, as 24 kHz mono."""
    original = AudioInput(speech.spoken())
    sound = AudioInput.convert(speech.in_form(form), transcript="Is a …")
    assert (sound.format, sound.transcript) == ("wav", "Is a …")
    assert sound.read()[20:32] == struct.pack("<HHII", 1, 1, 24_000, 48_000)
    assert sound.duration == pytest.approx(original.duration, abs=0.06)
    assert speech.likeness(original.read(), sound.read()) > 0.9


@speech.needs_speech
@pytest.mark.parametrize("form", ["Ogg/Opus", "MP4/AAC", "AMR", "WAV, stereo", "MP3"])
def test_mp3_is_a_seventh_of_wav(form: str) -> None:
    """The same speech as MP3 of 48 kbit/s has the same length."""
    data = speech.in_form(form)
    large, small = AudioInput.convert(data), AudioInput.convert(data, to="mp3")
    assert small.format == "mp3"
    assert len(small.read()) * 7 <= len(large.read())
    assert small.duration == pytest.approx(large.duration, abs=0.03)
    assert speech.likeness(large.read(), AudioInput.convert(small.read()).read()) > 0.9


@speech.needs_speech
@pytest.mark.parametrize("form", ["Ogg/Opus", "ADTS AAC", "MP3", "Ogg/Vorbis"])
def test_joined_files_are_converted_whole(form: str) -> None:
    """A stream that begins anew, as of several messages, loses nothing."""
    data = speech.in_form(form)
    once, twice = AudioInput.convert(data).duration, AudioInput.convert(data * 2).duration
    assert twice == pytest.approx(2 * (once or 0), abs=0.2)


@speech.needs_speech
def test_a_stream_that_changes_its_rate_is_converted_whole() -> None:
    """AAC of 22,050 Hz that goes on with 48 kHz stereo sounds as long as both."""
    data = speech.in_form("ADTS AAC")
    sound = AudioInput.convert(data).read()
    stereo = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", "-", "-ar", "48000", "-ac", "2", "-f", "adts", "-"],
        input=sound,
        capture_output=True,
        check=True,
    ).stdout
    seconds = AudioInput.convert(data + stereo).duration
    assert seconds == pytest.approx(2 * (AudioInput(sound).duration or 0), abs=0.15)


@speech.needs_speech
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("Ogg/Vorbis", "-c:a libvorbis -ar 16000"),
        ("Ogg/Vorbis", "-c:a libopus -ac 2"),
        ("Ogg/Opus", "-c:a libvorbis -ar 48000"),
    ],
)
def test_ogg_goes_on_in_another_rate_or_coding(form: str, options: str) -> None:
    """Chained files, as of recorded radio streams, are as long as their links, and sound alike."""
    first = speech.in_form(form)
    sound = AudioInput.convert(first).read()
    other = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", "-", *options.split(), "-f", "ogg", "-"],
        input=sound,
        capture_output=True,
        check=True,
    ).stdout
    both = AudioInput.convert(first + other + first)
    once = AudioInput(sound).duration or 0
    assert both.duration == pytest.approx(3 * once, abs=0.15)
    length = len(sound) - 44
    for link in range(3):
        part = both.read()[44 + link * length : 44 + (link + 1) * length]
        assert speech.likeness(sound, AudioInput.from_pcm(part, rate=24_000).read()) > 0.9
    with pytest.raises(UnsupportedAudio, match="longer than max_seconds"):
        AudioInput.convert(first + other, max_seconds=1.5 * once)


def test_an_ogg_file_of_nothing_but_beginnings_is_refused() -> None:
    """Links without sound are no endless work, and a page that is cut off ends the last."""
    head = b"OggS\0\2" + bytes(20) + b"\1\x13OpusHead\1\1" + bytes(9)
    page = b"OggS\0\0" + bytes(20) + b"\0"
    links = list(ogg_links((head + page) * 3 + b"OggS"))
    assert [len(link) for link in links] == [len(head + page)] * 2 + [len(head + page) + 4]
    with pytest.raises(UnsupportedAudio):
        AudioInput.convert((head + page) * 200)


def test_an_ogg_file_of_very_many_links_is_refused() -> None:
    """Each link of a chain is opened anew, so that their number is bounded."""
    link = encoded([bytes(960)], "opus")
    with pytest.raises(UnsupportedAudio, match="is a chain of more than 500 files"):
        AudioInput.convert(link * 501)


@pytest.mark.parametrize("audio_format", ["opus", "aac", "flac", "mp3"])
def test_what_is_encoded_can_be_converted(audio_format: str) -> None:
    """Samples survive each encoder; FLAC keeps them all."""
    samples = b"".join(struct.pack("<h", (i * 37) % 8000 - 4000) for i in range(24_000))
    again = AudioInput.convert(encoded([samples[:20_000], samples[20_000:]], audio_format))
    assert again.duration == pytest.approx(1.0, abs=0.05)
    if audio_format == "flac":
        assert samples_of(again.read()) == samples


def test_no_samples_are_encoded_as_no_bytes() -> None:
    """An encoder without sound makes no file that has none."""
    assert encoded([], "mp3") == b""


def test_a_file_is_converted_by_its_path(tmp_path: Path) -> None:
    """Paths may be text; bytes may be any buffer."""
    path = tmp_path / "voice.bin"
    path.write_bytes(SOUND)
    buffers: list[Any] = [SOUND, bytearray(SOUND), memoryview(SOUND)]
    for data in (path, str(path), *buffers):
        assert AudioInput.convert(data).duration == pytest.approx(0.1)


def test_telephone_silence_lasts_as_long_as_it_was() -> None:
    """AMR packets without data are silence of 20 ms, in both of its forms."""
    for head in (b"#!AMR\n", b"#!AMR-WB\n"):
        assert AudioInput.convert(head + b"\x7c" * 100).duration == pytest.approx(2.0)


def test_duration_of_amr_is_known_before_its_packets_are_decoded() -> None:
    """A day of silence, which would take minutes, is counted packet by packet up to the bound."""
    sent = speech.in_form("AMR")
    assert amr_seconds(sent, 60) == pytest.approx(AudioInput.convert(sent).duration)
    wide = b"#!AMR-WB\n" + b"".join(bytes((8 * mode + 4,)) + bytes(size) for mode, size in WIDE)
    assert amr_seconds(wide, 60) == pytest.approx(AudioInput.convert(wide).duration) == 0.08
    for head in (b"#!AMR\n", b"#!AMR-WB\n"):
        assert amr_seconds(head + b"\x7c" * 4_320_000, 1800) == 1800.02


def test_wav_heads_are_mended_before() -> None:
    """A recorder's wrong sizes cost no sound."""
    for size in (b"\0\0\0\0", b"\xff\xff\xff\xff"):
        assert AudioInput.convert(SOUND[:40] + size + SOUND[44:]).duration == pytest.approx(0.1)


# --- bounds ---------------------------------------------------------------------------------------


def test_longer_sound_is_refused_and_never_cut() -> None:
    """`max_seconds` is inclusive, and the error names it."""
    assert AudioInput.convert(SOUND, max_seconds=0.1).duration == pytest.approx(0.1)
    for data in (SOUND, MP3, b"#!AMR\n" + b"\x7c" * 4_000_000):
        with pytest.raises(UnsupportedAudio, match=r"longer than max_seconds=0\.09"):
            AudioInput.convert(data, max_seconds=0.09)


@pytest.mark.parametrize(
    ("rate", "channels"), [(1, 1), (999, 1), (768_001, 1), (2**31 - 1, 2), (48_000, 9)]
)
def test_absurd_rates_and_channels_are_refused(rate: int, channels: int) -> None:
    """A file of 1 Hz would grow 24,000 times; one of 2 GHz needs a filter of gigabytes."""
    with pytest.raises(UnsupportedAudio, match=rf"{channels} channels? of {rate} Hz"):
        AudioInput.convert(wav(rate, channels, size=2_400))


def test_rates_at_the_bounds_are_converted() -> None:
    """1 kHz and 768 kHz are rates; 8 channels become one."""
    assert AudioInput.convert(wav(1_000)).duration == pytest.approx(4.8, abs=0.01)
    assert AudioInput.convert(wav(768_000, size=768_000)).duration == pytest.approx(0.5, abs=0.01)
    assert AudioInput.convert(wav(48_000, 8)).duration == pytest.approx(0.0125, abs=0.01)


@pytest.mark.parametrize("options", [{"to": "ogg"}, {"to": ""}, {"to": None}])
def test_other_targets_are_refused(options: dict[str, Any]) -> None:
    """Only what the API takes is made."""
    with pytest.raises(UnsupportedAudio, match="to must be 'wav' or 'mp3'"):
        AudioInput.convert(SOUND, **options)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), True, "9", None])
def test_durations_that_are_none_are_refused(seconds: Any) -> None:
    """`max_seconds` is a number above 0."""
    with pytest.raises(UnsupportedAudio, match="max_seconds must be a number > 0"):
        AudioInput.convert(SOUND, max_seconds=seconds)


# --- hostile sound --------------------------------------------------------------------------------


def test_text_is_a_file_name_and_never_a_url(tmp_path: Path, monkeypatch: Any) -> None:
    """URLs and the protocols of decoders are files that do not exist."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(SOUND)
    for name in ("secret", "http://127.0.0.1/a", "concat:secret.wav", "file:secret.wav", "pipe:0"):
        with pytest.raises(FileNotFoundError):
            AudioInput.convert(name)
    with pytest.raises(InvalidTurn):
        AudioInput.convert(5)  # type: ignore[arg-type]  # the mistake under test


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.wav\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'></MPD>",
        "[Reference]\nRef1=http://127.0.0.1/secret.asf\n",
        "<ASX version='3.0'><entry><ref href='http://127.0.0.1/a'/></entry></ASX>",
        "Hello",
        "",
    ],
)
@pytest.mark.parametrize("before", [b"", b"ID3\4\0\0\0\0\0\0", b"\xef\xbb\xbf"])
def test_playlists_and_descriptions_are_no_sound(
    before: bytes, text: str, tmp_path: Path, monkeypatch: Any
) -> None:
    """Text that makes a decoder open another file, or a socket, is refused before it sees it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.wav").write_bytes(SOUND)
    with pytest.raises(UnsupportedAudio, match="no sound file"):
        AudioInput.convert(before + text.encode())


@speech.needs_speech
@pytest.mark.parametrize("form", ["FLAC", "MP3", "WebM/Opus", "MP4/AAC", "WAV, stereo", "WMA"])
def test_tags_that_are_no_utf_8_do_no_harm(form: str) -> None:
    """Titles in Latin-1, or in no encoding at all, are replaced."""
    data = speech.in_form(form)
    for title in (b"TITLE of", "TITLE of".encode("utf-16-le")):
        data = data.replace(title, b"\xff\xfe\xe9\xc3" + title[4:])
    assert b"\xff\xfe\xe9\xc3" in data
    assert AudioInput.convert(data).duration


@speech.needs_speech
@pytest.mark.parametrize("form", speech.FORMS)
def test_files_that_are_cut_off_are_read_or_refused(form: str) -> None:
    """An upload that broke off gives what is there, or one error."""
    data = speech.in_form(form)
    for part in (40, 100, len(data) // 3, len(data) - 100):
        try:
            assert AudioInput.convert(data[:part]).duration
        except UnsupportedAudio as error:
            told = str(error)
            assert "this" in told
            assert "\n" not in told


def test_a_picture_with_the_head_of_sound_is_refused() -> None:
    """A Matroska file without a stream of sound has none, whatever else is in it."""
    for data in (b"\x1aE\xdf\xa3" + bytes(200), b"OggS" + bytes(200), b"fLaC" + bytes(200)):
        with pytest.raises(UnsupportedAudio, match=r"this (Matroska|Ogg|FLAC) file"):
            AudioInput.convert(data)


@pytest.mark.parametrize("data", [b"wvpk" + bytes(99), b"%PDF-1.7", b"\x02#!SILK_V3" + bytes(9)])
def test_formats_that_are_not_read_are_named(data: bytes) -> None:
    """The error does not promise what `convert` cannot do."""
    with pytest.raises(UnsupportedAudio, match=r"this is (WavPack|PDF|SILK) .* not read here"):
        AudioInput.convert(data)
    with pytest.raises(UnsupportedAudio) as caught:
        AudioInput(data)
    assert "AudioInput.convert" not in str(caught.value)


@pytest.mark.slow
@speech.needs_speech
def test_damaged_files_touch_nothing_and_end(tmp_path: Path) -> None:
    """Thousands of mutated files crash nothing, hang nothing, and open neither file nor socket.

    CONVERSATION_FUZZ sets their number. Where there is strace, it watches from outside.
    """
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    for number, form in enumerate(speech.FORMS):
        (corpus / f"{number:02}").write_bytes(speech.in_form(form, "Dog."))
    log = tmp_path / "calls"
    watch: list[str] = []
    if strace := shutil.which("strace"):
        watch = [strace, "-f", "--seccomp-bpf", "-e", "trace=%file,%network", "-o", str(log)]
    child = str(Path(__file__).with_name("fuzzed_files.py"))
    done = subprocess.run(
        [*watch, sys.executable, child, str(corpus), str(FUZZ)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert (done.returncode, done.stderr) == (0, "")
    good, bad = map(int, done.stdout.split())
    assert good + bad == FUZZ
    assert good
    assert bad
    if watch:
        calls = log.read_text().partition("/the-fuzz-begins")[2].partition("/the-fuzz-ends")[0]
        expected = ("/proc/self/fd", 'fstatat(3, ""', 'access("')  # its looks at descriptors
        made = re.findall(r"^\d+ +(\w+\(.*)", calls, re.MULTILINE)
        assert not [call for call in made if not any(part in call for part in expected)]


# --- without PyAV ---------------------------------------------------------------------------------


def test_without_pyav_the_error_names_the_extra(tmp_path: Path) -> None:
    """Without PyAV, convertible sound raises ImportError; other data is refused as ever."""
    (tmp_path / "av.py").write_text("raise ImportError('no av')")
    code = (
        "from conversation import AudioInput\n"
        "for data in (b'OggS' + bytes(24) + b'OpusHead', b'Hello'):\n"
        "    try: AudioInput.convert(data)\n"
        "    except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("ImportError converting Ogg/Opus needs PyAV")
    assert "pip install '.[formats]'" in first
    assert second.startswith("UnsupportedAudio this is no sound file")
