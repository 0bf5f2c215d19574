"""Tool calls that wait for a result, and the cost of finding them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AssistantTurn, Conversation, ToolCall, ToolTurn, UserTurn
from conversation._history.calls import OpenCalls
from conversation._values.turns import Turn, open_calls
from conversation.errors import InvalidTurn, UnknownToolCall
from tests.samples import answer, tool_call

IDS = "abc"

calling = st.lists(st.sampled_from(IDS), max_size=3, unique=True).map(
    lambda ids: AssistantTurn(tool_calls=tuple(ToolCall(i, "f", "{}") for i in ids))
)
results = st.sampled_from(IDS).map(lambda call_id: ToolTurn(call_id, "done"))
histories = st.lists(calling | results | st.just(UserTurn("Hi")), max_size=12)


@given(histories, histories, st.lists(st.sampled_from(IDS), max_size=4))
def test_open_calls_are_those_of_all_turns(
    before: list[Turn], after: list[Turn], asked: list[str]
) -> None:
    """Whatever was asked before, and however many turns came since."""
    turns = list(before)
    found = OpenCalls(len(turns))
    for call_id in asked:
        assert found.has(call_id, turns) is (call_id in open_calls(turns))
    turns += after
    assert [i for i in IDS if found.has(i, turns)] == [i for i in IDS if i in open_calls(turns)]


class Counted(Sequence[Turn]):
    """Turns that count how often one of them is looked at."""

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.looks = 0

    def __len__(self) -> int:
        return len(self.turns)

    def __getitem__(self, position: Any) -> Any:
        self.looks += 1
        return self.turns[position]


@pytest.mark.parametrize("one_turn", [True, False])
def test_results_of_many_calls_look_at_each_turn_once(one_turn: bool) -> None:
    """The cost of adding all results grows with their number, not with its square."""
    turns = Counted()
    ids = [str(number) if one_turn else "same" for number in range(500)]
    calls = [ToolCall(call_id, "f", "{}") for call_id in ids]
    if one_turn:
        turns.turns.append(AssistantTurn(tool_calls=tuple(calls)))
    else:
        turns.turns += [AssistantTurn(tool_calls=(call,)) for call in calls]
    found = OpenCalls(len(turns))
    for call_id in ids:
        assert found.has(call_id, turns)
        turns.turns.append(ToolTurn(call_id, "done"))
    assert not any(found.has(call_id, turns) for call_id in ids)
    assert turns.looks <= len(turns)


def test_no_more_of_a_long_history_is_looked_at_than_needed() -> None:
    """The call that a result answers is among the newest turns."""
    turns = Counted()
    turns.turns += [UserTurn("Hi")] * 500 + [AssistantTurn(tool_calls=(ToolCall("a", "f", "{}"),))]
    assert OpenCalls(len(turns)).has("a", turns)
    assert turns.looks == 1


def test_calls_of_one_id_get_short_ids() -> None:
    """However often a server repeats an id, and whatever else it calls by the name that is made."""
    given_ids = ["a", "a_1", "a_2", "a_2_", *["a"] * 3000]
    turn = Conversation().add_completion(answer(tool_calls=[tool_call(i) for i in given_ids]))
    ids = [call.id for call in turn.tool_calls]
    assert ids[:4] == given_ids[:4]
    assert len(set(ids)) == len(given_ids)
    assert max(map(len, ids)) < 9


def test_errors_name_a_few_of_many_calls() -> None:
    """Thousands of calls make no error of thousands of lines."""
    with pytest.raises(InvalidTurn, match="with different ids, got") as refused:
        AssistantTurn(tool_calls=(ToolCall("same", "f", "{}"),) * 5000)
    chat = Conversation()
    calls = tuple(ToolCall(f"call_{number}", "f", "{}") for number in range(5000))
    chat.extend([UserTurn(("Hi",)), AssistantTurn(tool_calls=calls)])
    with pytest.raises(UnknownToolCall, match="'call_9', …") as unknown:
        chat.add_tool_result("other", "done")
    assert len(unknown.value.open_calls) == 5000
    assert max(len(str(error.value)) for error in (refused, unknown)) < 400


def test_open_calls_are_found_after_undo() -> None:
    """Results that were taken back wait again; calls that were taken back do not."""
    chat = Conversation()
    chat.add_user("Hi")
    chat.add_completion(answer(tool_calls=[tool_call("a"), tool_call("b")]))
    chat.add_user("Well?")
    chat.add_tool_result("a", "done")
    chat.undo()
    chat.add_tool_result("a", "done")
    chat.add_tool_result("b", "done")
    with pytest.raises(UnknownToolCall):
        chat.add_tool_result("b", "done")
    chat.undo()
    with pytest.raises(UnknownToolCall):
        chat.add_tool_result("a", "done")
