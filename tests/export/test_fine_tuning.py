"""The format `jsonl`: a line of text for OpenAI's fine-tuning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conversation import AssistantAudio, AssistantTurn, AudioInput, Conversation, ToolCall
from tests.export.conftest import weather
from tests.samples import SOUND


def lines_of(path: Path) -> list[Any]:
    """Return the lines of a file, each decoded from JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_holds_text_calls_and_tools(full: Conversation, tmp_path: Path) -> None:
    """All content is text, tools are described, and an interrupted answer has the weight 0."""
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
    assert [m.get("weight") for m in messages] == [
        0 if m.get("content") == "It says …" else None for m in messages
    ]
    assert line["tools"][0]["function"]["name"] == "weather"


def test_exchanges_without_transcripts_are_skipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sound of the user or the model without a transcript; the log names the exchanges."""
    chat = Conversation()
    chat.set_title("Dogs")
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
    assert "export of 'Dogs': skipping 2 exchanges" in caplog.text
    assert "(turns 1 to 2, 3 to 4)" in caplog.text


def test_a_line_ends_with_an_answer(tmp_path: Path) -> None:
    """A tool call at the end that has no result is dropped, with its question."""
    chat = Conversation()
    chat.add_user("Hello")
    chat.add_assistant("Hi")
    chat.add_user("Weather?")
    chat.add(AssistantTurn(tool_calls=[ToolCall("1", "weather", "{}")]))
    (line,) = lines_of(chat.export(tmp_path / "a.jsonl"))
    assert [m["content"] for m in line["messages"]] == ["Hello", "Hi"]


def test_a_conversation_without_answers_gives_an_empty_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to learn from a question alone, and the log says so."""
    chat = Conversation()
    chat.add_user("Hello")
    assert chat.export(tmp_path / "a.jsonl").read_text() == ""
    assert "no answer to learn from" in caplog.text
