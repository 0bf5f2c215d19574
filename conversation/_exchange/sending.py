"""What is sent of a history with a request, and what its answer tells about the next."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import orjson

from conversation._history.history import History
from conversation._rendering import messages
from conversation._rendering.forms import NEVER, Moment, Prepared, text_tokens
from conversation._rendering.messages import NO_RESULT
from conversation._rendering.settings import Settings, ToolGiven, asks_for_sound
from conversation._rendering.window import (
    Bulk,
    Context,
    Limits,
    aged,
    bulk_of,
    first_sent,
    wordless,
)
from conversation._tools import Tool
from conversation._values.turns import AssistantTurn
from conversation._wire.completions import Asked

log = logging.getLogger("conversation")


@attrs.frozen
class Asking:
    """A request, as far as its answer is understood by it.

    Attributes:
        asked: What it asked for.
        model: Whom.
        tools: The tools that the model was told of.
        items: What was sent of the history.
        at: When.
    """

    asked: Asked
    model: str
    tools: Sequence[ToolGiven] = ()
    items: Sequence[Prepared] = ()
    at: Moment = NEVER

    @property
    def described(self) -> int:
        """Tokens of the tools' descriptions, by the estimate."""
        tools = [tool.description if isinstance(tool, Tool) else tool for tool in self.tools]
        return text_tokens(orjson.dumps(tools).decode()) if tools else 0


class Sending:
    """What is sent of a history.

    Args:
        settings: The conversation's.
        context: How much is sent.
    """

    def __init__(self, settings: Settings, context: Context) -> None:
        self._settings = settings
        self.context = context
        self._scale, self._measured = 1.0, math.inf
        self._is_warned = False

    def asking(self, request: Mapping[str, Any], now: float) -> Asking:
        """A request that nothing is sent with yet."""
        sound = request["audio"] if asks_for_sound(request) else {}
        asked = Asked(now, sound.get("format"), speaks=bool(sound), voice=sound.get("voice"))
        return Asking(asked, str(request["model"]))

    def items(self, history: History, asking: Asking, at: Moment) -> tuple[Sequence[Prepared], int]:
        """The turns in the order in which they are sent, and from which on they are.

        Raises:
            ContextTooSmall: if the newest exchange alone is too much.
        """
        prepared, totals = history.prepared
        arranged = messages.arranged(prepared, self._settings.instructions)
        items = aged(arranged, self.context)
        self._warn_of(items)
        limits = Limits(
            self.context.limit_for(asking.model),
            self.context.max_upload_bytes,
            asking.described,
            self._scale,
            self._measured,
        )
        bulk = totals.bulk(at)
        # Beside the turns, instructions and what stands for results that never came.
        besides = text_tokens(self._settings.instructions or "")
        besides += text_tokens(NO_RESULT) * (len(items) - len(prepared))
        if limits.hold(Bulk(bulk.tokens + besides, bulk.upload)):
            return items, 0
        return items, first_sent(items, at, limits)

    def measure(self, turn: AssistantTurn, asking: Asking) -> None:
        """Correct the estimate by what the last request did cost."""
        if asking.asked.sent_at is None or not asking.items:
            return
        estimate = bulk_of(asking.items, asking.at).tokens + asking.described
        if turn.usage and turn.usage.prompt_tokens and estimate:
            self._scale = min(max(turn.usage.prompt_tokens / estimate, 0.5), 4.0)
            self._measured = estimate

    def learn(self, tokens: int, asking: Asking) -> bool:
        """Correct the estimate by a request that was too long; whether less is sent then."""
        estimate = bulk_of(asking.items, asking.at).tokens + asking.described
        limit = self.context.limit_for(asking.model)
        believed = Limits(limit, 0, 0, self._scale, self._measured).corrected(estimate)
        if not estimate or limit is None or tokens <= max(limit, believed):
            return False
        self._scale, self._measured = tokens / estimate, math.inf
        return True

    def like(self, other: Sending) -> None:
        """Take over what another has learnt of the same history."""
        self._scale, self._measured = other._scale, other._measured

    def _warn_of(self, items: Sequence[Prepared]) -> None:
        if not self._is_warned and wordless(items, self.context):
            self._is_warned = True
            log.warning(
                "old sound is sent as sound, for want of its words: transcribe=True finds those of "
                "users, set_transcript(…) takes any"
            )
