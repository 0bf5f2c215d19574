"""Names of sessions in log lines."""

from __future__ import annotations

import logging
import weakref
from contextvars import ContextVar

_current: ContextVar[weakref.ref[Naming] | None] = ContextVar("conversation_session", default=None)


class Naming:
    """A context in which log lines name a session; it may be left and entered again.

    It resets by values, not by tokens: a generator may be closed in another context. Where an
    exception keeps it from being left, it is over once nobody has it any more.

    Args:
        session_id: The session; None: none, as of a conversation in memory.
    """

    def __init__(self, session_id: str | None = None) -> None:
        self.session_id = session_id
        self._inside: weakref.ref[Naming] | None = weakref.ref(self)
        self._outside: weakref.ref[Naming] | None = None

    def __enter__(self) -> None:
        self._outside = _current.get()
        _current.set(self._inside)

    def __exit__(self, *_: object) -> None:
        self._inside = _current.get()
        _current.set(self._outside)


def _name(record: logging.LogRecord) -> bool:
    """Begin a line with the session, and give the record an attribute `session`."""
    current = _current.get()
    naming = None if current is None else current()
    name = None if naming is None else naming.session_id
    record.session = name
    if name is not None and isinstance(record.args, tuple):
        message = str(record.msg)
        if not message.startswith("session "):
            rest = message if record.args else message.replace("%", "%%")
            record.msg, record.args = f"session %r: {rest}", (name, *record.args)
    return True


logging.getLogger("conversation").addFilter(_name)
