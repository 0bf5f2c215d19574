"""Text that fits a regular expression."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from re import _parser  # type: ignore[attr-defined]  # what an expression means is nowhere else
from typing import Any

_LONGEST = 1000
_PREFERRED = ("a", "A", "0", *map(chr, range(32, 127)))


def text_of(pattern: str) -> str:
    """Return a short text that fits an expression, but for what looks around or back in it.

    Raises:
        ValueError: if the text would have over 1,000 characters.
        re.error: if it is no regular expression.
    """
    return "".join(_pieces(_parser.parse(pattern)))


def _pieces(parsed: Iterable[tuple[Any, Any]]) -> Iterator[str]:
    for code, value in parsed:
        match str(code):
            case "LITERAL":
                yield chr(value)
            case "NOT_LITERAL" | "ANY":
                yield "b" if value == ord("a") else "a"
            case "IN":
                yield _member(value)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                least, _, inner = value
                once = "".join(_pieces(inner)) if least else ""
                if len(once) * least > _LONGEST:
                    raise ValueError(f"text of {len(once) * least} characters")
                yield once * least
            case "SUBPATTERN":
                yield from _pieces(value[-1])
            case "ATOMIC_GROUP":
                yield from _pieces(value)
            case "BRANCH":
                yield from _pieces(value[1][0])


def _member(items: list[tuple[Any, Any]]) -> str:
    """Return a character of a set."""
    is_negated = str(items[0][0]) == "NEGATE"
    own = (chr(v if str(code) == "LITERAL" else v[0]) for code, v in items if _is_plain(code))
    for char in itertools.chain(_PREFERRED, own):
        if any(_fits(char, str(code), value) for code, value in items) != is_negated:
            return char
    return ""


def _is_plain(code: object) -> bool:
    return str(code) in ("LITERAL", "RANGE")


def _fits(char: str, code: str, value: Any) -> bool:
    match code:
        case "LITERAL":
            return bool(ord(char) == value)
        case "RANGE":
            return bool(value[0] <= ord(char) <= value[1])
        case "CATEGORY":
            name = str(value).removeprefix("CATEGORY_")
            kind = name.removeprefix("NOT_")
            found = char.isdigit() if kind == "DIGIT" else char.isspace()
            found = char.isalnum() or char == "_" if kind == "WORD" else found
            return found != (kind != name)
    return False
