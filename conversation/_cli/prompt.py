"""Lines from the keyboard or a pipe; several lines that are pasted at once are one message."""

from __future__ import annotations

import contextlib
import importlib
import os
import select
import sys
from collections.abc import Iterator
from typing import Any

import attrs

_BEGIN, _NOTE = r'"\e[200;1~"', r'"\e[200;2~"'  # keys that no keyboard has
_SETTINGS = (
    "set enable-bracketed-paste on",  # Python turns it off
    "set bell-style none",
    f"{_BEGIN}: bracketed-paste-begin",
    f"{_NOTE}: possible-completions",
    rf'"\e[200~": {_NOTE[:-1]}{_BEGIN[1:]}',
)
"""Have readline call the completer, which notes the place, before it inserts what is pasted."""

_PAUSE = 0.03
"""Seconds within which another line is taken to be pasted, where readline cannot tell."""


@attrs.frozen
class Entered:
    """A message or command as it was entered.

    Attributes:
        text: One or more lines.
        is_typed: True for one line whose beginning was not pasted: it may be a command.
    """

    text: str
    is_typed: bool


class Prompt:
    """Reads what is entered.

    Args:
        shown: The prompt in a terminal; empty for lines of a pipe.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._is_pasted = False
        self._tells_pastes = bool(shown) and self._prepare()

    def read(self) -> Entered | None:
        """Return the next message or command; None at the end of input.

        Raises:
            KeyboardInterrupt: after Ctrl-C.
        """
        self._is_pasted = False
        try:
            lines = [input(self._shown)]
            while self._shown and not self._tells_pastes and is_ready(_PAUSE):
                lines.append(input())
        except EOFError:
            return None
        text = "\n".join(lines).strip()
        return Entered(text, is_typed=not self._is_pasted and "\n" not in text)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """Keep what is typed and pasted meanwhile for the next `read`, and do not show it yet."""
        if not self._tells_pastes:
            yield
            return
        import termios

        before = termios.tcgetattr(sys.stdin)
        silent = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
        try:
            termios.tcsetattr(sys.stdin, termios.TCSADRAIN, silent)
            sys.stdout.write("\x1b[?2004h")  # readline switches it off behind each line
            yield
        finally:
            sys.stdout.write("\x1b[?2004l")
            with contextlib.suppress(termios.error):  # the terminal hung up
                termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)

    def _prepare(self) -> bool:
        """Set up readline; return True if it tells what is pasted."""
        try:
            readline: Any = importlib.import_module("readline")
        except ImportError:
            return False
        is_other = "libedit" in (readline.__doc__ or "")
        if is_other or getattr(readline, "backend", "readline") != "readline":
            return False
        if os.environ.get("TERM") in (None, "", "dumb"):
            return False

        def completer(_text: str, _state: int) -> None:
            if not readline.get_line_buffer()[: readline.get_endidx()].strip():
                self._is_pasted = True

        readline.set_completer_delims("\n")
        readline.set_completer(completer)
        for setting in _SETTINGS:
            readline.parse_and_bind(setting)
        return True


def is_ready(pause: float = 0.0) -> bool:
    """Return True if a line waits on stdin, or comes within a pause (seconds)."""
    return os.name == "posix" and bool(select.select([sys.stdin], [], [], pause)[0])
