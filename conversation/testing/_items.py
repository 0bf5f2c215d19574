"""Items of a Realtime session: the checks of the API, and what they are to an answer."""

from __future__ import annotations

import base64
from collections.abc import Collection, Mapping
from typing import Any

import attrs

from conversation._values.sound import wav_from_pcm
from conversation.testing._refusals import (
    Refused,
    invalid_type,
    invalid_value,
    missing_parameter,
    too_long,
)

LONGEST_ID = 32

_CONTENT = {"system": ("input_text",), "user": ("input_text", "input_audio", "input_image")}
"""Types of content by role. Of an answer, only text is taken."""


_PICTURES = ("data:image/png", "data:image/jpeg")


@attrs.define(eq=False)
class Item:
    """An item of the conversation.

    Attributes:
        body: The item as it is told, without sound.
        sound: Mono s16le samples of it.
        rate: Samples a second (Hz).
    """

    body: dict[str, Any]
    sound: bytes = b""
    rate: int = 24_000

    @property
    def id(self) -> str:
        """The id."""
        return str(self.body["id"])

    @property
    def ms(self) -> int:
        """Length of its sound in milliseconds."""
        return len(self.sound) // 2 * 1000 // self.rate

    @property
    def text(self) -> str:
        """All words in it."""
        parts = self.body.get("content") or ()
        words = [part.get("text") or part.get("transcript") or "" for part in parts]
        return " ".join([*words, self.body.get("output", ""), self.body.get("arguments", "")])

    @property
    def is_spoken_answer(self) -> bool:
        """True for an answer with sound."""
        return self.body.get("role") == "assistant" and bool(self.sound)

    @property
    def message(self) -> dict[str, Any]:
        """The message of Chat Completions that says the same."""
        kind, role = self.body["type"], self.body.get("role")
        if kind == "function_call_output":
            return {"role": "tool", "content": self.body["output"]}
        if role == "assistant" and self.sound:
            return {"role": role, "audio": {"id": self.id}}
        if role != "user":
            return {"role": role or "assistant", "content": self.text if role else None}
        texts = [part["text"] for part in self.body["content"] if part["type"] == "input_text"]
        content: list[dict[str, Any]] = [{"type": "text", "text": text} for text in texts]
        if self.sound:
            wav = base64.b64encode(wav_from_pcm(self.sound, rate=self.rate)).decode()
            sound = {"data": wav, "format": "wav"}
            content.append({"type": "input_audio", "input_audio": sound})
        return {"role": "user", "content": content}


def check(body: Any, known: Mapping[str, Item]) -> dict[str, Any]:
    """Return an item that a client creates.

    Raises:
        Refused: as the API refuses it.
    """
    if not isinstance(body, dict):
        raise missing_parameter("item")
    kind = _required(body, "type", "item")
    if kind not in ("message", "function_call", "function_call_output"):
        allowed = ("message", "function_call", "function_call_output")
        raise invalid_value(kind, allowed, "item.type")
    if body.get("id") is not None:
        item_id = _id(body, "id")
        if item_id in known:
            message = f"Item with ID '{item_id}' already exists in the conversation."
            raise Refused(message, "item.id", "item_create_duplicate_item_id")
    if kind == "message":
        _check_message(body)
    elif kind == "function_call":
        _id(body, "call_id")
        _required(body, "name", "item")
        _required(body, "arguments", "item")
    else:
        call_id = _id(body, "call_id")
        _required(body, "output", "item")
        calls = (item.body for item in known.values() if item.body["type"] == "function_call")
        if all(call["call_id"] != call_id for call in calls):
            message = f"Tool call ID '{call_id}' not found in conversation."
            raise Refused(message, "item.call_id", "invalid_tool_call_id")
    return dict(body)


def _check_message(body: Mapping[str, Any]) -> None:
    role = _required(body, "role", "item")
    if role not in ("system", "user", "assistant"):
        raise invalid_value(role, ("system", "user", "assistant"), "item.role")
    content = body.get("content")
    if content is None:
        raise missing_parameter("item.content")
    if not isinstance(content, list):
        raise invalid_type("item.content", "an array of objects", content)
    for number, part in enumerate(content):
        path = f"item.content[{number}]"
        if not isinstance(part, dict):
            raise invalid_type(path, "an object", part)
        kind = _required(part, "type", path)
        if role == "assistant":
            _required(part, "text", path)  # also of `output_audio`
            _among(kind, ("output_text",), f"{path}.type")
        else:
            _among(kind, _CONTENT[role], f"{path}.type")
            field = {"input_audio": "audio", "input_image": "image_url"}.get(kind, "text")
            value = _required(part, field, path)
            if kind == "input_image" and not value.startswith(
                ("data:image/png", "data:image/jpeg")
            ):
                message = f"Invalid '{path}.image_url'. Expected a data URL of a PNG or JPEG file."
                raise Refused(message, f"{path}.image_url", "invalid_value")
            if kind == "input_audio":
                decoded(value, f"{path}.audio")


def decoded(text: Any, path: str) -> bytes:
    """Return the sound in base64.

    Raises:
        Refused: if it is none.
    """
    if not isinstance(text, str):
        raise invalid_type(path, "a string", text)
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        message = f"Invalid '{path}'. Expected base64-encoded audio bytes."
        raise Refused(message, path, "invalid_value") from error


def _among(value: str, allowed: Collection[str], path: str) -> None:
    if value not in allowed:
        raise invalid_value(value, allowed, path)


def _required(body: Mapping[str, Any], name: str, path: str) -> str:
    if body.get(name) is None:
        raise missing_parameter(f"{path}.{name}")
    if not isinstance(body[name], str):
        raise invalid_type(f"{path}.{name}", "a string", body[name])
    return str(body[name])


def _id(body: Mapping[str, Any], name: str) -> str:
    found = _required(body, name, "item")
    if len(found) > LONGEST_ID:
        raise too_long(f"item.{name}", "string", LONGEST_ID, len(found))
    return found
