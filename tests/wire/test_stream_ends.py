"""Ends of streamed answers and tool calls, whatever servers leave out."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletionChunk

from conversation import AssistantTurn, Conversation
from conversation.errors import InvalidCompletion
from conversation.testing import StandIn

USAGE = {"prompt_tokens": 9, "completion_tokens": 3}


def chunk(usage: Any = None, **delta: Any) -> dict[str, Any]:
    """Return a chunk without `finish_reason`."""
    return {"choices": [{"index": 0, "delta": delta}], "usage": usage}


def turn_of(*chunks: Any) -> AssistantTurn:
    """Return the turn in a stream."""
    return Conversation().add_completion(iter(chunks))


def calls_of(*pieces: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and arguments of the calls in pieces, each in a chunk of its own."""
    turn = turn_of(*(chunk(tool_calls=[piece]) for piece in pieces), chunk(USAGE))
    return [(call.name, call.arguments) for call in turn.tool_calls]


def piece(name: str | None, arguments: str, **more: Any) -> dict[str, Any]:
    """Return a piece of a call."""
    return {"function": {"name": name, "arguments": arguments}, "type": "function", **more}


@pytest.mark.parametrize(
    ("last", "interrupted"),
    [
        ([{"choices": [], "usage": USAGE}], False),
        ([chunk(USAGE, role="assistant", content="")], False),
        ([chunk(USAGE), chunk()], False),
        ([chunk(USAGE, content=".")], True),
        ([{"choices": [], "usage": USAGE}, chunk(content=".")], True),
        ([{"choices": [], "usage": None}], True),
        ([], True),
    ],
)
@pytest.mark.parametrize("kind", ["content", "audio"])
def test_answer_whose_usage_came_behind_it_is_whole(
    kind: str, last: list[Any], interrupted: bool
) -> None:
    """Usage behind the answer ends it; usage with each chunk does not."""
    said: Any = {"id": "audio_1", "transcript": "Hi"} if kind == "audio" else "Hi"
    turn = turn_of(chunk(USAGE, role="assistant"), chunk(USAGE, **{kind: said}), *last)
    assert "Hi" in turn.text
    assert turn.interrupted is interrupted


@pytest.mark.parametrize(
    ("chunks", "interrupted"),
    [
        ([chunk(content="Hi"), chunk(USAGE, content=".")], False),
        ([chunk(USAGE, content="Hi.")], False),
        ([chunk(content="Hi."), chunk(USAGE, audio={})], False),
        ([chunk(content="Hi."), chunk(USAGE, audio={"id": None, "data": ""})], False),
        ([chunk(content="Hi."), chunk(USAGE), chunk(audio={}, tool_calls=[])], False),
        ([chunk(content="Hi."), chunk(USAGE, tool_calls=[{"index": 0}])], False),
        ([chunk(content="Hi"), chunk(USAGE, content="."), chunk(audio={})], False),
        ([chunk(content="Hi"), chunk(USAGE, content=","), chunk(content=" you.")], True),
        ([chunk(content="Hi"), chunk(USAGE, content=","), chunk(USAGE, content=" you.")], True),
        ([chunk(USAGE), chunk(USAGE, content="Hi.")], True),
        ([chunk(content="Hi."), chunk(USAGE), chunk(audio={"transcript": "Hi."})], True),
        ([chunk(content="Hi."), chunk(audio={})], True),
    ],
)
def test_usage_that_came_with_the_last_words_ends_an_answer(
    chunks: list[Any], interrupted: bool
) -> None:
    """Usage in one chunk with the last words ends it; objects without content continue nothing."""
    assert turn_of(*chunks).interrupted is interrupted
    if not interrupted and isinstance(chunks[-1]["choices"][0]["delta"].get("tool_calls"), list):
        return  # the SDK requires more of them
    made = [ChatCompletionChunk.construct(**each) for each in chunks]
    assert turn_of(*made).interrupted is interrupted


@pytest.mark.parametrize("is_sdk", [False, True])
@pytest.mark.parametrize(
    "last",
    [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": None, "usage": USAGE}]},
        {"choices": [{"index": 0, "delta": {}}], "x_groq": {"id": "r", "usage": USAGE}},
    ],
)
def test_usage_in_other_places_is_counted(last: dict[str, Any], is_sdk: bool) -> None:
    """Some servers put it into the choice, or into an object of their own."""
    chunks: list[Any] = [chunk(content="Hi"), last]
    if is_sdk:
        chunks = [ChatCompletionChunk.model_construct(**each) for each in chunks]
    turn = turn_of(*chunks)
    assert turn.usage is not None
    assert (turn.usage.prompt_tokens, turn.usage.completion_tokens) == (9, 3)
    assert not turn.interrupted


def test_error_in_a_choice_breaks_a_stream() -> None:
    """Its error is raised like one beside the choices; as a reason to finish it interrupts."""
    failed = {"choices": [{"index": 0, "delta": {"content": ""}, "error": {"code": 502}}]}
    with pytest.raises(InvalidCompletion, match=r"broke off with an error: \{'code': 502\}"):
        turn_of(chunk(content="Hi"), failed)
    failed = {"choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}
    assert turn_of(chunk(content="Hi"), failed).interrupted


def test_stream_of_usage_alone_has_no_answer() -> None:
    """Usage without anything else is no answer."""
    with pytest.raises(InvalidCompletion, match="ended before an answer"):
        turn_of(chunk(role="assistant"), {"choices": [], "usage": USAGE})


def test_streamed_answer_without_an_end_is_kept_whole(server: StandIn, chat: Conversation) -> None:
    """A conversation keeps such an answer whole, and sends it as voice where it has an id."""
    server.will_stream([chunk(content="Hello"), {"choices": [], "usage": USAGE}])
    with chat.stream("Hi") as events:
        list(events)
    assert not getattr(chat.turns[-1], "interrupted", True)


@pytest.mark.parametrize("index", [{"index": 0}, {}], ids=["one index", "no index"])
@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([("a", "{}"), ("b", "{}")], [("a", "{}"), ("b", "{}")]),
        ([("a", '{"x"'), (None, ":1}"), ("a", '{"x":2}')], [("a", '{"x":1}'), ("a", '{"x":2}')]),
        ([("a", '{"x"'), ("a", ":1}")], [("a", '{"x":1}')]),
        ([("a", ""), ("a", "{}")], [("a", "{}")]),
        ([("a", '{"x":1}'), (None, "")], [("a", '{"x":1}')]),
        (
            [("a", "{}"), ("b", '{"y"'), (None, ":1}"), ("a", "{}")],
            [("a", "{}"), ("b", '{"y":1}'), ("a", "{}")],
        ),
    ],
)
def test_parallel_calls_without_ids_stay_apart(
    index: dict[str, int], pieces: list[tuple[str | None, str]], calls: list[tuple[str, str]]
) -> None:
    """A new name, or the same one after whole arguments, begins a new call."""
    assert calls_of(*(piece(name, arguments, **index) for name, arguments in pieces)) == calls


def test_ids_overrule_names() -> None:
    """Pieces with the same id are one call, whatever they repeat."""
    pieces = [piece("a", '{"x":1}', id="c", index=0), piece("a", "", id="c", index=0)]
    assert calls_of(*pieces) == [("a", '{"x":1}')]
    assert calls_of(*pieces, piece("a", "{}", id="d", index=0)) == [("a", '{"x":1}'), ("a", "{}")]
    assert calls_of(piece("a", "{}", id="c", index=0), piece("b", "{}", index=0)) == [
        ("a", "{}"),
        ("b", "{}"),
    ]


@pytest.mark.parametrize("end", ["", None])
@pytest.mark.parametrize("call_id", [{"id": "a"}, {}])
def test_name_repeated_behind_a_call_begins_no_other(end: Any, call_id: dict[str, str]) -> None:
    """A last piece that repeats the name and brings no arguments runs no tool again."""
    pieces = (piece("book", '{"day":"mon"}', index=0, **call_id), piece("book", end, index=0))
    assert calls_of(*pieces) == [("book", '{"day":"mon"}')]


def test_pieces_with_ids_of_their_own_are_one_call() -> None:
    """Of a server that gives each piece an id, the name tells where a call begins."""
    first = piece("f", "", index=0, id="a1")
    more = [
        {"index": 0, "id": i, "function": {"arguments": a}}
        for i, a in (("a2", '{"x":'), ("a3", "1}"))
    ]
    assert calls_of(first, *more) == [("f", '{"x":1}')]


@pytest.mark.parametrize(
    ("texts", "calls"),
    [
        (["", '{"x"', ":1}"], ['{"x":1}']),
        (['{"x"', ":1}", ""], ['{"x":1}']),
        (['{"x":{"y"', ':1}"', "}"], ['{"x":{"y"', ':1}"', "}"]),
        (['{"x":{"y":1}', "}", None], ['{"x":{"y":1}}']),
        (["", "", ""], [""]),
        (["", "{}"], ["{}"]),
        (['{"x":1}', '{"y"', ":2}"], ['{"x":1}', '{"y":2}']),
        (["{}", "{}"], ["{}", "{}"]),
        (['{"x":1}', '{"x":1}'], ['{"x":1}', '{"x":1}']),
        ([{"x": 1}, {"y": 2}], ['{"x":1}', '{"y":2}']),
    ],
)
def test_new_ids_with_a_repeated_name_begin_no_call_inside_of_another(
    texts: list[Any], calls: list[str]
) -> None:
    """Of a server that repeats the name, too, pieces are one call as soon as they are whole."""
    pieces = [piece("f", text, id=f"a{i}", index=0) for i, text in enumerate(texts)]
    assert calls_of(*pieces) == [("f", text) for text in calls]
    other = piece("f", '{"z":3}', id="b", index=1)
    assert calls_of(*pieces, other) == [("f", text) for text in (*calls, '{"z":3}')]


@pytest.mark.parametrize("index", [{}, {"index": 0}])
def test_pieces_go_to_the_call_of_their_id(index: dict[str, int]) -> None:
    """Pieces of parallel calls may come in any order."""
    pieces = [
        piece("f", '{"x"', id="a", **index),
        piece("g", '{"y"', id="b", **index),
        {"id": "a", "function": {"arguments": ":1}"}, **index},
        {"id": "b", "function": {"arguments": ":2}"}, **index},
    ]
    assert calls_of(*pieces) == [("f", '{"x":1}'), ("g", '{"y":2}')]


def test_call_without_a_name_does_not_lose_the_answer() -> None:
    """The words are kept, and the call is left out."""
    turn = turn_of(
        chunk(content="Let me look."),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": "{}"}}]),
        chunk(USAGE),
    )
    assert (turn.text, turn.tool_calls) == ("Let me look.", ())
