"""Values to the API's message objects, as they are sent."""

from __future__ import annotations

import base64
import contextlib
import logging
import re
import unicodedata
import zlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import orjson

from conversation._values.data import Data, read_data, size_in_bytes
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.sound import mended
from conversation._values.turns import SystemTurn, ToolCall, Turn, UserTurn
from conversation._wire.servers import OPENAI, Server
from conversation.errors import AudioFileMissing

log = logging.getLogger("conversation")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

_LONGEST_ID = 40
"""Characters that OpenAI takes in the id of a tool call."""

KNOWN_KEYS = frozenset(
    (  # noqa: SIM905  # a list would take a line for each
        "role content audio tool_calls function_call refusal name annotations parsed usage model "
        "finish_reason id index object type created created_at timestamp "
        "at duration file interrupted lost lost_files message_id realtime_item_id refused_by "
        "voice_dropped"
    ).split()
)
"""Keys of answers with a meaning of their own, and those that tell a model nothing."""

MISSING = "[something the user gave, no longer available]"

ReadData: TypeAlias = Callable[[Data], bytes]

Message = dict[str, Any]
"""One message as `chat.completions.create(messages=[…])` takes it."""


def system_message(turn: SystemTurn) -> Message:
    """Return the message for a system turn."""
    return named({"role": turn.role, "content": turn.text}, turn)


def user_message(turn: UserTurn, read: ReadData = read_data, server: Server = OPENAI) -> Message:
    """Return the message for a user turn: a single text as a string, all else as parts.

    Args:
        turn: The turn.
        read: Returns the bytes of its sound, images and files.
        server: The server that gets it.
    """
    content = _content(turn.content, read)
    for part in content if server.sound_as_url and isinstance(content, list) else ():
        if sound := part.get("input_audio"):
            sound["data"] = f"data:;base64,{sound['data']}"
    return named({"role": "user", "content": content}, turn)


def tool_message(tool_call_id: str, content: str, turn: Turn | None = None) -> Message:
    """Return the message for the result of a tool call; with the name that the turn gives it."""
    message: Message = {"role": "tool", "tool_call_id": tool_call_id, "content": content}
    return message if turn is None else named(message, turn)


def tool_call_entry(call: ToolCall) -> dict[str, Any]:
    """Return a tool call in the API's form."""
    if call.type == "custom":
        body = {"name": call.name, "input": call.arguments}
        return {"id": call.id, "type": "custom", "custom": body}
    body = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": call.type, "function": body}


def wire_id(call_id: str, server: Server = OPENAI) -> str:
    """Return the id of a tool call as the server takes it, in a call and in its result alike."""
    if server.takes_unknown_keys or len(call_id) <= _LONGEST_ID:
        return call_id
    return f"{call_id[: _LONGEST_ID - 9]}_{zlib.crc32(call_id.encode()):08x}"


def with_wire_id(message: Message, server: Server) -> Message:
    """Return the result of a tool call with the id as the server takes it."""
    if call_id := message.get("tool_call_id"):
        message["tool_call_id"] = wire_id(call_id, server)
    return message


def unknown_keys(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an answer that only its own server knows, such as its reasoning."""
    return {
        key: value
        for key, value in message.items()
        if key not in KNOWN_KEYS and value not in (None, [], {})
    }


def has_name(turn: Turn) -> bool:
    """Return True if a turn may name its speaker; cheap."""
    if isinstance(turn, UserTurn):
        return bool(turn.name)
    return turn.extra != "{}" and '"name"' in turn.extra


def named(message: Message, turn: Turn) -> Message:
    """Add the name of the speaker, where there is one.

    Other turns than the user's keep it in `extra`; it is the one key there that the API accepts.
    """
    if has_name(turn):
        name = turn.name if isinstance(turn, UserTurn) else orjson.loads(turn.extra).get("name")
        if isinstance(name, str) and name.strip():
            message["name"] = wire_name(name)
    return message


def wire_name(name: str) -> str:
    """Return a name as the API takes it, 1 to 64 of A-Za-z0-9_-: "Zoë K." becomes "Zoe_K_"."""
    if _NAME.fullmatch(name):
        return name
    marked = unicodedata.normalize("NFKD", name)
    letters = "".join(char for char in marked if not unicodedata.combining(char))
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", letters)
    if letters.isascii() and _NAME.fullmatch(plain):
        return plain
    # Names of other alphabets, and long ones, stay different.
    return f"{plain.strip('_')[:55]}_{zlib.crc32(name.encode()):08x}".lstrip("_")


def _content(parts: tuple[Part, ...], read: ReadData) -> str | list[dict[str, Any]]:
    if len(parts) == 1 and isinstance(parts[0], str):
        return parts[0]
    return [part_message(part, read) for part in parts]


def part_message(part: Part, read: ReadData = read_data) -> dict[str, Any]:
    """Return a content part; its words or a placeholder if its bytes are gone."""
    if isinstance(part, str):
        return {"type": "text", "text": part}
    try:
        return _media_part(part, read)
    except AudioFileMissing as error:
        words = part.transcript if isinstance(part, AudioInput) else None
        log.warning("%s; %s is sent instead", error, "its transcript" if words else "a placeholder")
        return {"type": "text", "text": words or MISSING}


def _media_part(part: AudioInput | ImageInput | FileInput, read: ReadData) -> dict[str, Any]:
    match part:
        case AudioInput():
            sound = {"data": base64_text(mended(read(part.data))), "format": part.format}
            return {"type": "input_audio", "input_audio": sound}
        case ImageInput():
            url = (
                part.data
                if isinstance(part.data, str)
                else _data_url(part.media_type, read(part.data))
            )
            detail = {"detail": part.detail} if part.detail else {}
            return {"type": "image_url", "image_url": {"url": url, **detail}}
        case FileInput():
            if part.data is None:
                named = {"filename": part.filename} if part.filename else {}
                return {"type": "file", "file": {"file_id": part.file_id, **named}}
            file_data = _data_url(_media_type(part.filename), read(part.data))
            return {"type": "file", "file": {"filename": part.filename, "file_data": file_data}}


def upload_size(part: Part) -> int:
    """Return the number of base64 bytes in a content part."""
    data = None if isinstance(part, str) else part.data
    if data is None or isinstance(data, str):
        return len(data or "")
    return (size_in_bytes(data) + 2) // 3 * 4


def _media_type(filename: str | None) -> str | None:
    import mimetypes

    return mimetypes.guess_type(filename or "")[0]


def base64_text(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def plain_base64(text: str) -> str:
    """Return base64 in one line and in its usual alphabet; a data URL's without its head."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    return "".join(text.split()).replace("-", "+").replace("_", "/")


def bytes_from_base64(text: str) -> bytes:
    """Decode base64, padded or not, in one line or more, also pieces of it that were joined.

    It may be a data URL's, and of the alphabet for URLs.

    Raises:
        ValueError: if it is not base64.
    """
    with contextlib.suppress(ValueError):
        return base64.b64decode(text, validate=True)
    pieces = (piece for piece in plain_base64(text).split("=") if piece)
    return b"".join(
        base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True) for piece in pieces
    )


def _data_url(media_type: str | None, data: bytes) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{base64_text(data)}"
