"""Completions as assistant turns, and as entries without loss."""

from __future__ import annotations

import base64
import math
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion

from conversation import AssistantTurn, Conversation, Usage
from conversation._wire.completions import Asked, completion_object, skew_of, turn_from_completion
from conversation._wire.reading import turn_from_entry
from conversation.errors import InvalidCompletion
from tests.samples import (
    RECORDED_ID,
    RECORDED_USAGE,
    SOUND,
    START,
    answer,
    entry_from_turn,
    recorded,
    spoken,
    tool_call,
)

ASKED = Asked(sent_at=None, audio_format="pcm16", speaks=True)


def parsed(completion: Any, asked: Asked = ASKED) -> AssistantTurn:
    """Return the turn in a completion."""
    return turn_from_completion(completion_object(completion), asked)


def test_recorded_completion_gives_every_field() -> None:
    """Id, expiry, words, sound, usage, model and reason of a recorded completion are read."""
    turn = parsed(recorded())
    assert turn.audio is not None
    assert turn.audio.id == RECORDED_ID
    assert turn.audio.expires_at == 1762041778
    assert turn.text == "…casual greeting"
    assert turn.audio.format == "pcm16"
    assert turn.audio.duration == 1.0
    assert turn.audio.read() == b"\1\0" * 24_000
    assert (turn.model, turn.finish_reason) == ("gpt-4o-audio-preview-2025-06-03", "length")
    assert turn.usage == Usage(64, 200, 26, 38, 0, 41, 159)
    assert turn.usage.total_tokens == 264


def test_recorded_completion_is_written_without_loss() -> None:
    """Each key of a recorded message and its usage is in the entry after a round trip."""
    entry = entry_from_turn(turn_from_entry(entry_from_turn(parsed(recorded()))))
    message = recorded()["choices"][0]["message"]
    audio = entry.pop("audio")
    assert {key: audio[key] for key in message["audio"]} == message.pop("audio")
    assert {key: entry[key] for key in message} == message
    assert entry["usage"] == RECORDED_USAGE


def test_unknown_keys_of_a_completion_are_kept_in_place() -> None:
    """Unknown keys of a message, its audio, its tool calls and its usage stay in their objects."""
    message = {
        "content": "Hm.",
        "reasoning": {"deep": [1, 2]},
        "audio": {"id": "audio_x", "voice_style": "warm", "transcript": None},
        "tool_calls": [tool_call("a"), {**tool_call("b"), "index": 7}],
    }
    entry = entry_from_turn(parsed({**answer(**message), "usage": {"cost": 0.1}}))
    assert entry["reasoning"] == {"deep": [1, 2]}
    assert entry["audio"]["voice_style"] == "warm"
    assert "index" not in entry["tool_calls"][0]
    assert entry["tool_calls"][1]["index"] == 7
    assert entry["usage"]["cost"] == 0.1


def test_object_of_the_sdk_and_its_dict_give_the_same_turn() -> None:
    """A completion can be passed as the SDK's object or as its dict."""
    assert parsed(ChatCompletion.model_validate(recorded())) == parsed(recorded())


def test_object_of_the_sdk_may_lack_required_fields() -> None:
    """Reading an SDK's object without fields that the SDK requires emits no warning."""
    holed = spoken(expires_at=None)
    del holed["choices"][0]["message"]["audio"]["transcript"]
    turn = parsed(ChatCompletion.construct(**holed))
    assert turn.audio is not None
    assert turn.audio.transcript is None


@pytest.mark.parametrize(
    ("audio", "field", "value"),
    [
        ({"id": None}, "id", None),
        ({"id": 5}, "id", None),
        ({"expires_at": None}, "expires_at", None),
        ({"expires_at": "soon"}, "expires_at", None),
        ({"expires_at": True}, "expires_at", None),
        ({"expires_at": math.nan}, "expires_at", None),
        ({"transcript": ""}, "transcript", ""),
        ({"transcript": None}, "transcript", None),
        ({"data": None}, "data", None),
        ({"data": ""}, "data", None),
        ({"data": "*not base64*"}, "data", None),
    ],
)
def test_invalid_field_of_audio_counts_as_not_given(
    audio: dict[str, Any], field: str, value: object
) -> None:
    """A field of `audio` that another server leaves out or sends wrong is None."""
    completion = spoken()
    completion["choices"][0]["message"]["audio"] |= audio
    turn = parsed(completion)
    assert getattr(turn.audio, field) == value


def test_invalid_field_of_audio_is_kept_as_it_came() -> None:
    """Audio data that is not base64, and an expiry that is not a number, stay in the entry."""
    completion = spoken()
    completion["choices"][0]["message"]["audio"] |= {"data": "*not base64*", "expires_at": "soon"}
    audio = entry_from_turn(parsed(completion))["audio"]
    assert (audio["data"], audio["expires_at"]) == ("*not base64*", "soon")


def test_audio_may_come_in_a_second_choice() -> None:
    """Words in one choice and audio in another make one turn."""
    completion = answer(content="Good morning.")
    completion["choices"].append(
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": None,
                "audio": {"id": "audio-1", "data": "AAAA"},
            },
        }
    )
    turn = parsed(completion)
    assert turn.content == "Good morning."
    assert turn.audio is not None
    assert turn.audio.id == "audio-1"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"choices": []},
        {"choices": None},
        {"choices": [{}]},
        {"choices": ["text"]},
        {"error": {"message": "bad gateway"}},
        "<html>bad gateway</html>",
        None,
        7,
        [],
        {"choices": [*spoken()["choices"], *spoken()["choices"]]},
        {"choices": [*answer(content="a")["choices"], *answer(content="b")["choices"]]},
        answer(tool_calls=[{"id": "a", "type": "function"}]),
    ],
    ids=repr,
)
def test_value_without_one_answer_is_refused(wrong: Any) -> None:
    """A completion without an answer, or with several, leaves the conversation unchanged."""
    chat = Conversation()
    chat.add_user("Hello")
    before = chat.turns
    with pytest.raises(InvalidCompletion):
        chat.add_completion(wrong)
    assert chat.turns == before


def test_format_of_an_answer_is_that_of_its_bytes_or_else_of_the_request() -> None:
    """WAV is recognised although pcm16 was asked for; raw PCM has the format of the request."""
    turn = parsed(spoken(), Asked(None, "pcm16", speaks=True))
    assert turn.audio is not None
    assert turn.audio.format == "wav"
    raw = spoken()
    raw["choices"][0]["message"]["audio"]["data"] = base64.b64encode(SOUND[44:]).decode()
    turn = parsed(raw, Asked(None, "pcm16", speaks=True))
    assert turn.audio is not None
    assert turn.audio.format == "pcm16"


def test_text_for_sound_that_was_asked_for_is_voice_dropped() -> None:
    """`voice_dropped` is True if sound was asked for and only text came, without tool calls."""
    assert parsed(answer(content="text")).voice_dropped
    assert not parsed(answer(content="text"), Asked(None, None, speaks=False)).voice_dropped
    assert not parsed(spoken()).voice_dropped
    assert not parsed(answer(content="Hm.", tool_calls=[tool_call("a")])).voice_dropped


def test_text_parts_and_custom_tool_calls_are_read() -> None:
    """Content may be a list of text parts; the input of a custom tool becomes its arguments."""
    custom = {"id": "c", "type": "custom", "custom": {"name": "sql", "input": "SELECT 1"}}
    turn = parsed(
        answer(
            content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            tool_calls=[custom],
        )
    )
    assert turn.content == "ab"
    assert turn.tool_calls[0].arguments == "SELECT 1"
    assert entry_from_turn(turn)["tool_calls"] == [custom]


def test_lone_surrogates_in_a_completion_are_replaced() -> None:
    """Text and unknown keys that UTF-8 cannot hold are replaced by U+FFFD."""
    turn = parsed(answer(content="a\ud800b", note="\udfff", deep={"k": 10**30}))
    assert turn.content == "a\ufffdb"
    assert entry_from_turn(turn)["note"] == "\ufffd"
    assert entry_from_turn(turn)["deep"] == {"k": str(10**30)}


@pytest.mark.parametrize(
    ("created", "skew"),
    [
        (START + 90, 90),
        (START - 86_400 * 400, -86_400 * 400),
        (5, 5 - START),
        (None, None),
        (0, None),
        (START * 1000, None),
        ("1762000000", None),
        (True, None),
        (math.nan, None),
    ],
)
def test_skew_is_created_less_the_time_of_the_request(created: object, skew: float | None) -> None:
    """`skew_of` accepts any time in seconds, however wrong, and ignores other values."""
    assert skew_of({"created": created}, Asked(START, None, speaks=True)) == skew


def test_completion_without_a_request_gives_no_skew() -> None:
    """`skew_of` is None if it is not known when the request was sent."""
    assert skew_of(recorded(), Asked(None, None, speaks=True)) is None


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("content", "a", "b"),
        ("audio", {"id": "audio_1"}, {"id": "audio_2"}),
        ("tool_calls", [tool_call("a")], [tool_call("b")]),
        ("refusal", "no", "never"),
    ],
)
def test_completion_with_two_answers_is_refused(key: str, one: Any, other: Any) -> None:
    """Two choices with content, audio, tool calls or a refusal each are an error."""
    choices = [answer(**{key: value})["choices"][0] for value in (one, other)]
    with pytest.raises(InvalidCompletion, match="one answer, got 2"):
        parsed({"choices": choices})
    assert parsed({"choices": [choices[0], answer()["choices"][0]]})


def test_missing_and_repeated_ids_of_tool_calls_are_replaced() -> None:
    """Each tool call gets an id of its own, so that it can be answered."""
    calls = [tool_call("a"), tool_call("a"), {"function": {"name": "f"}}, tool_call("call_2")]
    turn = parsed(answer(content=None, tool_calls=calls))
    assert [call.id for call in turn.tool_calls] == ["a", "a_1", "call_2", "call_2_3"]
    assert [call.type for call in turn.tool_calls] == ["function"] * 4
    assert turn_from_entry(entry_from_turn(turn)) == turn


@pytest.mark.parametrize("levels", [60, 300, 3000])
def test_value_that_is_nested_too_deep_is_kept_as_text(levels: int) -> None:
    """An unknown key with deep nesting can always be written as JSON."""
    deep: Any = {}
    for _ in range(levels):
        deep = {"inner": deep}
    entry = entry_from_turn(parsed(answer(content="x", meta=deep)))
    orjson.dumps(entry)
    assert "inner" in entry["meta"]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "yesterday", 5, None, "2025-01-01"])
def test_invalid_time_of_an_entry_counts_as_not_given(at: Any) -> None:
    """`at` is None for values that are not a time with a zone."""
    assert turn_from_entry({"role": "user", "content": "x", "at": at}).at is None


@pytest.mark.parametrize("created", [10**400, -1, "x"])
def test_completion_with_an_impossible_created_is_kept(created: Any) -> None:
    """A completion is added although its `created` is not a time."""
    chat = Conversation()
    chat.request()
    assert chat.add_completion({**answer(content="x"), "created": created}).text == "x"


def test_duration_that_only_a_decoder_knows_is_derived_from_tokens() -> None:
    """The duration of Opus is its audio tokens divided by 20."""
    opus = base64.b64encode(b"OggS" + bytes(24) + b"OpusHead").decode()
    completion = spoken()
    completion["choices"][0]["message"]["audio"]["data"] = opus
    completion["usage"] = {"completion_tokens_details": {"audio_tokens": 50}}
    turn = parsed(completion)
    assert turn.audio is not None
    assert (turn.audio.format, turn.audio.duration) == ("opus", 2.5)


@pytest.mark.parametrize(
    "place",
    [
        {"usage": {"input_tokens": 9, "output_tokens": 3, "total_tokens": 12}},
        {"usage": None, "x_groq": {"usage": {"prompt_tokens": 9, "completion_tokens": 3}}},
    ],
)
def test_usage_of_other_servers_is_counted(place: dict[str, Any]) -> None:
    """It may lie elsewhere, and have the names of the Responses API."""
    turn = parsed({**answer(content="Hi"), **place})
    assert turn.usage == Usage(9, 3)
    details = {"input_tokens": 9, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 4}}
    in_choice = answer(content="Hi")
    in_choice["choices"][0]["usage"] = details
    assert parsed(in_choice).usage == Usage(9, 3, cached_tokens=4)


def test_choice_with_an_error_is_no_answer() -> None:
    """An error in the place of words is raised; words before it are an interrupted answer."""
    failed = answer(content="")
    failed["choices"][0] |= {"finish_reason": "error", "error": {"message": "no provider"}}
    with pytest.raises(InvalidCompletion, match="no provider") as caught:
        parsed(failed)
    assert caught.value.body == {"message": "no provider"}
    failed["choices"][0]["message"]["content"] = "Well"
    turn = parsed(failed)
    assert (turn.text, turn.interrupted) == ("Well", True)
