"""Conversations in memory: turns, requests, healing and failed calls."""

from __future__ import annotations

import json
import logging
import math
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioDelta,
    AudioInput,
    Conversation,
    FileStore,
    SystemTurn,
    ToolCall,
    ToolTurn,
    TranscriptDelta,
    Usage,
    UserTurn,
)
from conversation._cli.main import main
from conversation.errors import (
    InvalidCompletion,
    InvalidSetting,
    InvalidTurn,
    UnknownToolCall,
)
from conversation.stores._disk import Disk
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, SOUND, answer, spoken, tool_call

NO_REQUEST: Any = None
NO_SOUND = "This model requires that either input content or output modality contain audio."


def notes(error: BaseException) -> str:
    """Return the notes of an error, one a line."""
    return "\n".join(getattr(error, "__notes__", ()))


@pytest.mark.parametrize(
    ("content", "modalities", "speaks"),
    [
        (("Hello",), ("text", "audio"), True),
        ((AudioInput(SOUND),), ("text", "audio"), True),
        ((AudioInput(MP3),), ("text",), False),
        (("Hello", AudioInput(SOUND)), ("text", "audio"), True),
        (("Hello", AudioInput(SOUND)), ("text",), False),
    ],
)
def test_every_combination_of_input_and_output_modalities_is_answered(
    server: StandIn, client: OpenAI, content: Any, modalities: Any, speaks: bool
) -> None:
    """Each combination of input and output modalities in OpenAI's audio guide is answered."""
    chat = Conversation(client=client, modalities=modalities)
    reply = chat.say(*content)
    assert (reply.audio is not None) is speaks
    assert ("audio" in server.requests[0]) is speaks
    assert server.requests[0]["modalities"] == list(modalities)
    assert "Hello" in reply.text or "seconds of sound" in reply.text
    assert not reply.voice_dropped
    assert chat.turns == (chat.turns[0], reply)


def test_text_in_and_text_out_raises_with_the_remedy(client: OpenAI) -> None:
    """Text in and text out raises the SDK's error, with notes on remedy and user turn."""
    chat = Conversation(client=client, modalities=["text"])
    with pytest.raises(openai.BadRequestError, match=NO_SOUND) as caught:
        chat.say("Hello")
    assert "add an AudioInput" in notes(caught.value)
    assert "taken back" in notes(caught.value)
    assert chat.turns == ()
    assert chat.say("Hello", modalities=["text", "audio"]).audio is not None


def test_settings_are_no_options_of_a_request(server: StandIn, chat: Conversation) -> None:
    """A setting given to one call is refused before anything is sent, and the option is named."""
    for name, remedy in (
        ("voice", r"pass audio=\{'voice': …\}"),
        ("audio_format", r"pass audio=\{'format': …\}"),
        ("instructions", "call add_system"),
        ("max_tool_rounds", r"give it to Conversation\(…\)"),
        ("clock", r"give it to Conversation\(…\)"),
    ):
        for call in (chat.say, chat.request):
            with pytest.raises(InvalidSetting, match=f"^{name} is a setting of .*{remedy}"):
                call(*(("Hi",) if call == chat.say else ()), **{name: "nova"})
    assert (server.requests, chat.turns) == ([], ())
    assert chat.say("Hi", audio={"voice": "nova"}, timeout=60, store=False).audio is not None


def test_unknown_options_are_explained(chat: Conversation) -> None:
    """The SDK's error comes with the option that was meant, or a way to pass others."""
    with pytest.raises(TypeError, match="modle") as caught:
        chat.say("Hi", modle="gpt-audio-1.5")
    assert "'modle' is no option of chat.completions.create; did you mean 'model'?" in notes(
        caught.value
    )
    with pytest.raises(TypeError, match="frobnicate") as caught:
        chat.say("Hi", frobnicate=1)
    assert "what the SDK does not know is passed by extra_body=" in notes(caught.value)
    assert chat.turns == ()


def test_reprs_are_short(chat: Conversation) -> None:
    """What has its default is left out; a rendering tells its size alone."""
    assert repr(UserTurn(["Hi"])) == "UserTurn(content=('Hi',))"
    reply = chat.say("Hi")
    for absent in ("refusal", "interrupted", "cached_tokens", "datetime", "lost"):
        assert absent not in repr(reply)
    assert str(reply.at) in repr(reply)
    assert repr(chat.render()).startswith("<Rendering of 2 messages")


def test_answers_are_sent_as_voice_until_they_expire(chat: Conversation, clock: Clock) -> None:
    """Answers are sent as voice while their ids live, and as transcripts afterwards."""
    chat.say("One")
    assert "recall 1 of my earlier answers by voice and 0 from" in chat.say("Two").text
    clock.now += 3600
    assert "recall 0 of my earlier answers by voice and 2 from" in chat.say("Three").text
    assert "recall 1 of my earlier answers by voice and 2 from" in chat.say("Four").text


def test_server_clock_ahead_of_the_local_clock_is_compensated(client: OpenAI, clock: Clock) -> None:
    """Ids expire on time with a local clock two hours behind the server's."""
    ours = Clock(clock.now - 7200)
    chat = Conversation(client=client, clock=ours)
    chat.say("One")
    assert "1 of my earlier answers by voice" in chat.say("Two").text
    clock.now += 3590
    ours.now += 3590
    assert "0 of my earlier answers by voice" in chat.say("Three").text


def test_lost_id_is_healed(server: StandIn, chat: Conversation) -> None:
    """An id that the server forgot early costs one extra request and is marked as lost."""
    first = chat.say("One")
    chat.say("Two")
    assert first.audio is not None
    assert first.audio.id is not None
    server.forget(first.audio.id)
    assert "1 of my earlier answers by voice and 1 from" in chat.say("Three").text
    assert len(server.requests) == 4
    assert [t.audio.lost for t in chat.turns if isinstance(t, AssistantTurn) and t.audio] == [
        True,
        False,
        False,
    ]


def test_second_lost_id_gives_up_all_ids_of_the_request(
    server: StandIn, chat: Conversation
) -> None:
    """A second lost id in one exchange gives up all ids: two extra requests at most."""
    for word in ("One", "Two", "Three", "Four"):
        turn = chat.say(word)
        assert turn.audio is not None
    for lost in chat.turns[1:6:2]:
        assert isinstance(lost, AssistantTurn)
        assert lost.audio is not None
        server.forget(str(lost.audio.id))
    assert "0 of my earlier answers by voice and 4 from" in chat.say("Five").text
    assert len(server.requests) == 4 + 3


def test_third_audio_not_found_of_an_exchange_is_raised(
    server: StandIn, chat: Conversation
) -> None:
    """The third `audio_not_found` of one exchange is raised, and the user turn taken back."""
    chat.say("One")
    for _ in range(3):
        server.will_fail(400, "Assistant audio audio_x not found.", code="audio_not_found")
    with pytest.raises(openai.BadRequestError):
        chat.say("Two")
    assert len(server.requests) == 1 + 2
    assert len(chat.turns) == 2


@pytest.mark.parametrize(
    ("message", "code", "param", "lost"),
    [
        ("Assistant audio {0} not found.", "audio_not_found", "content.messages[1].audio.id", [0]),
        ("Gone.", "audio_not_found", "content.messages[3].audio.id", [1]),
        ("Gone.", "audio_not_found", "messages.[1].audio.id", [0]),
        ("Gone.", "audio_not_found", "content.messages[0].audio.id", [0, 1]),
        ("Gone.", "audio_not_found", None, [0, 1]),
        ('provider says {{"code":"audio_not_found"}} about {1}', None, None, [1]),
        ("Assistant audio {0} not found.", None, None, [0]),
        ("Something else about {0}.", "invalid_value", "content.messages[1].audio.id", []),
    ],
)
def test_heal_gives_up_the_ids_that_the_error_names(
    server: StandIn,
    chat: Conversation,
    client: OpenAI,
    message: str,
    code: str | None,
    param: str | None,
    lost: list[int],
) -> None:
    """`heal` gives up the id in the message, else the one that `param` names, else all ids."""
    answers = [chat.say("One"), chat.say("Two")]
    ids = [turn.audio.id for turn in answers if turn.audio]
    chat.add_user("Three")
    request = chat.request()
    server.will_fail(400, message.format(*ids), code=code, param=param)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**request)
    assert chat.heal(caught.value) is bool(lost)
    spoken_turns = [turn for turn in chat.turns if isinstance(turn, AssistantTurn)]
    assert [i for i, turn in enumerate(spoken_turns) if turn.audio and turn.audio.lost] == lost


def test_heal_works_for_calls_of_the_caller(
    server: StandIn, chat: Conversation, client: OpenAI
) -> None:
    """`heal` returns True for two refusals of the caller's requests, False for other errors."""
    for word in ("One", "Two", "Three"):
        turn = chat.say(word)
        assert turn.audio is not None
        server.forget(str(turn.audio.id))
        chat.add_user("more")
        chat.add_completion(spoken(audio_id=f"audio_{word}"))
    assert chat.heal(ValueError("audio_not_found")) is False
    healed = []
    chat.add_user("Four")
    for _ in range(3):
        try:
            completion = client.chat.completions.create(**chat.request())
        except openai.BadRequestError as error:
            healed.append(chat.heal(error))
        else:
            chat.add_completion(completion)
            break
    assert healed == [True, True]
    assert "0 of my earlier answers by voice" in chat.turns[-1].text


@pytest.mark.parametrize("status", [401, 403, 408, 409, 429, 500, 503])
def test_retryable_failure_keeps_the_user_turn(
    server: StandIn, chat: Conversation, status: int
) -> None:
    """A status that a retry can mend keeps the user turn, and `reply` answers it."""
    server.will_fail(status)
    with pytest.raises(openai.APIStatusError) as caught:
        chat.say("Hello")
    assert "reply() tries again" in notes(caught.value)
    assert [turn.text for turn in chat.turns] == ["Hello"]
    assert "Hello" in chat.reply().text


@pytest.mark.parametrize("status", [400, 404, 413, 422])
def test_final_refusal_takes_the_user_turn_back(
    server: StandIn, chat: Conversation, status: int
) -> None:
    """A status that no retry can mend takes the user turn back, and the next `say` works."""
    chat.say("One")
    before = chat.turns
    server.will_fail(status)
    with pytest.raises(openai.APIStatusError) as caught:
        chat.say("Two")
    assert "taken back" in notes(caught.value)
    assert chat.turns == before
    assert chat.say("Three").text


def test_connection_error_keeps_the_user_turn(clock: Clock) -> None:
    """A connection error keeps the user turn for `reply`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with OpenAI(base_url=url, api_key="x", max_retries=0) as client:
        chat = Conversation(client=client, clock=clock)
        with pytest.raises(openai.APIConnectionError) as caught:
            chat.say("Hello")
    assert "reply() tries again" in notes(caught.value)
    assert len(chat.turns) == 1


@pytest.mark.parametrize("body", [b'{"choices": []}', b'{"error": "busy"}', b"not json"])
def test_invalid_completion_keeps_the_user_turn(
    server: StandIn, chat: Conversation, body: bytes
) -> None:
    """A 200 response whose body is no completion keeps the user turn."""
    server.will_send(body)
    with pytest.raises((InvalidCompletion, json.JSONDecodeError)) as caught:
        chat.say("Hello")
    assert "reply() tries again" in notes(caught.value)
    assert [turn.text for turn in chat.turns] == ["Hello"]


def test_missing_api_key_raises_with_the_remedy() -> None:
    """A missing API key raises the SDK's error, with a note, before a turn is added."""
    chat = Conversation()
    with pytest.raises(openai.OpenAIError) as caught:
        chat.say("Hello")
    assert "OPENAI_API_KEY" in notes(caught.value)
    assert chat.turns == ()


@pytest.mark.parametrize(
    ("message", "code", "status", "note"),
    [
        ("The model `x` does not exist", "model_not_found", 404, "gpt-audio-1.5"),
        ("too long", "context_length_exceeded", 400, "longer than the model's window"),
        ("no such format", "unsupported_format", 400, "convert it"),
        ("wrong key", "invalid_api_key", 401, "OPENAI_API_KEY"),
        (
            "'response_format' of type 'json_schema' is not supported with this model",
            None,
            400,
            "support schemas",
        ),
    ],
)
def test_known_errors_carry_a_note_with_the_remedy(
    server: StandIn, chat: Conversation, message: str, code: str | None, status: int, note: str
) -> None:
    """An error with a known remedy carries it as a note on the SDK's exception."""
    server.will_fail(status, message, code=code)
    with pytest.raises(openai.APIStatusError) as caught:
        chat.say("Hello")
    assert note in notes(caught.value)


def test_tool_calls_are_kept_and_answered(server: StandIn, chat: Conversation) -> None:
    """Tool calls are kept as a turn, and their added results are sent by `reply`."""
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"}), ("time", {})])
    turn = chat.say("Weather?")
    assert [call.name for call in turn.tool_calls] == ["weather", "time"]
    assert turn.finish_reason == "tool_calls"
    chat.add_tool_result(turn.tool_calls[0].id, {"degrees": -3})
    chat.add_tool_result(turn.tool_calls[1].id, "noon")
    assert chat.reply().text.startswith("The tool says noon")
    assert server.requests[-1]["messages"][2]["content"] == '{"degrees":-3}'


def test_unanswered_tool_call_does_not_break_the_next_request(
    server: StandIn, chat: Conversation
) -> None:
    """A tool call without a result does not invalidate the next request."""
    server.will_answer(tool_calls=[("weather", {})])
    chat.say("Weather?")
    assert chat.say("Never mind.").text.startswith("You wrote: Never mind.")


def test_dict_tools_are_sent_with_the_request(server: StandIn, client: OpenAI) -> None:
    """Tools given as dicts are sent; a function that cannot be described is refused."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    Conversation(client=client, tools=[tool]).say("Hi")
    assert server.requests[0]["tools"] == [tool]
    with pytest.raises(InvalidSetting, match="parameters must have names"):
        Conversation(tools=[print])


@pytest.mark.parametrize("call_id", ["unknown", "a"])
def test_tool_result_without_an_open_call_is_refused(call_id: str) -> None:
    """A result for an unknown or an answered call raises `UnknownToolCall`."""
    chat = Conversation()
    chat.add_user("Hi")
    chat.add_completion(answer(content=None, tool_calls=[tool_call("a"), tool_call("b")]))
    chat.add_tool_result("a", "1")
    before = chat.turns
    with pytest.raises(UnknownToolCall, match="waiting: 'b'") as caught:
        chat.add_tool_result(call_id, "2")
    assert (caught.value.tool_call_id, caught.value.open_calls) == (call_id, ("b",))
    assert chat.turns == before


@pytest.mark.parametrize("content", [(), ("",), (" \n",), ("", "  ")])
def test_empty_user_turn_is_refused(chat: Conversation, content: tuple[str, ...]) -> None:
    """`say` refuses content without words, sound, picture or file, and adds nothing."""
    with pytest.raises(InvalidTurn, match="words, sound, a picture or a file"):
        chat.say(*content)
    assert chat.turns == ()


def test_content_of_a_wrong_type_is_refused(chat: Conversation) -> None:
    """Content of a wrong type raises `InvalidTurn` with the name of the type."""
    for wrong in (b"sound", 5, {"type": "text"}, None):
        with pytest.raises(InvalidTurn, match=type(wrong).__name__):
            chat.add_user(wrong)  # type: ignore[arg-type]  # the mistake
    for add in (chat.add_assistant, chat.add_system):
        with pytest.raises(InvalidTurn):
            add("  ")
        with pytest.raises(InvalidTurn):
            add(None)  # type: ignore[arg-type]  # the mistake
    with pytest.raises(InvalidTurn, match="expected a UserTurn"):
        chat.add("Hello")  # type: ignore[type-var]  # the mistake
    assert chat.turns == ()


def test_lone_surrogates_in_texts_are_replaced(server: StandIn, chat: Conversation) -> None:
    """Lone surrogates are sent as U+FFFD, and surrogate pairs as their character."""
    chat.say("a\ud800b \ud83d\ude00")
    assert server.requests[0]["messages"][0]["content"] == "a\ufffdb \U0001f600"


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"temperature": math.nan}, "temperature must be a finite number, got nan"),
        ({"seed": 10**30}, "seed must have at most 64 bits, got 100"),
        (
            {"metadata": {"a": [1, math.inf]}},
            r"metadata\['a'\]\[1\] must be a finite number, got inf",
        ),
        ({"n": 2}, "n must be 1, got 2"),
        ({"n": "2"}, "leave n out"),
        ({"audio": "alloy"}, "audio must be a mapping"),
        ({"modalities": ["audio"]}, "modalities must be"),
        ({"messages": []}, "the conversation's own"),
        ({"extra_body": None}, "nested too deep"),
    ],
)
def test_invalid_options_are_refused_before_anything_is_added(
    server: StandIn, chat: Conversation, options: dict[str, Any], place: str
) -> None:
    """Invalid request options raise `InvalidSetting` before a turn is added or sent."""
    if "extra_body" in options:
        options["extra_body"] = options
    for call in (chat.say, chat.request):
        with pytest.raises(InvalidSetting, match=place):
            call("Hi", **options) if call == chat.say else call(**options)
    assert (chat.turns, server.requests) == ((), [])


@pytest.mark.parametrize(
    "settings",
    [
        {"model": ""},
        {"model": None},
        {"voice": ""},
        {"voice": 3},
        {"audio_format": "ogg"},
        {"modalities": ["audio"]},
        {"modalities": "audio"},
        {"modalities": ["text", "video"]},
        {"modalities": []},
        {"instructions": 5},
        {"expiry_margin": -1},
        {"expiry_margin": math.nan},
        {"expiry_margin": "30"},
        {"expiry_margin": 10**400},
        {"modalities": 5},
        {"tools": 5},
        {"tools": {"type": "function"}},
        {"tools": [{"n": math.nan}]},
    ],
    ids=repr,
)
def test_invalid_settings_are_refused(settings: dict[str, Any]) -> None:
    """Invalid settings raise `InvalidSetting`."""
    with pytest.raises(InvalidSetting):
        Conversation(**settings)


def test_options_override_settings(server: StandIn, client: OpenAI) -> None:
    """Options of one request override settings, also single keys of `audio`."""
    chat = Conversation(client=client, voice="alloy", audio_format="mp3")
    chat.say("Hi", model="gpt-audio-mini", audio={"voice": "echo"}, temperature=0.5)
    assert server.requests[0]["model"] == "gpt-audio-mini"
    assert server.requests[0]["audio"] == {"voice": "echo", "format": "mp3"}
    assert server.requests[0]["temperature"] == 0.5


def test_text_answer_to_an_audio_request_is_voice_dropped(
    server: StandIn, chat: Conversation
) -> None:
    """A text answer to a request for audio is `voice_dropped` and sent as text."""
    server.will_answer("Only words.", spoken=False)
    assert chat.say("Hi").voice_dropped
    assert chat.render().items[1].why == "text, the model did not speak"


def test_refusal_is_the_text_of_its_turn(server: StandIn, chat: Conversation) -> None:
    """A refusal is the `text` of its turn, and the chat goes on after it."""
    server.will_answer(refusal="I must not.")
    assert chat.say("Hi").text == "I must not."
    assert chat.say("Why?").text


def test_reply_needs_turns_or_instructions(chat: Conversation, client: OpenAI) -> None:
    """`reply` raises for an empty chat, and works with instructions alone."""
    with pytest.raises(InvalidTurn, match="nothing to answer"):
        chat.reply()
    assert Conversation(client=client, instructions="Greet the user.").reply().text


def test_add_methods_return_their_turn_with_its_time(clock: Clock) -> None:
    """Each `add` method returns its turn, stamped with the time of the clock."""
    chat = Conversation(clock=clock)
    turns = (
        chat.add_system("Be kind."),
        chat.add_assistant("Hello!"),
        chat.add_user("Hi", AudioInput(SOUND, transcript="there")),
        chat.add(AssistantTurn(content="Again.")),
    )
    assert chat.turns == turns
    assert [type(turn) for turn in turns] == [SystemTurn, AssistantTurn, UserTurn, AssistantTurn]
    assert turns[2].text == "Hi\nthere"
    assert all(turn.at and turn.at.timestamp() == clock.now for turn in turns)
    other = Conversation()
    assert other.add(turns[0]) == turns[0]
    with pytest.raises(UnknownToolCall):
        other.add(ToolTurn("a", "1"))


def test_usage_is_the_sum_over_all_answers(chat: Conversation) -> None:
    """`usage` is the sum over all answers, and zero without any."""
    first, second = chat.say("One"), chat.say(AudioInput(SOUND))
    assert first.usage is not None
    assert second.usage is not None
    assert chat.usage == first.usage + second.usage
    assert second.usage.prompt_audio_tokens == 1 + first.usage.completion_audio_tokens
    assert Conversation().usage == Usage()


CUT = "Connection error|incomplete chunked read"
"""Messages of newer and older SDKs for a connection that ends too early."""


def test_broken_stream_carries_a_fitting_note(server: StandIn, chat: Conversation) -> None:
    """The note on a broken stream fits what was kept: half an answer, or the question."""
    server.will_answer(cut_after=5)
    with pytest.raises(Exception, match=CUT) as caught, chat.stream("Hi") as events:
        list(events)
    (note,) = caught.value.__notes__
    assert "undo(answer_only=True)" in note
    chat.undo(answer_only=True)
    server.will_answer(cut_after=0)
    with pytest.raises(Exception, match=CUT) as caught, chat.stream() as events:
        list(events)
    assert not hasattr(caught.value, "__notes__")
    chat.undo()
    server.will_answer(cut_after=0)
    with pytest.raises(Exception, match=CUT) as caught, chat.stream("Hi") as events:
        list(events)
    assert caught.value.__notes__ == ["the user turn is kept: reply() tries again"]
    assert chat.reply().text


def test_undo_takes_back_the_last_exchange(server: StandIn, chat: Conversation) -> None:
    """`undo` removes a question, its tool calls and its answer, but not their usage."""
    chat.add_system("Be kind.")
    first = chat.say("One")
    server.will_answer(tool_calls=[("look_up", {})])
    call = chat.say("Two").tool_calls[0]
    chat.add_tool_result(call.id, "42")
    chat.reply()
    spent, turns = chat.usage, chat.turns
    assert chat.undo() == turns[3:]
    assert (chat.turns, chat.usage) == (turns[:3], spent)
    chat.add(turns[3])
    assert chat.undo() == (turns[3],), "a lone question is an exchange"
    assert [message["role"] for message in chat.messages()] == ["system", "user", "assistant"]
    assert chat.undo() == (turns[1], first)
    assert (chat.undo(), chat.turns, chat.usage) == ((), turns[:1], spent)


def test_undo_of_the_answer_only_keeps_the_question(chat: Conversation) -> None:
    """`undo(answer_only=True)` keeps the question, so that `reply` answers it anew."""
    first = chat.say("One")
    assert chat.undo(answer_only=True) == (first,)
    assert chat.undo(answer_only=True) == ()
    second = chat.reply()
    assert chat.turns[1:] == (second,)
    assert chat.usage == (first.usage or Usage()) + (second.usage or Usage())


def test_undo_without_a_question_keeps_system_turns(chat: Conversation) -> None:
    """`undo` in a chat without a question removes a greeting and keeps system turns."""
    system, greeting = chat.add_system("Be kind."), chat.add_assistant("Hello!")
    assert chat.undo() == (greeting,)
    assert (chat.undo(), chat.turns) == ((), (system,))


def test_empty_conversation_is_true() -> None:
    """An empty conversation is truthy and has no length."""
    assert Conversation()
    assert not hasattr(Conversation, "__len__")
    assert repr(Conversation()) == "<Conversation of 0 turns with gpt-audio-1.5>"


def test_default_client_reads_the_environment(
    monkeypatch: pytest.MonkeyPatch, server: StandIn
) -> None:
    """The default client reads `OPENAI_BASE_URL` and `OPENAI_API_KEY`."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    assert Conversation().say("Hi").audio is not None


def test_healing_is_logged(
    server: StandIn, chat: Conversation, caplog: pytest.LogCaptureFixture
) -> None:
    """A healed id is logged at INFO."""
    turn = chat.say("One")
    assert turn.audio is not None
    server.forget(str(turn.audio.id))
    with caplog.at_level(logging.INFO, "conversation"):
        chat.say("Two")
    assert "lost 1 audio id" in caplog.text


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "The model gpt_audio_mini not found"),
        (400, "audio_format not found in request"),
        (500, "audio_690691a2f0248191be5a199d7a49968b not found"),
    ],
)
def test_similar_errors_give_up_no_id(
    server: StandIn, chat: Conversation, status: int, message: str
) -> None:
    """An error that only resembles `audio_not_found` gives up no id."""
    chat.say("One")
    server.will_fail(status, message)
    with pytest.raises(openai.APIStatusError):
        chat.say("Two")
    assert "voice" in chat.render().items[1].why


def test_heal_accepts_an_error_without_a_status(chat: Conversation) -> None:
    """`heal` accepts an `audio_not_found` that was raised in mid-stream, without a status."""
    turn = chat.say("One")
    assert turn.audio is not None
    body = {"message": f"Assistant audio {turn.audio.id} not found.", "code": "audio_not_found"}
    assert chat.heal(openai.APIError("error in a stream", NO_REQUEST, body=body))
    assert chat.render().items[1].why == "transcript, server lost it"


def test_heal_of_the_same_error_twice_gives_up_no_more(chat: Conversation) -> None:
    """`heal` returns False for the same error until a new request is made."""
    first, second = chat.say("One"), chat.say("Two")
    assert first.audio is not None
    error = openai.APIError("x", NO_REQUEST, body=f"Assistant audio {first.audio.id} not found")
    chat.request()
    assert [chat.heal(error), chat.heal(error)] == [True, False]
    assert [item.form.value for item in chat.render().items[1::2]] == ["transcript", "voice"]
    assert second.audio is not None


def test_turns_and_parts_refuse_invalid_fields() -> None:
    """Turns, their parts and `Usage` raise `InvalidTurn` for invalid fields."""
    wrong: Any = {"a": SystemTurn}
    number: Any = 5
    twice = [ToolCall("a", "f", "{}"), ToolCall("a", "f", "{}")]
    mistakes: list[Any] = [
        lambda: SystemTurn("x", role="banana"),
        lambda: AssistantTurn(audio=wrong),
        lambda: AssistantTurn(usage=wrong),
        lambda: AssistantTurn(tool_calls=number),
        lambda: AssistantTurn(tool_calls=twice),
        lambda: ToolCall("a", "f", "{}", type="weird"),
        lambda: AssistantAudio(expires_at=wrong),
        lambda: AssistantAudio(duration=math.nan),
        lambda: Usage(prompt_tokens=-1),
        lambda: UserTurn(number),
        lambda: UserTurn("x", at=wrong),
        lambda: UserTurn("x", extra="[]"),
    ]
    for make in mistakes:
        with pytest.raises(InvalidTurn):
            make()


def test_async_client_is_refused() -> None:
    """`Conversation` refuses an `AsyncOpenAI` client at construction."""
    with pytest.raises(InvalidSetting, match="AsyncOpenAI"):
        Conversation(client=openai.AsyncOpenAI(api_key="x"))  # type: ignore[arg-type]  # the mistake


def test_request_is_independent_of_the_settings() -> None:
    """Changes to a request's dicts do not change the settings."""
    chat = Conversation(voice={"id": "voice_1"}, tools=[{"type": "function"}])
    request = chat.request()
    request["audio"]["voice"]["id"] = "other"
    request["tools"][0]["type"] = "other"
    assert chat.request()["audio"]["voice"] == {"id": "voice_1"}
    assert chat.request()["tools"] == [{"type": "function"}]


def test_forced_tool_choice_holds_for_one_round(server: StandIn, client: OpenAI) -> None:
    """A `tool_choice` that forces a call is relaxed to `auto` after the first round."""

    def look() -> str:
        """Look."""
        return "seen"

    chat = Conversation(client=client, tools=[look])
    allowed = {"tools": [{"type": "function", "function": {"name": "look"}}], "mode": "required"}
    only = {"type": "allowed_tools", "allowed_tools": allowed}
    for choice, then in (
        ("required", "auto"),
        ({"type": "function", "function": {"name": "look"}}, "auto"),
        (only, {**only, "allowed_tools": {**allowed, "mode": "auto"}}),
        ("none", "none"),
    ):
        server.will_answer(tool_calls=[("look", {})])
        chat.say("Look", tool_choice=choice)
        assert [request["tool_choice"] for request in server.requests[-2:]] == [choice, then]


def test_tools_option_may_be_a_generator(server: StandIn, chat: Conversation) -> None:
    """The option `tools` may be a generator, and is sent in each round."""

    def look() -> str:
        """Look."""
        return "seen"

    server.will_answer(tool_calls=[("look", {})])
    chat.say("Look", tools=(tool for tool in [look]))
    assert [len(request["tools"]) for request in server.requests] == [1, 1]
    assert chat.turns[2].text == "seen"


def test_not_given_options_leave_settings_in_force(server: StandIn, chat: Conversation) -> None:
    """`openai.NOT_GIVEN` leaves a setting in force, and any truthy `stream` streams."""
    chat.say("Hi", tools=openai.NOT_GIVEN, audio=openai.NOT_GIVEN, modalities=openai.NOT_GIVEN)
    assert server.requests[0]["audio"] == {"voice": "alloy", "format": "wav"}
    assert chat.say("Hi", stream=1).audio
    assert server.requests[1]["audio"]["format"] == "pcm16"
    assert server.requests[1]["stream"] is True


def test_stream_yields_each_event_once_and_inside_its_block(chat: Conversation) -> None:
    """A stream yields each event once, over several loops, and only inside its block."""
    with pytest.raises(RuntimeError, match="enter a stream to read"):
        next(iter(chat.stream("Hi")))
    words = ""
    with chat.stream("Hi") as events:
        for event in events:
            if isinstance(event, TranscriptDelta):
                words += event.text
                break
        words += "".join(e.text for e in events if isinstance(e, TranscriptDelta))
        assert list(events) == []
    assert words == chat.turns[-1].text


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, also in a background job, which inherits it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_ctrl_c_during_a_write_is_raised_after_it(tmp_path: Path, client: OpenAI) -> None:
    """Ctrl-C during the fsync of an answer is raised after the answer is saved."""

    class Interrupting(Disk):
        armed = False

        def sync(self, descriptor: int) -> None:
            super().sync(descriptor)
            if self.armed:
                signal.raise_signal(signal.SIGINT)

    store = FileStore(tmp_path)
    disk = Interrupting()
    store._disk = disk
    with Conversation.open("k", store=store, client=client) as chat:
        chat.add_user("Hi")
        disk.armed = True
        with pytest.raises(KeyboardInterrupt):
            chat.reply()
        disk.armed = False
        assert [turn.role for turn in chat.turns] == ["user", "assistant"]
    with Conversation.open("k", store=store, read_only=True) as again:
        assert again.turns == chat.turns
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_truncate_estimates_the_length_of_words_ahead_of_their_sound(
    server: StandIn, chat: Conversation
) -> None:
    """`truncate` estimates the spoken length of words that streamed ahead of their sound."""
    server.will_answer("one two three four five six seven eight nine ten")
    with chat.stream("Count") as events:
        for event in events:
            if isinstance(event, AudioDelta):
                break
    assert chat.turns[-1].text.endswith("ten")
    assert chat.truncate(0.3).text == "one"


def test_request_during_an_exchange_does_not_disturb_it(
    server: StandIn, client: OpenAI, clock: Clock
) -> None:
    """`request` and `messages` during an exchange leave its tools, clock and format alone."""

    def look() -> str:
        """Look."""
        return "seen"

    chat = Conversation(client=client, clock=clock)
    server.will_answer("Let me look.", tool_calls=[("look", {})])
    with chat.stream("Look", tools=[look]) as events:
        for _ in events:
            clock.now += 1
            chat.request(modalities=["text"])
            chat.messages()
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool", "assistant"]
    assert chat._requests._skew == 0.0


@pytest.mark.parametrize("count", [10**15 - 1, 2**63 - 1])
def test_usage_of_huge_counts_is_summed(count: int, tmp_path: Path) -> None:
    """Usage, exports, undo and the saved session work, whatever counts a server sends."""
    usage = {"prompt_tokens": count, "prompt_tokens_details": {"audio_tokens": count}}
    usage["completion_tokens"] = count
    with Conversation.open("x") as chat:
        for _ in range(10):
            chat.add_user("Hi")
            chat.add_completion({**answer(content="Hello"), "usage": usage})
        assert chat.usage.prompt_tokens == chat.usage.prompt_audio_tokens == 10 * count
        assert chat.usage.total_tokens == 20 * count
        for form in ("html", "json", "jsonl", "markdown", "messages"):
            chat.export(tmp_path / "export", form)
        for _ in range(5):
            chat.undo()
        undone = min(5 * count, 2**63 - 1)
        assert chat.usage.completion_tokens == 5 * count + undone
    opened = Conversation.open("x", read_only=True)
    assert (opened.usage, opened.turns) == (chat.usage, chat.turns)
    assert main(["show", "x"]) == main(["show", "x", "--json"]) == 0
