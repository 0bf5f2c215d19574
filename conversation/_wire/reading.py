"""Turns to and from the entries of a saved conversation.

A saved entry is what the server sent (or would be sent) for the turn, whole, with `model`,
`finish_reason`, `usage`, `at` and the like beside it. So the same functions read a completion's
message. What has no field in a turn stays in its `extra`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import attrs

from conversation._values.data import Data, NotKept, Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.sound import FORMATS
from conversation._values.text import shown
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolCall,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from conversation._wire.messages import (
    bytes_from_base64,
)
from conversation._wire.strict_json import json_text, leftover
from conversation._wire.writing import _known_entry, _nothing
from conversation.errors import InvalidTurn

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)

Fetch = Callable[[str], Stored]
"""From the name in an entry to what is kept under it."""


def turn_from_entry(
    entry: object, *, sound_format: str | None = None, fetch: Fetch | None = None
) -> Turn:
    """The turn that a saved entry, or a message as the API sends it, stands for.

    Fields of an unexpected type count as not given, and are kept in `extra`.

    Args:
        entry: The JSON object.
        sound_format: What spoken answers are in if their bytes do not tell (raw PCM does not).
        fetch: Where what an entry names is kept.

    Raises:
        InvalidTurn: if it is not a message of a kind that this version knows.
    """
    role = role_of(entry)
    assert isinstance(entry, Mapping)  # noqa: S101  # `role_of` says so
    if fetch is None:
        entry = _without_file(entry)
    turn: Turn
    if role == "user":
        turn = UserTurn(tuple(_user_parts(entry.get("content"), fetch)))
    elif role == "assistant":
        turn = _assistant_turn(entry, sound_format, fetch)
    elif role == "tool":
        turn = ToolTurn(_required_text(entry, "tool_call_id"), _joined(entry.get("content")) or "")
    else:
        turn = SystemTurn(_joined(entry.get("content")) or "", role)
    return _with_rest(turn, entry)


def _without_file(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """An answer without the name of a file that is not here: elsewhere it means another one."""
    audio = entry.get("audio")
    if not isinstance(audio, Mapping) or "file" not in audio:
        return entry
    return {**entry, "audio": {key: audio[key] for key in audio if key != "file"}}


def role_of(entry: object) -> str:
    """The role that an entry names.

    Raises:
        InvalidTurn: if it is none, or the entry no object.
    """
    if not isinstance(entry, Mapping):
        msg = f"a turn is a JSON object, not {type(entry).__name__}"
        raise InvalidTurn(msg)
    role = entry.get("role")
    if role not in ("user", "assistant", "tool", "system", "developer"):
        msg = f"a turn's role is user, assistant, tool, system or developer, not {shown(role)}"
        raise InvalidTurn(msg)
    return str(role)


def assistant_turn(entry: Mapping[str, Any], *, sound_format: str | None) -> AssistantTurn:
    """Same as `turn_from_entry`, for an entry that is known to be the assistant's."""
    return _with_rest(_assistant_turn(entry, sound_format, None), entry)


def _with_rest(turn: _T, entry: Mapping[str, Any]) -> _T:
    turn = attrs.evolve(turn, at=time_from(entry.get("at")))
    left = leftover(entry, _known_entry(turn, inline=_nothing))
    return attrs.evolve(turn, extra=json_text(left)) if left else turn


# --- what is read ------------------------------------------------------------------------------


def _user_parts(content: object, fetch: Fetch | None) -> Iterator[Part]:
    if isinstance(content, str):
        yield content
        return
    if not isinstance(content, list | tuple):
        msg = f"a user turn's content is text or a list of parts, not {type(content).__name__}"
        raise InvalidTurn(msg)
    for part in content:
        yield _user_part(part, fetch)


def _user_part(part: object, fetch: Fetch | None) -> Part:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "text":
        return _required_text(part, "text")
    if kind == "input_audio":
        body = _required_object(part, kind)
        data: Data | None = _fetched(body, fetch)
        if data is None and "data" not in body and body.get("format") in ("wav", "mp3"):
            data = NotKept()
        if data is None:
            data = _decoded(_without_url(_required_text(body, "data")))
        return AudioInput(
            data,
            str(body.get("format")) if isinstance(data, Stored) else None,
            _text(body.get("transcript")),
            duration=_number(body.get("duration")),
        )
    if kind == "image_url":
        body = _required_object(part, kind)
        url = _fetched(body, fetch) or _required_text(body, "url")
        return ImageInput(url, _text(body.get("detail")))
    if kind == "file":
        body = _required_object(part, kind)
        if "file_id" in body:
            file_id = _required_text(body, "file_id")
            return FileInput(filename=_text(body.get("filename")), file_id=file_id)
        data = _fetched(body, fetch)
        if data is None:
            data = _decoded(_without_url(_required_text(body, "file_data")))
        return FileInput(data, _text(body.get("filename")) or "file")
    msg = f"a content part is text, input_audio, image_url or file, not {shown(kind)}"
    raise InvalidTurn(msg)


def _fetched(body: Mapping[str, Any], fetch: Fetch | None) -> Stored | None:
    name = body.get("file")
    if fetch is None or not isinstance(name, str):
        return None
    return fetch(name)


def _assistant_turn(
    entry: Mapping[str, Any], sound_format: str | None, fetch: Fetch | None
) -> AssistantTurn:
    usage, audio = entry.get("usage"), entry.get("audio")
    return AssistantTurn(
        content=_joined(entry.get("content")),
        audio=_audio(audio, sound_format, fetch) if isinstance(audio, Mapping) else None,
        tool_calls=tuple(_tool_calls(entry.get("tool_calls"))),
        refusal=_text(entry.get("refusal")),
        usage=usage_from_entry(usage) if isinstance(usage, Mapping) else None,
        model=_text(entry.get("model")),
        finish_reason=_text(entry.get("finish_reason")),
        interrupted=entry.get("interrupted") is True,
        voice_dropped=entry.get("voice_dropped") is True,
    )


def _audio(
    audio: Mapping[str, Any], sound_format: str | None, fetch: Fetch | None
) -> AssistantAudio:
    data: Data | None = _fetched(audio, fetch) or _sound_bytes(audio.get("data"))
    named = audio.get("format") or sound_format
    return AssistantAudio(
        id=_text(audio.get("id")),
        expires_at=_number(audio.get("expires_at")) or None,
        transcript=_text(audio.get("transcript")),
        data=data,
        format=named if named in FORMATS else None,
        duration=_number(audio.get("duration")),
        lost=audio.get("lost") is True,
    )


def _sound_bytes(data: object) -> bytes | None:
    if isinstance(data, bytes):
        return data or None
    if not isinstance(data, str) or not data:
        return None
    try:
        return _decoded(data)
    except InvalidTurn:
        log.warning("an answer's sound is not base64; its words and the text itself are kept")
        return None


def _tool_calls(calls: object) -> Iterator[ToolCall]:
    taken: set[str] = set()
    for position, call in enumerate(calls if isinstance(calls, list | tuple) else ()):
        is_custom = isinstance(call, Mapping) and call.get("type") == "custom"
        body = _required_object(call, "custom" if is_custom else "function")
        arguments = body.get("input" if is_custom else "arguments")
        if not isinstance(arguments, str):
            arguments = "{}" if arguments is None else json_text(arguments)
        # Answers find their calls by id, so each has one of its own, whatever the server sent.
        call_id = _text(call.get("id")) or f"call_{position}"
        while call_id in taken:
            call_id += "_"
        taken.add(call_id)
        kind = "custom" if is_custom else "function"
        yield ToolCall(call_id, _required_text(body, "name"), arguments, kind)


def usage_from_entry(usage: object) -> Usage:
    """Tokens as the API writes them; what is no number counts as none."""
    if not isinstance(usage, Mapping):
        return Usage()
    prompt = _object(usage.get("prompt_tokens_details"))
    completion = _object(usage.get("completion_tokens_details"))
    return Usage(
        prompt_tokens=_count(usage.get("prompt_tokens")),
        completion_tokens=_count(usage.get("completion_tokens")),
        prompt_text_tokens=_count(prompt.get("text_tokens")),
        prompt_audio_tokens=_count(prompt.get("audio_tokens")),
        cached_tokens=_count(prompt.get("cached_tokens")),
        completion_text_tokens=_count(completion.get("text_tokens")),
        completion_audio_tokens=_count(completion.get("audio_tokens")),
    )


def _joined(content: object) -> str | None:
    """Text content: a string, or a list of text parts, which some servers answer with."""
    if isinstance(content, list | tuple):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(text for text in texts if isinstance(text, str)) or None
    return _text(content)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> float | None:
    good = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    return value if good else None  # type: ignore[return-value]  # `good` says so


def _count(value: object) -> int:
    number = _number(value)
    return int(number) if number is not None and number > 0 else 0


def time_from(value: object) -> datetime | None:
    """A saved time; None if it is none."""
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
        return time.astimezone(UTC) if time and time.tzinfo else None
    except (ValueError, OverflowError):
        return None


def _required_text(body: object, key: str) -> str:
    value = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(value, str):
        msg = f"expected text under {key!r}, got {type(value).__name__}"
        raise InvalidTurn(msg)
    return value


def _required_object(body: object, key: str) -> Mapping[str, Any]:
    value = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(value, Mapping):
        msg = f"expected an object under {key!r}, got {type(value).__name__}"
        raise InvalidTurn(msg)
    return value


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _without_url(text: str) -> str:
    """The base64 in a data URL; other text as it is."""
    head, _, body = text.partition(",")
    return body if head.startswith("data:") and head.endswith(";base64") else text


def _decoded(text: str) -> bytes:
    try:
        return bytes_from_base64(text)
    except ValueError as error:
        msg = f"expected base64, got {text[:24]!r}…: {error}"
        raise InvalidTurn(msg) from error
