"""Tool calls that wait for a result."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from conversation._values.turns import AssistantTurn, ToolTurn, Turn


class OpenCalls:
    """Ids of tool calls without a result, counted back from the newest turn.

    Each turn is looked at once, however many ids are asked for, and no more turns than needed.

    Args:
        count: Number of turns; more may be added at the end.
    """

    def __init__(self, count: int) -> None:
        self._start = self._end = count
        # Between the two: calls without a result, and results of calls before.
        self._calls: Counter[str] = Counter()
        self._results: Counter[str] = Counter()

    def has(self, call_id: str, turns: Sequence[Turn]) -> bool:
        """Return True if a call of this id among the turns waits for a result."""
        while self._end < len(turns):
            turn = turns[self._end]
            self._end += 1
            self.count(turn)
        while not self._calls[call_id] and self._start:
            turn = turns[self._start - 1]
            self._start -= 1
            for called in _calls(turn):
                if self._results[called]:
                    self._results[called] -= 1
                else:
                    self._calls[called] += 1
            if isinstance(turn, ToolTurn):
                self._results[turn.tool_call_id] += 1
        return bool(self._calls[call_id])

    def count(self, turn: Turn) -> None:
        """Count a turn as the newest one."""
        for called in _calls(turn):
            self._calls[called] += 1
        if isinstance(turn, ToolTurn):
            if self._calls[turn.tool_call_id]:
                self._calls[turn.tool_call_id] -= 1
            else:
                self._results[turn.tool_call_id] += 1


def _calls(turn: Turn) -> Sequence[str]:
    return [call.id for call in turn.tool_calls] if isinstance(turn, AssistantTurn) else ()
