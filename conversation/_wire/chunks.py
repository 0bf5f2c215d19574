"""Chunks of a streamed completion: the words and sound in each, and the whole completion.

The SDK's own accumulator joins ids, roles and base64, and sums `expires_at`.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from conversation._values.events import AudioDelta, TextDelta, TranscriptDelta
from conversation._values.streamed import Samples, StreamedSound
from conversation._values.text import clean_text
from conversation._wire.fields import joined_text
from conversation._wire.messages import bytes_from_base64, plain_base64
from conversation._wire.pieces import StreamedCalls, joined
from conversation.errors import InvalidCompletion

log = logging.getLogger("conversation")

Delta = AudioDelta | TextDelta | TranscriptDelta

_BASE64 = re.compile("[A-Za-z0-9+/]*")

_HEAD = ("id", "created", "model", "system_fingerprint", "service_tier")


class StreamedCompletion:
    """One completion, collected from the chunks of its stream.

    Fields of an unexpected type are skipped: a server may send anything. Where several choices
    answer in the same way, all but the first are skipped: a turn has one answer.

    Attributes:
        head: The fields that concern all choices, such as `usage`.
    """

    def __init__(self) -> None:
        self._choices: dict[int, _Choice] = {}
        self._is_counted, self._has_counted = False, False
        self.head: dict[str, Any] = {}

    def add(self, chunk: Any) -> list[Delta]:
        """Add a chunk: the SDK's object, its dict, or an event of the SDK's helper `stream`.

        Returns:
            The words and the sound in it.

        Raises:
            InvalidCompletion: if it is an error, or not a chunk.
        """
        fields = _fields(chunk) or json_object(chunk)
        _check_error(fields)
        if isinstance(fields.get("type"), str) and "choices" not in fields:
            # Of the helper's events, one says what came; the others say it again.
            return self.add(fields["chunk"]) if fields.get("chunk") else []
        for key in _HEAD:
            if (value := fields.get(key)) and (value := json_value(value)):
                self.head[key] = value
        # Some servers put their usage elsewhere.
        usage = fields.get("usage") or (_fields(fields.get("x_groq")) or {}).get("usage")
        deltas: list[Delta] = []
        told: list[Mapping[str, Any]] = []
        choices = fields.get("choices")
        for given in choices if isinstance(choices, (list, tuple)) else ():
            choice = _fields(given)
            if choice is None:
                continue
            usage = usage or choice.get("usage")
            delta = _delta_of(choice)
            told.append(delta)
            index = choice.get("index")
            if not isinstance(index, int):
                index = 0
            whole = self._choices.get(index)
            if whole is None:
                whole = self._choices[index] = _Choice()
            sounds = fields.get("modality") == "audio"
            if len(self._choices) > 1:
                others = [other for other in self._choices.values() if other is not whole]
                delta = _without_others(delta, others, sounds=sounds)
            whole.add(delta, choice.get("finish_reason"), deltas, sounds=sounds)
        self._count(told, json_value(usage))
        return deltas

    def _count(self, deltas: Sequence[Mapping[str, Any]], usage: Any) -> None:
        """Note the answer's usage, if it came, behind it or with its last words.

        Some servers send one with every chunk: there it ends nothing.
        """
        counts = bool(usage)
        if counts:
            self.head["usage"] = usage
        if not counts and not self._has_counted:
            return
        if any(_says(delta[key]) for delta in deltas for key in delta if key != "role"):
            self._is_counted = counts and not self._has_counted
        else:
            self._is_counted = self._is_counted or counts
        self._has_counted = True

    def finish(self) -> list[Delta]:
        """Return the sound that was held back until its format was known; idempotent."""
        return [delta for choice in self._choices.values() for delta in choice.finish()]

    @property
    def is_empty(self) -> bool:
        """True if neither words nor sound have come yet."""
        return not any(choice.speaks for choice in self._choices.values())

    def broken_off(self) -> dict[str, Any]:
        """Same as `completion`, for a stream that was left before its end.

        Tool calls are left out, and sound that was held back, as nobody has heard it.
        """
        completion = {**self._completion(), "interrupted": True}
        for choice in completion["choices"]:
            choice["message"].pop("tool_calls", None)
        return completion

    def completion(self) -> dict[str, Any]:
        """Return what has come so far, in the form of a completion that was not streamed.

        Sound is bytes under `data`: WAV if it came as raw PCM. `interrupted` is True if neither
        `finish_reason` nor `expires_at` nor, behind the answer, its usage came; then tool calls
        with incomplete arguments are left out.

        Raises:
            InvalidCompletion: if the stream ended before anything came.
        """
        self.finish()
        return self._completion()

    def _completion(self) -> dict[str, Any]:
        finished = any(choice.ended for choice in self._choices.values())
        ended = finished or self._is_counted
        choices = [
            {"index": i, **choice.whole(counted=self._is_counted)}
            for i, choice in sorted(self._choices.items())
        ]
        if (
            not finished
            and self.is_empty
            and not any("tool_calls" in c["message"] for c in choices)
        ):
            msg = "the stream ended before an answer came; ask again"
            raise InvalidCompletion(msg)
        head = {"object": "chat.completion", **self.head}
        return {**head, "choices": choices, "interrupted": not ended}


def _fields(value: Any, *, as_given: bool = False) -> Mapping[str, Any] | None:
    """Return the fields of a dict or of one of the SDK's objects; None if it is neither.

    An object's fields that were not given are None, or left out with `as_given`.
    """
    if isinstance(value, dict):
        return value
    # Read as pydantic keeps them: `model_dump` costs as much as all the rest of `add`.
    given = getattr(value, "__pydantic_fields_set__", None)
    if not isinstance(given, set):
        is_object = isinstance(value, Mapping) or hasattr(value, "model_dump")
        return json_object(value) if is_object else None
    fields, extra = value.__dict__, value.__pydantic_extra__
    if as_given:
        fields = {name: field for name, field in fields.items() if name in given}
    return {**fields, **extra} if extra else fields


def _check_error(fields: Mapping[str, Any]) -> None:
    if error := fields.get("error"):
        msg = f"the stream broke off with an error: {error}"
        raise InvalidCompletion(msg, body=json_value(error))


def _delta_of(choice: Mapping[str, Any]) -> Mapping[str, Any]:
    _check_error(choice)
    delta = _fields(choice.get("delta"), as_given=True)
    if delta is not None:
        return delta
    if "message" in choice:
        msg = "a choice of a chunk must have a delta; is this a completion that was not streamed?"
        raise InvalidCompletion(msg)
    return {}  # a report of Azure's asynchronous content filter


def _without_others(
    delta: Mapping[str, Any], others: Sequence[_Choice], *, sounds: bool
) -> dict[str, Any]:
    """Return the delta without fields that another choice has begun: those are a second answer."""
    own = {}
    for key, value in delta.items():
        kind = "audio" if sounds and key == "content" else key
        if not any(other.has(kind) for other in others):
            own[key] = value
        elif value:
            log.warning("skipping a second answer in the same stream; request it with n=1")
    return own


def _says(value: object) -> bool:
    """Return True if there is anything in a field of a delta, also inside of objects and lists."""
    if value is None or isinstance(value, str):
        return bool(value)
    if isinstance(value, (list, tuple)):
        return any(map(_says, value))
    inner = _fields(value, as_given=True)
    return value not in (0, False) if inner is None else any(map(_says, inner.values()))


class _Choice:
    def __init__(self) -> None:
        self._message: dict[str, Any] = {}
        self._audio: dict[str, Any] = {}
        self._sound = StreamedSound()
        self._base64 = ""  # characters that make no whole bytes yet
        self._calls = StreamedCalls()
        self._finish_reason: str | None = None

    @property
    def ended(self) -> bool:
        is_whole = self._finish_reason and self._finish_reason != "error"
        return bool(is_whole or self._audio.get("expires_at"))

    @property
    def speaks(self) -> bool:
        words = (self._message.get("content"), self._message.get("refusal"))
        return bool(not self._sound.is_empty or self._audio.get("transcript") or any(words))

    def has(self, kind: str) -> bool:
        if kind == "audio":
            return bool(self._audio or not self._sound.is_empty)
        return bool(self._calls.has_begun if kind == "tool_calls" else self._message.get(kind))

    def add(
        self,
        delta: Mapping[str, Any],
        finish_reason: object,
        deltas: list[Delta],
        *,
        sounds: bool,
    ) -> None:
        if isinstance(finish_reason, str) and finish_reason:
            self._finish_reason = finish_reason
        for key, value in delta.items():
            if key == "audio":
                self._add_audio(value, deltas)
            elif key == "tool_calls":
                for call in value if isinstance(value, (list, tuple)) else ():
                    self._calls.add(json_value(call))
            elif key == "content" and sounds:
                # vLLM-Omni sends base64 as content, and says so in the chunk.
                self._add_data(value, deltas)
            elif key != "role":
                given = json_value(value)
                if key == "content" and isinstance(given, list):
                    given = joined_text(given)
                self._message[key] = joined(self._message.get(key), given)
                if key in ("content", "refusal") and isinstance(given, str) and given:
                    deltas.append(TextDelta(clean_text(given)))

    def _add_audio(self, audio: object, deltas: list[Delta]) -> None:
        for key, value in (_fields(audio, as_given=True) or {}).items():
            if key == "data":
                self._add_data(value, deltas)
            elif key == "transcript":
                self._audio[key] = joined(self._audio.get(key), json_value(value))
                if isinstance(value, str) and value:
                    deltas.append(TranscriptDelta(clean_text(value)))
            elif value:
                # The last one counts; gateways fill in empty ones.
                self._audio[key] = json_value(value)

    def _add_data(self, text: object, deltas: list[Delta]) -> None:
        """Decode a piece of base64, which may be cut anywhere; `=` ends one that is not."""
        if not isinstance(text, str) or not text:
            return
        for whole in dict.fromkeys((self._base64 + text, text)):  # or what was held is no base64
            with contextlib.suppress(ValueError):
                piece, self._base64 = _decoded(whole)
                deltas += _audio_deltas(self._sound.add(piece))
                return
        log.warning("skipping a piece of sound that is not base64: %.24r", text)

    def finish(self) -> list[Delta]:
        """Return the sound that was held back until more had come; idempotent."""
        rest, self._base64 = self._base64, ""
        with contextlib.suppress(ValueError):
            return _audio_deltas(self._sound.add(bytes_from_base64(rest)) + self._sound.finish())
        return _audio_deltas(self._sound.finish())

    def whole(self, *, counted: bool) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": None, **self._message}
        if self.has("audio"):
            data = self._sound.whole() or None
            message["audio"] = {"transcript": None, **self._audio, "data": data}
        if calls := self._calls.whole(ended=counted or self.ended):
            message["tool_calls"] = calls
        return {"message": message, "finish_reason": self._finish_reason}


def _decoded(text: str) -> tuple[bytes, str]:
    """Return the bytes in base64 that may be cut anywhere, and the characters that are left.

    Raises:
        ValueError: if it is not base64.
    """
    if len(text) % 4 == 0:
        with contextlib.suppress(ValueError):
            return base64.b64decode(text, validate=True), ""
    text = plain_base64(text)
    end = len(text) if text.endswith("=") else len(text) - len(text) % 4
    if not _BASE64.fullmatch(text, end):
        raise ValueError(text[end:])
    return bytes_from_base64(text[:end]), text[end:]


def _audio_deltas(found: list[Samples]) -> list[Delta]:
    return [AudioDelta(samples, rate) for samples, rate in found]


def assembled(chunks: Iterable[Any]) -> dict[str, Any]:
    """Return the completion in the chunks; each is the SDK's object or its dict."""
    whole = StreamedCompletion()
    for chunk in chunks:
        whole.add(chunk)
    return whole.completion()


def json_object(value: Any) -> Mapping[str, Any]:
    """Return the JSON object in one of the SDK's objects, or a dict as it is.

    Raises:
        InvalidCompletion: if it is neither.
    """
    if isinstance(value, Mapping):
        return value
    dump = getattr(value, "model_dump", None)
    try:
        # Without warnings: servers leave out fields that the SDK requires.
        dumped = dump(exclude_unset=True, warnings=False) if dump else None
    except ValueError as error:
        msg = f"the answer cannot be serialized: {error}"
        raise InvalidCompletion(msg) from error
    if not isinstance(dumped, Mapping):
        msg = (
            "a completion must be what chat.completions.create returned (an object of the SDK, its "
            f"dict, or chunks), got {type(value).__name__}"
        )
        raise InvalidCompletion(msg)
    return dumped


def json_value(value: Any) -> Any:
    """Return the JSON value of an object of the SDK or of a list of them; others as they are."""
    if value is None or isinstance(value, str):
        return value
    if hasattr(value, "model_dump"):
        return json_object(value)
    return [json_value(v) for v in value] if isinstance(value, (list, tuple)) else value
