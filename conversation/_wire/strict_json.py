"""Strict JSON: conversion of what it cannot hold."""

from __future__ import annotations

import contextlib
import math
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import Any

import orjson

from conversation._values.text import clean_text
from conversation.errors import InvalidSetting

_LEVELS = 50
"""Nesting deeper than this becomes text."""


def read_json(data: bytes) -> Any:
    """Return the JSON value in bytes that another program wrote, in any of JSON's encodings.

    Lone surrogates become U+FFFD in it, and what strict JSON cannot hold, such as NaN, text.

    Raises:
        ValueError: if it is not JSON.
    """
    data = data.removeprefix(BOM_UTF8)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        import json

        try:
            return _holdable(json.loads(data), 4 * _LEVELS)
        except (ValueError, RecursionError):
            raise error from None  # it names the place better


def json_text(value: object) -> str:
    """Return a server's value as JSON; what strict JSON cannot hold becomes text in it.

    Keys are sorted, so that equal objects are equal texts.
    """
    with contextlib.suppress(orjson.JSONEncodeError, orjson.JSONDecodeError):
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if text.count(b"{") + text.count(b"[") < _LEVELS and orjson.loads(text) == value:
            return text.decode()
    return orjson.dumps(_holdable(value, _LEVELS), option=orjson.OPT_SORT_KEYS).decode()


def _holdable(value: object, levels: int) -> object:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, Mapping) and levels:
        return {clean_text(str(key)): _holdable(v, levels - 1) for key, v in value.items()}
    if isinstance(value, list | tuple) and levels:
        return [_holdable(inner, levels - 1) for inner in value]
    import json

    try:
        return clean_text(json.dumps(value, default=repr))
    except (ValueError, RecursionError):
        return f"[a {type(value).__name__} nested too deep for JSON]"


def plain_json(value: Any, name: str, *, levels: int = 100) -> Any:
    """Return a copy that strict JSON can hold, with U+FFFD for lone surrogates in texts.

    Values of other types than JSON's are left as they are.

    Raises:
        InvalidSetting: for a number that is NaN, infinite or beyond 64 bits, for a key that is not
            text, and for nesting deeper than `levels`; the message names the place.
    """
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        msg = f"{name} must be a finite number, got {value!r}"
        raise InvalidSetting(msg)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        msg = f"{name} must have at most 64 bits, got {value.bit_length()}; pass it as text"
        raise InvalidSetting(msg)
    if isinstance(value, Mapping | list | tuple) and not levels:
        msg = f"{name} is nested too deep for JSON; flatten it"
        raise InvalidSetting(msg)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                msg = f"the keys of {name} must be text, got {key!r}"
                raise InvalidSetting(msg)
        return {
            clean_text(key): plain_json(inner, f"{name}[{key!r}]", levels=levels - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [plain_json(v, f"{name}[{i}]", levels=levels - 1) for i, v in enumerate(value)]
    return value


def json_bytes(value: Any, name: str) -> bytes:
    """Return a caller's value as strict JSON.

    Raises:
        InvalidSetting: if JSON cannot hold it.
    """
    try:
        return orjson.dumps(plain_json(value, name))
    except orjson.JSONEncodeError as error:
        msg = f"{name} cannot be written as JSON: {error}"
        raise InvalidSetting(msg) from error
