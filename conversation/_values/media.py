"""The bytes inside a turn: finding, replacing and inlining them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import attrs

from conversation._values.data import Data, Kind, NotKept, Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.sound import FORMATS
from conversation._values.turns import AssistantTurn, Turn, UserTurn
from conversation.errors import AudioFileMissing

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)


def has_data(turn: Turn) -> bool:
    """Return True if there are bytes in the turn, in memory or stored."""
    if isinstance(turn, UserTurn):
        return any(not isinstance(part, str) for part in turn.content)
    return isinstance(turn, AssistantTurn) and turn.audio is not None


def with_data(turn: _T, change: Callable[[Data, str, Kind], Data]) -> _T:
    """Return the turn with all its bytes replaced, as when they are stored elsewhere.

    Args:
        turn: The turn.
        change: Called with the bytes, a file suffix that fits, such as `"wav"`, and their kind.
    """
    if isinstance(turn, AssistantTurn):
        audio = turn.audio
        if audio is None or audio.data is None:
            return turn
        suffix = audio.format if audio.format in FORMATS else "bin"
        data = change(audio.data, suffix, "answer")
        return attrs.evolve(turn, audio=attrs.evolve(audio, data=data))
    if isinstance(turn, UserTurn) and has_data(turn):
        return attrs.evolve(turn, content=tuple(_changed(part, change) for part in turn.content))
    return turn


def _changed(part: Part, change: Callable[[Data, str, Kind], Data]) -> Part:
    match part:
        case AudioInput():
            return attrs.evolve(part, data=change(part.data, part.format or "bin", "speech"))
        case ImageInput() if not isinstance(part.data, str):
            suffix = (part.media_type or "image/bin").partition("/")[2]
            return attrs.evolve(part, data=change(part.data, suffix, "image"))
        case FileInput() if part.data is not None:
            ending = (part.filename or "").rpartition(".")[2].lower()
            suffix = ending if ending.isascii() and ending.isalnum() and len(ending) < 9 else "bin"
            return attrs.evolve(part, data=change(part.data, suffix, "file"))
    return part


def kept_data(turn: Turn) -> list[Stored]:
    """Return the stored bytes of a turn."""
    found: list[Stored] = []
    for part in (turn.audio,) if isinstance(turn, AssistantTurn) else getattr(turn, "content", ()):
        data = getattr(part, "data", None)
        if isinstance(data, Stored):
            found.append(data)
    return found


def inlined(turn: _T) -> _T:
    """Return the turn with all its bytes in memory, as far as they still exist."""

    def read(data: Data, _: str, __: Kind) -> Data:
        if isinstance(data, bytes):
            return data
        try:
            return data.read()
        except AudioFileMissing as error:
            log.warning("%s", error)
            return NotKept()

    return with_data(turn, read)
