"""Exceptions at any moment of a recording: no turn is missing, and none is there twice."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from conversation import Conversation, FileStore
from conversation.realtime import Recorder
from conversation.realtime._items import ITEM_ID
from tests.realtime import events as e
from tests.stores.test_interrupts import IGNORED, Injected, injected

pytestmark = pytest.mark.filterwarnings(IGNORED)

STRIDE = 1 if os.environ.get("CONVERSATION_INTERRUPTS") else 101
SOUND = bytes(9600)


def events() -> list[e.Event]:
    """Return a short session."""
    call, answer = e.call("c1", "call_1"), e.message("a1", {"type": "output_audio"})
    return [
        e.session(),
        *e.spoke("u1", 0, 50),
        e.transcribed("u1", "Hello"),
        *e.streamed("r1", "a1", sound=SOUND),
        e.done("r1", answer, call),
        e.said("u2", e.text("More")),
        *e.answered("r2", "a2", sound=SOUND),
    ]


def recorded(chat: Conversation, step: int) -> int:
    """Record a session; repeat the event in which an exception comes. Return the moments."""
    recorder = Recorder(chat)
    recorder.sent(e.appended(SOUND))
    with injected(step) as moments:
        for event in events():
            try:
                recorder.received(event)
            except Injected:
                recorder.received(event)
    recorder.close()
    return moments[0]


def test_an_exception_at_any_moment_costs_no_turn(tmp_path: Path) -> None:
    """A time limit that raises in `received`, whose event is repeated, changes nothing."""
    store = FileStore(tmp_path, fsync=False)
    expected = recorded(Conversation(), 0)
    whole = ["u1", "a1", "c1", "u2", "a2"]
    for step in range(1, expected, STRIDE):
        chat = Conversation() if step % 2 else Conversation.open(f"{step}", store=store)
        recorded(chat, step)
        found = [orjson.loads(turn.extra)[ITEM_ID] for turn in chat.turns]
        assert found == whole, f"at moment {step}"
        if chat.id:
            assert Conversation.open(chat.id, store=store).turns == chat.turns
