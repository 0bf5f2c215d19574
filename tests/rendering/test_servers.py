"""Servers that take another form than OpenAI's."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import openai
import pytest

from conversation import AsyncConversation, AudioInput, Context, Conversation, FileStore, UserTurn
from conversation._wire.servers import OPENAI, server_of
from conversation.errors import InvalidSetting
from tests.samples import SOUND, answer

GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai/"
DASHSCOPE = "https://dashscope-intl.aliyuncs.com/compatible-mode/v1"
CALL: dict[str, Any] = {
    "id": "c1",
    "index": 0,
    "type": "function",
    "function": {"name": "files.read", "arguments": "{}", "note": 1},
    "extra_content": {"google": {"thought_signature": "abc"}},
}
STRICT = {
    "id": "c1",
    "type": "function",
    "function": {"name": "files_read", "arguments": "{}"},
}


def at(url: str | None) -> Any:
    """Return a client of the server at this address."""
    return url and openai.OpenAI(base_url=url, api_key="any")


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    ("url", "sent"),
    [
        (GEMINI, {key: CALL[key] for key in CALL if key != "index"}),
        ("http://127.0.0.1:8000/v1", {key: CALL[key] for key in CALL if key != "index"}),
        ("https://openai.com.example.org/v1", {key: CALL[key] for key in CALL if key != "index"}),
        ("https://api.openai.com/v1", STRICT),
        ("https://eu.api.openai.com/v1", STRICT),
        ("https://ann.openai.azure.com/openai/v1", STRICT),
        ("https://ann.services.ai.azure.com/openai/v1", STRICT),
        (None, STRICT),
    ],
)
def test_servers_get_back_all_of_their_tool_calls(
    tmp_path: Path, url: str | None, sent: Any, saved: bool
) -> None:
    """Keys and names of tool calls go back, but not to OpenAI, Azure or without a client."""
    given: dict[str, Any] = {"client": at(url)}
    chat = Conversation(**given)
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    chat.add_completion(answer(tool_calls=[CALL, {**CALL, "id": "c2", "extra_content": {}}]))
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    first, second = chat.messages()[0]["tool_calls"]
    assert first == chat.render().messages[0]["tool_calls"][0] == sent
    assert second.get("extra_content", {}) == {}


def test_keys_of_streamed_tool_calls_go_back() -> None:
    """Keys that came with the first piece of a streamed call go back, too."""
    chat = Conversation(client=at(GEMINI))
    delta = {"role": "assistant", "tool_calls": [CALL]}
    chat.add_completion(iter([{"choices": [{"delta": delta, "finish_reason": "tool_calls"}]}]))
    [sent] = chat.messages()[0]["tool_calls"]
    assert sent["extra_content"] == CALL["extra_content"]


@pytest.mark.parametrize(
    ("url", "option", "is_url"),
    [
        (DASHSCOPE, None, True),
        (DASHSCOPE, False, False),
        (GEMINI, None, False),
        (None, True, True),
        (None, None, False),
    ],
)
def test_sound_goes_as_a_data_url(url: str | None, option: bool | None, is_url: bool) -> None:
    """DashScope, or a server of that kind by an option, gets sound as a data URL."""
    chat = Conversation(client=at(url), audio_as_data_url=option)
    chat.add_user("Listen:", AudioInput(SOUND))
    [text, part] = chat.request()["messages"][0]["content"]
    data = base64.b64encode(SOUND).decode()
    assert text == {"type": "text", "text": "Listen:"}
    assert part["input_audio"]["data"] == (f"data:;base64,{data}" if is_url else data)
    [turn] = Conversation.from_messages(chat.messages()).turns
    assert isinstance(turn, UserTurn)
    assert turn.content[1] == AudioInput(SOUND)


def test_data_urls_are_a_setting(tmp_path: Path) -> None:
    """The option is saved with the session, and checked."""
    store = FileStore(tmp_path)
    chat = Conversation.open("s", store=store, audio_as_data_url=True)
    chat.add_user(AudioInput(SOUND, transcript="Hi"))
    again = Conversation.open("s", store=store, context=Context())
    assert "data:" in str(again.messages())
    with pytest.raises(InvalidSetting, match="audio_as_data_url"):
        AsyncConversation(audio_as_data_url="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url", ["https://x.azure-api.net/openai/v1", "https://api.openai.com./v1", None]
)
def test_other_names_of_openais_servers_are_known(url: str | None) -> None:
    """Azure behind its API Management, and a host with a final dot, get what OpenAI takes."""
    assert server_of(at(url)) == OPENAI
