"""The steps of an exchange, each performed by a driver."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import attrs

from conversation import _tools
from conversation._values.events import Event

_T = TypeVar("_T")


@attrs.frozen
class Send:
    """`chat.completions.create`: the completion is sent back."""

    request: Mapping[str, Any]


@attrs.frozen
class Open:
    """`chat.completions.create` with `stream=True`: an iterator is sent back."""

    request: Mapping[str, Any]


@attrs.frozen
class Receive:
    """The stream's next chunk; `END` at its end."""

    stream: Any


END: Final = object()
"""What no stream brings."""


@attrs.frozen
class Close:
    """The stream is not read any more."""

    stream: Any


@attrs.frozen
class Work:
    """A call that may wait for the disk. Once begun, it is never broken off."""

    job: Callable[[], Any]


@attrs.frozen
class Call:
    """A call of a user's function."""

    tool: _tools.Tool
    arguments: Mapping[str, Any]


@attrs.frozen
class Speak:
    """`audio.speech.create`: the sound's bytes are sent back."""

    request: Mapping[str, Any]


@attrs.frozen
class Transcribe:
    """`audio.transcriptions.create`: the words are sent back."""

    request: Mapping[str, Any]


@attrs.frozen
class Wait:
    """Somebody else holds the conversation: sleep, then look again."""

    seconds: float


@attrs.frozen
class Over:
    """No event follows, and the stream is still to be left."""


Step: TypeAlias = Send | Open | Receive | Close | Work | Call | Speak | Transcribe | Wait | Over
Steps: TypeAlias = Generator[Step | Event, Any, _T]


def work(job: Callable[[], _T]) -> Steps[_T]:
    """A job as the only step."""
    result: _T = yield Work(job)
    return result


class Left(BaseException):
    """Thrown into an exchange whose events nobody wants any more."""
