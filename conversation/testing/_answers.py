"""What the stand-in answers: words that say what it was sent, their sound, and the bill."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from conversation._values.sound import duration_of
from conversation.testing import _streams, _voice


@attrs.frozen
class Answer:
    """A scripted answer.

    Attributes:
        text: The words; None for what the stand-in says by itself.
        spoken: False: it answers in text although sound was asked for.
        tool_calls: Pairs of a tool's name and its arguments.
        refusal: It would not answer, and why.
        finish_reason: None: what fits.
        order: How it streams.
        chunk_bytes: Bytes of sound in each chunk of a stream.
        course: What becomes of it on its way.
    """

    text: str | None = None
    spoken: bool = True
    tool_calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    order: _streams.Order = "recorded"
    chunk_bytes: int = _streams.CHUNK_BYTES
    course: _streams.Course = _streams.STRAIGHT


@attrs.frozen
class Spoken:
    """A spoken answer that the server still remembers.

    Attributes:
        transcript: Its words.
        tokens: Its audio tokens, 20 a second.
        expires_at: Unix time in seconds at which it is forgotten.
    """

    transcript: str
    tokens: int
    expires_at: float


def own_words(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the stand-in says by itself: what of its earlier answers it was sent, and how."""
    earlier = [message for message in messages if message["role"] == "assistant"]
    voices = sum(1 for message in earlier if message.get("audio"))
    transcripts = sum(
        1 for message in earlier if not message.get("audio") and message.get("content")
    )
    return (
        f"{_heard(messages)} I recall {voices} of my earlier answers by voice and {transcripts} "
        "from transcripts."
    )


def _heard(messages: Sequence[Mapping[str, Any]]) -> str:
    last = messages[-1]
    if last["role"] == "tool":
        return f"The tool says {_text(last.get('content'))}."
    seconds = sum(sound_seconds(messages[-1:]))
    words = _text(last.get("content"))
    heard = f"I heard {seconds:.1f} seconds of sound." if seconds else ""
    read = f"You wrote: {words}" if words else ""
    return f"{heard} {read}".strip() or "I have nothing to answer."


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def sound_seconds(messages: Sequence[Mapping[str, Any]]) -> list[float]:
    """The lengths, in seconds, of all sound in the messages."""
    sounds = [
        part["input_audio"]
        for message in messages
        if isinstance(message.get("content"), list)
        for part in message["content"]
        if part["type"] == "input_audio"
    ]
    return [
        duration_of(base64.b64decode(sound["data"]), sound["format"]) or 0.0 for sound in sounds
    ]


def message_and_reason(
    answer: Answer, request: Mapping[str, Any], now: float, lifetime: float
) -> tuple[dict[str, Any], str, Spoken | None]:
    """The message of an answer, why it ended, and what the server remembers of it."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.tool_calls:
        message["tool_calls"] = [
            {
                "id": f"call_{secrets.token_hex(12)}",
                "type": "function",
                "function": {"name": name, "arguments": orjson.dumps(arguments).decode()},
            }
            for name, arguments in answer.tool_calls
        ]
    memory = None
    wordless = answer.text is None and (answer.tool_calls or answer.refusal is not None)
    if not wordless:
        text = own_words(request["messages"]) if answer.text is None else answer.text
        if answer.spoken and "audio" in (request.get("modalities") or ()):
            memory = Spoken(text, _voice.spoken_tokens(text), int(now) + lifetime)
            message["audio"] = {
                # The first eight digits are the time, as in the real ids.
                "id": f"audio_{int(now) & 0xFFFFFFFF:08x}{secrets.token_hex(12)}",
                "data": base64.b64encode(_voice.spoken(text, request["audio"]["format"])).decode(),
                "expires_at": int(memory.expires_at),
                "transcript": text,
            }
        else:
            message["content"] = text
    reason = answer.finish_reason or ("tool_calls" if answer.tool_calls else "stop")
    return message, reason, memory


def usage(
    messages: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    remembered: Mapping[str, Spoken],
) -> dict[str, Any]:
    """What it costs: user sound 10 tokens a second, spoken answers 20 and their words."""
    # Rounded first: an MP3's length is a sum of frames, and 8.4 s comes as 8.39999….
    heard = sum(int(round(10 * seconds, 6)) for seconds in sound_seconds(messages))
    read = sum(4 + _tokens(_text(message.get("content"))) for message in messages)
    for message in messages:
        if message.get("audio"):
            earlier = remembered[message["audio"]["id"]]
            heard += earlier.tokens
            read += _tokens(earlier.transcript)
    said = sum(_voice.spoken_tokens(a["audio"]["transcript"]) for a in answers if a.get("audio"))
    wrote = sum(_tokens(_words(answer)) for answer in answers)
    return {
        "prompt_tokens": heard + read,
        "completion_tokens": said + wrote,
        "total_tokens": heard + read + said + wrote,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "audio_tokens": heard,
            "text_tokens": read,
            "image_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": said,
            "text_tokens": wrote,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _words(message: Mapping[str, Any]) -> str:
    spoken = (message.get("audio") or {}).get("transcript", "")
    calls = orjson.dumps(message.get("tool_calls") or "").decode()
    return f"{message['content'] or ''}{spoken}{calls}"


def _tokens(text: str) -> int:
    return (len(text.encode()) + 3) // 4
