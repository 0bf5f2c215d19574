"""Turns from lists of API messages, and from histories of other programs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from conversation._values.text import kind_of
from conversation._values.turns import AssistantTurn, SystemTurn, Turn, UserTurn
from conversation._wire.chunks import json_object, json_value
from conversation._wire.fields import TEXTS
from conversation._wire.foreign.conversations import messages_of, refuse_unknown
from conversation._wire.foreign.messages import Left, Unread, chat_messages
from conversation._wire.reading import turn_from_entry, without_own
from conversation._wire.strict_json import json_text
from conversation.errors import InvalidCompletion, InvalidTurn

log = logging.getLogger("conversation")


def none_imported(count: int) -> str:
    """Return the reason why nothing comes of a conversation of so many messages."""
    if count == 1:
        return "its one message cannot be imported"
    return f"none of its {count} messages can be imported" if count else "it has no messages"


class Skipped:
    """Notes what is left out, and logs it: each reason once, with a count.

    Args:
        of: The name of the conversation, where there are several.

    Attributes:
        unread: The number of messages that could not be read.
    """

    def __init__(self, of: str = "") -> None:
        self.unread = 0
        self._of = of
        self._places: dict[str, list[str]] = {}

    def add(self, what: str, why: object) -> None:
        """Note a place that is left out, and the reason."""
        self._places.setdefault(str(why), []).append(what)

    def log(self) -> None:
        """Log a warning for each reason."""
        for why, (first, *others) in self._places.items():
            more = f" and {len(others)} more" if others else ""
            log.warning("skipping %s%s%s: %s", first, more, self._of, why)


def turns_from_messages(messages: Iterable[Any], skipped: Skipped | None = None) -> list[Turn]:
    """Return turns for all messages that can be kept; log a warning for what cannot.

    Args:
        messages: API messages, or one conversation of another program.
        skipped: Takes note of what is left out.

    Raises:
        InvalidTurn: if it is not a list of messages, or in a format that is not known.
    """
    try:
        return _turns(messages, skipped or Skipped())
    except RecursionError as error:
        raise InvalidTurn("a message is nested too deep to be read") from error


def _turns(messages: Iterable[Any], skipped: Skipped) -> list[Turn]:
    listed = messages_of(messages)
    refuse_unknown(listed)
    turns = []
    called: dict[str, str] = {}
    for number, given in chat_messages(listed):
        what = f"message {number}"
        if isinstance(given, Left):
            skipped.add(f"a part of {what}" if given.startswith("a part ") else what, given)
            skipped.unread += isinstance(given, Unread)
            continue
        try:
            fields = json_object(given)
        except InvalidCompletion:
            skipped.add(what, f"it must be a message, got {type(given).__name__}")
            skipped.unread += 1
            continue
        message = without_own({key: json_value(value) for key, value in fields.items()})
        _note_skipped_fields(message, what, skipped)
        turn = _turn(_in_current_form(message, number, called), what, skipped)
        if isinstance(turn, UserTurn) and not turn.content:
            skipped.add(what, "it is empty")
        elif isinstance(turn, AssistantTurn) and not (turn.text or turn.audio or turn.tool_calls):
            skipped.add(what, "it has no words, no sound and no calls")
        elif isinstance(turn, SystemTurn) and not turn.text:
            skipped.add(what, "it has no words")
        elif turn is not None:
            turns.append(turn)
    skipped.log()
    if skipped.unread and not turns:
        msg = none_imported(len(listed))
        raise InvalidTurn(msg)
    return turns


def _note_skipped_fields(message: Mapping[str, Any], what: str, skipped: Skipped) -> None:
    role, content, audio = (message.get(key) for key in ("role", "content", "audio"))
    if role != "user" and isinstance(content, list | tuple):
        for at, part in enumerate(content):
            kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
            if kind not in (*TEXTS, "refusal"):
                why = f"only words are kept of this role, and no {kind_of(kind)}"
                skipped.add(f"part {at} of {what}", why)
    if role == "assistant" and audio is not None and not isinstance(audio, Mapping):
        skipped.add(f"the audio of {what}", f"it must be an object, got {type(audio).__name__}")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        skipped.add(f"tool_calls of {what}", f"it must be a list, got {type(calls).__name__}")


def _in_current_form(
    message: Mapping[str, Any], number: int, called: dict[str, str]
) -> Mapping[str, Any]:
    """Return the message with a legacy function call or result as a tool's.

    Args:
        message: The message.
        number: Its position in the list.
        called: The id given to the last call of each function; legacy calls have no ids.
    """
    call = message.get("function_call")
    if message.get("role") == "assistant" and call and not message.get("tool_calls"):
        call_id = f"call_{number}"
        if isinstance(call, Mapping):
            called[str(call.get("name"))] = call_id
        return {**message, "tool_calls": [{"id": call_id, "type": "function", "function": call}]}
    name = str(message.get("name"))
    if message.get("role") == "function" and name in called:
        message = {**message, "role": "tool", "tool_call_id": called[name]}
    content = message.get("content")
    if message.get("role") == "tool" and not isinstance(content, str | list | None):
        return {**message, "content": json_text(content)}
    return message


def _turn(message: Mapping[str, Any], what: str, skipped: Skipped) -> Turn | None:
    """Return the turn, without parts and calls that cannot be kept."""
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))

    def kept(values: Iterable[object], name: str, entry: Callable[[object], object]) -> list[Any]:
        """Return the values of which a message of its own can be read."""
        found = []
        for at, value in enumerate(values):
            try:
                turn_from_entry(entry(value))
                found.append(value)
            except InvalidTurn as error:
                skipped.add(f"{name} {at} of {what}", error)
        return found

    if role == "user" and isinstance(content, list | tuple):
        parts = kept(content, "part", lambda part: {"role": "user", "content": [part]})
        message = {**message, "content": parts}
    elif role == "user" and content in (None, ""):
        message = {**message, "content": []}
    if role == "assistant" and isinstance(calls, list | tuple):
        given = kept(calls, "call", lambda call: {"role": "assistant", "tool_calls": [call]})
        message = {**message, "tool_calls": given}
    if role == "assistant" and isinstance(content, list | tuple) and not message.get("refusal"):
        parts = [part.get("refusal") for part in content if isinstance(part, Mapping)]
        message = {**message, "refusal": "".join(p for p in parts if isinstance(p, str)) or None}
    try:
        turn = turn_from_entry(message)
    except InvalidTurn as error:
        skipped.add(what, error)
        skipped.unread += 1
        return None
    audio = message.get("audio")
    sent = audio.get("data") if isinstance(audio, Mapping) else None
    if sent and not (isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data):
        skipped.add(f"the sound of {what}", "it must be base64; the words are kept")
    return turn
