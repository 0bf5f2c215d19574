"""Turns from lists of API messages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from conversation._values.text import shown
from conversation._values.turns import AssistantTurn, SystemTurn, Turn, UserTurn
from conversation._wire.chunks import json_object, json_value
from conversation._wire.reading import turn_from_entry, without_own
from conversation._wire.strict_json import json_text
from conversation.errors import InvalidCompletion, InvalidTurn

log = logging.getLogger("conversation")


def turns_from_messages(messages: Iterable[Any]) -> list[Turn]:
    """Return turns for all messages that can be kept; log a warning for each part that cannot.

    Raises:
        InvalidTurn: if it is not a list of messages.
    """
    if isinstance(messages, Mapping | str | bytes) or not isinstance(messages, Iterable):
        msg = f"messages must be a list of API messages, got {type(messages).__name__}"
        raise InvalidTurn(msg)
    turns = []
    called: dict[str, str] = {}
    for number, given in enumerate(messages):
        try:
            fields = json_object(given)
        except InvalidCompletion:
            _skipped(number, f"it must be a message, got {type(given).__name__}")
            continue
        message = without_own({key: json_value(value) for key, value in fields.items()})
        _log_skipped_fields(message, number)
        turn = _turn(_in_current_form(message, number, called), number)
        if isinstance(turn, UserTurn) and not turn.content:
            _skipped(number, "it is empty")
        elif isinstance(turn, AssistantTurn) and not (turn.text or turn.audio or turn.tool_calls):
            _skipped(number, "it has no words, no sound and no calls")
        elif isinstance(turn, SystemTurn) and not turn.text:
            _skipped(number, "it has no words")
        elif turn is not None:
            turns.append(turn)
    return turns


def _log_skipped_fields(message: Mapping[str, Any], number: int) -> None:
    role, content, audio = (message.get(key) for key in ("role", "content", "audio"))
    if role != "user" and isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, Mapping) or part.get("type") not in ("text", "refusal"):
                _skipped(number, f"only users send {shown(part)}", what=f"part {at} of message")
    if role == "assistant" and audio is not None and not isinstance(audio, Mapping):
        _skipped(number, f"it must be an object, got {shown(audio)}", what="the audio of message")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        _skipped(number, f"it must be a list, got {shown(calls)}", what="tool_calls of message")


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


def _turn(message: Mapping[str, Any], number: int) -> Turn | None:
    """Return the turn, without parts and calls that cannot be kept."""
    role, content, calls = (message.get(key) for key in ("role", "content", "tool_calls"))
    if role == "user" and isinstance(content, list | tuple):
        kept = [part for at, part in enumerate(content) if _can_be_kept(part, number, at)]
        message = {**message, "content": kept}
    elif role == "user" and content in (None, ""):
        message = {**message, "content": []}
    if role == "assistant" and isinstance(calls, list | tuple):
        kept = [call for at, call in enumerate(calls) if _can_be_called(call, number, at)]
        message = {**message, "tool_calls": kept}
    if role == "assistant" and isinstance(content, list | tuple) and not message.get("refusal"):
        parts = [part.get("refusal") for part in content if isinstance(part, Mapping)]
        message = {**message, "refusal": "".join(p for p in parts if isinstance(p, str)) or None}
    try:
        turn = turn_from_entry(message)
    except InvalidTurn as error:
        _skipped(number, str(error))
        return None
    audio = message.get("audio")
    sent = audio.get("data") if isinstance(audio, Mapping) else None
    if sent and not (isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data):
        _skipped(number, "it must be base64; the words are kept", what="the sound of message")
    return turn


def _can_be_kept(part: object, number: int, at: int) -> bool:
    try:
        turn_from_entry({"role": "user", "content": [part]})
    except InvalidTurn as error:
        _skipped(number, str(error), what=f"part {at} of message")
        return False
    return True


def _can_be_called(call: object, number: int, at: int) -> bool:
    try:
        turn_from_entry({"role": "assistant", "tool_calls": [call]})
    except InvalidTurn as error:
        _skipped(number, str(error), what=f"call {at} of message")
        return False
    return True


def _skipped(number: int, why: str, *, what: str = "message") -> None:
    log.warning("skipping %s %d: %s", what, number, why)
