"""Order and completeness of the messages that are sent."""

from __future__ import annotations

from typing import Any

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    Form,
    ToolCall,
    ToolTurn,
    UserTurn,
)
from conversation._rendering.explanation import explained
from conversation._rendering.forms import Moment
from conversation._rendering.messages import NO_RESULT, arranged, messages
from conversation._rendering.preparing import prepare
from conversation._values.turns import Turn
from tests.conftest import Clock
from tests.samples import SOUND, START, spoken


def called(*ids: str, **fields: Any) -> AssistantTurn:
    """Return a turn that calls a tool for each id."""
    return AssistantTurn(tool_calls=[ToolCall(i, "f", "{}") for i in ids], **fields)


def roles(*turns: Turn) -> list[tuple[Any, Any]]:
    """Return the role and the subject of each message."""
    rendered = messages(arranged([prepare(turn) for turn in turns], None), Moment(START, 30))
    return [(m["role"], m.get("tool_call_id", m.get("content", "calls"))) for m in rendered]


def test_unanswered_call_is_sent_with_a_fixed_result() -> None:
    """A tool call without an answer is sent with a fixed result."""
    rendering = explained(
        arranged([prepare(called("a", "b")), prepare(ToolTurn("b", "2"))], None), Moment(START, 30)
    )
    assert [m.get("content") for m in rendering.messages[1:]] == [NO_RESULT, "2"]
    assert [item.form for item in rendering.items] == [Form.TOOL_CALLS, Form.NO_RESULT, Form.PLAIN]


def test_late_answer_is_sent_right_after_its_call() -> None:
    """A tool's answer that was added late is sent right after its call."""
    turns = (called("a"), UserTurn("Well?"), ToolTurn("a", "1"))
    assert roles(*turns) == [("assistant", "calls"), ("tool", "a"), ("user", "Well?")]


def test_answer_belongs_to_the_nearest_earlier_open_call() -> None:
    """An answer to an id that two calls share goes to the nearest earlier open one."""
    turns = (called("a"), called("a"), ToolTurn("a", "new"), ToolTurn("a", "old"))
    sent = messages(arranged([prepare(turn) for turn in turns], None), Moment(START, 30))
    assert [m.get("content") for m in sent] == [None, "old", None, "new"]


def test_answer_without_an_open_call_is_left_out() -> None:
    """An answer without an open call is left out, and its item says why."""
    turns = [
        prepare(turn)
        for turn in (ToolTurn("x", "1"), called("a"), ToolTurn("a", "1"), ToolTurn("a", "2"))
    ]
    rendering = explained(arranged(turns, None), Moment(START, 30))
    assert len(rendering.messages) == 2
    assert [i.why for i in rendering.items if i.form is Form.LEFT_OUT] == [
        "left out, it answers no open call"
    ] * 2
    assert messages(arranged(turns, None), Moment(START, 30)) == rendering.messages


def test_instructions_are_sent_first() -> None:
    """Instructions are sent first, and system turns at the place where they were added."""
    chat = Conversation(instructions="Be brief.")
    chat.add_user("Hi")
    chat.add_system("The user is Ann.")
    assert [m["content"] for m in chat.messages()] == ["Be brief.", "Hi", "The user is Ann."]
    assert [item.why for item in chat.render().items] == ["instructions", "as it is", "as it is"]
    assert str(chat.render()).splitlines()[0] == "system: instructions"


def test_messages_are_copies(clock: Clock) -> None:
    """Changes to a rendered list do not show in the next one."""
    chat = Conversation(clock=clock, instructions="x")
    chat.add_user("Hi")
    chat.add_user(AudioInput(SOUND), "and text")
    chat.add_completion(spoken())
    first = chat.messages()
    kept = chat.messages()
    for message in first:
        message["content"] = None
    first[2].clear()
    first[3]["audio"]["id"] = "changed"
    assert chat.messages() == kept
