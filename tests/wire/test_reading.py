"""Entries of saved conversations, read into turns and written again."""

from __future__ import annotations

from typing import Any

import attrs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantTurn, UserTurn
from conversation._values.data import Data, Stored
from conversation._values.media import kept_data
from conversation._values.turns import Turn
from conversation._wire.completions import Asked, turn_from_completion
from conversation._wire.reading import turn_from_entry
from conversation._wire.strict_json import json_text
from tests.samples import RECORDED_USAGE, answer, entry_from_turn, tool_call
from tests.strategies import turns


@attrs.frozen
class Elsewhere(Stored):
    """Data that is kept elsewhere."""

    name: str

    def read(self) -> bytes:
        """Never needed here."""
        raise AssertionError


def entry_of_an_answer(**changes: Any) -> dict[str, Any]:
    """An entry in which every field is given, and unknown keys in each object."""
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
def test_a_turn_that_was_read_equals_one_that_was_constructed(turn: Turn) -> None:
    """Every field passes the class's own converters and validators unchanged."""
    read = turn_from_entry(entry_from_turn(turn))
    fields = {field.name: getattr(read, field.name) for field in attrs.fields(type(read))}
    assert type(read)(**fields) == read == turn


def test_an_entry_is_not_changed_by_reading_it() -> None:
    """Nor are the objects inside of it."""
    entry = entry_of_an_answer()
    before = orjson.dumps(entry)
    turn_from_entry(entry, fetch=Elsewhere)
    assert orjson.dumps(entry) == before


def test_an_answer_with_unknown_keys_is_written_as_it_was_read() -> None:
    """Each of them stands in its own object again."""
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
def test_a_part_with_unknown_keys_is_written_as_it_was_read(part: dict[str, Any]) -> None:
    """Beside another part; a single text is written as a string."""
    entry = {"role": "user", "content": [part, {"type": "text", "text": "and"}]}
    assert entry_from_turn(turn_from_entry(entry, fetch=Elsewhere)) == entry


def test_an_entry_that_is_known_whole_has_nothing_extra() -> None:
    """Fields that are written as null count as known when they are null."""
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
def test_a_field_that_cannot_be_read_is_kept(changes: dict[str, Any]) -> None:
    """It counts as not given, and is written as it was."""
    entry = entry_from_turn(turn_from_entry(entry_of_an_answer(**changes), fetch=Elsewhere))
    for key, value in changes.items():
        assert entry[key] == value or entry[key].items() >= value.items()


def named(turn: Turn) -> list[Data]:
    """The data that the turn keeps elsewhere, and whether its extra names any."""
    assert "wav" not in turn.extra
    return [data for data in kept_data(turn) if data.name]


def test_a_file_name_from_elsewhere_names_nothing_here() -> None:
    """Without a session to fetch from, a message cannot name a file of some other turn."""
    body = {"file": "0001-7f3a.wav", "format": "mp3"}
    parts = [{"type": "input_audio", "input_audio": body}, {"type": "text", "text": "Hi"}]
    assert named(turn_from_entry({"role": "user", "content": parts})) == []
    spoken = {"id": "audio_1", "file": "0001-7f3a.wav"}
    assert named(turn_from_entry({"role": "assistant", "audio": spoken})) == []
    completion = answer(audio=spoken)
    assert named(turn_from_completion(completion, Asked(None, None, speaks=True))) == []


def test_the_words_of_a_turn_that_was_read_are_strict_utf_8() -> None:
    """Lone surrogates are replaced in every text that is not validated again."""
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


@given(json_values)
def test_json_text_of_strict_json_is_the_same_json(value: Any) -> None:
    """Nothing is replaced where nothing has to be."""
    assert orjson.loads(json_text(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": float("nan"), "a": (1, 2**64)}, '{"a":[1,"18446744073709551616"],"b":"NaN"}'),
        ({1: "a\ud800"}, '{"1":"a\ufffd"}'),
        ({"at": b"x"}, '{"at":"\\"b\'x\'\\""}'),
    ],
)  # fmt: skip
def test_json_text_holds_what_strict_json_cannot_as_text(value: Any, text: str) -> None:
    """Numbers, keys, bytes and surrogates; keys are sorted."""
    assert json_text(value) == text
