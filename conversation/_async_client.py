"""The SDK's async clients, the driver that awaits the steps of an exchange, and worker threads."""

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
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from conversation._client import default_of
from conversation._exchange.steps import (
    END,
    Call,
    Close,
    Open,
    Receive,
    Send,
    Speak,
    Step,
    Steps,
    Transcribe,
    Wait,
    Work,
)
from conversation._exchange.stream import BaseStream
from conversation._tools import Tool, called
from conversation._values.events import Event

if TYPE_CHECKING:
    from openai import AsyncOpenAI

log = logging.getLogger("conversation")

_R = TypeVar("_R")


class AsyncHold(BaseStream, Generic[_R]):
    """Same as `Hold`, with `async with`."""

    def __init__(self, steps: Callable[[], Steps[Any]], entered: _R) -> None:
        super().__init__(steps)
        self._entered = entered
        self._client: AsyncOpenAI | None = None

    async def __aenter__(self) -> _R:
        try:
            await run(self._entering(), self._client)
        except BaseException:
            self._abandon()
            raise
        return self._entered

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            await run(self._leaving(error), self._client)
        finally:
            self._abandon()


class AsyncStream(AsyncHold[Any]):
    """Same as `Stream`, with `async with` and `async for`."""

    def __init__(self, exchange: Callable[[], Steps[Any]], client: AsyncOpenAI | None) -> None:
        super().__init__(exchange, None)
        self._client = client

    async def __aenter__(self) -> Self:
        self._client = await client_or_default(self._client)
        await super().__aenter__()
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        event = await run(self._reading(), self._client)
        if event is None:
            raise StopAsyncIteration
        return event


async def in_thread(job: Callable[[], _R]) -> _R:
    """Return the job's result from a worker thread; a cancellation goes on after the job's end."""
    context = contextvars.copy_context()
    threads = _disk_threads(os.getpid())
    try:
        future = asyncio.get_running_loop().run_in_executor(threads, context.run, _contained, job)
    except RuntimeError:  # the interpreter ends, and starts no thread any more
        return context.run(_contained, job)
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
    finally:
        del future  # whose error's traceback has this frame


async def run(steps: Steps[_R], client: AsyncOpenAI | None = None) -> _R:
    """Same as `_client.run`, awaited."""
    outcome: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(outcome) if error is None else steps.throw(error)
                outcome = error = None
                outcome = await _perform(step, client)
            except BaseException as raised:
                if inspect.getgeneratorstate(steps) != inspect.GEN_CLOSED:
                    error = raised  # the steps decide
                elif isinstance(raised, StopIteration):
                    result: _R = raised.value
                    return result
                else:
                    raise
    finally:
        del error  # whose traceback has this frame
        steps.close()


async def _perform(step: Step | Event, client: Any) -> Any:
    match step:
        case Receive(stream):
            return await anext(stream, END)
        case Work(job):
            return await in_thread(job)
        case Wait(seconds):
            await asyncio.sleep(seconds)
        case Send(request, arrival):
            arrival.answer = await client.chat.completions.create(**request)
            return arrival.answer
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
def _disk_threads(_process: int) -> ThreadPoolExecutor:
    # Not the program's own, where slow jobs would keep a lock waiting.
    return ThreadPoolExecutor(16, "conversation-disk")


@functools.lru_cache(maxsize=1)
def _tool_threads(_process: int) -> ThreadPoolExecutor:
    # Slow tools would keep disk work from its own.
    return ThreadPoolExecutor(64, "conversation-tool")


async def _called(tool: Tool, arguments: Mapping[str, Any]) -> Any:
    """Return the result of a function, which is awaited here or runs in a worker thread."""
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
    """Return the client given, or the one of this event loop, which is made when first needed."""
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
    """Yield a client, and close it when its loop shuts down, as all its async generators are."""
    client = default_of("AsyncOpenAI")
    try:
        yield client
    finally:
        _clients.pop(loop, None)
        await client.close()
