"""The format `jsonl`: one line for OpenAI's fine-tuning, which takes text only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import orjson

from conversation._export.messages import lasting_message, sendable
from conversation._export.outline import Exported
from conversation._rendering.forms import Form, Prepared
from conversation._tools import Tool
from conversation._values.parts import AudioInput
from conversation._values.text import counted
from conversation._values.turns import AssistantTurn, UserTurn
from conversation._wire.messages import Message, named

log = logging.getLogger("conversation")


def fine_tuning_line(exported: Exported) -> Iterator[bytes]:
    """Yield the line, or nothing if there is no answer to learn from."""
    messages: list[Message] = []
    left_out: list[str] = []
    numbers = {id(turn): number for number, turn in enumerate(exported.turns, 1)}
    for exchange in _exchanges(sendable(exported)):
        found = [_text_message(item) for item in exchange]
        if None in found:
            own = (item for item in exchange if not item.stays and id(item.turn) in numbers)
            gone = sorted(numbers[id(item.turn)] for item in own)
            left_out.append(f"{gone[0]} to {gone[-1]}" if gone[1:] else f"{gone[0]}")
            found = [message for item, message in zip(exchange, found, strict=True) if item.stays]
        messages += filter(None, found)
    while messages and (messages[-1]["role"] != "assistant" or "tool_calls" in messages[-1]):
        messages.pop()  # a line has to end with an answer
    if left_out:
        log.warning(
            "export of %r: skipping %s with audio that has no transcript (turns %s); "
            "transcribe() adds those of the user's audio",
            exported.title,
            counted(len(left_out), "exchange"),
            ", ".join(left_out),
        )
    if not messages:
        log.warning("export of %r: no answer to learn from, and so no line", exported.title)
        return
    tools = [tool.description if isinstance(tool, Tool) else tool for tool in exported.tools]
    line = {"messages": messages, **({"tools": tools} if tools else {})}
    yield orjson.dumps(line) + b"\n"


def _exchanges(items: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """Yield the items before the first user turn, then each user turn with those that follow it."""
    exchange: list[Prepared] = []
    for item in items:
        if isinstance(item.turn, UserTurn) and exchange:
            yield exchange
            exchange = []
        exchange.append(item)
    yield exchange


def _text_message(item: Prepared) -> Message | None:
    """Return the message as text; None if the words are not known."""
    turn = item.turn
    if isinstance(turn, UserTurn):
        sounds = [part for part in turn.content if isinstance(part, AudioInput)]
        is_known = turn.text and all(sound.transcript for sound in sounds)
        return named({"role": "user", "content": turn.text}, turn) if is_known else None
    if item.form is Form.PLACEHOLDER:
        return None
    message = lasting_message(item)
    if isinstance(turn, AssistantTurn) and turn.interrupted:
        message["weight"] = 0  # the model shall not learn to break off
    return message
