"""Completions as server-sent events, in several orders, optionally interrupted (CONTRACT §2)."""

from __future__ import annotations

import base64
import enum
import itertools
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs
import orjson

from conversation.testing._refusals import server_error

Order = Literal["recorded", "mixed", "finish first", "no finish", "no expiry"]
"""Order of the parts of a stream; `StandIn.will_answer` describes each."""

CHUNK_BYTES = 19_200
"""Bytes of PCM in a chunk: 0.4 seconds."""

DONE = b"data: [DONE]\n\n"


class Control(enum.Enum):
    """An action between two pieces of a body."""

    HOLD = enum.auto()
    CUT = enum.auto()


@attrs.frozen
class Interruptions:
    """Numbers of events after which a stream is interrupted; None for never.

    Attributes:
        hold_after: Events before the stream is held.
        cut_after: Events before the connection is cut.
        fail_after: Events before the stream ends with an error.
    """

    hold_after: int | None = None
    cut_after: int | None = None
    fail_after: int | None = None

    def apply(self, events: Iterable[bytes]) -> Iterator[bytes | Control]:
        """Yield the events with the controls between them."""
        for sent, event in enumerate(itertools.chain(events, (b"",))):
            if sent == self.hold_after:
                yield Control.HOLD
            if sent == self.cut_after:
                yield Control.CUT
                return
            if sent == self.fail_after:
                yield event_of(server_error().body)
                return
            if event:
                yield event


def event_of(chunk: Mapping[str, Any]) -> bytes:
    """Return the server-sent event of a chunk."""
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def events(
    completion: Mapping[str, Any], order: Order, chunk_bytes: int, options: Mapping[str, Any]
) -> Iterator[bytes]:
    """Yield the server-sent events of a completion, `[DONE]` included.

    Args:
        completion: The answer.
        order: Order of the parts.
        chunk_bytes: Bytes of sound in each chunk.
        options: The request's `stream_options`.
    """
    names = ("id", "created", "model", "service_tier", "system_fingerprint")
    head = {key: completion[key] for key in names}
    head["object"] = "chat.completion.chunk"
    with_usage = options.get("include_usage")
    padded = options.get("include_obfuscation") is not False
    if with_usage:
        head["usage"] = None
    for choice in completion["choices"]:
        for delta, finish_reason in _deltas(choice, order, chunk_bytes):
            fields = {"delta": delta, "logprobs": None, "finish_reason": finish_reason}
            chunk = {**head, "choices": [{"index": choice["index"], **fields}]}
            yield event_of(_padded(chunk) if padded else chunk)
    if with_usage:
        chunk = {**head, "choices": [], "usage": completion["usage"]}
        yield event_of(_padded(chunk) if padded else chunk)
    yield DONE


def _padded(chunk: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chunk with random characters that hide its length."""
    length = 4 + secrets.randbelow(12)
    return {**chunk, "obfuscation": secrets.token_urlsafe(length)[:length]}


def _deltas(
    choice: Mapping[str, Any], order: Order, chunk_bytes: int
) -> Iterator[tuple[dict[str, Any], str | None]]:
    """Yield the deltas of a choice, each with its `finish_reason`."""
    message = choice["message"]
    audio = message.get("audio")
    deltas = _text_deltas(message)
    if audio:
        sound = base64.b64decode(audio["data"])
        pieces = [sound[at : at + chunk_bytes] for at in range(0, len(sound), chunk_bytes)]
        data = [{"data": base64.b64encode(piece).decode()} for piece in pieces]
        audio_deltas = _mixed_deltas if order == "mixed" else _recorded_deltas
        deltas = itertools.chain(deltas, audio_deltas(audio, data))
    for delta in deltas:
        yield delta, None
    expiry = {"audio": {"expires_at": audio["expires_at"]}} if audio else None
    if expiry and order not in ("finish first", "no expiry"):
        yield expiry, None
    if order != "no finish":
        yield {}, choice["finish_reason"]
    if expiry and order == "finish first":
        yield expiry, None


def _text_deltas(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    calls = message.get("tool_calls", ())
    legacy = message.get("function_call")
    if message["content"] is not None:
        yield {"role": "assistant", "content": "", "refusal": None}
    elif calls:
        yield {"role": "assistant", "content": None}
    elif legacy:
        call = {"name": legacy["name"], "arguments": ""}
        yield {"role": "assistant", "content": None, "function_call": call, "refusal": None}
        for start in range(0, len(legacy["arguments"]), 8):
            yield {"function_call": {"arguments": legacy["arguments"][start : start + 8]}}
    else:
        yield {"role": "assistant", "refusal": None}
    for piece in words(message["content"] or ""):
        yield {"content": piece}
    if message["refusal"]:
        yield {"refusal": message["refusal"]}
    for index, call in enumerate(calls):
        kind = call["type"]
        field = "arguments" if kind == "function" else "input"
        name, arguments = call[kind]["name"], call[kind][field]
        yield {"tool_calls": [{**call, "index": index, kind: {"name": name, field: ""}}]}
        for start in range(0, len(arguments), 8):
            part = {field: arguments[start : start + 8]}
            yield {"tool_calls": [{"index": index, kind: part}]}


def _recorded_deltas(
    audio: Mapping[str, Any], data: Iterable[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    first, *more = words(audio["transcript"]) or [""]
    yield {"content": None, "audio": {"id": audio["id"], "transcript": first}}
    for word in more:
        yield {"audio": {"transcript": word}}
    head = {"role": "assistant", "content": None, "refusal": None}
    for position, piece in enumerate(data):
        yield {"audio": piece} if position else {**head, "audio": {"id": audio["id"], **piece}}


def _mixed_deltas(
    audio: Mapping[str, Any], data: Iterable[dict[str, str]]
) -> Iterator[dict[str, Any]]:
    ids = [{"id": audio["id"]}]
    spoken = ({"transcript": word} for word in words(audio["transcript"]))
    empty: dict[str, str] = {}
    for audio_id, word, piece in itertools.zip_longest(ids, spoken, data, fillvalue=empty):
        yield {"audio": {**audio_id, **word, **piece}}


def words(text: str) -> list[str]:
    """Return the words of a text, each with the space before it."""
    return re.findall(r"\s*\S+|\s+$", text)
