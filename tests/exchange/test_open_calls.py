"""Tool calls whose results are not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from conversation import Conversation, FileStore
from conversation.testing import StandIn


@pytest.mark.parametrize("streams", [False, True])
def test_tool_that_was_broken_off_may_have_done_its_work(
    server: StandIn, client: OpenAI, tmp_path: Path, streams: bool
) -> None:
    """After an end in the middle of a tool the model is not told that nothing was done."""
    booked = []

    def book(room: int) -> str:
        """Book a room."""
        booked.append(room)
        raise KeyboardInterrupt

    store = FileStore(tmp_path)
    chat = Conversation.open("hotel", store=store, client=client, tools=[book])
    server.will_answer(tool_calls=[("book", {"room": 7}), ("book", {"room": 8})])
    with pytest.raises(KeyboardInterrupt):
        list(chat.stream("Book").__enter__()) if streams else chat.say("Book")
    again = Conversation.open("hotel", store=store, client=client, tools=[book])
    again.reply()
    results = [m["content"] for m in server.requests[-1]["messages"] if m["role"] == "tool"]
    assert results == ["[no result is known: the call may have been carried out]"] * 2
    assert booked == [7]
    why = "no result, the call may have been carried out"
    assert [item.why for item in again.render().items].count(why) == 2
