"""Turns that were read from a session: each is decoded when it is looked at."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, overload

from conversation._locking import ReadLock
from conversation._values.naming import Naming
from conversation._values.turns import SystemTurn, Turn
from conversation._wire.reading import Fetch, role_of, turn_from_entry
from conversation.errors import InvalidTurn, SessionCorrupt, corrupt


class ReadTurns(Sequence[Turn]):
    """A sequence of turns, some of which are entries that nobody has looked at yet.

    Args:
        entries: The turns as they are saved.
        fetch: Returns the stored bytes that an entry names.
        place: Source of the entries, for errors.
        mends: True if damage can be repaired there.

    Attributes:
        header: The labels of the session.
        reading: Guards the turns against other threads.
        revision: Changes when turns are replaced or dropped.
    """

    header: dict[str, Any]
    _has_entries: bool

    def __init__(
        self, entries: Sequence[Any], *, fetch: Fetch | None, place: Path | str, mends: bool
    ) -> None:
        self._fetch = fetch
        self._place = place
        self._mends = mends
        # Turns can be looked at while an exchange goes on in another thread.
        self.reading = ReadLock()
        self.revision = 0
        self.set(())
        self._add_entries(entries)

    @property
    def id(self) -> str | None:
        """The id of the session; None in memory."""
        session_id = self.header.get("id")
        return session_id if isinstance(session_id, str) else None

    def __len__(self) -> int:
        return len(self._slots)

    @overload
    def __getitem__(self, position: int) -> Turn: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Turn, ...]: ...
    def __getitem__(self, position: int | slice) -> Turn | tuple[Turn, ...]:
        """Return turns.

        Raises:
            SessionCorrupt: if an entry is no turn.
        """
        if isinstance(position, slice):
            with self.reading:
                return tuple(self[i] for i in range(*position.indices(len(self._slots))))
        slot: Turn | dict[str, Any] = self._slots[position]
        return self._decoded(position) if isinstance(slot, dict) else slot

    def _decoded(self, position: int) -> Turn:
        with self.reading:
            slot: Turn | dict[str, Any] = self._slots[position]
            if isinstance(slot, dict):
                try:
                    with Naming(self.id):
                        slot = turn_from_entry(slot, fetch=self._fetch)
                except InvalidTurn as error:
                    raise self._corrupt(position % len(self._slots), error) from error
                self._slots[position] = slot
            return slot

    def slots(self, start: int, stop: int) -> list[Any]:
        """Return turns, those as they were read from the session that nobody has decoded."""
        return self._slots[start:stop]

    def systems(self, start: int = 0) -> list[int]:
        """Return the positions of system turns from one on, without decoding them."""
        start = max(start, self._usual)
        return [
            position
            for position, slot in enumerate(self._slots[start:], start)
            if (
                slot["role"] in ("system", "developer")
                if isinstance(slot, dict)
                else isinstance(slot, SystemTurn)
            )
        ]

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns, oldest first."""
        # CPython may crash where a list is copied while another thread adds to it.
        with self.reading:
            if self._has_entries:
                turns = self[:]
                self._has_entries = False
                return turns
            return tuple(self._slots)

    def set(self, slots: Sequence[Any]) -> None:
        """Take these turns, or their entries, in memory alone."""
        with self.reading:
            # Turns, and entries that nobody has looked at yet.
            self._slots: list[Any] = list(slots)
            self._has_entries = True
            # Number of turns, the first ones, that are known to be none of the system's.
            self._usual = 0
            self.revision += 1

    def _add_entries(self, entries: Sequence[Any]) -> None:
        """Take these, too, in memory alone; refuse those of unknown roles."""
        start = len(self)
        are_usual = self._check(entries, start)
        with self.reading:
            self._has_entries = self._has_entries or bool(entries)
            self._slots += entries
            if are_usual and self._usual == start:
                self._usual = len(self)

    def _check(self, entries: Sequence[Any], start: int) -> bool:
        """Refuse entries of unknown roles; return True if no system turn is among them."""
        # At the speed of one look at each.
        with contextlib.suppress(TypeError, KeyError):  # no entry
            if set(map(_role, entries)) <= {"user", "assistant", "tool"}:
                return True
        for position, entry in enumerate(entries, start):
            try:
                role_of(entry)
            except InvalidTurn as error:
                raise self._corrupt(position, error) from error
        return False

    def _corrupt(self, position: int, error: InvalidTurn) -> SessionCorrupt:
        reason = f"turn {position + 1}: {error}"
        return corrupt(self._place, reason, position + 2, mends=self._mends)


_role = itemgetter("role")
