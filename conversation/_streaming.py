"""Chunks of a streamed completion, put together into one completion.

The SDK's own accumulator joins ids, roles and base64 and sums `expires_at` (contract §2).
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from conversation import _sound
from conversation.errors import InvalidCompletion

log = logging.getLogger("conversation")


class Assembly:
    """One completion, as its chunks come in. Every field of a chunk stands for itself."""

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._head: dict[str, Any] = {}

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take in one chunk, as a JSON object."""
        for key in ("id", "created", "model", "system_fingerprint", "service_tier", "usage"):
            if chunk.get(key):
                self._head[key] = chunk[key]
        for choice in chunk.get("choices") or ():
            index = choice.get("index") or 0
            self._choices.setdefault(index, _Choice()).add(choice)

    def completion(self) -> dict[str, Any]:
        """What has come so far, in the shape of a completion that was not streamed.

        Sound stands under `data` as bytes: WAV, where it came as raw PCM.
        """
        choices = [{"index": i, **self._choices[i].whole()} for i in sorted(self._choices)]
        return {"object": "chat.completion", **self._head, "choices": choices}


class _Choice:
    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._audio: dict[str, Any] = {}
        self._transcript: list[str] = []
        self._data: list[bytes] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._rest: dict[str, Any] = {}
        self._finish_reason: str | None = None

    def add(self, choice: Mapping[str, Any]) -> None:
        self._finish_reason = choice.get("finish_reason") or self._finish_reason
        for key, value in (choice.get("delta") or {}).items():
            if value is None or key == "role":
                continue
            if key == "audio" and isinstance(value, Mapping):
                self._add_audio(value)
            elif key == "tool_calls" and isinstance(value, list | tuple):
                for position, call in enumerate(value):
                    self._add_call(call, position)
            elif isinstance(value, str):
                self._texts.setdefault(key, []).append(value)
            else:
                self._rest[key] = value

    def _add_audio(self, audio: Mapping[str, Any]) -> None:
        for key, value in audio.items():
            if value is None:
                continue
            if key == "transcript":
                self._transcript.append(value)
            elif key == "data":
                self._data.append(decoded_piece(value))
            else:
                self._audio[key] = value

    def _add_call(self, piece: Mapping[str, Any], position: int) -> None:
        index = piece.get("index")
        call = self._calls.setdefault(position if index is None else index, {})
        for key, value in piece.items():
            if isinstance(value, Mapping):
                body = call.setdefault(key, {})
                for name, text in value.items():
                    joins = name in ("arguments", "input") and text is not None
                    if joins:
                        body[name] = body.get(name, "") + text
                    elif text:
                        body[name] = text
            elif value and key != "index":
                call[key] = value

    def whole(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._rest}
        message |= {key: "".join(pieces) for key, pieces in self._texts.items()}
        if self._audio or self._transcript or self._data:
            data = b"".join(self._data)
            if data and not _sound.format_of(data):
                data = _sound.wav_from_pcm(data)
            message["audio"] = {
                **self._audio,
                "transcript": "".join(self._transcript) or None,
                "data": data or None,
            }
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return {"message": message, "finish_reason": self._finish_reason}


def decoded_piece(text: str) -> bytes:
    """The bytes of one chunk's base64, padded or not."""
    text = text.rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        log.warning(
            "a piece of sound that is not base64 was passed over (%d characters)", len(text)
        )
        return b""


def assembled(chunks: Iterable[Any]) -> dict[str, Any]:
    """The completion that the chunks make up; each is the SDK's object or its dict."""
    assembly = Assembly()
    for chunk in chunks:
        assembly.add(json_object(chunk))
    return assembly.completion()


def json_object(value: Any) -> Mapping[str, Any]:
    """The JSON object behind one of the SDK's objects, or a dict as it is.

    Raises:
        InvalidCompletion: if it is neither.
    """
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    if dump is None:
        msg = (
            "expected a completion of chat.completions.create (the SDK's object, its dict, or its "
            f"chunks), got {type(value).__name__}"
        )
        raise InvalidCompletion(msg)
    # Without warnings: servers leave out fields that the SDK's types call required.
    dumped: Mapping[str, Any] = dump(exclude_unset=True, warnings=False)
    return dumped
