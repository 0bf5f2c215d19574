"""Turns from the entries of a saved conversation, and from the API's messages.

A saved entry is the message that the server sent (or would be sent), whole, with `model`,
`finish_reason`, `usage`, `at` and the like beside it; so the same functions read both. Known fields
are taken out of a copy of the entry as they are read; what remains is the turn's `extra`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from conversation._values.data import Data, NotKept, Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.sound import FORMATS
from conversation._values.text import kind_of
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Turn,
    UserTurn,
    is_message_id,
)
from conversation._values.unchecked import unchecked
from conversation._wire.fields import (
    MOST_SECONDS,
    OBJECT,
    copied,
    joined_text,
    leave,
    required_object,
    take_number,
    take_required,
    take_text,
    take_time,
    take_true,
)
from conversation._wire.messages import bytes_from_base64
from conversation._wire.strict_json import json_text
from conversation._wire.usage import take_usage
from conversation.errors import InvalidTurn

log = logging.getLogger("conversation")

TOKENS_PER_SECOND = 20
"""Audio tokens of a spoken answer, as the API counts them."""

Fetch = Callable[[str], Stored]
"""Maps the name in an entry to the data that is kept under it."""

_OWN = (
    "at",
    "duration",
    "file",
    "interrupted",
    "lost",
    "lost_files",
    "refused_by",
    "voice_dropped",
)

_user_turn = unchecked(UserTurn)
_assistant_turn = unchecked(AssistantTurn)
_assistant_audio = unchecked(AssistantAudio)


def turn_from_entry(entry: object, *, fetch: Fetch | None = None) -> Turn:
    """Return the turn in a saved entry, or in a message as the API sends it.

    Fields of an unexpected type count as not given, and are kept in `extra`.

    Args:
        entry: The JSON object.
        fetch: Finds the data that an entry names. Without it, names are dropped.

    Raises:
        InvalidTurn: if it is not a message of a known kind.
    """
    role = role_of(entry)
    assert isinstance(entry, OBJECT)  # noqa: S101  # `role_of` raises otherwise
    if role == "assistant":
        return assistant_turn(entry, fetch=fetch)
    rest = dict(entry)
    del rest["role"]
    at = take_time(rest)
    _drop_own(rest, fetch)
    if role == "user":
        text = take_text(rest, "content")
        content = _take_parts(rest, fetch) if text is None else (text,)
        name, is_delivered = take_text(rest, "name"), is_message_id(rest.get("message_id"))
        message_id = take_text(rest, "message_id") if is_delivered else None
        return _user_turn(
            content=content, name=name, message_id=message_id, at=at, extra=_extra(rest)
        )
    text = joined_text(rest.pop("content", None)) or ""
    if role == "tool":
        call_id = take_required(rest, "tool_call_id")
        return ToolTurn(call_id, text, at=at, extra=_extra(rest))
    return SystemTurn(text, role, at=at, extra=_extra(rest))


def without_own(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message from outside without the keys by which only saved entries say something."""
    left = _others(message)
    if isinstance(audio := left.get("audio"), OBJECT):
        left["audio"] = _others(audio)
    if isinstance(content := left.get("content"), list | tuple):
        left["content"] = [
            {key: _others(v) if isinstance(v, OBJECT) else v for key, v in part.items()}
            if isinstance(part, OBJECT)
            else part
            for part in content
        ]
    return left


def _others(given: Mapping[str, Any]) -> dict[str, Any]:
    return {key: given[key] for key in given if key not in _OWN}


def role_of(entry: object) -> str:
    """Return the role that an entry names.

    Raises:
        InvalidTurn: if it is not a known role, or the entry is not an object.
    """
    if not isinstance(entry, OBJECT):
        msg = f"a turn must be a JSON object, got {type(entry).__name__}"
        raise InvalidTurn(msg)
    role = entry.get("role")
    if role not in ("user", "assistant", "tool", "system", "developer"):
        msg = f"role must be user, assistant, tool, system or developer, got {kind_of(role)}"
        raise InvalidTurn(msg)
    return str(role)


def names_in(entry: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of stored data in a saved entry, which is not decoded."""
    content = entry.get("content")
    parts = filter(None, map(copied, content if isinstance(content, list) else ()))
    for body in (entry.get("audio"), *(part.get(str(part.get("type"))) for part in parts)):
        if isinstance(body, dict) and isinstance(name := body.get("file"), str):
            yield name


def assistant_turn(
    entry: Mapping[str, Any],
    *,
    sound_format: str | None = None,
    fetch: Fetch | None = None,
    asked_to_speak: bool | None = None,
) -> AssistantTurn:
    """Same as `turn_from_entry`, for an entry that is known to be the assistant's.

    Args:
        entry: The JSON object.
        sound_format: The format of an answer whose bytes do not tell it.
        fetch: Finds the data that the entry names.
        asked_to_speak: For a new answer, True if sound was asked for. `voice_dropped`, and a
            duration that only a decoder could measure, are then derived from the answer.
    """
    rest = dict(entry)
    rest.pop("role", None)
    given = rest.pop("content", None)
    content = joined_text(given)
    if content is None and given is not None:
        rest["content"] = given
    usage = take_usage(rest)
    is_new = asked_to_speak is not None
    seconds = usage.completion_audio_tokens / TOKENS_PER_SECOND if usage and is_new else 0
    audio = _take_audio(rest, sound_format, fetch, seconds)
    calls = _take_calls(rest)
    voice_dropped = take_true(rest, "voice_dropped")
    if is_new:
        voice_dropped = bool(asked_to_speak and content) and audio is None and not calls
    interrupted = take_true(rest, "interrupted")
    at = take_time(rest)
    _drop_own(rest, fetch)
    return _assistant_turn(
        content=content,
        audio=audio,
        tool_calls=calls,
        refusal=take_text(rest, "refusal"),
        usage=usage,
        model=take_text(rest, "model"),
        finish_reason=take_text(rest, "finish_reason"),
        interrupted=interrupted,
        voice_dropped=voice_dropped,
        at=at,
        extra=_extra(rest),
    )


def _take_stored(rest: dict[str, Any], fetch: Fetch | None) -> Stored | None:
    name = rest.get("file")
    # Without `fetch`, the name would mean another file.
    if fetch is not None and isinstance(name, str):
        del rest["file"]
        return fetch(name)
    return None


def _take_data(body: dict[str, Any], key: str, fetch: Fetch | None) -> Stored | str:
    """Take out stored data or the text under `key`; null stands for data that were gone.

    Earlier versions left out the null, in the entries of sessions.
    """
    stored = _take_stored(body, fetch)
    if stored is None and body.get(key, "" if fetch is None else None) is None:
        body.pop(key, None)
        return NotKept()
    return stored or take_required(body, key)


def _drop_own(rest: dict[str, Any], fetch: Fetch | None) -> None:
    """Drop the keys that only saved entries have, if it is none of a session."""
    if fetch is None:
        for key in _OWN:
            rest.pop(key, None)


def _extra(rest: dict[str, Any]) -> str:
    return json_text(rest) if rest else "{}"


def _take_parts(rest: dict[str, Any], fetch: Fetch | None) -> tuple[Part, ...]:
    content = rest.pop("content", None)
    if not isinstance(content, list | tuple):
        msg = f"content must be text or a list of parts, got {type(content).__name__}"
        raise InvalidTurn(msg)
    left = [copied(part) for part in content]
    parts = tuple(_take_part(part, fetch) for part in left)
    # A single text is written as a string, which has no keys.
    if any(left) and not (len(parts) == 1 and isinstance(parts[0], str)):
        rest["content"] = left
    return parts


def _take_part(rest: dict[str, Any], fetch: Fetch | None) -> Part:
    kind = rest.pop("type", None)
    if kind == "text":
        return take_required(rest, "text")
    if kind not in ("input_audio", "image_url", "file"):
        msg = f"a part's type must be text, input_audio, image_url or file, got {kind_of(kind)}"
        raise InvalidTurn(msg)
    body = required_object(rest, kind)
    part: Part
    if kind == "input_audio":
        part = _audio_input(body, fetch)
    elif kind == "image_url":
        part = ImageInput(_take_data(body, "url", fetch), take_text(body, "detail"))
    else:
        part = _file_input(body, fetch)
    _drop_own(body, fetch)
    leave(rest, kind, body)
    return part


def _audio_input(body: dict[str, Any], fetch: Fetch | None) -> AudioInput:
    audio_format = body.pop("format", None)
    data: Data | None = _take_stored(body, fetch)
    if data is None and "data" not in body and audio_format in ("wav", "mp3"):
        data = NotKept()
    audio = AudioInput(
        data or _decoded(take_required(body, "data")),
        str(audio_format) if data else None,
        take_text(body, "transcript"),
        duration=take_number(body, "duration", 0),
        refused_by=take_text(body, "refused_by"),
    )
    if audio.duration is not None:
        body.pop("duration", None)
    return audio


def _file_input(body: dict[str, Any], fetch: Fetch | None) -> FileInput:
    filename = take_text(body, "filename") or None
    if "file_id" in body:
        return FileInput(filename=filename, file_id=take_required(body, "file_id"))
    body.pop("filename", None)
    given = _take_data(body, "file_data", fetch)
    data = _decoded(given) if isinstance(given, str) else given
    return FileInput(data, filename or "file")


def _take_audio(
    rest: dict[str, Any], sound_format: str | None, fetch: Fetch | None, seconds: float
) -> AssistantAudio | None:
    """Take the audio out; `seconds` is its duration if the bytes do not tell, 0 if unknown."""
    given = rest.get("audio")
    if not isinstance(given, OBJECT):
        return None
    body = dict(given)
    data = _take_stored(body, fetch) or _sound_bytes(body.get("data"))
    audio_format = body.get("format") or sound_format
    if audio_format in FORMATS:
        body.pop("format", None)
    else:
        audio_format = None
    construct = AssistantAudio if isinstance(data, bytes) else _assistant_audio
    audio = construct(
        id=_once(take_text(body, "id")),
        expires_at=take_number(body, "expires_at") if body.get("expires_at") else None,
        transcript=take_text(body, "transcript"),
        data=data,
        format=audio_format if data is not None else None,
        duration=take_number(body, "duration", 0),
        lost=take_true(body, "lost"),
    )
    _drop_own(body, fetch)
    if isinstance(data, bytes):
        if seconds and audio.duration is None and seconds < MOST_SECONDS:
            audio = attrs.evolve(audio, duration=seconds)
        del body["data"]
    if body:
        for key in ("format", "duration"):  # perhaps derived from the bytes
            if getattr(audio, key) is not None:
                body.pop(key, None)
        for key in ("id", "expires_at", "transcript"):  # null is written in any case
            if body.get(key, key) is None:
                del body[key]
    leave(rest, "audio", body)
    return audio


def _once(audio_id: str | None) -> str | None:
    """Return an id once, however often it was joined with itself: the SDK's helper does so."""
    length = (audio_id or "").find("audio_", 1)
    if audio_id is None or length < 0:
        return audio_id
    once, times = audio_id[:length], len(audio_id) // length
    return once if once * times == audio_id else audio_id


def _sound_bytes(data: object) -> bytes | None:
    if isinstance(data, bytes):
        return data or None
    if not isinstance(data, str) or not data:
        return None
    try:
        return _decoded(data) or None
    except InvalidTurn:
        log.warning("the sound of an answer is not base64; its text is kept as it came")
        return None


def _take_calls(rest: dict[str, Any]) -> tuple[ToolCall, ...]:
    given = rest.get("tool_calls")
    if not given or not isinstance(given, list | tuple):
        return ()
    calls: dict[str, ToolCall] = {}
    left = [copied(call) for call in given]
    for position, call in enumerate(left):
        is_custom = call.pop("type", None) == "custom"
        kind, key = ("custom", "input") if is_custom else ("function", "arguments")
        body = required_object(call, kind)
        arguments = body.pop(key, None)
        if not isinstance(arguments, str):
            arguments = "{}" if arguments is None else json_text(arguments)
        # Results refer to calls by id, so ids must differ, whatever the server sent.
        call_id = take_text(call, "id") or f"call_{position}"
        if call_id in calls:
            call_id += f"_{position}"  # counts: an underscore more for each takes cubic time
        while call_id in calls:
            call_id += "_"
        calls[call_id] = ToolCall(call_id, take_required(body, "name"), arguments, kind)
        call.pop("id", None)
        leave(call, kind, body)
    leave(rest, "tool_calls", left if any(left) else None)
    return tuple(calls.values())


def _decoded(text: str) -> bytes:
    try:
        return bytes_from_base64(text)
    except ValueError as error:
        msg = f"data must be base64, got {len(text)} characters that are not"
        raise InvalidTurn(msg) from error
