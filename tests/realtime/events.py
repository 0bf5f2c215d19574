"""Events of a Realtime session as the server sends them, for tests without a connection."""

from __future__ import annotations

import base64
import itertools
from typing import Any

Event = dict[str, Any]

WORDS = "Good morning to you"
SECOND = b"\1\0" * 24_000

_numbers = itertools.count()


def event(kind: str, **fields: Any) -> Event:
    """Return an event of the server."""
    return {"type": kind, "event_id": f"event_{next(_numbers)}", **fields}


def text64(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()


def appended(data: bytes) -> Event:
    """Return the client's event with sound of the user."""
    return {"type": "input_audio_buffer.append", "audio": text64(data)}


def session(kind: str = "created", **fields: Any) -> Event:
    """Return the description of a session."""
    described = {"type": "realtime", "model": "gpt-realtime-2", "output_modalities": ["audio"]}
    return event(f"session.{kind}", session=described | fields)


def said(item_id: str, *content: Event, previous: str | None = None) -> Event:
    """Return the event of a user's item; without content it was spoken."""
    item = {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": "completed",
        "role": "user",
        "content": list(content) or [{"type": "input_audio", "transcript": None}],
    }
    return event("conversation.item.added", previous_item_id=previous, item=item)


def text(words: str) -> Event:
    """Return a part of text of the user."""
    return {"type": "input_text", "text": words}


def transcribed(item_id: str, words: str) -> Event:
    """Return the event with the words of what a user said."""
    return event(
        "conversation.item.input_audio_transcription.completed",
        item_id=item_id,
        content_index=0,
        transcript=words,
        usage={"type": "duration", "seconds": 1},
    )


def partly(item_id: str, piece: str) -> Event:
    """Return the event with a piece of the words of what a user said."""
    kind = "conversation.item.input_audio_transcription.delta"
    return event(kind, item_id=item_id, content_index=0, delta=piece)


def committed(item_id: str) -> Event:
    """Return the event of sound that became an item."""
    return event("input_audio_buffer.committed", item_id=item_id, previous_item_id=None)


def spoke(item_id: str, start: int, end: int) -> list[Event]:
    """Return the events of speech that the server heard, up to its item."""
    return [
        event("input_audio_buffer.speech_started", item_id=item_id, audio_start_ms=start),
        event("input_audio_buffer.speech_stopped", item_id=item_id, audio_end_ms=end),
        committed(item_id),
        said(item_id),
    ]


USAGE: Event = {
    "total_tokens": 110,
    "input_tokens": 60,
    "output_tokens": 50,
    "input_token_details": {
        "text_tokens": 20,
        "audio_tokens": 40,
        "cached_tokens": 8,
        "cached_tokens_details": {"text_tokens": 8, "audio_tokens": 0},
    },
    "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
}


def begun(response_id: str, **fields: Any) -> Event:
    """Return the first event of a response."""
    response = {
        "id": response_id,
        "object": "realtime.response",
        "status": "in_progress",
        "conversation_id": "conv_1",
        "output": [],
    }
    return event("response.created", response=response | fields)


def done(response_id: str, *output: Event, status: str = "completed", **fields: Any) -> Event:
    """Return the last event of a response."""
    response = {
        "id": response_id,
        "object": "realtime.response",
        "status": status,
        "conversation_id": "conv_1",
        "output": list(output),
        "usage": USAGE,
    }
    return event("response.done", response=response | fields)


def message(item_id: str, *content: Event, status: str = "completed") -> Event:
    """Return an item of the model."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": list(content),
    }


def call(item_id: str, call_id: str, name: str = "look", arguments: str = "{}") -> Event:
    """Return an item of a tool call."""
    return {
        "id": item_id,
        "object": "realtime.item",
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }


def opened(response_id: str, item: Event) -> list[Event]:
    """Return the events by which an item of a response begins."""
    empty = item | {"status": "in_progress", "content": []}
    return [
        event("response.output_item.added", response_id=response_id, output_index=0, item=empty),
        event("conversation.item.added", previous_item_id=None, item=empty),
    ]


def delta(kind: str, response_id: str, item_id: str, piece: str) -> Event:
    """Return a piece of an answer: of `output_audio`, its transcript, or text."""
    return event(
        f"response.{kind}.delta",
        response_id=response_id,
        item_id=item_id,
        output_index=0,
        content_index=0,
        delta=piece,
    )


def streamed(
    response_id: str,
    item_id: str,
    words: str = WORDS,
    sound: bytes = SECOND,
) -> list[Event]:
    """Return a spoken answer up to its last piece, without its end."""
    pieces = [sound[at : at + 4801] for at in range(0, len(sound), 4801)]
    return [
        begun(response_id),
        *opened(response_id, message(item_id)),
        *[
            delta("output_audio_transcript", response_id, item_id, word)
            for word in words.replace(" ", "\0 ").split("\0")
        ],
        *[delta("output_audio", response_id, item_id, text64(piece)) for piece in pieces],
    ]


def answered(
    response_id: str,
    item_id: str,
    words: str = WORDS,
    sound: bytes = SECOND,
) -> list[Event]:
    """Return a whole spoken answer."""
    whole = message(item_id, {"type": "output_audio", "transcript": words})
    item_done = event("conversation.item.done", previous_item_id=None, item=whole)
    return [*streamed(response_id, item_id, words, sound), item_done, done(response_id, whole)]
