"""What holds for every history."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conversation import Conversation, Form, ToolTurn
from conversation._rendering.explanation import explained
from conversation._rendering.forms import Moment, prepare
from conversation._rendering.messages import arranged, messages
from conversation._values.turns import Turn
from conversation._wire.reading import turn_from_entry
from conversation.testing import _contract
from tests.conftest import START, Clock
from tests.samples import entry_from_turn
from tests.strategies import histories, turns, user_turns, words

moments = st.floats(START - 9000, START + 9000).map(lambda now: Moment(now, 30.0))


@given(histories, st.none() | words, moments)
def test_rendering_is_pure(history: list[Turn], instructions: str | None, at: Moment) -> None:
    """The same in, the same out, and nothing changed; both ways of rendering agree."""
    prepared = [prepare(turn) for turn in history]
    before = copy.deepcopy(prepared)
    first = messages(arranged(prepared, instructions), at)
    assert messages(arranged(prepared, instructions), at) == first
    assert explained(arranged(prepared, instructions), at).messages == first
    assert prepared == before


@given(histories, moments, st.floats(0, 9000))
def test_what_went_as_transcript_never_goes_as_voice_later(
    history: list[Turn], at: Moment, later: float
) -> None:
    """Time only takes voices away."""
    prepared = [prepare(turn) for turn in history]
    then = explained(arranged(prepared, None), at).items
    afterwards = explained(arranged(prepared, None), Moment(at.now + later, at.margin)).items
    for one, other in zip(then, afterwards, strict=True):
        assert other.form in (one.form, prepare(one.turn).form if one.turn else one.form)
        assert not (other.form is Form.VOICE and one.form is not Form.VOICE)


@given(histories, user_turns, st.none() | words, moments)
def test_every_rendered_list_is_one_the_stand_in_accepts(
    history: list[Turn], last: Turn, instructions: str | None, at: Moment
) -> None:
    """Whatever happened: dangling calls, stray answers, wordless turns."""
    prepared = [prepare(turn) for turn in [*history, last]]
    body: dict[str, Any] = {
        "model": "gpt-audio-1.5",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "messages": messages(arranged(prepared, instructions), at),
    }
    _contract.check(body, lambda _: True)


@given(histories, moments)
def test_every_turn_is_sent_or_said_to_be_left_out(history: list[Turn], at: Moment) -> None:
    """Nothing disappears: each turn stands in the rendering once, answers in call order."""
    items = explained(arranged([prepare(turn) for turn in history], None), at).items
    rendered = [item.turn for item in items if item.turn is not None]
    assert len(rendered) == len(history)
    assert {id(turn) for turn in rendered} == {id(turn) for turn in history}
    in_order = [turn for turn in rendered if not isinstance(turn, ToolTurn)]
    assert in_order == [turn for turn in history if not isinstance(turn, ToolTurn)]
    assert all(isinstance(item.turn, ToolTurn) for item in items if item.form is Form.LEFT_OUT)


@given(turns)
def test_a_turn_survives_its_entry(turn: Turn) -> None:
    """Value to entry to value is the same value."""
    assert turn_from_entry(entry_from_turn(turn)) == turn


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from("vwxyz"), json_values), turns)
def test_foreign_keys_survive(foreign: dict[str, Any], turn: Turn) -> None:
    """Whatever a later version or another server adds comes out again."""
    entry = {**foreign, **entry_from_turn(turn)}
    assert entry_from_turn(turn_from_entry(entry)) == entry


@given(histories, st.none() | words)
def test_load_gives_what_save_was_given(history: list[Turn], instructions: str | None) -> None:
    """Through a real file."""
    chat = Conversation(clock=Clock(), instructions=instructions)
    for turn in history:
        if not isinstance(turn, ToolTurn):
            chat.add(turn)
    with tempfile.TemporaryDirectory() as folder:
        again = Conversation.load(chat.save(Path(folder) / "chat.json"), clock=Clock())
    assert again.turns == chat.turns
    assert again.request() == chat.request()
