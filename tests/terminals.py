"""Programs in a pseudo-terminal, or with their output read as it comes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import Self

import pytest

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    SystemTurn,
    ToolTurn,
    UserTurn,
)
from conversation.testing import StandIn
from tests.programs import Program

pty = pytest.importorskip("pty", reason="needs pseudo-terminals")

PYTHON = (sys.executable, "-W", "error")
CTRL_C, CTRL_D = "\x03", "\x04"
DEADLINE = 180.0

# A fake of the package `sounddevice`. The microphone hears silence and presses Ctrl-C after three
# seconds; if the folder has no subfolder `devices`, there is no sound card.
SOUNDDEVICE = """
import sys
from pathlib import Path

class PortAudioError(Exception):
    pass

class Stream:
    def __init__(self, samplerate, channels, dtype):
        assert (samplerate, channels, dtype) == (24_000, 1, "int16")
        if not Path("devices").exists():
            raise PortAudioError("Error querying device -1")
        self.heard = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

class RawOutputStream(Stream):
    def write(self, data):
        with open("devices/speaker", "ab") as file:
            file.write(data)
        if sys.stdout.isatty():
            print("*", end="", flush=True)

class RawInputStream(Stream):
    def read(self, frames):
        self.heard += frames
        if self.heard > 72_000:
            raise KeyboardInterrupt
        return memoryview(bytes(frames * 2)), False
"""


PASTE_MODE = re.compile(rb"\x1b\[\?2004[hl]\r?")
"""How a program switches bracketed paste on and off."""


def environment(server: StandIn | None, folder: Path) -> dict[str, str]:
    """Return the environment of a program that imports modules from its folder."""
    modules = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    found = {**os.environ, "PYTHONPATH": modules}
    if server is not None:
        found |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "any"}
    return found


class Running:
    """A process whose output is read as it comes.

    Attributes:
        patience: Seconds to wait for it.
    """

    patience = DEADLINE

    def __init__(self, process: subprocess.Popen[bytes] | Program, output: int) -> None:
        self.process = process
        self._output = output
        self._new = b""

    def until(self, words: str) -> str:
        """Return the output up to these words, including them."""
        deadline = time.monotonic() + self.patience
        while words.encode() not in self._new:
            left = deadline - time.monotonic()
            assert left > 0, f"timed out waiting for {words!r}: {self._new.decode()!r}"
            assert self._read(left), f"it ended before {words!r}: {self._new.decode()}"
        shown, found, self._new = self._new.partition(words.encode())
        return (shown + found).decode().replace("\r\n", "\n")

    def end(self, status: int = 0) -> str:
        """Return the rest of the output, and check the exit status."""
        deadline = time.monotonic() + self.patience
        while self._read(deadline - time.monotonic()):
            assert time.monotonic() < deadline, f"it does not end: {self._new.decode()!r}"
        shown = self._new.decode().replace("\r\n", "\n")
        assert self.process.wait(self.patience) == status, shown
        return shown

    def _read(self, timeout: float) -> bool:
        """Read what is available; return False at the end."""
        if not select.select([self._output], [], [], max(0.0, timeout))[0]:
            return True
        piece = b""
        with contextlib.suppress(OSError):  # on Linux, the end of a terminal
            piece = os.read(self._output, 65_536)
        self._new = PASTE_MODE.sub(b"", self._new + piece)
        return bool(piece)


class Terminal(Running):
    """A Python program in a terminal of its own, with more variables in its environment."""

    def __init__(self, folder: Path, server: StandIn | None, *program: str, **more: str) -> None:
        self._keyboard, theirs = pty.openpty()
        streams = (theirs, theirs, theirs)
        around = {**environment(server, folder), "TERM": "xterm-256color", **more}
        process = Program(program, folder, around, streams, in_terminal=True)
        os.close(theirs)
        super().__init__(process, self._keyboard)

    def press(self, keys: str) -> None:
        """Type the keys."""
        os.write(self._keyboard, keys.encode())

    def paste(self, text: str) -> None:
        """Paste a text, as terminals do if a program has switched bracketed paste on."""
        self.press(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int) -> None:
        """Make the terminal wider or narrower."""
        termios.tcsetwinsize(self._keyboard, (24, columns))

    def hang_up(self) -> int:
        """Close the terminal, and return the exit status."""
        os.close(self._keyboard)
        self._keyboard = os.open(os.devnull, os.O_RDONLY)
        # As Ctrl-C below, a signal right before a blocking call may take effect too late.
        for _ in range(11):
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(DEADLINE / 12)
            self.process.send_signal(signal.SIGHUP)
        return self.process.wait(DEADLINE / 12)

    def say(self, line: str) -> str:
        """Type a line at the prompt, and return the output until the next prompt."""
        self.press(f"{line}\n")
        return self.until("\nuser> ").removeprefix(f"{line}\n").removesuffix("\nuser> ")

    def words(self, line: str) -> str:
        """Say a line, and return the words that are shown, wherever lines are broken."""
        return " ".join(self.say(line).split())

    def leave(self, key: str, status: int = 0) -> str:
        """Press a key that ends the program, and return the output after it."""
        self._press_until(key, "\n")
        return self.end(status)

    def interrupt(self) -> str:
        """Press Ctrl-C during an answer, and return the output until the next prompt."""
        self._press_until(CTRL_C, "\nuser> ")
        return self.until("\nuser> ")

    def _press_until(self, key: str, words: str) -> None:
        # A Ctrl-C right before a blocking call takes effect only when that call returns: press it
        # again if nothing happens, as a user would.
        for _ in range(12):
            self.press(key)
            deadline = time.monotonic() + DEADLINE / 12
            while words.encode() not in self._new and time.monotonic() < deadline:
                if not self._read(deadline - time.monotonic()):
                    return
            if words.encode() in self._new:
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._keyboard)


def turns_of(
    session: str = "terminal", root: Path | None = None
) -> tuple[SystemTurn | UserTurn | AssistantTurn | ToolTurn, ...]:
    """Return a session's turns, and check that its document and its audio files are intact."""
    store = FileStore(root)
    json.loads((store.root / f"{session}.json").read_bytes())
    with Conversation.open(session, store=store, read_only=True) as chat:
        assert chat.recovered is None
        for turn in chat.turns:
            if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data:
                assert AudioInput(turn.audio.read()).duration == pytest.approx(turn.audio.duration)
        return chat.turns
