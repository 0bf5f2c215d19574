"""Turns to the entries of a saved conversation."""

from __future__ import annotations

from typing import Any

import orjson

from conversation._values.data import Data, Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import AssistantAudio, AssistantTurn, ToolTurn, Turn, UserTurn
from conversation._wire.extra import meanings_of, merged
from conversation._wire.messages import base64_text, part_message, tool_call_entry
from conversation._wire.reading import Fetch, turn_from_entry
from conversation._wire.usage import usage_entry


def line_from_turn(turn: Turn) -> bytes:
    """Return the line that saves a turn: bytes are inline, data kept elsewhere goes by its name."""
    entry = _entry(turn)
    if turn.at is not None:
        entry["at"] = turn.at
    if turn.extra != "{}":
        merged(entry, orjson.loads(turn.extra), meanings_of(turn))
    return orjson.dumps(entry, option=orjson.OPT_UTC_Z)


def line_from_entry(entry: Any, fetch: Fetch) -> bytes:
    """Return the line of a turn as it was read, with the keys of other versions."""
    try:
        return orjson.dumps(entry)
    except orjson.JSONEncodeError:  # nested too deep
        return line_from_turn(turn_from_entry(entry, fetch=fetch))


def _entry(turn: Turn) -> dict[str, Any]:
    if isinstance(turn, UserTurn):
        only = turn.content[0] if len(turn.content) == 1 else None
        content = only if isinstance(only, str) else [_part_entry(part) for part in turn.content]
        fields: dict[str, Any] = {"role": "user", "content": content}
        return fields | _given(name=turn.name, message_id=turn.message_id)
    if isinstance(turn, AssistantTurn):
        entry = {"role": "assistant", "content": turn.content}
        return entry | _given(
            audio=turn.audio and _audio_entry(turn.audio),
            refusal=turn.refusal,
            tool_calls=[tool_call_entry(call) for call in turn.tool_calls] or None,
            model=turn.model,
            finish_reason=turn.finish_reason,
            usage=turn.usage and usage_entry(turn.usage),
            interrupted=turn.interrupted or None,
            voice_dropped=turn.voice_dropped or None,
        )
    if isinstance(turn, ToolTurn):
        return {"role": "tool", "tool_call_id": turn.tool_call_id, "content": turn.content}
    return {"role": turn.role, "content": turn.text}


def _part_entry(part: Part) -> dict[str, Any]:
    match part:
        case AudioInput(data, audio_format, transcript):
            sound = _data_entry(data)
            sound |= _given(format=audio_format, transcript=transcript, duration=part.duration)
            sound |= _given(refused_by=part.refused_by)
            return {"type": "input_audio", "input_audio": sound}
        case ImageInput(Stored() as data, detail):
            image = _data_entry(data) or {"url": None}
            return {"type": "image_url", "image_url": image | _given(detail=detail)}
        case FileInput(Stored() as data, filename):
            file = _data_entry(data) or {"file_data": None}
            return {"type": "file", "file": file | _given(filename=filename)}
    return part_message(part)


def _audio_entry(audio: AssistantAudio) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": audio.id,
        "expires_at": audio.expires_at,
        "transcript": audio.transcript,
    }
    if audio.data is not None:
        entry |= _data_entry(audio.data)
    if audio.format is not None:
        entry["format"] = audio.format
    if audio.duration is not None:
        entry["duration"] = audio.duration
    if audio.lost:
        entry["lost"] = True
    return entry


def _data_entry(data: Data) -> dict[str, str | None]:
    if isinstance(data, bytes):
        return {"data": base64_text(data)}
    return {"file": data.name} if data.name else {}


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value is not None}
