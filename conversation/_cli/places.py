"""Stores by their places, and sessions that are looked for in them."""

from __future__ import annotations

import contextlib
import difflib
import logging
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, Union
from urllib.parse import unquote

from conversation.errors import InvalidSetting, SessionError, SessionNotFound
from conversation.stores import SessionInfo
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
    if found := re.search(r"(\?.*?&|\?)schema=([^&]*)&?", place):  # libpq does not know it
        place = (place[: found.end(1)] + place[found.end() :]).rstrip("?&")
        schema = unquote(found[2])
    try:
        return PostgresStore(place, schema=schema)
    except ImportError as error:
        raise InvalidSetting(str(error)) from error


def listed(store: AnyStore) -> tuple[Sequence[SessionInfo], int]:
    """Return all sessions, and the exit status: 1 if files were skipped."""
    sessions = store.list()
    is_skipped = isinstance(store, FileStore) and len(sessions) < len(store._documents())
    return sessions, int(is_skipped)


def not_there(store: AnyStore, error: SessionNotFound) -> str:
    """Return the error in one line, with the session that may have been meant."""
    missing = error.session_id
    known: dict[str, str] = {}
    with contextlib.suppress(SessionError, OSError):
        known = {info.id.casefold(): info.id for info in store.list(limit=_MOST_LOOKED_AT)}
    hint = "`conversation list` shows all sessions"
    if near := difflib.get_close_matches(missing.casefold(), known, 1):
        hint = f"did you mean {known[near[0]]!r}?"
    elif not known:
        hint = f"there are none in {store.place}"
    return f"there is no session {missing!r}; {hint}"
