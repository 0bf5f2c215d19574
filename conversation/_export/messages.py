"""The format `messages`: a list for `chat.completions.create` that stays valid.

Answers are sent as transcripts, because audio ids expire.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import orjson

from conversation._export.outline import Exported
from conversation._rendering.forms import Form, Moment, Prepared
from conversation._rendering.messages import arranged, message_at
from conversation._rendering.preparing import prepare
from conversation._wire.messages import Message

_ALL_EXPIRED = Moment(math.inf, 0.0)


def message_list(exported: Exported) -> Iterator[bytes]:
    """Yield the JSON list, message by message."""
    separator = b"[\n"
    for item in sendable(exported):
        yield separator + orjson.dumps(lasting_message(item))
        separator = b",\n"
    yield b"[]\n" if separator == b"[\n" else b"\n]\n"


def sendable(exported: Exported) -> list[Prepared]:
    """Return instructions and turns in the order in which they would be sent, without a limit."""
    items = arranged([prepare(turn) for turn in exported.turns], exported.instructions)
    return [item for item in items if item.form is not Form.LEFT_OUT]


def lasting_message(item: Prepared) -> Message:
    """Return the message that holds no audio id."""
    return message_at(item, _ALL_EXPIRED)
