"""Retention: deleting sessions that nobody has touched for long, or only their sound."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from conversation._values.data import Data, Kind, NotKept, Stored
from conversation._values.media import kept_data, with_data
from conversation._values.turns import Turn
from conversation._wire.reading import turn_from_entry
from conversation._wire.writing import line_from_turn
from conversation.errors import (
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionError,
    SessionLocked,
    SessionNotFound,
    SessionTooNew,
    corrupt,
)
from conversation.stores import SessionInfo, Store

log = logging.getLogger("conversation")


def silenced(
    entries: Sequence[Any], fetch: Callable[[str], Stored], place: str
) -> tuple[dict[int, bytes], set[str]]:
    """Return what becomes of the entries of a session without their sound; words stay.

    Returns:
        New lines by position, and the names of the bytes that stay: pictures and files.

    Raises:
        SessionCorrupt: if one of them is no turn.
    """
    lines, names = dict[int, bytes](), set[str]()
    for position, turn in enumerate(read_turns(entries, fetch, place)):
        silent = with_data(turn, _without_sound)
        if silent != turn:
            lines[position] = line_from_turn(silent)
        names.update(data.name for data in kept_data(silent))
    return lines, names


def read_turns(
    entries: Sequence[Any], fetch: Callable[[str], Stored], place: str, first: int = 0
) -> Iterator[Turn]:
    """Yield the turns in entries of a session, from a position on.

    Raises:
        SessionCorrupt: if one is none.
    """
    for position, entry in enumerate(entries, first):
        try:
            yield turn_from_entry(entry, fetch=fetch)
        except InvalidTurn as error:
            raise corrupt(place, f"turn {position + 1}: {error}", position + 2) from error


def _without_sound(data: Data, _: str, kind: Kind) -> Data:
    return NotKept() if kind in ("answer", "speech") else data


def sweep(
    store: Store,
    one: Callable[[SessionInfo], bool],
    now: Callable[[], datetime],
    older_than: timedelta,
) -> tuple[SessionInfo, ...]:
    """Sweep a store, as `FileStore.sweep` describes.

    Args:
        store: The store.
        one: Sweeps a session as it was listed; False if there was nothing to do.
        now: Returns the time by the clock that `SessionInfo.updated_at` comes from.
        older_than: Time since the last change.
    """
    if not isinstance(older_than, timedelta) or older_than < timedelta(0):
        msg = f"older_than must be a timedelta >= 0, such as timedelta(days=90), got {older_than!r}"
        raise InvalidSetting(msg)
    try:
        limit = now() - older_than
    except OverflowError:  # longer ago than any time
        return ()
    before = SessionInfo(id="", title=None, created_at=None, updated_at=limit, size=0)
    swept: list[SessionInfo] = []
    failures: list[SaveFailed] = []
    try:
        for info in store.list(before=before):
            try:
                if one(info):
                    swept.append(info)
            except (SessionLocked, SessionChanged, SessionNotFound):
                log.info("session %r is in use, and was not swept", info.id)
            except (SessionCorrupt, SessionTooNew) as error:
                log.warning("session %r was not swept: %s", info.id, error)
            except SaveFailed as error:
                log.warning("%s", error)
                failures.append(error)
        if failures:
            raise failures[0]
    except SessionError as error:
        error.add_note(f"{len(swept)} sessions were swept, {len(failures)} could not be")
        raise
    return tuple(swept)
