"""`conversation copy` and `sql`: sessions in another store, and the tables of a database."""

from __future__ import annotations

import argparse
from collections import Counter

from conversation._cli.places import AnyStore, listed, not_there, store_at
from conversation._cli.terminal import one_line, progress, report, show_progress, write_line
from conversation._values.text import counted
from conversation.errors import InvalidSetting, SessionError, SessionNotFound
from conversation.stores._postgres_sql import ddl
from conversation.stores.copying import copy_session
from conversation.stores.files import FileStore


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
            result = copy_session(source.session(session_id), target.session(session_id))
            results["there already" if result == "equal" else result] += 1
        except (SessionError, OSError) as error:
            show_progress("")
            unknown = error if isinstance(error, SessionNotFound) else None
            why = not_there(source, unknown) if unknown else one_line(error)
            report(f"{session_id}: {why}")
            results["failed"] += 1  # and goes on with the others
    names = ("copied", "continued", "mended", "there already", "failed")
    counts = [f"{results[name]} {name}" for name in names if results[name]]
    write_line(f"{counted(len(ids), 'session')}: {', '.join(counts) or 'nothing to copy'}")
    return 1 if results["failed"] else status


def _check_places(source: AnyStore, target: AnyStore) -> None:
    """Refuse a source that is not there, and a target that is the same, however it is spelled."""
    if isinstance(source, FileStore):
        is_there, found = source.root.is_dir(), source.root.resolve()
        is_same = isinstance(target, FileStore) and target.root.resolve() == found
    else:
        where, is_there = source._identity()
        is_same = not isinstance(target, FileStore) and target._identity()[0] == where
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
