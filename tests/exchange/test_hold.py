"""`hold`: several changes and exchanges as one."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from conversation import AsyncConversation, Conversation, FileStore
from conversation.errors import (
    ConversationBusy,
    SessionChanged,
    SessionLocked,
    SessionReadOnly,
    UnknownToolCall,
)
from conversation.testing import StandIn
from tests.conftest import Clock


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that belong to nobody."""
    with ThreadPoolExecutor(4) as pool:
        yield pool


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store."""
    return FileStore(tmp_path / "sessions", fsync=False)


@pytest.fixture(params=["memory", "session"])
def one(
    request: pytest.FixtureRequest, client: OpenAI, clock: Clock, store: FileStore
) -> Conversation:
    """A conversation in memory, or a session."""
    if request.param == "memory":
        return Conversation(client=client, clock=clock)
    return Conversation.open("s", store=store, client=client, clock=clock)


def texts(chat: Conversation | AsyncConversation) -> list[str]:
    """Return the words of all users."""
    return [turn.text for turn in chat.turns if turn.role == "user"]


# --- in threads -----------------------------------------------------------------------------------


def test_changes_and_exchanges_are_one_for_other_threads(
    one: Conversation, threads: ThreadPoolExecutor
) -> None:
    """A thread that comes in the middle of a block changes the conversation after its end."""
    waits = threading.Event()

    def other() -> None:
        waits.set()
        one.say("other")

    with one.hold() as held:
        assert held is one
        one.add_user("one")
        coming = threads.submit(other)
        waits.wait()
        one.set_title("T")
        assert one.reply().text
        with one.stream("two") as events:
            list(events)
        one.fork()
        assert one.say("three").text
        assert one.undo()
        one.add_user("four")
        assert not coming.done()
        assert texts(one) == ["one", "two", "four"]
    coming.result()
    assert texts(one) == ["one", "two", "four", "other"]
    assert one.title == "T"


def test_holds_are_in_order_of_arrival_and_may_be_nested(one: Conversation) -> None:
    """A block inside of another belongs to it; after the inner one, the outer one still holds."""
    begun, order = threading.Event(), list[str]()

    def other() -> None:
        begun.set()
        with one.hold():
            order.append("other")
            one.add_user("other")

    thread = threading.Thread(target=other)
    with one.hold(), one.hold():
        one.add_user("one")
        with one.hold():
            one.add_user("two")
        thread.start()
        begun.wait()
        one.add_user("three")
        order.append("one")
    thread.join()
    assert order == ["one", "other"]
    assert texts(one) == ["one", "two", "three", "other"]


def test_block_that_fails_lets_go_and_undoes_nothing(one: Conversation) -> None:
    """After an error in the block, or an exchange that fails in it, others can go on."""
    with pytest.raises(UnknownToolCall), one.hold():
        one.add_tool_result(one.add_user("one").text, "x")
    with pytest.raises(KeyboardInterrupt), one.hold(), one.stream("two"):
        raise KeyboardInterrupt
    assert threading_result(lambda: one.say("three").text)
    assert texts(one) == ["one", "two", "three"]


def threading_result(job: Callable[[], Any]) -> Any:
    """Return what a job returns in a thread of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(job).result()


def test_hold_is_entered_once(one: Conversation) -> None:
    """The same object is no second hold, neither inside of its block nor afterwards."""
    hold = one.hold()
    with hold, pytest.raises(RuntimeError, match="entered once"):
        hold.__enter__()
    with pytest.raises(RuntimeError, match="entered once"):
        hold.__enter__()
    threading_result(lambda: one.add_user("one"))
    assert texts(one) == ["one"]


def test_code_of_an_exchange_cannot_hold(one: Conversation) -> None:
    """Tools and consumers of streams get `ConversationBusy`, in a block as outside of one."""
    with one.stream("one"), pytest.raises(ConversationBusy), one.hold():
        pass
    with one.hold(), one.stream("two") as events:
        for change in (lambda: one.add_user("x"), lambda: one.hold().__enter__()):
            with pytest.raises(ConversationBusy):
                change()
        list(events)
    assert texts(one) == ["one", "two"]


def test_tool_in_a_block_is_busy(one: Conversation, server: StandIn) -> None:
    """A tool cannot change the conversation that calls it, and is told so."""

    def change() -> str:
        one.add_user("from a tool")
        return "done"

    server.will_answer(tool_calls=[("change", {})])
    with one.hold():
        one.say("one", tools=[change])
        one.say("two")
    assert "cannot change it" in one.turns[2].text
    assert texts(one) == ["one", "two"]


def test_block_is_not_left_before_its_stream(one: Conversation) -> None:
    """A stream that outlives its block is left with it, and that is told; nothing stays locked."""
    stream = one.stream("one")

    def leave_early() -> None:
        with one.hold():
            next(stream.__enter__())
            next(stream)

    with pytest.raises(ConversationBusy, match="still open"):
        leave_early()
    assert one.turns[-1].interrupted  # type: ignore[union-attr]
    threading_result(lambda: one.add_user("two"))
    assert list(stream) == []
    stream.__exit__(None, None, None)
    assert texts(one) == ["one", "two"]


def test_threads_with_the_context_belong_to_the_block(
    one: Conversation, threads: ThreadPoolExecutor
) -> None:
    """They take turns, and the end of the block waits for them; afterwards they are strangers."""
    go_on, begun = threading.Event(), threading.Event()

    def other(words: str) -> None:
        begun.set()
        with one.stream(words) as events:
            go_on.wait()
            list(events)

    with one.hold():
        context = contextvars.copy_context()
        running = threads.submit(context.run, other, "one")
        begun.wait()
        while not one._history.lock.is_in_exchange:
            pass
        stranger = threads.submit(one.add_user, "stranger")
        threads.submit(go_on.set)
    assert [turn.role for turn in one.turns][:2] == ["user", "assistant"]
    running.result()
    stranger.result()
    threads.submit(context.run, other, "two").result()
    assert texts(one) == ["one", "stranger", "two"]


# --- sessions -------------------------------------------------------------------------------------


def test_other_objects_of_a_session_wait(store: FileStore, client: OpenAI) -> None:
    """Another object comes in neither between the changes of a block nor between its exchanges."""
    with Conversation.open("s", store=store, client=client) as one:
        two = Conversation.open("s", store=store, client=client, timeout=0)
        with one.hold():
            for word in ("one", "two"):
                one.say(word)
                with pytest.raises(SessionLocked):
                    two.add_user("other")
                with pytest.raises(SessionLocked), two.hold():
                    pass
        with two.hold():
            assert texts(two) == ["one", "two"]
            two.add_user("other")
        one.add_user("three")
        assert texts(one) == ["one", "two", "other", "three"]


def test_read_only_and_closed_sessions_are_not_held(store: FileStore) -> None:
    """They are refused on entering; a session that is closed in the block changes no more."""
    one = Conversation.open("s", store=store)
    with one.hold():
        one.add_user("one")
        one.close()
        with pytest.raises(SessionReadOnly, match="closed"):
            one.add_user("two")
        with pytest.raises(SessionReadOnly, match="closed"):
            one.set_title("T")
    with pytest.raises(SessionReadOnly), one.hold():
        pass
    reader = Conversation.open("s", store=store, read_only=True)
    with pytest.raises(SessionReadOnly), reader.hold():
        pass
    assert texts(Conversation.open("s", store=store)) == ["one"]


# --- in tasks -------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "session"])
def opened(request: pytest.FixtureRequest, server: StandIn, store: FileStore) -> Callable[[], Any]:
    """Return a coroutine function that opens a conversation in memory, or a session."""
    client: AsyncOpenAI = server.async_client()

    async def open_it() -> AsyncConversation:
        if request.param == "memory":
            return AsyncConversation(client=client)
        return await AsyncConversation.open("s", store=store, client=client)

    return open_it


def test_tasks_of_a_block_take_turns_and_others_wait(opened: Callable[[], Any]) -> None:
    """Tasks that are created inside belong to the block, those created before do not."""

    async def talk() -> list[str]:
        chat = await opened()
        inside = asyncio.Event()

        async def other() -> None:
            await inside.wait()
            await chat.say("other")

        async def listen(words: str) -> None:
            async with chat.stream(words) as events:
                async for _ in events:
                    pass

        coming = asyncio.create_task(other())
        async with chat.hold() as held:
            assert held is chat
            inside.set()
            await chat.add_user("one")
            await asyncio.gather(*(listen(word) for word in ("two", "three", "four")))
            async with chat.hold():
                await chat.say("five")
            late = asyncio.create_task(chat.say("six"))
            await asyncio.sleep(0)
            assert not coming.done()
        assert late.done()
        await coming
        return texts(chat)

    assert asyncio.run(talk()) == ["one", "two", "three", "four", "five", "six", "other"]


def test_cancelled_block_lets_go(opened: Callable[[], Any], server: StandIn) -> None:
    """A task that is cancelled in its block, or while it waits for it, keeps nobody out."""

    async def talk() -> list[str]:
        chat = await opened()
        server.will_answer("Wait.", hold_after=0)

        async def holder() -> None:
            async with chat.hold():
                await chat.add_user("one")
                await chat.say("two")

        async def waiter() -> None:
            async with chat.hold():
                await chat.add_user("never")

        holding = asyncio.create_task(holder())
        await asyncio.to_thread(server.wait_until_held)
        waiting = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        for task in (waiting, holding):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await chat.say("three")
        return texts(chat)

    assert asyncio.run(talk()) == ["one", "two", "three"]


def test_end_of_a_block_waits_though_it_is_cancelled(
    opened: Callable[[], Any], server: StandIn
) -> None:
    """A call that still runs inside of a block ends before others come in."""

    async def talk() -> list[str]:
        chat = await opened()
        server.will_answer("Wait.", hold_after=0)
        left = asyncio.Event()

        async def holder() -> None:
            async with chat.hold():
                tasks.append(asyncio.create_task(chat.say("one")))
                await asyncio.to_thread(server.wait_until_held)
                left.set()

        tasks: list[asyncio.Task[Any]] = []
        holding = asyncio.create_task(holder())
        await left.wait()
        coming = asyncio.create_task(chat.add_user("two"))
        await asyncio.sleep(0)
        holding.cancel()
        await asyncio.sleep(0)
        server.go_on()
        with pytest.raises(asyncio.CancelledError):
            await holding
        assert tasks[0].done()
        await coming
        return texts(chat)

    assert asyncio.run(talk()) == ["one", "two"]


def test_stream_that_a_task_left_open_keeps_a_failed_block_for_its_timeout(
    server: StandIn, store: FileStore
) -> None:
    """Nobody ends such a stream; what it had is refused, and others come in."""

    async def talk() -> list[str]:
        chat = await AsyncConversation.open(
            "s", store=store, client=server.async_client(), timeout=0
        )
        stream = chat.stream("one")

        async def child() -> None:
            await stream.__aenter__()

        async def fail() -> None:
            async with chat.hold():
                await asyncio.create_task(child())
                raise KeyError("one")

        with pytest.raises(KeyError):
            await fail()
        other = await AsyncConversation.open("s", store=store, timeout=0)
        await other.add_user("two")
        with pytest.raises(SessionChanged):
            await stream.__aexit__(None, None, None)
        return texts(other)

    assert asyncio.run(talk()) == ["one", "two"]
