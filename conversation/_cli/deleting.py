"""`conversation delete` and `conversation sweep`: sessions deleted by name, or by their age."""

from __future__ import annotations

import argparse
import re
import sys
from datetime import timedelta
from functools import partial

from conversation._cli.listing import size_in, sound_of
from conversation._cli.places import AnyStore
from conversation._cli.terminal import ask, one_line, report, write_line
from conversation._values.text import counted
from conversation.errors import InvalidSetting, SessionError, SessionUnavailable, not_found
from conversation.stores._session import FileSession

_UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def delete(options: argparse.Namespace, store: AnyStore) -> int:
    """Delete sessions, after looking at all of them, and asking."""
    ids = list(dict.fromkeys(options.id))
    found = [_about(store, session_id) for session_id in ids]
    if not options.yes:
        if not sys.stdin.isatty():
            raise InvalidSetting("cannot ask for confirmation without a terminal; pass --yes")
        if not _is_confirmed("; ".join(found)):
            return 1
    for session_id in ids:
        store.delete(session_id)
        write_line(f"deleted {session_id}")
    return 0


def _is_confirmed(what: str) -> bool:
    """Ask whether to delete it; say that nothing was deleted if not."""
    try:
        answer = ask(f"permanently delete {what}? [y/N]")
    except KeyboardInterrupt:
        write_line("nothing was deleted")
        raise
    is_yes = answer.strip().lower() in ("y", "yes")
    if not is_yes:
        write_line("nothing was deleted")
    return is_yes


def _about(store: AnyStore, session_id: str) -> str:
    """Return what a session has to lose, read or damaged.

    Raises:
        SessionNotFound: if there is nothing to delete.
        SessionUnavailable: if the store cannot be reached.
    """
    session, sound = store.session(session_id), sound_of(store, session_id)
    try:
        state = session.read()
    except SessionUnavailable:
        raise
    except (SessionError, OSError) as error:
        report(one_line(error))
        turns = "damaged"
    else:
        if state is None and not (isinstance(session, FileSession) and session.exists()):
            raise not_found(session_id, store.place, session.file)
        turns = counted(len(state.entries), "turn") if state else "not a turn"
    if not sound:
        return f"{session_id!r} ({turns}, no sound)"
    files = f"{counted(len(sound), 'sound file')} of {size_in(sum(sound))}"
    return f"{session_id!r} ({turns}, {files})"


def sweep(options: argparse.Namespace, store: AnyStore) -> int:
    """Delete old sessions, or their sound, after asking in a terminal: timers have none."""
    run = partial(store.sweep, older_than=_age(options.older_than), sound_only=options.sound)
    what = "the sound of " if options.sound else ""
    looks = options.dry_run or (sys.stdin.isatty() and not options.yes)
    found = run(dry_run=looks)
    for info in found:
        write_line(f"{'would delete' if looks else 'deleted'} {what}{info.id}")
    if not found:
        write_line(f"nothing to delete is older than {options.older_than}")
    elif looks and not options.dry_run:
        if not _is_confirmed(f"{what}{counted(len(found), 'session')}"):
            return 1
        for info in run():
            write_line(f"deleted {what}{info.id}")
    return 0


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})\s*(min|h|d|w)", text.strip())
    if found is None:
        msg = f"--older-than must be a number with min, h, d or w, such as 90d, got {text!r}"
        raise InvalidSetting(msg)
    return int(found[1]) * _UNITS[found[2]]
