"""A turn's `extra` back in its places in the entry: it may add keys, but no meaning.

`extra` holds what reading found no field for, or what a caller gave. A key that reading would make
something of, such as the name of a file, is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from conversation._values.sound import FORMATS
from conversation._values.turns import AssistantTurn, Turn, UserTurn, is_message_id
from conversation._wire.fields import joined_text, time_from
from conversation._wire.messages import bytes_from_base64
from conversation._wire.usage import token_count

Meanings: TypeAlias = "Mapping[str, Meanings | Callable[[Any], object]]"
"""By key: the meanings inside of its object or of its list's objects, or the values that count."""


def merged(known: dict[str, Any], extra: Mapping[str, Any], meanings: Meanings) -> dict[str, Any]:
    """Add the keys of `extra` to an entry, except those that would change what it says."""
    for key, value in extra.items():
        mine, meaning = known.get(key), meanings.get(key, {})
        inner = meaning if isinstance(meaning, Mapping) else {}
        if isinstance(value, dict) and isinstance(mine, dict):
            merged(mine, value, inner)
        elif isinstance(value, list) and isinstance(mine, list):
            for ours, theirs in zip(mine, value, strict=False):
                if isinstance(ours, dict) and isinstance(theirs, dict):
                    merged(ours, theirs, inner)
        elif mine is None and not (callable(meaning) and meaning(value)):
            known[key] = merged({}, value, inner) if isinstance(value, dict) else value
    return known


def meanings_of(turn: Turn) -> Meanings:
    """Return the keys that mean something in the entry of this turn."""
    if isinstance(turn, UserTurn):
        return _USER
    if not isinstance(turn, AssistantTurn):
        return _AT
    objects = {"audio": turn.audio and _AUDIO, "usage": turn.usage and _USAGE}
    return {**_ANSWER, **{key: inner or _is_object for key, inner in objects.items()}}


def _is_a(*kinds: type) -> Callable[[Any], object]:
    return lambda value: type(value) in kinds


def _is_true(value: object) -> bool:
    return value is True


def _is_there(_: object) -> bool:
    return True


def _is_sound(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(bytes_from_base64(value))
    except ValueError:
        return False


_is_text, _is_number, _is_object = _is_a(str), _is_a(int, float), _is_a(dict)

_AT: Meanings = {"at": lambda value: time_from(value) is not None}

_USER: Meanings = {
    **_AT,
    "name": _is_text,
    "message_id": is_message_id,
    "content": {
        "input_audio": {
            "data": _is_there,
            "file": _is_text,
            "transcript": _is_text,
            "duration": _is_number,
            "refused_by": _is_text,
        },
        "image_url": {"file": _is_text, "url": _is_text, "detail": _is_text},
        "file": {
            "file": _is_text,
            "filename": _is_text,
            "file_id": _is_there,
            "file_data": _is_text,
        },
    },
}

_ANSWER: Meanings = {
    **_AT,
    "content": lambda value: joined_text(value) is not None,
    "refusal": _is_text,
    "tool_calls": lambda value: isinstance(value, list) and bool(value),
    "model": _is_text,
    "finish_reason": _is_text,
    "interrupted": _is_true,
    "voice_dropped": _is_true,
}

_AUDIO: Meanings = {
    "id": _is_text,
    "expires_at": lambda value: _is_number(value) and value,
    "transcript": _is_text,
    "data": _is_sound,
    "file": _is_text,
    "format": FORMATS.__contains__,
    "duration": _is_number,
    "lost": _is_true,
}

_COUNTS = ("text_tokens", "audio_tokens", "cached_tokens", "image_tokens", "cache_write_tokens")
_DETAILS: Meanings = dict.fromkeys(_COUNTS, token_count)

_USAGE: Meanings = {"prompt_tokens_details": _DETAILS, "completion_tokens_details": _DETAILS}
