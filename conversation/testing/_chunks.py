"""A completion as the chunks of a stream, in the order that was recorded."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

PIECE = 19_200
"""Bytes of PCM in a chunk, as recorded: 0.4 seconds."""


def events(completion: Mapping[str, Any], *, with_usage: bool) -> Iterator[bytes]:
    """The server-sent events that stream the completion, `[DONE]` included."""
    head = {key: completion[key] for key in ("id", "created", "model", "system_fingerprint")}
    head["object"] = "chat.completion.chunk"
    for choice in completion["choices"]:
        for delta in _deltas(choice["message"]):
            yield _event({**head, "choices": [_choice(choice["index"], delta, None)]}, with_usage)
        last = _choice(choice["index"], {}, choice["finish_reason"])
        yield _event({**head, "choices": [last]}, with_usage)
    if with_usage:
        yield _data({**head, "choices": [], "usage": completion["usage"]})
    yield b"data: [DONE]\n\n"


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
    if audio := message.get("audio"):
        yield from _audio_deltas(audio)


def _audio_deltas(audio: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    first, *more = _words(audio["transcript"]) or [""]
    yield {"content": None, "audio": {"id": audio["id"], "transcript": first}}
    for piece in more:
        yield {"audio": {"transcript": piece}}
    sound = base64.b64decode(audio["data"])
    pieces = [sound[start : start + PIECE] for start in range(0, len(sound), PIECE)]
    for position, part in enumerate(pieces):
        data = {"data": base64.b64encode(part).decode()}
        if position:
            yield {"audio": data}
        else:
            again = {"role": "assistant", "content": None, "refusal": None}
            yield {**again, "audio": {"id": audio["id"], **data}}
    yield {"audio": {"expires_at": audio["expires_at"]}}


def _words(text: str) -> list[str]:
    return re.findall(r"\s*\S+|\s+$", text)


def _choice(index: int, delta: Mapping[str, Any], finish_reason: str | None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _event(chunk: dict[str, Any], with_usage: bool) -> bytes:
    return _data({**chunk, "usage": None} if with_usage else chunk)


def _data(chunk: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"
