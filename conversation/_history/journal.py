"""The saving policy of a history: when a change is appended, and when it rewrites the session.

Each change goes in this order: acquire the lock, take in what others wrote, check, write, and only
then change memory. So memory never holds what could not be written.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conversation._values.data import Data, Kind, NotKept, Stored
from conversation._values.media import has_data, kept_data, with_data
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_turn
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


class Journal:
    """Saves changes into a session of a store.

    Args:
        session: The session.
        read_only: Refuse all changes.
        timeout: Seconds to wait for others who hold the session's lock.
        begun: True if it was written before.
        stale_header: True if the next write has to write the header too.

    Attributes:
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
        self._begun = begun
        self._stale_header = stale_header
        # A change in memory was not saved: the next write takes all turns from there.
        self._stale_turns = False
        self.is_unsure = False
        # A turn, its line and its position, that a lost server may have stored.
        self._doubtful: tuple[Turn, bytes, int] | None = None

    @property
    def file(self) -> Path | None:
        """The session's document, where it is a file."""
        return self.session.file

    def close(self) -> None:
        """Refuse all changes from now on."""
        self._refusal = "closed"

    def acquire(self, header: Mapping[str, Any]) -> News | None:
        """Lock the session and return what others wrote; None if another one holds the lock.

        Args:
            header: The labels, as they were last written or read.

        Raises:
            SessionReadOnly: if changes are refused.
            SessionChanged: if the session was deleted, and perhaps begun anew.
        """
        if self._refusal:
            msg = f"the session was {self._refusal}: it cannot be changed; open it anew to go on"
            raise SessionReadOnly(msg, path=self.file)
        news = self.session.acquire()
        if news is None:
            return None
        if self.is_unsure:
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
        elif self._begun:
            raise self._changed("was deleted")
        return state

    def _check(self, state: State, header: Mapping[str, Any]) -> None:
        if self._begun and not _is_same(header, state.header):
            raise self._changed("was deleted and begun anew")
        self._begun, self._stale_turns = True, False

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self.session.place} {what} while it was open; nothing was written; open the session "
            "anew, and save(path) keeps what this object holds"
        )
        return SessionChanged(msg, path=self.file)

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:
        """Write a turn behind those before, and return it as it is kept."""
        files: list[str] = []
        line = b""
        try:
            self.is_unsure = True
            kept = self._kept(turn, len(before), files)
            line = line_from_turn(kept)
            if self._begun and not self._stale_header and not self._stale_turns:
                self.session.append((line,))
            else:
                lines = {**self._lines(before), len(before): line}
                self._rewrite(header, lines, len(before) + 1)
        except BaseException as error:
            if isinstance(error, SaveFailed | SessionChanged):
                error.turn = turn
                self.is_unsure = False
            if isinstance(error, SaveFailed) and error.in_doubt:
                self._doubtful = (turn, line, len(before))
            self.session.discard(files)
            raise
        return kept

    def position_of(self, turn: Turn, turns: Sequence[Turn]) -> int | None:
        """Return the position of a turn whose write was in doubt, if it was stored after all."""
        if self._doubtful is None or self._doubtful[0] != turn:
            return None
        (_, line, position), self._doubtful = self._doubtful, None
        is_stored = position < len(turns) and line_from_turn(turns[position]) == line
        return position if is_stored else None

    def rewrite(
        self,
        before: Sequence[Turn],
        header: Mapping[str, Any],
        changed: Mapping[int, Turn],
        length: int,
        *,
        must_save: bool = True,
    ) -> Mapping[int, Turn]:
        """Write other labels, put turns in the places of some, or drop the last ones.

        Args:
            before: All turns as they are.
            header: The new labels.
            changed: The new turns by position.
            length: Number of turns afterwards.
            must_save: False: where it cannot be saved, the next write makes up for it.

        Returns:
            The changed turns as they are kept.
        """
        files: list[str] = []
        kept = dict(changed)
        try:
            self.is_unsure = True
            kept = {i: self._kept(turn, i, files) for i, turn in changed.items()}
            lines = self._lines(before[:length] if length < len(before) else before)
            lines |= {position: line_from_turn(turn) for position, turn in kept.items()}
            self._rewrite(header, lines, length)
        except BaseException as error:
            if isinstance(error, SaveFailed | SessionChanged):
                self.is_unsure = False
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
        if self._begun:
            msg = f"there is a session at {self.session.place} already; choose another id"
            raise SessionExists(msg, path=self.file)

    def _lines(self, turns: Sequence[Turn]) -> dict[int, bytes]:
        """Return the lines that the session cannot copy from itself."""
        if self._begun and not self._stale_turns:
            return {}
        return {position: line_from_turn(turn) for position, turn in enumerate(turns)}

    def _rewrite(self, header: Mapping[str, Any], lines: Mapping[int, bytes], length: int) -> None:
        self.session.rewrite(header, lines, length)
        self._begun = True
        self._stale_header = self._stale_turns = False

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


def _is_same(header: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = header.get("created_at"), other.get("created_at")
    return mine == theirs or mine is None or theirs is None
