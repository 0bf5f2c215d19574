"""Connections to a server: a pool in each process, or the caller's."""

from __future__ import annotations

import contextlib
import os
import queue
import time
import weakref
from collections.abc import Iterator
from typing import Any

from conversation.errors import InvalidSetting
from conversation.stores import _postgres_driver as driver
from conversation.stores._postgres_answers import Lost, Refused, is_ready

PATIENCE = 8.0
"""Seconds after which no new attempt begins; also the wait for a free connection."""

_RECOUNT = 1.0
"""Seconds of that after which lost rights are looked for."""

_LONGEST_IDLE = 240.0
"""Seconds after which an idle connection is not used again: routers forget it."""


class _Slot:
    """The right to one connection. It is free again once nothing refers to it.

    So none is lost, wherever an exception comes; a semaphore can even stay locked by one.
    """

    def __init__(self, free: weakref.ref[queue.SimpleQueue[_Slot]]) -> None:
        self._free = free

    def __del__(self) -> None:
        free = self._free()
        if free is not None:
            free.put(_Slot(self._free))


class Pool:
    """Connections of this process; each is used by one thread at a time.

    Args:
        conninfo: The server.
        size: The largest number of connections.
    """

    def __init__(self, conninfo: str, size: int) -> None:
        self._conninfo = conninfo
        self._size = size
        self._free: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        for _ in range(size):
            self._free.put(_Slot(weakref.ref(self._free)))
        self._used: weakref.WeakSet[_Slot] = weakref.WeakSet()
        self._idle: list[tuple[driver.psycopg.Connection[Any], float]] = []
        self._process = os.getpid()

    @contextlib.contextmanager
    def connection(self) -> Iterator[driver.psycopg.Connection[Any]]:
        slot: _Slot | None = None
        try:
            slot = self._free_slot()
            self._used.add(slot)
            connection = self._taken()
            try:
                yield connection
            except Refused:
                self._idle.append((connection, time.monotonic()))
                raise
            except BaseException:
                connection.close()
                raise
            self._idle.append((connection, time.monotonic()))
        except queue.Empty:
            raise Lost(f"all {self._size} connections were in use for {PATIENCE:g} s") from None
        finally:
            slot = None  # a traceback may keep this frame

    def _free_slot(self) -> _Slot:
        try:
            return self._free.get(timeout=_RECOUNT)
        except queue.Empty:
            self._recount()
            return self._free.get(timeout=PATIENCE - _RECOUNT)

    def _recount(self) -> None:
        """Make up for rights that were lost, as an exception was raised in `__del__`."""
        with contextlib.suppress(RuntimeError):  # others take some meanwhile
            lost = self._size - len(list(self._used)) - self._free.qsize()
            for _ in range(lost):
                self._free.put(_Slot(weakref.ref(self._free)))

    def _taken(self) -> driver.psycopg.Connection[Any]:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                connection, since = self._idle.pop()
                is_old = time.monotonic() - since > _LONGEST_IDLE or connection.closed
                if not is_old and not is_ready(connection.pgconn.socket, 0):
                    return connection
                connection.close()  # what comes unasked is its end
        try:
            return driver.psycopg.connect(self._conninfo, autocommit=True)
        except driver.psycopg.Error as error:
            raise Lost(" ".join(str(error).split())) from None

    def clear(self) -> None:
        """Close idle connections."""
        while self._process == os.getpid() and self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop()[0].close()


class GivenPool:
    """A pool that belongs to the caller."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._process = os.getpid()

    @contextlib.contextmanager
    def connection(self) -> Iterator[driver.psycopg.Connection[Any]]:
        if self._process != os.getpid():
            msg = (
                "a ConnectionPool does not survive a fork: make the pool and its store in the child"
            )
            raise InvalidSetting(msg)
        try:
            connection = self._pool.getconn(timeout=PATIENCE)
        except driver.psycopg.Error as error:
            raise Lost(" ".join(str(error).split())) from None
        try:
            if not connection.autocommit:
                msg = (
                    "the pool's connections must have autocommit, which these have not; make it by "
                    'ConnectionPool(…, kwargs={"autocommit": True})'
                )
                raise InvalidSetting(msg)
            if connection.pgconn.parameter_status(b"client_encoding") != b"UTF8":
                msg = (
                    "the pool's connections must speak UTF-8, which these do not; make it by "
                    'ConnectionPool(…, kwargs={"autocommit": True, "client_encoding": "utf8"})'
                )
                raise InvalidSetting(msg)
            yield connection
        except (Refused, InvalidSetting):
            raise
        except BaseException:
            connection.close()
            raise
        finally:
            self._pool.putconn(connection)

    def clear(self) -> None:
        """Leave the connections alone."""
