"""The rule of substitution: the form in which each turn is sent.

Pure: the caller reads the clock once for a request, as a `Moment`.
"""

from __future__ import annotations

import math
import re
from enum import Enum
from typing import Any, NamedTuple

import attrs
import orjson

from conversation._values.turns import AssistantTurn, Turn, UserTurn, own_text
from conversation._wire.extra import merged
from conversation._wire.messages import (
    Message,
    named,
    tool_call_entry,
    unknown_keys,
    wire_id,
    wire_name,
)
from conversation._wire.servers import OPENAI, Server

PLACEHOLDER = "[spoken answer, its words are not known]"
NO_VOICE = -math.inf
ID_LIFETIME = 3600
"""Seconds from the time inside an id to its expiry (undocumented, but so in all recordings)."""

_TIMED_ID = re.compile(r"audio_([0-9a-f]{8})[0-9a-f]{24}")


class Form(Enum):
    """The form in which a turn is sent."""

    PLAIN = "as it is"
    VOICE = "voice"
    TRANSCRIPT = "transcript"
    TEXT = "text"
    TOOL_CALLS = "tool calls alone"
    REFUSAL = "refusal"
    PLACEHOLDER = "placeholder"
    WORDS = "words"
    NO_RESULT = "no result"
    CUT = "tool result"
    SUMMARY = "summary"
    LEFT_OUT = "left out"


@attrs.frozen
class Moment:
    """The moment of a request, for deciding which audio ids are still used.

    Attributes:
        now: Unix time in seconds by the server's clock.
        margin: Seconds before its expiry from which on an id is no longer used.
    """

    now: float
    margin: float

    @property
    def limit(self) -> float:
        """Time at or before which an id that expires is no longer used."""
        return self.now + self.margin


NEVER = Moment(0.0, 0.0)


class Prepared(NamedTuple):
    """A turn prepared for sending, as far as that does not depend on the time.

    Attributes:
        turn: None for instructions, for results that nobody gave, and for a stored entry that was
            not decoded.
        voice_end: Unix time in seconds at which the server forgets the voice; minus infinity: no
            voice.
        form: The form without voice.
        message: The message in that form; None if it holds more than text and is made anew.
        voice_id: The audio id, if the message in voice form holds nothing else.
        in_tools: True for tool calls and their results.
        tokens: Estimated tokens in the form without voice.
        voice_tokens: Estimated tokens as voice.
        upload: Bytes of base64 in it.
        words: A user turn with words in place of its sound; None if some words are not known.
        begins: True if an exchange begins with it: user turns.
        stays: True if it is always sent: instructions and system turns.
        reason: The reason why it is left out, or sent without its sound, whatever the time.
        sent: The turn that is sent in its place, with placeholders for pictures and files.
    """

    turn: Turn | None
    voice_end: float
    form: Form
    message: Message | None
    voice_id: str | None = None
    in_tools: bool = False
    tokens: int = 0
    voice_tokens: int = 0
    upload: int = 0
    words: Prepared | None = None
    begins: bool = False
    stays: bool = False
    reason: str = ""
    sent: UserTurn | None = None

    def left_out(self, reason: str) -> Prepared:
        """Return the same, marked as not sent."""
        return self._replace(
            form=Form.LEFT_OUT, message=None, voice_end=NO_VOICE, upload=0, reason=reason
        )


def voice_end(turn: AssistantTurn) -> float:
    """Return the Unix time at which an answer's id expires; minus infinity if it is never used.

    An id without `expires_at` is used only if it carries its time.
    """
    audio = turn.audio
    if audio is None or audio.lost or turn.interrupted or not (audio.id or "").startswith("audio_"):
        return NO_VOICE
    if audio.expires_at is not None:
        return audio.expires_at
    timed = _TIMED_ID.fullmatch(audio.id or "")
    return int(timed[1], 16) + ID_LIFETIME if timed else NO_VOICE


def form_without_voice(turn: AssistantTurn) -> Form:
    """Return the first that exists: transcript, text, tool calls alone, refusal, placeholder."""
    if turn.audio is not None and (turn.audio.transcript or "").strip():
        return Form.TRANSCRIPT
    if (turn.content or "").strip():
        return Form.TEXT
    if turn.tool_calls:
        return Form.TOOL_CALLS
    if (turn.refusal or "").strip():
        return Form.REFUSAL
    return Form.PLACEHOLDER


def form_at(prepared: Prepared, at: Moment) -> Form:
    """The second half of the rule: the moment at which the id turns into the transcript."""
    return Form.VOICE if at.limit < prepared.voice_end else prepared.form


def assistant_message(turn: AssistantTurn, form: Form, server: Server = OPENAI) -> Message:
    """Return the message of an answer in that form. Of `audio` it never holds more than the id."""
    message = named({"role": "assistant"}, turn)
    if server.takes_unknown_keys:
        keys = unknown_keys_of(turn)
        message |= {key: keys[key] for key in keys if key not in server.refused_keys}
    if form is Form.VOICE and turn.audio is not None:
        message["audio"] = {"id": turn.audio.id}
        if text := own_text(turn):
            message["content"] = text
    elif form is Form.PLACEHOLDER:
        message["content"] = PLACEHOLDER
    elif form is not Form.TOOL_CALLS:
        message["content"] = turn.text
    if turn.tool_calls:
        message["tool_calls"] = _sent_calls(turn, server)
    return message


def unknown_keys_of(turn: AssistantTurn) -> dict[str, Any]:
    """Return what of an answer only its own server knows."""
    return {} if turn.extra == "{}" else unknown_keys(orjson.loads(turn.extra))


def _sent_calls(turn: AssistantTurn, server: Server) -> list[dict[str, Any]]:
    """Return the tool calls; a server of their kind gets back all that came with them."""
    if not server.takes_unknown_keys:
        return [
            tool_call_entry(attrs.evolve(call, id=wire_id(call.id), name=wire_name(call.name)))
            for call in turn.tool_calls
        ]
    entries = [tool_call_entry(call) for call in turn.tool_calls]
    unknown = orjson.loads(turn.extra).get("tool_calls")
    for entry, keys in zip(entries, unknown if isinstance(unknown, list) else (), strict=False):
        if isinstance(keys, dict):
            left_out = {"index", *server.refused_keys}
            merged(entry, {key: keys[key] for key in keys if key not in left_out}, {})
    return entries


def unusual_keys(turn: Turn | None) -> set[str]:
    """Return the keys of an answer and its calls that only its own server knows."""
    if not isinstance(turn, AssistantTurn) or turn.extra == "{}":
        return set()
    extra = orjson.loads(turn.extra)
    calls = extra.get("tool_calls")
    bodies = [call for call in calls if isinstance(call, dict)] if isinstance(calls, list) else []
    return set(unknown_keys(extra)).union(*bodies)
