"""Turns to the entries of a saved conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import orjson

from conversation._values.data import Data, Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import (
    AssistantAudio,
    AssistantTurn,
    SystemTurn,
    ToolTurn,
    Turn,
    Usage,
    UserTurn,
)
from conversation._wire.messages import (
    base64_text,
    part_message,
    tool_call_entry,
)
from conversation._wire.strict_json import merged

if TYPE_CHECKING:
    pass


def line_from_turn(turn: Turn) -> bytes:
    """The turn as it is saved: bytes inline, what is kept elsewhere by its name under `file`."""
    entry = _known_entry(turn)
    if turn.extra != "{}":
        merged(entry, orjson.loads(turn.extra))
    return orjson.dumps(entry, option=orjson.OPT_UTC_Z)


def _nothing(_: bytes) -> str:
    return ""


def _known_entry(turn: Turn, inline: Callable[[bytes], str] = base64_text) -> dict[str, Any]:
    entry: dict[str, Any] = {"role": turn.role}
    match turn:
        case UserTurn():
            only = turn.content[0] if len(turn.content) == 1 else None
            parts = turn.content
            entry["content"] = (
                only if isinstance(only, str) else [_saved(part, inline) for part in parts]
            )
        case AssistantTurn():
            entry["content"] = turn.content
            entry |= _given(
                audio=_audio_entry(turn.audio, inline) if turn.audio else None,
                refusal=turn.refusal,
                tool_calls=[tool_call_entry(call) for call in turn.tool_calls] or None,
                model=turn.model,
                finish_reason=turn.finish_reason,
                usage=usage_entry(turn.usage) if turn.usage else None,
                interrupted=turn.interrupted or None,
                voice_dropped=turn.voice_dropped or None,
            )
        case ToolTurn():
            entry |= {"tool_call_id": turn.tool_call_id, "content": turn.content}
        case SystemTurn():
            entry["content"] = turn.text
    if turn.at is not None:
        entry["at"] = turn.at
    return entry


def _saved(part: Part, inline: Callable[[bytes], str]) -> dict[str, Any]:
    match part:
        case AudioInput():
            sound = _kept(part.data, "data", inline)
            sound |= _given(format=part.format, transcript=part.transcript, duration=part.duration)
            return {"type": "input_audio", "input_audio": sound}
        case ImageInput() if isinstance(part.data, Stored):
            image = _kept(part.data, "url", inline) | _given(detail=part.detail)
            return {"type": "image_url", "image_url": image}
        case FileInput() if isinstance(part.data, Stored):
            file = _kept(part.data, "file_data", inline) | _given(filename=part.filename)
            return {"type": "file", "file": file}
    return part_message(part)


def _kept(data: Data, key: str, inline: Callable[[bytes], str]) -> dict[str, Any]:
    if isinstance(data, bytes):
        return {key: inline(data)}
    return {"file": data.name} if data.name else {}


def _audio_entry(audio: AssistantAudio, inline: Callable[[bytes], str]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": audio.id,
        "expires_at": audio.expires_at,
        "transcript": audio.transcript,
    }
    if audio.data is not None:
        entry |= _kept(audio.data, "data", inline)
    return entry | _given(
        format=audio.format,
        duration=audio.duration,
        lost=audio.lost or None,
    )


def usage_entry(usage: Usage) -> dict[str, Any]:
    """Tokens as the API writes them."""
    entry: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    prompt = {
        "text_tokens": usage.prompt_text_tokens,
        "audio_tokens": usage.prompt_audio_tokens,
        "cached_tokens": usage.cached_tokens,
    }
    completion = {
        "text_tokens": usage.completion_text_tokens,
        "audio_tokens": usage.completion_audio_tokens,
    }
    for name, details in (("prompt", prompt), ("completion", completion)):
        if any(details.values()):
            entry[f"{name}_tokens_details"] = details
    return entry


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
