"""Messages that were delivered: a conversation takes each once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from conversation._values.turns import Turn, UserTurn

_T = TypeVar("_T", bound=Turn)


class Deliveries:
    """Positions of user turns by the ids of their messages; each turn is looked at once.

    Args:
        turns: The turns; more may be added at the end.
        entry: Returns a turn as it is saved, where it was not decoded yet; else None.
    """

    def __init__(
        self, turns: Sequence[Turn], entry: Callable[[int], Mapping[str, Any] | None]
    ) -> None:
        self._turns = turns
        self._entry = entry
        self._found: dict[str, int] = {}
        self._end = 0

    def position(self, turn: Turn) -> int | None:
        """Return the position of the turn with the same `message_id`; None if there is none."""
        if not isinstance(turn, UserTurn) or turn.message_id is None:
            return None
        for position in range(self._end, len(self._turns)):
            if isinstance(found := self._id_at(position), str):
                self._found[found] = position
        self._end = len(self._turns)
        return self._found.get(turn.message_id)

    def _id_at(self, position: int) -> object:
        entry = self._entry(position)
        if entry is not None:
            return entry.get("message_id") if entry["role"] == "user" else None
        turn = self._turns[position]
        return turn.message_id if isinstance(turn, UserTurn) else None

    def new(self, turns: Sequence[_T]) -> tuple[list[_T], list[int]]:
        """Return the turns that are not there yet, and the positions that all are to have."""
        new: list[_T] = []
        positions: list[int] = []
        among: dict[str, int] = {}
        for turn in turns:
            message_id = turn.message_id if isinstance(turn, UserTurn) else None
            position = among.get(message_id) if message_id is not None else None
            if position is None:
                position = self.position(turn)
            if position is None:
                position = len(self._turns) + len(new)
                new.append(turn)
            if message_id is not None:
                among[message_id] = position
            positions.append(position)
        return new, positions
