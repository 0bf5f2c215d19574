"""One session in PostgreSQL: its lease, its rows, and what became of a write without an answer."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import time
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn, Self
from urllib.parse import quote

import attrs
import orjson

from conversation._locking import ReadLock
from conversation._values.data import Data, Kind, Stored, Unsaved, read_data
from conversation.errors import (
    AudioFileMissing,
    SaveFailed,
    SessionChanged,
    SessionError,
    SessionUnavailable,
    corrupt,
)
from conversation.stores import News, State
from conversation.stores._postgres_database import PAUSES, Database, Failed, Lost
from conversation.stores._postgres_leases import Leases
from conversation.stores._postgres_sql import (
    BETWEEN,
    BYTEA,
    TEXT,
    UUID,
    array,
    integers,
    number,
    time_of,
)
from conversation.stores._session import NOT_KEPT, check_name
from conversation.stores._sweeping import silenced

_NONE = 2**31 - 1
"""A position behind all entries."""

_MOST_PENDING = 32_000_000
"""Bytes of sound that wait for the turn that names them; more are written before."""


class Cache:
    """Bytes of blobs, as far as they fit; the ones used last stay longest.

    Args:
        most: The largest number of bytes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._blobs: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._size = 0
        self._mutex = ReadLock()

    def get(self, session: int, name: str) -> bytes | None:
        """Return the bytes of this name in the session of this key."""
        with self._mutex:
            data = self._blobs.get((session, name))
            if data is not None:
                self._blobs.move_to_end((session, name))
            return data

    def put(self, session: int, name: str, data: bytes) -> None:
        """Keep the bytes, unless they are too many."""
        with self._mutex:
            self._size -= len(self._blobs.pop((session, name), b""))
            self._blobs[session, name] = data
            self._size += len(data)
            while self._size > self._most:
                self._size -= len(self._blobs.popitem(last=False)[1])


@attrs.frozen
class Blob(Stored):
    """Bytes of a turn in PostgreSQL.

    Attributes:
        place: The session that has them.
        name: Their name in it.
    """

    place: str
    name: str
    session: PostgresSession = attrs.field(eq=False, repr=False)

    def __deepcopy__(self, _: dict[int, Any]) -> Self:
        return self  # as immutable as what it names

    def __reduce__(self) -> NoReturn:
        msg = f"{self.name} of {self.place} cannot be pickled: keep its bytes, by read()"
        raise TypeError(msg)

    def read(self) -> bytes:
        """Return the bytes.

        Raises:
            AudioFileMissing: if they are gone.
            SessionUnavailable: if the server cannot be reached.
        """
        found = self.session.fetch_all([self.name])
        if self.name not in found:
            msg = f"{self.name} of {self.place} is gone; the turn's words are still there"
            raise AudioFileMissing(msg)
        return found[self.name]

    def size(self) -> int:
        """Return the number of bytes; 0 if they are gone."""
        return self.session.size_of(self.name)


@attrs.frozen
class _Seen:
    """The session, as this object knows it.

    Attributes:
        revision: Changed by each rewrite.
        length: Number of turns.
        last: The last entry; None if there is none.
    """

    revision: int
    length: int
    last: bytes | None


class PostgresSession:
    """One session of a `PostgresStore`; a `StoredSession`.

    Args:
        database: The server.
        leases: The leases of this process.
        cache: Bytes of all sessions.
        session_id: The id that it is opened by.
        keep_sound: As in `FileStore`.

    Attributes:
        token: The lease that this object holds; None if it holds none.
    """

    file: Path | None = None

    def __init__(
        self, database: Database, leases: Leases, cache: Cache, session_id: str, keep_sound: str
    ) -> None:
        self.id = session_id
        self.place = f"{database.place}#{quote(session_id)}"
        self.token: bytes | None = None
        self._database = database
        self._leases = leases
        self._cache = cache
        self._keep_sound = keep_sound
        self._key: int | None = None
        self._seen: _Seen | None = None  # None: everything is read anew
        self._is_begun = False
        # Tokens that the server may still know as the holder: of a lease, or of a lost statement.
        self._tokens: deque[bytes] = deque(maxlen=4)
        self._may_hold = False
        self._process = os.getpid()
        # A write may still be under way at the server.
        self._is_unsure = False
        # Bytes for the next write, or the session and name that the server copies them from.
        self._pending: dict[str, bytes | tuple[str, str]] = {}
        self._sizes: dict[str, int] = {}
        self._elsewhere: dict[str, dict[str, int]] = {}

    @property
    def pauses(self) -> tuple[float, float]:
        """First and longest pause between failed calls of `acquire`, with jitter."""
        jitter = random.uniform(0.7, 1.3)  # noqa: S311
        return 0.02 * jitter, 0.5 * jitter

    # --- the lease -----------------------------------------------------------------------------

    def acquire(self) -> News | None:
        """Lease the session and read what others changed; None if another one holds the lease.

        Raises:
            SessionChanged: if the session was deleted, or has lost turns that are known here.
            SessionCorrupt: if what was read is no session.
            SaveFailed: if the server cannot be reached, or refuses.
        """
        if self._process != os.getpid():  # the lease is the parent's
            self._process, self._may_hold, self.token = os.getpid(), False, None
            self._tokens.clear()
        if self.token is not None:
            self.release()  # a release was interrupted
        if not self._leases.enter(self):
            return None
        self._pending.clear()
        self._elsewhere.clear()
        try:
            return self._taken()
        except Failed as error:
            self._may_hold = False  # if it does, the next `acquire` takes it, or it ends
            self.release()
            raise self._failed(error) from error
        except BaseException:
            self.release()
            raise

    def _taken(self) -> News | None:
        token, seen, seconds = os.urandom(16), self._seen, self._leases.seconds
        own, self._may_hold = array(UUID, (*self._tokens, token)), True
        self._tokens.append(token)
        if self._key is None:
            rows = self._database.query("take_first", self.id, token, seconds, own).rows
        else:
            known = _NONE if seen is None else seen.length
            rows = self._database.query("take", self._key, token, seconds, own, known).rows
            if not rows:
                raise self._changed("was deleted")
        if not rows or rows[0][0] is None:
            self._may_hold = False
            return None
        self.token, self._is_unsure = token, False
        self._leases.keep()
        if self._key is not None:
            revision, length, text = rows[0]
            return self._news(number(revision), number(length), text)
        self._key = number(rows[0][0])
        if rows[0][1] == b"\1":
            return News(state=self.read())
        self._seen = _Seen(0, 0, None)
        return News()

    def _news(self, revision: int, length: int, text: bytes | None) -> News:
        """Return what is new; `text` has the entries from the last known one on."""
        seen = self._seen
        if seen is None or revision > seen.revision:
            return News(state=self.read())
        rest = text or b""
        if seen.last is not None:
            rest += BETWEEN
            if not rest.startswith(seen.last + BETWEEN):
                length = -1
            rest = rest[len(seen.last + BETWEEN) : -len(BETWEEN)]
        if revision < seen.revision or length < seen.length:
            raise self._changed("has lost changes that were acknowledged (after a failover?)")
        if length == seen.length:
            return News()
        entries = self._entries(rest)
        # Fewer: they came after the statement had begun. More: one has the separator inside.
        if not len(entries) == length - seen.length == rest.count(BETWEEN) + 1:
            return News(state=self.read())
        self._seen = _Seen(revision, length, rest.rpartition(BETWEEN)[2])
        return News(tuple(entries))

    def release(self) -> None:
        """Give the lease back; idempotent. One that cannot be given back ends by itself."""
        if self._process != os.getpid():
            return
        try:
            if self._may_hold:
                with contextlib.suppress(Failed, SessionError):
                    self._database.query("release", self.id, array(UUID, self._tokens))
                    self._may_hold = False
        finally:
            self.token = None
            if not self._is_begun:
                self._key = None
            self._leases.leave(self)

    # --- reading -------------------------------------------------------------------------------

    def read(self) -> State | None:
        """Return the content of the session; None if nothing was ever written. Needs no lease.

        Raises:
            SessionCorrupt: if it is no session; it is not changed.
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        try:
            if self._is_unsure and self.token is not None:
                self._fence()
            rows = self._database.query("read", self.id).rows
        except Failed as error:
            raise self._unavailable(error) from error
        if not rows:
            return None
        key, revision, length, header, text, last = rows[0]
        entries = self._entries(text or b"")
        if len(entries) != number(length):
            reason = f"it has {len(entries)} turns, and should have {number(length)}"
            raise corrupt(self.place, reason)
        try:
            labels = orjson.loads(header)
        except orjson.JSONDecodeError as error:
            raise corrupt(self.place, f"its header is not JSON ({error})") from error
        if not isinstance(labels, dict):
            raise corrupt(self.place, "its header is no JSON object")
        self._key, self._is_begun = number(key), True
        self._seen = _Seen(number(revision), number(length), last)
        return State(labels, entries)

    def _entries(self, text: bytes) -> list[Any]:
        try:
            entries: list[Any] = orjson.loads(b"[%b]" % text)
        except orjson.JSONDecodeError as error:
            raise corrupt(self.place, f"its turns are not JSON ({error})") from error
        return entries

    # --- writing -------------------------------------------------------------------------------

    def append(self, entries: Sequence[bytes]) -> None:
        """Add turns with the bytes that were kept for them, durably, or change nothing."""
        if not entries:
            return
        seen = self._known()
        then = _Seen(seen.revision, seen.length + len(entries), bytes(entries[-1]))
        size = sum(map(len, entries))
        self._write("append", (*self._blobs(), len(entries), size, array(TEXT, entries)), then)

    def rewrite(
        self,
        header: Mapping[str, Any],
        changed: Mapping[int, bytes],
        length: int,
        *,
        touches: bool = True,
    ) -> None:
        """Replace the content, durably, or change nothing.

        Removes the bytes that only changed or dropped turns have named. Unless it touches the
        session, the time of the last change stays.
        """
        seen = self._known()
        # Not the next number: after a failover another change could have got the same one.
        revision = seen.revision + 1 + random.getrandbits(20)
        text, created_at = orjson.dumps(dict(header)), _time(header.get("created_at"))
        last = seen.last if length == seen.length else None
        then = _Seen(revision, length, changed.get(length - 1, last))
        if self._is_begun and not changed and length == seen.length and not self._pending:
            self._write("relabel", (text.decode(), revision, created_at), then)
            return
        lines = array(TEXT, changed.values())
        size = len(text) + sum(map(len, changed.values()))
        labels = (text.decode(), revision, created_at)
        more = (*labels, length, integers([*changed]), lines, size)
        self._write("rewrite" if touches else "silence", (*self._blobs(), *more), then)

    def _known(self) -> _Seen:
        if self.token is None:
            raise self._changed("is not locked by this object")
        if self._is_unsure:
            self._settle()
        if self._seen is None:
            raise self._changed("was changed by a write whose answer was lost")
        return self._seen

    def _write(self, name: str, parameters: Sequence[Any], then: _Seen) -> None:
        """Execute a statement that changes the session, exactly once.

        Raises:
            SessionChanged: if it is not as it was, or another one has its lease.
            SaveFailed: if it was not carried out, or nobody can know.
        """
        try:
            last = self._written(name, parameters, then)
        except Failed as error:
            if self._is_unsure:
                self._seen = None
            if isinstance(error, Lost):
                self._may_hold = False  # not to wait once more in `release`
            raise self._failed(error, in_doubt=self._is_unsure) from error
        if then.last is None and then.length:
            then = attrs.evolve(then, last=last)
        self._seen, self._is_begun = then, True
        for blob, data in self._pending.items():
            if self._key is not None and isinstance(data, bytes):
                self._cache.put(self._key, blob, data)
        self._pending.clear()

    def _written(self, name: str, parameters: Sequence[Any], then: _Seen) -> bytes | None:
        """Return the last entry after a write, if it can be known."""
        seen, seconds = self._known(), self._leases.seconds
        pauses = iter(PAUSES)
        while True:
            known = (self._key, self.token, seconds, seen.revision, seen.length)
            failure, self._is_unsure = Lost("its lease was lost again and again"), True
            try:
                result = self._database.execute(name, *known, *parameters)
            except Lost as error:
                failure, self._is_unsure = error, error.may_be_done
            except Failed:
                self._is_unsure = False
                raise
            else:
                if result.count:
                    self._is_unsure = False
                    return result.rows[0][0] if result.rows else None
            if self._is_unsure:
                was_written, last = self._outcome(seen, then)
                if was_written:
                    return last
            pause = next(pauses, None)
            if pause is None:
                raise failure
            time.sleep(pause)

    def _outcome(self, seen: _Seen, then: _Seen) -> tuple[bool, bytes | None]:
        """Return True if a write was carried out, and the last entry; False: it may be repeated.

        Raises:
            SessionChanged: if the session has changed since, or another one holds its lease.
        """
        end = time.monotonic() + self._leases.seconds + 1
        while True:
            self._fence()
            rows = self._database.query("look", self._key, self.token, then.length).rows
            if not rows:
                raise self._changed("was deleted")
            revision, length, is_mine, last = rows[0]
            now = (number(revision), number(length))
            if then.revision != seen.revision:
                is_written = now[0] == then.revision
            else:
                is_written = now[0] == seen.revision and last is not None and last == then.last
            is_free = now == (seen.revision, seen.length)
            if is_written or (is_free and is_mine == b"\1"):
                return is_written, last
            if not is_free or time.monotonic() > end:
                self._seen = None
                raise self._changed("was changed by another one, or its lease was taken")
            # A crash of the server may have brought back a lease that was given back.
            time.sleep(self.pauses[1])

    def _fence(self) -> None:
        """Change the lease's token: a statement that is still under way writes nothing any more."""
        token = os.urandom(16)
        self._tokens.append(token)
        own = array(UUID, self._tokens)
        self._database.query("fence", self._key, token, self._leases.seconds, own)
        self.token, self._is_unsure = token, False

    def _settle(self) -> None:
        """Find out what became of an interrupted write."""
        seen = self._seen
        try:
            self._fence()
            length = 0 if seen is None else seen.length
            rows = self._database.query("look", self._key, self.token, length).rows
        except Failed as error:
            raise self._failed(error) from error
        found = rows and _Seen(number(rows[0][0]), number(rows[0][1]), rows[0][3])
        if found != seen:
            self._seen = None

    # --- sound, pictures and documents ---------------------------------------------------------

    def keep(
        self, data: Data, suffix: str, *, position: int, kind: Kind, name: str | None = None
    ) -> Data:
        """Keep bytes for the turn that is written next; they are stored together with it.

        The same bytes at the same position get the same name.

        Returns:
            The stored bytes; or bytes in memory, where `keep_sound` excludes them.

        Raises:
            AudioFileMissing: if they are stored elsewhere, and gone.
            SaveFailed: if they are so many that they are stored before, and that fails.
        """
        if isinstance(data, Blob) and data.place == self.place:
            return data
        if kind in NOT_KEPT[self._keep_sound]:
            return Unsaved(read_data(data))
        whole: bytes | tuple[str, str]
        if isinstance(data, Blob) and data.session.has_stored(self._database, data.name):
            whole = (data.session.id, data.name)
            digest = hashlib.sha256("/".join(whole).encode())
            size = data.size()
        else:
            whole = read_data(data)
            digest = hashlib.sha256(whole)
            size = len(whole)
        name = name or f"{position + 1:04}-{digest.hexdigest()[:16]}.{suffix}"
        self._pending[name] = whole
        self._sizes[name] = size
        if sum(len(each) for each in self._pending.values()) > _MOST_PENDING:
            self._store_pending()
        return Blob(self.place, name, self)

    def has_stored(self, database: Database, name: str) -> bool:
        """Return True if that server has these bytes."""
        return database is self._database and name not in self._pending and self.size_of(name) > 0

    def _store_pending(self) -> None:
        seen = self._known()
        known = (self._key, self.token, self._leases.seconds, seen.revision, seen.length)
        try:
            result = self._database.query("keep", *known, *self._blobs())
        except Failed as error:
            raise self._failed(error) from error
        if not result.count:
            raise self._changed("was deleted, or its lease was taken")
        self._pending.clear()

    def _blobs(self) -> tuple[bytes, ...]:
        """Return the parameters of a statement that store pending bytes."""
        whole = {k.encode(): v for k, v in self._pending.items() if isinstance(v, bytes)}
        copies = {k.encode(): v for k, v in self._pending.items() if isinstance(v, tuple)}
        return (
            array(TEXT, whole),
            array(BYTEA, whole.values()),
            array(TEXT, copies),
            array(TEXT, (session.encode() for session, _ in copies.values())),
            array(TEXT, (name.encode() for _, name in copies.values())),
        )

    def fetch(self, name: str) -> Blob:
        """Return the stored bytes of this name, without reading them.

        Raises:
            InvalidTurn: if it is no bare file name.
        """
        check_name(name)
        return Blob(self.place, name, self)

    def fetch_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of these names in one round trip; missing ones are left out.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        found, missing = {}, []
        for name in names:
            data: Any = self._pending.get(name)
            if data is None and self._key is not None:
                data = self._cache.get(self._key, name)
            if isinstance(data, bytes):
                found[name] = data
            else:
                missing.append(name.encode())
        if not missing:
            return found
        try:
            rows = self._database.query("fetch", self.id, array(TEXT, missing)).rows
        except Failed as error:
            raise self._unavailable(error) from error
        for row in rows:
            found[row[0].decode()] = row[1]
            if self._key is not None:
                self._cache.put(self._key, row[0].decode(), row[1])
        return found

    def size_of(self, name: str) -> int:
        """Return the number of bytes of this name; 0 if they are gone.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        if name not in self._sizes:
            try:
                rows = self._database.query("names", self.id).rows
            except Failed as error:
                raise self._unavailable(error) from error
            self._sizes |= {row[0].decode(): number(row[1]) for row in rows}
        return self._sizes.get(name, 0)

    def discard(self, names: Iterable[str]) -> None:
        """Remove bytes that no turn names; they stay if the server cannot be reached."""
        stored = [name.encode() for name in names if self._pending.pop(name, None) is None]
        if stored and not self._is_unsure:
            with contextlib.suppress(Failed, SessionError):
                self._database.execute("discard", self.id, array(TEXT, stored))

    # --- sweeping ------------------------------------------------------------------------------

    def sweep(self, touched: datetime, *, sound_only: bool, dry_run: bool) -> bool:
        """Delete the session, or only its sound, unless it was touched since.

        Returns:
            False if it was, or is in use, or has no sound to delete.

        Raises:
            SessionCorrupt: if it is damaged; it is not changed.
            SessionUnavailable, SaveFailed: if the server cannot be reached, or refuses.
        """
        state = self.read()
        if state is None:
            return False
        lines, names = silenced(state.entries, self.fetch, self.place)
        try:
            rows = self._database.query("names", self.id).rows
            unnamed = [row[0] for row in rows if row[0].decode() not in names]
            if sound_only and not (lines or unnamed):
                return False
            if dry_run:
                rows = self._database.query("touched", self.id).rows
                return bool(rows) and time_of(rows[0][0]) == touched and rows[0][1] == b"\0"
            if sound_only:
                return self._silence(touched, state, lines, unnamed)
            result = self._database.query("sweep", self.id, touched.isoformat())
            return bool(result.count) or (result.was_repeated and self.read() is None)
        except Failed as error:
            raise self._unavailable(error) from error

    def _silence(
        self, touched: datetime, state: State, lines: Mapping[int, bytes], unnamed: Sequence[bytes]
    ) -> bool:
        try:
            if self.acquire() is None:
                return False
            rows = self._database.query("touched", self.id).rows
            if not rows or time_of(rows[0][0]) != touched:
                return False
            if lines:
                self.rewrite(state.header, lines, len(state.entries), touches=False)
            self._database.query("discard", self.id, array(TEXT, unnamed))
        finally:
            self.release()
        return True

    # --- errors --------------------------------------------------------------------------------

    def _failed(self, error: Failed, *, in_doubt: bool = False) -> SaveFailed:
        rest = "nothing was changed"
        if in_doubt:
            rest = (
                "the connection was lost before the answer, so that it may have been stored; the "
                "next change reads the session anew, and adding the same again stores it only once"
            )
        msg = f"session {self.id!r} at {self._database.place} could not be saved ({error}); {rest}"
        return SaveFailed(msg, in_doubt=in_doubt)

    def _unavailable(self, error: Failed) -> SessionUnavailable:
        msg = f"session {self.id!r} at {self._database.place} could not be read ({error})"
        return SessionUnavailable(msg)

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self.place} {what}; nothing was written; open the session anew, and save(path) "
            "keeps what this object holds"
        )
        return SessionChanged(msg)


def _time(value: object) -> str | None:
    """Return the time in a header as PostgreSQL reads it; None if it is none."""
    with contextlib.suppress(ValueError):
        if isinstance(value, str):
            time = datetime.fromisoformat(value)
            return (time if time.tzinfo else time.replace(tzinfo=UTC)).isoformat()
    return None
