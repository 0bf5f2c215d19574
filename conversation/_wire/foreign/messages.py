"""Messages and items of other formats to messages of Chat Completions, one after the other.

Known are the items of the Responses API, the Agents SDK and the Realtime API, and the messages of
LangChain, pydantic-ai, ShareGPT and ChatGPT's export; objects as well as their JSON.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

import orjson

from conversation._wire.foreign.parts import (
    SPOKEN,
    Json,
    field,
    image_part,
    part_from,
    text_in,
    text_part,
    wav_text,
)
from conversation._wire.strict_json import json_text


class Left(str):
    """The reason for which a message is left out."""

    __slots__ = ()


class Unread(Left):
    """The same for what cannot be read: not all of a history was imported."""

    __slots__ = ()


TOO_DEEP = Unread("it is nested too deep to be read")


def chat_messages(items: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yield messages of Chat Completions, each with the position of what it was made of.

    What is no message of a known format comes as it is; what has no place, as `Left`.
    """
    reader = _Reader()
    before: tuple[int, Any] | None = None
    for number, item in enumerate(items):
        for message in reader.messages(item):
            if before and _joins(before[1], message):
                before[1]["tool_calls"] = [*before[1].get("tool_calls", ()), *message["tool_calls"]]
            elif isinstance(message, Left):
                yield number, message
            else:
                if before:
                    yield before
                before = number, message
    if before:
        yield before


class _Call(dict[str, Any]):
    """A message with nothing but a call, which stood alone in its format."""


class _Answer(dict[str, Any]):
    """An answer to which the calls behind it belong."""


def _joins(before: object, message: object) -> bool:
    return isinstance(message, _Call) and isinstance(before, _Call | _Answer)


_ROLES = {
    "human": "user",
    "user": "user",
    "ai": "assistant",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "developer",
    "tool": "tool",
    "function": "function",
    "chat": "chat",
}
"""Roles by the names that LangChain and ShareGPT give them."""


def is_role(item: object) -> bool:
    """Return True for a pair of a role and a text, as LangChain takes it."""
    return (
        isinstance(item, list | tuple)
        and len(item) == 2
        and all(isinstance(each, str) for each in item)
        and _ROLES.get(item[0]) in ("user", "assistant", "system", "developer")
    )


_SAID = ("content", "function_call", "tool_calls")

_CALLS = ("tool_use", "tool_call", "function_call", "input_json_delta", "tool_call_chunk")
"""Parts that LangChain repeats as `tool_calls`."""


class _Reader:
    """Reads one list; knows what the messages before have said."""

    def __init__(self) -> None:
        self._told: str | None = None  # the last instructions
        self._open: list[str] = []  # ids of calls whose results name none
        self._calls = 0

    def messages(self, item: Any) -> Iterable[Any]:
        if text_in(item, "kind") in ("request", "response") and _is_list(field(item, "parts")):
            return self._of_pydantic_ai(item)
        if (found := _langchain(item)) is not None:
            return (found,)
        if is_role(item):
            return ({"role": _ROLES[item[0]], "content": item[1]},)
        if text_in(item, "from") is not None and text_in(item, "value") is not None:
            return (self._of_sharegpt(item),)
        if text_in(item, "type") is not None and (found := _item(item)) is not None:
            return (found,)
        if isinstance(content := field(item, "content"), Mapping) and "content_type" in content:
            return self._of_chatgpt(item, content)
        item = self._of_chat_completions(item)
        if isinstance(item, Mapping) and _is_list(item.get("content")):
            return (_message(item, {**item}),)
        return (item,)

    def _of_chat_completions(self, item: Any) -> Any:
        """Return a message with its usual role, and calls of functions as those of tools."""
        is_message = isinstance(item, Mapping) and not item.keys().isdisjoint(_SAID)
        role = text_in(item, "role") if is_message else None
        usual = _ROLES.get((role or "").lower())
        if usual == "function" and self._open:
            name = text_in(item, "name")
            return self._result(item.get("content")) | ({"name": name} if name else {})
        if usual == "tool":
            return self._answered(item)
        if usual in (None, "chat", "function"):
            return item
        if usual != "assistant":
            self._open.clear()
            if _is_list(pictures := item.get("images")) and usual == "user":
                item = _with_pictures(item, pictures)
        elif _is_list(calls := item.get("tool_calls")):
            item = {**item, "tool_calls": self._named(calls)}
        elif name := text_in(call := item.get("function_call"), "name"):
            rest = {key: value for key, value in item.items() if key != "function_call"}
            calls = [self._called(name, field(call, "arguments"))]
            return {"tool_calls": calls, **rest, "role": usual}
        return item if usual == role else {**item, "role": usual}

    # --- pydantic-ai ---------------------------------------------------------------------------

    def _of_pydantic_ai(self, item: Any) -> Iterator[Any]:  # noqa: C901  # a case a kind
        told = text_in(item, "instructions")
        if told and told != self._told:
            self._told = told
            yield {"role": "system", "content": told}
        words: list[str] = []
        calls = []
        for part in field(item, "parts"):
            kind, content = text_in(part, "part_kind"), field(part, "content")
            name, call_id = text_in(part, "tool_name"), text_in(part, "tool_call_id")
            match kind:
                case "system-prompt":
                    yield {"role": "system", "content": content}
                case "user-prompt":
                    yield _message(part, {"role": "user"})
                case "tool-return" | "retry-prompt" if name and call_id:
                    pieces = content if _is_list(content) else [content]
                    words_alone = [piece for piece in pieces if not _is_media(piece)]
                    if len(words_alone) < len(pieces):
                        yield Left("only words are kept of a tool's result, and no media")
                        content = "\n".join(map(_text_of, words_alone))
                    yield _said("tool", _text_of(content), call_id)
                case "retry-prompt" | "retry-feedback" if isinstance(content, str):
                    yield {"role": "user", "content": content}
                case "text" if isinstance(content, str):
                    words.append(content)
                case "tool-call" if name:
                    calls.append(_call(call_id, name, field(part, "args")))
                case _:
                    yield Left(f"a part of kind {kind!r} has no place in Chat Completions")
        if words or calls:
            message: Json = {"role": "assistant", "content": "\n\n".join(words) or None}
            yield message | ({"tool_calls": calls} if calls else {})

    # --- ShareGPT ------------------------------------------------------------------------------

    def _of_sharegpt(self, item: Any) -> Any:
        who, value = str(field(item, "from")).lower(), field(item, "value")
        if who in ("function_call", "tool_call"):
            called = _json_object(value)
            if (name := text_in(called, "name")) is None:
                return Left(
                    f"a call must be JSON with a name, got {len(value)} characters that are not"
                )
            return _Call(role="assistant", tool_calls=[self._called(name, called.get("arguments"))])
        if who in ("observation", "tool", "function", "function_response", "tool_response"):
            return self._result(value)
        if (role := _ROLES.get(who)) in (None, "chat"):
            return Left(f"its author must be human, gpt, system or tool, got {who!r}")
        self._open.clear()
        return _Answer(role=role, content=value) if role == "assistant" else _said(role, value)

    def _called(self, name: str, arguments: object) -> Json:
        self._calls += 1
        self._open.append(f"call_{self._calls}")
        return _call(self._open[-1], re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:64], arguments)

    def _named(self, calls: Sequence[Any]) -> list[Any]:
        """Return calls with ids, by which a result is found that has none."""
        self._open = [text_in(call, "id") or "" for call in calls]
        while "" in self._open:
            self._calls += 1
            if (made := f"call_{self._calls}") not in self._open:
                self._open[self._open.index("")] = made
        return [
            {**call, "id": call_id} if isinstance(call, Mapping) else call
            for call, call_id in zip(calls, self._open, strict=True)
        ]

    def _answered(self, item: Mapping[str, Any]) -> Any:
        """Return a result with the id of the first call without one, if it names none."""
        given = item.get("tool_call_id")
        if given in self._open:
            self._open.remove(given)
        found = self._open.pop(0) if not given and self._open else given
        return {**item, "role": "tool", "tool_call_id": found}

    def _result(self, content: object) -> Any:
        if not self._open:
            return Left("it is the result of a tool that nobody called")
        return {"role": "tool", "tool_call_id": self._open.pop(0), "content": content}

    # --- ChatGPT's export ----------------------------------------------------------------------

    def _of_chatgpt(self, item: Any, content: Mapping[str, Any]) -> Iterator[Any]:
        role, kind = text_in(field(item, "author"), "role"), text_in(content, "content_type")
        parts = content.get("parts")
        pieces = parts if _is_list(parts) else [content.get("text") or content.get("result")]
        words = [w for piece in pieces if (w := _words(piece)).strip()]
        recipient = text_in(item, "recipient") or "all"
        for piece in pieces if _is_list(parts) else ():
            if isinstance(piece, Mapping) and not _words(piece):
                what = text_in(piece, "content_type")
                yield Left(f"a part of type {what!r} is a file of its own in ChatGPT's export")
        if kind in (
            "thoughts",
            "reasoning_recap",
            "user_editable_context",
            "model_editable_context",
        ):
            yield Left(f"a message of type {kind!r} has no place in Chat Completions")
        elif not words:
            return
        elif field(field(item, "metadata"), "is_visually_hidden_from_conversation") is True:
            yield Left("ChatGPT hides it")
        elif role == "assistant" and recipient != "all":
            given = "\n".join(words)
            arguments = given if _json_object(given) else {"input": given}
            yield _Call(role="assistant", tool_calls=[self._called(recipient, arguments)])
        elif role == "tool":
            yield self._result("\n".join(words))
        else:
            self._open.clear()
            message = {"role": role, "content": "\n".join(words)}
            yield _Answer(message) if role == "assistant" else message


def _words(piece: object) -> str:
    return piece if isinstance(piece, str) else text_in(piece, "text") or ""


# --- LangChain -----------------------------------------------------------------------------------


def _langchain(item: Any) -> Any:
    """Return the message in one of LangChain's, or in its JSON of any kind; None if it is none."""
    body, kind = item, text_in(item, "type")
    if kind == "constructor" and isinstance(field(item, "kwargs"), Mapping):
        body, path = item["kwargs"], field(item, "id")
        kind = str(path[-1]) if isinstance(path, list) and path else None
    elif isinstance(item, Mapping) and isinstance(item.get("data"), Mapping):
        body = item["data"]
    elif isinstance(item, Mapping) and "role" in item and kind != "chat":
        return None
    kind = re.sub("(Message)?(Chunk)?$", "", kind or "").lower()
    if kind == "remove":
        return Left("it removes another message")
    if kind not in _ROLES or kind == "gpt" or field(body, "content") is None:
        return None
    role = _ROLES[kind] if kind != "chat" else str(field(body, "role"))
    more = field(body, "additional_kwargs")
    more = more if isinstance(more, Mapping) else {}
    message: Json = {"role": role}
    for key, value in (
        ("name", text_in(body, "name")),
        ("tool_call_id", text_in(body, "tool_call_id")),
        *((key, more.get(key)) for key in ("audio", "refusal", "function_call", "tool_calls")),
    ):
        if value:
            message[key] = value
    lists = (field(body, "tool_calls"), field(body, "invalid_tool_calls"))
    calls = [call for given in lists if _is_list(given) for call in given]
    if calls:
        message["tool_calls"] = [
            _call(text_in(call, "id"), field(call, "name"), field(call, "args")) for call in calls
        ]
    content = field(body, "content")
    if _is_list(content):
        content = [part for part in content if text_in(part, "type") not in _CALLS]
    return _message({"content": content}, message)


# --- items of the Responses API, the Agents SDK and the Realtime API -----------------------------


def _item(item: Any) -> Any:
    """Return the message in an item; None if it is none."""
    kind, role = text_in(item, "type"), text_in(item, "role")
    call_id = text_in(item, "call_id") or text_in(item, "id")
    match kind:
        case "message" if role is not None:
            return _message(item, _Answer(role=role) if role == "assistant" else {"role": role})
        case "function_call" if name := text_in(item, "name"):
            call = _call(call_id, name, field(item, "arguments"))
            return _Call(role="assistant", tool_calls=[call])
        case "custom_tool_call" if name := text_in(item, "name"):
            custom = {"name": name, "input": field(item, "input")}
            call = {"id": call_id, "type": "custom", "custom": custom}
            return _Call(role="assistant", tool_calls=[call])
        case "function_call_output" | "custom_tool_call_output":
            return _message({"content": field(item, "output")}, _said("tool", None, call_id))
        case str() if (role is None and field(item, "content") is None) or kind == "reasoning":
            return Left(f"an item of type {kind!r} has no place in Chat Completions")
    return None


def _message(item: Any, message: Json) -> Json:
    """Return the message with the content of an item."""
    content = field(item, "content")
    if message.get("role") == "assistant" and _is_list(content):
        spoken = [part for part in content if text_in(part, "type") in SPOKEN]
        if spoken:
            content = [part for part in content if part not in spoken]
            message["audio"] = _spoken(spoken)
    message["content"] = [part_from(part) for part in content] if _is_list(content) else content
    return message


def _spoken(parts: list[Any]) -> Json:
    words = [words for part in parts if (words := text_in(part, "transcript"))]
    sounds = [sound for part in parts if (sound := text_in(part, "audio"))]
    audio: Json = {"id": None, "transcript": " ".join(words) or None}
    # Joined sound would need one format.
    return audio | ({"data": wav_text(sounds[0])} if len(sounds) == 1 else {})


def _with_pictures(item: Mapping[str, Any], pictures: Sequence[Any]) -> Json:
    """Return a message of Ollama's with the base64 of its pictures as parts."""
    said = item.get("content") or ""
    parts: list[Any] = list(said) if _is_list(said) else [text_part(said)] if said else []
    given = (each for each in pictures if isinstance(each, str))
    parts += [image_part(f"data:image/png;base64,{each}") for each in given]
    return {key: v for key, v in item.items() if key != "images"} | {"content": parts}


# --- small things --------------------------------------------------------------------------------


def _said(role: str, content: Any, call_id: str | None = None) -> Json:
    message = {"role": role, "content": content}
    return message if call_id is None else {**message, "tool_call_id": call_id}


def _call(call_id: str | None, name: Any, arguments: object) -> Json:
    text = "{}" if arguments is None else _text_of(arguments)
    function = {"name": name, "arguments": text or "{}"}
    return {"id": call_id, "type": "function", "function": function}


def _is_media(part: object) -> bool:
    kind = text_in(part, "kind") or ""
    return kind == "binary" or kind.endswith("-url")


def _text_of(value: object) -> str:
    """Return text as it is, other values as JSON."""
    if isinstance(value, str):
        return value
    with contextlib.suppress(Exception):  # without pydantic there are none of its objects
        from pydantic_core import to_jsonable_python

        value = to_jsonable_python(value, serialize_unknown=True, bytes_mode="base64")
    return json_text(value)


def _json_object(text: str) -> Json:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)
