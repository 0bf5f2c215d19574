"""A request that was sent, as far as its answer is understood by it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import orjson

from conversation._rendering.forms import NEVER, Moment, Prepared
from conversation._rendering.preparing import text_tokens
from conversation._rendering.settings import ToolGiven
from conversation._rendering.window import tokens_at
from conversation._tools import Tool
from conversation._wire.completions import Asked


@attrs.frozen
class SentRequest:
    """A request, as far as its answer is understood by it.

    Attributes:
        model: The model that was asked.
        asked: How it was asked to answer.
        tools: The tools that it was told of.
        items: What was sent of the history.
        at: The moment of the request.
    """

    model: str
    asked: Asked
    tools: Sequence[ToolGiven] = ()
    items: Sequence[Prepared] = ()
    at: Moment = NEVER

    @property
    def tool_tokens(self) -> int:
        """Estimated tokens of the tools' descriptions."""
        tools = [tool.description if isinstance(tool, Tool) else tool for tool in self.tools]
        return text_tokens(orjson.dumps(tools).decode()) if tools else 0

    @property
    def estimate(self) -> int:
        """Estimated tokens of all of it."""
        return tokens_at(self.items, self.at) + self.tool_tokens
