"""Messages that were delivered: a conversation takes each once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from conversation._history.reading import ReadTurns
from conversation._values.turns import Turn, UserTurn

_T = TypeVar("_T", bound=Turn)


class Deliveries:
    """Positions of user turns by the ids of their messages; each turn is looked at once."""

    def __init__(self) -> None:
        self._found: dict[str, int] = {}
        self._end = 0

    def position(self, turn: Turn, turns: ReadTurns) -> int | None:
        """Return the position of the turn with the same `message_id`; None if there is none."""
        if not isinstance(turn, UserTurn) or turn.message_id is None:
            return None
        slots = turns.slots(self._end, len(turns))
        for position, slot in enumerate(slots, self._end):
            saved = slot if isinstance(slot, dict) and slot["role"] == "user" else {}
            found = getattr(slot, "message_id", saved.get("message_id"))
            if isinstance(found, str):
                self._found[found] = position
        self._end += len(slots)
        return self._found.get(turn.message_id)

    def new(self, added: Sequence[_T], turns: ReadTurns) -> tuple[list[_T], list[int]]:
        """Return the added turns that are not there yet, and the positions that all are to have."""
        new: list[_T] = []
        positions: list[int] = []
        among: dict[str | None, int] = {}
        for turn in added:
            message_id = turn.message_id if isinstance(turn, UserTurn) else None
            position = among.get(message_id)
            if position is None:
                position = self.position(turn, turns)
            if position is None:
                position = len(turns) + len(new)
                new.append(turn)
            if message_id is not None:
                among[message_id] = position
            positions.append(position)
        return new, positions
