"""The leases that this process holds: who of it asks for one, and who renews them meanwhile."""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Protocol

from conversation.stores._postgres_answers import Failed
from conversation.stores._postgres_database import Database
from conversation.stores._postgres_sql import TEXT, UUID, array


class Holder(Protocol):
    """A session, as one object sees it."""

    id: str
    token: bytes | None


class Leases:
    """Admits one object of this process to each session, and renews its lease.

    The others wait without a question to the server, however many they are.

    Args:
        database: The server.
        seconds: The duration of a lease, by the server's clock.
    """

    def __init__(self, database: Database, seconds: float) -> None:
        self.seconds = seconds
        self._database = database
        self.leave_all()
        _all.add(self)

    def leave_all(self) -> None:
        """Begin without leases; those of a forked child stay the parent's."""
        self._mutex = threading.Lock()
        # Weak: an object that is forgotten in the middle of an exchange keeps nobody out.
        self._first: weakref.WeakValueDictionary[str, Holder] = weakref.WeakValueDictionary()
        self._renewer: threading.Thread | None = None
        self._process = os.getpid()

    def enter(self, holder: Holder) -> bool:
        """Return True if no other object of this process holds the session, or asks for it."""
        with self._mutex:
            return self._first.setdefault(holder.id, holder) is holder

    def leave(self, holder: Holder) -> None:
        """Let another object ask; idempotent."""
        with self._mutex:
            if self._first.get(holder.id) is holder:
                del self._first[holder.id]

    def keep(self) -> None:
        """Have the leases renewed that are held longer than a part of their time."""
        with self._mutex:
            if self._renewer is None:
                self._renewer = threading.Thread(
                    target=_renewing,
                    args=(weakref.ref(self), self.seconds / 4),
                    name="conversation-leases",
                    daemon=True,
                )
                self._renewer.start()

    def renew(self) -> bool:
        """Renew all leases that are held; False if there are none."""
        with self._mutex:
            held = {each.id: token for each in list(self._first.values()) if (token := each.token)}
            if not held:
                self._renewer = None
                return False
        ids, tokens = (name.encode() for name in held), held.values()
        self._database.query("renew", array(TEXT, ids), array(UUID, tokens), self.seconds)
        return True


def _renewing(reference: weakref.ref[Leases], pause: float) -> None:
    process, is_needed = os.getpid(), True
    while is_needed:
        time.sleep(pause)
        leases = reference()
        if leases is None or process != os.getpid():
            return
        try:
            is_needed = leases.renew()
        except Failed:
            pass  # a lease that ended goes on, unless another one has taken it
        except BaseException:
            leases._renewer = None  # noqa: SLF001
            raise
        del leases


_all: weakref.WeakSet[Leases] = weakref.WeakSet()


def _after_fork() -> None:
    for leases in list(_all):
        leases.leave_all()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
