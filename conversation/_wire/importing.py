"""Turns from API messages, as users have them in lists of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from conversation._values.text import shown
from conversation._values.turns import AssistantTurn, SystemTurn, Turn, UserTurn
from conversation._wire.chunks import json_object
from conversation._wire.reading import turn_from_entry
from conversation._wire.strict_json import json_text
from conversation.errors import InvalidCompletion, InvalidTurn

log = logging.getLogger("conversation")


def turns_from_messages(messages: Iterable[Any]) -> list[Turn]:
    """All that can be kept of the messages; what cannot is named in log warnings.

    Raises:
        InvalidTurn: if this is no list of messages at all.
    """
    if isinstance(messages, Mapping | str | bytes) or not isinstance(messages, Iterable):
        msg = f"expected a list of API messages, got {type(messages).__name__}"
        raise InvalidTurn(msg)
    turns = []
    called: dict[str, str] = {}
    for number, given in enumerate(messages):
        try:
            message = _plain(json_object(given))
        except InvalidCompletion:
            _lost(number, f"it is no message but {type(given).__name__}")
            continue
        _name_what_has_no_place(message, number)
        turn = _turn(_in_todays_form(message, number, called), number)
        if isinstance(turn, UserTurn) and not turn.content:
            _lost(number, "there is nothing in it")
        elif isinstance(turn, AssistantTurn) and not (turn.text or turn.audio or turn.tool_calls):
            _lost(number, "there are no words, no sound and no calls in it")
        elif isinstance(turn, SystemTurn) and not turn.text:
            _lost(number, "there are no words in it")
        elif turn is not None:
            turns.append(turn)
    return turns


def _plain(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message, with JSON objects for the SDK's own in it, which the SDK itself sends, too."""
    return {
        key: [_dumped(inner) for inner in value]
        if isinstance(value, list | tuple)
        else _dumped(value)
        for key, value in message.items()
    }


def _dumped(value: Any) -> Any:
    return json_object(value) if hasattr(value, "model_dump") else value


def _name_what_has_no_place(message: Mapping[str, Any], number: int) -> None:
    role, content, audio = (message.get(key) for key in ("role", "content", "audio"))
    if role != "user" and isinstance(content, list):
        for at, part in enumerate(content):
            if not isinstance(part, Mapping) or part.get("type") not in ("text", "refusal"):
                _lost(number, f"only users send {shown(part)}", what=f"part {at} of message")
    if role == "assistant" and audio is not None and not isinstance(audio, Mapping):
        _lost(number, f"it is no object but {shown(audio)}", what="the audio of message")
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        _lost(number, f"they are no list but {shown(calls)}", what="the tool calls of message")


def _in_todays_form(
    message: Mapping[str, Any], number: int, called: dict[str, str]
) -> Mapping[str, Any]:
    """The message, its legacy function call or result as a tool's.

    Args:
        message: As it was given.
        number: Its place in the list.
        called: The last call's id by its function's name; such calls have none of their own.
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
    """The turn, without those of its parts and calls that cannot be kept."""
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
        _lost(number, str(error))
        return None
    audio = message.get("audio")
    sent = audio.get("data") if isinstance(audio, Mapping) else None
    if sent and not (isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data):
        _lost(number, "it is no base64; the words are kept", what="the sound of message")
    return turn


def _can_be_kept(part: object, number: int, at: int) -> bool:
    try:
        turn_from_entry({"role": "user", "content": [part]})
    except InvalidTurn as error:
        _lost(number, str(error), what=f"part {at} of message")
        return False
    return True


def _can_be_called(call: object, number: int, at: int) -> bool:
    try:
        turn_from_entry({"role": "assistant", "tool_calls": [call]})
    except InvalidTurn as error:
        _lost(number, str(error), what=f"call {at} of message")
        return False
    return True


def _lost(number: int, why: str, *, what: str = "message") -> None:
    log.warning("%s %d is left out: %s", what, number, why)
