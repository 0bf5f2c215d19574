"""Other forms of a conversation: what is in them, and that they read back."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

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
from conversation.errors import InvalidSetting, SaveFailed
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND

HOSTILE = "<script>alert(1)</script> & \"x\" 'y' `z` \u202ereversed\x1b[31m\x00 </p></article>"


def weather(city: str) -> str:
    """The weather."""
    return f"Rain in {city} & <b>wind</b>"


@pytest.fixture
def full(server: StandIn, clock: Clock) -> Conversation:
    """A conversation with some of everything."""
    chat = Conversation(
        client=server.client(), clock=clock, tools=[weather], instructions="Be brief."
    )
    chat.add_assistant("Good morning!")
    chat.say("Is a dog a friend?")
    chat.say(AudioInput(SOUND, transcript="And a cat?"), ImageInput(PNG))
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    chat.say("The weather?")
    chat.say(HOSTILE)
    chat.add_user(FileInput(b"%PDF", "a.pdf"), "Read it")
    chat.add(AssistantTurn(content="It says …", interrupted=True))
    chat.say("Go on", audio={"format": "mp3"})
    return chat


def lines_of(path: Path) -> list[Any]:
    """Its lines, each of JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- which form -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("a.html", "<!doctype html>"),
        ("a.HTML", "<!doctype html>"),
        ("a.md", "# Conversation"),
        ("a.messages.json", "[\n{"),
        ("a.jsonl", '{"messages":'),
        ("a.json", '{"conversation":1'),
    ],
)
def test_the_name_tells_the_form(
    name: str, begins: str, full: Conversation, tmp_path: Path
) -> None:
    """The end that is most precise; the file's path is returned."""
    path = full.export(tmp_path / name)
    assert path == tmp_path / name
    assert path.read_text().startswith(begins)


def test_the_form_given_wins_over_the_name(full: Conversation, tmp_path: Path) -> None:
    """Whatever the name is."""
    assert full.export(tmp_path / "a.txt", format="markdown").read_text().startswith("# ")
    assert full.export(tmp_path / "a.json", "messages").read_text().startswith("[")


def test_an_unknown_form_is_refused_by_name(full: Conversation, tmp_path: Path) -> None:
    """With those that there are; nothing is written."""
    with pytest.raises(InvalidSetting, match=r"'html', 'json', .* not 'docx'"):
        full.export(tmp_path / "a.html", "docx")
    with pytest.raises(InvalidSetting, match=r"'a\.docx' tells no form"):
        full.export(tmp_path / "a.docx")
    assert not list(tmp_path.glob("a*"))


def test_a_session_is_never_written_over_by_its_copy(tmp_path: Path) -> None:
    """Under no name of the file."""
    store = FileStore(tmp_path)
    with Conversation.open("x", store=store) as chat:
        chat.add_user("Hello")
        before = (tmp_path / "x.json").read_bytes()
        (tmp_path / "link.html").symlink_to(tmp_path / "x.json")
        for name in ("x.json", "link.html"):
            with pytest.raises(InvalidSetting, match="is this session itself"):
                chat.export(tmp_path / name)
        with pytest.raises(InvalidSetting, match="is this session itself"):
            chat.save(tmp_path / "x.json")
        assert (tmp_path / "x.json").read_bytes() == before
        chat.add_user("Still here")


def test_a_loaded_file_may_be_saved_again(full: Conversation, tmp_path: Path) -> None:
    """In its own place."""
    full.save(tmp_path / "a.json")
    again = Conversation.load(tmp_path / "a.json")
    again.add_user("More")
    again.save(tmp_path / "a.json")
    assert Conversation.load(tmp_path / "a.json").turns == again.turns


def test_what_cannot_be_written_leaves_the_old_file(full: Conversation, tmp_path: Path) -> None:
    """A folder that is none."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveFailed, match="could not be written"):
        full.export(tmp_path / "file" / "a.html")
    assert (tmp_path / "file").read_text() == "x"


def test_what_is_no_file_is_written_into(full: Conversation, tmp_path: Path) -> None:
    """A pipe, or `/dev/null`: nothing takes its place."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as cat:
        full.export(pipe, "markdown")
        assert cat.stdout
        assert cat.stdout.read() == full.export(tmp_path / "a.md").read_bytes()
    assert pipe.is_fifo()
    device = tmp_path / "null"
    try:
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        device.write_bytes(b"")
    except OSError:
        device = Path(os.devnull)
        if os.geteuid() == 0:
            return
    full.export(device, "markdown")
    assert device.is_char_device()
    with pytest.raises(SaveFailed):
        full.export(tmp_path, "markdown")


# --- messages -------------------------------------------------------------------------------------


def test_messages_are_accepted_by_the_api_whenever(
    full: Conversation, clock: Clock, tmp_path: Path
) -> None:
    """No id in them, sound inline; a server that never heard of them answers."""
    messages = json.loads(full.export(tmp_path / "a.messages.json").read_text())
    assert not any("audio" in message for message in messages)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert [part["type"] for part in messages[4]["content"]] == ["input_audio", "image_url"]
    with StandIn(clock=clock) as stranger:
        request = Conversation().request() | {"messages": messages}
        answer = stranger.client().chat.completions.create(**request)
    assert "0 of my earlier answers by voice and 7 from transcripts" in str(
        answer.choices[0].message.audio and answer.choices[0].message.audio.transcript
    )


def test_messages_read_back(full: Conversation, tmp_path: Path) -> None:
    """Every word and every call; instructions as a system turn."""
    messages = json.loads(full.export(tmp_path / "a.messages.json").read_text())
    again = Conversation.from_messages(messages)
    assert [turn.text for turn in again.turns[1:]] == [
        # What the transcript of user sound is, the API is not told.
        "" if turn.text == "And a cat?" else turn.text
        for turn in full.turns
    ]


def test_nothing_at_all_is_an_empty_list(tmp_path: Path) -> None:
    """And valid JSON."""
    assert json.loads(Conversation().export(tmp_path / "a.messages.json").read_text()) == []


# --- fine-tuning ----------------------------------------------------------------------------------


def test_a_line_for_fine_tuning_is_text(full: Conversation, tmp_path: Path) -> None:
    """Roles, words, calls and tools; what was broken off is not to be learnt."""
    (line,) = lines_of(full.export(tmp_path / "a.jsonl"))
    messages = line["messages"]
    assert [m["role"] for m in messages] == [
        *("system", "assistant", "user", "assistant", "user", "assistant", "user"),
        *("assistant", "tool", "assistant", "user", "assistant", "user", "assistant", "user"),
        "assistant",
    ]
    assert all(isinstance(m.get("content", ""), str) for m in messages)
    assert messages[4]["content"] == "And a cat?"
    assert messages[7]["tool_calls"][0]["function"]["name"] == "weather"
    assert messages[8]["content"] == weather("Oslo")
    assert [m.get("weight") for m in messages if m["content" if "content" in m else "role"]] == [
        0 if m.get("content") == "It says …" else None for m in messages
    ]
    assert line["tools"][0]["function"]["name"] == "weather"


def test_exchanges_without_words_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """User sound and answers whose words nobody knows; the log says how many."""
    chat = Conversation()
    chat.add_user(AudioInput(SOUND))
    chat.add_assistant("To what?")
    chat.add_user("Silence")
    chat.add(AssistantTurn(audio=AssistantAudio("audio_x", data=SOUND)))
    chat.add_system("Be kind.")
    chat.add_user("Hello")
    chat.add_assistant("Hi")
    chat.add_user("Not answered")
    (line,) = lines_of(chat.export(tmp_path / "a.jsonl"))
    assert [m["content"] for m in line["messages"]] == ["Be kind.", "Hello", "Hi"]
    assert "2 exchange(s) are left out" in caplog.text


def test_a_call_that_nobody_answered_does_not_end_a_line(tmp_path: Path) -> None:
    """An example for fine-tuning ends with an answer."""
    chat = Conversation()
    chat.add_user("Hello")
    chat.add_assistant("Hi")
    chat.add_user("Weather?")
    chat.add(AssistantTurn(tool_calls=[ToolCall("1", "weather", "{}")]))
    (line,) = lines_of(chat.export(tmp_path / "a.jsonl"))
    assert [m["content"] for m in line["messages"]] == ["Hello", "Hi"]


def test_where_nothing_can_be_learnt_there_is_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the log says so."""
    chat = Conversation()
    chat.add_user("Hello")
    assert chat.export(tmp_path / "a.jsonl").read_text() == ""
    assert "nothing is exported" in caplog.text


# --- Markdown -------------------------------------------------------------------------------------


def test_markdown_has_the_words_and_no_html(full: Conversation, tmp_path: Path) -> None:
    """Each turn in a quote that nothing gets out of."""
    full.set_title("A <b>talk</b>")
    text = full.export(tmp_path / "a.md").read_text()
    assert text.startswith("# A &lt;b>talk&lt;/b>\n")
    assert "<" not in text
    assert "> Is a dog a friend?\n" in text
    assert '> calls `weather` with `{"city":"Oslo"}`' in text
    assert "**User** · 2025-11-01 12:26 UTC · spoken, 0.1 s · picture\n\n> And a cat?" in text
    assert "interrupted\n\n> It says …" in text
    outside = [line for line in text.splitlines() if line and not line.startswith(">")]
    assert all(re.match(r"(\*\*|#|\||begun )", line) for line in outside), outside


def test_words_that_end_a_quote_do_not(tmp_path: Path) -> None:
    """Blank lines and headings stay in it."""
    chat = Conversation()
    chat.add_user("One\n\n# Two\n```\nthree")
    text = chat.export(tmp_path / "a.md").read_text()
    assert "> One\n>\n> # Two\n> ```\n> three\n" in text


# --- the page -------------------------------------------------------------------------------------


def test_the_page_escapes_all_text(full: Conversation, tmp_path: Path) -> None:
    """Wherever it stands; control characters are not let through."""
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


def test_the_page_names_no_other_place(full: Conversation, tmp_path: Path) -> None:
    """Pictures from elsewhere are told of and not fetched."""
    full.add_user(ImageInput("https://elsewhere.example/cat.png"), "What is it?")
    page = full.export(tmp_path / "a.html").read_text()
    sources = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^">)]*)', page)
    assert len(sources) == 7
    assert all(source.startswith("data:") for source in sources)
    assert "picture https://elsewhere.example/cat.png" in page
    assert "default-src 'none'" in page


def test_the_page_tells_of_each_turn(full: Conversation, clock: Clock, tmp_path: Path) -> None:
    """How it was said, how it would be sent now, what was called, and what it cost."""
    clock.now += 3700
    full.reply()
    page = full.export(tmp_path / "a.html").read_text()
    assert "sent now as: voice, 60 min left" in page
    assert "sent now as: transcript, expired" in page
    assert page.count("<figure>") == 7
    assert page.count("<details>") == 1
    assert "Rain in Oslo &amp; &lt;b&gt;wind" in page
    assert f"<td>{full.usage.prompt_tokens:,}</td>" in page


def test_the_page_does_without_what_is_gone(tmp_path: Path) -> None:
    """Sound and pictures whose files were deleted; the words are there."""
    store = FileStore(tmp_path / "store")
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND, transcript="Hello"), ImageInput(PNG), "World")
        chat.add(AssistantTurn(audio=AssistantAudio(data=MP3, transcript="Hi")))
        for path in (tmp_path / "store" / "x.audio").iterdir():
            path.unlink()
        page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("Its sound is gone.") == 2
    assert "This picture is gone." in page
    assert "Hello\nWorld" in page


def test_sound_that_no_browser_plays_is_told_of(tmp_path: Path) -> None:
    """Raw samples are wrapped, so that it plays them; of others it says so."""
    chat = Conversation()
    chat.add(AssistantTurn(audio=AssistantAudio(data=bytes(480), format="pcm16")))
    chat.add(AssistantTurn(audio=AssistantAudio(data=b"?" * 480)))
    page = chat.export(tmp_path / "a.html").read_text()
    assert page.count("data:audio/wav;base64,UklGR") == 1
    assert page.count("in a form that browsers do not play") == 1


def test_a_page_of_many_sounds_is_written_one_at_a_time(tmp_path: Path) -> None:
    """Memory does not grow with the number of sounds."""
    import tracemalloc

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
