"""Copying a session from one store into another: every byte of its turns, and of their sound."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import orjson

from conversation._locking import Polling
from conversation._values.data import Data, Kind
from conversation._values.media import kept_data, with_data
from conversation._values.turns import Turn
from conversation._wire.reading import turn_from_entry
from conversation._wire.writing import line_from_turn
from conversation.errors import InvalidTurn, SessionExists, corrupt, not_found
from conversation.stores import News, State, StoredSession

log = logging.getLogger("conversation")

_TOGETHER = 16
"""Number of turns whose sound is read at once."""


def copy_session(
    source: StoredSession, target: StoredSession, *, timeout: float = 60.0
) -> Literal["copied", "continued", "equal"]:
    """Make the target what the source is; the source stays.

    A target that has the beginning of the source's turns is continued, an equal one is left alone.

    Args:
        source: The session to read.
        target: The session to write, of the same id in another store.
        timeout: Seconds to wait for others who hold the target's lock.

    Raises:
        SessionNotFound: if there is no source.
        SessionExists: if there is another session at the target; it is not changed.
        SessionCorrupt: if the source is damaged.
        SessionLocked, SaveFailed, SessionUnavailable: as when a session is changed.
    """
    state = source.read()
    if state is None:
        raise not_found(source.id, source.place, source.file)
    with _held(target, timeout) as news:
        there = news.state
        if there is not None and (there.header, there.entries) == (state.header, state.entries):
            return "equal"
        done = 0 if there is None else _beginning(there, state, target)
        lines = dict(_kept(source, state, target, done))
        target.rewrite(state.header, lines, len(state.entries))
    return "continued" if done else "copied"


@contextlib.contextmanager
def _held(session: StoredSession, timeout: float) -> Iterator[News]:
    polling = Polling(timeout, session.pauses, session.place, session.file)
    try:
        while (news := session.acquire()) is None:
            time.sleep(polling.pause())
        yield news
    finally:
        session.release()


def _beginning(there: State, state: State, target: StoredSession) -> int:
    """Return the number of turns that are there already.

    Raises:
        SessionExists: if they are not the first ones of the source.
    """
    count = len(there.entries)
    begun = "created_at"
    is_same = there.header.get(begun) == state.header.get(begun)
    if not is_same or count >= len(state.entries) or there.entries != state.entries[:count]:
        msg = (
            f"there is another session {target.id!r} at {target.place} already; it was not "
            "changed: delete it, or leave this one out"
        )
        raise SessionExists(msg, path=target.file)
    return count


def _kept(
    source: StoredSession, state: State, target: StoredSession, start: int
) -> Iterator[tuple[int, bytes]]:
    """Keep the bytes that the turns from `start` on name, and yield their lines by position."""
    for first in range(start, len(state.entries), _TOGETHER):
        entries = state.entries[first : first + _TOGETHER]
        turns = [_turn(source, entry, first + i) for i, entry in enumerate(entries)]
        names = [data.name for turn in turns for data in kept_data(turn) if data.name]
        fetched = source.fetch_all(names) if names else {}
        for position, (entry, turn) in enumerate(zip(entries, turns, strict=True), first):
            _keep(turn, fetched, target, position)
            yield position, _line(entry, turn)


def _turn(source: StoredSession, entry: Any, position: int) -> Turn:
    try:
        return turn_from_entry(entry, fetch=source.fetch)
    except InvalidTurn as error:
        raise corrupt(source.place, f"turn {position + 1}: {error}", position + 2) from error


def _keep(turn: Turn, fetched: Mapping[str, bytes], target: StoredSession, position: int) -> None:
    def keep(data: Data, suffix: str, kind: Kind) -> Data:
        name = "" if isinstance(data, bytes) else data.name
        if name in fetched:
            target.keep(fetched[name], suffix, position=position, kind=kind, name=name)
        elif name:
            log.warning("session %r: %s is gone; only its turn is copied", target.id, name)
        return data

    with_data(turn, keep)


def _line(entry: Any, turn: Turn) -> bytes:
    try:
        return orjson.dumps(entry)
    except orjson.JSONEncodeError:  # nested too deep
        return line_from_turn(turn)
