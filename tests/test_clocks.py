"""Clocks that tell no time: before a request they are refused, after it the answer is kept."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest

from conversation import AssistantTurn, AsyncConversation, Conversation
from conversation.errors import InvalidSetting
from conversation.testing import StandIn
from tests.samples import START, spoken


def _raise() -> float:
    raise LookupError("no clock here")


BAD: dict[str, Callable[[], Any]] = {
    "NaN": lambda: math.nan,
    "infinity": lambda: math.inf,
    "milliseconds": lambda: START * 1000,
    "nanoseconds": lambda: int(START * 10**9),
    "nothing": lambda: None,
    "text": lambda: "now",
    "an error": _raise,
}

TIME = datetime.fromtimestamp(START, UTC)


@pytest.fixture(params=BAD)
def bad(request: pytest.FixtureRequest) -> Callable[[], Any]:
    """A clock that tells no time."""
    return BAD[request.param]


class Failing:
    """A clock that tells no time any more once `is_bad`."""

    def __init__(self, bad: Callable[[], Any], is_bad: Callable[[], object]) -> None:
        self.bad = bad
        self.is_bad = is_bad

    def __call__(self) -> Any:
        return self.bad() if self.is_bad() else START


def test_a_clock_that_tells_no_time_is_refused(bad: Callable[[], Any]) -> None:
    """The error names the rule and a remedy."""
    with pytest.raises(InvalidSetting, match="clock must return Unix time in seconds, as time"):
        Conversation(clock=bad)


def test_nothing_is_sent_without_a_time(bad: Callable[[], Any], server: StandIn) -> None:
    """A clock that fails before the request changes nothing, and no question is added."""
    clock = Failing(bad, lambda: False)
    chat = Conversation(client=server.client(), clock=clock)
    chat.add_user("Hello")
    clock.is_bad = lambda: True
    for ask in (lambda: chat.say("Hi"), chat.reply, chat.request, lambda: chat.add_user("Hi")):
        with pytest.raises(InvalidSetting, match="clock must"):
            ask()
    with pytest.raises(InvalidSetting, match="clock must"), chat.stream("Hi"):
        pass
    assert server.requests == []
    assert [turn.text for turn in chat.turns] == ["Hello"]


@pytest.mark.parametrize("streams", [True, False])
def test_a_paid_answer_is_kept_without_a_time(
    streams: bool, bad: Callable[[], Any], server: StandIn
) -> None:
    """A clock that fails after the request: the answer has the last time that is known."""
    clock = Failing(bad, lambda: server.requests)
    with Conversation.open("x", client=server.client(), clock=clock) as chat:
        if streams:
            with chat.stream("Hello") as events:
                list(events)
        else:
            chat.say("Hello")
        turns = chat.turns
    opened = Conversation.open("x", read_only=True)
    assert opened.turns == turns
    assert [(turn.role, turn.at) for turn in turns] == [("user", TIME), ("assistant", TIME)]


def test_results_of_tools_are_kept_without_a_time(bad: Callable[[], Any], server: StandIn) -> None:
    """Results of tools are kept if the clock fails; the next request is not sent."""

    def look_up() -> str:
        return "found"

    clock = Failing(bad, lambda: server.requests)
    chat = Conversation(client=server.client(), clock=clock, tools=[look_up])
    server.will_answer(tool_calls=[("look_up", {})])
    with pytest.raises(InvalidSetting, match="clock must"):
        chat.say("Look")
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool"]
    assert {turn.at for turn in chat.turns} == {TIME}
    clock.is_bad = lambda: False
    assert chat.reply().text


def test_an_answer_of_ones_own_request_is_kept_without_any_time(bad: Callable[[], Any]) -> None:
    """A turn has no time if none was ever known."""
    clock = Failing(bad, lambda: False)
    chat = Conversation(clock=clock)
    clock.is_bad = lambda: True
    answer = chat.add_completion(spoken("Hi"))
    assert (answer.text, answer.at) == ("Hi", None)
    assert isinstance(chat.add(AssistantTurn(content="Hello")), AssistantTurn)


def test_the_twin_keeps_a_paid_answer(bad: Callable[[], Any], server: StandIn) -> None:
    """Same as the synchronous one."""
    clock = Failing(bad, lambda: server.requests)

    async def main() -> None:
        client = server.async_client()
        async with await AsyncConversation.open("x", client=client, clock=clock) as chat:
            await chat.say("Hello")

    asyncio.run(main())
    assert [turn.at for turn in Conversation.open("x", read_only=True).turns] == [TIME, TIME]


def test_a_time_limit_within_the_clock_stays_one() -> None:
    """An exception of a signal that comes while `time.time` runs is not taken for the clock's."""

    def interrupt(_: FrameType, event: str, function: object) -> None:
        if event == "c_call" and function is time.time:
            sys.setprofile(None)
            raise TimeoutError

    chat = Conversation()
    sys.setprofile(interrupt)
    try:
        with pytest.raises(TimeoutError):
            chat.add_user("Hello")
    finally:
        sys.setprofile(None)
    assert not chat.turns
