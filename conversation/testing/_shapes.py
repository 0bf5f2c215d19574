"""Shapes of JSON values: functions that refuse other values in the API's words (CONTRACT §3)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from conversation.testing._refusals import (
    Refused,
    empty_array,
    invalid_type,
    invalid_value,
    missing_parameter,
    one_of_values,
    out_of_bounds,
    too_long,
    unknown_parameter,
)

Shape = Callable[[Any, str], None]
"""Raises `Refused` for a value, found at a path, that does not have this shape."""


def of_type(kind: type, expected: str) -> Shape:
    """Return the shape of a value of this type."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, kind):
            raise invalid_type(path, expected, value)

    return check


def text(most: int | None = None, pattern: str | None = None) -> Shape:
    """Return the shape of a string; with a pattern, of one that is not empty."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise invalid_type(path, "a string", value)
        if pattern and not value:
            message = (
                f"Invalid '{path}': empty string. Expected a string with minimum length 1, but got "
                "an empty string instead."
            )
            raise Refused(message, path, "empty_string")
        if pattern and not re.search(pattern, value):
            message = (
                f"Invalid '{path}': string does not match pattern. Expected a string that matches "
                f"the pattern '{pattern}'."
            )
            raise Refused(message, path, "invalid_value")
        if most is not None and len(value) > most:
            raise too_long(path, "string", most, len(value))

    return check


def number(expected: str, low: float | None = None, high: float | None = None) -> Shape:
    """Return the shape of a number within bounds; `expected` is `"an integer"` or `"a decimal"`."""
    kinds = (int,) if expected == "an integer" else (int, float)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, kinds) or isinstance(value, bool):
            raise invalid_type(path, expected, value)
        if (low is not None and value < low) or (high is not None and value > high):
            raise out_of_bounds(path, expected.split()[1], low, high, value)

    return check


def one_of(*values: str, also: tuple[str, ...] = ()) -> Shape:
    """Return the shape of an enumerated string; `also` are accepted, but not listed in errors."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise invalid_type(path, one_of_values(values), value)
        if value not in (*values, *also):
            raise invalid_value(value, values, path)

    return check


def array(item: Shape, expected: str, *, least: int = 0, most: int | None = None) -> Shape:
    """Return the shape of an array of items of one shape; `least` is 0 or 1."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise invalid_type(path, expected, value)
        if len(value) < least:
            raise empty_array(path)
        if most is not None and len(value) > most:
            raise too_long(path, "array", most, len(value))
        for index, element in enumerate(value):
            item(element, f"{path}[{index}]")

    return check


def record(
    required: Mapping[str, Shape],
    optional: Mapping[str, Shape] | None = None,
    *,
    closed: bool = True,
) -> Shape:
    """Return the shape of an object, `closed` to other keys. Optional fields may be null."""
    fields = {**required, **(optional or {})}

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid_type(path, "an object", value)
        for name in required:
            if name not in value:
                raise missing_parameter(f"{path}.{name}")
        for name in value:
            if closed and name not in fields:
                raise unknown_parameter(f"{path}.{name}")
        for name, shape in fields.items():
            if name in required or value.get(name) is not None:
                shape(value[name], f"{path}.{name}")

    return check


def tagged(kinds: Mapping[str, Shape]) -> Shape:
    """Return the shape of an object whose `type` decides about the rest."""
    tag = one_of(*kinds)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise invalid_type(path, "an object", value)
        if "type" not in value:
            raise missing_parameter(f"{path}.type")
        tag(value["type"], f"{path}.type")
        kinds[value["type"]](value, path)

    return check


def string_or(other: Shape, kind: type, expected: str, string: Shape | None = None) -> Shape:
    """Return the shape of a string, or of a value of another type that has another shape."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, str):
            (string or text())(value, path)
        elif isinstance(value, kind):
            other(value, path)
        else:
            raise invalid_type(path, f"one of {expected}", value)

    return check
