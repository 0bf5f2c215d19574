"""Where saved conversations live. `FileStore` is the one there is; the protocol is provisional.

A second store, such as a database, implements `Store` and `StoredSession`. Its `append` and
`rewrite` must notice that the session is not as it was when it was last read (`SessionChanged`), so
that a lost race is a conflict and never a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import attrs

from conversation._values.data import Data, Stored

__all__ = ["Recovery", "Salvage", "SessionInfo", "State", "Store", "StoredSession"]


@attrs.frozen
class SessionInfo:
    """One session of a store, as its list shows it.

    Attributes:
        id: What it is opened by.
        title: What it is called; None if it was never named.
        created_at: When it was begun (UTC); None if its file does not tell.
        updated_at: When it was last written (UTC).
        size: Bytes of its document, without sound.
    """

    id: str
    title: str | None
    created_at: datetime | None
    updated_at: datetime
    size: int


@attrs.frozen
class Recovery:
    """What was found at the end of a session whose last write had been cut off.

    Attributes:
        line: The line (from 1) of the document at which it stopped being whole.
        size: Bytes that made no turn; that turn had never been acknowledged.
        put_aside: Where these bytes are now; None where nothing was changed (`read_only`), or
            where there were none.
    """

    line: int
    size: int
    put_aside: Path | None


@attrs.frozen
class Salvage:
    """What a repair saved, and what it could not.

    Attributes:
        kept: How many turns are in the repaired session.
        lost: What could not be read: pieces of the damaged file, in their order. They are all
            still in `original` too.
        header_lost: Whether title, settings and metadata could not be read.
        original: Where the damaged file is now.
    """

    kept: int
    lost: tuple[bytes, ...] = attrs.field(repr=lambda lost: f"<{len(lost)} pieces>")
    header_lost: bool
    original: Path


@attrs.frozen
class State:
    """What a stored session says.

    Attributes:
        header: Everything but the turns: `id`, `created_at`, `title`, `settings`, `metadata`, and
            what other versions wrote.
        entries: One JSON object a turn.
        recovered: What had to be repaired; None if it was whole.
    """

    header: dict[str, Any]
    entries: list[Any]
    recovered: Recovery | None = None


class StoredSession(Protocol):
    """One session in a store."""

    @property
    def id(self) -> str:
        """What it is opened by."""

    @property
    def place(self) -> Path:
        """What errors name."""

    @property
    def can_grow(self) -> bool:
        """Whether `append` is possible; else the next write is a whole one."""

    def try_lock(self) -> bool:
        """Hold the session against everybody else, if nobody does; waits for nobody."""

    def unlock(self) -> None:
        """Let others have it."""

    def read(self, *, repair: bool) -> State | None:
        """What it says; None if it was never written. `repair` needs the lock."""

    def news(self) -> State | list[Any] | None:
        """What others wrote since the last read or write: added entries, or all, or nothing."""

    def append(self, entry: bytes) -> None:
        """Add a turn, durably, or change nothing."""

    def lines(self) -> Sequence[bytes] | None:
        """The entries as they stand, byte for byte; None if they cannot be told."""

    def rewrite(self, header: Mapping[str, Any], entries: Sequence[bytes]) -> None:
        """Change everything, durably, or nothing."""

    def keep(self, data: Data, suffix: str, number: int, *, spoken: bool) -> Data:
        """Put a turn's bytes where `fetch` finds them, durably, before the turn that names them."""

    def fetch(self, name: str) -> Stored:
        """What was kept under this name."""

    def discard(self, kept: Sequence[Stored]) -> None:
        """Remove what no turn names any more."""

    def close(self) -> None:
        """Let go of file handles."""


class Store(Protocol):
    """Where sessions live."""

    def session(self, session_id: str) -> StoredSession:
        """The session of this id, whether it exists or not."""

    def list(self) -> Sequence[SessionInfo]:
        """All sessions, newest first."""

    def delete(self, session_id: str) -> None:
        """Remove a session and all that it keeps."""
