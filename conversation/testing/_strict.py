"""Faults of schemas: arrays of nothing, and what `strict` does not take (CONTRACT §3)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def fault_in(schema: Any) -> str | None:
    """Return what the API says of a schema that is not strict; None for one that is."""
    return next(_faults(schema, ()), None)


def _faults(schema: Any, path: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    if properties or schema.get("type") == "object":
        if schema.get("additionalProperties") is not False:
            yield (
                f"In context={path}, 'additionalProperties' is required to be supplied and to be "
                "false."
            )
        required = schema.get("required") or ()
        missing = [name for name in properties if name not in required]
        if missing:
            yield (
                f"In context={path}, 'required' is required to be supplied and to be an array "
                f"including every key in properties. Missing '{missing[0]}'."
            )
    for part, place in _parts(schema, path):
        yield from _faults(part, place)


def bare_array_in(schema: Any, path: tuple[str, ...] = ()) -> str | None:
    """Return what the API says of an array without `items`, strict or not; None if all have."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "array" and "items" not in schema:
        return f"In context={path}, array schema missing items."
    return next(filter(None, (bare_array_in(*found) for found in _parts(schema, path))), None)


def _parts(schema: dict[str, Any], path: tuple[str, ...]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    for word in ("properties", "$defs", "definitions"):
        inner = schema.get(word)
        for name, part in inner.items() if isinstance(inner, dict) else ():
            yield part, (*path, word, name)
    yield schema.get("items"), (*path, "items")
    options = schema.get("anyOf")
    for number, part in enumerate(options if isinstance(options, list) else ()):
        yield part, (*path, "anyOf", str(number))
