"""The bytes of turns in PostgreSQL: sound, pictures and documents, stored ones and waiting ones."""

from __future__ import annotations

import contextlib
import hashlib
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any, NoReturn, Self

import attrs

from conversation._locking import ReadLock
from conversation._values.data import Data, Kind, Stored, Unsaved, read_data
from conversation.errors import AudioFileMissing, SessionError, SessionUnavailable
from conversation.stores._arguments import is_kept
from conversation.stores._postgres_answers import Failed
from conversation.stores._postgres_database import Database
from conversation.stores._postgres_sql import BYTEA, TEXT, array, number


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

    def clear(self) -> None:
        """Drop all bytes."""
        with self._mutex:
            self._blobs.clear()
            self._size = 0

    def forget(self, session: int | None, names: Collection[str] | None = None) -> None:
        """Drop the bytes of a session of these names; None: all."""
        with self._mutex:
            for key in [each for each in self._blobs if each[0] == session]:
                if names is None or key[1] in names:
                    self._size -= len(self._blobs.pop(key))


@attrs.frozen
class Blob(Stored):
    """Bytes of a turn in PostgreSQL.

    Attributes:
        place: The session that has them.
        name: Their name in it.
    """

    place: str
    name: str
    blobs: Blobs = attrs.field(eq=False, repr=False)

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
        found = self.blobs.fetch([self.name])
        if self.name not in found:
            msg = f"{self.name} of {self.place} is gone; the turn's words are still there"
            raise AudioFileMissing(msg)
        return found[self.name]

    def size(self) -> int:
        """Return the number of bytes; 0 if they are gone."""
        return self.blobs.size_of(self.name)


class Blobs:
    """The bytes of one session, and those that wait for the turn that names them.

    Args:
        database: The server.
        cache: Bytes of all sessions.
        session_id: The session.
        place: The session, as errors name it.
        keep_sound: As in `FileStore`.

    Attributes:
        id: The session.
        key: The session's key, once it is known.
    """

    def __init__(
        self, database: Database, cache: Cache, session_id: str, place: str, keep_sound: str
    ) -> None:
        self.key: int | None = None
        self._database = database
        self._cache = cache
        self.id = session_id
        self._place = place
        self._keep_sound = keep_sound
        # Bytes for the next write, or the session and name that the server copies them from.
        self._pending: dict[str, bytes | tuple[str, str]] = {}
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def size(self) -> int:
        """Number of bytes that wait."""
        return sum(len(each) for each in self._pending.values())

    def blob(self, name: str) -> Blob:
        """Return the bytes of this name, without reading them."""
        return Blob(self._place, name, self)

    def keep(self, data: Data, suffix: str, position: int, kind: Kind, name: str | None) -> Data:
        """Have bytes wait for the next write; same as `PostgresSession.keep`."""
        if isinstance(data, Blob) and data.blobs.is_same(self):
            return data
        if not is_kept(kind, self._keep_sound):
            return Unsaved(read_data(data))
        whole: bytes | tuple[str, str]
        if isinstance(data, Blob) and data.blobs.has_stored(self._database, data.name):
            whole = (data.blobs.id, data.name)
            digest = hashlib.sha256("/".join(whole).encode())
            size = data.size()
        else:
            whole = read_data(data)
            digest = hashlib.sha256(whole)
            size = len(whole)
        name = name or f"{position + 1:04}-{digest.hexdigest()[:16]}.{suffix}"
        self._pending[name] = whole
        self._sizes[name] = size
        return self.blob(name)

    def is_same(self, other: Blobs) -> bool:
        """Return True for the bytes of the same session, as another object sees it."""
        return self._database is other._database and self.id == other.id

    def has_stored(self, database: Database, name: str) -> bool:
        """Return True if that server has these bytes."""
        return database is self._database and name not in self._pending and self.size_of(name) > 0

    def parameters(self) -> tuple[bytes, ...]:
        """Return the parameters of a statement that store what waits."""
        whole = {k.encode(): v for k, v in self._pending.items() if isinstance(v, bytes)}
        copies = {k.encode(): v for k, v in self._pending.items() if isinstance(v, tuple)}
        return (
            array(TEXT, whole),
            array(BYTEA, whole.values()),
            array(TEXT, copies),
            array(TEXT, (session.encode() for session, _ in copies.values())),
            array(TEXT, (name.encode() for _, name in copies.values())),
        )

    def stored(self) -> None:
        """Note that what waited is stored."""
        for name, data in self._pending.items():
            if self.key is not None and isinstance(data, bytes):
                self._cache.put(self.key, name, data)
        self._pending.clear()

    def forget_pending(self) -> None:
        """Forget what waits."""
        self._pending.clear()

    def fetch(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the bytes of these names; same as `PostgresSession.fetch_all`."""
        found, missing = {}, []
        for name in names:
            data: Any = self._pending.get(name)
            if data is None and self.key is not None:
                data = self._cache.get(self.key, name)
            if isinstance(data, bytes):
                found[name] = data
            else:
                missing.append(name.encode())
        for blob, data in self._asked("fetch", array(TEXT, missing)) if missing else ():
            found[blob.decode()] = data
            if self.key is not None:
                self._cache.put(self.key, blob.decode(), data)
        return found

    def size_of(self, name: str) -> int:
        """Return the number of bytes of this name; 0 if they are gone.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        if name not in self._sizes:
            self._sizes |= self.sizes()
        return self._sizes.get(name, 0)

    def sizes(self) -> dict[str, int]:
        """Return the number of bytes of each name that is stored.

        Raises:
            SessionUnavailable: if the server cannot be reached, or refuses.
        """
        return {row[0].decode(): number(row[1]) for row in self._asked("names")}

    def _asked(self, statement: str, *parameters: bytes) -> Any:
        try:
            return self._database.query(statement, self.id, *parameters).rows
        except Failed as error:
            raise unavailable(self.id, self._database, error) from error

    def forget_all(self) -> None:
        """Forget bytes that were read before."""
        self._cache.forget(self.key)

    def discard(self, names: Iterable[str]) -> None:
        """Remove bytes that no turn names; they stay if the server cannot be reached."""
        names = set(names)
        self._cache.forget(self.key, names)
        stored = [name.encode() for name in names if self._pending.pop(name, None) is None]
        if stored:
            with contextlib.suppress(Failed, SessionError):
                self._database.execute("discard", self.id, array(TEXT, stored))


def unavailable(session_id: str, database: Database, error: Failed) -> SessionUnavailable:
    """Return the error for a session that cannot be read."""
    return SessionUnavailable(
        f"session {session_id!r} at {database.place} could not be read ({error})"
    )
