"""Terminal output: lines, texts, colours and progress, none of which a terminal obeys.

No other module of the command line prints. Further lines of a text are indented, so that its words
cannot pass for another turn or message.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any, TextIO, TypeVar

import orjson

from conversation._cli.wording import in_words, said
from conversation._export.formats import escaped_json
from conversation._values.text import CONTROLS_BEYOND

_T = TypeVar("_T")

_CONTROLS = re.compile(f"[\0-\x08\x0b-\x1f]|{CONTROLS_BEYOND.pattern}")
_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


def plain(text: str) -> str:
    """Return the text in one line, with all control characters replaced."""
    return _CONTROLS.sub("\ufffd", _LINE_END.sub(" ", text))


def plain_line(text: str) -> str:
    """Same as `plain`, without spaces in a row."""
    return plain(" ".join(text.split()))


def write_line(*parts: str | tuple[str, str], end: str = "\n") -> None:
    """Print a line.

    Args:
        parts: Texts, or texts with their colours.
        end: The end of the line.
    """
    shown = (
        plain(part) if isinstance(part, str) else coloured(plain(part[0]), part[1])
        for part in parts
    )
    print("".join(shown), end=end, flush=not end)


class Text:
    """Prints a text as it comes, all of its lines but the first indented.

    In a terminal, lines are broken before the terminal wraps them.

    Args:
        indent: The indentation.
        column: Characters that stand in the first line already.
        colour: Its colour.
    """

    def __init__(self, indent: str, column: int, colour: str | None = None) -> None:
        self._colour = colour
        self._indent = f"\n{indent}"
        self._first = len(indent)
        self._column = column
        self._width = max(shutil.get_terminal_size().columns - 1, 20)

    def write(self, text: str) -> None:
        """Print the next piece."""
        lines = [plain(line) for line in _LINE_END.split(text.replace("\t", "    "))]
        if sys.stdout.isatty():
            lines = ["".join(self._fitting(line, number)) for number, line in enumerate(lines)]
        shown = self._indent.join(lines)
        print(coloured(shown, self._colour) if self._colour else shown, end="", flush=True)

    def _fitting(self, line: str, number: int) -> Iterator[str]:
        if number:
            self._column = self._first
        for word in re.split("(?<= )", line):
            if self._column + sum(map(_columns, word)) > self._width and self._column > self._first:
                yield self._indent
                self._column = self._first
            for char in word:
                if self._column + _columns(char) > self._width:
                    yield self._indent
                    self._column = self._first
                self._column += _columns(char)
                yield char


def _columns(char: str) -> int:
    # Of unknown width is wide: a line may be too short, but not too long.
    return 1 if unicodedata.east_asian_width(char) in ("Na", "N", "H") else 2


def write_text(
    text: str, colour: str | None = None, *, before: str = "  ", before_colour: str | None = None
) -> None:
    """Print a text behind some characters of ours, further lines indented."""
    print(coloured(before, before_colour) if before_colour else before, end="")
    Text("  ", len(before), colour).write(text)
    print()


def write_json(value: Any) -> None:
    """Print JSON with all control characters escaped."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    print(b"".join(escaped_json([text])).decode())


def ask(question: str) -> str:
    """Ask a question, and return the answer; empty at the end of input."""
    try:
        return input(f"{plain_line(question)} ")
    except EOFError:
        print()
        return ""


def coloured(text: str, colour: str, *, on: TextIO | None = None) -> str:
    """Return the text in a colour, or unchanged if the stream (default: stdout) shows none."""
    on = sys.stdout if on is None else on
    if not on.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m"


def one_line(error: BaseException) -> str:
    """Return the error's message and notes in one line, in the command line's words."""
    return plain_line(said(error))


def report(message: str) -> None:
    """Print an error, a warning or a note on stderr."""
    mark = coloured("!", "red", on=sys.stderr)
    print(f"{mark} {plain_line(message)}", file=sys.stderr, flush=True)


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
        print(f"\r\x1b[K{plain_line(line)}", end="", file=sys.stderr, flush=True)


class LogHandler(logging.Handler):
    """Prints the library's warnings, and shows its other log lines as progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print or show a record."""
        if record.levelno >= logging.WARNING:
            show_progress("")
            report(in_words(record.getMessage()))
        else:
            show_progress(in_words(record.getMessage()))
