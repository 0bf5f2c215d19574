"""Where a conversation's changes go: nowhere, or into a session of a store.

`Conversation` makes each change in this order: lock, take in the news, check, write, and only then
change memory. So memory never holds what could not be written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from conversation._values.data import Data, NotKept, Stored
from conversation._values.media import has_data, kept_data, with_data
from conversation._values.turns import AssistantTurn, Turn
from conversation._wire.writing import line_from_turn
from conversation.errors import (
    AudioFileMissing,
    SaveFailed,
    SessionChanged,
    SessionExists,
    SessionReadOnly,
)
from conversation.stores import State, StoredSession

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)


class Journal:
    """Changes go nowhere: the turns are in memory only.

    Attributes:
        timeout: Seconds to wait for others; None: without end.
        file: What is written; None: nothing.
    """

    timeout: float | None = None
    file: Path | None = None

    def try_lock(self) -> bool:
        """Keep everybody else from changing it, if nobody does."""
        return True

    def unlock(self) -> None:
        """Let others change it again, if it is locked."""

    def news(self, header: Mapping[str, Any]) -> State | list[Any] | None:  # noqa: ARG002
        """What others wrote since.

        Args:
            header: The labels, as they were last written or read.
        """
        return None

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:  # noqa: ARG002
        """Write a turn behind those before; it comes back as it is kept."""
        return turn

    def rewrite(
        self,
        turns: Sequence[Turn],
        header: Mapping[str, Any],  # noqa: ARG002
        changed: Collection[int],  # noqa: ARG002
        *,
        must_save: bool = True,  # noqa: ARG002
    ) -> list[Turn]:
        """Write everything anew; only what is at the positions `changed` differs.

        Args:
            turns: All turns.
            header: The labels.
            changed: Positions; the other turns are as they were written before.
            must_save: False: where it cannot be saved, the next write makes up for it.

        Returns:
            All turns as they are kept.
        """
        return list(turns)

    def discard(self, turns: Sequence[Turn], *, but: Sequence[Turn]) -> None:
        """Remove what these turns keep, but not what others still name."""

    def refuse_if_begun(self) -> None:
        """Raise `SessionExists` if anything was ever written."""

    def refuse_changes(self) -> None:
        """Never lock again."""

    def close(self) -> None:
        """Let go of file handles."""


class Saved(Journal):
    """Changes go into a session of a store.

    Args:
        session: The session.
        read_only: Refuse all changes.
        timeout: Seconds to wait for others who hold it.
        begun: Whether it was written before.
        stale_header: Whether the next write has to write the header too.
    """

    def __init__(
        self,
        session: StoredSession,
        *,
        read_only: bool,
        timeout: float,
        begun: bool,
        stale_header: bool,
    ) -> None:
        self.timeout = timeout
        self.file = session.place
        self._session = session
        self._read_only = read_only
        self._closed = False
        self._begun = begun
        self._stale_header = stale_header
        self._stale_turns = False

    def try_lock(self) -> bool:
        if self._closed or self._read_only:
            why = "closed" if self._closed else "opened with read_only=True"
            msg = f"the session was {why}: it cannot be changed; open it anew to go on"
            raise SessionReadOnly(msg, path=self._session.place)
        return self._session.try_lock()

    def unlock(self) -> None:
        self._session.unlock()

    def news(self, header: Mapping[str, Any]) -> State | list[Any] | None:
        news = self._session.news()
        if isinstance(news, State) and self._begun and not _is_same(header, news.header):
            self._session.close()
            msg = (
                f"{self._session.place} was deleted and begun anew while it was open; nothing was "
                "written; open the session anew, and save(path) keeps what this object holds"
            )
            raise SessionChanged(msg, path=self._session.place)
        self._begun = self._begun or news is not None
        return news

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:
        files: list[Stored] = []
        try:
            kept = turn
            if has_data(turn):
                kept, files = self._kept(turn, len(before) + 1)
            line = line_from_turn(kept)
            if self._begun and not self._is_stale():
                self._session.append(line)
            else:
                self._rewrite([*self._lines(before, ()), line], header)
        except BaseException as error:
            if isinstance(error, SaveFailed | SessionChanged):
                error.turn = turn
            self._session.discard(files)
            raise
        return kept

    def rewrite(
        self,
        turns: Sequence[Turn],
        header: Mapping[str, Any],
        changed: Collection[int],
        *,
        must_save: bool = True,
    ) -> list[Turn]:
        kept = list(turns)
        files: list[Stored] = []
        try:
            for position in changed:
                kept[position], new = self._kept(kept[position], position + 1)
                files += new
            self._rewrite(self._lines(kept, changed), header)
        except BaseException as error:
            self._session.discard(files)
            if must_save or not isinstance(error, SaveFailed):
                raise
            log.warning("%s; the next change will write it", error)
            self._stale_turns = True
        return kept

    def discard(self, turns: Sequence[Turn], *, but: Sequence[Turn]) -> None:
        data = [data for turn in turns for data in kept_data(turn)]
        if data:
            still = {data.name for turn in but for data in kept_data(turn)}
            self._session.discard([kept for kept in data if kept.name not in still])

    def refuse_if_begun(self) -> None:
        if self._begun:
            msg = f"there is a session at {self._session.place} already; choose another id"
            raise SessionExists(msg, path=self._session.place)

    def refuse_changes(self) -> None:
        self._closed = True

    def close(self) -> None:
        self._session.close()

    def _is_stale(self) -> bool:
        return self._stale_header or self._stale_turns or not self._session.can_grow

    def _lines(self, turns: Sequence[Turn], changed: Collection[int]) -> list[bytes]:
        # What did not change is copied as it stands: a newer version may have written more.
        old = self._session.lines() if self._begun and not self._stale_turns else None
        if old is None or len(old) < len(turns):
            return [line_from_turn(turn) for turn in turns]
        return [line_from_turn(turn) if i in changed else old[i] for i, turn in enumerate(turns)]

    def _rewrite(self, lines: Sequence[bytes], header: Mapping[str, Any]) -> None:
        self._session.rewrite(header, lines)
        self._begun = True
        self._stale_header = self._stale_turns = False

    def _kept(self, turn: _T, number: int) -> tuple[_T, list[Stored]]:
        files: list[Stored] = []
        spoken = isinstance(turn, AssistantTurn)

        def keep(data: Data, suffix: str) -> Data:
            try:
                kept = self._session.keep(data, suffix, number, spoken=spoken)
            except AudioFileMissing as error:
                log.warning("%s", error)
                return NotKept()
            if isinstance(kept, Stored) and kept is not data:
                files.append(kept)
            return kept

        try:
            return with_data(turn, keep), files
        except SaveFailed:
            self._session.discard(files)
            raise


def _is_same(header: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    mine, theirs = header.get("created_at"), other.get("created_at")
    return mine == theirs or mine is None or theirs is None
