"""Text that UTF-8 can hold."""

from __future__ import annotations

import re
from typing import Any

import attrs

from conversation.errors import InvalidTurn

CONTROLS_BEYOND = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters beyond ASCII's first: they move a cursor, or reverse the direction of text."""


def clean_text(text: str) -> str:
    """Return the text as UTF-8 can hold it: surrogate pairs joined, lone ones as U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as "1 turn" or "2,000 turns"."""
    return f"{number:,} {noun}{'s'[: number != 1]}"


def as_text(value: str) -> str:
    if not isinstance(value, str):
        msg = f"expected a str, got {type(value).__name__}: {shown(value)}"
        raise InvalidTurn(msg)
    return clean_text(value)


def as_optional_text(value: str | None) -> str | None:
    return None if value is None else as_text(value)


def shown(value: object) -> str:
    try:
        text = repr(value)
    except RecursionError:
        return f"a deeply nested {type(value).__name__}"
    return text if len(text) <= 60 else text[:59] + "…"


def repr_without_defaults(value: Any) -> str:
    """Return the `repr` of an attrs value, without fields that have their defaults."""
    told = []
    for field in attrs.fields(type(value)):
        found = getattr(value, field.name)
        if field.repr and found != field.default:
            told.append(f"{field.name}={repr(found) if field.repr is True else field.repr(found)}")
    return f"{type(value).__name__}({', '.join(told)})"


def kind_of(value: object) -> str:
    """Return a kind that is told by its name; of anything else its type, as it may be private."""
    return shown(value) if isinstance(value, str) and len(value) < 40 else type(value).__name__
