"""A conversation as API messages, and as a line for fine-tuning."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence

import orjson

from conversation._export.outline import Exported
from conversation._rendering.forms import Form, Moment, Prepared
from conversation._rendering.messages import message_at
from conversation._tools import Tool
from conversation._values.parts import AudioInput
from conversation._values.turns import AssistantTurn, UserTurn
from conversation._wire.messages import Message

log = logging.getLogger("conversation")


_FORGOTTEN = Moment(math.inf, 0.0)
"""When no audio id is of use any more."""


def _messages(exported: Exported) -> Iterator[bytes]:
    """A list for `chat.completions.create`, answers as their words: ids are of no use tomorrow."""
    between = b"[\n"
    for item in exported.arranged:
        yield between + orjson.dumps(message_at(item, _FORGOTTEN))
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


# --- fine-tuning ----------------------------------------------------------------------------------


def _fine_tuning(exported: Exported) -> Iterator[bytes]:
    """One line of text, as OpenAI's fine-tuning takes it; nothing where nothing can be learnt."""
    messages: list[Message] = []
    untold = 0
    for exchange in _exchanges(exported.arranged):
        told = [_text_message(item) for item in exchange]
        if None in told:
            untold += 1
            told = [message for item, message in zip(exchange, told, strict=True) if item.stays]
        messages += filter(None, told)
    while messages and (messages[-1]["role"] != "assistant" or "tool_calls" in messages[-1]):
        messages.pop()  # what was never answered
    if untold:
        log.warning(
            "%d exchange(s) are left out, whose words are not all known; transcribe() finds those "
            "of user sound",
            untold,
        )
    if not messages:
        log.warning("there is no answer that could be learnt from; nothing is exported")
        return
    tools = [tool.description if isinstance(tool, Tool) else tool for tool in exported.tools]
    line = {"messages": messages, **({"tools": tools} if tools else {})}
    yield orjson.dumps(line) + b"\n"


def _exchanges(items: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """What comes before the first user turn; then each user turn with what follows it."""
    exchange: list[Prepared] = []
    for item in items:
        if isinstance(item.turn, UserTurn) and exchange:
            yield exchange
            exchange = []
        exchange.append(item)
    yield exchange


def _text_message(item: Prepared) -> Message | None:
    """The message in words alone; None where they are not known."""
    turn = item.turn
    if isinstance(turn, UserTurn):
        sounds = [part for part in turn.content if isinstance(part, AudioInput)]
        is_told = turn.text and all(sound.transcript for sound in sounds)
        return {"role": "user", "content": turn.text} if is_told else None
    if item.form is Form.PLACEHOLDER:
        return None
    message = message_at(item, _FORGOTTEN)
    if isinstance(turn, AssistantTurn) and turn.interrupted:
        message["weight"] = 0  # nobody is to learn to break off
    return message
