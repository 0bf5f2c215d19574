"""Fairness of the lock of a conversation: threads and tasks acquire it in order."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from conversation import AsyncConversation, Conversation, FileStore
from conversation.errors import SessionLocked
from conversation.testing import StandIn
from tests.conftest import Clock

ROUNDS = 30


@pytest.mark.parametrize("session", [None, "x"])
def test_busy_thread_does_not_starve_another(
    session: str | None, server: StandIn, clock: Clock, tmp_path: Path
) -> None:
    """A thread that calls `say` in a loop does not starve another thread."""
    client = server.client()
    store = FileStore(tmp_path, fsync=False)
    chat = (
        Conversation(client=client, clock=clock)
        if session is None
        else Conversation.open(session, store=store, client=client, clock=clock)
    )
    begun, done = threading.Event(), threading.Event()
    before: list[int] = []  # exchanges that were over when the other one was seen to wait

    def busy() -> None:
        number = 0
        while number < 20 * ROUNDS and not done.is_set():
            chat.say(f"busy {number}")
            begun.set()
            number += 1
            if chat._history.lock.is_in_use and not before:
                before.append(number)

    def other() -> None:
        begun.wait()
        chat.say("other")
        done.set()

    threads = [threading.Thread(target=job) for job in (busy, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    questions = [turn.text for turn in chat.turns if turn.role == "user"]
    assert questions.index("other") <= min(before, default=20 * ROUNDS - 1)
    chat.close()


def test_busy_task_does_not_starve_another(server: StandIn, clock: Clock) -> None:
    """A task that calls `say` in a loop does not starve another task."""

    async def talk() -> list[str]:
        chat = AsyncConversation(client=server.async_client(), clock=clock)

        async def busy() -> None:
            for number in range(ROUNDS):
                await chat.say(f"busy {number}")

        async def other() -> None:
            await asyncio.sleep(0)
            await chat.say("other")

        await asyncio.gather(busy(), other())
        return [turn.text for turn in chat.turns if turn.role == "user"]

    assert asyncio.run(talk()).index("other") <= 2


async def listen(chat: AsyncConversation, question: str) -> None:
    """Consume a streamed answer."""
    async with chat.stream(question) as events:
        async for _ in events:
            pass


def test_waiting_streams_run_in_order(server: StandIn, clock: Clock) -> None:
    """Streams that wait for one another run in the order in which they were started."""

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


def test_abandoned_waits_do_not_block(server: StandIn, clock: Clock, tmp_path: Path) -> None:
    """A cancelled wait and one that timed out do not block later changes."""

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
