"""A conversation's turns and labels: in memory, and on the disk where it is a saved session."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conversation import _entries, _rendering
from conversation._journal import InMemory, Journal
from conversation._turns import Turn
from conversation.errors import InvalidTurn, SessionLocked
from conversation.stores import Recovery, State
from conversation.stores._format import corrupt

_T = TypeVar("_T", bound=Turn)


class History:
    """Turns and labels. A change is made inside of `with history:`, by one at a time.

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
        fetch: _entries.Fetch | None = None,
        place: Path | None = None,
        recovered: Recovery | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.header = dict(header)
        self.recovered = recovered
        # Turns, and entries that are still to be decoded behind them: changed at once, as a pair.
        self._state: tuple[list[Turn], list[Any]] = ([], list(entries))
        self._given = dict(given or {})
        self._journal = journal or InMemory()
        self._fetch = fetch
        self._place = place or Path()
        self._prepared: list[_rendering.Prepared] = []
        self._mutex = threading.RLock()
        # Another one, so that turns can be looked at while an exchange goes on.
        self._reading = threading.RLock()
        self._depth = 0

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
                    decoded.append(_entries.turn_from_entry(entry, fetch=self._fetch))
                except InvalidTurn as error:
                    raise corrupt(self._place, f"turn {number}: {error}", number + 1) from error
            turns += decoded
            self._state = (turns, [])
            return turns

    @property
    def prepared(self) -> tuple[_rendering.Prepared, ...]:
        """The turns, prepared for rendering."""
        with self._reading:
            new = self.turns[len(self._prepared) :]
            self._prepared += map(_rendering.prepare, new)
            return tuple(self._prepared)

    def __len__(self) -> int:
        turns, entries = self._state
        return len(turns) + len(entries)

    def __enter__(self) -> None:
        """Hold everything against everybody else, and take in what they wrote before.

        Raises:
            SessionLocked: if somebody else held it for too long.
            SessionReadOnly, SessionChanged, SessionCorrupt, SaveFailed: if it cannot be changed.
        """
        timeout = self._journal.timeout
        if not self._mutex.acquire(timeout=timeout):
            msg = f"another thread uses this conversation (waited {timeout:g} s)"
            raise SessionLocked(msg, path=self._place)
        self._depth += 1
        if self._depth > 1:
            # In the middle of an exchange, whose answer took its time.
            self._journal.look_again()
            return
        is_held = False
        try:
            self._journal.hold()
            is_held = True
            self._take_in(self._journal.news())
        except BaseException:
            self._let_go(is_held=is_held)
            raise

    def __exit__(self, *_: object) -> None:
        self._let_go(is_held=self._depth == 1)

    def _let_go(self, *, is_held: bool) -> None:
        try:
            if is_held:
                self._journal.release()
        finally:
            self._depth -= 1
            self._mutex.release()

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

    def drop(self, number: int) -> list[Turn]:
        """Take back the last turns, with what they kept."""
        kept, dropped = self.turns[:-number], self.turns[-number:]
        self._journal.rewrite(kept, self.header, ())
        self._set(kept)
        self._journal.discard(dropped)
        return dropped

    def replace(self, changed: Mapping[int, Turn], *, must_save: bool = True) -> None:
        """Put other turns in the places of some.

        Args:
            changed: The new turns by their positions.
            must_save: False: where it cannot be saved, the next write makes up for it.
        """
        turns = [changed.get(position, turn) for position, turn in enumerate(self.turns)]
        self._journal.rewrite(turns, self.header, changed.keys(), must_save=must_save)
        self._set(turns)

    def relabel(self, name: str, value: Any) -> None:
        """Change a label."""
        header = self.header | {name: value}
        self._journal.rewrite(self.turns, header, ())
        self.header = header

    def close(self) -> None:
        """Let go of file handles, when no other thread changes anything."""
        with self._mutex:
            self._journal.close()

    def _take_in(self, news: State | Sequence[Any] | None) -> None:
        if isinstance(news, State):
            # In use stay the settings that this object was opened with; of these, only those that
            # were given to it are saved over what others saved since.
            theirs = news.header.get("settings")
            settings = theirs if isinstance(theirs, dict) else {}
            self.header = news.header | {"settings": settings | self._given}
            self.recovered = news.recovered or self.recovered
            self._set([], news.entries)
        elif news is not None:
            with self._reading:
                turns, entries = self._state
                self._state = (turns, [*entries, *news])

    def _set(self, turns: Sequence[Turn], entries: Sequence[Any] = ()) -> None:
        with self._reading:
            self._state, self._prepared = (list(turns), list(entries)), []
