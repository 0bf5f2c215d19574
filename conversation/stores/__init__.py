"""The protocol between a conversation and the place where it is saved; `FileStore` implements it.

A third party implements `Store` and `StoredSession`. `tests/stores/cases.py` in the repository is a
suite of cases that any store can be run through.

**Threads.** All members are synchronous. `Conversation` calls them from its caller's thread,
`AsyncConversation` from a worker thread, never from its event loop; `Stored.read` and `fetch_all`
come from any thread. No member of one session is called by two threads at once, but for `read`,
`fetch`, `fetch_all` and `Stored.read`, which need no lock. Several objects, in one process or in
many, may have the same session open.

**Order of calls.** `acquire` until it returns news, then any number of `append`, `rewrite`, `keep`
and `discard`, then `release`; a caller that gives up waiting calls `release` too. An exchange with
the model may take minutes between the two. After `release` a session keeps nothing open: it is
never closed.

**Lost races are conflicts.** `append` and `rewrite` notice that the session is not as it was at the
last `acquire`, `append` or `rewrite` of this object, and raise `SessionChanged` without writing.

**Errors.** `acquire` raises `SessionChanged` (deleted), `SessionCorrupt`, `SessionTooNew`,
`SessionUnavailable` (the store cannot be reached), and `SaveFailed` if it has to write (a lock, a
repair). `read` and `fetch_all` raise `SessionCorrupt`, `SessionTooNew`, `SessionUnavailable` and
`OSError`. `append`, `rewrite` and `keep` raise `SaveFailed`, after which memory and store are as
before, and `SessionChanged`. A server may be lost before its answer: then `SaveFailed.in_doubt` is
set, and the next `acquire` returns all that the session holds. `discard` and `release` raise
nothing that a caller could mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import attrs

from conversation._values.data import Data, Kind, Stored

__all__ = [
    "Data",
    "Kind",
    "Looking",
    "News",
    "Recovery",
    "Salvage",
    "SessionInfo",
    "State",
    "Store",
    "Stored",
    "StoredSession",
]


@attrs.frozen
class SessionInfo:
    """One session in the list of a store.

    Attributes:
        id: The id to open it by.
        title: Its title; None if it has none.
        created_at: Time of its first turn or label (UTC); None if unknown.
        updated_at: Time of its last change (UTC).
        size: Size of its document in bytes, without sound.
        metadata: The program's notes, as `Conversation.set_metadata` took them.
    """

    id: str
    title: str | None
    created_at: datetime | None
    updated_at: datetime
    size: int
    metadata: dict[str, Any] = attrs.field(factory=dict, hash=False)


@attrs.frozen
class Recovery:
    """An end of a session that was cut off, found when it was opened.

    At most one turn is missing, the last one. Mostly its write was under way and its call never
    returned; but it may have been acknowledged, as later damage of the end looks the same.

    Attributes:
        line: The line (from 1) of the document at which it stops being whole.
        size: Number of bytes that make no turn; 0 if all turns are whole.
        put_aside: The file that holds these bytes now; None where nothing was changed
            (`read_only`), or where there were none.
    """

    line: int
    size: int
    put_aside: Path | None


@attrs.frozen
class Salvage:
    """The outcome of a repair.

    Attributes:
        kept: Number of turns in the repaired session.
        lost: Pieces that could not be read, in their order: of the damaged file, and of bytes that
            recoveries had put aside. They are still in `original`, and in `….damaged-…` files.
        header_lost: True if title, settings and metadata could not be read.
        original: The damaged file under its new name; the session's own file if that was whole,
            and nothing was done.
    """

    kept: int
    lost: tuple[bytes, ...] = attrs.field(repr=lambda lost: f"<{len(lost)} pieces>")
    header_lost: bool
    original: Path


@attrs.frozen
class State:
    """The content of a session.

    Attributes:
        header: Everything but the turns: `id`, `created_at`, `title`, `settings`, `metadata`, and
            keys of other versions.
        entries: The turns, a JSON object each, oldest first.
        recovered: The write that was cut off; None if the session was whole.
    """

    header: dict[str, Any]
    entries: list[Any]
    recovered: Recovery | None = None


@attrs.frozen
class News:
    """Changes by others since this object last read or wrote the session.

    Attributes:
        added: Entries that were added behind the known ones.
        state: The whole content, where it was read anew; `added` is empty then.
    """

    added: tuple[Any, ...] = ()
    state: State | None = None


class StoredSession(Protocol):
    """One session of a store, as one object sees it."""

    @property
    def id(self) -> str:
        """The id that the session is opened by."""

    @property
    def place(self) -> str:
        """The session's place, as errors name it: a path, or a URL without a password."""

    @property
    def file(self) -> Path | None:
        """The session's document, where it is a file of its own."""

    @property
    def pauses(self) -> tuple[float, float]:
        """First and longest pause between failed calls of `acquire`, in seconds."""

    def acquire(self) -> News | None:
        """Lock the session against all other objects and processes, and read what they changed.

        Does not wait: returns None where another one holds the lock. The lock is gone when its
        process dies.
        """

    def release(self) -> None:
        """Unlock the session; idempotent."""

    def read(self) -> State | None:
        """Return the content of the session, or None if nothing was ever written. Needs no lock."""

    def append(self, entries: Sequence[bytes]) -> None:
        """Add turns at the end, all of them, durably, or none. Only after a first `rewrite`."""

    def rewrite(self, header: Mapping[str, Any], changed: Mapping[int, bytes], length: int) -> None:
        """Replace the content, durably and at once, or leave it; also the first write of all.

        Args:
            header: The whole new header.
            changed: New entries by position; all others stay as they are, byte for byte.
            length: Number of turns afterwards; known entries from there on are dropped.
        """

    def keep(
        self, data: Data, suffix: str, *, position: int, kind: Kind, name: str | None = None
    ) -> Data:
        """Store bytes for a turn that is written next, and return what the turn names them by.

        They are durable at the latest when that turn is. A store may return the bytes as `Unsaved`
        where it is set up not to keep that kind.

        Args:
            data: The bytes, or something that this or another session has stored.
            suffix: A file name's suffix that fits the bytes, such as `"wav"`.
            position: Position of the turn, from 0.
            kind: The kind of bytes.
            name: The name to store them by, as in another store; None: a new one.
        """

    def fetch(self, name: str) -> Stored:
        """Return the stored bytes of this name, without reading them.

        Raises:
            InvalidTurn: if it is no name that `keep` could have given.
        """

    def fetch_all(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """Return the bytes of these names, in one round trip; missing ones are left out."""

    def discard(self, names: Iterable[str]) -> None:
        """Remove stored bytes that no turn of the session names any more."""


@runtime_checkable
class Looking(Protocol):
    """A session that tells what was added without being read anew; a store may do without it."""

    def look(self) -> News | None:
        """Return what others added since the last look; None where only `read` can tell.

        Needs no lock.
        """


class Store(Protocol):
    """A place where sessions are saved."""

    def session(self, session_id: str) -> StoredSession:
        """Return the session of this id, whether it exists or not.

        Raises:
            InvalidSetting: if it cannot be an id.
        """

    def list(
        self, *, limit: int | None = None, prefix: str = "", before: SessionInfo | None = None
    ) -> Sequence[SessionInfo]:
        """Return the sessions whose ids begin with `prefix`, last changed first.

        Args:
            limit: The largest number of sessions to return; None: all.
            prefix: The literal beginning of their ids.
            before: The last session of one list, for the next: those that were changed before it.
        """

    def delete(self, session_id: str) -> None:
        """Delete a session and all bytes stored for it.

        Raises:
            SessionNotFound: if there is no such session.
            SessionLocked: if it is in use.
        """
