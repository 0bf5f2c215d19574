"""Copying a session from one store into another: every byte of its turns, and of their sound."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from typing import Literal

from conversation._locking import Polling
from conversation._values.data import Data, Kind, Stored
from conversation._values.media import kept_data, with_data
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_entry
from conversation.errors import SessionExists, not_found
from conversation.stores import News, State, StoredSession
from conversation.stores._sweeping import read_turns

log = logging.getLogger("conversation")

_TOGETHER = 16
"""Number of turns whose sound is read at once."""


def copy_session(
    source: StoredSession, target: StoredSession, *, timeout: float = 60.0
) -> Literal["copied", "continued", "mended", "equal"]:
    """Make the target what the source is; the source stays.

    A target that has the beginning of the source's turns is continued. One that has all of them
    gets the source's labels and the sound that it lacks, or is left alone.

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
    there = target.read()
    if there is not None and _is_equal(source, state, target, there):
        return "equal"  # without locking it
    with _held(target, timeout) as news:
        if news.state is not None:
            there = news.state
        elif there is not None:
            there = State(there.header, [*there.entries, *news.added])
        length = len(state.entries)
        done = 0 if there is None else _beginning(there, state, target)
        lines, mended = {}, 0
        for position, line, kept in _kept(source, state, target, done):
            if position >= done:
                lines[position] = line
            else:
                mended += kept
        if there is None or lines or mended or there.header != state.header:
            target.rewrite(state.header, lines, length)
        elif there is not None:
            return "equal"
    if there is None:
        return "copied"
    return "continued" if lines else "mended"


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
    if not is_same or there.entries != state.entries[:count]:
        msg = (
            f"there is another session {target.id!r} at {target.place} already; it was not "
            "changed: delete it, or leave this one out"
        )
        raise SessionExists(msg, path=target.file)
    return count


def _is_equal(source: StoredSession, state: State, target: StoredSession, there: State) -> bool:
    is_same = (there.header, there.entries) == (state.header, state.entries)
    turns = read_turns(state.entries, source.fetch, source.place)
    return is_same and not there.recovered and not any(_lacking(turn, target) for turn in turns)


def _lacking(turn: Turn, target: StoredSession) -> list[str]:
    """Return the names of a turn's bytes that the target has not, or not whole."""
    kept = [data for data in kept_data(turn) if data.name]
    return [data.name for data in kept if target.fetch(data.name).size() != data.size()]


def _kept(
    source: StoredSession, state: State, target: StoredSession, done: int
) -> Iterator[tuple[int, bytes, int]]:
    """Keep the bytes that turns name; of the first `done`, those that the target lacks.

    Yields:
        The position of each turn, its line, and the number of its pieces of bytes that were kept.
    """
    for first in range(0, len(state.entries), _TOGETHER):
        entries = state.entries[first : first + _TOGETHER]
        turns = [*read_turns(entries, source.fetch, source.place, first)]
        names: list[str] = []
        for position, turn in enumerate(turns, first):
            kept = [data.name for data in kept_data(turn) if data.name]
            names += kept if position >= done else _lacking(turn, target)
        fetched = source.fetch_all(names) if names else {}
        for position, (entry, turn) in enumerate(zip(entries, turns, strict=True), first):
            count = _keep(turn, fetched, target, position, is_new=position >= done)
            yield position, line_from_entry(entry, source.fetch), count


def _keep(
    turn: Turn,
    fetched: Mapping[str, bytes],
    target: StoredSession,
    position: int,
    *,
    is_new: bool,
) -> int:
    count = 0

    def keep(data: Data, suffix: str, kind: Kind) -> Data:
        nonlocal count
        name = "" if isinstance(data, bytes) else data.name
        if name in fetched:
            kept = target.keep(fetched[name], suffix, position=position, kind=kind, name=name)
            count += isinstance(kept, Stored)
        elif name and is_new:
            log.warning("session %r: %s is gone; only its turn is copied", target.id, name)
        return data

    with_data(turn, keep)
    return count
