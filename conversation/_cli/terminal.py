"""Terminal output: lines, texts, colours and progress, none of which a terminal obeys.

No other module of the command line prints. Further lines of a text are indented, so that its words
cannot pass for another turn or message.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TextIO, TypeVar

import attrs
import orjson

from conversation._cli.wording import (
    ELSEWHERE,
    IN_CHAT,
    Remedies,
    in_words,
    said,
    sentences,
    without_password,
)
from conversation._export.formats import escaped_json
from conversation._values.text import CONTROLS_BEYOND

_T = TypeVar("_T")

_CONTROLS = re.compile(f"[\0-\x08\x0b-\x1f]|{CONTROLS_BEYOND.pattern}")
_LINE_END = re.compile("\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_STAY = frozenset(("Pe", "Pf", "Po", "Mn", "Me", "Cf", "Sk", "Lm"))
"""Categories of characters that do not begin a line: punctuation, marks, parts of emoji."""
_COLOURS = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}


@attrs.define
class _Screen:
    """The state of the terminal.

    Attributes:
        text: The text whose line stands open.
        remedies: The remedies that errors and log lines name.
    """

    text: Text | None = None
    remedies: Remedies = ELSEWHERE

    @property
    def in_chat(self) -> bool:
        """True while commands of the chat can be entered."""
        return self.remedies is IN_CHAT


_screen = _Screen()


def plain(text: str) -> str:
    """Return the text in one line, with all control characters replaced."""
    return _CONTROLS.sub("\ufffd", _LINE_END.sub(" ", text))


def plain_line(text: str) -> str:
    """Same as `plain`, without spaces in a row."""
    return plain(" ".join(text.split()))


def write_line(*parts: str | tuple[str, str]) -> None:
    """Print a line.

    Args:
        parts: Texts, or texts with their colours.
    """
    shown = (
        plain(part) if isinstance(part, str) else coloured(plain(part[0]), part[1])
        for part in parts
    )
    print("".join(shown))


class Text:
    """Prints a text as it comes, all of its lines but the first indented.

    In a terminal, lines are broken between words before the terminal breaks them. What may be the
    beginning of a longer word waits for its end, once it stands in the right half of a line.

    Args:
        indent: The indentation.
        before: Characters of ours before the text.
        before_colour: Their colour.
        colour: The colour of the text.
        on: The stream; None: stdout.
    """

    def __init__(
        self,
        indent: str = "  ",
        before: str = "",
        before_colour: str | None = None,
        *,
        colour: str | None = None,
        on: TextIO | None = None,
    ) -> None:
        self._on = sys.stdout if on is None else on
        self._colour = colour
        self._before = coloured(before, before_colour, on=self._on) if before_colour else before
        self._indent = f"\n{indent}"
        self._first = len(indent)
        self._column = len(before)
        self._gap = self._word = ""
        self._is_begun = False  # a part of the word is printed
        self.is_empty = True
        self._print(self._before)

    def write(self, text: str) -> None:
        """Print the next piece."""
        self._show(self._fitted(text))

    def pause(self) -> None:
        """End the line, for a line of something else; characters of ours alone are erased."""
        self._show(self._ended_word())
        self._print("\r\x1b[K" if self.is_empty and self._on.isatty() else "\n")

    def resume(self) -> None:
        """Go on after a pause."""
        if self.is_empty:
            self._print(self._before)
        else:
            self._print(self._indent[1:])
            self._column, self._gap = self._first, ""

    def end(self, text: str = "") -> None:
        """Print the last piece and what has waited, and end the line."""
        self._show(chain(self._fitted(text), self._ended_word()))
        self._print("\n")

    def _show(self, pieces: Iterable[str]) -> None:
        if not (shown := "".join(pieces)):
            return
        self.is_empty = False
        self._print(coloured(shown, self._colour, on=self._on) if self._colour else shown)

    def _print(self, shown: str) -> None:
        print(shown, end="", file=self._on, flush=True)

    def _fitted(self, text: str) -> Iterator[str]:
        lines = [plain(line) for line in _LINE_END.split(text.replace("\t", "    "))]
        if not self._on.isatty():
            yield self._indent.join(lines)
            return
        for number, line in enumerate(lines):
            if number:
                yield from self._ended_word()
                yield self._indent
                self._column, self._gap = self._first, ""
            for char in line:
                if char == " ":
                    yield from self._ended_word()
                    self._gap += " "
                else:
                    if self._word and _can_break(self._word[-1], char):
                        yield from self._ended_word()
                    self._word += char
        if self._column + len(self._gap) + _width_of(self._word) <= _width() // 2:
            yield from self._placed_word()

    def _ended_word(self) -> Iterator[str]:
        yield from self._placed_word()
        self._is_begun = False

    def _placed_word(self) -> Iterator[str]:
        if not self._word:
            return
        width = _width()
        if self._column + len(self._gap) + _width_of(self._word) <= width:
            yield self._gap
            self._column += len(self._gap)
        elif self._column > self._first and not self._is_begun:
            yield self._indent
            self._column = self._first
        for char in self._word:
            if self._column + _columns(char) > width:
                yield self._indent
                self._column = self._first
            self._column += _columns(char)
            yield char
        self._gap, self._word, self._is_begun = "", "", True


def _width() -> int:
    return max(shutil.get_terminal_size().columns - 1, 20)


def _columns(char: str) -> int:
    # Of unknown width is wide: a line may be too short, but not too long.
    return 1 if unicodedata.east_asian_width(char) in ("Na", "N", "H") else 2


def _width_of(word: str) -> int:
    return sum(map(_columns, word))


def _can_break(last: str, char: str) -> bool:
    """Return True if a line may end between two characters without a space: in East Asian text."""
    if not any(unicodedata.east_asian_width(each) in ("W", "F") for each in (last, char)):
        return False
    opens = unicodedata.category(last) in ("Ps", "Pi", "Cf")
    return not opens and unicodedata.category(char) not in _STAY


def write_text(
    text: str,
    colour: str | None = None,
    *,
    before: str = "  ",
    before_colour: str | None = None,
    indent: str = "  ",
) -> None:
    """Print a text behind some characters of ours, further lines indented."""
    Text(indent, before, before_colour, colour=colour).end(text)


@contextlib.contextmanager
def answering(before: str, colour: str, indent: str) -> Iterator[Text]:
    """Yield an answer to be written; notes that come while it is written get lines of their own."""
    _screen.text = text = Text(indent, before, colour)
    is_whole = False
    try:
        yield text
        is_whole = True
    finally:
        _screen.text = None
        if (is_whole and not before) or not text.is_empty:
            text.end()
        elif before:
            text.pause()


def name_remedies(remedies: Remedies) -> None:
    """Have errors and log lines name these remedies from now on."""
    _screen.remedies = remedies


def write_own(text: str) -> None:
    """Print a text of ours, or one without control characters, as it is, without an end of line."""
    print(text, end="", flush=True)


def write_json(value: Any) -> None:
    """Print JSON with all control characters escaped."""
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z)
    print(b"".join(escaped_json([text])).decode())


def ask(question: str) -> str:
    """Ask a question, and return the answer; empty at the end of input."""
    shown = f"{plain_line(question)} "
    if not sys.stdout.isatty():  # it must be seen
        print(shown, end="", file=sys.stderr, flush=True)
        shown = ""
    try:
        return input(shown)
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
    return plain_line(said(error, _screen.remedies))


def report(message: str) -> None:
    """Print an error or a warning on stderr, in a line of its own."""
    _print_aside("!", "red", message, None)


def note(message: str) -> None:
    """Print a note on stderr, in a line of its own, if it is a terminal."""
    if sys.stderr.isatty():
        _print_aside("·", "dim", message, "dim")


def _print_aside(mark: str, colour: str, message: str, text_colour: str | None) -> None:
    text = _screen.text if sys.stdout.isatty() and sys.stderr.isatty() else None
    if text:
        text.pause()
    shown = Text("  ", f"{mark} ", colour, colour=text_colour, on=sys.stderr)
    shown.end(plain_line(sentences(without_password(message))))
    if text:
        text.resume()


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows as lines with aligned columns."""
    widths = [max(map(_width_of, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        pairs = zip(row, widths, strict=True)
        yield "  ".join(cell + " " * (width - _width_of(cell)) for cell, width in pairs).rstrip()


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
    """Prints the library's warnings, and shows its other log lines as notes or progress."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print or show a record."""
        text = record.getMessage()
        if _screen.in_chat:  # of one session
            name = getattr(record, "session", None)
            text = text.removeprefix(f"session {name!r}: ")
        text = in_words(text, _screen.remedies)
        if record.levelno >= logging.WARNING:
            if _screen.text is None:
                show_progress("")
            report(text)
        elif _screen.in_chat or _screen.text is not None:
            note(text)
        else:
            show_progress(text)
