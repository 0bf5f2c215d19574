"""Properties of every history, found by Hypothesis."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from conversation import Conversation, FileInput, Form, ImageInput, ToolTurn
from conversation._rendering.explanation import explained
from conversation._rendering.forms import Moment
from conversation._rendering.messages import arranged, messages
from conversation._rendering.preparing import prepare
from conversation._rendering.unseen import unseen
from conversation._values.turns import Turn
from conversation.testing import _contract
from tests.conftest import Clock
from tests.samples import START
from tests.strategies import histories, user_turns, words

moments = st.floats(START - 9000, START + 9000).map(lambda now: Moment(now, 30.0))


@given(histories, st.none() | words, moments)
def test_rendering_is_pure(history: list[Turn], instructions: str | None, at: Moment) -> None:
    """The same history renders the same, is not changed, and is explained by the same messages."""
    prepared = [prepare(turn) for turn in history]
    before = copy.deepcopy(prepared)
    first = messages(arranged(prepared, instructions), at)
    assert messages(arranged(prepared, instructions), at) == first
    assert explained(arranged(prepared, instructions), at).messages == first
    assert prepared == before


@given(histories, moments, st.floats(0, 9000))
def test_answer_sent_as_transcript_is_never_sent_as_voice_later(
    history: list[Turn], at: Moment, later: float
) -> None:
    """Time only makes voices expire."""
    prepared = [prepare(turn) for turn in history]
    then = explained(arranged(prepared, None), at).items
    afterwards = explained(arranged(prepared, None), Moment(at.now + later, at.margin)).items
    for one, other in zip(then, afterwards, strict=True):
        assert other.form in (one.form, prepare(one.turn).form if one.turn else one.form)
        assert not (other.form is Form.VOICE and one.form is not Form.VOICE)


@given(histories, user_turns, st.none() | words, moments)
def test_messages_of_every_history_are_accepted_by_the_stand_in(
    history: list[Turn], last: Turn, instructions: str | None, at: Moment
) -> None:
    """Open tool calls, stray results and turns without words make a valid request."""
    kinds = (ImageInput, FileInput)  # which voice models do not take
    prepared = [unseen(prepare(turn), kinds) for turn in [*history, last]]
    body: dict[str, Any] = {
        "model": "gpt-audio-1.5",
        "modalities": ["text", "audio"],
        "audio": {"voice": "alloy", "format": "wav"},
        "messages": messages(arranged(prepared, instructions), at),
    }
    _contract.check(body, lambda _: True)


@given(histories, moments)
def test_every_turn_is_in_the_rendering_once(history: list[Turn], at: Moment) -> None:
    """A turn is sent or left out, in order; results follow their tool calls."""
    items = explained(arranged([prepare(turn) for turn in history], None), at).items
    rendered = [item.turn for item in items if item.turn is not None]
    assert len(rendered) == len(history)
    assert {id(turn) for turn in rendered} == {id(turn) for turn in history}
    in_order = [turn for turn in rendered if not isinstance(turn, ToolTurn)]
    assert in_order == [turn for turn in history if not isinstance(turn, ToolTurn)]
    assert all(isinstance(item.turn, ToolTurn) for item in items if item.form is Form.LEFT_OUT)


@given(histories, st.none() | words)
def test_loaded_conversation_equals_the_saved_one(
    history: list[Turn], instructions: str | None
) -> None:
    """Turns and the next request are the same after a round trip through a file."""
    chat = Conversation(clock=Clock(), instructions=instructions)
    for turn in history:
        if not isinstance(turn, ToolTurn):
            chat.add(turn)
    with tempfile.TemporaryDirectory() as folder:
        again = Conversation.load(chat.save(Path(folder) / "chat.json"), clock=Clock())
    assert again.turns == chat.turns
    assert again.request() == chat.request()
