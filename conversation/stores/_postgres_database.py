"""Connections to PostgreSQL: a pool in each process, and statements with an end to their waiting.

A statement goes through libpq's functions, so that the wait for its answer can have an end: a
server that froze, or a network that drops everything, answers no driver.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import attrs

from conversation.errors import InvalidSetting, SessionTooNew
from conversation.stores._postgres_sql import VERSION, creation, number, statements

try:
    import psycopg
    from psycopg import pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as error:
    msg = "PostgresStore needs the extra `postgres`: pip install 'conversation[postgres]'"
    raise ImportError(msg) from error

_SILENCE = 20.0
"""Seconds without a byte after which a server counts as lost."""

PAUSES = (0.05, 0.2, 1.0)
"""Pauses between attempts, in seconds."""

_PATIENCE = 8.0
"""Seconds after which no new attempt begins; also the wait for a free connection."""

_LONGEST_IDLE = 240.0
"""Seconds after which an idle connection is not used again: routers forget it."""

_DEFAULTS = {
    "connect_timeout": "8",
    "client_encoding": "utf8",
    "application_name": "conversation",
    "keepalives_idle": "15",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "6000",  # a network that drops everything is noticed within a lease
}

# Errors after which the same statement may succeed, on another connection at least.
_PASSING = re.compile("08|57P0|53300|25006|40|55P03")


class Failed(Exception):  # ours alone: users get those of `errors`
    """A statement failed.

    Attributes:
        why: What happened, with the remedy where it is known.
        may_be_done: True if the server may have carried it out all the same.
    """

    def __init__(self, why: str, *, may_be_done: bool = False) -> None:
        super().__init__(why)
        self.why = why
        self.may_be_done = may_be_done


class Lost(Failed):
    """The server could not be reached, or gave no answer."""


class Refused(Failed):
    """The server refused a statement, which changed nothing."""


Row = Sequence[Any]


@attrs.frozen
class Result:
    """The answer to a statement.

    Attributes:
        rows: Its rows, with values in binary form; None for NULL.
        count: Number of rows that it returned or changed.
        was_repeated: True if an attempt before may have been carried out.
    """

    rows: Sequence[Row]
    count: int
    was_repeated: bool = False


class _Pool:
    """Connections of this process; each is used by one thread at a time.

    Args:
        conninfo: The server.
        size: The largest number of connections.
    """

    def __init__(self, conninfo: str, size: int) -> None:
        self._conninfo = conninfo
        self._size = size
        self._slots = threading.Semaphore(size)
        self._idle: list[tuple[psycopg.Connection[Any], float]] = []
        self._process = os.getpid()

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        if not self._slots.acquire(timeout=_PATIENCE):
            raise Lost(f"all {self._size} connections were in use for {_PATIENCE:g} s")
        try:
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
        finally:
            self._slots.release()

    def _taken(self) -> psycopg.Connection[Any]:
        while self._idle:
            with contextlib.suppress(IndexError):  # another thread was faster
                connection, since = self._idle.pop()
                is_old = time.monotonic() - since > _LONGEST_IDLE or connection.closed
                if not is_old and not _is_readable(connection.pgconn.socket):
                    return connection
                connection.close()  # what comes unasked is its end
        try:
            return psycopg.connect(self._conninfo, autocommit=True)
        except psycopg.Error as error:
            raise Lost(" ".join(str(error).split())) from None

    def clear(self) -> None:
        """Close idle connections."""
        while self._process == os.getpid() and self._idle:
            with contextlib.suppress(IndexError):
                self._idle.pop()[0].close()


class _GivenPool:
    """A pool that belongs to the caller."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._process = os.getpid()

    @contextlib.contextmanager
    def connection(self) -> Iterator[psycopg.Connection[Any]]:
        if self._process != os.getpid():
            msg = (
                "a ConnectionPool does not survive a fork: make the pool and its store in the child"
            )
            raise InvalidSetting(msg)
        try:
            connection = self._pool.getconn(timeout=_PATIENCE)
        except psycopg.Error as error:
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
    """

    def __init__(
        self, conninfo_or_pool: Any, *, schema: str, create: bool, prepare: bool, size: int
    ) -> None:
        is_text = isinstance(conninfo_or_pool, str)
        conninfo = conninfo_or_pool if is_text else conninfo_or_pool.conninfo
        given = _settings(conninfo if isinstance(conninfo, str) else "")  # else a function
        self.place = _place(given) + (f"?schema={quote(schema)}" if schema != "public" else "")
        self.schema = schema
        self._create = create
        self._prepare = prepare
        self._statements = statements(schema)
        self._size = size
        self._given = None if is_text else conninfo_or_pool
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **given})
        self._pool = self._new_pool()
        self._is_checked = False
        self._prepared: weakref.WeakKeyDictionary[Any, set[bytes]] = weakref.WeakKeyDictionary()
        _databases.add(self)

    def _new_pool(self) -> _Pool | _GivenPool:
        if self._given is not None:
            return _GivenPool(self._given)
        pool = _Pool(self._conninfo, self._size)
        weakref.finalize(self, pool.clear)
        return pool

    def renew(self) -> None:
        """Leave the connections to the parent process.

        Nothing closes them here, which would tell the server that they end: `_Pool.clear` knows its
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
        for pause in (*PAUSES, None):
            try:
                return attrs.evolve(self.execute(name, *parameters), was_repeated=done)
            except Lost as error:
                done = done or error.may_be_done
                if pause is None or time.monotonic() - began > _PATIENCE:
                    raise Lost(error.why, may_be_done=done) from None
                time.sleep(pause * random.uniform(0.7, 1.3))  # noqa: S311  # not to all at once
        raise AssertionError  # the last round returns or raises

    def execute(self, name: str, *parameters: Any) -> Result:
        """Execute a statement once; as `query`."""
        if not self._is_checked:
            self._check()
        try:
            return self._execute(name, parameters)
        except _MissingTables:
            self._make_tables()
            return self._execute(name, parameters)

    def _execute(self, name: str, parameters: Sequence[Any]) -> Result:
        sql = self._statements[name]
        with self._connection() as connection:
            pgconn = connection.pgconn
            values = [_value(parameter) for parameter in parameters]
            formats = [int(isinstance(parameter, bytes)) for parameter in parameters]
            if not self._prepare:
                return _answered(
                    pgconn,
                    lambda: pgconn.send_query_params(
                        sql, values, param_formats=formats, result_format=1
                    ),
                )
            label = b"conversation_%08x" % zlib.crc32(sql)
            known = self._prepared.setdefault(connection, set())
            if label not in known:
                _answered(pgconn, lambda: pgconn.send_prepare(label, sql))
                known.add(label)
            return _answered(
                pgconn,
                lambda: pgconn.send_query_prepared(
                    label, values, param_formats=formats, result_format=1
                ),
            )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self._pool.connection() as connection:
                yield connection
        except Lost:
            self._pool.clear()  # what broke one connection has mostly broken all
            raise

    def _check(self) -> None:
        try:
            found = self._execute("version", ()).rows
        except _MissingTables:
            self._make_tables()
            found = self._execute("version", ()).rows
        version = max((number(row[0]) for row in found), default=VERSION)
        if version > VERSION:
            msg = (
                f"the tables at {self.place} are of version {version}; this package knows "
                f"versions up to {VERSION}: install a newer one; nothing was changed"
            )
            raise SessionTooNew(msg, version=version)
        self._is_checked = True

    def _make_tables(self) -> None:
        if not self._create:
            raise InvalidSetting(self._how("there are no tables of this package, and create=False"))
        try:
            self.create()
        except Refused as error:
            raise InvalidSetting(self._how(f"the tables cannot be created ({error.why})")) from None

    def _how(self, what: str) -> str:
        option = "" if self.schema == "public" else f" --schema {self.schema}"
        return (
            f"{self.place}, schema {self.schema!r}: {what}; as a role that may, run: "
            f"conversation sql{option} | psql …"
        )

    def create(self) -> None:
        """Create the tables, where they are missing."""
        with self._connection() as connection:
            pgconn, sql = connection.pgconn, creation(self.schema).encode()
            _answered(pgconn, lambda: pgconn.send_query(sql))


def _renew_all() -> None:
    for database in list(_databases):
        database.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


class _MissingTables(Refused):
    """The tables are not there."""


def _value(parameter: Any) -> bytes | None:
    if parameter is None or isinstance(parameter, bytes):
        return parameter
    return str(parameter).encode()


def _answered(pgconn: Any, send: Any) -> Result:
    """Send something, and return the answer.

    Raises:
        Lost: if the connection breaks, or nothing comes for too long.
        Refused: if the server refuses.
    """
    try:
        send()
        result = _last_result(pgconn)
    except psycopg.Error as error:
        raise Lost(" ".join(str(error).split()), may_be_done=True) from None
    if result is None:
        raise Lost("the connection was closed", may_be_done=True)
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        columns = range(result.nfields)
        rows = [[result.get_value(row, i) for i in columns] for row in range(result.ntuples)]
        return Result(rows, result.command_tuples or 0)
    raise _error_of(result, pgconn)


def _last_result(pgconn: Any) -> Any:
    """Return the last result of what was sent, or the first that is an error."""
    last, is_writing = None, pgconn.flush()
    while True:
        if not is_writing and not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                return last
            if last is None or last.status != pq.ExecStatus.FATAL_ERROR:
                last = result
            continue
        if not _is_ready(pgconn.socket, is_writing=bool(is_writing)):
            raise Lost(f"no answer for {_SILENCE:g} s", may_be_done=True)
        pgconn.consume_input()
        if is_writing:
            is_writing = pgconn.flush()


def _is_ready(descriptor: int, *, is_writing: bool) -> bool:
    if not hasattr(select, "poll"):
        writing = [descriptor] if is_writing else []
        return any(select.select([descriptor], writing, [], _SILENCE))
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | (select.POLLOUT if is_writing else 0))
    return bool(poll.poll(_SILENCE * 1000))


def _is_readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


_REMEDIES = {
    "25006": "the server is a standby; add target_session_attrs=read-write to the URL, with all "
    "hosts in it",
    "42501": "GRANT the role SELECT, INSERT, UPDATE and DELETE on the tables, USAGE on the schema",
    "53100": "the server's disk is full",
    "53300": "use fewer connections (max_size) or a pooler",
    "22P05": "the database must have the encoding UTF8",
    "26000": "a pooler in transaction mode needs prepare=False",
    "42P05": "a pooler in transaction mode needs prepare=False",
}


def _error_of(result: Any, pgconn: Any) -> Lost | Refused:
    def field(which: pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode(errors="replace")

    code = field(pq.DiagnosticField.SQLSTATE)
    why = field(pq.DiagnosticField.MESSAGE_PRIMARY) or "no reason given"
    if code in _REMEDIES:
        why = f"{why}; {_REMEDIES[code]}"
    if code in ("42P01", "3F000"):
        return _MissingTables(why)
    if pgconn.status != pq.ConnStatus.OK:
        return Lost(why, may_be_done=True)
    return Lost(why) if _PASSING.match(code) else Refused(why)


def _settings(conninfo: str) -> dict[str, Any]:
    try:
        settings = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError as error:
        why = re.sub('".*"', '"…"', str(error), flags=re.DOTALL).strip()  # it quotes passwords
        msg = (
            "a PostgresStore needs a URL such as postgresql://user:password@host:5432/database, or "
            f"libpq's key=value pairs; it got what libpq does not understand: {why}"
        )
        raise InvalidSetting(msg) from None
    if "://" in conninfo and any(
        "@" in str(settings.get(key)) for key in ("host", "port", "dbname")
    ):
        msg = "percent-encode the password of the URL: / is %2F, @ is %40, : is %3A"
        raise InvalidSetting(msg)
    return settings


def _place(settings: dict[str, Any]) -> str:
    hosts = str(settings.get("host") or settings.get("hostaddr") or "").split(",")
    ports = str(settings.get("port") or "").split(",")
    ports = ports if len(ports) == len(hosts) else ports * len(hosts)
    where = ",".join(
        f"{quote(host, safe='')}:{port}" if port else quote(host, safe="")
        for host, port in zip(hosts, ports, strict=False)
    )
    user = f"{quote(str(settings['user']))}@" if settings.get("user") else ""
    return f"postgresql://{user}{where}/{quote(str(settings.get('dbname') or ''))}"
