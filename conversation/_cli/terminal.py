"""What the command line prints: colours on terminals only, and no control characters of others."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO, TypeVar

_T = TypeVar("_T")

# They would move the cursor, colour what follows, or turn its direction round.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_NOT_ESCAPED = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


def plain(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return _CONTROLS.sub("\ufffd", text)


def plain_line(text: str) -> str:
    """The same in one line, as ids and titles are shown."""
    return plain(" ".join(text.split()))


def escaped(json: str) -> str:
    """JSON whose strings hold the same, and that a terminal does not obey either."""
    return _NOT_ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", json)


def coloured(text: str, colour: str, *, on: TextIO | None = None) -> str:
    """The text as it is shown on a terminal; as it is, where there is none."""
    on = sys.stdout if on is None else on
    if not on.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def one_line(error: BaseException) -> str:
    """An error with what is noted about it, in one line."""
    told = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    return plain_line("; ".join(told))


def complain(message: str) -> None:
    """Say on standard error what is wrong."""
    print(f"{coloured('!', 'red', on=sys.stderr)} {message}", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """The rows as lines whose columns stand below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def progress(what: str, things: Sequence[_T]) -> Iterator[_T]:
    """The things, one by one; a terminal shows how far it is."""
    for number, thing in enumerate(things, 1):
        show_progress(f"{what} {number} of {len(things)}" if len(things) > 1 else "")
        yield thing
    show_progress("")


def show_progress(line: str) -> None:
    """Show a line in the place of the last, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{plain(line)}", end="", file=sys.stderr, flush=True)


class Log(logging.Handler):
    """The library's warnings as complaints, and what it tells of long work as progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            show_progress("")
            complain(plain(line))
        else:
            show_progress(line)
