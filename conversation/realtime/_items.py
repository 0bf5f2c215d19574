"""An item of a Realtime session: pieces that become a turn."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import attrs
import orjson

from conversation._history.edits import spoken_length, truncated, with_transcript
from conversation._values.samples import as_s16
from conversation._values.sound import wav_from_pcm
from conversation._values.turns import AssistantAudio, AssistantTurn, ToolCall, Turn, UserTurn
from conversation.errors import InvalidTurn
from conversation.realtime._appended import PCM, Format

log = logging.getLogger("conversation")

ITEM_ID = "realtime_item_id"
"""Key of a turn by which later events about its item find it, also after a restart."""


@attrs.define(eq=False)
class Response:
    """A response under way.

    Attributes:
        is_outside: True if it belongs to no conversation.
        format: The format of its sound.
        speaks: True if sound was asked for.
    """

    is_outside: bool
    format: Format
    speaks: bool


@attrs.define(eq=False)
class Item:
    """An item that is no turn yet.

    Attributes:
        id: The id in the session.
        kind: `"answer"`, `"call"`, or `"said"`: all that was not generated.
        response: The id of the response that generates it; empty if it is not known.
        is_ready: True if nothing more of it will come.
        is_whole: False if it broke off.
        said: The turn of an item that was not generated; a user turn without its words.
        words: What the user said, if it is known by now.
        spoken: Pieces of the transcript by the index of their part.
        written: Pieces of text by the index of their part.
        sound: Pieces of sound.
        call_id: The id of a tool call.
        name: The name of the called tool.
        arguments: Pieces of its arguments.
        cut_ms: Milliseconds of it that were heard.
        fields: Further fields of the answer.
        turn: The turn as it could not be saved.
    """

    id: str
    kind: str = "answer"
    response: str = ""
    is_ready: bool = False
    is_whole: bool = False
    said: Turn | None = None
    words: str | None = None
    spoken: dict[int, list[str]] = attrs.field(factory=dict)
    written: dict[int, list[str]] = attrs.field(factory=dict)
    sound: list[bytes] = attrs.field(factory=list)
    format: Format = PCM
    call_id: str = ""
    name: str = ""
    arguments: list[str] = attrs.field(factory=list)
    cut_ms: float | None = None
    fields: dict[str, Any] = attrs.field(factory=dict)
    turn: Turn | None = None

    def made(self) -> Turn | None:
        """Return the turn of the item; None if there is nothing in it.

        Raises:
            InvalidTurn: if it can be none.
        """
        extra = orjson.dumps({ITEM_ID: self.id}).decode()
        if self.said is not None:
            turn = with_words(self.said, self.words) if self.words else self.said
            return attrs.evolve(turn, extra=extra)
        fields = {**self.fields, "extra": extra}
        speaks = fields.pop("speaks", False)
        if self.kind == "call":
            # Of a call that broke off, nobody has seen all arguments.
            if not (self.is_whole and self.call_id and self.name):
                return None
            call = ToolCall(self.call_id, self.name, "".join(self.arguments))
            return AssistantTurn(tool_calls=(call,), **{**fields, "finish_reason": "tool_calls"})
        spoken, written, sound = _joined(self.spoken), _joined(self.written), b"".join(self.sound)
        if not (spoken.strip() or written.strip() or sound):
            return None
        audio = None
        if spoken.strip() or sound:
            encoding, rate = self.format
            data = wav_from_pcm(as_s16(sound, encoding), rate=rate) if sound else None
            audio = AssistantAudio(transcript=spoken or None, data=data)
        answer = AssistantTurn(
            content=written or None,
            audio=audio,
            interrupted=not self.is_whole,
            voice_dropped=speaks and audio is None,
            **fields,
        )
        return answer if self.cut_ms is None else heard(answer, self.cut_ms)


def _joined(parts: Mapping[int, list[str]]) -> str:
    return "\n".join("".join(parts[index]) for index in sorted(parts))


def with_words(turn: Turn, words: str) -> Turn:
    """Return what a user said with its words: beside its sound, or in place of the missing one."""
    try:
        return with_transcript(turn, words) if isinstance(turn, UserTurn) else turn
    except InvalidTurn as error:
        log.warning("leaving out words of the session: %s", error)
        return turn


def heard(turn: Turn, ms: float) -> Turn:
    """Return an answer cut to the part that was heard; without sound, by the pace of its words."""
    if not isinstance(turn, AssistantTurn) or turn.audio is None:
        return turn
    timed = turn
    if turn.audio.duration is None:
        length = spoken_length(attrs.evolve(turn, interrupted=True), turn.audio)
        timed = attrs.evolve(turn, audio=attrs.evolve(turn.audio, duration=length))
    cut = truncated(timed, ms / 1000)
    return turn if cut is timed else cut
