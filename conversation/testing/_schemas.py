"""Values that fit a JSON Schema."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

_STRINGS = {
    "date-time": "2026-01-31T12:00:00Z",
    "date": "2026-01-31",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "ann@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "6f2c1e5a-3b7d-4c8e-9a1f-0d2b4c6e8f01",
    "uri": "https://example.com/",
}
_MORE_STRINGS = (
    "a",
    "A",
    "0",
    "a1",
    "A1",
    "ab",
    "AB",
    "ABC",
    "00",
    "12345",
    "1.0.0",
    "+4712345678",
)
_LONGEST = 10_000
_EMPTY: Mapping[str, Any] = {}


def example(schema: Any, name: str = "text") -> Any:
    """Return a value that fits a schema: the simplest one, with required properties only.

    Patterns are tried with a few common strings; one that fits none of them is not kept.

    Args:
        schema: The schema; references point into it.
        name: Text for strings of any content; below the top, the name of the property.

    Raises:
        ValueError: if each value would contain itself, or a length is over 10,000.
        AttributeError, KeyError, TypeError: if it is no JSON Schema.
    """
    return _Examples(schema if isinstance(schema, dict) else {}).of(schema, name, frozenset())


class _Endless(ValueError):
    """Every value of the schema contains itself."""


class _Examples:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def of(self, schema: Any, name: str, above: frozenset[str]) -> Any:
        """Return a value; `above` are the references that lead to the schema."""
        schema, above = self._resolved(schema, above)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self._of_any(schema, word, name, above)
        match _kind(schema):
            case "object":
                return self._object(schema, above)
            case "array":
                return self._array(schema, name, above)
            case "string":
                return _string(schema, name)
            case "integer" | "number" as kind:
                return _number(schema, kind)
            case "boolean":
                return True
        return None

    def _resolved(
        self, schema: Any, above: frozenset[str]
    ) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the schema with its references and its `allOf` merged into it."""
        if not isinstance(schema, dict):
            return _EMPTY, above
        merged = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
        parts = [*schema.get("allOf", ())]
        reference = schema.get("$ref")
        if isinstance(reference, str):
            if reference in above:
                raise _Endless
            above |= {reference}
            parts.append(self._target(reference))
        for part in parts:
            other, above = self._resolved(part, above)
            properties = {**other.get("properties", {}), **merged.get("properties", {})}
            required = [*other.get("required", ()), *merged.get("required", ())]
            merged = {**other, **merged}
            if properties:
                merged["properties"] = properties
            if required:
                merged["required"] = list(dict.fromkeys(required))
        return merged, above

    def _target(self, reference: str) -> Any:
        found: Any = self._root
        for step in reference.removeprefix("#").split("/")[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        return found

    def _of_any(
        self, schema: Mapping[str, Any], word: str, name: str, above: frozenset[str]
    ) -> Any:
        rest = {key: value for key, value in schema.items() if key != word}
        for option in schema[word]:
            try:
                return self.of({"allOf": [option], **rest}, name, above)
            except _Endless:
                continue
        raise _Endless

    def _object(self, schema: Mapping[str, Any], above: frozenset[str]) -> dict[str, Any]:
        properties = schema.get("properties", {})
        required = list(dict.fromkeys(schema.get("required", ())))
        found = {key: self.of(properties.get(key), key, above) for key in required}
        others = [key for key in properties if key not in found]
        more = (f"key{number}" for number in itertools.count(1))
        for key in itertools.chain(others, more):
            if len(found) >= _length(schema, "minProperties"):
                break
            value = properties.get(key, schema.get("additionalProperties"))
            found[key] = self.of(value, key, above)
        return found

    def _array(self, schema: Mapping[str, Any], name: str, above: frozenset[str]) -> list[Any]:
        first = list(schema.get("prefixItems", ()))
        least = max(_length(schema, "minItems"), len(first))
        most = schema.get("maxItems", math.inf)
        found: list[Any] = []
        while len(found) < min(max(least, 1), most):
            items = [*first, *([schema.get("items")] * (len(found) + 1))]
            word = f"{name}{len(found) + 1}" if least > 1 else name
            if schema.get("items") is False and len(found) >= len(first):
                break
            try:
                value = self.of(items[len(found)], word, above)
            except _Endless:
                if len(found) < least:
                    raise
                break
            if schema.get("uniqueItems") and value in found:
                value = _other(self._resolved(items[len(found)], above)[0], value, found)
            found.append(value)
        return found


def _length(schema: Mapping[str, Any], word: str) -> int:
    length = schema.get(word, 0)
    if length > _LONGEST:
        raise ValueError(f"{word} of {length}")
    return int(length)


def _other(schema: Mapping[str, Any], value: Any, found: list[Any]) -> Any:
    """Return another value than those found, for arrays of unique items."""
    if schema.get("enum"):
        return next((choice for choice in schema["enum"] if choice not in found), value)
    if isinstance(value, bool):
        return not value
    return value + len(found) if isinstance(value, int | float) else value


def _kind(schema: Mapping[str, Any]) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind
    for word, implied in (
        ("properties", "object"),
        ("required", "object"),
        ("items", "array"),
        ("prefixItems", "array"),
        ("minimum", "number"),
        ("maximum", "number"),
    ):
        if word in schema:
            return implied
    return "string"


def _string(schema: Mapping[str, Any], name: str) -> str:
    least, most = _length(schema, "minLength"), schema.get("maxLength", math.inf)
    pattern = schema.get("pattern")
    known = _STRINGS.get(schema.get("format", ""))
    candidates = (known,) if known else (name or "text", *_MORE_STRINGS, *_STRINGS.values())
    for text in candidates:
        longer = text if known else (text * (least // len(text) + 1))[: max(least, len(text))]
        for candidate in (longer, longer[: int(min(most, len(longer)))]):
            if least <= len(candidate) <= most and _matches(pattern, candidate):
                return candidate
    return candidates[0] or name


def _matches(pattern: Any, text: str) -> bool:
    try:
        return not isinstance(pattern, str) or re.search(pattern, text) is not None
    except re.error:
        return True


def _number(schema: Mapping[str, Any], kind: str) -> float:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # Older schemas have booleans here, which make the other bound exclusive.
    over = low if over is True else -math.inf if over is None or over is False else over
    under = high if under is True else math.inf if under is None or under is False else under
    step = schema.get("multipleOf") or 1

    def fits(value: float) -> bool:
        return (
            low <= value <= high
            and (over < value < under)
            and (kind == "number" or float(value).is_integer())
            and ("multipleOf" not in schema or math.isclose(value / step, round(value / step)))
        )

    for value in _candidates(max(low, over), min(high, under), step):
        if fits(value):
            return int(value) if float(value).is_integer() else value
    return 1


def _candidates(low: float, high: float, step: float) -> Iterable[float]:
    yield from (1, step, 0)
    for bound in (low, high):
        if math.isfinite(bound):
            multiple = math.floor(bound / step) * step
            yield from (bound, multiple, multiple + step, multiple - step)
    if math.isfinite(low) and math.isfinite(high):
        yield (low + high) / 2
