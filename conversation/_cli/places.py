"""Stores by their places, and the commands that copy between them: `copy` and `sql`."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeAlias, Union
from urllib.parse import unquote

from conversation._cli.terminal import one_line, progress, report, show_progress, write_line
from conversation._export.outline import counted
from conversation.errors import InvalidSetting, SessionError, SessionNotFound
from conversation.stores import SessionInfo
from conversation.stores._postgres_sql import ddl
from conversation.stores.copying import copy_session
from conversation.stores.files import FileStore

if TYPE_CHECKING:
    from conversation.stores.postgres import PostgresStore

AnyStore: TypeAlias = Union[FileStore, "PostgresStore"]

_MOST_LOOKED_AT = 1000
"""Sessions among which one is looked for whose id was mistyped."""


def store_at(place: str | None) -> AnyStore:
    """Return the store in a folder or database; None: `$CONVERSATION_STORE`, or the default one.

    Raises:
        InvalidSetting: if it cannot be one, or its extra is not installed.
    """
    place = (place or os.environ.get("CONVERSATION_STORE") or "").strip()
    scheme, is_url, rest = place.partition("://")
    if not is_url or scheme.lower() not in ("postgres", "postgresql"):
        return FileStore(place or None)
    place = f"{scheme.lower()}://{rest}"
    from conversation.stores.postgres import PostgresStore

    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    schema = "public"
    if found := re.search(r"[?&]schema=([^&]*)", place):  # libpq does not know it
        place = place[: found.start()] + place[found.end() :].replace("&", found[0][0], 1)
        schema = unquote(found[1])
    try:
        return PostgresStore(place, schema=schema)
    except ImportError as error:
        raise InvalidSetting(str(error)) from error


def listed(store: AnyStore) -> tuple[Sequence[SessionInfo], int]:
    """Return all sessions, and the exit status: 1 if files were skipped."""
    sessions = store.list()
    is_skipped = isinstance(store, FileStore) and len(sessions) < len(store._documents())
    return sessions, int(is_skipped)


def not_there(store: AnyStore | None, ids: str | Iterable[str], error: Exception) -> str:
    """Return the error in one line, with the session that may have been meant by one of the ids."""
    given = [ids] if isinstance(ids, str) else ids
    missing = next((each for each in given if repr(each) in str(error)), None)
    if store is None or missing is None:
        return one_line(error)
    known: dict[str, str] = {}
    with contextlib.suppress(SessionError, OSError):
        known = {info.id.casefold(): info.id for info in store.list(limit=_MOST_LOOKED_AT)}
    hint = "`conversation list` shows all sessions"
    if near := difflib.get_close_matches(missing.casefold(), known, 1):
        hint = f"did you mean {known[near[0]]!r}?"
    elif not known:
        hint = f"there are none in {store.place}"
    return f"there is no session {missing!r}; {hint}"


def copy(options: argparse.Namespace, _: AnyStore) -> int:
    """Copy sessions from one store to another; exit status 1 if one could not be copied."""
    source, target = store_at(options.source), store_at(options.target)
    _check_places(source, target)
    ids, status = list(dict.fromkeys(options.id)), 0
    if not ids:
        sessions, status = listed(source)
        ids = [info.id for info in sessions]
    results: Counter[str] = Counter()
    for session_id in progress("copying", ids):
        try:
            results[copy_session(source.session(session_id), target.session(session_id))] += 1
        except (SessionError, OSError) as error:
            show_progress("")
            is_unknown = isinstance(error, SessionNotFound)
            told = not_there(source, session_id, error) if is_unknown else one_line(error)
            report(f"{session_id}: {told}")
            results["failed"] += 1  # and goes on with the others
    texts = {
        "copied": "copied",
        "continued": "continued",
        "mended": "mended",
        "equal": "there already",
        "failed": "failed",
    }
    counts = [f"{results[name]} {text}" for name, text in texts.items() if results[name]]
    write_line(f"{counted(len(ids), 'session')}: {', '.join(counts) or 'nothing to copy'}")
    return 1 if results["failed"] else status


def _check_places(source: AnyStore, target: AnyStore) -> None:
    """Refuse a source that is not there, and a target that is the same, however it is spelled."""
    if isinstance(source, FileStore):
        is_there, found = source.root.is_dir(), source.root.resolve()
        is_same = isinstance(target, FileStore) and target.root.resolve() == found
    else:
        where, is_there = source.identity()
        is_same = not isinstance(target, FileStore) and target.identity()[0] == where
    if is_same:
        raise InvalidSetting(f"--from and --to are the same store: {source.place}")
    if not is_there:
        raise FileNotFoundError(f"--from: there is no store at {source.place}")


def print_sql(options: argparse.Namespace, _: AnyStore) -> int:
    """Print the statements that create the tables of `PostgresStore`."""
    if not options.schema:
        raise InvalidSetting("--schema must be the name of a schema, and is empty")
    for line in ddl(options.schema).splitlines():
        write_line(line)
    return 0
