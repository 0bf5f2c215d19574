"""Pieces of a streamed answer, put together: its fields, and its tool calls."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

log = logging.getLogger("conversation")


def joined(before: Any, more: Any) -> Any:
    """Join two pieces of a field: texts and lists one after the other, objects by their fields."""
    if before is None or more is None:
        return more if before is None else before
    if isinstance(before, str):
        return before + more if isinstance(more, str) else before
    if isinstance(before, list) and isinstance(more, list):
        return before + more
    if isinstance(before, Mapping) and isinstance(more, Mapping):
        return {**before, **{key: joined(before.get(key), more[key]) for key in more}}
    return more


class StreamedCalls:
    """Tool calls that come in pieces, each by its index, its id or its name."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int | None, dict[str, Any]]] = []

    @property
    def has_begun(self) -> bool:
        """True if a piece has come."""
        return bool(self._pieces)

    def add(self, piece: object) -> None:
        """Add a piece of a call."""
        if not isinstance(piece, Mapping):
            return
        index, call_id = piece.get("index"), piece.get("id")
        index = index if isinstance(index, int) else None
        before = [c for at, c in self._pieces if index is None or at in (None, index)]
        same = [each for each in before if call_id and each.get("id") == call_id]
        if same:
            call = same[-1]
        elif before and not _is_another(before[-1], piece):
            call = before[-1]
        else:
            call = {}
            self._pieces.append((index, call))
        for key, value in piece.items():
            body = call.get(key)
            if isinstance(value, Mapping):
                if not isinstance(body, dict):
                    body = call[key] = {}
                for name, part in value.items():
                    joins = name in ("arguments", "input")
                    body[name] = joined(body.get(name), part) if joins else part or body.get(name)
            elif value and key != "index" and not isinstance(body, dict):
                # Some servers give each piece an id of its own: the first one counts.
                call[key] = call.get(key, value) if key == "id" else value

    def whole(self, *, ended: bool) -> list[dict[str, Any]]:
        """Return the calls; unless the answer has ended, only those whose arguments are whole."""
        calls = _joined_calls(self._pieces)
        calls = [call for call in calls if ended or _is_whole(call)]
        named = [call for call in calls if _function_of(call).get("name")]
        if nameless := len(calls) - len(named):
            log.warning("skipping tool calls without a name: %d", nameless)
        return named


def _is_another(call: Mapping[str, Any], piece: Mapping[str, Any]) -> bool:
    """Return True if a piece of an unknown id, or of none, begins another call.

    It does not without a name. The same name may be repeated with each piece, until the arguments
    are whole.
    """
    before, now = (_function_of(each) for each in (call, piece))
    if not before.get("name") or not now.get("name"):
        return False
    if before["name"] != now["name"] or (piece.get("id") and call.get("id")):
        return True
    return bool(before.get("arguments") and now.get("arguments")) and _is_whole(call)


def _joined_calls(pieces: Sequence[tuple[int | None, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the calls; those are one that only together are whole.

    Some servers repeat the index and the name with each piece, under an id of its own.
    """
    calls: list[dict[str, Any]] = []
    position = 0
    while position < len(pieces):
        index, call = pieces[position]
        function, texts = _function_of(call), list[str]()
        for at, other in pieces[position:]:
            body = _function_of(other)
            text = body.get("arguments") or ""
            is_same = at == index is not None and body.get("name") == function.get("name")
            if not is_same or "custom" in other or not isinstance(text, str):
                break
            texts.append(text)
        joins = _length_of_whole(texts)
        if joins > 1:
            function = {**function, "arguments": "".join(texts[:joins])}
            call = {**call, "function": function}
        calls.append(call)
        position += joins
    return calls


def _length_of_whole(texts: Sequence[str]) -> int:
    """Return the number of pieces of arguments that make one whole; 1 if none do."""
    if not any(text.strip() for text in texts):
        return len(texts) or 1
    text = ""
    for number, piece in enumerate(texts, 1):
        text += piece
        if piece.strip().endswith("}") and _is_json(text):
            rest = texts[number:]
            return number + next((i for i, more in enumerate(rest) if more.strip()), len(rest))
    return 1


def _function_of(call: Mapping[str, Any]) -> Mapping[str, Any]:
    body = call.get("custom") or call.get("function")
    return body if isinstance(body, Mapping) else {}


def _is_whole(call: Mapping[str, Any]) -> bool:
    function = call.get("function")
    return not isinstance(function, Mapping) or _is_json(function.get("arguments") or "{}")


def _is_json(text: str) -> bool:
    with contextlib.suppress(orjson.JSONDecodeError):
        orjson.loads(text)
        return True
    return False
