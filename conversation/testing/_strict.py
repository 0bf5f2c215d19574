"""Schemas of `strict`: closed objects, all of whose properties are required (CONTRACT §3)."""

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
    for word in ("properties", "$defs", "definitions"):
        inner = schema.get(word)
        for name, part in inner.items() if isinstance(inner, dict) else ():
            yield from _faults(part, (*path, word, name))
    yield from _faults(schema.get("items"), (*path, "items"))
    options = schema.get("anyOf")
    for number, part in enumerate(options if isinstance(options, list) else ()):
        yield from _faults(part, (*path, "anyOf", str(number)))
