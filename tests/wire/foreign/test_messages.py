"""Histories of other programs as conversations: each is kept whole, or refused by its name."""

from __future__ import annotations

import copy
import json
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.chat import ChatCompletionMessage
from openai.types.responses import Response

from conversation import AssistantTurn, AudioInput, Conversation, UserTurn
from conversation._rendering.messages import NO_RESULT
from conversation.errors import InvalidTurn
from conversation.testing import StandIn, _contract
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND
from tests.wire.foreign.samples import (
    HISTORIES,
    PCM,
    PICTURE,
    PYDANTIC_AI,
    RESPONSES,
    SHOWN,
    SOUNDS,
    WITHOUT_PICTURE,
    call,
    chatgpt,
    encoded,
    spoken_of,
)

SEEING: Any = {"model": "gpt-5", "modalities": ("text",)}
"""A model that takes pictures; OpenAI's voice models take none."""


def bare(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages with all calls under one id, since some formats have none."""
    text = json.dumps(messages)
    for message in messages:
        for number, made in enumerate(message.get("tool_calls", ())):
            text = text.replace(json.dumps(made["id"]), json.dumps(f"id-{number}"))
    return [dict(message) for message in json.loads(text)]


def imported(*messages: Any) -> Conversation:
    """Return a conversation of these messages, on the tests' clock."""
    return Conversation.from_messages(messages, clock=Clock(), model="an-omni-model")


@pytest.mark.parametrize("name", HISTORIES)
def test_history_of_another_program_is_sent_whole(
    name: str, server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """Words, pictures, calls and results are sent, and accepted by the server."""
    history = HISTORIES[name]()
    before = copy.deepcopy(history)
    chat = Conversation.from_messages(history, client=client, clock=clock, **SEEING)
    expected = spoken_of(SHOWN) if name in WITHOUT_PICTURE else SHOWN
    assert bare(chat.messages()) == bare(expected)
    assert history == before
    again = Conversation.from_messages(chat.messages(), clock=clock, **SEEING)
    assert again.messages() == chat.messages()
    server.will_answer("Yes.")
    assert chat.say("Really?").text == "Yes."


@pytest.mark.parametrize("name", HISTORIES)
def test_what_has_no_place_is_said_once_with_a_count(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Reasoning and the like is left out, with one warning for each reason."""
    chat = Conversation.from_messages(HISTORIES[name]())
    assert "Hm" not in json.dumps(chat.messages())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == len({line.partition(": ")[2] for line in lines})
    has_reasoning = any(word in name for word in ("Resp", "resp", "LangChain", "pydantic", "GPT's"))
    assert bool(lines) is has_reasoning


def test_reasons_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A thousand parts of one kind are one warning, which names the first."""
    parts = [{"type": "reasoning", "text": "Hm"}, {"type": "output_text", "text": "Yes"}]
    chat = imported(*[{"role": "assistant", "content": parts}] * 1000)
    assert {turn.text for turn in chat.turns} == {"Yes"}
    [record] = caplog.records
    assert record.getMessage().startswith("skipping part 0 of message 0 and 999 more: ")
    assert "'reasoning'" in record.getMessage()


# --- Responses, Agents and Realtime ------------------------------------------------------------


def test_parallel_calls_of_responses_become_one_message() -> None:
    """Calls in a row are one answer; a call behind a result begins another."""
    chat = imported(
        {"role": "user", "content": "Question"},
        {"type": "function_call", "call_id": "a", "name": "one", "arguments": "{}"},
        {"type": "reasoning", "summary": []},
        {"type": "function_call", "call_id": "b", "name": "two", "arguments": ""},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [{"type": "input_text", "text": "1"}],
        },
        {"type": "custom_tool_call", "call_id": "c", "name": "three", "input": "x = 1"},
        {"type": "custom_tool_call_output", "call_id": "c", "output": "3"},
    )
    assert [message["role"] for message in chat.messages()] == [
        "user", "assistant", "tool", "tool", "assistant", "tool"
    ]  # fmt: skip
    first, second = (turn for turn in chat.turns if isinstance(turn, AssistantTurn))
    assert [(made.id, made.arguments) for made in first.tool_calls] == [("a", "{}"), ("b", "{}")]
    assert (second.tool_calls[0].type, second.tool_calls[0].arguments) == ("custom", "x = 1")
    assert [turn.text for turn in chat.turns if turn.role == "tool"] == ["2", "1", "3"]


def test_files_of_responses_are_kept() -> None:
    """A file inside the item and a file by its id become parts of a user turn."""
    pdf = f"data:application/pdf;base64,{encoded(b'%PDF')}"
    chat = imported(
        {
            "role": "user",
            "content": [
                {"type": "input_file", "file_data": pdf, "filename": "a.pdf"},
                {"type": "input_file", "file_id": "file-1"},
                {"type": "input_image", "image_url": "https://e.org/a.png", "detail": "low"},
            ],
        }
    )
    assert chat.messages()[0]["content"] == [
        {"type": "file", "file": {"filename": "a.pdf", "file_data": pdf}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "image_url", "image_url": {"url": "https://e.org/a.png", "detail": "low"}},
    ]


@pytest.mark.parametrize("kind", SOUNDS)
def test_sound_of_realtime_items_is_kept_as_wav(kind: str) -> None:
    """Raw samples get a header; transcripts stay the words of user and answer."""
    data = SOUNDS[kind]
    chat = imported(
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "audio": data, "transcript": "Good dog?"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_audio", "audio": data, "transcript": "Yes."}],
        },
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": "Really?"}],
        },
    )
    question, answer, last = chat.turns
    assert isinstance(question, UserTurn)
    assert question.content == (AudioInput(SOUND, transcript="Good dog?"),)
    assert isinstance(answer, AssistantTurn)
    assert answer.audio
    assert (answer.audio.read(), answer.audio.format, answer.text) == (SOUND, "wav", "Yes.")
    assert (last.text, PCM in SOUND) == ("Really?", True)


# --- LangChain, ShareGPT and ChatGPT -----------------------------------------------------------


def test_sound_of_langchain_messages_is_kept() -> None:
    """Sound in standard blocks, and the audio id of an answer, which LangChain keeps aside."""
    audio_id = f"audio_{int(Clock()()):08x}{'0' * 24}"
    kept = {"audio": {"id": audio_id, "data": "", "expires_at": 0, "transcript": "Yes."}}
    chat = imported(
        {
            "type": "human",
            "content": [
                {"type": "audio", "base64": encoded(SOUND), "mime_type": "audio/wav"},
                {
                    "type": "audio",
                    "source_type": "base64",
                    "data": encoded(MP3),
                    "mime_type": "audio/mpeg",
                },
                {"type": "file", "base64": encoded(b"%PDF"), "mime_type": "application/pdf"},
                {"type": "image", "url": "https://e.org/a.png"},
                {"type": "image_url", "image_url": PICTURE},
            ],
        },
        {"type": "ai", "content": "", "additional_kwargs": kept},
    )
    parts = chat.messages()[0]["content"]
    assert [part["type"] for part in parts] == ["input_audio"] * 2 + ["file"] + ["image_url"] * 2
    assert [part["input_audio"]["format"] for part in parts[:2]] == ["wav", "mp3"]
    assert chat.messages()[1] == {"role": "assistant", "audio": {"id": audio_id}}
    assert chat.turns[1].text == "Yes."


def test_broken_call_and_names_of_langchain_messages_are_kept() -> None:
    """A call whose arguments are no JSON, a legacy call, and the name of a user."""
    legacy = {"function_call": {"name": "f", "arguments": "{}"}}
    chat = imported(
        {"type": "human", "content": "Hello", "name": "ann"},
        {
            "type": "AIMessageChunk",
            "content": "",
            "invalid_tool_calls": [{"id": "a", "name": "g", "args": "{", "error": "no JSON"}],
        },
        {
            "type": "tool",
            "name": "g",
            "tool_call_id": "a",
            "content": [{"type": "text", "text": "1"}],
        },
        {"type": "ai", "content": "", "additional_kwargs": legacy},
        {"type": "function", "name": "f", "content": "2"},
        {"type": "chat", "role": "user", "content": "And?"},
        {"type": "remove", "id": "1", "content": ""},
    )
    assert chat.messages()[0] == {"role": "user", "content": "Hello", "name": "ann"}
    assert [turn.text for turn in chat.turns] == ["Hello", "", "1", "", "2", "And?"]
    result = {"role": "tool", "tool_call_id": "a", "content": "1", "name": "g"}
    assert chat.messages()[2] == result
    assert [m["tool_calls"][0]["function"] for m in chat.messages() if "tool_calls" in m] == [
        {"name": "g", "arguments": "{"},
        {"name": "f", "arguments": "{}"},
    ]


def test_sharegpt_without_calls_names_what_it_cannot_keep(caplog: pytest.LogCaptureFixture) -> None:
    """Authors under all of their names are kept; unknown ones are named."""
    names = ("system", "user", "chatgpt", "Human", "assistant", "bing")
    chat = imported(
        *({"from": name, "value": name} for name in names),
        {"from": "narrator", "value": "x"},
        {"from": "observation", "value": "x"},
        {"from": "function_call", "value": "no JSON"},
    )
    roles = ["system", "user", "assistant", "user", "assistant", "assistant"]
    assert [turn.role for turn in chat.turns] == roles
    assert [record.getMessage()[:18] for record in caplog.records] == [
        "skipping message 6", "skipping message 7", "skipping message 8"
    ]  # fmt: skip
    assert "'narrator'" in caplog.text


def test_result_of_an_earlier_call_is_not_taken_for_that_of_another() -> None:
    """A call without a result stays without one; the next result belongs to the next call."""
    call_of = '{{"name":"{}","arguments":{{}}}}'.format
    chat = imported(
        {"from": "human", "value": "One"},
        {"from": "function_call", "value": call_of("one")},
        {"from": "human", "value": "Two"},
        {"from": "function_call", "value": call_of("two")},
        {"from": "function_call", "value": call_of("three")},
        {"from": "observation", "value": "2"},
        {"from": "observation", "value": "3"},
    )
    results = [message["content"] for message in chat.messages() if message["role"] == "tool"]
    assert results == [NO_RESULT, "2", "3"]


def test_media_in_a_result_of_pydantic_ai_are_named(caplog: pytest.LogCaptureFixture) -> None:
    """Of a tool's result the words are kept, and other values as JSON; media are left out."""
    picture = {"kind": "binary", "data": encoded(PNG), "media_type": "image/png"}
    names = {"part_kind": "tool-return", "tool_name": "weather", "tool_call_id": "call_1"}
    for content, text in (
        (["Rain", picture], "Rain"),
        (["Rain", 2], '["Rain",2]'),
        ({"rain": date(2026, 1, 2)}, '{"rain":"2026-01-02"}'),
    ):
        history = copy.deepcopy(PYDANTIC_AI)
        history[2]["parts"] = [names | {"content": content}]
        assert imported(*history).turns[3].text == text
    assert [r.getMessage() for r in caplog.records if "media" in r.getMessage()] == [
        "skipping message 2: only words are kept of a tool's result, and no media"
    ]


def test_chatgpt_without_a_current_node_ends_at_the_latest_message() -> None:
    """Of several branches the one with the latest message is taken; circles end."""
    document = chatgpt()
    del document["current_node"]
    nodes = document["mapping"]
    nodes["edited"]["message"]["create_time"] = 9
    assert [turn.text for turn in Conversation.from_messages(document).turns] == [
        "Be brief.", "Never asked"
    ]  # fmt: skip
    nodes["root"]["parent"] = "edited"
    nodes["edited"]["parent"] = "root"
    document["current_node"] = "edited"
    assert len(Conversation.from_messages(document).turns) == 1


def test_chatgpt_says_that_files_are_not_in_its_export(caplog: pytest.LogCaptureFixture) -> None:
    """A picture of the user is named; the words beside it are kept."""
    Conversation.from_messages(chatgpt())
    assert "'image_asset_pointer' is a file of its own in ChatGPT's export" in caplog.text


# --- what is refused ---------------------------------------------------------------------------

UNKNOWN: dict[str, Any] = {
    "Gemini": [{"role": "user", "parts": [{"text": "Hi"}]}, {"role": "model", "parts": []}],
    "Gemini API": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    "Vercel": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "Hi"}]}],
    "claude.ai": [{"uuid": "1", "name": "x", "chat_messages": []}],
    "LlamaIndex": [{"role": "user", "blocks": [{"block_type": "text", "text": "Hi"}]}],
    "AutoGen": [{"source": "user", "content": "Hi", "type": "TextMessage"}],
    "event of the Realtime API": [{"type": "conversation.item.created", "item": {}}],
    "Assistants": [{"object": "thread.message", "role": "user", "content": []}],
    "Slack": [{"type": "message", "user": "U1", "text": "Hi", "ts": "1.2"}],
    "Telegram": {"name": "x", "messages": [{"type": "message", "from_id": "u", "text": "Hi"}]},
    "Anthropic": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "input": {}}]},
    ],
    "Bedrock": [{"role": "assistant", "content": [{"toolUse": {"name": "f"}}]}],
    "Gradio": [["Hi", "Hello"], ["And?", None]],
    "LibreChat": {"messages": [{"sender": "User", "text": "Hi", "isCreatedByUser": True}]},
    "SillyTavern": [{"name": "Ann", "is_user": True, "mes": "Hi"}],
    "Discord": {"messages": [{"author": {"name": "x"}, "content": "Hi", "timestamp": "1"}]},
    "Claude Code": [{"type": "user", "message": {"role": "user"}, "sessionId": "1"}],
    "AI Studio|Gemini": {"chunkedPrompt": {"chunks": []}},
    "prompt with its completion": [{"prompt": "Hi", "completion": "Hello"}],
    "chat completion": {"choices": [{"message": {"role": "assistant", "content": "Hi"}}]},
    'it is {"a":1}': {"a": 1},
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_format_is_refused_by_its_name(name: str) -> None:
    """The error says what it seems to be, and which formats are known."""
    with pytest.raises(InvalidTurn, match=name) as caught:
        Conversation.from_messages(UNKNOWN[name])
    assert "known are" in str(caught.value)


def test_pairs_of_role_and_text_are_kept() -> None:
    """LangChain's short form is a message; JSON has lists for its tuples."""
    history = [("system", "Be brief."), ("human", "Hi"), ["ai", "Hello"]]
    chat = Conversation.from_messages(history)
    assert [(turn.role, turn.text) for turn in chat.turns] == [
        ("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")
    ]  # fmt: skip


def test_objects_with_a_list_of_messages_are_kept() -> None:
    """A response of the SDK gives its output; a single message is no list."""
    response = Response.model_construct(output=RESPONSES[3:])
    assert [turn.role for turn in Conversation.from_messages(response).turns] == [
        "assistant", "tool", "assistant"
    ]  # fmt: skip
    with pytest.raises(InvalidTurn, match="list of API messages"):
        Conversation.from_messages(ChatCompletionMessage(role="assistant", content="Hi"))


def test_several_conversations_are_refused() -> None:
    """`from_messages` takes one conversation; the error counts them, or names their keys."""
    with pytest.raises(InvalidTurn, match="2 conversations"):
        Conversation.from_messages([chatgpt(), chatgpt()])
    with pytest.raises(InvalidTurn, match="'ann', 'bob'"):
        Conversation.from_messages({"ann": SHOWN, "bob": RESPONSES})


# --- live objects of other libraries -----------------------------------------------------------


def test_objects_of_langchain_are_kept() -> None:
    """Messages as LangChain makes them are read without their JSON."""
    messages = pytest.importorskip("langchain_core.messages")
    made = [
        messages.SystemMessage("Be brief."),
        messages.HumanMessage(
            [
                "Shall I take this?",
                {"type": "image", "base64": encoded(PNG), "mime_type": "image/png"},
            ]
        ),
        messages.AIMessage(
            "Let me see.",
            tool_calls=[{"name": "weather", "args": {"city": "Oslo"}, "id": "call_1"}],
        ),
        messages.ToolMessage("Rain", tool_call_id="call_1"),
        messages.AIMessage("Take it."),
    ]
    load = pytest.importorskip("langchain_core.load")
    for history in (
        made,
        messages.messages_to_dict(made) if hasattr(messages, "messages_to_dict") else made,
        [load.dumpd(message) for message in made],
        [message.model_dump() for message in made],
    ):
        assert Conversation.from_messages(history, **SEEING).messages() == SHOWN


def test_objects_of_pydantic_ai_are_kept() -> None:
    """Messages as pydantic-ai makes them are read, and so is the JSON that it writes."""
    messages = pytest.importorskip("pydantic_ai.messages")
    made = [
        messages.ModelRequest(
            parts=[
                messages.SystemPromptPart("Be brief."),
                messages.UserPromptPart(
                    ["Shall I take this?", messages.BinaryContent(PNG, media_type="image/png")]
                ),
            ]
        ),
        messages.ModelResponse(
            parts=[
                messages.ThinkingPart("Hm"),
                messages.TextPart("Let me see."),
                messages.ToolCallPart("weather", {"city": "Oslo"}, tool_call_id="call_1"),
            ]
        ),
        messages.ModelRequest(
            parts=[messages.ToolReturnPart("weather", "Rain", tool_call_id="call_1")]
        ),
        messages.ModelResponse(parts=[messages.TextPart("Take it.")]),
    ]
    written = json.loads(messages.ModelMessagesTypeAdapter.dump_json(made))
    for history in (made, written):
        assert Conversation.from_messages(history, **SEEING).messages() == SHOWN


def test_items_of_the_agents_sdk_are_kept() -> None:
    """Items of the `SQLiteSession` of openai-agents are a history."""
    agents = pytest.importorskip("agents.memory")
    asyncio = pytest.importorskip("asyncio")

    async def stored() -> list[Any]:
        session = agents.SQLiteSession("x")
        await session.add_items(RESPONSES)
        items: list[Any] = await session.get_items()
        session.close()
        return items

    chat = Conversation.from_messages(asyncio.run(stored()), **SEEING)
    assert chat.messages() == SHOWN
    assert chat.messages()[2]["tool_calls"] == [call("call_1")]


# --- anything ----------------------------------------------------------------------------------

_NAMES = """
type role kind parts part_kind content text data kwargs id from value mapping current_node
message parent author content_type tool_calls invalid_tool_calls args name additional_kwargs
call_id arguments output input tool_call_id tool_name transcript audio image_url url base64
mime_type media_type source instructions conversations messages recipient metadata
function_call file
"""
_KINDS = """
message function_call function_call_output custom_tool_call reasoning human ai tool function
chat system constructor request response text-part user-prompt system-prompt text tool-call
tool-return retry-prompt user assistant gpt observation input_text output_text input_image
input_file input_audio output_audio audio image file media binary image-url image/png all
audio/wav multimodal_text code
"""
_KEYS = st.sampled_from(_NAMES.split())
_WORDS = st.sampled_from(_KINDS.split()) | st.text(max_size=3)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=6),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(_KEYS, _JSON, max_size=8), max_size=3) | _JSON)
def test_any_json_is_kept_or_refused(history: Any) -> None:
    """Whatever the keys of other programs hold, it makes a valid request, or is `InvalidTurn`."""
    try:
        chat = Conversation.from_messages(history)
    except InvalidTurn:
        return
    chat.add_user("Question")
    _contract.check(chat.request(), lambda _: True)


@pytest.mark.parametrize("calls", [1, "x", {"id": "c"}, True])
def test_calls_of_langchain_that_are_no_list_are_none(calls: Any) -> None:
    """The words of the message are kept."""
    data = {"content": "Yes.", "tool_calls": calls, "invalid_tool_calls": calls}
    chat = Conversation.from_messages([{"type": "ai", "data": data}])
    assert [turn.text for turn in chat.turns] == ["Yes."]


def test_roles_of_other_models_and_older_calls_are_known(server: StandIn, client: OpenAI) -> None:
    """Common names of the two sides count, and calls of `functions` become calls of tools."""
    call_of = {"name": "rates", "arguments": '{"of": "NOK"}'}
    messages: list[dict[str, Any]] = [
        {"role": "Human", "content": "How is the crown?"},
        {"role": "assistant", "function_call": call_of},
        {"role": "function", "name": "rates", "content": "11.8"},
        {"role": "bot", "content": [{"type": "text", "text": "11.8 to a euro."}]},
    ]
    chat = Conversation.from_messages(messages, client=client, **SEEING)
    chat.say("Thanks")
    sent = server.requests[-1]["messages"]
    assert [message["role"] for message in sent] == [
        "user",
        "assistant",
        "tool",
        "assistant",
        "user",
    ]
    assert sent[1]["tool_calls"][0]["function"] == call_of
    assert sent[2]["tool_call_id"] == sent[1]["tool_calls"][0]["id"]
    assert "11.8 to a euro." in str(sent[3]["content"])


def test_results_without_ids_answer_the_calls_in_their_order(
    server: StandIn, client: OpenAI, caplog: pytest.LogCaptureFixture
) -> None:
    """Calls and results of servers that give no ids, as Ollama's and Gemini's, stay together."""

    def calling(*ids: str | None) -> dict[str, Any]:
        calls = [{"function": {"name": "rates", "arguments": {"of": "NOK"}}} for _ in ids]
        named = [
            call if i is None else {**call, "id": i} for i, call in zip(ids, calls, strict=True)
        ]
        return {"role": "assistant", "content": "", "tool_calls": named}

    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "How is the crown?"},
        calling(None, "call_1", ""),
        {"role": "tool", "tool_name": "rates", "content": "first"},
        {"role": "tool", "tool_call_id": None, "content": "second"},
        {"role": "tool", "tool_call_id": "", "content": "third"},
        {"role": "assistant", "content": "And now:"},
        {**calling("", "c"), "content": None},
        {"role": "tool", "tool_call_id": "c", "content": "fifth"},
        {"role": "tool", "content": "fourth"},
    ]
    chat = Conversation.from_messages(messages, client=client, **SEEING)
    assert chat.reply().text
    sent = server.requests[-1]["messages"]
    results = {m["tool_call_id"]: m["content"] for m in sent if m["role"] == "tool"}
    ids = [call["id"] for m in sent for call in m.get("tool_calls", ())]
    assert [results[i] for i in ids] == ["first", "second", "third", "fourth", "fifth"]
    assert not caplog.records
    orphan = {"role": "tool", "content": "nobody asked"}
    assert len(imported({"role": "user", "content": "Hi"}, orphan).turns) == 1


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": encoded(MP3)},
        {"type": "input_audio", "input_audio": f"data:audio/mpeg;base64,{encoded(MP3)}"},
        {"type": "audio_url", "audio_url": {"url": f"data:audio/mpeg;base64,{encoded(MP3)}"}},
        {"type": "audio_url", "audio_url": f"data:audio/mpeg;base64,{encoded(MP3)}"},
    ],
)
def test_sound_of_other_servers_is_kept(part: dict[str, Any]) -> None:
    """Mistral's base64 and vLLM's data URLs become sound of the format that the bytes tell."""
    chat = imported({"role": "user", "content": [part]})
    [turn] = chat.turns
    assert isinstance(turn, UserTurn)
    [sound] = turn.content
    assert isinstance(sound, AudioInput)
    assert (sound.format, sound.data) == ("mp3", MP3)


def test_pictures_beside_the_words_are_kept() -> None:
    """Ollama's messages have the base64 of pictures in a list of their own."""
    picture = encoded(PNG)
    chat = imported(
        {"role": "user", "content": "Look!", "images": [picture, None]},
        {"role": "user", "content": "", "images": [picture]},
        {"role": "user", "content": "Well?", "images": []},
    )
    part = {"type": "image_url", "image_url": {"url": PICTURE}}
    contents = [message["content"] for message in chat.messages()]
    assert contents == [[{"type": "text", "text": "Look!"}, part], [part], "Well?"]


def test_sound_on_other_machines_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is fetched: the part is left out, with its kind."""
    part = {"type": "audio_url", "audio_url": {"url": "https://example.com/a.wav"}}
    chat = imported({"role": "user", "content": [part, {"type": "text", "text": "Hear?"}]})
    assert chat.messages() == [{"role": "user", "content": "Hear?"}]
    assert "got 'audio_url'" in caplog.text


def test_result_of_a_function_that_nobody_called_is_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It has no place in a request; roles that are unknown are named."""
    chat = imported(
        {"role": "user", "content": "Hi"},
        {"role": "function", "name": "rates", "content": "11.8"},
        {"role": "narrator", "content": "Night falls."},
    )
    assert [turn.role for turn in chat.turns] == ["user"]
    assert "got 'function'" in caplog.text
    assert "got 'narrator'" in caplog.text
