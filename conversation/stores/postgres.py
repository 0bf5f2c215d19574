"""`PostgresStore`: sessions in a PostgreSQL database, for programs on many machines."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, NamedTuple

import orjson

from conversation._locking import Polling, check_timeout
from conversation._values.sound import FORMATS
from conversation.errors import InvalidSetting, SaveFailed, SessionUnavailable, not_found
from conversation.stores import SessionInfo
from conversation.stores._arguments import check_keep_sound, check_list
from conversation.stores._postgres_answers import Failed, Row
from conversation.stores._postgres_blobs import Cache
from conversation.stores._postgres_database import Database
from conversation.stores._postgres_leases import Leases
from conversation.stores._postgres_session import PostgresSession
from conversation.stores._postgres_sql import TEXT, array, number, time_of
from conversation.stores._sweeping import sweep
from conversation.stores.files import file_name

_PAGE = 1000


class _Summary(NamedTuple):
    """Facts about a session that the server finds without reading it.

    Attributes:
        length: The number of turns that it should have.
        found: The number of turns that it has.
        header: Its header.
        last: The last entry that is no system turn; None if there is none.
        sound: Bytes of its sound.
    """

    length: int
    found: int
    header: bytes
    last: bytes | None
    sound: int


class PostgresStore:
    """Sessions in a PostgreSQL database. Any number of processes and machines may share them.

    Needs the extra `postgres` (psycopg 3, under the LGPL). Make one store in a process, and use it
    for all sessions: it has the connections, none of which is in use while a model answers.

    Promises, tested on PostgreSQL 18 with kills, cut connections, crashes and failovers:

    - An acknowledged turn is committed with its sound, as durably as the server's
      `synchronous_commit` says. A connection that breaks around a commit loses no turn and doubles
      none. If the server stays away, `SaveFailed.in_doubt` says that nobody can know; repeating the
      change (`undo`, `fork`, `delete`; a turn by `chat.add(error.turn)`) makes it once.
    - A lost race is a conflict, never a loss: whoever was paused for so long that another one took
      over gets `SessionChanged`, with the paid answer in `error.turn`.
    - One exchange at a time in each session, among all machines, while leases hold. A session whose
      process died is free after `lease` seconds.

    Not promised: turns acknowledged before a failover to an *asynchronous* standby (their loss is
    noticed: `SessionChanged`); the order in which machines get their turns; servers that only speak
    PostgreSQL's protocol.

    To deploy it:

    - Tables: the first write creates them. With a role that may not, `conversation sql | psql
      talks` does (`--schema` for another schema), and `create=False` only uses them. Later versions
      only add columns.
    - Rights: `GRANT SELECT, INSERT, UPDATE, DELETE ON conversation_sessions, conversation_turns,
      conversation_blobs, conversation_format TO bot`. Without `DELETE`, only `undo` and its
      like, `delete` and `sweep` fail.
    - Connections: three in each process are enough for most, used for some milliseconds each.
    - pgbouncer works as it is, in transaction mode too, without `prepare=True`: no statement sets,
      listens or locks anything beyond its own transaction.
    - Failover: name all hosts, `postgresql://bot@one,two/talks?target_session_attrs=read-write`,
      and replicate synchronously if no turn may be lost. A dead server is noticed within 40 s.
    - Backups: `pg_dump`, or the server's own; sound is in `conversation_blobs`. A restore ends the
      objects that are open (`SessionChanged`).
    - Queries: `SELECT id, length, updated_at FROM conversation_sessions`; turns are JSON,
      `SELECT entry::jsonb->>'role' FROM conversation_turns`, with `WHERE pg_input_is_valid(entry,
      'jsonb')` if users send NUL characters, which jsonb refuses. Write to none of them.
    - Moving: `conversation copy --from FOLDER --to postgresql://…`, and back. Once more, it goes
      on, and mends titles, notes and missing sound.

    Args:
        conninfo_or_pool: `"postgresql://user:password@host/database"`, or libpq's key=value pairs;
            or a `psycopg_pool.ConnectionPool` with `kwargs={"autocommit": True, "client_encoding":
            "utf8"}`, which is never closed.
        schema: The schema of the tables; it must exist.
        create: Create the tables if they are missing, as `create()` does.
        lease: Seconds, by the server's clock, for which a session stays locked when its process is
            gone; renewed while an exchange takes longer.
        keep_sound: As in `FileStore`.
        cache_bytes: Bytes of sound and the like that are kept in memory.
        prepare: Prepare statements on the server; not for poolers in transaction mode.
        max_size: The largest number of connections in a process; not for a pool of the caller's.

    Raises:
        InvalidSetting: if a value cannot work.
        ImportError: if psycopg is not installed.
    """

    def __init__(
        self,
        conninfo_or_pool: Any,
        *,
        schema: str = "public",
        create: bool = True,
        lease: float = 20.0,
        keep_sound: str = "all",
        cache_bytes: int = 64_000_000,
        prepare: bool = False,
        max_size: int = 8,
    ) -> None:
        _check_names(conninfo_or_pool, schema)
        check_keep_sound(keep_sound)
        _check_numbers(lease, cache_bytes, max_size)
        self.keep_sound = keep_sound
        self._database = Database(
            conninfo_or_pool, schema=schema, create=create, prepare=prepare, size=max_size
        )
        self._leases = Leases(self._database, lease)
        self._cache = Cache(cache_bytes)
        # Sessions that a lost server may have deleted; whoever repeats it finds them deleted.
        self._doubtful: set[str] = set()

    def __repr__(self) -> str:
        return f"PostgresStore({self.place!r})"

    @property
    def place(self) -> str:
        """The database's URL, without a password."""
        return self._database.place

    def create(self) -> None:
        """Create the tables, where they are missing; idempotent, also by many at once.

        `conversation sql` prints the same statements for other tools.

        Raises:
            SaveFailed: if the server cannot be reached, or refuses.
        """
        try:
            self._database.create()
        except Failed as error:
            raise self._failed("the tables could not be created", error) from error

    def session(self, session_id: str) -> PostgresSession:
        """Return the session of this id, whether it exists or not. `Conversation.open` uses it.

        Raises:
            InvalidSetting: if the id is not text of 1 to 512 UTF-8 bytes without control
                characters.
        """
        file_name(session_id)  # ids are the same in all stores
        return PostgresSession(
            self._database, self._leases, self._cache, session_id, self.keep_sound
        )

    def list(
        self, *, limit: int | None = None, prefix: str = "", before: SessionInfo | None = None
    ) -> Sequence[SessionInfo]:
        """Return the sessions, last changed first.

        Args:
            limit: The largest number of sessions to return; None: all.
            prefix: The literal beginning of their ids.
            before: The last session of one list, for the next: those that were changed before it.

        Raises:
            InvalidSetting: if an argument cannot work, or there is no such schema.
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        check_list(limit, prefix, before)
        limit = sys.maxsize if limit is None else min(limit, sys.maxsize)
        return [*islice(self._listed(limit, prefix, before), limit)]

    def _listed(self, limit: int, prefix: str, before: SessionInfo | None) -> Iterator[SessionInfo]:
        size = min(_PAGE, limit)
        # No id begins with what PostgreSQL's text cannot hold.
        is_more = size > 0 and "\0" not in prefix and prefix == _utf8(prefix)
        while is_more:
            end = () if before is None else (before.updated_at.isoformat(), before.id)
            rows = self._read("list", prefix, *(end or (None, None)), size)
            for row in rows:
                before = _info(row)
                yield before
            is_more = len(rows) == size

    def _summaries(self, ids: Sequence[str]) -> dict[str, _Summary]:
        """Return facts about the sessions of these ids; those that are gone are left out.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        found, sound = {}, rf"\.({'|'.join(FORMATS)})$"
        for first in range(0, len(ids), _PAGE):
            names = array(TEXT, (each.encode() for each in ids[first : first + _PAGE]))
            rows = self._read("summaries", names, sound)
            for name, length, count, header, last, size in rows:
                counts = number(length), number(count)
                found[name.decode()] = _Summary(*counts, header, last, number(size))
        return found

    def exists(self, session_id: str) -> bool:
        """Return True if there is a session of this id.

        Raises:
            InvalidSetting: if it cannot be an id, as in `session`.
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        file_name(session_id)
        try:
            return bool(self._database.query("exists", session_id).rows)
        except Failed as error:
            msg = f"session {session_id!r} at {self.place} could not be looked up ({error})"
            raise SessionUnavailable(msg) from error

    def delete(self, session_id: str, *, timeout: float = 60.0) -> None:
        """Delete a session with its sound.

        Raises:
            SessionNotFound: if there is no such session.
            SessionLocked: if it is in use for longer than `timeout` seconds.
            SaveFailed: if the server cannot be reached, or refuses. If it is in doubt, repeat it.
        """
        check_timeout(timeout)
        session = self.session(session_id)
        polling = Polling(timeout, session.pauses, session.place)
        was_tried = session_id in self._doubtful
        while True:
            try:
                result = self._database.query("delete", session_id)
            except Failed as error:
                if error.may_be_done:
                    self._doubtful.add(session_id)
                raise self._failed(f"session {session_id!r} could not be deleted", error) from error
            counts = result.rows[0] if result.rows else (b"", b"", None)
            deleted, found = map(number, counts[:2])
            was_tried = was_tried or result.was_repeated
            if deleted or not found:
                self._doubtful.discard(session_id)
            if deleted or (was_tried and not found):
                if counts[2] is None:  # it was deleted before the answer was lost
                    self._cache.clear()
                else:
                    self._cache.forget(number(counts[2]))
                return
            if not found:
                raise not_found(session_id, self.place, None)
            time.sleep(polling.pause())

    def sweep(
        self, *, older_than: timedelta, sound_only: bool = False, dry_run: bool = False
    ) -> tuple[SessionInfo, ...]:
        """Same as `FileStore.sweep`, by the server's clock.

        Raises:
            InvalidSetting: if `older_than` is no `timedelta` >= 0.
            SessionUnavailable, SaveFailed: if the server cannot be reached, or refuses.
        """

        def one(info: SessionInfo) -> bool:
            session = self.session(info.id)
            return session.sweep(info.updated_at, sound_only=sound_only, dry_run=dry_run)

        return sweep(self, one, self._now, older_than)

    def _now(self) -> datetime:
        rows = self._read("now")
        return time_of(rows[0][0]) if rows else datetime.now(UTC)  # nothing is there

    def _read(self, name: str, *parameters: Any) -> Sequence[Row]:
        try:
            return self._database.query(name, *parameters).rows
        except Failed as error:
            msg = f"the sessions at {self.place} could not be listed ({error})"
            raise SessionUnavailable(msg) from error

    def _failed(self, what: str, error: Failed) -> SaveFailed:
        rest = "nothing was changed"
        if error.may_be_done:
            rest = "it may have been done all the same: repeat it, which is harmless"
        msg = f"{what} at {self.place} ({error}); {rest}"
        return SaveFailed(msg, in_doubt=error.may_be_done)

    def _identity(self) -> tuple[Any, bool]:
        """Return what only stores of the same tables have in common, and True if they exist.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        try:
            return self._database.identity()
        except Failed as error:
            raise SessionUnavailable(f"{self.place} could not be read ({error})") from error


def _utf8(text: str) -> str:
    return text.encode(errors="ignore").decode()


def _info(row: Sequence[Any]) -> SessionInfo:
    session_id, header, created_at, updated_at, size = row
    labels, begun = {}, None
    with contextlib.suppress(orjson.JSONDecodeError):  # one damaged session hides no other
        labels = orjson.loads(header)
    labels = labels if isinstance(labels, dict) else {}
    title, metadata = labels.get("title"), labels.get("metadata")
    with contextlib.suppress(OverflowError):
        begun = None if created_at is None else time_of(created_at)
    return SessionInfo(
        id=session_id.decode(),
        title=title if isinstance(title, str) else None,
        created_at=begun,
        updated_at=time_of(updated_at),
        size=number(size),
        metadata=metadata if isinstance(metadata, dict) else {},
    )


def _check_names(conninfo_or_pool: Any, schema: object) -> None:
    getconn = getattr(conninfo_or_pool, "getconn", None)
    is_pool = callable(getconn) and not inspect.iscoroutinefunction(getconn)
    if not isinstance(conninfo_or_pool, str) and not is_pool:
        msg = (
            "a PostgresStore needs a URL or a psycopg_pool.ConnectionPool, got "
            f"{type(conninfo_or_pool).__name__}"
        )
        raise InvalidSetting(msg)
    if not isinstance(schema, str) or not schema or "\0" in schema:
        raise InvalidSetting(f"schema must be the name of a schema, got {schema!r}")


def _check_numbers(lease: object, cache_bytes: object, max_size: object) -> None:
    if isinstance(lease, bool) or not isinstance(lease, int | float) or not 1 <= lease < 1e6:
        raise InvalidSetting(f"lease must be a number of seconds >= 1, got {lease!r}")
    for name, value, least in (("cache_bytes", cache_bytes, 0), ("max_size", max_size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidSetting(f"{name} must be a whole number >= {least}, got {value!r}")
