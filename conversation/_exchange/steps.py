"""The steps of an exchange: what a driver performs, and what it sends back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

import attrs

from conversation._tools import Tool
from conversation._values.events import Event

_T = TypeVar("_T")


class Arrival:
    """A place for an answer, where an exception right behind its arrival does not lose it."""

    def __init__(self) -> None:
        self.answer: Any = None


@attrs.frozen
class Send:
    """Call `chat.completions.create`; the completion is put into `arrival` and sent back."""

    request: Mapping[str, Any]
    arrival: Arrival = attrs.field(factory=Arrival)


class Open(NamedTuple):
    """Call `chat.completions.create` with `stream=True`; an iterator is sent back."""

    request: Mapping[str, Any]


class Receive(NamedTuple):
    """Take the stream's next chunk; it is sent back, `END` after the last one."""

    stream: Any


END: Final = object()
"""Sentinel: the stream is exhausted."""


class Close(NamedTuple):
    """Close the stream."""

    stream: Any


class Work(NamedTuple):
    """Call a function that may wait for a disk or take its time; its result is sent back.

    Attributes:
        job: The function.
        writes: True if it must run to its end once begun, whatever signals or cancellations come.
    """

    job: Callable[[], Any]
    writes: bool = True


class Call(NamedTuple):
    """Call a tool of the user; its result is sent back."""

    tool: Tool
    arguments: Mapping[str, Any]


class Speak(NamedTuple):
    """Call `audio.speech.create`; the sound's bytes are sent back."""

    request: Mapping[str, Any]


class Transcribe(NamedTuple):
    """Call `audio.transcriptions.create`; the words are sent back."""

    request: Mapping[str, Any]


class Wait(NamedTuple):
    """Sleep before the next attempt to acquire a lock that another one holds."""

    seconds: float


class Over:
    """No event follows; the stream's consumer still holds the conversation."""


Step: TypeAlias = Send | Open | Receive | Close | Work | Call | Speak | Transcribe | Wait | Over
Steps: TypeAlias = Generator[Step | Event, Any, _T]
"""Steps to be performed, and between them events for the consumer of a stream."""


def work(job: Callable[[], _T], *, writes: bool = False) -> Steps[_T]:
    """Call a function as the only step."""
    result: _T = yield Work(job, writes)
    return result


class Left(BaseException):
    """Thrown into an exchange whose consumer has left, with the error of that, or None."""
