"""`Conversation.from_messages`: lists of API messages as turns, with a warning for what is lost."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage
from openai.types.chat.chat_completion_audio import ChatCompletionAudio

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Context,
    Conversation,
    FileInput,
    Form,
    ImageInput,
    SystemTurn,
    ToolTurn,
    UserTurn,
)
from conversation._rendering.messages import NO_RESULT
from conversation._values.turns import Turn
from conversation.errors import InvalidSetting, InvalidTurn
from conversation.testing import StandIn, _contract
from tests.conftest import Clock
from tests.samples import MP3, PNG, RECORDED_ID, SOUND, START, recorded, tool_call
from tests.strategies import histories, user_turns, words

ID = f"audio_{int(START) - 60:08x}{'0' * 24}"
"""An audio id that carries its time, and expires in 59 minutes."""


def encoded(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()


PDF = f"data:application/pdf;base64,{encoded(b'%PDF')}"


def text_part(text: str) -> dict[str, Any]:
    """Return a text part."""
    return {"type": "text", "text": text}


def sound_part(data: str = encoded(SOUND), audio_format: str = "wav") -> dict[str, Any]:
    """Return a part with sound."""
    return {"type": "input_audio", "input_audio": {"data": data, "format": audio_format}}


def imported(*messages: Any, **given: Any) -> Conversation:
    """Return a conversation with these messages, on the tests' clock."""
    return Conversation.from_messages(messages, clock=Clock(), **given)


def skipped(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings of skipped messages, without their first word."""
    lines = [record.getMessage() for record in caplog.records]
    return [line.removeprefix("skipping ") for line in lines if line.startswith("skipping ")]


# --- messages that are kept --------------------------------------------------------------------


def test_imported_messages_of_all_roles_become_turns(caplog: pytest.LogCaptureFixture) -> None:
    """Content, parts, tool calls, results, names and refusals of messages are kept."""
    chat = imported(
        {"role": "developer", "content": "Be brief."},
        {"role": "system", "content": [text_part("Be "), text_part("kind.")]},
        {"role": "user", "content": "Question", "name": "Ann"},
        {"role": "assistant", "content": "Answer"},
        {"role": "user", "content": [
            text_part("Look:"),
            sound_part(),
            sound_part(encoded(MP3), "mp3"),
            {"type": "image_url", "image_url": {"url": "https://e.org/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(PNG)}"}},
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
            {"type": "file", "file": {"file_id": "file-1"}},
        ]},
        {"role": "assistant", "content": None, "tool_calls": [tool_call("a", arguments='{"x":1}')]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "42"}]},
        {"role": "assistant", "content": None, "refusal": "No."},
    )  # fmt: skip
    assert skipped(caplog) == []
    first, second, question, answer, shown, calling, result, refusing = chat.turns
    assert (first, second) == (SystemTurn("Be brief.", "developer"), SystemTurn("Be kind."))
    assert isinstance(question, UserTurn)
    assert (question.name, question.extra) == ("Ann", "{}")
    assert isinstance(answer, AssistantTurn)
    assert shown == UserTurn((
        "Look:",
        AudioInput(SOUND),
        AudioInput(MP3),
        ImageInput("https://e.org/a.png", "low"),
        ImageInput(PNG),
        FileInput(b"%PDF", "a.pdf"),
        FileInput(file_id="file-1"),
    ))  # fmt: skip
    assert isinstance(calling, AssistantTurn)
    assert [(call.id, call.arguments) for call in calling.tool_calls] == [("a", '{"x":1}')]
    assert result == ToolTurn("a", "42")
    assert isinstance(refusing, AssistantTurn)
    assert refusing.refusal == "No."
    assert chat.messages()[2] == {"role": "user", "content": "Question", "name": "Ann"}
    _contract.check(chat.request(), lambda _: True)


SOON, PAST, DATA = START + 99, START - 99, encoded(SOUND)
FOREIGN = "audio-0123456789abcdef"
CALLS = [tool_call("a")]
SPOKEN: dict[str, tuple[str | None, dict[str, Any], list[Any] | None, Form, str]] = {
    "the server's own message": (
        None,
        {"id": ID, "data": DATA, "expires_at": SOON, "transcript": "Yes."},
        None,
        Form.VOICE,
        "Yes.",
    ),
    "the id alone": (None, {"id": ID}, None, Form.VOICE, ""),
    "the id, and words pasted": ("Yes.", {"id": ID}, None, Form.VOICE, "Yes."),
    "the words pasted, all else nulled": (
        "Yes.",
        {"id": ID, "data": None, "transcript": None, "expires_at": None},
        None,
        Form.VOICE,
        "Yes.",
    ),
    "words twice": ("Yes.", {"id": ID, "transcript": "Yes."}, None, Form.VOICE, "Yes."),
    "expired": (
        None,
        {"id": ID, "transcript": "Yes.", "expires_at": PAST},
        None,
        Form.TRANSCRIPT,
        "Yes.",
    ),
    "expired, words pasted": ("Yes.", {"id": ID, "expires_at": PAST}, None, Form.TEXT, "Yes."),
    "an id without its time": (
        None,
        {"id": "audio_x", "transcript": "Yes."},
        None,
        Form.TRANSCRIPT,
        "Yes.",
    ),
    "no id": (None, {"id": None, "data": DATA, "transcript": "A"}, None, Form.TRANSCRIPT, "A"),
    "vLLM-Omni": (
        None,
        {"id": FOREIGN, "data": DATA, "transcript": "", "expires_at": SOON},
        None,
        Form.PLACEHOLDER,
        "",
    ),
    "with a call": (None, {"id": ID, "transcript": "Yes."}, CALLS, Form.VOICE, "Yes."),
}


@pytest.mark.parametrize("kind", SPOKEN)
def test_imported_answer_is_sent_as_voice_until_its_id_expires(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its words and its sound are kept for later."""
    content, audio, calls, form, text = SPOKEN[kind]
    message = {"role": "assistant", "content": content, "audio": audio, "tool_calls": calls}
    chat = imported({"role": "user", "content": "Question"}, message)
    assert skipped(caplog) == []
    rendered = chat.render().items[1]
    assert (rendered.form, chat.turns[1].text) == (form, text)
    assert rendered.message
    assert (rendered.message.get("audio") == {"id": ID}) == (form is Form.VOICE)
    _contract.check(chat.request(), lambda audio_id: audio_id == ID)
    turn = chat.turns[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    data = audio.get("data")
    assert (turn.audio.data is not None) == bool(data)
    assert not data or encoded(turn.audio.read()) == data


def test_content_beside_an_imported_audio_id_is_sent_after_it_expires() -> None:
    """Words that a user saved beside an id replace it (contract §3)."""
    clock = Clock()
    message = {"role": "assistant", "content": "Yes.", "audio": {"id": ID}}
    chat = Conversation.from_messages([message], clock=clock)
    assert chat.messages() == [message]
    clock.now += 3600
    assert chat.messages() == [{"role": "assistant", "content": "Yes."}]


def test_imported_tool_call_without_a_result_is_sent_with_a_fixed_one() -> None:
    """The turns stay as they were, and a result can still be added."""
    chat = imported(
        {"role": "user", "content": "Question"},
        {"role": "assistant", "tool_calls": [tool_call("a"), tool_call("b")]},
        {"role": "tool", "tool_call_id": "b", "content": "2"},
        {"role": "user", "content": "And?"},
    )
    contents = [m["content"] for m in chat.messages() if m["role"] == "tool"]
    assert contents == [NO_RESULT, "2"]
    assert len(chat.turns) == 4
    assert chat.render().items[2].form is Form.NO_RESULT
    chat.add_tool_result("a", "1")
    contents = [m["content"] for m in chat.messages() if m["role"] == "tool"]
    assert contents == ["1", "2"]


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "tool", "tool_call_id": "a", "content": "1"}],
        [
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "assistant", "content": "x", "tool_calls": [tool_call("a")]},
        ],
        [
            {"role": "assistant", "content": "x", "tool_calls": [tool_call("a")]},
            {"role": "tool", "tool_call_id": "a", "content": "1"},
            {"role": "tool", "tool_call_id": "a", "content": "2"},
        ],
        [{"role": "tool", "tool_call_id": "", "content": ""}],
    ],
    ids=["alone", "too early", "twice", "without an id"],
)
def test_imported_result_without_a_tool_call_is_kept_but_not_sent(
    messages: list[dict[str, Any]],
) -> None:
    """Its item in the rendering says why; the API would refuse it."""
    chat = imported(*messages, {"role": "user", "content": "And?"})
    assert len(chat.turns) == len(messages) + 1
    [left] = [item for item in chat.render().items if item.form is Form.LEFT_OUT]
    assert isinstance(left.turn, ToolTurn)
    assert left.why == "left out, it answers no open call"
    _contract.check(chat.request(), lambda _: True)


def test_imported_function_calls_become_tool_calls(caplog: pytest.LogCaptureFixture) -> None:
    """A legacy result belongs to the last call of its name; there are no ids."""
    call = {"name": "look_up", "arguments": "{}"}
    chat = imported(
        {"role": "user", "content": "Question"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "look_up", "content": "1"},
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "look_up", "content": "2"},
        {"role": "function", "name": "unheard_of", "content": "3"},
        {"role": "function", "name": ["x"], "content": "4"},
        {"role": "user", "content": "And?"},
    )
    messages = chat.messages()
    assert [message["role"] for message in messages] == [
        "user", "assistant", "tool", "assistant", "tool", "user"
    ]  # fmt: skip
    ids = [message["tool_calls"][0]["id"] for message in messages[1:5:2]]
    assert [message["tool_call_id"] for message in messages[2:5:2]] == ids
    assert len(set(ids)) == 2
    assert [message["content"] for message in messages[2:5:2]] == ["1", "2"]
    assert [line[:21] for line in skipped(caplog)] == ["message 5 and 1 more:"]
    _contract.check(chat.request(), lambda _: True)


def test_imported_refusal_may_be_a_part_of_the_content(caplog: pytest.LogCaptureFixture) -> None:
    """A part of the type refusal is the refusal of the turn, with or without text."""
    part = {"type": "refusal", "refusal": "No."}
    chat = imported(
        {"role": "assistant", "content": [part]},
        {"role": "assistant", "content": [{"type": "text", "text": "Well. "}, part]},
    )
    assert [turn.refusal for turn in chat.turns if isinstance(turn, AssistantTurn)] == ["No."] * 2
    assert [message["content"] for message in chat.messages()] == ["No.", "Well. "]
    assert skipped(caplog) == []


# --- the SDK's objects -------------------------------------------------------------------------


def test_imported_messages_may_be_objects_of_the_sdk() -> None:
    """Messages of completions, and messages built by hand, keep sound and tool calls."""
    whole = ChatCompletion.model_validate(recorded())
    sound = ChatCompletionAudio(id=ID, data=encoded(SOUND), expires_at=1, transcript="Hi.")
    built = ChatCompletionMessage.model_validate(
        {"role": "assistant", "audio": sound, "tool_calls": [tool_call("a", "look_up")]}
    )
    chat = imported({"role": "user", "content": "Hello"}, whole.choices[0].message, built)
    _, first, second = chat.turns
    assert isinstance(first, AssistantTurn)
    assert first.audio
    assert (first.audio.id, first.text) == (RECORDED_ID, "…casual greeting")
    assert len(first.audio.read()) == 48_000
    assert isinstance(second, AssistantTurn)
    assert second.audio
    assert (second.text, second.audio.read()) == ("Hi.", SOUND)
    assert second.tool_calls[0].name == "look_up"


def test_imported_list_of_a_loop_made_by_hand_goes_on(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """A list with the message of each completion appended becomes a conversation."""
    messages: list[Any] = []
    for content in ("One", [sound_part()], "Three"):
        messages.append({"role": "user", "content": content})
        completion = client.chat.completions.create(
            model="gpt-audio-1.5",
            modalities=["text", "audio"],
            audio={"voice": "alloy", "format": "wav"},
            messages=[
                {"role": "assistant", "audio": {"id": message.audio.id}}
                if isinstance(message, ChatCompletionMessage) and message.audio
                else message
                for message in messages
            ],
        )
        messages.append(completion.choices[0].message)
    chat = Conversation.from_messages(messages, client=client, clock=clock)
    assert "I recall 3 of my earlier answers by voice" in chat.say("Four").text
    clock.now += 7200
    assert "0 of my earlier answers by voice and 4 from transcripts" in chat.say("Five").text
    assert len(server.requests) == 5


def test_imported_messages_may_be_any_iterable() -> None:
    """A generator and a tuple are read; an empty list is an empty conversation."""

    def messages() -> Iterator[dict[str, Any]]:
        yield {"role": "user", "content": "One"}
        yield {"role": "assistant", "content": "Two"}

    assert len(Conversation.from_messages(messages()).turns) == 2
    assert len(Conversation.from_messages(tuple(messages())).turns) == 2
    assert Conversation.from_messages([]).turns == ()


# --- messages that are skipped -----------------------------------------------------------------

INVALID: dict[str, tuple[Any, str]] = {
    "no object": ("Question", "message 0: it must be a message, got str"),
    "nothing": (None, "message 0: it must be a message, got NoneType"),
    "bytes": (b"x", "message 0: it must be a message, got bytes"),
    "no role": ({}, "got None"),
    "an unknown role": ({"role": "narrator", "content": "x"}, "'narrator'"),
    "a role that is not text": ({"role": ["user"], "content": "x"}, "got list"),
    "a user without content": ({"role": "user"}, "it is empty"),
    "a user with empty content": ({"role": "user", "content": ""}, "it is empty"),
    "a user without parts": ({"role": "user", "content": []}, "it is empty"),
    "a user's number": ({"role": "user", "content": 5}, "got int"),
    "an answer without anything": ({"role": "assistant", "content": None}, "no words, no sound"),
    "an answer of blanks": ({"role": "assistant", "content": " "}, "no words, no sound"),
    "an answer's number": ({"role": "assistant", "content": 5}, "no words, no sound"),
    "empty calls": ({"role": "assistant", "tool_calls": []}, "no words, no sound"),
    "a result of no call": ({"role": "tool", "content": "x"}, "tool_call_id"),
    "a function's result": ({"role": "function", "name": "f", "content": "x"}, "'function'"),
}


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_message_is_skipped_with_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning has the position and the reason; other messages are kept."""
    message, reason = INVALID[kind]
    chat = imported(message, {"role": "user", "content": "Kept"})
    assert [turn.text for turn in chat.turns] == ["Kept"]
    [line] = skipped(caplog)
    assert line.startswith("message 0: ")
    assert reason in line


BROKEN_PARTS: dict[str, Any] = {
    "unknown": {"type": "video_url", "video_url": {}},
    "no type": {"text": "x"},
    "no object": 5,
    "nothing": None,
    "text that is none": {"type": "text", "text": 5},
    "sound without data": {"type": "input_audio", "input_audio": {"data": None, "format": "wav"}},
    "sound that is not an object": {"type": "input_audio", "input_audio": [encoded(SOUND)]},
    "not base64": sound_part("!!!"),
    "cut base64": sound_part("UklGR"),
    "not the sound it says": sound_part(encoded(SOUND), "mp3") | {"type": "input_video"},
    "no sound at all": sound_part(encoded(b"hello there, this is text")),
    "a sound the API does not take": sound_part(encoded(b"OggS" + bytes(99)), "ogg"),
    "a picture without its URL": {"type": "image_url", "image_url": {}},
    "a picture of the disk": {"type": "image_url", "image_url": {"url": "file:///etc/passwd"}},
    "a file without data": {"type": "file", "file": {"filename": "a.pdf"}},
}


@pytest.mark.parametrize("kind", BROKEN_PARTS)
def test_invalid_part_of_an_imported_message_is_skipped_with_a_warning(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Words and valid sound in the same message are kept."""
    parts = [{"type": "text", "text": "Kept"}, BROKEN_PARTS[kind], sound_part()]
    chat = imported({"role": "user", "content": parts})
    [turn] = chat.turns
    assert turn == UserTurn(("Kept", AudioInput(SOUND)))
    [line] = skipped(caplog)
    assert line.startswith("part 1 of message 0: ")
    _contract.check(chat.request(), lambda _: True)


def test_imported_message_of_invalid_parts_is_skipped_with_two_warnings(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning names the part, the other the message that is empty without it."""
    assert imported({"role": "user", "content": [sound_part("!!!")]}).turns == ()
    assert [line.split(":")[0] for line in skipped(caplog)] == [
        "part 0 of message 0", "message 0"
    ]  # fmt: skip


def test_imported_sound_with_a_wrong_or_no_format_is_kept() -> None:
    """Its format is detected from its bytes."""
    part = {"type": "input_audio", "input_audio": {"data": encoded(MP3)}}
    chat = imported(
        {"role": "user", "content": [part]},
        {"role": "user", "content": [sound_part(encoded(MP3), "wav")]},
    )
    assert [turn.content for turn in chat.turns if isinstance(turn, UserTurn)] == [
        (AudioInput(MP3),)
    ] * 2
    formats = [m["content"][0]["input_audio"]["format"] for m in chat.messages()]
    assert formats == ["mp3", "mp3"]


@pytest.mark.parametrize("call", [{"id": "b"}, {}, None, "x", {"id": "b", "function": {}}])
def test_invalid_tool_call_of_an_imported_message_is_skipped_with_a_warning(
    call: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The words and the other tool calls of the message are kept."""
    chat = imported(
        {"role": "assistant", "content": "Yes.", "tool_calls": [call, tool_call("a")]},
        {"role": "tool", "tool_call_id": "a", "content": "1"},
    )
    turn = chat.turns[0]
    assert isinstance(turn, AssistantTurn)
    assert (turn.text, [c.id for c in turn.tool_calls]) == ("Yes.", ["a"])
    [line] = skipped(caplog)
    assert line.startswith("call 0 of message 0: ")
    assert len(chat.messages()) == 2


def test_imported_sound_that_is_not_base64_is_skipped_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The id and the words of the answer are kept."""
    chat = imported({"role": "assistant", "audio": {"id": ID, "data": "!!", "transcript": "Hi."}})
    [line] = skipped(caplog)
    assert line.startswith("the sound of message 0: ")
    turn = chat.turns[0]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    assert (turn.audio.id, turn.text, turn.audio.data) == (ID, "Hi.", None)


@pytest.mark.parametrize("messages", [None, 5, "Question", b"x", {"role": "user"}, object()])
def test_importing_something_else_than_messages_is_an_error(messages: Any) -> None:
    """A value that is not an iterable of messages is InvalidTurn."""
    with pytest.raises(InvalidTurn, match="list of API messages"):
        Conversation.from_messages(messages)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
fields = {
    "content": json_values
    | st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["text", "input_audio", "image_url", "file", "refusal"])},
            optional=dict.fromkeys(("text", "input_audio", "image_url", "file"), json_values),
        ),
        max_size=3,
    ),
    "audio": json_values
    | st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("id", "data", "transcript", "expires_at"), json_values)
    ),
    "tool_calls": json_values
    | st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(("id", "type", "function"), json_values)),
        max_size=3,
    ),
    "tool_call_id": json_values,
    "function_call": json_values,
    "name": json_values,
    "refusal": json_values,
}
roles = st.sampled_from(["user", "assistant", "tool", "system", "developer", "function", 5])
messages_of_any_kind = st.fixed_dictionaries({"role": roles}, optional=fields) | json_values


@given(st.lists(messages_of_any_kind, max_size=4), words)
def test_imported_messages_of_any_kind_make_a_valid_request(
    messages: list[Any], question: str
) -> None:
    """Any JSON is either kept or skipped, and nothing is raised."""
    chat = imported(*messages, {"role": "user", "content": question})
    _contract.check(chat.request(), lambda _: True)
    assert chat.turns[-1].text == question


# --- round trips -------------------------------------------------------------------------------


@given(histories, user_turns, st.none() | words)
def test_messages_of_a_conversation_are_imported_without_change(
    history: list[Turn], last: Turn, instructions: str | None
) -> None:
    """A conversation from the messages of another one sends the same messages."""
    chat = Conversation(clock=Clock(START + 10**6), instructions=instructions)
    chat._history.fill([*history, last])
    sent = chat.messages()
    again = Conversation.from_messages(sent, clock=Clock())
    assert again.messages() == sent
    assert again.from_messages(again.messages(), clock=Clock()).turns == again.turns


def test_imported_messages_keep_the_voice_of_a_live_conversation(
    server: StandIn, chat: Conversation, client: OpenAI, clock: Clock
) -> None:
    """The audio ids carry their time, and are sent until they expire."""
    chat.say("One")
    chat.say(AudioInput(SOUND))
    server.will_answer(tool_calls=[("look_up", {})])
    chat.say("Three")
    sent = chat.messages()
    assert sum("audio" in message for message in sent) == 2
    again = Conversation.from_messages(sent, clock=clock, client=client)
    assert again.messages() == sent
    assert "2 of my earlier answers by voice" in again.say("Four").text
    clock.now += 3600
    forms = [item.form for item in again.render().items if item.role == "assistant"]
    assert forms[:2] == [Form.PLACEHOLDER, Form.PLACEHOLDER], "words were not in the messages"


# --- the conversation made of them -------------------------------------------------------------


def test_from_messages_takes_settings(client: OpenAI, clock: Clock) -> None:
    """Voice, context and instructions apply, and nothing is saved or spent."""
    chat = Conversation.from_messages(
        [{"role": "user", "content": "x" * 400}, {"role": "user", "content": "Question"}],
        client=client,
        clock=clock,
        context=Context(max_prompt_tokens=50),
        voice="echo",
        instructions="Be brief.",
    )
    assert [m["content"] for m in chat.messages()] == ["Be brief.", "Question"]
    assert chat.request()["audio"]["voice"] == "echo"
    assert chat.id is None
    assert chat.usage.total_tokens == 0
    assert chat.reply().text
    with pytest.raises(InvalidSetting):
        Conversation.from_messages([], voice="")


def test_imported_conversation_can_be_forked_saved_and_undone(clock: Clock) -> None:
    """A fork of it is a session with the same messages."""
    messages = [{"role": "user", "content": [sound_part()]}, {"role": "assistant", "content": "Hi"}]
    chat = Conversation.from_messages(messages, clock=clock)
    with chat.fork("copy") as fork:
        assert [turn.text for turn in fork.turns] == ["", "Hi"]
    with Conversation.open("copy", clock=clock) as again:
        assert again.messages() == chat.messages() == messages
        assert len(again.undo()) == 2
    assert len(chat.undo()) == 2


def test_imported_messages_are_copied() -> None:
    """The caller's list is not changed, and later changes to it have no effect."""
    messages: list[Any] = [
        {"role": "user", "content": [{"type": "text", "text": "x"}, sound_part("!!!")]},
        {"role": "assistant", "tool_calls": [tool_call("a"), {}]},
    ]
    before = repr(messages)
    chat = Conversation.from_messages(messages)
    assert repr(messages) == before
    sent = chat.messages()
    messages[1]["tool_calls"][0]["function"]["name"] = "other"
    assert chat.messages() == sent


def test_async_conversation_has_from_messages() -> None:
    """`AsyncConversation.from_messages` is not awaited."""
    chat = AsyncConversation.from_messages([{"role": "user", "content": "Question"}])
    assert isinstance(chat, AsyncConversation)
    assert chat.turns[0].text == "Question"


# --- other forms -------------------------------------------------------------------------------


def test_imported_dicts_may_contain_objects_of_the_sdk(server: StandIn) -> None:
    """Audio and tool calls of a completion can be put into a message as they are."""
    client = server.client()
    request = Conversation().request() | {"messages": [{"role": "user", "content": "Hello"}]}
    spoken = client.chat.completions.create(**request).choices[0].message
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    calling = client.chat.completions.create(**request).choices[0].message
    assert spoken.audio
    assert calling.tool_calls
    chat = Conversation.from_messages(
        [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "audio": spoken.audio},
            {"role": "assistant", "content": "And:", "audio": spoken.audio},
            {"role": "assistant", "content": None, "tool_calls": calling.tool_calls},
            {"role": "tool", "tool_call_id": calling.tool_calls[0].id, "content": "Rain"},
        ]
    )
    turns = chat.turns
    assert len(turns) == 5
    for turn in turns[1:3]:
        assert isinstance(turn, AssistantTurn)
        assert turn.audio
        assert (turn.audio.id, turn.audio.transcript) == (spoken.audio.id, spoken.audio.transcript)
    assert isinstance(turns[3], AssistantTurn)
    assert [call.name for call in turns[3].tool_calls] == ["weather"]
    assert all(item.message for item in chat.render().items)


def test_imported_sound_may_be_a_data_url() -> None:
    """The base64 in a data URL is decoded."""
    part = sound_part(f"data:audio/wav;base64,{encoded(SOUND)}")
    (turn,) = Conversation.from_messages([{"role": "user", "content": [part]}]).turns
    assert isinstance(turn, UserTurn)
    assert isinstance(turn.content[0], AudioInput)
    assert turn.content[0].read() == SOUND


@pytest.mark.parametrize(
    ("content", "kept"), [({"degrees": 3}, '{"degrees":3}'), (42, "42"), (True, "true")]
)
def test_imported_result_that_is_not_text_is_kept_as_json(content: Any, kept: str) -> None:
    """Objects, numbers and booleans become JSON text, as with `add_tool_result`."""
    call = {"role": "assistant", "tool_calls": [tool_call("1")]}
    result = {"role": "tool", "tool_call_id": "1", "content": content}
    assert Conversation.from_messages([call, result]).turns[1].text == kept


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "assistant", "content": "x", "audio": "audio_1"}, "the audio of message 0"),
        ({"role": "assistant", "content": "x", "tool_calls": {"id": 1}}, "tool_calls of message 0"),
        (
            {
                "role": "assistant",
                "content": [{"type": "text", "text": "x"}, {"type": "image_url"}],
            },
            "part 1 of message 0",
        ),
        ({"role": "system", "content": None}, "message 0: it has no words"),
    ],
)
def test_each_skipped_field_of_an_imported_message_has_a_warning(
    message: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Audio, tool calls and parts that no turn can hold are named in the log."""
    Conversation.from_messages([message])
    assert words in caplog.text


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": "a", "tool_calls": {"function": {"arguments": "SECRET"}}},
        {"role": "assistant", "content": "a", "audio": "SECRET"},
        {"role": "user", "content": [{"password": "SECRET"}]},
        {"role": "user", "content": [{"type": {"a": "SECRET"}, "text": "a"}]},
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "SECRET!"}}]},
        {"role": {"a": "SECRET"}, "content": "a"},
    ],
)
def test_warnings_name_the_kind_of_a_fault_and_not_the_value(
    message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Logs are kept elsewhere than conversations: no words, sound or arguments come into them."""
    Conversation.from_messages([{"role": "user", "content": "Hello"}, message])
    assert "skipping" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    "messages", [["Hello"], [None], [{"role": "narrator", "content": "Hello"}]]
)
def test_messages_of_which_none_can_be_read_are_refused(messages: list[Any]) -> None:
    """Nobody goes on with an empty conversation in the place of a history."""
    with pytest.raises(InvalidTurn, match="its one message cannot be imported"):
        Conversation.from_messages(messages)


def test_message_that_is_nested_too_deep_is_refused() -> None:
    """The error is one of ours, and names the fault."""
    content: Any = "x"
    for _ in range(3000):
        content = [content]
    with pytest.raises(InvalidTurn, match="nested too deep"):
        Conversation.from_messages([{"role": "user", "content": content}])
