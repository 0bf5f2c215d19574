"""Fields taken out of a JSON object as they are read: what remains is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from conversation._values.text import clean_text
from conversation.errors import InvalidTurn

TEXTS = ("text", "output_text", "input_text")
"""Types of parts with the words of a message."""

MOST_SECONDS = 1e15
"""A time or duration in seconds that is beyond all sense."""

OBJECT = (dict, Mapping)  # `dict` is tried first: checking an abstract class takes far longer


def take_text(rest: dict[str, Any], key: str) -> str | None:
    """Take a text out; None if it is none."""
    value = rest.get(key)
    if not isinstance(value, str):
        return None
    del rest[key]
    return value if value.isascii() else clean_text(value)


def take_required(rest: dict[str, Any], key: str) -> str:
    """Take a text out.

    Raises:
        InvalidTurn: if it is none.
    """
    text = take_text(rest, key)
    if text is None:
        msg = f"{key} must be text, got {type(rest.get(key)).__name__}"
        raise InvalidTurn(msg)
    return text


def take_number(rest: dict[str, Any], key: str, least: float = -MOST_SECONDS) -> float | None:
    """Take a number of seconds out; None if it is none."""
    value: Any = rest.get(key)
    if type(value) not in (int, float) or not least <= value < MOST_SECONDS:
        return None
    number: float = rest.pop(key)
    return number


def take_true(rest: dict[str, Any], key: str) -> bool:
    """Take a true value out; False for all others, which stay."""
    return rest.get(key) is True and rest.pop(key)


def take_time(rest: dict[str, Any]) -> datetime | None:
    """Take the time out at which a turn was added; None if it is none."""
    time = time_from(rest.get("at"))
    if time is not None:
        del rest["at"]
    return time


def leave(rest: dict[str, Any], key: str, left: object) -> None:
    """Replace the value under `key` by what is left of it."""
    if left:
        rest[key] = left
    else:
        del rest[key]


def copied(value: object) -> dict[str, Any]:
    """Return a copy of an object; empty if it is none."""
    return dict(value) if isinstance(value, OBJECT) else {}


def required_object(rest: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return a copy of an object.

    Raises:
        InvalidTurn: if it is none.
    """
    value = rest.get(key)
    if not isinstance(value, OBJECT):
        msg = f"{key} must be an object, got {type(value).__name__}"
        raise InvalidTurn(msg)
    return dict(value)


def joined_text(content: object) -> str | None:
    """Return text content: a string, or a list of text parts, which some servers answer with.

    Parts of other types, such as reasoning, are no words of the answer.
    """
    if isinstance(content, list | tuple):
        parts = (part for part in content if isinstance(part, OBJECT))
        texts = (part.get("text") for part in parts if part.get("type", "text") in TEXTS)
        content = "".join(text for text in texts if isinstance(text, str)) or None
    return clean_text(content) if isinstance(content, str) else None


def time_from(value: object) -> datetime | None:
    """Return a saved time, in UTC; None if it is not a time with a zone."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is UTC:  # the usual case
            return time
        return time.astimezone(UTC) if time.tzinfo else None
    except (ValueError, OverflowError):
        return None
