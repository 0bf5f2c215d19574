"""Tasks that wait, are cancelled, or change a conversation in use."""

from __future__ import annotations

import asyncio
import contextvars
import errno
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ParamSpec

import openai
import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioDelta,
    AudioInput,
    Conversation,
    FileStore,
    ToolCalled,
    TranscriptDelta,
    TurnFinished,
    UserTurn,
)
from conversation.errors import (
    ConversationBusy,
    InvalidCompletion,
    InvalidSetting,
    SaveFailed,
    SessionLocked,
    SessionNotFound,
)
from conversation.stores import News
from conversation.stores._disk import Disk
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import SOUND, answer, spoken

WORKERS = 6
TASKS = 12
PATIENCE = 120.0
"""Timeout in seconds; a test that reaches it has a deadlock."""

_P = ParamSpec("_P")


def awaited(test: Callable[_P, Coroutine[Any, Any, None]]) -> Callable[_P, None]:
    """Run an async test in a new event loop, with few workers and a timeout."""

    @functools.wraps(test)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(WORKERS))
            async with asyncio.timeout(2 * PATIENCE):
                await test(*args, **kwargs)

        asyncio.run(main())

    return run


class GatedDisk(Disk):
    """Disk with one operation that blocks until a gate is opened."""

    def __init__(self) -> None:
        super().__init__(fsync=False)
        self.waits_at: str | None = None
        self.fails = False
        self.reached = threading.Event()
        self.gate = threading.Event()

    def _pass(self, operation: str) -> None:
        if operation == self.waits_at:
            self.waits_at = None
            self.reached.set()
            assert self.gate.wait(PATIENCE), "nobody opened the gate"

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.fails:
            self.fails = False
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._pass("write")
        super().write(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        self._pass("sync")
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        self._pass("replace")
        super().replace(source, target)

    def create(self, path: Path) -> int:
        self._pass("create")
        return super().create(path)


@pytest.fixture
def disk() -> GatedDisk:
    """Provide a disk that does not block yet."""
    return GatedDisk()


@pytest.fixture
def store(tmp_path: Path, disk: GatedDisk) -> FileStore:
    """Provide a store on that disk."""
    store = FileStore(tmp_path / "sessions", fsync=False)
    store._disk = disk
    return store


@pytest.fixture
def opened(
    store: FileStore, server: StandIn, clock: Clock
) -> Callable[..., Coroutine[Any, Any, AsyncConversation]]:
    """Open the session `s`."""
    client = server.async_client()

    async def opened(**options: Any) -> AsyncConversation:
        given: dict[str, Any] = {"store": store, "client": client, "clock": clock}
        given |= {"timeout": PATIENCE, **options}
        return await AsyncConversation.open("s", **given)

    return opened


Opened = Callable[..., Coroutine[Any, Any, AsyncConversation]]


def texts(chat: AsyncConversation | Conversation) -> list[str]:
    """Return the text of each turn, without the stand-in's count of recalled answers."""
    return [turn.text.partition(" I recall")[0] for turn in chat.turns]


def check_saved(chat: AsyncConversation, store: FileStore) -> None:
    """Check that memory and disk are equal."""
    with Conversation.open("s", store=store, create=False, read_only=True) as saved:
        assert saved.turns == chat.turns
        assert (saved.title, saved.recovered) == (chat.title, None)


async def a_while() -> None:
    """Let all tasks run until they wait for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def all_workers_meet() -> None:
    """Check that no worker thread is occupied."""
    barrier = threading.Barrier(WORKERS)
    meet = functools.partial(barrier.wait, PATIENCE)
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(None, meet) for _ in range(WORKERS)))


async def cancelled(task: asyncio.Task[Any]) -> None:
    """Cancel the task and check that it ends as cancelled."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def held(server: StandIn) -> None:
    """Wait until the server holds an answer back."""
    await asyncio.to_thread(server.wait_until_held, PATIENCE)


# --- waiting for the lock ----------------------------------------------------------------------


@pytest.mark.parametrize("of_its_own", [True, False], ids=["an object each", "one object"])
@awaited
async def test_waiting_tasks_occupy_no_worker_thread(
    server: StandIn, store: FileStore, opened: Opened, of_its_own: bool
) -> None:
    """Tasks that wait for the lock occupy no worker thread, and all get their turn."""
    holder = await opened()
    chats = [await opened() if of_its_own else holder for _ in range(TASKS)]
    outside = contextvars.copy_context()  # tasks of a stream's consumer are refused
    server.will_answer("The first answer.", hold_after=3)
    async with holder.stream("The first question.") as events:
        asking = [
            asyncio.create_task(chat.say(f"Question {number}."), context=outside.copy())
            for number, chat in enumerate(chats)
        ]
        await a_while()
        for _ in range(10):
            await all_workers_meet()
        assert texts(holder) == ["The first question."]
        server.go_on()
        async for _ in events:
            pass
    answers = await asyncio.gather(*asking)
    await holder.set_title("all")
    said = texts(holder)
    assert said[:2] == ["The first question.", "The first answer."]
    assert sorted(said[2::2]) == sorted(f"Question {number}." for number in range(TASKS))
    assert said[3::2] == [f"You wrote: {question}" for question in said[2::2]]
    check_saved(holder, store)
    for number, (chat, answered) in enumerate(zip(chats, answers, strict=True)):
        assert chat.turns == holder.turns[: len(chat.turns)]
        at = chat.turns.index(answered)
        assert chat.turns[at - 1].text == f"Question {number}."


@pytest.mark.parametrize("is_saved", [True, False])
@awaited
async def test_concurrent_says_of_two_tasks_take_turns(
    server: StandIn, opened: Opened, is_saved: bool
) -> None:
    """Two tasks that call `say` at once take turns: the second question waits."""
    chat = await opened() if is_saved else AsyncConversation(client=server.async_client())
    server.will_answer("First.", hold_after=0)
    one = asyncio.create_task(chat.say("One"))
    await held(server)
    other = asyncio.create_task(chat.say("Two"))
    await a_while()
    assert texts(chat) == ["One"]
    server.go_on()
    answers = await asyncio.gather(one, other)
    assert texts(chat) == ["One", "First.", "Two", "You wrote: Two"]
    assert (*answers,) == (chat.turns[1], chat.turns[3])


@pytest.mark.parametrize("is_saved", [True, False])
def test_concurrent_says_of_two_threads_take_turns(
    server: StandIn, store: FileStore, monkeypatch: pytest.MonkeyPatch, is_saved: bool
) -> None:
    """Two threads that call `Conversation.say` at once take turns."""
    waits = threading.Event()
    at_rest = threading.Event()

    def sleep(_: float) -> None:
        waits.set()
        at_rest.wait(0.001)

    monkeypatch.setattr("conversation._client.time", SimpleNamespace(sleep=sleep))
    client = server.client()
    chat = Conversation(client=client)
    if is_saved:
        chat = Conversation.open("s", store=store, client=client)
    server.will_answer("First.", hold_after=0)
    with chat, ThreadPoolExecutor(2) as pool:
        one = pool.submit(chat.say, "One")
        server.wait_until_held()
        other = pool.submit(chat.say, "Two")
        assert waits.wait(PATIENCE)
        assert texts(chat) == ["One"]
        server.go_on()
        assert one.result(PATIENCE).text == "First."
        assert other.result(PATIENCE).text.startswith("You wrote: Two")
    assert texts(chat) == ["One", "First.", "Two", "You wrote: Two"]


@awaited
async def test_lock_timeout_does_not_block_the_loop(
    server: StandIn, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SessionLocked` is raised after `timeout` seconds of polling that blocks no task."""
    looks: list[float] = []

    def monotonic() -> float:
        looks.append(20.0 * len(looks))
        return looks[-1]

    holder, waiter = await opened(), await opened(timeout=60)
    server.will_answer("First.", hold_after=0)
    saying = asyncio.create_task(holder.say("One"))
    await held(server)
    monkeypatch.setattr("conversation._locking.time", SimpleNamespace(monotonic=monotonic))
    adding = asyncio.create_task(waiter.add_user("Two"))
    seen = []
    while not adding.done():
        seen.append(len(looks))
        await asyncio.sleep(0)
    assert {2, 3} <= {*seen}, "the loop went round between the looks"
    assert looks == [0, 20, 40, 60]
    with pytest.raises(SessionLocked, match="waited 60 s"):
        await adding
    server.go_on()
    await saying
    await waiter.add_user("Two")
    assert texts(waiter) == ["One", "First.", "Two"]


# --- cancellation ------------------------------------------------------------------------------

CHANGES: dict[str, Any] = {
    "text": lambda chat: chat.add_user("Third"),
    "sound": lambda chat: chat.add_completion(spoken("Third")),
    "title": lambda chat: chat.set_title("Other"),
    "undo": lambda chat: chat.undo(),
    "truncate": lambda chat: chat.truncate(0.05),
    "extend": lambda chat: chat.extend([UserTurn("Third"), UserTurn("Fourth")]),
    "remove": lambda chat: chat.remove(chat.turns[0]),
    "say": lambda chat: chat.say("Third"),
}


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("change", "operation"),
    [
        ("text", "write"),
        ("text", "sync"),
        ("sound", "create"),
        ("sound", "write"),
        ("sound", "sync"),
        ("title", "create"),
        ("title", "replace"),
        ("undo", "write"),
        ("undo", "replace"),
        ("truncate", "create"),
        ("truncate", "replace"),
        ("extend", "replace"),
        ("remove", "replace"),
        ("say", "write"),
        ("say", "sync"),
    ],
)
@awaited
async def test_cancellation_waits_for_a_write_that_has_begun(
    store: FileStore, disk: GatedDisk, opened: Opened, change: str, operation: str, times: int
) -> None:
    """A cancelled task ends after the write that it has begun; memory and disk are equal."""
    chat = await opened()
    await chat.add_user("First")
    await chat.add_completion(spoken("Second"))
    before = (chat.turns, chat.title)
    disk.waits_at = operation
    task = asyncio.create_task(CHANGES[change](chat))
    assert await asyncio.to_thread(disk.reached.wait, PATIENCE)
    for _ in range(times):
        task.cancel()
        await a_while()
        assert not task.done()
    assert (chat.turns, chat.title) == before
    disk.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (chat.turns, chat.title) != before
    check_saved(chat, store)
    expected = [*texts(chat), "Next"]
    await chat.add_user("Next")
    assert texts(chat) == expected
    check_saved(chat, store)
    assert (await chat.reply()).audio


@awaited
async def test_failure_during_a_cancellation_is_logged_with_the_session(
    store: FileStore, server: StandIn, caplog: pytest.LogCaptureFixture
) -> None:
    """A look that fails while its task is cancelled is logged, and the line names the session."""
    reached, gate, times = threading.Event(), threading.Event(), iter([1e9] * 9)

    def clock() -> float:
        if (now := next(times, None)) is not None:
            return now
        reached.set()
        assert gate.wait(PATIENCE)
        return float("nan")

    client = server.async_client()
    chat = await AsyncConversation.open("s", store=store, client=client, clock=clock)
    await chat.add(UserTurn("Hi", at=datetime.now(UTC)))
    times = iter(())
    task = asyncio.create_task(chat.render())
    assert await asyncio.to_thread(reached.wait, PATIENCE)
    task.cancel()
    await a_while()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    [line] = caplog.messages
    assert line.startswith("session 's': a task was cancelled while this failed: clock must return")


@awaited
async def test_cancellation_during_the_write_of_an_answer_keeps_it_whole(
    server: StandIn, store: FileStore, disk: GatedDisk, opened: Opened
) -> None:
    """A `say` or a stream cancelled while its answer is written keeps the whole answer."""
    chat = await opened()

    async def stream() -> None:
        async with chat.stream("Question") as events:
            async for _ in events:
                pass

    for exchange in (chat.say("Question"), stream()):
        disk.gate.clear()
        disk.reached.clear()
        server.will_answer("The whole answer.", hold_after=0)
        task = asyncio.create_task(exchange)
        await held(server)
        disk.waits_at = "sync"
        server.go_on()
        assert await asyncio.to_thread(disk.reached.wait, PATIENCE)
        task.cancel()
        await a_while()
        assert not task.done()
        disk.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        turn = chat.turns[-1]
        assert isinstance(turn, AssistantTurn)
        assert (turn.text, turn.interrupted) == ("The whole answer.", False)
        check_saved(chat, store)
    assert "2 of my earlier answers by voice" in (await chat.say("And?")).text


@awaited
async def test_waiting_task_can_be_cancelled_at_once(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A task that waits for the lock can be cancelled at once, and adds nothing."""
    holder, other = await opened(), await opened()
    server.will_answer("First.", hold_after=0)
    saying = asyncio.create_task(holder.say("One"))
    await held(server)
    for chat in (holder, other):
        for change in (chat.add_user("Two"), chat.say("Two"), chat.stream("Two").__aenter__()):
            waiting = asyncio.create_task(change)
            await a_while()
            await cancelled(waiting)
    assert not saying.done()
    server.go_on()
    await saying
    await other.add_user("Three")
    await holder.add_user("Four")
    assert texts(holder) == ["One", "First.", "Three", "Four"]
    assert len(server.requests) == 1
    check_saved(holder, store)


@awaited
async def test_cancelled_change_runs_to_its_end_and_releases_the_lock(opened: Opened) -> None:
    """A change that is cancelled while it reads the changes of others is finished first."""
    chat, other = await opened(), await opened()
    await other.add_user("News")
    reads, goes_on = threading.Event(), threading.Event()
    history = chat._history
    take_in = history._take_in

    def slowly(news: News) -> None:
        reads.set()
        assert goes_on.wait(PATIENCE)
        take_in(news)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_take_in", slowly)
        adding = asyncio.create_task(chat.add_user("Finished"))
        assert await asyncio.to_thread(reads.wait, PATIENCE)
        adding.cancel()
        await a_while()
        assert not adding.done()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await adding
    await other.add_user("More")
    await chat.add_user("Now")
    assert texts(chat) == ["News", "Finished", "More", "Now"]


@awaited
async def test_cancelled_say_keeps_the_question(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A cancelled `say` keeps its question, and `reply` answers it."""
    chat = await opened()
    for streams in (False, True):
        server.will_answer("Never heard.", hold_after=0)
        task = asyncio.create_task(chat.say("Question", stream=streams))
        await held(server)
        await cancelled(task)
        assert texts(chat)[-1] == "Question"
        check_saved(chat, store)
        assert (await chat.reply()).text.startswith("You wrote: Question")
    assert len(chat.turns) == 4


@pytest.mark.parametrize("hold_after", [2, 3, 4, 5])
@awaited
async def test_cancelled_stream_keeps_words_and_sound_so_far(
    server: StandIn, store: FileStore, opened: Opened, hold_after: int
) -> None:
    """A cancelled stream saves its words and sound so far as an interrupted turn."""
    chat = await opened()
    came: list[Any] = []

    async def listen() -> None:
        async with chat.stream("Question") as events:
            async for event in events:
                came.append(event)
                something.set()

    server.will_answer("Good morning.", hold_after=hold_after, chunk_bytes=9600)
    something = asyncio.Event()
    listening = asyncio.create_task(listen())
    await held(server)
    while len(came) < hold_after - 1:
        something.clear()
        await something.wait()
    await cancelled(listening)
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert turn.interrupted
    assert turn.text == "".join(e.text for e in came if isinstance(e, TranscriptDelta))
    sound = b"".join(e.data for e in came if isinstance(e, AudioDelta))
    assert turn.audio is not None
    assert turn.audio.duration == (len(sound) / 48_000 or None)
    check_saved(chat, store)
    assert "0 of my earlier answers by voice and 1 from" in (await chat.say("And?")).text
    check_saved(chat, store)


@awaited
async def test_cancelled_stream_without_events_keeps_the_question(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A stream cancelled before its first event keeps the question and releases the lock."""
    chat = await opened()
    for hold_after in (0, 1):
        server.will_answer("Never heard.", hold_after=hold_after)
        entering = asyncio.create_task(chat.stream("Question").__aenter__())
        await held(server)
        await cancelled(entering)
    assert texts(chat) == ["Question", "Question"]
    check_saved(chat, store)
    async with chat.stream() as events:
        assert [type(event) async for event in events][-1] is TurnFinished


@awaited
async def test_cancelled_consumer_keeps_the_streamed_answer(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A consumer cancelled between two events keeps the words and sound streamed so far."""
    chat = await opened()
    plays = asyncio.Event()

    async def play() -> None:
        async with chat.stream("Question") as events:
            async for event in events:
                if isinstance(event, AudioDelta):
                    plays.set()
                    await asyncio.Event().wait()

    server.will_answer("Good morning.")
    playing = asyncio.create_task(play())
    await plays.wait()
    await cancelled(playing)
    assert isinstance(chat.turns[-1], AssistantTurn)
    assert chat.turns[-1].interrupted
    assert texts(chat) == ["Question", "Good morning."]
    check_saved(chat, store)
    await chat.truncate(0.1)
    assert (await chat.say("And?")).audio


class Lingering:
    """Client whose streams are slow to close."""

    def __init__(self, client: Any) -> None:
        self.chat = self.completions = self
        self._client = client
        self.closing = asyncio.Event()
        self.closes_at_once = False
        self.closed = 0

    async def create(self, **request: Any) -> Any:
        """Return an object that reads the stream as usual."""
        self._stream = await self._client.chat.completions.create(**request)
        return self

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        return await anext(self._stream)

    async def close(self) -> None:
        """Block, the first time."""
        await self._stream.close()
        self.closing.set()
        if not self.closes_at_once:
            self.closes_at_once = True
            await asyncio.Event().wait()
        self.closed += 1


@awaited
async def test_cancellation_while_a_stream_closes_keeps_the_answer(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A `say` cancelled while its finished stream closes keeps the whole answer."""
    client: Any = Lingering(server.async_client())
    chat = await opened(client=client)
    server.will_answer("Good morning.")
    saying = asyncio.create_task(chat.say("Question", stream=True))
    await client.closing.wait()
    await cancelled(saying)
    assert texts(chat) == ["Question", "Good morning."]
    assert client.closed == 1
    check_saved(chat, store)


@pytest.mark.parametrize("fault", ["left", "cut", "cancelled twice"])
@awaited
async def test_interrupted_stream_is_closed_although_saving_fails(
    server: StandIn, store: FileStore, disk: GatedDisk, opened: Opened, fault: str
) -> None:
    """An interrupted stream is closed although saving it fails or is cancelled."""
    client: Any = Lingering(server.async_client())
    client.closes_at_once = True
    chat = await opened(client=client)
    await chat.add_user("Question")
    server.will_answer("Good morning.", cut_after=3 if fault == "cut" else None)

    async def listen() -> None:
        async with chat.stream() as events:
            await anext(aiter(events))
            disk.fails = fault != "cancelled twice"
            disk.waits_at = None if disk.fails else "write"
            if fault == "cut":
                async for _ in events:
                    pass

    listening = asyncio.create_task(listen())
    if fault == "cancelled twice":
        assert await asyncio.to_thread(disk.reached.wait, PATIENCE)
        listening.cancel()
        await a_while()
        disk.gate.set()
    with pytest.raises((SaveFailed, asyncio.CancelledError)):
        await listening
    assert client.closed == 1
    check_saved(chat, store)


@pytest.mark.parametrize(
    ("model", "path"), [(True, "/chat/completions"), ("tts-1", "/audio/speech")]
)
@awaited
async def test_cancelled_speech_keeps_the_words(
    server: StandIn, store: FileStore, opened: Opened, model: Any, path: str
) -> None:
    """An answer whose speech request is cancelled is kept as text."""
    chat = await opened(speak_when_dropped=model)

    async def stream() -> None:
        async with chat.stream("Question") as events:
            async for _ in events:
                pass

    for exchange in (chat.say("Question"), stream()):
        server.will_answer("Only words.", spoken=False)
        server.will_stream([], hold_after=0)
        task = asyncio.create_task(exchange)
        await held(server)
        assert server.requests[-1].path == f"/v1{path}"
        await cancelled(task)
        turn = chat.turns[-1]
        assert isinstance(turn, AssistantTurn)
        assert (turn.text, turn.audio, turn.voice_dropped) == ("Only words.", None, True)
        check_saved(chat, store)
    assert len(chat.turns) == 4
    assert (await chat.say("And?")).audio


@awaited
async def test_cancelled_tool_leaves_a_valid_chat(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A `say` cancelled in a tool keeps the tool call, and the next request is valid."""
    works = asyncio.Event()

    async def work() -> None:
        """Work without end."""
        works.set()
        await asyncio.Event().wait()

    chat = await opened(tools=[work])
    server.will_answer(tool_calls=[("work", {})])
    task = asyncio.create_task(chat.say("Question"))
    await works.wait()
    await cancelled(task)
    assert [turn.role for turn in chat.turns] == ["user", "assistant"]
    check_saved(chat, store)
    assert (await chat.say("And?")).audio
    check_saved(chat, store)


@awaited
async def test_cancelled_transcription_keeps_earlier_transcripts(
    server: StandIn, store: FileStore, opened: Opened
) -> None:
    """A cancelled `transcribe` keeps the transcripts so far, and later asks for the rest."""
    chat = await opened()
    for _ in range(2):
        await chat.add_user(AudioInput(SOUND))
    server.will_send({"text": "first"})
    server.will_stream([], hold_after=0)
    task = asyncio.create_task(chat.transcribe())
    await held(server)
    await cancelled(task)
    assert texts(chat) == ["first", ""]
    check_saved(chat, store)
    server.will_transcribe("second")
    assert [turn.text for turn in await chat.transcribe()] == ["second"]


# --- changes from inside an exchange -----------------------------------------------------------


@awaited
async def test_tool_cannot_change_its_own_conversation(server: StandIn, opened: Opened) -> None:
    """A tool cannot change its conversation, not even from a task, a thread or another loop."""
    loop = asyncio.get_running_loop()

    async def directly() -> str:
        """Change the conversation."""
        return await refused(chat.add_user("Two"))

    async def in_a_task() -> str:
        """Change the conversation in a task."""
        return await asyncio.create_task(refused(chat.set_title("Two")))

    async def gathered() -> list[str]:
        """Change the conversation in two tasks at once."""
        return [*await asyncio.gather(refused(chat.say("Two")), refused(chat.undo()))]

    def in_a_thread() -> str:
        """Change the conversation in the loop, from a thread."""
        change = refused(chat.add_user("Two"))
        return asyncio.run_coroutine_threadsafe(change, loop).result(PATIENCE)

    def in_a_loop_of_its_own() -> str:
        """Change the conversation in a loop of the thread."""
        return asyncio.run(refused(chat.add_user("Two")))

    def unguarded() -> None:
        """Change the conversation without catching the error."""
        asyncio.run(chat.add_user("Two"))

    tools = [directly, in_a_task, gathered, in_a_thread, in_a_loop_of_its_own, unguarded]
    chat = await opened(tools=tools)
    server.will_answer(tool_calls=[(tool.__name__, {}) for tool in tools])
    await chat.say("One")
    assert [turn.text for turn in chat.turns[2:-1]] == [
        *("busy", "busy", '["busy","busy"]', "busy", "busy"),
        BUSY,
    ]
    await chat.add_user("Two")


BUSY = (
    "Error: ConversationBusy: this code was called by an exchange of the conversation (as a tool, "
    "or while consuming a stream) and cannot change it; change it after the exchange"
)


async def refused(change: Coroutine[Any, Any, Any]) -> str:
    """Check that the change raises `ConversationBusy`, and return `"busy"`."""
    with pytest.raises(ConversationBusy):
        await change
    return "busy"


@awaited
async def test_consumer_cannot_change_the_conversation_of_its_stream(
    server: StandIn, opened: Opened
) -> None:
    """A stream's consumer, and tasks that it starts, cannot change the stream's conversation."""
    chat, other = await opened(), AsyncConversation(client=server.async_client())
    is_over = asyncio.Event()

    async def later() -> None:
        await is_over.wait()
        await chat.add_user("later")

    async with chat.stream("One") as events:
        async for event in events:
            if isinstance(event, TurnFinished):
                await refused(chat.add_user("Two"))
                await asyncio.create_task(refused(chat.add_user("Two")))
                await asyncio.gather(*(refused(chat.say("Two")) for _ in range(3)))
                await asyncio.to_thread(asyncio.run, refused(chat.add_user("Two")))
                await refused(chat.stream("Two").__aenter__())
                await asyncio.create_task(other.say("Two"))
                started = asyncio.create_task(later())
    assert len(chat.turns) == 2
    is_over.set()
    await started
    await chat.add_user("and now")
    assert texts(chat)[2:] == ["later", "and now"]
    assert len(other.turns) == 2


@awaited
async def test_task_started_in_a_stream_waits_for_later_exchanges(
    server: StandIn, opened: Opened
) -> None:
    """A task started inside a stream waits for later exchanges like any other task."""
    chat = await opened()
    is_over = asyncio.Event()

    async def later() -> None:
        await is_over.wait()
        await chat.add_user("later")

    async with chat.stream("One"):
        started = asyncio.create_task(later())
    server.will_answer("Held.", hold_after=0)
    saying = asyncio.create_task(chat.say("Two"))
    await held(server)
    is_over.set()
    await a_while()
    assert not started.done()
    server.go_on()
    await asyncio.gather(saying, started)
    assert texts(chat)[-3:] == ["Two", "Held.", "later"]


@awaited
async def test_sync_tool_does_not_block_the_loop(server: StandIn, opened: Opened) -> None:
    """A synchronous tool runs in a thread and does not block the loop."""
    begun, goes_on = threading.Event(), threading.Event()

    def slow() -> str:
        """Block until told to go on."""
        begun.set()
        return "done" if goes_on.wait(PATIENCE) else "blocked"

    chat = await opened(tools=[slow])
    server.will_answer(tool_calls=[("slow", {})])
    async with chat.stream("One") as events:
        arriving = aiter(events)
        assert isinstance(await anext(arriving), TurnFinished)
        result = asyncio.ensure_future(anext(arriving))
        assert await asyncio.to_thread(begun.wait, PATIENCE)
        assert (await AsyncConversation(client=server.async_client()).say("Hi")).audio
        goes_on.set()
        called = await result
    assert isinstance(called, ToolCalled)
    assert called.result == "done"


@awaited
async def test_tools_may_be_async(server: StandIn) -> None:
    """`AsyncConversation` awaits async tools and awaitable results, `Conversation` refuses them."""

    async def one() -> str:
        """One."""
        await asyncio.sleep(0)
        return "one"

    class Two:
        async def __call__(self) -> str:
            """Two."""
            return "two"

    def three() -> Coroutine[Any, Any, str]:
        """Three."""
        return one()

    tools: list[Callable[..., Any]] = [one, Two(), three, functools.partial(one)]
    for tool in (tools[0], tools[1], tools[3]):
        with pytest.raises(InvalidSetting, match="is async; give it to AsyncConversation"):
            Conversation(tools=[tool])
        with pytest.raises(InvalidSetting, match="is async; give it to AsyncConversation"):
            Conversation().request(tools=[tool])
    chat = AsyncConversation(client=server.async_client(), tools=tools[:3])
    server.will_answer(tool_calls=[("one", {}), ("Two", {}), ("three", {})])
    await chat.say("Count")
    assert texts(chat)[2:5] == ["one", "two", "one"]
    server.will_answer(tool_calls=[("one", {})])
    await chat.say("Count", tools=tools[3:])
    assert texts(chat)[-2] == "one"


# --- own streams, opening, clients -------------------------------------------------------------


@awaited
async def test_add_completion_accepts_async_streams(server: StandIn) -> None:
    """`add_completion` accepts async streams, and a failing one changes nothing."""
    client = server.async_client()
    chat = AsyncConversation(client=client)
    await chat.add_user("One")
    stream = await client.chat.completions.create(**await chat.request(stream=True))
    turn = await chat.add_completion(stream)
    assert turn.audio is not None
    assert turn.text.startswith("You wrote: One")

    async def chunks(error: Exception | None = None) -> AsyncIterator[dict[str, Any]]:
        yield {"choices": [{"index": 0, "delta": {"content": "by "}}]}
        await asyncio.sleep(0)
        yield {"choices": [{"index": 0, "delta": {"content": "hand"}, "finish_reason": "stop"}]}
        if error:
            raise error

    assert (await chat.add_completion(chunks())).text == "by hand"
    before = chat.turns
    with pytest.raises(LookupError):
        await chat.add_completion(chunks(LookupError()))
    with pytest.raises(InvalidCompletion):
        await chat.add_completion(client)
    assert chat.turns == before


@awaited
async def test_open_can_be_awaited_or_entered(
    server: StandIn, store: FileStore, clock: Clock
) -> None:
    """`AsyncConversation.open` can be awaited or entered, and leaving the block closes it."""
    options: Any = {"store": store, "client": server.async_client(), "clock": clock}
    async with AsyncConversation.open("s", **options) as chat:
        await chat.say("One")
    with pytest.raises(PermissionError, match="closed"):
        await chat.say("Two")
    again = await AsyncConversation.open("s", **options)
    assert again.turns == chat.turns
    async with again:
        await again.say("Two")
    with pytest.raises(LookupError):
        async with AsyncConversation.open("s", **options) as third:
            raise LookupError
    with pytest.raises(PermissionError, match="closed"):
        await third.say("Three")
    with pytest.raises(SessionNotFound):
        await AsyncConversation.open("none", create=False, **options)
    with pytest.raises(SessionNotFound):
        async with AsyncConversation.open("none", read_only=True, **options):
            pytest.fail("it is not there")
    assert [info.id for info in store.list()] == ["s"]


def test_default_client_is_one_per_event_loop(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    """Each event loop has one default client, which is closed with the loop."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    made: list[openai.AsyncOpenAI] = []
    init = openai.AsyncOpenAI.__init__

    def noted(self: openai.AsyncOpenAI, *args: Any, **kwargs: Any) -> None:
        made.append(self)
        init(self, *args, **kwargs)

    monkeypatch.setattr(openai.AsyncOpenAI, "__init__", noted)

    async def main() -> None:
        chats = [AsyncConversation(clock=clock) for _ in range(3)]
        await asyncio.gather(*(chat.say("Hi") for chat in chats))
        async with chats[0].stream("And?") as events:
            assert [type(event) async for event in events][-1] is TurnFinished
        assert not made[-1].is_closed()

    for count in (1, 2, 3):
        asyncio.run(main())
        assert [client.is_closed() for client in made] == [True] * count


@awaited
async def test_client_may_be_any_object_with_create() -> None:
    """Any object with `chat.completions.create` can be the client."""

    class Client:
        def __init__(self) -> None:
            self.chat = self.completions = self

        async def create(self, *, stream: bool = False, **_: Any) -> Any:
            return chunks() if stream else answer(content="by hand")

    async def chunks() -> AsyncIterator[Any]:
        yield {"choices": [{"index": 0, "delta": {"content": "in "}}]}
        yield {"choices": [{"index": 0, "delta": {"content": "pieces"}, "finish_reason": "stop"}]}

    own: Any = Client()
    chat = AsyncConversation(client=own)
    assert (await chat.say("One")).text == "by hand"
    async with chat.stream("Two") as events:
        async for _ in events:
            pass
    assert texts(chat)[-1] == "in pieces"


# --- exceptions of tools -----------------------------------------------------------------------


def test_stop_iteration_in_a_tool_becomes_its_result() -> None:
    """StopIteration raised by a tool becomes its result, and the exchange goes on."""

    def first_match(name: str) -> str:
        return next(found for found in [""] if found == name)

    async def main() -> None:
        with StandIn() as server:
            chat = AsyncConversation(client=server.async_client(), tools=[first_match])
            server.will_answer(tool_calls=[("first_match", {"name": "a"})])
            await chat.say("Hi")
            assert "StopIteration" in chat.turns[2].text
            assert len(chat.turns) == 4

    asyncio.run(main())


def test_cancelled_error_in_a_tool_becomes_its_result() -> None:
    """CancelledError raised by a tool becomes its result, and the exchange goes on."""

    async def hopeless() -> str:
        task = asyncio.ensure_future(asyncio.Event().wait())
        task.cancel()
        await task
        return ""

    async def main() -> None:
        with StandIn() as server:
            chat = AsyncConversation(client=server.async_client(), tools=[hopeless])
            server.will_answer(tool_calls=[("hopeless", {})])
            await chat.say("Hi")
            assert "the tool was cancelled" in chat.turns[2].text

    asyncio.run(main())


@awaited
async def test_slow_jobs_of_the_program_do_not_delay_a_change(opened: Opened) -> None:
    """Disk work has threads of its own: jobs in the program's default executor do not delay it."""
    chat, done = await opened(), threading.Event()
    loop = asyncio.get_running_loop()
    slow = [loop.run_in_executor(None, done.wait, PATIENCE) for _ in range(100)]
    await chat.add_user("At once")
    assert not done.is_set()
    done.set()
    await asyncio.gather(*slow)
    assert texts(chat) == ["At once"]
