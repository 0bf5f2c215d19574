"""Where a conversation's changes go: nowhere, or into a session of a store.

`Conversation` makes each change in this order: hold, take in the news, check, write, and only then
change memory. So memory never holds what could not be written.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import orjson

from conversation._entries import entry_from_turn, with_data
from conversation._inputs import Data, NotKept, Stored
from conversation._turns import AssistantTurn, Turn
from conversation.errors import AudioFileMissing, SaveFailed, SessionChanged, SessionReadOnly
from conversation.stores import State, StoredSession

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)


class Journal(Protocol):
    """What a conversation needs of the place where its changes go."""

    timeout: float

    def held(self) -> AbstractContextManager[None]:
        """Keep everybody else from changing it."""

    def news(self) -> State | list[Any] | None:
        """What others wrote since."""

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:
        """Write a turn behind those before; it comes back as it is kept."""

    def rewrite(
        self,
        turns: Sequence[Turn],
        header: Mapping[str, Any],
        changed: Collection[int],
        *,
        must_save: bool = True,
    ) -> None:
        """Write everything anew; only what is at the positions `changed` differs."""

    def discard(self, turns: Sequence[Turn]) -> None:
        """Remove what only these turns kept."""

    def close(self) -> None:
        """Let go of file handles."""


class InMemory:
    """Changes go nowhere."""

    timeout = math.inf

    def held(self) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def news(self) -> None:
        return None

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:  # noqa: ARG002
        return turn

    def rewrite(
        self,
        turns: Sequence[Turn],
        header: Mapping[str, Any],
        changed: Collection[int],
        *,
        must_save: bool = True,
    ) -> None:
        pass

    def discard(self, turns: Sequence[Turn]) -> None:
        pass

    def close(self) -> None:
        pass


class Saved:
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
        self._session = session
        self._read_only = read_only
        self._closed = False
        self._begun = begun
        self._stale_header = stale_header
        self._stale_turns = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        if self._closed or self._read_only:
            why = "closed" if self._closed else "opened with read_only=True"
            msg = f"the session was {why}: it cannot be changed; open it anew to go on"
            raise SessionReadOnly(msg, path=self._session.place)
        with self._session.locked(self.timeout):
            yield

    def news(self) -> State | list[Any] | None:
        news = self._session.news()
        self._begun = self._begun or news is not None
        return news

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:
        kept, files = self._kept(turn, len(before) + 1)
        line = orjson.dumps(entry_from_turn(kept))
        try:
            if self._begun and not self._is_stale():
                self._session.append(line)
            else:
                self._rewrite([*self._lines(before, ()), line], header)
        except (SaveFailed, SessionChanged) as error:
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
    ) -> None:
        try:
            self._rewrite(self._lines(turns, changed), header)
        except SaveFailed as error:
            if must_save:
                raise
            log.warning("%s; the next change will write it", error)
            self._stale_turns = True

    def discard(self, turns: Sequence[Turn]) -> None:
        self._session.discard([data for turn in turns for data in kept_data(turn)])

    def close(self) -> None:
        self._closed = True
        self._session.close()

    def _is_stale(self) -> bool:
        return self._stale_header or self._stale_turns or not self._session.can_grow

    def _lines(self, turns: Sequence[Turn], changed: Collection[int]) -> list[bytes | None]:
        if self._begun and self._session.can_grow and not self._stale_turns:
            return [
                orjson.dumps(entry_from_turn(turns[i])) if i in changed else None
                for i in range(len(turns))
            ]
        return [orjson.dumps(entry_from_turn(turn)) for turn in turns]

    def _rewrite(self, lines: Sequence[bytes | None], header: Mapping[str, Any]) -> None:
        self._session.rewrite(header, lines)
        self._begun = True
        self._stale_header = self._stale_turns = False

    def _kept(self, turn: _T, number: int) -> tuple[_T, list[Stored]]:
        files: list[Stored] = []
        spoken = isinstance(turn, AssistantTurn)

        def keep(data: Data, suffix: str) -> Data:
            kept = self._session.keep(data, suffix, number, spoken=spoken)
            if isinstance(kept, Stored) and kept is not data:
                files.append(kept)
            return kept

        try:
            return with_data(turn, keep), files
        except SaveFailed as error:
            error.turn = turn
            self._session.discard(files)
            raise


def kept_data(turn: Turn) -> list[Stored]:
    """What the turn keeps elsewhere."""
    found: list[Stored] = []

    def note(data: Data, _: str) -> Data:
        if isinstance(data, Stored):
            found.append(data)
        return data

    with_data(turn, note)
    return found


def inlined(turn: _T) -> _T:
    """The turn with all its bytes in it, as far as they are still there."""

    def read(data: Data, _: str) -> Data:
        if isinstance(data, bytes):
            return data
        try:
            return data.read()
        except AudioFileMissing as error:
            log.warning("%s", error)
            return NotKept()

    return with_data(turn, read)
