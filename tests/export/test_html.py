"""The format `html`: what is in the page. `test_browser` shows what a browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Context,
    Conversation,
    FileInput,
    FileStore,
    ImageInput,
    ToolCall,
    UserTurn,
)
from conversation._values.sound import duration_of, format_of
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.export.conftest import HOSTILE
from tests.samples import MP3, PNG, SOUND


def test_the_page_escapes_all_text(full: Conversation, tmp_path: Path) -> None:
    """Title, texts, file names, URLs and calls are escaped, and control characters replaced."""
    full.set_title(HOSTILE)
    chat = full.fork()
    chat.add(
        UserTurn([HOSTILE, FileInput(b"x", HOSTILE), ImageInput("https://x.example/" + HOSTILE)])
    )
    chat.add(AssistantTurn(tool_calls=[ToolCall("1", HOSTILE, HOSTILE)]))
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("<script>") == 1
    assert "\x1b" not in page
    assert "\x00" not in page
    assert "<b>wind" not in page
    assert page.count("alert(1)") == page.count("&lt;script&gt;alert(1)&lt;/script&gt;")


def test_the_page_refers_to_nothing_outside(full: Conversation, tmp_path: Path) -> None:
    """All sources are `data:` URLs; an image that the user sent as a URL is only named."""
    full.add_user(ImageInput("https://elsewhere.example/cat.png"), "What is it?")
    page = full.export(tmp_path / "a.html").read_text()
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]*)', page)
    assert len(sources) == 8  # seven, and an icon of the style sheet
    assert all(source.startswith("data:") for source in sources)
    assert "picture https://elsewhere.example/cat.png" in page
    assert "default-src 'none'" in page


def wav(seconds: float) -> bytes:
    """Return a tone, half of it silent."""
    half = int(seconds * 12_000)
    tone = (round(12_000 * math.sin(at / 9)) for at in range(half))
    return AudioInput.from_pcm(struct.pack(f"<{half}h", *tone) + bytes(2 * half), 24_000).read()


def sounds_in(page: str) -> list[bytes]:
    """Return all sounds that the page embeds."""
    sources = re.findall(r'src="data:audio/[a-z]*;base64,([^"]*)"', page)
    return [base64.b64decode(source) for source in sources]


def one_of_each() -> Conversation:
    """Return a conversation with the same tone as WAV, as raw samples, and as MP3."""
    chat = Conversation()
    chat.add_user(AudioInput(wav(2), transcript="A tone"))
    chat.add(AssistantTurn(audio=AssistantAudio(data=wav(2)[44:], format="pcm16")))
    chat.add_user(AudioInput(MP3))
    return chat


def test_large_sound_is_embedded_as_mp3(tmp_path: Path) -> None:
    """WAV and raw samples become MP3 of the same length, with their own waveform; MP3 stays."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    page = one_of_each().export(tmp_path / "a.html").read_text()
    sounds = sounds_in(page)
    assert [format_of(sound) for sound in sounds] == ["mp3"] * 3
    assert sounds[2] == MP3
    for sound in sounds[:2]:
        assert len(sound) < len(wav(2)) / 6
        assert duration_of(sound, "mp3") == pytest.approx(2, abs=0.1)
    assert page.count('data-seconds="2.000"') == 2
    for path in re.findall('<path d="([^"]+)"', page):
        heights = [float(height) for height in re.findall(r"V(\S+?)(?=M|$)", path)]
        assert len(heights) == 64
        assert min(heights[:31]) > 0.9
        assert max(heights[33:]) < 0.1
    kinds = "2 &times; MP3 made for this page (24 kHz, mono, 48 kbit/s), 1 &times; MP3."
    assert f"Sound in this page: {kinds}" in page


def test_without_pyav_sound_is_embedded_as_it_is(tmp_path: Path) -> None:
    """Without the extra `formats`, raw samples get a WAV header so that they play."""
    (tmp_path / "av.py").write_text("raise ImportError('no av')")
    one_of_each().save(tmp_path / "a.json")
    code = "from conversation import Conversation as C; C.load('a.json').export('a.html')"
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path(__file__).parents[2]}"},
        check=True,
    )
    page = (tmp_path / "a.html").read_text()
    assert sounds_in(page) == [wav(2), wav(2), MP3]
    assert "Sound in this page: 2 &times; WAV, 1 &times; MP3." in page


@pytest.mark.parametrize("tag", ["style", "script"])
def test_the_policy_allows_the_inline_text(tag: str, tmp_path: Path) -> None:
    """The content security policy names the hash of the style sheet and that of the script."""
    page = Conversation().export(tmp_path / "a.html").read_text()
    (text,) = re.findall(f"<{tag}>(.*)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}';" in page
    assert len(text) > 1000


def test_the_page_describes_each_turn(full: Conversation, clock: Clock, tmp_path: Path) -> None:
    """The page tells how each turn would be sent, which tools were called, and the tokens used."""
    clock.now += 3700
    full.say("And now?")
    page = full.export(tmp_path / "a.html").read_text()
    then = '<time datetime="2025-11-01T13:28:20+00:00">2025-11-01 13:28 UTC</time>'
    assert f"Exported {then}" in page
    assert page.count("“When exported” tells") == 1
    when = 'title="as of 2025-11-01 13:28 UTC">when exported: '
    assert f'<p class="sent voice" {when}voice, 60 min left</p>' in page
    assert f'<p class="sent" {when}transcript, expired 1 min ago</p>' in page
    assert page.count("<figure") == 7
    assert page.count("<details>") == 1
    assert "Rain in Oslo &amp; &lt;b&gt;wind" in page
    assert f"<td>{full.usage.prompt_tokens:,}</td>" in page


def test_missing_files_do_not_stop_the_page(tmp_path: Path) -> None:
    """Audio and images whose files were deleted are reported in place; the text is there."""
    store = FileStore(tmp_path / "store")
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND, transcript="Hello"), ImageInput(PNG), "World")
        chat.add(AssistantTurn(audio=AssistantAudio(data=MP3, transcript="Hi")))
        for path in (tmp_path / "store" / "x.audio").iterdir():
            path.unlink()
        page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("The audio file is missing.") == 2
    assert "The image file is missing." in page
    words = re.findall('<p class="words (.*)" dir="auto">(.*)</p>', page)
    assert words == [("spoken", "Hello"), ("typed", "World"), ("spoken", "Hi")]


def test_a_damaged_file_is_not_played_as_noise(tmp_path: Path) -> None:
    """A sound file that is no longer of its format is reported, not taken for raw samples."""
    store = FileStore(tmp_path / "store")
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(MP3, transcript="Hello"))
        chat.add(AssistantTurn(audio=AssistantAudio(data=MP3, transcript="Hi")))
        raw = AssistantAudio(data=b"\0\1" * 480, format="pcm16", transcript="Raw")
        chat.add(AssistantTurn(audio=raw))
        for path in (tmp_path / "store" / "x.audio").iterdir():
            path.write_bytes(b"\x55" * path.stat().st_size)
        page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("The audio file is damaged.") == 2
    assert page.count("<figure") == 1


def test_audio_that_browsers_cannot_play_is_reported(tmp_path: Path) -> None:
    """Sound of an unknown format is offered as a download."""
    chat = Conversation()
    chat.add(AssistantTurn(audio=AssistantAudio(data=b"?" * 480)))
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("Browsers cannot play this audio format.") == 1
    download = f'download="sound" href="data:application/octet-stream;base64,{"Pz8/" * 160}"'
    assert page.count(download) == 1


def test_memory_does_not_grow_with_the_number_of_sounds(tmp_path: Path) -> None:
    """A page with 26 MB of sound is written with less than 8 MB of memory."""
    with Conversation.open("x", store=FileStore(tmp_path / "store", fsync=False)) as chat:
        chat.add(AssistantTurn(audio=AssistantAudio(data=wav(10))))
        for _ in range(40):
            chat.add(AssistantTurn(audio=AssistantAudio(data=MP3 * 52)))
        tracemalloc.start()
        try:
            path = chat.export(tmp_path / "a.html")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert path.stat().st_size > 26_000_000
    assert peak < 8_000_000


def test_only_written_answers_are_rendered(tmp_path: Path) -> None:
    """Markdown of users, of instructions, and of transcripts stays as it is."""
    chat = Conversation(instructions="*Be* kind")
    chat.add_user("*Write*", AudioInput(SOUND, transcript="*speak*"))
    audio = AssistantAudio(data=MP3, transcript="*spoken*")
    chat.add(AssistantTurn(content="*written*", audio=audio))
    chat.add_user("And?")
    chat.add(AssistantTurn(refusal="*refused*"))
    page = chat.export(tmp_path / "a.html").read_text()
    for words in ("*Be* kind", "*Write*", "*speak*", "*spoken*", "*refused*"):
        assert f'dir="auto">{words}</p>' in page
    assert '<div class="words typed rich"><p dir="auto"><em>written</em></p></div>' in page


def test_a_turn_that_was_not_sent_says_so(tmp_path: Path) -> None:
    """A turn over the budget is marked as not sent; one sent as it was written has no remark."""
    chat = Conversation(context=Context(max_prompt_tokens=200))
    for words in ("Hello " * 200, "Again"):
        chat.add_user(words)
        chat.add(AssistantTurn(content="Hi"))
    page = chat.export(tmp_path / "a.html").read_text()
    remarks = re.findall('class="sent" title="as of [^"]* UTC">(.*)</p>', page)
    assert remarks == ["when exported: not sent, over budget"] * 2


def test_what_is_special_about_a_turn_is_told(tmp_path: Path) -> None:
    """Refusals, cut answers and questions without an answer are marked, as page and as Markdown."""
    chat = Conversation()
    chat.add_user("One")
    chat.add_user("Two")
    chat.add(AssistantTurn(content="Long", finish_reason="length", voice_dropped=True))
    chat.add_user("Three")
    chat.add(AssistantTurn(refusal="No", voice_dropped=True))
    chat.add_user("Four")
    chat.add(AssistantTurn(content="Bad", finish_reason="content_filter"))
    chat.add_user("Five")
    chat.add_system("Be kind")
    told = [
        ["no answer of its own"],
        [],
        ["the model did not speak", "cut off at the largest length of an answer"],
        [],
        ["the model refused to answer"],
        [],
        ["cut off by the content filter"],
        ["not answered"],
        [],
    ]
    page = chat.export(tmp_path / "a.html").read_text()
    headers = re.findall("<article.*\n<header>(.*)</header>", page)
    assert [re.findall("<bdi>(.*?)</bdi>", header) for header in headers] == told
    lines = chat.export(tmp_path / "a.md").read_text().splitlines()
    headings = [line.split(" · ")[1:] for line in lines if re.match(r"\*\*(User|Assi|Syst)", line)]
    assert [[words for words in heading if "UTC" not in words] for heading in headings] == told


def test_letters_are_explained_where_words_are_spoken(tmp_path: Path) -> None:
    """A legend tells spoken from written words, if there are any spoken ones."""
    chat = Conversation()
    chat.add_user("Hello")
    legend = 'Spoken words <span class="spoken">look like this</span>, written ones like this.'
    assert legend not in chat.export(tmp_path / "a.html").read_text()
    chat.add(AssistantTurn(audio=AssistantAudio(transcript="Hi")))
    assert legend in chat.export(tmp_path / "a.html").read_text()


def test_only_spoken_turns_are_marked_as_spoken(tmp_path: Path) -> None:
    """The icon and the legend of spoken words follow the sound, whatever a speaker is called."""
    chat = Conversation()
    chat.add(UserTurn("Hello", name="spoken, 1.0 s"))
    page = chat.export(tmp_path / "a.html").read_text()
    assert "<span><bdi>spoken, 1.0 s</bdi></span>" in page
    assert 'class="voice"' not in page
    assert "Spoken words" not in page
    chat.add_user(AudioInput(SOUND))
    page = chat.export(tmp_path / "b.html").read_text()
    assert page.count('<span class="voice">') == 1
    assert "Spoken words" in page


def test_what_the_head_of_a_turn_tells_is_told_once(server: StandIn, tmp_path: Path) -> None:
    """An answer in writing says so in its head, and not once more in the line on how it is sent."""
    chat = Conversation(client=server.client())
    server.will_answer("In writing.", spoken=False)
    chat.say("Hello")
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("the model did not speak") == 1
    assert "when exported" not in page
