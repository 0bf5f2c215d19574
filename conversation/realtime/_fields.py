"""Fields of a Realtime session's events, which may have any type."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, TypeAlias

from conversation._values.text import clean_text
from conversation._values.usage import Usage
from conversation._wire.messages import bytes_from_base64
from conversation._wire.usage import usage_from_entry
from conversation.realtime._appended import PCM, Format

log = logging.getLogger("conversation")

Json: TypeAlias = Mapping[str, Any]

_FORMATS: Mapping[str, Format] = {
    "audio/pcm": PCM,
    "audio/pcmu": ("mulaw", 8000),
    "audio/pcma": ("alaw", 8000),
    "pcm16": PCM,
    "g711_ulaw": ("mulaw", 8000),
    "g711_alaw": ("alaw", 8000),
}


def object_of(value: Json, name: str) -> Json:
    """Return an object; empty if it is none."""
    found = value.get(name)
    return found if isinstance(found, Mapping) else {}


def objects_of(value: Json, name: str) -> list[Json]:
    """Return the objects of a list."""
    found = value.get(name)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def text_of(value: Json, name: str) -> str | None:
    """Return a text; None if it is none."""
    found = value.get(name)
    return clean_text(found) if isinstance(found, str) else None


def piece_of(event: Json) -> str:
    """Return a piece of text, which may hold half of a character."""
    found = event.get("delta")
    return found if isinstance(found, str) else ""


def ms_of(value: Json, name: str) -> float | None:
    """Return a time in milliseconds; None if it is none."""
    found = value.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return found if 0 <= found < 1e12 else None


def index_of(value: Json) -> int:
    """Return the index of an event's part; 0 where there is none."""
    found = value.get("content_index")
    return found if type(found) is int else 0


def bytes_of(value: Json, name: str) -> bytes:
    """Return the bytes of base64; empty, with a log warning, if it is none."""
    text = text_of(value, name)
    try:
        return bytes_from_base64(text) if text else b""
    except ValueError:
        log.warning("skipping sound that is not base64")
        return b""


def format_of(value: Json, side: str) -> Format | None:
    """Return the format of the sound that goes in or out; None if it is not told."""
    sound = object_of(object_of(value, "audio"), side)
    told = sound.get("format") or value.get(f"{side}_audio_format")
    name = text_of(told, "type") if isinstance(told, Mapping) else told
    return _FORMATS.get(name) if isinstance(name, str) else None


def speaks(value: Json, *, otherwise: bool) -> bool:
    """Return True if answers are sound, as far as it is told."""
    told = value.get("output_modalities") or value.get("modalities")
    return "audio" in told if isinstance(told, list) else otherwise


def usage_of(response: Json) -> Usage:
    """Return the usage of a response, which names it in another way than Chat Completions."""
    usage = object_of(response, "usage")
    names = (("input", "prompt"), ("output", "completion"))
    counts = {f"{to}_tokens": usage.get(f"{name}_tokens", 0) for name, to in names}
    details = {
        f"{to}_tokens_details": object_of(usage, f"{name}_token_details") for name, to in names
    }
    return usage_from_entry({**counts, **details})
