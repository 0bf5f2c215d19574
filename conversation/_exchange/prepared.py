"""The turns of a history, prepared for sending: each once, and only when it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import cast

from conversation._history.history import History
from conversation._rendering.forms import NO_VOICE, Moment, Prepared
from conversation._rendering.messages import NO_RESULT
from conversation._rendering.preparing import cut, prepare, prepare_entries, text_tokens
from conversation._rendering.unseen import media_in
from conversation._rendering.window import Context, Limits
from conversation._values.turns import AssistantTurn

_BLOCK = 64
"""Number of turns that are looked at together."""


class PreparedTurns:
    """A cache of prepared turns. `refresh` brings it up to date; positions are looked at by index.

    Args:
        history: The turns.
        context: The limits of tools' results, and from when on sound is old.

    Attributes:
        systems: Positions of all system turns.
        with_media: Positions of turns that hold pictures or files; known once all are to be sent.
    """

    def __init__(self, history: History, context: Context) -> None:
        self._history = history
        self._longest_result = context.max_tool_result_tokens
        self._ages = context.ages
        self._revision = -1
        self._forget()

    def _forget(self) -> None:
        self.systems: list[int] = []
        self.with_media: list[int] = []
        self._items: list[Prepared | None] = []
        # Number of turns that were not looked at; once all were, an upper bound of what the counted
        # ones cost: without voice, and until when each voice costs how much more.
        self._missing = self._counted = self._tokens = self._upload = 0
        self._voices: list[tuple[float, int]] = []

    def refresh(self) -> int:
        """Take in what was added, replaced or dropped, and return the number of turns."""
        if self._revision != self._history.revision:
            self._revision = self._history.revision
            self._forget()
        known, count = len(self._items), len(self._history)
        if known < count:
            were_all_looked_at = known and not self._missing
            self.systems += self._history.systems(known)
            self._items += [None] * (count - known)
            self._missing += count - known
            if were_all_looked_at:
                self._block(known, count)
        return count

    def __getitem__(self, position: int) -> Prepared:
        """Return a turn; one that is stored in the usual form may be without its `turn`."""
        return self._items[position] or self._block(position, position + 1)[0]

    def back(self) -> Iterator[tuple[int, list[Prepared]]]:
        """Yield the newest turns with the position of the first, then those before, and so on."""
        for stop in range(len(self._items), 0, -_BLOCK):
            start = max(stop - _BLOCK, 0)
            yield start, self._block(start, stop)

    def _block(self, start: int, stop: int) -> list[Prepared]:
        items = self._items[start:stop]
        missing = [i for i, item in enumerate(items) if item is None]
        if missing:
            slots = () if self._ages else self._history.slots(start, stop)
            usual = prepare_entries([slots[i] for i in missing] if slots else ())
            for i, item in zip_longest(missing, usual):
                items[i] = item or self._of_turn(start + i)
            self._items[start:stop] = items
            self._missing -= len(missing)
        return cast("list[Prepared]", items)

    def _of_turn(self, position: int) -> Prepared:
        item = prepare(self._history[position])
        most = self._longest_result
        return item if most is None else cut(item, most)

    def all_if_they_fit(
        self, instructions: str | None, limits: Limits, at: Moment
    ) -> list[Prepared] | None:
        """Return all turns, if they were all looked at and are sure to be within the limits."""
        if self._missing or self._ages:
            return None
        self._count()
        limit = at.limit
        living = sum([extra for end, extra in self._voices if limit < end])
        tokens = self._tokens + living + text_tokens(instructions or "")
        return cast("list[Prepared]", self._items) if limits.hold(tokens, self._upload) else None

    def _count(self) -> None:
        """Add up what the turns cost that were added since the last time."""
        items = cast("list[Prepared]", self._items)
        for position, item in enumerate(items[self._counted :], self._counted):
            self._tokens += item.tokens
            if item.voice_end > NO_VOICE:
                self._voices.append((item.voice_end, item.voice_tokens - item.tokens))
            if item.message is None:
                self._upload += item.upload
                if item.in_tools and isinstance(item.turn, AssistantTurn):
                    self._tokens += text_tokens(NO_RESULT) * len(item.turn.tool_calls)
                if media_in(item.turn):
                    self.with_media.append(position)
        self._counted = len(items)

    def all_with_turns(self) -> Sequence[Prepared]:
        """Return all turns, none without its `turn`."""
        for position in range(self.refresh()):
            item = self[position]
            if item.turn is None:
                self._items[position] = self._of_turn(position)
        return cast("list[Prepared]", self._items)
