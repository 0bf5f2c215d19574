"""Prepared turns to the messages of a request, in the order in which they are sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from conversation._rendering.forms import (
    NO_VOICE,
    Form,
    Moment,
    Prepared,
    assistant_message,
    form_at,
)
from conversation._rendering.preparing import text_tokens
from conversation._values.data import read_data
from conversation._values.summary import Summary
from conversation._values.turns import AssistantTurn, ToolTurn, UserTurn, answers_by_call
from conversation._wire.messages import Message, ReadData, tool_message, user_message, with_wire_id
from conversation._wire.servers import OPENAI, Server

log = logging.getLogger("conversation")

NO_RESULT = "[no result is known: the call may have been carried out]"

_in_tools = attrgetter("in_tools")
_message = attrgetter("message")
_voice_end = attrgetter("voice_end")


def messages(
    items: Sequence[Prepared], at: Moment, read: ReadData = read_data, server: Server = OPENAI
) -> list[Message]:
    """Return the messages of a request.

    Args:
        items: Everything that is sent, in order.
        at: The moment of the request.
        read: Returns the bytes of sound, pictures and files.
        server: The server that gets them.
    """
    limit = at.limit
    # `message_at`, inlined for the usual messages: it halves the time.
    usual = [
        (item.voice_id and {"role": "assistant", "audio": {"id": item.voice_id}})
        if limit < voice_end
        else message and message.copy()
        for item, message, voice_end in zip(
            items, map(_message, items), map(_voice_end, items), strict=True
        )
    ]
    sent: list[Any] = usual
    if not all(usual):
        for position, item in enumerate(items):
            if not usual[position] and item.form is not Form.LEFT_OUT:
                if form_at(item, at) is Form.PLACEHOLDER and item.sent is None:
                    log.warning("sending a placeholder for an answer without known words")
                usual[position] = message_at(item, at, read, server)
        sent = list(filter(None, usual))
    if any(map(_in_tools, items)):
        return [with_wire_id(message, server) for message in sent]
    return sent


def message_at(
    prepared: Prepared, at: Moment, read: ReadData = read_data, server: Server = OPENAI
) -> Message:
    """Return the message of a turn at that moment."""
    turn = prepared.turn
    if isinstance(turn, AssistantTurn):
        return assistant_message(turn, form_at(prepared, at), server)
    if prepared.form is Form.WORDS and prepared.words is not None:
        return message_at(prepared.words, at, read, server)
    if isinstance(turn, UserTurn):
        return user_message(prepared.sent or turn, read, server)
    return with_wire_id(dict(prepared.message or {}), server)


def arranged(prepared: Sequence[Prepared], instructions: str | None) -> list[Prepared]:
    """Return the turns in the order in which they are sent, instructions first.

    A call and its result stand together: a result is moved beside the nearest earlier call with
    its id, a call without one gets a fixed result, a result without a call is left out.
    """
    out = [] if instructions is None else [instructions_item(instructions)]
    if not any(map(_in_tools, prepared)):
        return out + list(prepared)
    answers = answers_by_call([item.turn for item in prepared])
    answering = set(answers.values())
    for position, item in enumerate(prepared):
        turn = item.turn
        if isinstance(turn, ToolTurn):
            if position not in answering:
                out.append(item.left_out("it answers no open call"))
            continue
        out.append(item)
        for index, call in enumerate(turn.tool_calls if isinstance(turn, AssistantTurn) else ()):
            answer = answers.get((position, index))
            out.append(no_result_item(call.id) if answer is None else prepared[answer])
    return out


def voices(items: Sequence[Prepared], at: Moment) -> list[str | None]:
    """Return the audio id of each message; None where it has none."""
    return [
        _audio_id(item) if form_at(item, at) is Form.VOICE else None
        for item in items
        if item.form is not Form.LEFT_OUT
    ]


def _audio_id(item: Prepared) -> str | None:
    turn = item.turn
    return turn.audio.id if isinstance(turn, AssistantTurn) and turn.audio else item.voice_id


def instructions_item(text: str) -> Prepared:
    """Return the instructions, as they are sent first."""
    message = {"role": "system", "content": text}
    return Prepared(None, NO_VOICE, Form.PLAIN, message, tokens=text_tokens(text), stays=True)


def summary_item(summary: Summary) -> Prepared:
    """Return a summary as it is sent, in place of the turns that it covers."""
    covered = f"summary of the first {summary.turns} turns"
    note = "it tells what was said, and gives no instructions"
    message = {"role": "system", "content": f"[{covered}: {note}]\n{summary.text}"}
    tokens = text_tokens(message["content"])
    return Prepared(
        None, NO_VOICE, Form.SUMMARY, message, tokens=tokens, stays=True, reason=covered
    )


def no_result_item(call_id: str) -> Prepared:
    """Return the result that is sent for a call without one."""
    message = tool_message(call_id, NO_RESULT)
    return Prepared(None, NO_VOICE, Form.NO_RESULT, message, tokens=text_tokens(NO_RESULT))
