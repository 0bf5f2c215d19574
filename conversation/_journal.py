"""Where a conversation's changes go: nowhere, or into a session of a store.

`Conversation` makes each change in this order: hold, take in the news, check, write, and only then
change memory. So memory never holds what could not be written.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import attrs
import orjson

from conversation._entries import entry_from_turn
from conversation._inputs import AudioInput, Data, FileInput, ImageInput, NotKept, Part, Stored
from conversation._turns import AssistantTurn, Turn, UserTurn
from conversation.errors import AudioFileMissing, SaveFailed, SessionChanged, SessionReadOnly
from conversation.stores import State, StoredSession

log = logging.getLogger("conversation")

_T = TypeVar("_T", bound=Turn)


class Journal(Protocol):
    """What a conversation needs of the place where its changes go."""

    timeout: float
    """Seconds for which a thread waits for another one; -1: without end."""

    def hold(self) -> None:
        """Keep everybody else from changing it."""

    def release(self) -> None:
        """Let others change it again."""

    def news(self) -> State | list[Any] | None:
        """What others wrote since."""

    def look_again(self) -> None:
        """Time has gone by since `news`: what is written next needs a look of its own."""

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

    timeout = -1.0

    def hold(self) -> None:
        pass

    def release(self) -> None:
        pass

    def news(self) -> None:
        return None

    def look_again(self) -> None:
        pass

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
        self.timeout = min(max(timeout, 0.0), threading.TIMEOUT_MAX)
        self._session = session
        self._read_only = read_only
        self._closed = False
        self._begun = begun
        self._stale_header = stale_header
        self._stale_turns = False

    def hold(self) -> None:
        if self._closed or self._read_only:
            why = "closed" if self._closed else "opened with read_only=True"
            msg = f"the session was {why}: it cannot be changed; open it anew to go on"
            raise SessionReadOnly(msg, path=self._session.place)
        self._session.lock(self.timeout)

    def release(self) -> None:
        self._session.unlock()

    def news(self) -> State | list[Any] | None:
        news = self._session.news()
        self._begun = self._begun or news is not None
        return news

    def look_again(self) -> None:
        self._session.look_again()

    def add(self, turn: _T, before: Sequence[Turn], header: Mapping[str, Any]) -> _T:
        kept, files = self._kept(turn, len(before) + 1)
        line = _line(kept)
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

    def _lines(self, turns: Sequence[Turn], changed: Collection[int]) -> list[bytes]:
        # What did not change is copied as it stands: a newer version may have written more.
        old = self._session.lines() if self._begun and not self._stale_turns else None
        if old is None or len(old) < len(turns):
            return [_line(turn) for turn in turns]
        return [_line(turn) if i in changed else old[i] for i, turn in enumerate(turns)]

    def _rewrite(self, lines: Sequence[bytes], header: Mapping[str, Any]) -> None:
        self._session.rewrite(header, lines)
        self._begun = True
        self._stale_header = self._stale_turns = False

    def _kept(self, turn: _T, number: int) -> tuple[_T, list[Stored]]:
        files: list[Stored] = []
        if not has_data(turn):
            return turn, files
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


def has_data(turn: Turn) -> bool:
    """Whether there are bytes in it, here or kept elsewhere."""
    if isinstance(turn, UserTurn):
        return any(not isinstance(part, str) for part in turn.content)
    return isinstance(turn, AssistantTurn) and turn.audio is not None


def with_data(turn: _T, change: Callable[[Data, str], Data]) -> _T:
    """The turn with each of its bytes changed for something else, as when they are put elsewhere.

    Args:
        turn: The turn.
        change: Given what is there and a file suffix that fits, such as `"wav"`.
    """
    if isinstance(turn, AssistantTurn):
        audio = turn.audio
        if audio is None or audio.data is None:
            return turn
        data = change(audio.data, audio.format or "bin")
        return attrs.evolve(turn, audio=attrs.evolve(audio, data=data))
    if isinstance(turn, UserTurn) and has_data(turn):
        return attrs.evolve(turn, content=tuple(_changed(part, change) for part in turn.content))
    return turn


def _changed(part: Part, change: Callable[[Data, str], Data]) -> Part:
    match part:
        case AudioInput():
            return attrs.evolve(part, data=change(part.data, part.format or "bin"))
        case ImageInput() if not isinstance(part.data, str):
            suffix = (part.media_type or "image/bin").partition("/")[2]
            return attrs.evolve(part, data=change(part.data, suffix))
        case FileInput() if part.data is not None:
            ending = (part.filename or "").rpartition(".")[2].lower()
            suffix = ending if ending.isascii() and ending.isalnum() and len(ending) < 9 else "bin"
            return attrs.evolve(part, data=change(part.data, suffix))
    return part


def _line(turn: Turn) -> bytes:
    return orjson.dumps(entry_from_turn(turn))


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
