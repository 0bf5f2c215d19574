"""Where the SDK is awaited: its clients, the driver of an exchange, and worker threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import inspect
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from conversation import _client
from conversation._events import Event
from conversation._exchange import (
    END,
    NOT_KEPT,
    Call,
    Close,
    Finished,
    Left,
    Open,
    Receive,
    Send,
    Speak,
    Step,
    Steps,
    Transcribe,
    Work,
)
from conversation._history import History
from conversation._inputs import Part
from conversation._talk import Talk
from conversation._tools import Tool, called
from conversation._turns import Turn
from conversation.errors import SaveFailed, SessionError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger("conversation")

_R = TypeVar("_R")


class AsyncStream:
    """Same as `Stream`, with `async with` and `async for`."""

    def __init__(
        self,
        talk: Talk,
        client: AsyncOpenAI | None,
        content: tuple[Part, ...],
        options: Mapping[str, Any],
    ) -> None:
        self._talk = talk
        self._given = client
        self._content = content
        self._options = options
        self._next: Event | Finished | None = None
        self._is_new = True
        self._is_read = False

    async def __aenter__(self) -> Self:
        if self._next is not None:
            raise RuntimeError(_client.ONCE)
        self._client = await client_or_default(self._given)
        question = self._talk.question(self._content)
        await _enter(self._talk.history, question)
        try:
            self._exchange = self._talk.exchange(question, self._options, streams=True)
            self._next = await advance(self._exchange, self._client)
        except BaseException:
            self._talk.history.hold.release()
            raise
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        if self._next is None:
            raise RuntimeError(_client.ENTER_FIRST)
        if self._is_read:
            raise RuntimeError(_client.ONE_READER)
        if not self._is_new and not isinstance(self._next, Finished):
            self._is_read = True
            try:
                await self._advance()
            finally:
                self._is_read = False
        self._is_new = False
        if isinstance(self._next, Finished):
            raise StopAsyncIteration
        return self._next

    async def _advance(self, error: BaseException | None = None) -> None:
        try:
            self._next = await advance(self._exchange, self._client, error)
        except BaseException:
            self._next = Finished(None)
            raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(self._next, Finished):
                with contextlib.suppress(Left):
                    await self._advance(Left())
        except SessionError as failure:
            if error is None or isinstance(error, Exception):
                raise
            error.add_note(NOT_KEPT.format(failure))  # Ctrl-C, a cancellation
        finally:
            self._talk.history.hold.release()


@contextlib.asynccontextmanager
async def held(history: History, turn: Turn | None = None) -> AsyncIterator[None]:
    """Same as `with history`."""
    await _enter(history, turn)
    try:
        yield
    finally:
        history.hold.release()


async def _enter(history: History, turn: Turn | None = None) -> None:
    """Same as `History.enter`: waits for others on the event loop, for the disk in a thread."""
    try:
        with contextlib.closing(history.hold.waits()) as pauses:
            for pause in pauses:
                await asyncio.sleep(pause)
    except SaveFailed as error:
        error.turn = turn
        raise
    try:
        await in_thread(partial(history.take_in_news, turn))
    except BaseException:
        history.hold.release()
        raise


async def in_thread(job: Callable[[], _R]) -> _R:
    """What the job gives, in a worker thread; awaited to its end, then a cancellation goes on."""
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(None, context.run, _contained, job)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError as cancelled:
        while not future.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        failure = None if future.cancelled() else future.exception()
        if failure is not None:
            log.warning("a task was cancelled while this failed: %s", failure)
            cancelled.add_note(f"meanwhile this failed: {failure!r}; see __cause__")
            raise cancelled from failure
        raise


async def advance(
    exchange: Steps[Any], client: AsyncOpenAI, error: BaseException | None = None
) -> Event | Finished:
    """Same as `_client.advance`, awaited."""
    outcome = None
    while True:
        try:
            step = exchange.throw(error) if error is not None else exchange.send(outcome)
            if isinstance(step, Event):
                return step
            outcome, error = None, None
            outcome = await _perform(step, client)
        except BaseException as raised:
            if (
                inspect.getgeneratorstate(exchange) != inspect.GEN_CLOSED
            ):  # it goes on, and decides what becomes of this
                error = raised
            elif isinstance(raised, StopIteration):
                return Finished(raised.value)
            else:
                raise


async def _perform(step: Step, client: AsyncOpenAI) -> Any:
    match step:
        case Receive(stream):
            return await anext(stream, END)
        case Work(job):
            return await in_thread(job)
        case Send(request):
            return await client.chat.completions.create(**request)
        case Open(request):
            stream = await client.chat.completions.create(**request)
            return stream if hasattr(stream, "__anext__") else aiter(stream)
        case Close(stream):
            with contextlib.suppress(Exception):
                await stream.close()
        case Call(tool, arguments):
            return await _called(tool, arguments)
        case Speak(request):
            return (await client.audio.speech.create(**request)).content
        case Transcribe(request):
            return (await client.audio.transcriptions.create(**request)).text
    return None


def _contained(job: Callable[[], _R]) -> _R:
    try:
        return job()
    except StopIteration as error:  # which a future does not take
        raise RuntimeError(repr(error)) from error


@functools.lru_cache(maxsize=1)
def _tool_threads(_process: int) -> ThreadPoolExecutor:
    # Slow tools would keep disk work from its own.
    return ThreadPoolExecutor(64, "conversation-tool")


async def _called(tool: Tool, arguments: Mapping[str, Any]) -> Any:
    """What the function returns; it is awaited here, or runs in a worker thread."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    try:
        if tool.is_async:
            returned = called(tool, arguments)
        else:
            job = partial(contextvars.copy_context().run, called, tool, arguments)
            threads = _tool_threads(os.getpid())
            returned = await asyncio.get_running_loop().run_in_executor(threads, job)
        return await returned if inspect.isawaitable(returned) else returned
    except asyncio.CancelledError as error:
        if task and task.cancelling() > before:
            raise
        msg = "the tool was cancelled"  # by itself, and nobody else is
        raise RuntimeError(msg) from error


_clients: dict[asyncio.AbstractEventLoop, tuple[AsyncOpenAI, AsyncIterator[AsyncOpenAI]]] = {}


async def client_or_default(client: AsyncOpenAI | None) -> AsyncOpenAI:
    """The client given, or this event loop's own, which is made when first needed."""
    if client is not None:
        return client
    loop = asyncio.get_running_loop()
    if loop not in _clients:
        for closed in [other for other in _clients if other.is_closed()]:
            del _clients[closed]  # it was closed without shutting down its generators
        # Connections belong to the loop that opened them.
        keeper = _loops_client(loop)
        _clients[loop] = (await anext(keeper), keeper)
    return _clients[loop][0]


async def _loops_client(loop: asyncio.AbstractEventLoop) -> AsyncIterator[AsyncOpenAI]:
    """A client that is closed when its loop shuts down, as all its async generators are."""
    client = _client.default_of("AsyncOpenAI")
    try:
        yield client
    finally:
        _clients.pop(loop, None)
        await client.close()
