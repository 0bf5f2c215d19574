"""Child processes: the programs of this folder, and forks of the test itself."""

from __future__ import annotations

import os
import select
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.programs import Program

PATIENCE = 120.0
"""Time without output, in seconds, after which a program is considered to hang."""

_ROOT = Path(__file__).parents[3]


def exit_code_of(job: Callable[[], object]) -> int:
    """Run a job in a fork; return its exit code, which is 1 if the job raises."""
    child = os.fork()
    if not child:
        try:
            job()
            os._exit(0)
        except BaseException:  # noqa: BLE001  # a fork must not continue the test
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Child:
    """A program of this folder in a child process, controlled by lines of text.

    Args:
        program: Name of the module.
        arguments: Command line arguments.
    """

    def __init__(self, program: str, *arguments: object) -> None:
        self._name = " ".join([program, *map(str, arguments[1:])])
        command = ["-m", f"tests.stores.processes.{program}", *map(str, arguments)]
        (stdin, self._stdin), (self._stdout, stdout) = os.pipe(), os.pipe()
        self._process = Program(command, _ROOT, os.environ, (stdin, stdout, 2))
        os.close(stdin)
        os.close(stdout)
        self._buffer = b""

    def write_line(self, line: str) -> None:
        """Write a line to its standard input."""
        os.write(self._stdin, f"{line}\n".encode())

    def read_line(self) -> str:
        """Return the next line of its standard output."""
        while b"\n" not in self._buffer:
            ready, _, _ = select.select([self._stdout], [], [], PATIENCE)
            assert ready, f"{self._name} wrote nothing for {PATIENCE:g} s"
            piece = os.read(self._stdout, 65_536)
            assert piece, f"{self._name} ended with {self._process.wait()} (see standard error)"
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def expect(self, line: str) -> None:
        """Assert that the next line of its standard output is this one."""
        found = self.read_line()
        assert found == line, f"{self._name} wrote {found!r} instead of {line!r}"

    def kill(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        os.close(self._stdin)
        os.close(self._stdout)
