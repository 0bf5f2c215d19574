"""Entries of saved conversations: read into turns, and written without loss."""

from __future__ import annotations

from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantTurn, UserTurn
from conversation._values.data import Stored
from conversation._values.media import kept_data
from conversation._values.turns import Turn
from conversation._wire.completions import Asked, turn_from_completion
from conversation._wire.reading import turn_from_entry
from conversation._wire.strict_json import json_text
from tests.samples import RECORDED_USAGE, answer, entry_from_turn, tool_call
from tests.strategies import turns


@attrs.frozen
class Elsewhere(Stored):
    """Data stored elsewhere."""

    name: str

    def read(self) -> bytes:
        """Fail: reading a turn reads no data."""
        raise AssertionError


def entry_of_an_answer(**changes: Any) -> dict[str, Any]:
    """Return an entry with every field, and unknown keys in each object."""
    return {
        "role": "assistant",
        "content": None,
        "audio": {"id": "audio_1", "expires_at": 9, "transcript": "Hi", "file": "a.wav", "x": 1},
        "refusal": None,
        "tool_calls": [tool_call("a"), {**tool_call("b"), "x": 2}],
        "model": "m",
        "finish_reason": "stop",
        "usage": {**RECORDED_USAGE, "x": 3},
        "at": "2026-11-22T10:15:00Z",
        "x": {"deep": [4]},
    } | changes


@given(turns)
def test_read_turn_equals_the_written_one(turn: Turn) -> None:
    """Each field of a turn read from its entry passes the class's own converters and validators."""
    read = turn_from_entry(entry_from_turn(turn))
    fields = {field.name: getattr(read, field.name) for field in attrs.fields(type(read))}
    assert type(read)(**fields) == read == turn


def test_reading_does_not_change_the_entry() -> None:
    """The entry and the objects in it are copied before fields are taken out."""
    entry = entry_of_an_answer()
    before = orjson.dumps(entry)
    turn_from_entry(entry, fetch=Elsewhere)
    assert orjson.dumps(entry) == before


def test_unknown_keys_of_an_answer_are_written_in_place() -> None:
    """Unknown keys of a turn, its audio, its usage and its tool calls stay in their objects."""
    entry = entry_of_an_answer()
    assert entry_from_turn(turn_from_entry(entry, fetch=Elsewhere)) == entry


@pytest.mark.parametrize(
    "part",
    [
        {"type": "text", "text": "Look", "x": 1},
        {"type": "input_audio", "input_audio": {"file": "a.wav", "format": "wav", "x": 1}},
        {"type": "image_url", "image_url": {"file": "a.png", "detail": "low", "x": 1}, "y": 2},
        {"type": "file", "file": {"file": "a.pdf", "filename": "report.pdf", "x": 1}},
        {"type": "file", "file": {"file_id": "file-1", "x": None}},
    ],
    ids=lambda part: part["type"],
)
def test_unknown_keys_of_a_part_are_written_in_place(part: dict[str, Any]) -> None:
    """Unknown keys of each kind of content part, beside another part, stay in their objects."""
    entry = {"role": "user", "content": [part, {"type": "text", "text": "and"}]}
    assert entry_from_turn(turn_from_entry(entry, fetch=Elsewhere)) == entry


def test_entry_without_unknown_keys_gives_no_extra() -> None:
    """Null counts as known in fields that are written as null."""
    audio = {"id": None, "expires_at": None, "transcript": None, "format": "wav", "duration": 1.5}
    entry = {"role": "assistant", "content": None, "audio": audio, "finish_reason": "stop"}
    assert turn_from_entry(entry).extra == "{}"


@pytest.mark.parametrize(
    "changes",
    [
        {"usage": {"prompt_tokens": 1, "prompt_tokens_details": {"text_tokens": 0, "x": 1}}},
        {"usage": 5},
        {"tool_calls": []},
        {"audio": "audio_1"},
        {"audio": {"id": 5, "expires_at": 0, "transcript": [], "lost": False}},
        {"refusal": {}, "model": 5, "finish_reason": False, "at": "yesterday"},
        {"interrupted": "yes", "voice_dropped": None},
    ],
    ids=repr,
)
def test_unreadable_field_of_an_entry_is_written_as_it_was(changes: dict[str, Any]) -> None:
    """It counts as not given."""
    entry = entry_from_turn(turn_from_entry(entry_of_an_answer(**changes), fetch=Elsewhere))
    for key, value in changes.items():
        assert entry[key] == value or entry[key].items() >= value.items()


def stored_names(turn: Turn) -> list[str]:
    """Return the names to which the turn refers, in its data or its extra."""
    assert "wav" not in turn.extra
    return [data.name for data in kept_data(turn) if data.name]


def test_file_name_in_a_message_is_dropped() -> None:
    """Without a session to fetch from, a message cannot refer to the file of another turn."""
    body = {"file": "0001-7f3a.wav", "format": "mp3"}
    parts = [{"type": "input_audio", "input_audio": body}, {"type": "text", "text": "Hi"}]
    assert stored_names(turn_from_entry({"role": "user", "content": parts})) == []
    spoken = {"id": "audio_1", "file": "0001-7f3a.wav"}
    assert stored_names(turn_from_entry({"role": "assistant", "audio": spoken})) == []
    completion = answer(audio=spoken)
    assert stored_names(turn_from_completion(completion, Asked(None, None, speaks=True))) == []


def test_lone_surrogates_in_an_entry_are_replaced() -> None:
    """Texts of a turn are strict UTF-8, also where its class does not validate them again."""
    bad, good = "a\ud800b", "a\ufffdb"
    entry = entry_of_an_answer(
        content=bad, refusal=bad, model=bad, finish_reason=bad, audio={"id": bad, "transcript": bad}
    )
    turn = turn_from_entry(entry)
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    texts = (turn.content, turn.refusal, turn.model, turn.finish_reason)
    assert {*texts, turn.audio.id, turn.audio.transcript} == {good}
    assert turn_from_entry({"role": "user", "content": bad}) == UserTurn((good,))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False,
    allow_infinity=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from("vwxyz"), json_values), turns)
def test_unknown_keys_of_any_turn_are_written_again(unknown: dict[str, Any], turn: Turn) -> None:
    """Keys that a later version or another server adds survive a round trip."""
    entry = {**unknown, **entry_from_turn(turn)}
    assert entry_from_turn(turn_from_entry(entry)) == entry


@given(json_values)
def test_json_text_does_not_change_strict_json(value: Any) -> None:
    """A value that strict JSON can hold is the same when it is parsed."""
    assert orjson.loads(json_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": float("nan"), "a": (1, 2**64)}, '{"a":[1,"18446744073709551616"],"b":"NaN"}'),
        ({1: "a\ud800"}, '{"1":"a\ufffd"}'),
        ({"at": b"x"}, '{"at":"\\"b\'x\'\\""}'),
    ],
)  # fmt: skip
def test_json_text_converts_values_that_strict_json_cannot_hold(value: Any, text: str) -> None:
    """Numbers, keys, bytes and surrogates become text; keys are sorted."""
    assert json_text(value) == text
