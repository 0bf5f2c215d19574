"""The format `html`: what is in the page. `test_browser` shows what a browser makes of it."""

from __future__ import annotations

import base64
import hashlib
import re
import tracemalloc
from pathlib import Path

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileInput,
    FileStore,
    ImageInput,
    ToolCall,
    UserTurn,
)
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
    assert len(sources) == 7
    assert all(source.startswith("data:") for source in sources)
    assert "picture https://elsewhere.example/cat.png" in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("tag", ["style", "script"])
def test_the_policy_allows_the_inline_text(tag: str, tmp_path: Path) -> None:
    """The content security policy names the hash of the style sheet and that of the script."""
    page = Conversation().export(tmp_path / "a.html").read_text()
    (text,) = re.findall(f"<{tag}>(.*)</{tag}>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"{tag}-src 'sha256-{digest}';" in page
    assert len(text) > 1000


def test_the_page_describes_each_turn(full: Conversation, clock: Clock, tmp_path: Path) -> None:
    """It says how a turn would be sent now, which tools were called, and the tokens used."""
    clock.now += 3700
    full.say("And now?")
    page = full.export(tmp_path / "a.html").read_text()
    assert "sent now as: voice, 60 min left" in page
    assert "sent now as: transcript, expired" in page
    assert page.count("<figure>") == 7
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
    assert "Hello\nWorld" in page


def test_audio_that_browsers_cannot_play_is_reported(tmp_path: Path) -> None:
    """`pcm16` gets a WAV header, so that it plays; an unknown format does not."""
    chat = Conversation()
    chat.add(AssistantTurn(audio=AssistantAudio(data=bytes(480), format="pcm16")))
    chat.add(AssistantTurn(audio=AssistantAudio(data=b"?" * 480)))
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("data:audio/wav;base64,UklGR") == 1
    assert page.count("Browsers cannot play this audio format.") == 1
    download = f'download="sound" href="data:application/octet-stream;base64,{"Pz8/" * 160}"'
    assert page.count(download) == 1


def test_memory_does_not_grow_with_the_number_of_sounds(tmp_path: Path) -> None:
    """A page with 26 MB of audio is written with less than 8 MB of memory."""
    with Conversation.open("x", store=FileStore(tmp_path / "store", fsync=False)) as chat:
        for _ in range(40):
            chat.add(
                AssistantTurn(
                    audio=AssistantAudio(data=AudioInput.from_pcm(bytes(500_000), 24_000).read())
                )
            )
        tracemalloc.start()
        try:
            path = chat.export(tmp_path / "a.html")
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert path.stat().st_size > 26_000_000
    assert peak < 8_000_000
