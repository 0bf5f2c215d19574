"""The programs of this folder, as the tests that start them see them."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Self

PATIENCE = 120.0
"""Seconds of silence after which a program hangs."""

_ROOT = Path(__file__).parents[3]


class Child:
    """A program in a process of its own, told and heard line by line.

    Args:
        program: The module's name.
        arguments: Its command line.
    """

    def __init__(self, program: str, *arguments: object) -> None:
        self._name = " ".join([program, *map(str, arguments[1:])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.stores.processes.{program}", *map(str, arguments)],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._heard = b""

    def tell(self, line: str) -> None:
        """Say a line to it."""
        self._stdin.write(f"{line}\n".encode())

    def line(self) -> str:
        """The next line it says."""
        while b"\n" not in self._heard:
            ready, _, _ = select.select([self._stdout], [], [], PATIENCE)
            assert ready, f"{self._name} said nothing for {PATIENCE:g} s"
            piece = os.read(self._stdout.fileno(), 65_536)
            assert piece, f"{self._name} ended with {self._process.wait()} (see standard error)"
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def expect(self, line: str) -> None:
        """The next line has to be this one."""
        said = self.line()
        assert said == line, f"{self._name} said {said!r} instead of {line!r}"

    def kill(self) -> None:
        """Kill it, and wait until it is dead."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._stdin.close()
        self._stdout.close()
