"""Answers of the stand-in: text that describes the request, its sound, and the usage."""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import attrs
import orjson

from conversation._values.sound import duration_of
from conversation.testing import _forced, _streams, _voice
from conversation.testing._refusals import Refused

_VERBATIM = re.compile(
    r"\s*repeat\b[^:.]*\bverbatim\b(?:[^:]*:)?\s*(.*)", re.IGNORECASE | re.DOTALL
)


@attrs.frozen
class Answer:
    """A scripted answer.

    Attributes:
        text: Text; None for the default one.
        spoken: False to answer in text although audio was requested.
        tool_calls: Pairs of a tool's name and its arguments, of a custom tool its text.
        refusal: Text of the refusal.
        finish_reason: None for the one that fits.
        order: Order of the parts of the stream.
        chunk_bytes: Bytes of sound in each chunk of the stream.
        interruptions: Events after which the answer is held, cut or failed.
    """

    text: str | None = None
    spoken: bool = True
    tool_calls: tuple[tuple[str, Mapping[str, Any] | str], ...] = ()
    refusal: str | None = None
    finish_reason: str | None = None
    order: _streams.Order = "recorded"
    chunk_bytes: int = _streams.CHUNK_BYTES
    interruptions: _streams.Interruptions = attrs.field(factory=_streams.Interruptions)


@attrs.frozen
class IssuedAudio:
    """A spoken answer, as remembered under its audio id.

    Attributes:
        transcript: Transcript.
        tokens: Audio tokens, 20 per second.
        expires_at: Unix time in seconds.
    """

    transcript: str
    tokens: int
    expires_at: float


def scripted_answer(
    *,
    text: str | None = None,
    spoken: bool = True,
    tool_calls: Sequence[tuple[str, Mapping[str, Any] | str]] = (),
    refusal: str | None = None,
    finish_reason: str | None = None,
    order: _streams.Order = "recorded",
    chunk_bytes: int = _streams.CHUNK_BYTES,
    hold_after: int | None = None,
    cut_after: int | None = None,
    fail_after: int | None = None,
) -> Answer:
    """Return the answer with the arguments of `StandIn.will_answer`.

    Raises:
        ValueError: if an argument has a wrong type or value, or cannot be sent as JSON.
    """
    for name, words in (("text", text), ("refusal", refusal), ("finish_reason", finish_reason)):
        _require(words is None or isinstance(words, str), f"{name} must be a string", words)
    _require(isinstance(spoken, bool), "spoken must be true or false", spoken)
    orders = get_args(_streams.Order)
    _require(order in orders, f"order must be one of {', '.join(map(repr, orders))}", order)
    _require(_is_count(chunk_bytes, 1), "chunk_bytes must be >= 1", chunk_bytes)
    counts = {"hold_after": hold_after, "cut_after": cut_after, "fail_after": fail_after}
    for name, count in counts.items():
        _require(count is None or _is_count(count, 0), f"{name} must be >= 0", count)
    _require(isinstance(tool_calls, list | tuple), "tool_calls must be a list", tool_calls)
    for call in tool_calls:
        match call:
            case [str(), Mapping() | str()] if not isinstance(call, str):
                continue
        _require(False, "a tool call must be a pair ('name', {arguments})", call)
    calls = tuple(
        (name, body if isinstance(body, str) else dict(body)) for name, body in tool_calls
    )
    check_json("the answer", [text, refusal, finish_reason, calls])
    interruptions = _streams.Interruptions(**counts)
    return Answer(text, spoken, calls, refusal, finish_reason, order, chunk_bytes, interruptions)


def scripted_failure(
    status: int,
    message: str = "The server had an error while processing your request.",
    *,
    code: str | None = None,
    param: str | None = None,
) -> Refused:
    """Return the error with the arguments of `StandIn.will_fail`.

    Raises:
        ValueError: as `scripted_answer`.
    """
    is_failure = _is_count(status, 400) and status <= 599
    _require(is_failure, "the status of an error must be from 400 to 599", status)
    for name, words in (("message", message), ("code", code), ("param", param)):
        is_known = isinstance(words, str) or (words is None and name != "message")
        _require(is_known, f"{name} must be a string", words)
    check_json("the error", [message, code, param])
    return Refused(message, param, code, status)


def check_json(what: str, value: Any) -> None:
    """Raise `ValueError` for a value that cannot be sent, such as text with half a character."""
    try:
        orjson.dumps(value)
    except TypeError as error:
        msg = f"{what} cannot be sent as JSON ({error}); lone surrogates are no text, for example"
        raise ValueError(msg) from error


def _require(condition: bool, rule: str, value: Any) -> None:
    if not condition:
        raise ValueError(f"{rule}, got {value!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def default_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return text that describes the last message and how earlier answers were sent.

    A request to repeat words verbatim is answered with them.
    """
    if words := _to_repeat(messages):
        return words
    earlier = [message for message in messages if message["role"] == "assistant"]
    voices = sum(1 for message in earlier if message.get("audio"))
    transcripts = sum(
        1 for message in earlier if not message.get("audio") and message.get("content")
    )
    return (
        f"{_reaction(messages)} I recall {voices} of my earlier answers by voice and {transcripts} "
        "from transcripts."
    )


def _to_repeat(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return the words behind "repeat … verbatim:", or the last ones where the system says so."""
    words = _text(messages[-1].get("content"))
    system = " ".join(_text(m.get("content")) for m in messages if m["role"] == "system")
    asked = _VERBATIM.match(words)
    return asked[1] if asked else words if _VERBATIM.search(system) else ""


def _reaction(messages: Sequence[Mapping[str, Any]]) -> str:
    last = messages[-1]
    if last["role"] in ("tool", "function"):
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
    """Return the durations in seconds of all sound in the messages."""
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
    answer: Answer,
    request: Mapping[str, Any],
    now: float,
    lifetime: float,
    *,
    old_wav_head: bool = False,
) -> tuple[dict[str, Any], str, IssuedAudio | None]:
    """Return the message of an answer, its finish reason, and the audio it issues."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None,
        "refusal": answer.refusal,
        "annotations": [],
    }
    calls = [
        ("custom", name, body)
        if isinstance(body, str)
        else ("function", name, orjson.dumps(body).decode())
        for name, body in answer.tool_calls
    ]
    is_default = answer.text is None and not calls and answer.refusal is None
    forced = _forced.forced_call(request) if is_default else None
    if forced and forced[0] == "function_call":
        message["function_call"] = {"name": forced[1], "arguments": forced[2]}
    elif forced:
        calls.append(forced)
    if calls:
        message["tool_calls"] = [
            {"id": f"call_{secrets.token_hex(12)}", "type": kind, kind: {"name": name, field: body}}
            for kind, name, body in calls
            for field in ("arguments" if kind == "function" else "input",)
        ]
    issued = None
    text = answer.text
    if is_default and not forced:
        text = _forced.formatted(default_text(request["messages"]), request)
    if text is not None:
        if answer.spoken and "audio" in (request.get("modalities") or ()):
            issued = IssuedAudio(text, _voice.spoken_tokens(text), int(now) + lifetime)
            sound = _voice.spoken(text, request["audio"]["format"], old_wav_head=old_wav_head)
            message["audio"] = {
                # The first eight digits are the Unix time (CONTRACT §1).
                "id": f"audio_{int(now) & 0xFFFFFFFF:08x}{secrets.token_hex(12)}",
                "data": base64.b64encode(sound).decode(),
                "expires_at": int(issued.expires_at),
                "transcript": text,
            }
        else:
            message["content"] = text
    reason = "tool_calls" if calls else "function_call" if "function_call" in message else "stop"
    return message, answer.finish_reason or reason, issued


def usage(
    messages: Sequence[Mapping[str, Any]],
    answers: Sequence[Mapping[str, Any]],
    issued: Mapping[str, IssuedAudio],
) -> dict[str, Any]:
    """Return the usage of a request and its answers (CONTRACT §4)."""
    # Rounded first: the duration of an MP3 is a sum of frames, and 8.4 s comes as 8.39999….
    prompt_audio = sum(int(round(10 * seconds, 6)) for seconds in sound_seconds(messages))
    prompt_text = sum(4 + _tokens(_text(message.get("content"))) for message in messages)
    for message in messages:
        if message["role"] == "assistant" and message.get("audio"):
            earlier = issued[message["audio"]["id"]]
            prompt_audio += earlier.tokens
            prompt_text += _tokens(earlier.transcript)
    audio = sum(_voice.spoken_tokens(a["audio"]["transcript"]) for a in answers if a.get("audio"))
    text = sum(_tokens(_text_of_answer(answer)) for answer in answers)
    return {
        "prompt_tokens": prompt_audio + prompt_text,
        "completion_tokens": audio + text,
        "total_tokens": prompt_audio + prompt_text + audio + text,
        "prompt_tokens_details": {
            "cached_tokens": 0,
            "audio_tokens": prompt_audio,
            "text_tokens": prompt_text,
            "image_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": audio,
            "text_tokens": text,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _text_of_answer(message: Mapping[str, Any]) -> str:
    spoken = (message.get("audio") or {}).get("transcript", "")
    calls = orjson.dumps(message.get("tool_calls") or message.get("function_call") or "").decode()
    return f"{message['content'] or ''}{spoken}{calls}"


def _tokens(text: str) -> int:
    return (len(text.encode()) + 3) // 4
