"""Python programs in processes of their own that begin quickly.

Each start of Python that imports the SDK takes a second of processor time. A program is therefore a
fork of one process that has imported it, and becomes what `python -W error …` would have been: with
arguments, environment, folder, standard streams, terminal and an end of its own.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ORIGIN = Path(__file__).with_name("origin.py")

_mutex = threading.Lock()
_origins: list[socket.socket] = []


def _origin() -> socket.socket:
    """Return the socket of the process of which programs are forks, started when first used."""
    if not _origins:
        ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            process = subprocess.Popen(
                [sys.executable, "-P", "-W", "error", str(ORIGIN), str(number)],
                stdin=subprocess.DEVNULL,
                pass_fds=[number],
            )
        _origins.append(ours)
        atexit.register(process.wait)
        atexit.register(ours.close)  # which ends it
    return _origins[0]


class Program:
    """A program in a process of its own, with the methods of `subprocess.Popen` that tests need.

    Args:
        arguments: Those of Python: `-m` and a module, `-c` and code, or the path of a file.
        folder: Its working directory.
        environment: Its environment.
        streams: Descriptors of stdin, stdout and stderr.
        closed: Those of 0, 1 and 2 that are closed when it begins.
        in_terminal: Make stdin its controlling terminal, so that Ctrl-C reaches it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        folder: Path,
        environment: Mapping[str, str],
        streams: tuple[int, int, int],
        *,
        closed: Sequence[int] = (),
        in_terminal: bool = False,
    ) -> None:
        self._link, theirs = socket.socketpair()
        task = json.dumps([arguments, dict(environment), str(folder), [*closed], in_terminal])
        with theirs, _mutex:
            socket.send_fds(_origin(), [b"."], [*streams, theirs.fileno()])
        self._link.sendall(f"{task}\n".encode())
        self._told = self._link.makefile("r")
        self.pid = int(self._told.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code if it has ended."""
        if self.returncode is None and select.select([self._link], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, and return its exit code."""
        if self.returncode is None:
            if not select.select([self._link], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = os.waitstatus_to_exitcode(int(self._told.readline()))
            self._told.close()
            self._link.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)


def ran(
    *arguments: str,
    folder: Path,
    environment: Mapping[str, str],
    lines: str = "",
    closed: Sequence[int] = (),
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a program on pipes to its end, as `subprocess.run` does."""
    (stdin, keyboard), (out, stdout), (errors, stderr) = os.pipe(), os.pipe(), os.pipe()
    program = Program(arguments, folder, environment, (stdin, stdout, stderr), closed=closed)
    for each in (stdin, stdout, stderr):
        os.close(each)
    with ThreadPoolExecutor(2) as pool:
        told = [pool.submit(_read, each) for each in (out, errors)]
        with contextlib.suppress(BrokenPipeError), os.fdopen(keyboard, "w") as file:
            file.write(lines)
        try:
            status = program.wait(timeout)
        finally:
            program.kill()
        return subprocess.CompletedProcess(arguments, status, *(each.result() for each in told))


def _read(descriptor: int) -> str:
    with os.fdopen(descriptor) as file:
        return file.read()
