"""A conversation's turns and labels: in memory, and on the disk where it is a saved session."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conversation._history.journal import Journal
from conversation._locking import Hold
from conversation._rendering.forms import Prepared, prepare
from conversation._rendering.window import Totals
from conversation._values.media import inlined
from conversation._values.turns import AssistantTurn, Turn, Usage
from conversation._wire.reading import Fetch, turn_from_entry, usage_from_entry
from conversation._wire.writing import usage_entry
from conversation.errors import InvalidTurn, corrupt
from conversation.stores import Recovery, State

_T = TypeVar("_T", bound=Turn)

UNDONE_USAGE = "undone_usage"
"""The label under which is kept what the turns cost that were taken back."""

INHERITED_TURNS = "inherited_turns"
"""The label under which a fork keeps how many of its turns were paid for elsewhere."""


class History:
    """Turns and labels. Whoever changes them holds `hold`.

    Args:
        header: The labels: `id`, `created_at`, `title`, `settings`, `metadata`, and what other
            versions wrote.
        entries: The turns as they are saved; decoded when they are needed.
        journal: Where changes go.
        fetch: Where what an entry names is kept.
        place: Where the entries came from, for errors.
        recovered: What was repaired when they were read.
        given: The settings that were given to this object; they overrule what others saved.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        entries: Sequence[Any] = (),
        *,
        journal: Journal | None = None,
        fetch: Fetch | None = None,
        place: Path | None = None,
        recovered: Recovery | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.header = dict(header)
        self.recovered = recovered
        # Turns, and entries that are still to be decoded behind them: changed at once, as a pair.
        self._state: tuple[list[Turn], list[Any]] = ([], list(entries))
        self._given = dict(given or {})
        self._journal = journal or Journal()
        self._fetch = fetch
        self._place = place or Path()
        self._prepared: list[Prepared] = []
        self._totals = Totals()
        self.hold = Hold(
            self._journal.try_lock, self._journal.unlock, self._journal.timeout, self._place
        )
        # Turns can be looked at while an exchange goes on.
        self._reading = threading.RLock()

    @property
    def file(self) -> Path | None:
        """Where all of it is saved; None: in memory only."""
        return self._journal.file

    @property
    def may_be_behind(self) -> bool:
        """Whether others may have written since; not while an exchange of ours holds it."""
        return self.file is not None and not self.hold.is_in_exchange

    @property
    def turns(self) -> list[Turn]:
        """All turns, oldest first; not to be changed.

        Raises:
            SessionCorrupt: if an entry is no turn.
        """
        turns, entries = self._state
        if not entries:
            return turns
        with self._reading:
            turns, entries = self._state
            decoded = []
            for number, entry in enumerate(entries, len(turns) + 1):
                try:
                    decoded.append(turn_from_entry(entry, fetch=self._fetch))
                except InvalidTurn as error:
                    raise corrupt(self._place, f"turn {number}: {error}", number + 1) from error
            turns += decoded
            self._state = (turns, [])
            return turns

    @property
    def prepared(self) -> tuple[tuple[Prepared, ...], Totals]:
        """The turns, prepared for rendering, and how much they are."""
        with self._reading:
            for turn in self.turns[len(self._prepared) :]:
                item = prepare(turn)
                self._prepared.append(item)
                self._totals.add(item)
            return tuple(self._prepared), self._totals

    def __len__(self) -> int:
        turns, entries = self._state
        return len(turns) + len(entries)

    def take_in_news(self) -> None:
        """Take in what others wrote before this was held."""
        news = self._journal.news(self.header)
        if news is not None:
            self._take_in(news)

    def add(self, turn: _T) -> _T:
        """Add a turn at the end; it comes back as it is kept."""
        turns = self.turns
        turn = self._journal.add(turn, turns, self.header)
        with self._reading:
            turns.append(turn)
        return turn

    def copied(self) -> tuple[Turn, ...]:
        """All turns. CPython may crash where a list is copied while another thread adds to it."""
        with self._reading:
            return tuple(self.turns)

    def drop(self, start: int) -> tuple[Turn, ...]:
        """Take back all turns from a position on.

        Returns:
            These turns, with the bytes that were kept for them. What they cost stays noted.
        """
        kept, dropped = self.turns[:start], self.turns[start:]
        whole = tuple(map(inlined, dropped))
        inherited = self._inherited
        header = self._with_spent(usage_of(self.turns[max(start, inherited) :]))
        if start < inherited:
            header = header | {INHERITED_TURNS: start}
        self._journal.rewrite(kept, header, ())
        self.header = header
        self._set(kept)
        self._journal.discard(dropped, but=kept)
        return whole

    def spend(self, usage: Usage) -> None:
        """Count what was spent on no turn; where it cannot be saved, the next write does."""
        if usage != Usage():
            header = self._with_spent(usage)
            self._journal.rewrite(self.turns, header, (), must_save=False)
            self.header = header

    def _with_spent(self, usage: Usage) -> dict[str, Any]:
        if usage == Usage():
            return self.header
        spent = usage + usage_from_entry(self.header.get(UNDONE_USAGE))
        return self.header | {UNDONE_USAGE: usage_entry(spent)}

    @property
    def usage(self) -> Usage:
        """Tokens of all answers together, also of those that were taken back."""
        own = self.copied()[self._inherited :]
        return usage_of(own) + usage_from_entry(self.header.get(UNDONE_USAGE))

    @property
    def _inherited(self) -> int:
        inherited = self.header.get(INHERITED_TURNS)
        return inherited if type(inherited) is int and inherited > 0 else 0

    def fill(self, turns: Sequence[Turn]) -> None:
        """Begin with these turns.

        Raises:
            SessionExists: if it was begun before.
        """
        self._journal.refuse_if_begun()
        self._set(self._journal.rewrite(turns, self.header, range(len(turns))))

    def replace(self, changed: Mapping[int, Turn], *, must_save: bool = True) -> None:
        """Put other turns in the places of some.

        Args:
            changed: The new turns by their positions.
            must_save: False: where it cannot be saved, the next write makes up for it.
        """
        before = self.turns
        turns = [changed.get(position, turn) for position, turn in enumerate(before)]
        kept = self._journal.rewrite(turns, self.header, changed.keys(), must_save=must_save)
        self._set(kept)
        self._journal.discard([before[position] for position in changed], but=kept)

    def relabel(self, name: str, value: Any) -> None:
        """Change a label."""
        header = self.header | {name: value}
        self._journal.rewrite(self.turns, header, ())
        self.header = header

    def close(self) -> None:
        """Refuse changes from now on, and let go of file handles when none is under way."""
        self._journal.refuse_changes()
        self.hold.finally_do(self._journal.close)

    def _take_in(self, news: State | Sequence[Any]) -> None:
        if isinstance(news, State):
            # In use stay the settings that this object was opened with; of these, only those that
            # were given to it are saved over what others saved since.
            theirs = news.header.get("settings")
            settings = theirs if isinstance(theirs, dict) else {}
            self.header = news.header | {"settings": settings | self._given}
            self.recovered = news.recovered or self.recovered
            self._set([], news.entries)
        else:
            with self._reading:
                turns, entries = self._state
                self._state = (turns, [*entries, *news])

    def _set(self, turns: Sequence[Turn], entries: Sequence[Any] = ()) -> None:
        with self._reading:
            self._state = (list(turns), list(entries))
            self._prepared, self._totals = [], Totals()


def usage_of(turns: Sequence[Turn]) -> Usage:
    """Tokens of all answers among the turns."""
    spent = (turn.usage for turn in turns if isinstance(turn, AssistantTurn))
    return sum((usage for usage in spent if usage is not None), Usage())
