"""Where the SDK is called: its clients, and the driver of an exchange without `await`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

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
from conversation._inputs import Part
from conversation._talk import Talk
from conversation._tools import called
from conversation.errors import InvalidSetting, SessionError

if TYPE_CHECKING:
    from openai import OpenAI

_T = TypeVar("_T")

ENTER_FIRST = "a stream's events come inside of its block: with chat.stream(…) as events: …"
ONE_READER = "another thread or task is waiting for the next event of this stream already"
ONCE = "a stream is entered once; call chat.stream(…) for another"


def check(client: object, kind: str) -> None:
    """Refuse one kind of the SDK's clients where the other is needed.

    Args:
        client: Any object that behaves like one, or None.
        kind: `"OpenAI"` or `"AsyncOpenAI"`.
    """
    names = {base.__name__ for base in type(client).__mro__}
    if names & ({"OpenAI", "AsyncOpenAI"} - {kind}):
        msg = f"client is an openai.{kind} here, not {type(client).__name__}"
        raise InvalidSetting(msg)


def client_or_default(client: OpenAI | None) -> OpenAI:
    """The client given, or this process's own, which is made when first needed."""
    return client if client is not None else _default_client(os.getpid())


@functools.lru_cache(maxsize=1)
def _default_client(_process: int) -> OpenAI:
    client: OpenAI = default_of("OpenAI")
    return client


def default_of(kind: str) -> Any:
    """A new client of this kind, set up by the environment."""
    import openai

    try:
        return getattr(openai, kind)()
    except openai.OpenAIError as error:
        error.add_note(
            f"set OPENAI_API_KEY, or pass client={kind}(api_key=…); to try without a key, pass a "
            "client of conversation.testing.StandIn; nothing was changed"
        )
        raise


def run(exchange: Steps[_T], client: OpenAI) -> _T:
    """Drive an exchange to its end; what happens on the way is told to nobody."""
    while True:
        event = advance(exchange, client)
        if isinstance(event, Finished):
            answer: _T = event.value
            return answer


def advance(
    exchange: Steps[Any], client: OpenAI, error: BaseException | None = None
) -> Event | Finished:
    """Drive an exchange to its next event.

    Args:
        exchange: It decides what becomes of errors.
        client: Where requests go.
        error: What happened in the consumer of the last event.
    """
    outcome = None
    while True:
        try:
            step = exchange.throw(error) if error is not None else exchange.send(outcome)
            if isinstance(step, Event):
                return step
            outcome, error = None, None
            outcome = _perform(step, client)
        except BaseException as raised:
            if (
                inspect.getgeneratorstate(exchange) != inspect.GEN_CLOSED
            ):  # it goes on, and decides what becomes of this
                error = raised
            elif isinstance(raised, StopIteration):
                return Finished(raised.value)
            else:
                raise


def _perform(step: Step, client: OpenAI) -> Any:
    match step:
        case Receive(stream):
            return next(stream, END)
        case Work(job):
            with _unbroken():
                return job()
        case Send(request):
            return client.chat.completions.create(**request)
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


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Ctrl-C waits for the end of what is in here, as far as Python handles it."""
    handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(handler):
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda *caught: waiting.append(caught))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            handler(*waiting[0])


class Stream:
    """The events of one exchange; what `Conversation.stream` gives.

    Iterate over it, once, inside of a `with` block.
    """

    def __init__(
        self,
        talk: Talk,
        client: OpenAI | None,
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

    def __enter__(self) -> Self:
        if self._next is not None:
            raise RuntimeError(ONCE)
        self._client = client_or_default(self._given)
        question = self._talk.question(self._content)
        self._talk.history.enter(question)
        try:
            self._exchange = self._talk.exchange(question, self._options, streams=True)
            self._next = advance(self._exchange, self._client)
        except BaseException:
            self._talk.history.__exit__()
            raise
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        if self._next is None:
            raise RuntimeError(ENTER_FIRST)
        if self._is_read:
            raise RuntimeError(ONE_READER)
        if not self._is_new and not isinstance(self._next, Finished):
            self._is_read = True
            try:
                self._advance()
            finally:
                self._is_read = False
        self._is_new = False
        if isinstance(self._next, Finished):
            raise StopIteration
        return self._next

    def _advance(self, error: BaseException | None = None) -> None:
        try:
            self._next = advance(self._exchange, self._client, error)
        except BaseException:
            self._next = Finished(None)
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if not isinstance(self._next, Finished):
                with contextlib.suppress(Left):
                    self._advance(Left())
        except SessionError as failure:
            if error is None or isinstance(error, Exception):
                raise
            error.add_note(NOT_KEPT.format(failure))  # Ctrl-C, a cancellation
        finally:
            self._talk.history.__exit__()
