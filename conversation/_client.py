"""The SDK's client and the driver that performs the steps of an exchange."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

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
from conversation._tools import called
from conversation._values.events import Event
from conversation.errors import InvalidSetting

if TYPE_CHECKING:
    from openai import OpenAI

_T = TypeVar("_T")

# What `signal` wraps: without its conversions to enums, which take as long as a small write.
_signal: Any = importlib.import_module("_signal")


def client_or_default(client: OpenAI | None) -> OpenAI:
    """Return the client given, or the one of this process, which is made when first needed."""
    return client if client is not None else _default_client(os.getpid())


@functools.lru_cache(maxsize=1)
def _default_client(_process: int) -> OpenAI:
    client: OpenAI = default_of("OpenAI")
    return client


def default_of(kind: str) -> Any:
    """Return a new client of this class, set up by the environment."""
    import openai

    try:
        return getattr(openai, kind)()
    except openai.OpenAIError as error:
        error.add_note(
            f"set OPENAI_API_KEY, or pass client={kind}(api_key=…); to try without a key, pass a "
            "client of conversation.testing.StandIn; nothing was changed"
        )
        raise


def run(steps: Steps[_T], client: OpenAI | None = None) -> _T:
    """Perform the steps one by one, and return their result; they decide what becomes of errors."""
    outcome: Any = None
    error: BaseException | None = None
    try:
        while True:
            try:
                step = steps.send(outcome) if error is None else steps.throw(error)
                outcome = error = None
                outcome = _perform(step, client)
            except BaseException as raised:
                if inspect.getgeneratorstate(steps) != inspect.GEN_CLOSED:
                    error = raised  # the steps decide
                elif isinstance(raised, StopIteration):
                    result: _T = raised.value
                    return result
                else:
                    raise
    finally:
        del error  # whose traceback has this frame
        steps.close()


def _perform(step: Step | Event, client: Any) -> Any:  # noqa: C901  # a case a step
    match step:
        case Receive(stream):
            return next(stream, END)
        case Work(job, writes):
            return _uninterrupted(job) if writes else job()
        case Wait(seconds):
            time.sleep(seconds)
        case Send(request, arrival):
            arrival.answer = client.chat.completions.create(**request)
            return arrival.answer
        case Open(request):
            stream = client.chat.completions.create(**request)
            return stream if hasattr(stream, "__next__") else iter(stream)
        case Close(stream):
            with contextlib.suppress(Exception):
                stream.close()
        case Call(tool, arguments):
            returned = called(tool, arguments)
            if inspect.iscoroutine(returned):
                returned.close()
                msg = f"the tool {tool.name!r} is async; give it to AsyncConversation"
                raise InvalidSetting(msg)
            return returned
        case Speak(request):
            return client.audio.speech.create(**request).content
        case Transcribe(request):
            return client.audio.transcriptions.create(**request).text
    return None


class _Deferring:
    """A handler of Ctrl-C that waits for the end of a job; harmless where it is left behind."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self.handler = handler
        self.waiting: list[tuple[int, FrameType | None]] = []
        self.is_over = False

    def __call__(self, *caught: Any) -> None:
        if self.is_over:
            self.handler(*caught)
        else:
            self.waiting.append(caught)


def _uninterrupted(job: Callable[[], Any]) -> Any:
    """Call a function, and defer Ctrl-C to its end, as far as Python handles it."""
    handler = _signal.getsignal(_signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        return job()
    if isinstance(handler, _Deferring) and handler.is_over:
        handler = handler.handler
    deferring = _Deferring(handler)
    try:
        _signal.signal(_signal.SIGINT, deferring)
        return job()
    finally:
        deferring.is_over = True
        _signal.signal(_signal.SIGINT, handler)
        if deferring.waiting:
            handler(*deferring.waiting[0])


class Hold(BaseStream, Generic[_T]):
    """A conversation that is locked for a `with` block, as `Conversation.hold` returns it.

    Args:
        steps: Returns what is done when the block is entered and left.
        entered: What the block gets.
    """

    def __init__(self, steps: Callable[[], Steps[Any]], entered: _T) -> None:
        super().__init__(steps)
        self._entered = entered
        self._client: OpenAI | None = None

    def __enter__(self) -> _T:
        try:
            run(self._entering(), self._client)
        except BaseException:
            self._abandon()
            raise
        return self._entered

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        try:
            run(self._leaving(error), self._client)
        finally:
            self._abandon()


class Stream(Hold[Any]):
    """The events of one exchange, as `Conversation.stream` returns them.

    Iterate over it once, inside of a `with` block.
    """

    def __init__(self, exchange: Callable[[], Steps[Any]], client: OpenAI | None) -> None:
        super().__init__(exchange, None)
        self._client = client

    def __enter__(self) -> Self:
        self._client = client_or_default(self._client)
        super().__enter__()
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = run(self._reading(), self._client)
        if event is None:
            raise StopIteration
        return event
