"""Construction without converters and validators."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest
from hypothesis import given

from conversation import AssistantTurn, UserTurn
from conversation._values.turns import Turn
from conversation._values.unchecked import unchecked
from tests.strategies import turns


@given(turns)
def test_unchecked_value_equals_the_checked_one(turn: Turn) -> None:
    """Equality, hash, repr, copies and pickles are those of the class."""
    fields = {field.name: getattr(turn, field.name) for field in attrs.fields(type(turn))}
    made = unchecked(type(turn))(**fields)
    assert type(made) is type(turn)
    assert made == turn
    assert hash(made) == hash(turn)
    assert repr(made) == repr(turn)
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == turn


def test_unchecked_value_is_frozen() -> None:
    """Its fields cannot be set, and all of them are required."""
    turn = unchecked(UserTurn)(content=("Hello",), name=None, message_id=None, at=None, extra="{}")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        turn.content = ()  # type: ignore[misc]  # the mistake under test
    with pytest.raises(TypeError):
        unchecked(AssistantTurn)(content="Hello")
