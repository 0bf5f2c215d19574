"""Answers of a server to statements, and the meaning of its errors.

A statement goes through libpq's functions, so that the wait for its answer can have an end: a
server that froze, or a network that drops everything, answers no driver.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from conversation.stores import _postgres_driver as driver

_SILENCE = 20.0
"""Seconds without a byte after which a server counts as lost."""

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
    """The server refused a statement, which changed nothing.

    Attributes:
        code: Its reason, as an SQLSTATE.
    """

    def __init__(self, why: str, code: str = "") -> None:
        super().__init__(why)
        self.code = code


class MissingTables(Refused):
    """The tables are not there."""


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


def value_of(parameter: Any) -> bytes | None:
    """Return a parameter of a statement as it is sent: bytes in binary form, others as text."""
    if parameter is None or isinstance(parameter, bytes):
        return parameter
    return str(parameter).encode()


def answered(pgconn: Any, send: Callable[[], object]) -> Result:
    """Send something, and return the answer.

    Raises:
        Lost: if the connection breaks, or nothing comes for too long.
        Refused: if the server refuses.
    """
    try:
        send()
        result = _last_result(pgconn)
    except driver.psycopg.Error as error:
        raise Lost(" ".join(str(error).split()), may_be_done=True) from None
    if result is None:
        raise Lost("the connection was closed", may_be_done=True)
    if result.status in (driver.pq.ExecStatus.TUPLES_OK, driver.pq.ExecStatus.COMMAND_OK):
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
            if last is None or last.status != driver.pq.ExecStatus.FATAL_ERROR:
                last = result
            continue
        if not is_ready(pgconn.socket, _SILENCE, is_writing=bool(is_writing)):
            raise Lost(f"no answer for {_SILENCE:g} s", may_be_done=True)
        pgconn.consume_input()
        if is_writing:
            is_writing = pgconn.flush()


def is_ready(descriptor: int, seconds: float, *, is_writing: bool = False) -> bool:
    """Return True if bytes have come within so many seconds, or can go where some are written."""
    if not hasattr(select, "poll"):
        writing = [descriptor] if is_writing else []
        return any(select.select([descriptor], writing, [], seconds))
    poll = select.poll()
    poll.register(descriptor, select.POLLIN | (select.POLLOUT if is_writing else 0))
    return bool(poll.poll(seconds * 1000))


NO_RIGHT = "42501"
"""The code of a refusal to a role that lacks a right."""

_REMEDIES = {
    "25006": "the server is a standby, or the role may only read; add "
    "target_session_attrs=read-write to the URL, with all hosts in it",
    "53100": "the server's disk is full",
    "53300": "use fewer connections (max_size) or a pooler",
    "22P05": "the database must have the encoding UTF8",
    "26000": "a pooler in transaction mode needs prepare=False",
    "42P05": "a pooler in transaction mode needs prepare=False",
}


def _error_of(result: Any, pgconn: Any) -> Lost | Refused:
    def field(which: driver.pq.DiagnosticField) -> str:
        return (result.error_field(which) or b"").decode(errors="replace")

    code = field(driver.pq.DiagnosticField.SQLSTATE)
    why = field(driver.pq.DiagnosticField.MESSAGE_PRIMARY) or "no reason given"
    if code in _REMEDIES:
        why = f"{why}; {_REMEDIES[code]}"
    if code in ("42P01", "3F000"):
        return MissingTables(why, code)
    if pgconn.status != driver.pq.ConnStatus.OK:
        return Lost(why, may_be_done=True)
    return Lost(why) if _PASSING.match(code) else Refused(why, code)
