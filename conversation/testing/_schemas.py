"""Values that fit a JSON Schema."""

from __future__ import annotations

import contextlib
import itertools
import math
import re
import string
from collections.abc import Callable, Iterable, Mapping
from datetime import date, timedelta
from typing import Any

import orjson

from conversation.testing._patterns import text_of

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


def _day(number: int) -> str:
    return str(date(2026, 1, 31) + timedelta(number))


_OTHERS: Mapping[str, Callable[[int], str]] = {
    "date-time": lambda n: f"{_day(n)}T12:00:00Z",
    "date": _day,
    "time": lambda n: f"{n // 3600 % 24:02}:{n // 60 % 60:02}:{n % 60:02}Z",
    "duration": lambda n: f"P{n + 1}D",
    "email": lambda n: f"ann{n}@example.com",
    "hostname": lambda n: f"{n}.example.com",
    "ipv4": lambda n: f"198.18.{n // 256}.{n % 256}",
    "ipv6": lambda n: f"2001:db8::{n:x}",
    "uuid": lambda n: f"6f2c1e5a-3b7d-4c8e-9a1f-0d2b{n:08x}",
    "uri": lambda n: f"https://example.com/{n}",
}
"""Different strings for different numbers up to 10,000."""

_LONGEST = 10_000
_LARGEST = 50_000
"""Characters and steps of a value: larger ones are refused before they are made."""

_REPEATS = re.compile(r"\)?(?:[*+]|\{\d*,)")

_EMPTY: Mapping[str, Any] = {}


def example(schema: Any, name: str = "text") -> Any:
    """Return a value that fits a schema: the simplest one, with required properties only.

    Patterns are tried with a few common strings, and one made of them; one that fits none of these,
    as where it looks ahead, is not kept.

    Args:
        schema: The schema; references point into it.
        name: Text for strings of any content; below the top, the name of the property.

    Raises:
        ValueError: if each value would contain itself, there are not enough different ones, a
            length is over 10,000, or the whole is too large.
        AttributeError, KeyError, TypeError: if it is no JSON Schema.
    """
    return _Examples(schema if isinstance(schema, dict) else {}).of(schema, name, frozenset())


class _Endless(ValueError):
    """Every value of the schema contains itself."""


class _Examples:
    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._left = _LARGEST
        self._variant = 0  # each choice takes a digit of it; 0 gives the simplest value

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueError("the value is too large")

    def _choice(self, count: int) -> int:
        self._variant, number = divmod(self._variant, count)
        return number

    def of(self, schema: Any, name: str, above: frozenset[str]) -> Any:
        """Return a value; `above` are the references that lead to the schema."""
        value = self._of(*self._resolved(schema, above), name)
        self._spend(1 if isinstance(value, dict | list) else len(str(value)))
        return value

    def _of(self, schema: Mapping[str, Any], above: frozenset[str], name: str) -> Any:
        if "const" in schema or schema.get("enum"):
            values = [schema["const"]] if "const" in schema else schema["enum"]
            value = values[self._choice(len(values))]
            self._spend(len(str(value)))
            return value
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                return self._of_any(schema, word, name, above)
        match _kind(schema):
            case "object":
                return self._object(schema, above)
            case "array":
                return self._array(schema, name, above)
            case "string":
                number = self._choice(_LONGEST)
                return _another_string(schema, name, number) if number else _string(schema, name)
            case "integer" | "number" as kind:
                others, step = _multiples(schema, kind) if self._variant else (range(0), 1)
                return _number(schema, kind, self._choice(len(others) + 1), others, step)
            case "boolean":
                return not self._choice(2)
        return None

    def _resolved(
        self, schema: Any, above: frozenset[str]
    ) -> tuple[Mapping[str, Any], frozenset[str]]:
        """Return the schema with its references and its `allOf` merged into it."""
        if not isinstance(schema, dict):
            return _EMPTY, above
        self._spend(1 + len(schema.get("properties", ())) // 8)
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
            first, second = other.get("properties", {}), merged.get("properties", {})
            both = {key: {"allOf": [first[key], second[key]]} for key in first if key in second}
            properties = {**first, **second, **both}
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
        first = self._choice(len(schema[word]))
        for option in schema[word][first:] + schema[word][:first]:
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
            is_optional = len(found) >= _length(schema, "minProperties")
            if is_optional and not (self._variant and key in others):
                break
            if is_optional and not self._choice(2):
                continue
            value = properties.get(key, schema.get("additionalProperties"))
            found[key] = self.of(value, key, above)
        return found

    def _array(self, schema: Mapping[str, Any], name: str, above: frozenset[str]) -> list[Any]:
        first = list(schema.get("prefixItems", ()))
        least = max(_length(schema, "minItems"), len(first))
        most = schema.get("maxItems", math.inf)
        found: list[Any] = []
        seen: set[bytes] = set()
        number, outer = 0, self._variant
        while len(found) < min(max(least, 1), most):
            is_first = len(found) < len(first)
            if schema.get("items") is False and not is_first:
                break
            item = first[len(found)] if is_first else schema.get("items")
            word = f"{name}{len(found) + 1}" if least > 1 else name
            if schema.get("uniqueItems"):
                self._variant = outer + number
            try:
                value = self.of(item, word, above)
            except _Endless:
                if len(found) < least:
                    raise
                break
            if schema.get("uniqueItems"):
                number += 1
                key = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
                if key in seen:
                    if self._variant:
                        raise ValueError("there are not enough different values")
                    self._spend(10)  # so that the search ends
                    continue
                seen.add(key)
                number = 0 if is_first else number
                self._variant = 0
            found.append(value)
        return found


def _length(schema: Mapping[str, Any], word: str) -> int:
    length = schema.get(word, 0)
    if length > _LONGEST:
        raise ValueError(f"{word} of {length}")
    return int(length)


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
    if isinstance(pattern, str) and not known:
        with contextlib.suppress(ValueError, re.error):
            candidates += (text_of(pattern),)
    for text in candidates:
        longer = (
            text
            if known or not text
            else (text * (least // len(text) + 1))[: max(least, len(text))]
        )
        for candidate in (longer, longer[: int(min(most, len(longer)))]):
            if least <= len(candidate) <= most and _matches(pattern, candidate):
                return candidate
    return candidates[0] or name


def _another_string(schema: Mapping[str, Any], name: str, number: int) -> str:
    """Return a string that is different for each number, if one is found that fits."""
    if make := _OTHERS.get(schema.get("format", "")):
        return make(number)
    simple = _string(schema, name)
    for alphabet in (string.digits, string.ascii_lowercase, string.ascii_uppercase):
        end, left = "", number
        while left:
            left, digit = divmod(left, len(alphabet))
            end = alphabet[digit] + end
        for text in (simple[: max(0, len(simple) - len(end))] + end, simple + end):
            is_long = _length(schema, "minLength") <= len(text)
            is_short = len(text) <= schema.get("maxLength", math.inf)
            if is_long and is_short and _matches(schema.get("pattern"), text):
                return text
    return simple


def _matches(pattern: Any, text: str) -> bool:
    if not isinstance(pattern, str):
        return True
    repeats = _REPEATS.findall(pattern)
    if len(text) > 16 and (len(repeats) > 2 or any(each[0] == ")" for each in repeats)):
        return False  # the search may take for ever
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return True


def _bounds(schema: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return the least and the greatest number, and those that all are greater and less than."""
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    over, under = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    # Older schemas have booleans here, which make the other bound exclusive.
    over = low if over is True else -math.inf if over is None or over is False else over
    under = high if under is True else math.inf if under is None or under is False else under
    return low, high, over, under


def _number(schema: Mapping[str, Any], kind: str, number: int, others: range, step: float) -> float:
    """Return the simplest number that fits, or one of the others."""
    low, high, over, under = _bounds(schema)
    multiple = schema.get("multipleOf") or 1

    def fits(value: float) -> bool:
        return (
            low <= value <= high
            and (over < value < under)
            and (kind == "number" or float(value).is_integer())
            and (
                "multipleOf" not in schema
                or math.isclose(value / multiple, round(value / multiple))
            )
        )

    simple = _candidates(max(low, over), min(high, under), multiple)
    for value in (others[number - 1] * step, *simple) if number else simple:
        if fits(value):
            return int(value) if float(value).is_integer() else value
    return 1


def _multiples(schema: Mapping[str, Any], kind: str) -> tuple[range, float]:
    """Return many numbers about within the bounds: a range, and the step to multiply it with."""
    low, high, over, under = _bounds(schema)
    least, most = max(low, over), min(high, under)
    step = schema.get("multipleOf") or 1
    if kind == "number" and "multipleOf" not in schema and 0 < most - least < _LONGEST:
        step = (most - least) / 1024
    last = math.floor(most / step) if most < math.inf else None
    first = math.ceil(least / step) if least > -math.inf else (last or 0) - _LONGEST
    last = first + _LONGEST if last is None else min(last, first + _LONGEST)
    return range(first, last + 1), step


def _candidates(low: float, high: float, step: float) -> Iterable[float]:
    yield from (1, step, 0)
    for bound in (low, high):
        if math.isfinite(bound):
            multiple = math.floor(bound / step) * step
            yield from (bound, multiple, multiple + step, multiple - step)
    if math.isfinite(low) and math.isfinite(high):
        yield (low + high) / 2
