"""`conversation list`: all sessions with their turns, their sound and their state."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator, Mapping, Sequence
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
from conversation._values.turns import AssistantTurn, Turn
from conversation._wire.reading import names_in, role_of, turn_from_entry
from conversation.errors import InvalidTurn, SessionCorrupt, SessionError
from conversation.stores import SessionInfo, State
from conversation.stores.files import FileStore, info_of, is_file_of, touched

if TYPE_CHECKING:
    from conversation.stores.postgres import PostgresStore


@attrs.frozen
class _Listed:
    """A session as `list` shows it.

    Attributes:
        info: What its header says.
        state: `answered`, `unanswered` (a question or calls stand last), `interrupted` (a part of
            an answer stands last), `empty` (nothing was said) or `damaged`.
        turns: Number of turns; None if they cannot be read.
        sound: Bytes of its sound.
        missing: Number of files that its turns name, and that are not there.
    """

    info: SessionInfo
    state: str
    turns: int | None
    sound: int
    missing: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` shows it; `show` has the same keys."""
        keys = ("id", "title", "created_at", "updated_at", "size", "metadata")
        facts = {key: getattr(self.info, key) for key in keys}
        own = {key: getattr(self, key) for key in ("turns", "sound", "state", "missing")}
        return facts | own


def list_sessions(options: argparse.Namespace, store: AnyStore) -> int:
    """Print the sessions; the exit status is 1 if one is damaged, or if files were skipped."""
    if isinstance(store, FileStore):
        sessions, status = _in_files(store, options.limit)
    else:
        sessions, status = _summarized(store, store.list(limit=options.limit)), 0
    if any(each.state == "damaged" for each in sessions):
        status = 1
    if options.json:
        write_json([each.as_json() for each in sessions])
        return status
    if not sessions and not status:
        report(f"no sessions in {store.place}; `conversation chat` starts one")
    rows = [
        (
            plain(each.info.id),
            f"{each.info.updated_at.astimezone():%Y-%m-%d %H:%M}",
            "? turns" if each.turns is None else counted(each.turns, "turn"),
            f"{size_in(each.sound)} of sound" if each.sound else "no sound",
            each.state + (f", {counted(each.missing, 'file')} missing" if each.missing else ""),
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
    return _sounds(store.session(session_id).sizes())


def _sounds(sizes: Mapping[str, int]) -> list[int]:
    return [size for name, size in sizes.items() if name.rpartition(".")[2] in FORMATS]


def listed(store: AnyStore, session_id: str) -> _Listed | None:
    """Return one session; None if it is gone, or damaged."""
    if isinstance(store, FileStore):
        return _looked_at(store, store.session(session_id).file)[0]
    infos = [info for info in store.list(prefix=session_id) if info.id == session_id]
    return next(iter(_summarized(store, infos)), None)


def _in_files(store: FileStore, limit: int | None) -> tuple[list[_Listed], int]:
    """Return the sessions that were changed last, and the exit status."""
    found: list[_Listed] = []
    status = 0
    for path in sorted(store._documents(), key=_changed, reverse=True):
        if len(found) == limit:
            break
        each, is_skipped = _looked_at(store, path)
        status |= is_skipped
        found += [each] if each else []
    return found, status


def _changed(path: Path) -> tuple[float, str]:
    """Return the order of documents in lists: by their last change."""
    with contextlib.suppress(OSError):
        return path.lstat().st_mtime, unquote(path.stem)
    return 0.0, ""


def _looked_at(store: FileStore, path: Path) -> tuple[_Listed | None, bool]:
    """Report damage; return the session, if it is one, and True if the file is skipped."""
    try:
        info = info_at(store, path)
    except (SessionError, OSError) as error:
        report(f"skipping {path.name}: {one_line(error)}")
        return None, True
    if info is None:
        return None, False  # it is gone
    try:
        state = store.session(info.id).read()
        return _read(store, info, state or State({}, [])), False
    except (InvalidTurn, SessionError, OSError) as error:
        report(f"{info.id}: {one_line(error)}")
    return _Listed(info, "damaged", None, sum(sound_of(store, info.id))), False


def info_at(store: FileStore, path: Path) -> SessionInfo | None:
    """Return what is known of the session in a document, whole or damaged; None if it is gone.

    Raises:
        SessionCorrupt, SessionTooNew: if it is no session, or another one than its name says.
        OSError: if it cannot be read.
    """
    try:
        return info_of(path)
    except SessionCorrupt:
        session_id = unquote(path.stem)
        if not is_file_of(path, session_id):
            raise
        with contextlib.suppress(SessionError, OSError):
            store.session(session_id)._refuse_another()
            status = path.lstat()
            return SessionInfo(session_id, None, None, touched(status), status.st_size)
        raise


def _read(store: FileStore, info: SessionInfo, state: State) -> _Listed:
    """Return a session with what only its turns tell."""
    for entry in state.entries:
        role_of(entry)
    word = _state(reversed(state.entries)) if state.recovered is None else "damaged"
    there = store.session(info.id).sizes()
    missing = sum(name not in there for entry in state.entries for name in names_in(entry))
    return _Listed(info, word, len(state.entries), sum(_sounds(there)), missing)


def _state(entries: Iterator[Any]) -> str:
    """Return the state that the entries tell, latest first."""
    last = next((each for each in entries if role_of(each) not in ("system", "developer")), None)
    return state_of(None if last is None else turn_from_entry(last))


def state_of(turn: Turn | None) -> str:
    """Return the state of a session by its last turn, system turns aside; None: there is none."""
    if turn is None:
        return "empty"
    if not isinstance(turn, AssistantTurn) or turn.tool_calls:
        return "unanswered"
    return "interrupted" if turn.interrupted else "answered"


def _summarized(store: PostgresStore, infos: Sequence[SessionInfo]) -> list[_Listed]:
    found = []
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
