"""Turns and their parts: frozen, comparable, without I/O, paths and clocks."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import attrs
import orjson

from conversation._values.data import Data, as_optional_data, path_of, size_of
from conversation._values.parts import PARTS, AudioInput, Part
from conversation._values.sound import MEDIA_TYPES, identified, measured, mended, wav_from_pcm
from conversation._values.text import (
    as_optional_text,
    as_text,
    clean_text,
    repr_without_defaults,
    shown,
)
from conversation._values.usage import Usage
from conversation.errors import InvalidTurn


def _finite(_: object, field: attrs.Attribute[Any], value: object) -> None:
    if value is None or (
        isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    ):
        return
    msg = f"{field.name} must be a number of seconds or None, got {shown(value)}"
    raise InvalidTurn(msg)


def _one_of(*kinds: type, optional: bool = False) -> Callable[..., None]:
    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if not (isinstance(value, kinds) or (optional and value is None)):
            found = f"{type(value).__name__}: {shown(value)}"
            msg = f"{field.name} must be {kinds[0].__name__}, got {found}"
            raise InvalidTurn(msg)

    return check


def _among(*allowed: str) -> Callable[..., None]:
    def check(_: object, field: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            msg = f"{field.name} must be {' or '.join(map(repr, allowed))}, got {shown(value)}"
            raise InvalidTurn(msg)

    return check


@attrs.frozen
class ToolCall:
    """A tool call that the model asks for.

    Attributes:
        id: The id to which the result refers.
        name: The name of the tool.
        arguments: The arguments as the model wrote them: JSON text, not always valid.
        type: `"function"`, or `"custom"` for a tool that takes free text.
    """

    id: str = attrs.field(converter=as_text)
    name: str = attrs.field(converter=as_text)
    arguments: str = attrs.field(converter=as_text)
    type: str = attrs.field(default="function", validator=_among("function", "custom"))


def _calls(values: Iterable[ToolCall]) -> tuple[ToolCall, ...]:
    calls = _as_tuple(values, "tool_calls")
    if len({call.id for call in calls if isinstance(call, ToolCall)}) < len(calls):
        ids = shown([getattr(call, "id", call) for call in calls])
        msg = f"tool_calls must be ToolCalls with different ids, got {ids}"
        raise InvalidTurn(msg)
    return calls


def _as_tuple(values: Iterable[Any], name: str) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError as error:
        msg = f"{name} must be a sequence, got {type(values).__name__}: {shown(values)}"
        raise InvalidTurn(msg) from error


@attrs.frozen
class AssistantAudio:
    """The sound of a spoken answer, and the server's id for it.

    Attributes:
        id: The server's id; None from servers that give none.
        expires_at: Unix time in seconds at which the server forgets the id; None if not given.
        transcript: The words; None if not known.
        data: The bytes of the sound; in a saved turn, a reference to them; None if the server sent
            only an id. Use `read()`.
        format: `"wav"`, `"mp3"`, `"flac"`, `"opus"`, `"aac"`, `"pcm16"`; None without data.
        duration: Duration in seconds; None if not known.
        lost: True if the server said `audio_not_found`: the id is never sent again.
    """

    __repr__ = repr_without_defaults
    id: str | None = attrs.field(default=None, converter=as_optional_text)
    expires_at: float | None = attrs.field(default=None, validator=_finite)
    transcript: str | None = attrs.field(default=None, converter=as_optional_text)
    data: Data | None = attrs.field(default=None, converter=as_optional_data, repr=size_of)
    format: str | None = attrs.field(default=None, converter=as_optional_text)
    duration: float | None = attrs.field(default=None, validator=_finite)
    lost: bool = False

    def __attrs_post_init__(self) -> None:
        """Derive format and duration from the bytes, and mend their head."""
        if self.data is None or self.data == b"":
            object.__setattr__(self, "data", None)
            object.__setattr__(self, "format", None)
        if not isinstance(self.data, bytes):
            return
        data, audio_format = identified(self.data, self.format)
        object.__setattr__(self, "format", audio_format)
        if self.duration is not None and audio_format != "wav":
            return
        data, seconds = measured(data, audio_format)
        object.__setattr__(self, "data", data)
        if self.duration is None:
            object.__setattr__(self, "duration", seconds)

    @property
    def media_type(self) -> str | None:
        """The media type, such as `"audio/wav"`, for an HTTP header; None if `format` is None.

        Of `pcm16` it is `"audio/pcm"`, which does not tell its 24 kHz, mono s16le.
        """
        return MEDIA_TYPES.get(self.format or "")

    @property
    def path(self) -> Path | None:
        """The file in which a `FileStore` keeps the sound; None where there is none.

        The file goes when its turn goes; copy it, or use `save`, to keep it longer.
        """
        return path_of(self.data)

    def read(self) -> bytes:
        """Return the bytes of the sound, in `format`.

        Raises:
            LookupError: if no sound came with the answer.
            AudioFileMissing: if the saved file is gone.
        """
        if self.data is None:
            msg = f"the answer {self.id or ''} came without sound; only its words are known"
            raise LookupError(msg)
        if isinstance(self.data, bytes):
            return self.data
        return mended(identified(self.data.read(), self.format)[0])

    def save(self, path: str | Path) -> Path:
        """Write the sound to a file, and return its path.

        Raw `pcm16` is wrapped as WAV if the name ends in `.wav`; nothing else is converted.

        Raises:
            LookupError: if no sound came with the answer.
            OSError: if the file cannot be written.
        """
        data, path = self.read(), Path(path)
        if self.format == "pcm16" and path.suffix.lower() == ".wav":
            data = wav_from_pcm(data)
        path.write_bytes(data)
        return path


def _utc(value: datetime | None) -> datetime | None:
    if value is None or (isinstance(value, datetime) and value.tzinfo is UTC):
        return value
    if not isinstance(value, datetime) or value.tzinfo is None:
        msg = f"at must be a datetime with a time zone or None, got {shown(value)}"
        raise InvalidTurn(msg)
    return value.astimezone(UTC)


def _json_object(text: str) -> str:
    if text == "{}":
        return text
    with contextlib.suppress(orjson.JSONDecodeError, orjson.JSONEncodeError):
        value = orjson.loads(text)
        if isinstance(value, dict):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    msg = f"extra must be the text of a JSON object, got {shown(text)}"
    raise InvalidTurn(msg)


@attrs.frozen(kw_only=True)
class _Turn:
    """Fields of all turns.

    Attributes:
        at: The time at which it was added (UTC), set by the conversation.
        extra: The keys of the message that have no field here: a JSON object, as text.
    """

    at: datetime | None = attrs.field(default=None, repr=str, converter=_utc)
    extra: str = attrs.field(default="{}", repr=False, converter=_json_object)


@attrs.frozen
class SystemTurn(_Turn):
    """Instructions from the program to the model.

    Attributes:
        text: The instructions.
        role: `"system"`, or `"developer"`.
    """

    text: str = attrs.field(converter=as_text)
    role: str = attrs.field(default="system", validator=_among("system", "developer"))


def _parts(content: Iterable[Part]) -> tuple[Part, ...]:
    if type(content) is tuple and len(content) == 1 and type(content[0]) is str:
        return (clean_text(content[0]),)  # most turns
    parts = (content,) if isinstance(content, PARTS) else _as_tuple(content, "content")
    for part in parts:
        if not isinstance(part, PARTS):
            msg = (
                "content must be made of str, AudioInput, ImageInput and FileInput, got "
                f"{type(part).__name__}: {shown(part)}"
            )
            raise InvalidTurn(msg)
    return tuple(clean_text(part) if isinstance(part, str) else part for part in parts)


def _name(value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidTurn(f"name must be text or None, got {type(value).__name__}: {shown(value)}")
    return value and clean_text(value)


def is_message_id(value: object) -> bool:
    """Return True for text of 1 to 512 bytes in UTF-8."""
    with contextlib.suppress(UnicodeEncodeError):
        return isinstance(value, str) and 1 <= len(value.encode()) <= 512
    return False


def _message_id(_: object, __: object, value: str | None) -> None:
    if value is not None and not is_message_id(value):
        remedy = "; pass str(…)" if isinstance(value, int) else ""
        msg = f"message_id must be text of 1 to 512 UTF-8 bytes, got {shown(value)}{remedy}"
        raise InvalidTurn(msg)


@attrs.frozen
class UserTurn(_Turn):
    """A turn of the user: spoken, written or shown.

    Attributes:
        content: The parts, in order: `str`, `AudioInput`, `ImageInput`, `FileInput`.
        name: The name of who speaks; None if not given.
        message_id: The id under which the message was delivered: a conversation takes it once.
    """

    __repr__ = repr_without_defaults
    role: ClassVar[str] = "user"
    content: tuple[Part, ...] = attrs.field(converter=_parts)
    name: str | None = attrs.field(default=None, kw_only=True, converter=_name)
    message_id: str | None = attrs.field(default=None, kw_only=True, validator=_message_id)

    def __attrs_post_init__(self) -> None:
        """Take the name out of `extra`, where it was before it had a field."""
        if self.name is None and '"name"' in self.extra:
            rest = orjson.loads(self.extra)
            if isinstance(name := rest.pop("name", None), str):
                object.__setattr__(self, "name", as_text(name))
                object.__setattr__(self, "extra", _json_object(orjson.dumps(rest).decode()))

    @property
    def text(self) -> str:
        """The known words: written ones, and the transcripts of spoken ones."""
        words = (part.transcript if isinstance(part, AudioInput) else part for part in self.content)
        return "\n".join(word for word in words if isinstance(word, str) and word)


@attrs.frozen
class AssistantTurn(_Turn):
    """An answer of the model.

    Attributes:
        content: The written text; None if the model only spoke or called tools.
        audio: The spoken answer.
        tool_calls: The tool calls that the model asks for.
        refusal: The words with which the model refused to answer.
        usage: The tokens that the request cost.
        model: The model that answered.
        finish_reason: `"stop"`, `"length"`, `"tool_calls"`, `"content_filter"`; None if not given.
        interrupted: True if it broke off before its end: it is never sent as voice.
        voice_dropped: True if sound was asked for, and text came.
    """

    __repr__ = repr_without_defaults
    role: ClassVar[str] = "assistant"
    content: str | None = attrs.field(default=None, converter=as_optional_text)
    audio: AssistantAudio | None = attrs.field(
        default=None, validator=_one_of(AssistantAudio, optional=True)
    )
    tool_calls: tuple[ToolCall, ...] = attrs.field(default=(), converter=_calls)
    refusal: str | None = attrs.field(default=None, converter=as_optional_text)
    usage: Usage | None = attrs.field(default=None, validator=_one_of(Usage, optional=True))
    model: str | None = attrs.field(default=None, converter=as_optional_text)
    finish_reason: str | None = attrs.field(default=None, converter=as_optional_text)
    interrupted: bool = False
    voice_dropped: bool = False

    @property
    def text(self) -> str:
        """The words, spoken or written; if they differ both, with a blank line between.

        The refusal if there are no others; empty if none are known.
        """
        written = self.content or ""
        spoken = (self.audio.transcript if self.audio else None) or ""
        if written.strip() and spoken.strip() and written.strip() != spoken.strip():
            return f"{written}\n\n{spoken}"
        if spoken.strip():
            return spoken
        return written if written.strip() else self.refusal or ""


@attrs.frozen
class ToolTurn(_Turn):
    """The result of a tool call.

    Attributes:
        tool_call_id: The `ToolCall.id` that it answers.
        content: The result, as text.
    """

    role: ClassVar[str] = "tool"
    tool_call_id: str = attrs.field(converter=as_text)
    content: str = attrs.field(converter=as_text)

    @property
    def text(self) -> str:
        """The result."""
        return self.content


Turn: TypeAlias = SystemTurn | UserTurn | AssistantTurn | ToolTurn


def own_text(turn: AssistantTurn) -> str:
    """Return the text that the model wrote beside its speech; empty if both are the same."""
    written = (turn.content or "").strip()
    spoken = (turn.audio.transcript or "").strip() if turn.audio else ""
    return turn.content or "" if written and written != spoken else ""


def answers_by_call(turns: Sequence[Turn | None]) -> dict[tuple[int, int], int]:
    """Return the tool turn that answers each call, all by position.

    A tool turn answers the nearest earlier call with its id that has no answer yet.

    Returns:
        `(position of the assistant turn, index of the call) -> position of the tool turn`.
    """
    answers: dict[tuple[int, int], int] = {}
    waiting: dict[str, list[tuple[int, int]]] = {}
    for position, turn in enumerate(turns):
        if isinstance(turn, AssistantTurn):
            for index, call in enumerate(turn.tool_calls):
                waiting.setdefault(call.id, []).append((position, index))
        elif isinstance(turn, ToolTurn) and waiting.get(turn.tool_call_id):
            answers[waiting[turn.tool_call_id].pop()] = position
    return answers


def open_calls(turns: Sequence[Turn]) -> list[str]:
    """Return the ids of the calls without an answer, oldest first."""
    answers = answers_by_call(turns)
    return [
        call.id
        for position, turn in enumerate(turns)
        if isinstance(turn, AssistantTurn)
        for index, call in enumerate(turn.tool_calls)
        if (position, index) not in answers
    ]
