"""Turns and labels of a session that others may change too: locked, and taken in from its store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import orjson

from conversation._history.journal import Journal
from conversation._history.reading import ReadTurns
from conversation._locking import Lock, Polling
from conversation._values.turns import Turn
from conversation._wire.reading import Fetch
from conversation._wire.writing import line_from_turn
from conversation.stores import Looking, News, Recovery

_R = TypeVar("_R")


class SharedTurns(ReadTurns):
    """Turns and labels, as they are in a session of a store; in memory only without a `Journal`.

    Args:
        header: The labels: `id`, `created_at`, `title`, `settings`, `metadata`, and those of other
            versions.
        clock: Returns Unix time in seconds.
        entries: The turns as they are saved.
        journal: The saving policy; None: in memory only.
        fetch: Returns the stored bytes that an entry names, without a journal.
        place: Source of the entries, for errors, without a journal.
        recovered: The repair that was made when they were read.
        given: Settings that were given to this object; they overrule those that others save.

    Attributes:
        lock: Admits one change or exchange at a time.
    """

    def __init__(
        self,
        header: Mapping[str, Any],
        clock: Callable[[], float],
        entries: Sequence[Any] = (),
        *,
        journal: Journal | None = None,
        fetch: Fetch | None = None,
        place: Path | str = "",
        recovered: Recovery | None = None,
        given: Mapping[str, Any] | None = None,
    ) -> None:
        self.header = dict(header)
        self.clock = clock
        self.recovered = recovered
        self.lock = Lock()
        self._journal = journal
        self._given = dict(given or {})
        super().__init__(
            entries,
            fetch=fetch if journal is None else journal.session.fetch,
            place=place if journal is None else journal.place,
            mends=self.file is not None,
        )

    @property
    def is_saved(self) -> bool:
        """True for a session of a store."""
        return self._journal is not None

    @property
    def is_begun(self) -> bool:
        """True for a session of a store that was written before."""
        return self._journal is not None and self._journal.begun

    @property
    def file(self) -> Path | None:
        """The session's document, where it is a file."""
        return None if self._journal is None else self._journal.file

    @property
    def timeout(self) -> float:
        """Seconds to wait for others who hold the session's lock."""
        return 60.0 if self._journal is None else self._journal.timeout

    def polling(self) -> Polling:
        """Return the pauses between attempts to acquire the lock."""
        if self._journal is None:
            return Polling(None)
        session = self._journal.session
        return Polling(self.timeout, place=session.place, file=session.file)

    @property
    def pauses(self) -> tuple[float, float]:
        """First and longest pause between attempts to acquire the session's lock, in seconds."""
        return Polling.PAUSES if self._journal is None else self._journal.session.pauses

    def acquire(self) -> bool:
        """Lock the session and take in what others wrote; False if another one holds its lock."""
        if self._journal is None:
            return True
        try:
            news = self._journal.acquire(self.header)
            if news is None:
                return False
            self._take_in(news)
        except BaseException:
            self._journal.is_unsure = True
            self.release()
            raise
        self._journal.is_unsure = False
        return True

    def change(self, job: Callable[[], _R]) -> tuple[_R] | None:
        """Make a change while the session is locked; None if another one holds its lock."""
        if not self.acquire():
            return None
        try:
            return (job(),)
        finally:
            self.release()

    def release(self) -> None:
        """Unlock the session; idempotent."""
        if self._journal is not None:
            self._journal.session.release()

    def close(self) -> None:
        """Refuse changes of a saved session from now on."""
        if self._journal is not None:
            self._journal.close()

    def refuse_if_closed(self) -> None:
        """Raise `SessionReadOnly` if a saved session was closed while it was held."""
        if self._journal is not None:
            self._journal.refuse_if_closed()

    def settle(self) -> None:
        """Read the session anew if a write to it was interrupted; needs its lock."""
        if self._journal is not None and self._journal.is_unsure:
            self._take_in(News(state=self._journal.read_anew(self.header)))
            self._journal.is_unsure = False

    def refresh(self) -> tuple[Turn, ...]:
        """Take in what a saved session holds, without its lock; return what differs from here on.

        Raises:
            SessionChanged: if the session was deleted.
        """
        if self._journal is None:
            return ()
        is_sure, self._journal.is_unsure = not self._journal.is_unsure, True
        session = self._journal.session
        news = session.look() if is_sure and isinstance(session, Looking) else None
        known = self._take_in(news or News(state=self._journal.read_anew(self.header)))
        self._journal.is_unsure = False
        return self[known:]

    def _take_in(self, news: News) -> int:
        """Hold what others wrote; return the number of turns, the first ones, that it left alone.

        What did not change stays the same object: callers may have taken it from `turns`.
        """
        state, start = news.state, len(self)
        if state is None:
            self._add_entries(news.added)
            return start
        entries = list(state.entries)
        self._check(entries, 0)
        # Others' settings stay saved, but for those that were given to this object.
        theirs = state.header.get("settings")
        settings = theirs if isinstance(theirs, dict) else {}
        self.header = state.header | {"settings": settings | self._given}
        self.recovered = state.recovered or self.recovered
        same = [_is_saved_as(*pair) for pair in zip(self._slots, entries, strict=False)]
        if len(same) == start and all(same):
            self._add_entries(entries[start:])
            return start
        with self.reading:
            pairs = zip(self._slots, entries, same, strict=False)
            kept = [mine if is_same else theirs for mine, theirs, is_same in pairs]
            self.set(kept + entries[len(kept) :])
        return same.index(False) if False in same else len(same)

    def fetch_all(self, names: Sequence[str]) -> Mapping[str, bytes]:
        """Return stored bytes by name, in one round trip; missing ones are left out."""
        if self._journal is None or not names:
            return {}
        return self._journal.session.fetch_all(names)


def _is_saved_as(slot: Turn | dict[str, Any], entry: object) -> bool:
    """Return True if a turn is saved as this entry."""
    saved = slot if isinstance(slot, dict) else orjson.loads(line_from_turn(slot))
    return bool(saved == entry)
