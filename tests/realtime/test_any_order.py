"""Every event of the SDK's union, in any order: nothing is raised, and the chat goes on."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from openai._models import construct_type_unchecked
from openai.types.realtime import RealtimeServerEvent
from pydantic import BaseModel

from conversation import Conversation
from conversation.realtime import Recorder, seed_events
from conversation.testing import _contract
from tests.realtime import events as e
from tests.samples import PNG

EVENTS: tuple[type[BaseModel], ...] = typing.get_args(typing.get_args(RealtimeServerEvent)[0])

VALUES = {
    "id": ["i1", "i2", "i3", "i\ud800", "kept_1", "r1", "r2"],
    "item_id": ["i1", "i2", "i3", "i\ud800", "kept_1"],
    "response_id": ["r1", "r2", ""],
    "call_id": ["call_1", "call_2", ""],
    "conversation_id": ["conv_1"],
    "delta": [e.text64(bytes(480)), "Good ", "no base64!", ""],
    "audio": [e.text64(bytes(480)), "?"],
    "image_url": [f"data:image/png;base64,{e.text64(PNG)}", "nonsense"],
}
WORDS = ["Hello", "", " ", "\ud800", "{}", "x" * 50]


def values_of(kind: Any, name: str = "") -> st.SearchStrategy[Any]:
    """Return a strategy for what JSON may hold where the SDK has this type."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return values_of(arguments[0], name)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*[values_of(argument, name) for argument in arguments])
    if origin is list:
        return st.lists(values_of(arguments[0], name), max_size=2)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return st.deferred(lambda: objects_of(kind))
    if kind is str:
        return st.sampled_from(VALUES.get(name, WORDS))
    if kind is int:
        return st.sampled_from([0, 1, 10, 500, 10**15, -1])
    plain = {float: st.floats(0, 9), bool: st.booleans(), type(None): st.none()}
    return plain.get(kind, st.just({}))


@functools.cache
def objects_of(kind: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Return a strategy for the JSON objects of one of the SDK's types."""
    fields = kind.model_fields
    values = {name: values_of(field.annotation, name) for name, field in fields.items()}
    required = {name: values[name] for name, field in fields.items() if field.is_required()}
    others = {name: values[name] for name in values if name not in required}
    return st.fixed_dictionaries(required, optional=others)


server_events = st.sampled_from(EVENTS).flatmap(objects_of)
# Events that belong together, so that they meet more often.
related_events = st.sampled_from(
    [
        *e.answered("r1", "i1", sound=bytes(9000)),
        *e.opened("r1", e.call("i2", "call_1")),
        e.begun("r1", conversation_id=None),
        e.done("r1", e.message("i1"), e.call("i2", "call_1"), status="cancelled"),
        *e.spoke("i3", 0, 50),
        e.partly("i3", "Hel"),
        e.transcribed("i3", "Hello"),
        e.event("conversation.item.truncated", item_id="i1", content_index=0, audio_end_ms=90),
        *[e.event("conversation.item.deleted", item_id=item) for item in ("i1", "i3")],
        e.session(),
    ]
)
client_events = st.sampled_from(
    [
        e.appended(bytes(4800)),
        e.appended(b"odd"),
        {"type": "input_audio_buffer.commit"},
        {"type": "input_audio_buffer.clear"},
        {
            "type": "session.update",
            "session": {"audio": {"input": {"format": {"type": "audio/pcmu"}}}},
        },
    ]
)
steps = st.lists(
    st.one_of(server_events, related_events, related_events, client_events), max_size=20
)


@given(steps, st.booleans(), st.booleans(), st.booleans())
def test_no_order_of_events_raises(
    events: list[dict[str, Any]], as_objects: bool, are_news: bool, closes: bool
) -> None:
    """Any events, as dicts or the SDK's objects, leave a chat whose next request is valid."""
    chat = Conversation(clock=lambda: 1_762_000_000.0)
    recorder = Recorder(chat)
    for number, event in enumerate(events):
        if "event_id" not in event:
            recorder.sent(event)
            continue
        if are_news:  # else those that were told before are left out
            event = event | {"event_id": f"event_{number}"}  # noqa: PLW2901
        kind: Any = RealtimeServerEvent
        given_event = construct_type_unchecked(value=event, type_=kind) if as_objects else event
        for turn in recorder.received(given_event):
            assert any(turn is kept for kept in chat.turns)
    if closes:
        recorder.close()
        assert not recorder._recording._queue
    chat.add_user("Are you there?")
    _contract.check(chat.request(), lambda _: True)
    ids = [event["item"]["id"] for event in seed_events(chat)]
    assert len(set(ids)) == len(ids)


def test_all_events_are_tried() -> None:
    """The union is read from the SDK: each of its types makes events."""
    assert len(EVENTS) >= 40
    for kind in EVENTS:
        assert "type" in kind.model_fields
