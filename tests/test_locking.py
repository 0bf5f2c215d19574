"""Several who want one conversation at once: who comes first is first, and nobody starves."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from conversation import AsyncConversation, Conversation, FileStore, TranscriptDelta
from conversation.errors import SessionLocked
from conversation.testing import StandIn
from tests.conftest import Clock

ROUNDS = 30


@pytest.mark.parametrize("session", [None, "x"])
def test_a_greedy_thread_does_not_starve_another(
    session: str | None, server: StandIn, clock: Clock, tmp_path: Path
) -> None:
    """Between two of its exchanges the other one has its own."""
    client = server.client()
    store = FileStore(tmp_path, fsync=False)
    chat = (
        Conversation(client=client, clock=clock)
        if session is None
        else Conversation.open(session, store=store, client=client, clock=clock)
    )
    begun = threading.Event()

    def greedy() -> None:
        for number in range(ROUNDS):
            chat.say(f"greedy {number}")
            begun.set()

    def polite() -> None:
        begun.wait()
        chat.say("polite")

    threads = [threading.Thread(target=job) for job in (greedy, polite)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    questions = [turn.text for turn in chat.turns if turn.role == "user"]
    assert len(questions) == ROUNDS + 1
    assert questions.index("polite") < ROUNDS // 2
    chat.close()


def test_a_greedy_task_does_not_starve_another(server: StandIn, clock: Clock) -> None:
    """Nor in the twin, where nobody else runs between two calls that do not wait."""

    async def talk() -> list[str]:
        chat = AsyncConversation(client=server.async_client(), clock=clock)

        async def greedy() -> None:
            for number in range(ROUNDS):
                await chat.say(f"greedy {number}")

        async def polite() -> None:
            await asyncio.sleep(0)
            await chat.say("polite")

        await asyncio.gather(greedy(), polite())
        return [turn.text for turn in chat.turns if turn.role == "user"]

    assert asyncio.run(talk()).index("polite") <= 2


async def listen(chat: AsyncConversation, question: str) -> None:
    """Hear an answer to its end."""
    async with chat.stream(question) as events:
        async for _ in events:
            pass


def test_who_comes_first_is_first(server: StandIn, clock: Clock) -> None:
    """Ten messages that came during an answer are answered in their order."""

    async def talk() -> list[str]:
        server.will_answer("Wait.", hold_after=0)
        chat = AsyncConversation(client=server.async_client(), clock=clock)
        tasks = [asyncio.create_task(listen(chat, "first"))]
        await asyncio.to_thread(server.wait_until_held)
        for number in range(10):
            tasks.append(asyncio.create_task(listen(chat, f"message {number}")))
            await asyncio.sleep(0)
        server.go_on()
        await asyncio.gather(*tasks)
        return [turn.text for turn in chat.turns if turn.role == "user"]

    assert asyncio.run(talk()) == ["first", *(f"message {number}" for number in range(10))]


def test_who_gives_up_waiting_is_in_nobodys_way(
    server: StandIn, clock: Clock, tmp_path: Path
) -> None:
    """A cancelled task, and one whose time was over."""

    async def talk() -> list[str]:
        client = server.async_client()
        store = FileStore(tmp_path, fsync=False)
        server.will_answer("Wait.", hold_after=0)
        async with AsyncConversation.open(
            "x", store=store, client=client, clock=clock, timeout=0.05
        ) as chat:
            first = asyncio.create_task(listen(chat, "first"))
            await asyncio.to_thread(server.wait_until_held)
            late = asyncio.create_task(chat.add_user("late"))
            await asyncio.sleep(0)
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            with pytest.raises(SessionLocked):
                await chat.add_user("too late")
            server.go_on()
            await first
            await chat.add_user("last")
            return [turn.text for turn in chat.turns if turn.role == "user"]

    assert asyncio.run(talk()) == ["first", "last"]


def test_one_stream_has_one_reader(server: StandIn, clock: Clock) -> None:
    """A second thread that asks for its next event is refused; the first one gets all."""
    chat = Conversation(client=server.client(), clock=clock)
    server.will_answer("One two three four.", hold_after=2)
    told: list[str] = []
    with chat.stream("Count") as events:

        def read() -> None:
            told.extend(event.text for event in events if isinstance(event, TranscriptDelta))

        reader = threading.Thread(target=read)
        reader.start()
        server.wait_until_held()
        while not events._is_read:  # it was held before it asked
            time.sleep(0)
        with pytest.raises(RuntimeError, match="waiting for the next event"):
            next(events)
        server.go_on()
        reader.join()
    assert "".join(told) == "One two three four."
    assert not chat.turns[-1].interrupted  # type: ignore[union-attr]


def test_one_stream_has_one_reading_task(server: StandIn, clock: Clock) -> None:
    """Same in the twin."""

    async def talk() -> None:
        chat = AsyncConversation(client=server.async_client(), clock=clock)
        server.will_answer("One two three four.", hold_after=2)
        async with chat.stream("Count") as events:

            async def read() -> str:
                told = [e.text async for e in events if isinstance(e, TranscriptDelta)]
                return "".join(told)

            reader = asyncio.create_task(read())
            await asyncio.to_thread(server.wait_until_held)
            while not events._is_read:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="waiting for the next event"):
                await anext(events)
            server.go_on()
            assert await reader == "One two three four."

    asyncio.run(talk())


def test_a_stream_is_entered_once(server: StandIn, clock: Clock) -> None:
    """A used one is refused before anything is sent; events come inside of its block only."""
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
    chat.say("And nobody holds it")
