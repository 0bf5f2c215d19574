"""One session in PostgreSQL: its lease, its rows, and what became of a write without an answer."""

from __future__ import annotations

import logging
import os
import random
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import attrs
import orjson

from conversation._values.data import Data, Kind
from conversation._wire.fields import time_from
from conversation.errors import InvalidSetting, SaveFailed, SessionChanged, SessionError, corrupt
from conversation.stores import News, State
from conversation.stores._postgres_answers import NO_RIGHT, Failed, Lost, Refused
from conversation.stores._postgres_blobs import Blob, Blobs, Cache, unavailable
from conversation.stores._postgres_database import Database
from conversation.stores._postgres_leases import Leases
from conversation.stores._postgres_sql import (
    BETWEEN,
    TEXT,
    UUID,
    array,
    integers,
    number,
    time_of,
)
from conversation.stores._stored_file import check_name
from conversation.stores._sweeping import silenced

log = logging.getLogger("conversation")

_NONE = 2**31 - 1
"""A position behind all entries."""

_MOST_PENDING = 32_000_000
"""Bytes of sound that wait for the turn that names them; more are written before."""


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


_LOST = "has lost changes that were acknowledged (after a failover?)"


def _holds(sure: _Seen | None, revision: int, entries: Sequence[Any]) -> bool:
    """Return True if nothing of what was acknowledged is missing."""
    if sure is None or revision > sure.revision:
        return True
    if revision < sure.revision or len(entries) < sure.length:
        return False
    return sure.last is None or bool(entries[sure.length - 1] == orjson.loads(sure.last))


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
        self._blobs = Blobs(database, cache, session_id, self.place, keep_sound)
        self._key: int | None = None
        self._seen: _Seen | None = None  # None: everything is read anew
        self._is_begun = False
        # Tokens that the server may still know as the holder: of a lease, or of a lost statement.
        self._tokens: deque[bytes] = deque(maxlen=4)
        self._may_hold = False
        self._process = os.getpid()
        # The session before and after a write that may still be under way at the server.
        self._doubt: tuple[_Seen, _Seen] | None = None
        # What was acknowledged before a doubt: what is read anew must still hold it.
        self._sure: _Seen | None = None

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
        self._blobs.forget_pending()
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
        if self._doubt is not None:
            self._seen, self._sure = None, self._doubt[0]
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
        self.token, self._doubt = token, None
        self._leases.keep()
        if self._key is not None:
            revision, length, text = rows[0]
            return self._news(number(revision), number(length), text)
        self._key = self._blobs.key = number(rows[0][0])
        if rows[0][1] == b"\1":
            return News(state=self.read())
        self._seen = _Seen(0, 0, None)
        return News()

    def look(self) -> News | None:
        """Return what others added since the last look; None if only `read` can tell.

        Raises:
            SessionChanged: if it has lost turns that are known here.
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        seen = self._seen
        if seen is None or self._doubt is not None or self._key is None:
            return None
        try:
            rows = self._database.query("look_on", self._key, seen.length, seen.revision).rows
        except Failed as error:
            raise unavailable(self.id, self._database, error) from error
        if not rows:
            return None
        news = self._news(number(rows[0][0]), number(rows[0][1]), rows[0][2])
        return None if news.state is not None else news

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
            raise self._changed(_LOST)
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
                self._give_back(array(UUID, self._tokens))
        except Refused as error:
            seconds = f"{self._leases.seconds:g} s"
            log.warning("session %r stays locked for up to %s (%s)", self.id, seconds, error)
        except (Failed, SessionError, InvalidSetting):
            pass
        finally:
            self.token = None
            if not self._is_begun:
                self._key = None
            self._leases.leave(self)

    def _give_back(self, tokens: bytes) -> None:
        is_stub = False
        if not self._is_begun:
            try:
                is_stub = self._database.query("remove_stub", self.id, tokens).count > 0
            except Refused as error:
                if error.code != NO_RIGHT:
                    raise  # without it, the row stays, which nobody lists or reads
        if not is_stub:
            self._database.query("release", self.id, tokens)
        self._may_hold = False

    # --- reading -------------------------------------------------------------------------------

    def read(self) -> State | None:
        """Return the content of the session; None if nothing was ever written. Needs no lease.

        Raises:
            SessionCorrupt: if it is no session; it is not changed.
            SessionChanged: if it has lost turns that were acknowledged.
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        if self._doubt is not None:
            self._sure = self._doubt[0]
        try:
            if self._doubt is not None and self.token is not None:
                self._fence()
                self._blobs.forget_pending()
            rows = self._database.query("read", self.id).rows
        except Failed as error:
            raise unavailable(self.id, self._database, error) from error
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
        if number(key) == self._key and not _holds(self._sure, number(revision), entries):
            raise self._changed(_LOST)
        self._sure = None
        self._key = self._blobs.key = number(key)
        self._is_begun, self._doubt = True, None
        self._seen = _Seen(number(revision), number(length), last)
        return State(labels | {"id": self.id}, entries)  # it may have been renamed by an UPDATE

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
        parameters = (len(entries), size, array(TEXT, entries))
        if self._blobs:
            self._write("append_with_sound", (*parameters, *self._blobs.parameters()), then)
        else:
            self._write("append", parameters, then)

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
        text, begun = orjson.dumps(dict(header)), time_from(header.get("created_at"))
        last = seen.last if length == seen.length else None
        then = _Seen(revision, length, changed.get(length - 1, last))
        labels = (text.decode(), revision, begun and begun.isoformat())
        if self._is_begun and not changed and length == seen.length and not self._blobs:
            self._write("relabel", labels, then)
            return
        size = len(text) + sum(map(len, changed.values()))
        lines = (integers([*changed]), array(TEXT, changed.values()), size)
        parameters = (*labels, length, *lines, *self._blobs.parameters())
        is_more = touches and length >= seen.length
        if is_more and min(changed, default=_NONE) >= seen.length:
            self._write("amend", parameters, then)
            return
        try:
            self._write("rewrite" if touches else "silence", parameters, then)
        except SaveFailed as error:
            if not is_more or getattr(error.__cause__, "code", "") != NO_RIGHT:
                raise
            self._write("amend", parameters, then)  # what no turn names any more stays

    def _known(self) -> _Seen:
        if self.token is None:
            raise self._changed("is not locked by this object")
        if self._doubt is not None:
            self._settle(*self._doubt)
        if self._seen is None:
            raise self._changed("was not read since it was locked")
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
            if isinstance(error, Lost):
                self._may_hold = False  # not to wait once more in `release`
            raise self._failed(error, in_doubt=self._doubt is not None) from error
        self._made(then, last)

    def _made(self, then: _Seen, last: bytes | None) -> None:
        """Note that a write was carried out."""
        if then.last is None and then.length:
            then = attrs.evolve(then, last=last)
        self._seen, self._is_begun, self._doubt = then, True, None
        self._blobs.stored()

    def _written(self, name: str, parameters: Sequence[Any], then: _Seen) -> bytes | None:
        """Return the last entry after a write, if it can be known."""
        seen, seconds = self._known(), self._leases.seconds
        pauses = iter(self._database.pauses)
        while True:
            known = (self._key, self.token, seconds, seen.revision, seen.length)
            failure, self._doubt = Lost("its lease was lost again and again"), (seen, then)
            try:
                result = self._database.execute(name, *known, *parameters)
            except Lost as error:
                failure = error
                if not error.may_be_done:
                    self._doubt = None
            except Failed:
                self._doubt = None
                raise
            else:
                if result.count:
                    return result.rows[0][0] if result.rows else None
            if self._doubt is not None:
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
                self._doubt = None
                return is_written, last
            if not is_free or time.monotonic() > end:
                self._seen = self._doubt = None
                raise self._changed("was changed by another one, or its lease was taken")
            # A crash of the server may have brought back a lease that was given back.
            time.sleep(self.pauses[1])

    def _fence(self) -> None:
        """Change the lease's token: a statement that is still under way writes nothing any more."""
        token = os.urandom(16)
        self._tokens.append(token)
        own = array(UUID, self._tokens)
        self._database.query("fence", self._key, token, self._leases.seconds, own)
        self.token = token

    def _settle(self, seen: _Seen, then: _Seen) -> None:
        """Find out what became of a write without an answer."""
        try:
            was_written, last = self._outcome(seen, then)
        except Failed as error:
            raise self._failed(error) from error
        if was_written:
            self._made(then, last)

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
        kept = self._blobs.keep(data, suffix, position, kind, name)
        if self._blobs.size > _MOST_PENDING:
            self._store_pending()
        return kept

    def _store_pending(self) -> None:
        seen = self._known()
        known = (self._key, self.token, self._leases.seconds, seen.revision, seen.length)
        try:
            result = self._database.query("keep", *known, *self._blobs.parameters())
        except Failed as error:
            raise self._failed(error) from error
        if not result.count:
            raise self._changed("was deleted, or its lease was taken")
        self._blobs.forget_pending()

    def fetch(self, name: str) -> Blob:
        """Return the stored bytes of this name, without reading them.

        Raises:
            InvalidTurn: if it is no bare file name.
        """
        check_name(name)
        return self._blobs.blob(name)

    def fetch_all(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of these names in one round trip; missing ones are left out.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        return self._blobs.fetch(names)

    def sizes(self) -> dict[str, int]:
        """Return the sizes of all stored bytes by their names.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        return self._blobs.sizes()

    def discard(self, names: Iterable[str]) -> None:
        """Remove bytes that no turn names; they stay if the server cannot be reached."""
        if self._doubt is None:
            self._blobs.discard(names)

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
        except Failed as error:
            raise unavailable(self.id, self._database, error) from error
        try:
            if sound_only:
                return self._silence(touched, state, lines, unnamed)
            result = self._database.query("sweep", self.id, touched.isoformat())
        except Failed as error:
            raise self._failed(error, in_doubt=error.may_be_done) from error
        self._blobs.forget_all()
        return bool(result.count) or (result.was_repeated and self.read() is None)

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
            self._blobs.forget_all()
        finally:
            self.release()
        return True

    # --- errors --------------------------------------------------------------------------------

    def _failed(self, error: Failed, *, in_doubt: bool = False) -> SaveFailed:
        rest = "nothing was changed"
        if in_doubt:
            rest = (
                "the connection was lost before the answer, so that it may have been stored all "
                "the same: repeat the change, or add the same turn again, which makes it once"
            )
        msg = f"session {self.id!r} at {self._database.place} could not be saved ({error}); {rest}"
        return SaveFailed(msg, in_doubt=in_doubt)

    def _changed(self, what: str) -> SessionChanged:
        msg = (
            f"{self.place} {what}; nothing was written; open the session anew, and save(path) "
            "keeps what this object holds"
        )
        return SessionChanged(msg)
