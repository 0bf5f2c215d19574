"""The tables of a `PostgresStore`: statements that are executed, repeated and refused."""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import time
import weakref
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from conversation.errors import InvalidSetting, SessionTooNew
from conversation.stores import _postgres_driver as driver
from conversation.stores._postgres_answers import (
    NO_RIGHT,
    Lost,
    MissingTables,
    Refused,
    Result,
    answered,
    value_of,
)
from conversation.stores._postgres_place import (
    conninfo_of,
    place_of,
    settings_of,
)
from conversation.stores._postgres_pool import PATIENCE, GivenPool, Pool
from conversation.stores._postgres_sql import (
    VERSION,
    creation,
    number,
    prefix,
    rights,
    statements,
)

_NAMING = ("host", "hostaddr", "port", "user", "dbname", "service")
"""Settings that tell which database it is."""

_databases: weakref.WeakSet[Database] = weakref.WeakSet()


class Database:
    """A server's tables in one schema.

    Args:
        conninfo_or_pool: The server, or the caller's pool of connections to it.
        schema: The schema of the tables.
        create: Create the tables if they are missing.
        prepare: Prepare statements on the server.
        size: The largest number of connections.

    Attributes:
        place: Its URL, without a password.
        schema: The schema.
        pauses: Pauses between attempts, in seconds.
    """

    def __init__(
        self, conninfo_or_pool: Any, *, schema: str, create: bool, prepare: bool, size: int
    ) -> None:
        driver.check_driver()
        is_text = isinstance(conninfo_or_pool, str)
        conninfo = conninfo_or_pool if is_text else conninfo_or_pool.conninfo
        given = settings_of(conninfo if isinstance(conninfo, str) else "")  # else a function
        kwargs = (
            None if is_text else getattr(conninfo_or_pool, "kwargs", None)
        )  # of a caller's pool
        if isinstance(kwargs, Mapping):
            given |= {name: kwargs[name] for name in _NAMING if name in kwargs}
        self.place = place_of(given, schema)
        self.schema = schema
        self.pauses: tuple[float, ...] = (0.05, 0.2, 1.0)
        self._create = create
        self._prepare = prepare
        self._statements = statements(schema)
        self._size = size
        self._given = None if is_text else conninfo_or_pool
        self._conninfo = conninfo_of(given)
        self._pool = self._new_pool()
        self._is_checked = False
        self._prepared: weakref.WeakKeyDictionary[Any, set[bytes]] = weakref.WeakKeyDictionary()
        _databases.add(self)

    def _new_pool(self) -> Pool | GivenPool:
        if self._given is not None:
            return GivenPool(self._given)
        pool = Pool(self._conninfo, self._size)
        weakref.finalize(self, pool.clear)
        return pool

    def renew(self) -> None:
        """Leave the connections to the parent process.

        Nothing closes them here, which would tell the server that they end: `Pool.clear` knows its
        process, and so does psycopg when it drops them.
        """
        if self._given is None:
            self._pool = self._new_pool()

    def query(self, name: str, *parameters: Any) -> Result:
        """Execute a statement that may be repeated, until it is answered.

        Raises:
            Lost: if the server cannot be reached.
            Refused: if it refuses.
            InvalidSetting: if there are no tables.
            SessionTooNew: if a later version made them.
        """
        began, done = time.monotonic(), False
        for pause in (*self.pauses, None):
            try:
                return attrs.evolve(self.execute(name, *parameters), was_repeated=done)
            except Lost as error:
                done = done or error.may_be_done
                if pause is None or time.monotonic() - began > PATIENCE:
                    raise Lost(error.why, may_be_done=done) from None
                time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  # not to all at once
        raise AssertionError  # the last round returns or raises

    def execute(self, name: str, *parameters: Any) -> Result:
        """Execute a statement once; as `query`. Only one that may begin a session makes tables."""
        try:
            if not self._is_checked:
                self._check()
            return self._execute(name, parameters)
        except MissingTables as error:
            self._is_checked = False
            are_there = self._found(error)
        if not are_there:
            if name != "take_first":
                return Result((), 0)
            self._make_tables()
        return self._execute(name, parameters)

    def identity(self) -> tuple[tuple[Any, ...], bool]:
        """Return what only stores of the same tables have in common, and True if they exist."""
        table = f"{prefix(self.schema)}conversation_sessions"
        start, database, found = self._execute("identity", (table,)).rows[0]
        return (start, database, self.schema), found is not None

    def _execute(self, name: str, parameters: Sequence[Any]) -> Result:
        sql = self._statements[name]
        values = [value_of(parameter) for parameter in parameters]
        formats = [int(isinstance(parameter, bytes)) for parameter in parameters]
        try:
            with self._connection() as connection:
                pgconn = connection.pgconn
                if not self._prepare:
                    return answered(
                        pgconn, lambda: pgconn.send_query_params(sql, values, None, formats, 1)
                    )
                label = b"conversation_%08x" % zlib.crc32(sql)
                known = self._prepared.setdefault(connection, set())
                if label not in known:
                    answered(pgconn, lambda: pgconn.send_prepare(label, sql))
                    known.add(label)
                return answered(
                    pgconn, lambda: pgconn.send_query_prepared(label, values, formats, 1)
                )
        except Refused as error:
            if error.code != NO_RIGHT:
                raise
            why = (
                f"{error.why}; this needs {rights(sql)} on the tables, and USAGE on the schema: "
                "GRANT them to the role"
            )
            raise Refused(why, error.code) from None

    @contextlib.contextmanager
    def _connection(self) -> Iterator[driver.psycopg.Connection[Any]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except Lost:
            self._pool.clear()  # what broke one connection has mostly broken all
            raise

    def _check(self) -> None:
        found = self._execute("version", ()).rows
        version = max((number(row[0]) for row in found), default=VERSION)
        if version > VERSION:
            msg = (
                f"the tables at {self.place} are of version {version}; this package knows "
                f"versions up to {VERSION}: install a newer one; nothing was changed"
            )
            raise SessionTooNew(msg, version=version)
        self._is_checked = True

    def _found(self, error: MissingTables) -> bool:
        """Return True if another one has made the tables just now; False if there are none.

        Raises:
            InvalidSetting: if there is no schema, only a part of them, or none and `create=False`.
        """
        rows = self._execute("found", (self.schema,)).rows
        if not rows:
            name = prefix(self.schema)[:-1]
            msg = (
                f"{self.place}: the schema {name} does not exist; as a role that may, run: CREATE "
                f"SCHEMA {name}, or name one that does"
            )
            raise InvalidSetting(msg) from error
        count = number(rows[0][0])
        if 0 < count < 4:
            what = f"{4 - count} of 4 tables are missing: restore a backup, or create them empty"
            raise InvalidSetting(self._how(what)) from error
        if not count and not self._create:
            raise InvalidSetting(self._how("there are no tables of this package, and create=False"))
        return count > 0

    def _make_tables(self) -> None:
        try:
            self.create()
        except Refused as error:
            raise InvalidSetting(self._how(f"the tables cannot be created ({error.why})")) from None

    def _how(self, what: str) -> str:
        option = "" if self.schema == "public" else f" --schema {shlex.quote(self.schema)}"
        return (
            f"{self.place}, schema {self.schema!r}: {what}; as a role that may, run: "
            f"conversation sql{option} | psql …"
        )

    def create(self) -> None:
        """Create the tables, where they are missing."""
        with self._connection() as connection:
            pgconn, sql = connection.pgconn, creation(self.schema).encode()
            answered(pgconn, lambda: pgconn.send_query(sql))


def _renew_all() -> None:
    for database in list(_databases):
        database.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
