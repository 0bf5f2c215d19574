"""The saving policy of a history: when a change is appended, and when it rewrites the session.

Each change goes in this order: acquire the lock, take in what others wrote, check, write, and only
then change memory. So memory never holds what could not be written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from conversation._values.data import Data, Kind, NotKept, Stored
from conversation._values.media import has_data, kept_data, with_data
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_entry, line_from_turn
from conversation.errors import (
    AudioFileMissing,
    SaveFailed,
    SessionChanged,
    SessionExists,
    SessionReadOnly,
)
from conversation.stores import News, State, StoredSession

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)
_NONE: Mapping[int, int] = {}


class Journal:
    """Saves changes into a session of a store.

    Args:
        session: The session.
        read_only: Refuse all changes.
        timeout: Seconds to wait for others who hold the session's lock.
        begun: True if it was written before.
        stale_header: True if the next write has to write the header too.

    Attributes:
        begun: True if the session was written before.
        is_unsure: True from the beginning of a write until memory holds it, and after a read that
            failed: then memory may differ from the session, and is read anew by `acquire`.
    """

    def __init__(
        self,
        session: StoredSession,
        *,
        read_only: bool = False,
        timeout: float = 60.0,
        begun: bool = False,
        stale_header: bool = False,
    ) -> None:
        self.session = session
        self.timeout = timeout
        self._refusal = "opened with read_only=True" if read_only else ""
        self.begun = begun
        self._stale_header = stale_header
        # A change in memory was not saved: the next write takes all turns from there.
        self._stale_turns = False
        self.is_unsure = False
        # Turns, their lines and first position, that a lost server may have stored.
        self._doubtful: tuple[tuple[Turn, ...], list[bytes], int] | None = None
        # Until the next write, those that come without their times are taken for them, too.
        self._is_repeat = False

    @property
    def file(self) -> Path | None:
        """The session's document, where it is a file."""
        return self.session.file

    @property
    def place(self) -> Path | str:
        """The session's document, or its place elsewhere, as errors name it."""
        return self.session.file or self.session.place

    def close(self) -> None:
        """Refuse all changes from now on."""
        self._refusal = "closed"

    def refuse_if_closed(self) -> None:
        """Raise `SessionReadOnly` if changes are refused."""
        if self._refusal:
            msg = f"the session was {self._refusal}: it cannot be changed; open it anew to go on"
            raise SessionReadOnly(msg, path=self.file)

    def acquire(self, header: Mapping[str, Any]) -> News | None:
        """Lock the session and return what others wrote; None if another one holds the lock.

        Args:
            header: The labels, as they were last written or read.

        Raises:
            SessionReadOnly: if changes are refused.
            SessionChanged: if the session was deleted, and perhaps begun anew.
        """
        self.refuse_if_closed()
        news = self.session.acquire()
        if news is None:
            return None
        if self.is_unsure and news.state is None:
            return News(state=self.read_anew(header))
        if news.state is not None:
            self._check(news.state, header)
        return news

    def read_anew(self, header: Mapping[str, Any]) -> State | None:
        """Return what the session holds; needs its lock.

        Raises:
            SessionChanged: if the session was deleted, and perhaps begun anew.
        """
        state = self.session.read()
        if state is not None:
            self._check(state, header)
        elif self.begun:
            raise self._changed("was deleted")
        return state

    def _check(self, state: State, header: Mapping[str, Any]) -> None:
        if self.begun and not _is_same(header, state.header):
            raise self._changed("was deleted and begun anew")
        self.begun, self._stale_turns = True, False

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self.session.place} {what} while it was open; nothing was written; open the session "
            "anew, and save(path) keeps what this object holds"
        )
        return SessionChanged(msg, path=self.file)

    def extend(
        self, turns: Sequence[_T], before: Sequence[Turn], header: Mapping[str, Any]
    ) -> list[_T]:
        """Write turns behind those before, all or none, and return them as they are kept."""
        files: list[str] = []
        lines: list[bytes] = []
        start = len(before)
        try:
            self.is_unsure = True
            kept = [self._kept(turn, i, files) for i, turn in enumerate(turns, start)]
            lines = [line_from_turn(turn) for turn in kept]
            if self.begun and not self._stale_header and not self._stale_turns:
                self.session.append(lines)
            else:
                whole = {**self._lines(before, start), **dict(enumerate(lines, start))}
                self._rewrite(header, whole, start + len(lines))
        except BaseException as error:
            if isinstance(error, SaveFailed | SessionChanged):
                error.turn = turns[0] if len(turns) == 1 else None
                self.is_unsure = isinstance(error, SaveFailed) and error.in_doubt
                if self.is_unsure:
                    self._doubtful, self._is_repeat = (tuple(turns), lines, start), True
            self.session.discard(files)
            raise
        self._is_repeat = False
        return kept

    def position_of(self, added: Sequence[Turn], turns: Sequence[Turn]) -> int | None:
        """Return the position of turns whose write was in doubt, if they were stored after all."""
        is_repeat = self._is_repeat
        if self._doubtful is None or not _are_same(added, self._doubtful[0], untimed=is_repeat):
            return None
        (_, lines, position), self._doubtful = self._doubtful, None
        stored = turns[position : position + len(lines)]
        return position if [line_from_turn(turn) for turn in stored] == lines else None

    def rewrite(
        self,
        before: Sequence[Turn],
        header: Mapping[str, Any],
        changed: Mapping[int, Turn],
        length: int,
        *,
        moved: Mapping[int, int] = _NONE,
        must_save: bool = True,
    ) -> Mapping[int, Turn]:
        """Write other labels, put turns in the places of some, or drop some.

        Args:
            before: All turns as they are.
            header: The new labels.
            changed: The new turns by position.
            length: Number of turns afterwards.
            moved: Old positions of turns that get other places, by the new ones.
            must_save: False: where it cannot be saved, the next write makes up for it.

        Returns:
            The changed turns as they are kept.
        """
        files: list[str] = []
        kept = dict(changed)
        try:
            self.is_unsure = True
            kept = {i: self._kept(turn, i, files) for i, turn in changed.items()}
            lines = self._lines(before, min(length, len(before)))
            lines |= self._moved(before, header, moved) if moved else {}
            lines |= {position: line_from_turn(turn) for position, turn in kept.items()}
            self._rewrite(header, lines, length)
        except BaseException as error:
            if isinstance(error, SaveFailed | SessionChanged):
                self.is_unsure = must_save and isinstance(error, SaveFailed) and error.in_doubt
            self.session.discard(files)
            if must_save or not isinstance(error, SaveFailed):
                raise
            log.warning("%s; the next change will write it", error)
            self._stale_header = self._stale_turns = True
            return changed
        return kept

    def discard(self, turns: Sequence[Turn]) -> None:
        """Remove the stored bytes of these turns that no turn names any more."""
        self.session.discard([data.name for turn in turns for data in kept_data(turn) if data.name])

    def refuse_if_begun(self) -> None:
        """Raise `SessionExists` if anything was ever written."""
        if self.begun:
            msg = f"there is a session at {self.session.place} already; choose another id"
            raise SessionExists(msg, path=self.file)

    def _lines(self, turns: Sequence[Turn], length: int) -> dict[int, bytes]:
        """Return the lines that the session cannot copy from itself, of the first turns."""
        if self.begun and not self._stale_turns:
            return {}
        return {position: line_from_turn(turns[position]) for position in range(length)}

    def _moved(
        self, before: Sequence[Turn], header: Mapping[str, Any], moved: Mapping[int, int]
    ) -> dict[int, bytes]:
        """Return the lines of turns that get other places, with all keys of other versions."""
        state = self.read_anew(header) if self.begun and not self._stale_turns else None
        if state is not None and len(state.entries) != len(before):
            raise self._changed("was changed")
        if state is None:
            return {position: line_from_turn(before[old]) for position, old in moved.items()}
        fetch = self.session.fetch
        return {i: line_from_entry(state.entries[old], fetch) for i, old in moved.items()}

    def _rewrite(self, header: Mapping[str, Any], lines: Mapping[int, bytes], length: int) -> None:
        self.session.rewrite(header, lines, length)
        self.begun = True
        self._stale_header = self._stale_turns = self._is_repeat = False

    def _kept(self, turn: _T, position: int, files: list[str]) -> _T:
        """Return the turn with its bytes stored; their names are added to `files`."""
        if not has_data(turn):
            return turn

        def keep(data: Data, suffix: str, kind: Kind) -> Data:
            try:
                kept = self.session.keep(data, suffix, position=position, kind=kind)
            except AudioFileMissing as error:
                log.warning("%s", error)
                return NotKept()
            if isinstance(kept, Stored) and kept is not data and kept.name:
                files.append(kept.name)
            return kept

        return with_data(turn, keep)


def _are_same(added: Sequence[Turn], doubtful: Sequence[Turn], *, untimed: bool) -> bool:
    """Return True for the same turns; if `untimed`, also where they have no times yet."""
    return len(added) == len(doubtful) and all(
        one == other or (untimed and one.at is None and attrs.evolve(one, at=other.at) == other)
        for one, other in zip(added, doubtful, strict=True)
    )


def _is_same(header: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = header.get("created_at"), other.get("created_at")
    return mine == theirs or mine is None or theirs is None
