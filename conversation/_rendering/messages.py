"""Prepared turns to the messages of a request, in the order in which they are sent."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from operator import attrgetter

from conversation._rendering.forms import (
    NO_VOICE,
    Form,
    Moment,
    Prepared,
    assistant_message,
    form_at,
    text_tokens,
)
from conversation._values.turns import (
    AssistantTurn,
    ToolTurn,
    UserTurn,
    answers_by_call,
)
from conversation._wire.messages import Message, tool_message, user_message

log = logging.getLogger("conversation")

NO_RESULT = "[no result: the call was not carried out]"


_in_tools = attrgetter("in_tools")
_usual = attrgetter("voice_end", "message", "voice_id")


def messages(items: Sequence[Prepared], at: Moment) -> list[Message]:
    """What the next request sends, of what is `arranged`."""
    limit = at.limit
    out: list[Message] = []
    # `message_at`, spelled out for what most messages are: it halves the time.
    for position, (voice_end, message, voice_id) in enumerate(map(_usual, items)):
        if limit < voice_end and voice_id is not None:
            out.append({"role": "assistant", "audio": {"id": voice_id}})
        elif limit >= voice_end and message is not None:
            out.append(message.copy())
        elif (item := items[position]).form is not Form.LEFT_OUT:
            if form_at(item, at) is Form.PLACEHOLDER:
                log.warning("no words are known of an answer; a placeholder is sent in its place")
            out.append(message_at(item, at))
    return out


def message_at(prepared: Prepared, at: Moment) -> Message:
    """What is sent for a turn at that moment."""
    turn = prepared.turn
    if isinstance(turn, AssistantTurn):
        return assistant_message(turn, form_at(prepared, at))
    if prepared.form is Form.WORDS and prepared.words is not None:
        return message_at(prepared.words, at)
    if isinstance(turn, UserTurn):
        return user_message(turn)
    return dict(prepared.message or {})


def arranged(prepared: Sequence[Prepared], instructions: str | None) -> list[Prepared]:
    """The turns in the order in which they are sent, instructions first.

    A call and its answer stand together: an answer is moved beside the nearest earlier call with
    its id, a call without one gets a fixed result, an answer without a call is left out.
    """
    first = [] if instructions is None else [_instructions(instructions)]
    if not any(map(_in_tools, prepared)):
        return first + list(prepared)
    answers = answers_by_call([item.turn for item in prepared])
    answering = set(answers.values())
    out = first
    for position, item in enumerate(prepared):
        turn = item.turn
        if isinstance(turn, ToolTurn):
            if position not in answering:
                out.append(item.left_out("it answers no open call"))
            continue
        out.append(item)
        for index, call in enumerate(turn.tool_calls if isinstance(turn, AssistantTurn) else ()):
            answer = answers.get((position, index))
            out.append(_no_result(call.id) if answer is None else prepared[answer])
    return out


def voices(items: Sequence[Prepared], at: Moment) -> list[str | None]:
    """For each message that is sent, the audio id in it."""
    return [
        item.turn.audio.id
        if form_at(item, at) is Form.VOICE
        and isinstance(item.turn, AssistantTurn)
        and item.turn.audio
        else None
        for item in items
        if item.form is not Form.LEFT_OUT
    ]


def _instructions(text: str) -> Prepared:
    message = {"role": "system", "content": text}
    return Prepared(None, NO_VOICE, Form.PLAIN, message, tokens=text_tokens(text), stays=True)


def _no_result(call_id: str) -> Prepared:
    message = tool_message(call_id, NO_RESULT)
    return Prepared(None, NO_VOICE, Form.NO_RESULT, message, tokens=text_tokens(NO_RESULT))
