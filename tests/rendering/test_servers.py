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
from conversation.testing import StandIn
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


LONG = "call_" + "x" * 36


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


THOUGHTS: dict[str, Any] = {
    "reasoning_content": "Hm.",
    "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}],
    "extra_content": {"google": {"thought_signature": "abc"}},
    "prefix": False,
}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(
    "message",
    [
        {"content": "Yes."},
        {"content": None, "tool_calls": [{**CALL, "extra_content": None}]},
        {"content": None, "audio": {"id": "x", "transcript": "Yes.", "expires_at": 1.0}},
        {"content": None, "audio": {"id": "audio_x", "transcript": "Yes.", "expires_at": 9e9}},
    ],
    ids=["text", "calls", "transcript", "voice"],
)
@pytest.mark.parametrize("url", [GEMINI, "https://api.openai.com/v1", None])
def test_servers_get_back_what_only_they_know(
    tmp_path: Path, url: str | None, message: dict[str, Any], saved: bool
) -> None:
    """Unknown keys of an answer go back, but not to OpenAI, and none that tell a model nothing."""
    given: dict[str, Any] = {"client": at(url), "modalities": ["text"], "model": "any"}
    chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    nothing = {"annotations": [{"type": "url_citation"}], "parsed": {"a": 1}, "id": "m", "logo": []}
    chat.add_completion(answer(**message, **THOUGHTS, **nothing, refusal=None, function_call=None))
    if saved:
        chat = Conversation.open("s", store=FileStore(tmp_path), **given)
    sent = chat.messages()[0]
    assert sent == chat.render().messages[0]
    assert {key: sent[key] for key in sent if key in THOUGHTS} == (
        THOUGHTS if url == GEMINI else {}
    )
    usual = {"role", "content", "tool_calls", "audio"}
    assert sent.keys() - THOUGHTS.keys() <= usual
    assert ("audio" in sent) is ("audio_x" in str(message))


@pytest.mark.parametrize(
    ("status", "message", "refused"),
    [
        (400, "'messages.1' : property 'reasoning_content' is unsupported", ["reasoning_content"]),
        (422, "extra_forbidden: Extra inputs are not permitted, assistant, reasoning_details",
         ["reasoning_details"]),
        (400, "Unknown parameter: 'messages[0].tool_calls[0].extra_content'.", ["extra_content"]),
        (400, "unexpected keys: reasoning_content, prefix", ["reasoning_content", "prefix"]),
        (400, "The `reasoning_content` in the thinking mode must be passed back to the API.", []),
        (400, "Missing `reasoning_content` field in the assistant message", []),
        (400, "unknown model", []),
        (500, "property 'reasoning_content' is unsupported", []),
        (400, "property 'reasoning_content_2' is unsupported", []),
    ],
)  # fmt: skip
def test_keys_that_a_server_refuses_are_not_sent_again(
    server: StandIn, client: Any, status: int, message: str, refused: list[str]
) -> None:
    """A server that takes fewer keys than an earlier one gets the others, from then on."""
    chat = Conversation(model="gpt-5", modalities=["text"], client=client)
    chat.add_user("Hi")
    chat.add_completion(answer(content="Yes.", tool_calls=[CALL], **THOUGHTS))
    chat.add_tool_result("c1", "2")
    before = chat.messages()
    server.will_fail(status, message, code="invalid_request_error")
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.list()
    assert chat.heal(caught.value) is bool(refused)
    for each in (chat, chat.fork()):
        [_, sent, *_] = each.messages()
        assert before[1].keys() - sent.keys() == {key for key in refused if key in before[1]}
        assert ("extra_content" in sent["tool_calls"][0]) is ("extra_content" not in refused)
    assert not chat.heal(caught.value)


def test_exchange_goes_on_where_a_server_refuses_keys_ids_and_names(
    server: StandIn, client: Any
) -> None:
    """The stand-in refuses what OpenAI refuses; a chat that began elsewhere goes on there."""
    chat = Conversation(model="gpt-5", modalities=["text"], client=client)
    chat.add_user("Hi")
    chat.add_completion(answer(content="Yes.", tool_calls=[{**CALL, "id": LONG}], **THOUGHTS))
    chat.add_tool_result(LONG, "2")
    assert chat.reply().text
    sent = len(server.requests)
    assert chat.say("And?").text
    assert len(server.requests) == sent + 1
    assert server.requests[-1]["messages"][1].keys() == {"role", "content", "tool_calls"}


def test_what_only_they_know_is_collected_from_streams() -> None:
    """Texts of such keys are joined piece by piece, lists one after the other."""
    chat = Conversation(client=at(GEMINI))
    deltas = [
        {"reasoning_content": "Let ", "reasoning_details": [{"text": "a"}]},
        {"reasoning_content": "me.", "reasoning_details": [{"text": "b"}]},
        {"content": "Yes."},
        {"content": "", "extra_content": {"google": {"thought_signature": "abc"}}},
    ]
    chunks = [{"choices": [{"delta": delta}]} for delta in deltas]
    chunks[-1]["choices"][0]["finish_reason"] = "stop"
    chat.add_completion(iter(chunks))
    assert chat.messages() == [
        {
            "role": "assistant",
            "content": "Yes.",
            "reasoning_content": "Let me.",
            "reasoning_details": [{"text": "a"}, {"text": "b"}],
            "extra_content": {"google": {"thought_signature": "abc"}},
        }
    ]


@pytest.mark.parametrize("call_id", [LONG, "é" * 41, "c" * 9000])
def test_long_ids_of_calls_are_shortened(server: StandIn, client: Any, call_id: str) -> None:
    """OpenAI gets ids of 40 characters, of call and result alike; the turns keep the original."""
    chat = Conversation(client=client, instructions="Be brief.")
    strict = Conversation(instructions="Be brief.")  # without a client
    for each in (chat, strict):
        each.add_user("Read both")
        ids = call_id, call_id + "2", "short"
        each.add_completion(answer(tool_calls=[{**CALL, "id": each_id} for each_id in ids]))
        each.add_tool_result(call_id, "1")
        each.add_tool_result("short", "3")
    request = strict.request()
    assert request["messages"] == strict.render().messages
    first, second, third = (call["id"] for call in request["messages"][2]["tool_calls"])
    assert len({first, second, third}) == 3
    assert (len(first), len(second), third) == (40, 40, "short")
    results = [(m["tool_call_id"], m["content"][:3]) for m in request["messages"][3:]]
    assert results == [(first, "1"), (second, "[no"), ("short", "3")]
    assert client.chat.completions.create(**request).choices  # the stand-in refuses longer ones
    sent = chat.messages()  # to a server that is not OpenAI's
    assert [m["tool_call_id"] for m in sent[3:]] == [*ids]
    assert strict.turns[2].tool_call_id == call_id  # type: ignore[union-attr]
    assert [r["messages"] for r in server.requests] == [request["messages"]]


def test_ids_of_forty_characters_are_short_enough(server: StandIn, client: Any) -> None:
    """An id of 40 characters is sent as it is; the stand-in refuses one of 41, as OpenAI does."""
    chat = Conversation()
    chat.add_completion(answer(tool_calls=[{**CALL, "id": LONG[:40]}]))
    request = chat.request()
    assert request["messages"][0]["tool_calls"][0]["id"] == LONG[:40]
    assert client.chat.completions.create(**request).choices
    request["messages"][0]["tool_calls"][0]["id"] = LONG
    with pytest.raises(
        openai.BadRequestError, match="maximum length 40, but got a string with"
    ) as e:
        client.chat.completions.create(**request)
    assert (e.value.param, e.value.code) == (
        "messages[0].tool_calls[0].id",
        "string_above_max_length",
    )
    assert len(server.requests) == 2


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
