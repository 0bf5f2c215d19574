"""Misuse of streams: a stream is entered once and has one reader."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from conversation import AsyncConversation, Conversation, TranscriptDelta
from conversation.testing import StandIn
from tests.conftest import Clock


def test_second_reading_thread_is_refused(server: StandIn, clock: Clock) -> None:
    """A second thread that reads from a stream is refused; the first one gets all events."""
    chat = Conversation(client=server.client(), clock=clock)
    server.will_answer("One two three four.", hold_after=2)
    texts: list[str] = []
    with chat.stream("Count") as events:

        def read() -> None:
            for event in events:
                if isinstance(event, TranscriptDelta):
                    texts.append(event.text)  # noqa: PERF401  # it is seen at once

        reader = threading.Thread(target=read)
        reader.start()
        server.wait_until_held()
        while not (texts and events._is_read):  # until the reader waits for the second word
            time.sleep(0)
        with pytest.raises(RuntimeError, match="waiting for the next event"):
            next(events)
        server.go_on()
        reader.join()
    assert "".join(texts) == "One two three four."
    assert not chat.turns[-1].interrupted  # type: ignore[union-attr]


def test_second_reading_task_is_refused(server: StandIn, clock: Clock) -> None:
    """A second task that reads from an async stream is refused; the first one gets all events."""

    async def talk() -> None:
        chat = AsyncConversation(client=server.async_client(), clock=clock)
        server.will_answer("One two three four.", hold_after=2)
        async with chat.stream("Count") as events:

            async def read() -> str:
                texts = [e.text async for e in events if isinstance(e, TranscriptDelta)]
                return "".join(texts)

            reader = asyncio.create_task(read())
            await asyncio.to_thread(server.wait_until_held)
            while not events._is_read:  # noqa: ASYNC110  # the stream has no event
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="waiting for the next event"):
                await anext(events)
            server.go_on()
            assert await reader == "One two three four."

    asyncio.run(talk())


def test_stream_is_entered_once(server: StandIn, clock: Clock) -> None:
    """A stream yields events only inside its `with` block, which can be entered once."""
    chat = Conversation(client=server.client(), clock=clock)
    stream = chat.stream("Count")
    with pytest.raises(RuntimeError, match="enter a stream to read"):
        next(stream)
    with stream as events:
        words = "".join(event.text for event in events if isinstance(event, TranscriptDelta))
    assert words == chat.turns[-1].text
    with pytest.raises(RuntimeError, match="entered once"):
        stream.__enter__()
    assert len(server.requests) == 1
    chat.say("Still unlocked")
