"""A completion as the chunks of a stream, in several orders, and what becomes of a stream."""

from __future__ import annotations

import base64
import enum
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs
import orjson

from conversation.testing._refusals import server_error

Order = Literal["recorded", "mixed", "finish first", "no finish", "no expiry"]
"""How a stream tells what it has to tell; `StandIn.will_answer` describes each."""

CHUNK_BYTES = 19_200
"""Bytes of PCM in a chunk, as recorded: 0.4 seconds."""

DONE = b"data: [DONE]\n\n"


class Mark(enum.Enum):
    """What is done between two pieces of a body."""

    HOLD = enum.auto()
    CUT = enum.auto()


@attrs.frozen
class Course:
    """What becomes of a stream.

    Attributes:
        hold_after: Events after which it waits.
        cut_after: Events after which the connection is cut.
        fail_after: Events after which it ends with an error.
    """

    hold_after: int | None = None
    cut_after: int | None = None
    fail_after: int | None = None

    def of(self, events: Iterable[bytes]) -> Iterator[bytes | Mark]:
        """The events, and what is done between them."""
        for sent, event in enumerate(itertools.chain(events, (b"",))):
            if sent == self.hold_after:
                yield Mark.HOLD
            if sent == self.cut_after:
                yield Mark.CUT
                return
            if sent == self.fail_after:
                yield event_of(server_error().body)
                return
            if event:
                yield event


STRAIGHT = Course()
"""To the end, without a stop."""


def event_of(chunk: Mapping[str, Any]) -> bytes:
    """The server-sent event of a chunk."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def events(
    completion: Mapping[str, Any], order: Order, chunk_bytes: int, *, with_usage: bool
) -> Iterator[bytes]:
    """The server-sent events that stream the completion, `[DONE]` included."""
    head = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    if with_usage:
        head["usage"] = None
    for choice in completion["choices"]:
        for delta, finish_reason in _steps(choice, order, chunk_bytes):
            step = {"delta": delta, "logprobs": None, "finish_reason": finish_reason}
            yield event_of({**head, "choices": [{"index": choice["index"], **step}]})
    if with_usage:
        yield event_of({**head, "choices": [], "usage": completion["usage"]})
    yield DONE


def _steps(
    choice: Mapping[str, Any], order: Order, chunk_bytes: int
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """The deltas of a choice, each with its `finish_reason`."""
    message = choice["message"]
    audio = message.get("audio")
    deltas = _deltas(message)
    if audio:
        sound = base64.b64decode(audio["data"])
        pieces = [sound[at : at + chunk_bytes] for at in range(0, len(sound), chunk_bytes)]
        data = [{"data": base64.b64encode(piece).decode()} for piece in pieces]
        told = _mixed(audio, data) if order == "mixed" else _recorded(audio, data)
        deltas = itertools.chain(deltas, told)
    for delta in deltas:
        yield delta, None
    expiry = {"audio": {"expires_at": audio["expires_at"]}} if audio else None
    if expiry and order not in ("finish first", "no expiry"):
        yield expiry, None
    if order != "no finish":
        yield {}, choice["finish_reason"]
    if expiry and order == "finish first":
        yield expiry, None


def _deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "refusal": None}
    for piece in _words(message["content"] or ""):
        yield {"content": piece}
    if message["refusal"]:
        yield {"refusal": message["refusal"]}
    for index, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        function = {"name": call["function"]["name"], "arguments": ""}
        yield {"tool_calls": [{**call, "index": index, "function": function}]}
        for start in range(0, len(arguments), 8):
            function = {"arguments": arguments[start : start + 8]}
            yield {"tool_calls": [{"index": index, "function": function}]}


def _recorded(audio: Mapping[str, Any], data: Iterable[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """The words run ahead, and the first sound repeats the id and the role."""
    first, *more = _words(audio["transcript"]) or [""]
    yield {"content": None, "audio": {"id": audio["id"], "transcript": first}}
    for word in more:
        yield {"audio": {"transcript": word}}
    again = {"role": "assistant", "content": None, "refusal": None}
    for position, piece in enumerate(data):
        yield {"audio": piece} if position else {**again, "audio": {"id": audio["id"], **piece}}


def _mixed(audio: Mapping[str, Any], data: Iterable[dict[str, str]]) -> Iterator[dict[str, Any]]:
    """Words and sound side by side, in one delta."""
    words = ({"transcript": word} for word in _words(audio["transcript"]))
    told = {"id": audio["id"]}
    nothing: dict[str, str] = {}
    for word, piece in itertools.zip_longest(words, data, fillvalue=nothing):
        yield {"audio": {**told, **word, **piece}}
        told = nothing


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)
