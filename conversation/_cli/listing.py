"""`conversation list`: all sessions with their turns, their sound and their state."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import attrs
import orjson

from conversation._cli.places import AnyStore
from conversation._cli.terminal import (
    one_line,
    plain,
    plain_line,
    report,
    table,
    write_json,
    write_line,
)
from conversation._values.sound import FORMATS
from conversation._values.text import counted
from conversation._values.turns import AssistantTurn
from conversation._wire.reading import role_of, turn_from_entry
from conversation.errors import (
    InvalidTurn,
    SessionCorrupt,
    SessionError,
    SessionUnavailable,
)
from conversation.stores import SessionInfo
from conversation.stores.files import FileStore, age, info_of, is_file_of, touched

if TYPE_CHECKING:
    from conversation.stores.postgres import PostgresStore


@attrs.frozen
class _Listed:
    """A session as `list` shows it.

    Attributes:
        info: What its header says.
        state: `answered`, `unanswered` (a question or calls stand last), `interrupted` (a part of
            an answer stands last) or `damaged`.
        turns: Number of turns; None if they cannot be read.
        sound: Bytes of its sound.
    """

    info: SessionInfo
    state: str
    turns: int | None
    sound: int


def list_sessions(options: argparse.Namespace, store: AnyStore) -> int:
    """Print the sessions; the exit status is 1 if one is damaged, or if files were skipped."""
    if isinstance(store, FileStore):
        sessions, status = _in_files(store, options.limit)
    else:
        sessions, status = _in_tables(store, options.limit), 0
    if any(each.state == "damaged" for each in sessions):
        status = 1
    if options.json:
        keys = ("id", "title", "created_at", "updated_at", "size", "metadata")
        write_json(
            [
                {key: getattr(each.info, key) for key in keys}
                | {"turns": each.turns, "sound": each.sound, "state": each.state}
                for each in sessions
            ]
        )
        return status
    if not sessions and not status:
        report(f"no sessions in {store.place}; `conversation chat` starts one")
    rows = [
        (
            plain(each.info.id),
            f"{each.info.updated_at.astimezone():%Y-%m-%d %H:%M}",
            "? turns" if each.turns is None else counted(each.turns, "turn"),
            f"{size_in(each.sound)} of sound" if each.sound else "no sound",
            each.state,
            plain_line(each.info.title or ""),
        )
        for each in sessions
    ]
    for line in table(rows):
        write_line(line)
    return status


def size_in(size: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{-(-size // 1000):,} KB" if size < 1_000_000 else f"{size / 1e6:,.1f} MB"


def sound_of(store: AnyStore, session_id: str) -> list[int]:
    """Return the sizes in bytes of all sound that is saved for a session."""
    sizes = store.session(session_id).sizes()
    return [size for name, size in sizes.items() if name.rpartition(".")[2] in FORMATS]


def _in_files(store: FileStore, limit: int | None) -> tuple[list[_Listed], int]:
    found: list[tuple[SessionInfo, bool]] = []
    status = 0
    for path in store._documents():
        info, is_damaged = None, False
        try:
            info = info_of(path)
        except SessionCorrupt as error:
            info, is_damaged = _damaged(store, path), True
            if info is None:
                status = 1
                report(f"skipping {path.name}: {one_line(error)}")
            else:
                report(one_line(store.session(info.id)._with_remedy(error)))
        except (SessionError, OSError) as error:
            status = 1
            report(f"skipping {path.name}: {one_line(error)}")
        if info is not None:
            found.append((info, is_damaged))
    found.sort(key=lambda each: age(each[0]), reverse=True)
    return [_read(store, *each) for each in found[:limit]], status


def _damaged(store: FileStore, path: Path) -> SessionInfo | None:
    """Return what is known of a document whose header cannot be read; None if it is no session."""
    session_id = unquote(path.stem)
    if not is_file_of(path, session_id):
        return None
    try:
        store.session(session_id)._refuse_another()
        status = path.lstat()
    except (SessionError, OSError):
        return None
    return SessionInfo(session_id, None, None, touched(status), status.st_size)


def _read(store: AnyStore, info: SessionInfo, is_damaged: bool) -> _Listed:
    """Return a session with what only its turns tell."""
    sound = sum(sound_of(store, info.id))
    if is_damaged:
        return _Listed(info, "damaged", None, sound)
    try:
        state = store.session(info.id).read()
        entries: Sequence[Any] = state.entries if state else ()
        for entry in entries:
            role_of(entry)
        is_whole = state is None or state.recovered is None
        word = _state(reversed(entries)) if is_whole else "damaged"
    except SessionUnavailable:
        raise
    except (InvalidTurn, SessionError, OSError) as error:
        report(f"{info.id}: {one_line(error)}")
        return _Listed(info, "damaged", None, sound)
    return _Listed(info, word, len(entries), sound)


def _state(entries: Iterator[Any]) -> str:
    """Return the state that the entries tell, latest first."""
    last = next((each for each in entries if role_of(each) not in ("system", "developer")), None)
    if last is None:
        return "answered"
    turn = turn_from_entry(last)
    if not isinstance(turn, AssistantTurn) or turn.tool_calls:
        return "unanswered"
    return "interrupted" if turn.interrupted else "answered"


def _in_tables(store: PostgresStore, limit: int | None) -> list[_Listed]:
    infos, found = store.list(limit=limit), []
    summaries = store._summaries([info.id for info in infos])
    for info in infos:
        if (summary := summaries.get(info.id)) is None:
            continue  # it was deleted meanwhile
        word = "damaged"
        with contextlib.suppress(orjson.JSONDecodeError, InvalidTurn):
            last = [] if summary.last is None else [orjson.loads(summary.last)]
            is_whole = isinstance(orjson.loads(summary.header), dict)
            if is_whole and summary.length == summary.found:
                word = _state(iter(last))
        found.append(_Listed(info, word, summary.found, summary.sound))
    return found
