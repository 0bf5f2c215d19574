"""Changes of a history that a Realtime session has made due."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

import attrs
import orjson

from conversation._history.history import History
from conversation._values.turns import ToolTurn, Turn
from conversation._values.usage import Usage
from conversation.errors import InvalidTurn, SaveFailed, UnknownToolCall
from conversation.realtime._items import ITEM_ID, Item
from conversation.realtime._seeding import short_call_id

log = logging.getLogger("conversation")


class Changes:
    """Turns that are to be added or edited, until they are saved.

    Attributes:
        queue: Items that are no turns yet, in the server's order.
        edits: Edits of turns by their items; one that returns None removes the turn.
        spent: What was spent on no turn.
        start: Position of the first turn that may be the session's own; None: not known yet.
    """

    def __init__(self) -> None:
        self.queue: dict[str, Item] = {}
        self.edits: deque[tuple[str, Callable[[Turn], Turn | None]]] = deque()
        self.spent = Usage()
        self.start: int | None = None

    @property
    def are_due(self) -> bool:
        """True if there is something to settle."""
        first = next(iter(self.queue.values()), None)
        return bool((first and first.is_ready) or self.edits or self.spent != Usage())

    def settle(self, history: History) -> list[Turn]:
        """Make the changes that are due, and return the turns that were added or changed.

        What cannot be saved stays due. The caller holds the history's lock.
        """
        changed: list[Turn] = []
        while (item := next(iter(self.queue.values()), None)) and item.is_ready:
            turn = self._kept(item, history)
            if turn is not None:
                changed.append(turn)
            elif usage := item.fields.get("usage"):
                self.spent += usage
            del self.queue[item.id]
        while self.edits:
            changed += _edited(history, *self.edits[0])
            self.edits.popleft()
        spent, self.spent = self.spent, Usage()
        history.spend(spent)
        return changed

    def _kept(self, item: Item, history: History) -> Turn | None:
        """Add the turn of an item; None if it is none."""
        if self.start is None:
            self.start = len(history)
        try:
            item.turn = item.turn or item.made()
            if item.turn is None:
                return None
            # An exception may have come right behind the write.
            position = _position(history, item.id, self.start)
            return _add(item.turn, history) if position is None else history[position]
        except SaveFailed as error:
            item.turn = error.turn or item.turn  # if it was saved after all, it is found again
            raise
        except (InvalidTurn, UnknownToolCall) as error:
            log.warning("leaving out an item of the session: %s", error)
            return None


def _add(turn: Turn, history: History) -> Turn:
    try:
        return history.add(turn)
    except UnknownToolCall as error:
        given = error.tool_call_id
        same = [call for call in error.open_calls if short_call_id(call) == given]
        if not same or not isinstance(turn, ToolTurn):
            raise
        return history.add(attrs.evolve(turn, tool_call_id=same[-1]))


def _edited(history: History, item_id: str, edit: Callable[[Turn], Turn | None]) -> list[Turn]:
    """Change the turn of an item, if it is there: return it as it is now; nothing if it is gone."""
    position = _position(history, item_id)
    if position is None:
        log.debug("no turn is known of the item %r", item_id)
        return []
    turn = history[position]
    new = edit(turn)
    if new is None:
        history.remove((turn,))
    elif new != turn:
        history.replace({position: new})
        return [history[position]]
    return []


def _position(history: History, item_id: str, start: int = 0) -> int | None:
    """Return the position of the last turn of an item, from one on; None if there is none."""
    for position in range(len(history) - 1, start - 1, -1):
        turn = history[position]
        if ITEM_ID in turn.extra and orjson.loads(turn.extra).get(ITEM_ID) == item_id:
            return position
    return None
