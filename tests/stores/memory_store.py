"""A store in memory: the smallest implementation of the store protocol."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import attrs
import orjson

from conversation import SessionInfo
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    InvalidTurn,
    SessionChanged,
    SessionLocked,
    SessionNotFound,
)
from conversation.stores import Data, Kind, News, State, Stored

_numbers = itertools.count(1)


@attrs.define
class Row:
    """The content of one session.

    Attributes:
        key: A number of its own: a session that is begun anew has another one.
        revision: Number of rewrites.
    """

    key: int = attrs.field(factory=lambda: next(_numbers))
    header: bytes = b"{}"
    entries: list[bytes] = attrs.field(factory=list)
    revision: int = 0
    changed_at: int = 0
    created_at: datetime = attrs.field(factory=lambda: datetime.now(UTC))


class MemoryStore:
    """Sessions in a dict."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.blobs: dict[str, dict[str, bytes]] = {}
        self.holders: dict[str, object] = {}
        self.mutex = threading.Lock()

    def session(self, session_id: str) -> MemorySession:
        """Return the session of this id."""
        if not isinstance(session_id, str) or not session_id or not session_id.isprintable():
            msg = f"a session id must be printable text, got {session_id!r}"
            raise InvalidSetting(msg)
        return MemorySession(self, session_id)

    def list(
        self, *, limit: int | None = None, prefix: str = "", before: SessionInfo | None = None
    ) -> Sequence[SessionInfo]:
        """Return the sessions whose ids begin with `prefix`, last changed first."""
        rows = [(i, row) for i, row in self.rows.items() if i.startswith(prefix)]
        rows.sort(key=lambda pair: pair[1].changed_at, reverse=True)
        infos = [
            SessionInfo(
                id=session_id,
                title=orjson.loads(row.header).get("title"),
                created_at=row.created_at,
                updated_at=datetime.fromtimestamp(row.changed_at, UTC),
                size=len(row.header) + sum(map(len, row.entries)),
                metadata=orjson.loads(row.header).get("metadata") or {},
            )
            for session_id, row in rows
        ]
        return [info for info in infos if before is None or info.updated_at < before.updated_at][
            :limit
        ]

    def delete(self, session_id: str) -> None:
        """Delete a session and its bytes."""
        with self.mutex:
            if session_id not in self.rows:
                raise SessionNotFound(f"there is no session {session_id!r}")
            if session_id in self.holders:
                raise SessionLocked(f"session {session_id!r} is in use")
            del self.rows[session_id]
            self.blobs.pop(session_id, None)


@attrs.frozen
class Blob(Stored):
    """Bytes of a session, by name."""

    store: MemoryStore = attrs.field(repr=False)
    session_id: str
    name: str

    def read(self) -> bytes:
        """Return the bytes."""
        try:
            return self.store.blobs[self.session_id][self.name]
        except KeyError:
            raise AudioFileMissing(f"{self.name} is gone") from None


class MemorySession:
    """One session, as one object sees it."""

    pauses = (0.0005, 0.01)
    file: Path | None = None

    def __init__(self, store: MemoryStore, session_id: str) -> None:
        self.id = session_id
        self.place = f"memory:{session_id}"
        self._store = store
        # Key, revision and length, as last seen; None: never written.
        self._seen: tuple[int, int, int] | None = None
        self._was_read = False

    def acquire(self) -> News | None:
        """Lock the session, and return what others changed."""
        with self._store.mutex:
            if self._store.holders.setdefault(self.id, self) is not self:
                return None
        try:
            return self._news()
        except BaseException:
            self.release()
            raise

    def _news(self) -> News:
        row, seen = self._store.rows.get(self.id), self._seen
        if row is None:
            if seen is not None:
                raise self._changed("deleted")
            self._was_read = True
            return News()
        if seen is None or not self._was_read or (row.key, row.revision) != seen[:2]:
            return News(state=self.read())
        added = row.entries[seen[2] :]
        self._note(row)
        return News(tuple(map(orjson.loads, added)))

    def release(self) -> None:
        """Unlock the session."""
        with self._store.mutex:
            if self._store.holders.get(self.id) is self:
                del self._store.holders[self.id]

    def read(self) -> State | None:
        """Return the content of the session."""
        row = self._store.rows.get(self.id)
        self._was_read = True
        if row is None:
            return None
        self._note(row)
        return State(orjson.loads(row.header), [orjson.loads(entry) for entry in row.entries])

    def append(self, entries: Sequence[bytes]) -> None:
        """Add turns at the end."""
        row = self._checked()
        assert row is not None
        row.entries += entries
        self._note(row, changes=True)

    def rewrite(self, header: Mapping[str, Any], changed: Mapping[int, bytes], length: int) -> None:
        """Replace the content."""
        row = self._checked() or Row()
        entries = [changed.get(i) or row.entries[i] for i in range(length)]
        row.header, row.entries = orjson.dumps(dict(header)), entries
        row.revision += 1
        self._store.rows[self.id] = row
        self._note(row, changes=True)

    def keep(
        self, data: Data, suffix: str, *, position: int, kind: Kind, name: str | None = None
    ) -> Data:
        """Store bytes for a turn."""
        if isinstance(data, Blob) and (data.store, data.session_id) == (self._store, self.id):
            return data
        name = name or f"{position}-{next(_numbers)}-{kind}.{suffix}"
        whole = data if isinstance(data, bytes) else data.read()
        self._store.blobs.setdefault(self.id, {})[name] = whole
        return Blob(self._store, self.id, name)

    def fetch(self, name: str) -> Blob:
        """Return the stored bytes of this name, without reading them."""
        if "/" in name or name.startswith("."):
            raise InvalidTurn(f"{name!r} is no name")
        return Blob(self._store, self.id, name)

    def fetch_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of these names."""
        blobs = self._store.blobs.get(self.id, {})
        return {name: blobs[name] for name in names if name in blobs}

    def discard(self, names: Iterable[str]) -> None:
        """Remove bytes that no turn names any more."""
        row = self._store.rows.get(self.id)
        for name in names:
            if row is None or not any(name.encode() in entry for entry in row.entries):
                self._store.blobs.get(self.id, {}).pop(name, None)

    def _checked(self) -> Row | None:
        row = self._store.rows.get(self.id)
        now = None if row is None else (row.key, row.revision, len(row.entries))
        if now != self._seen:
            raise self._changed("changed")
        return row

    def _note(self, row: Row, *, changes: bool = False) -> None:
        self._seen = (row.key, row.revision, len(row.entries))
        if changes:
            row.changed_at = next(_numbers)

    def _changed(self, what: str) -> SessionChanged:
        return SessionChanged(f"{self.place} was {what}; nothing was written")
