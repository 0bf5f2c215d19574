"""Recorded answers and small values for many tests."""

from __future__ import annotations

import base64
from typing import Any

import orjson

from conversation import AudioInput
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_turn

START = 1_762_000_000.0
"""Unix time at which the clocks start: 2025-11-01 12:26:40 UTC."""

SOUND = AudioInput.from_pcm(b"\1\0" * 2400, 24_000).read()
"""A WAV file of 0.1 s."""

MP3 = (b"\xff\xf3\x84\xc4" + bytes(188)) * 50
"""1.2 s of silence."""

PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)

RECORDED_USAGE = {
    "prompt_tokens": 64,
    "completion_tokens": 200,
    "total_tokens": 264,
    "prompt_tokens_details": {
        "cached_tokens": 0,
        "audio_tokens": 38,
        "text_tokens": 26,
        "image_tokens": 0,
    },
    "completion_tokens_details": {
        "reasoning_tokens": 0,
        "audio_tokens": 159,
        "text_tokens": 41,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}

RECORDED_ID = "audio_690691a2f0248191be5a199d7a49968b"


def recorded() -> dict[str, Any]:
    """Return a real response: pcm16, cut at max_tokens 200."""
    return {
        "id": "chatcmpl-CXEu0000000000000000000000000",
        "object": "chat.completion",
        "created": 1762038177,
        "model": "gpt-4o-audio-preview-2025-06-03",
        "choices": [
            {
                "index": 0,
                "finish_reason": "length",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "refusal": None,
                    "annotations": [],
                    "audio": {
                        "id": RECORDED_ID,
                        "data": base64.b64encode(b"\1\0" * 24_000).decode(),
                        "expires_at": 1762041778,
                        "transcript": "…casual greeting",
                    },
                },
            }
        ],
        "usage": RECORDED_USAGE,
        "service_tier": "default",
        "system_fingerprint": "fp_363417d4a6",
    }


def answer(**message: Any) -> dict[str, Any]:
    """Return a minimal completion with this message."""
    return {
        "object": "chat.completion",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
        ],
    }


def spoken(
    transcript: str = "Good morning.",
    *,
    audio_id: str = "audio_" + "6" * 32,
    expires_at: float | None = 1_762_003_600,
) -> dict[str, Any]:
    """Return a completion with sound."""
    data = base64.b64encode(SOUND).decode()
    audio = {"id": audio_id, "data": data, "expires_at": expires_at, "transcript": transcript}
    return answer(content=None, audio=audio)


def chunk(delta: dict[str, Any] | None = None, index: int = 0, **fields: Any) -> dict[str, Any]:
    """Return one chunk of a stream, as a JSON object."""
    finish_reason = fields.pop("finish_reason", None)
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish_reason}
    head = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": int(START),
        "model": "m",
    }
    return {**head, "choices": [choice], **fields}


def piece(data: bytes) -> str:
    """Return the base64 of one chunk's sound."""
    return base64.b64encode(data).decode()


def tool_call(call_id: str, name: str = "look_up", arguments: str = "{}") -> dict[str, Any]:
    """Return a tool call in the API's form."""
    body = {"name": name, "arguments": arguments}
    return {"id": call_id, "type": "function", "function": body}


def entry_from_turn(turn: Turn) -> dict[str, Any]:
    """Return the JSON object that saves a turn."""
    return dict(orjson.loads(line_from_turn(turn)))
