"""Terminal output: colours, progress, and text without control characters."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, TypeVar

import orjson

_T = TypeVar("_T")

# They move the cursor, colour the text that follows, or reverse its direction.
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_UNESCAPED_IN_JSON = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


def plain(text: str) -> str:
    """Return the text with control characters replaced, so that a terminal obeys none."""
    return _CONTROLS.sub("\ufffd", text)


def plain_line(text: str) -> str:
    """Return the text in one line and without control characters."""
    return plain(" ".join(text.split()))


def print_json(value: Any) -> None:
    """Print JSON with all control characters escaped."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z).decode()
    print(_UNESCAPED_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def coloured(text: str, colour: str, *, on: TextIO | None = None) -> str:
    """Return the text in a colour, or unchanged if the stream (default: stdout) shows none."""
    on = sys.stdout if on is None else on
    if not on.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def one_line(error: BaseException) -> str:
    """Return the error's message and notes in one line."""
    texts = [str(error) or type(error).__name__, *getattr(error, "__notes__", ())]
    return plain_line("; ".join(texts))


def report(message: str) -> None:
    """Print an error, a warning or a note on stderr."""
    print(f"{coloured('!', 'red', on=sys.stderr)} {message}", file=sys.stderr, flush=True)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def progress(label: str, items: Sequence[_T]) -> Iterator[_T]:
    """Yield the items, showing progress on a terminal if there are several."""
    for number, item in enumerate(items, 1):
        show_progress(f"{label} {number} of {len(items)}" if len(items) > 1 else "")
        yield item
    show_progress("")


def show_progress(line: str) -> None:
    """Show a line in place of the last one, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{plain(line)}", end="", file=sys.stderr, flush=True)


class LogHandler(logging.Handler):
    """Prints the library's warnings, and shows its other log lines as progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print or show a record."""
        line = " ".join(record.getMessage().split())
        if record.levelno >= logging.WARNING:
            show_progress("")
            report(plain(line))
        else:
            show_progress(line)
