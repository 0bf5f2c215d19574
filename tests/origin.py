"""The process of which the programs of `tests.programs` are forks."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import runpy
import signal
import socket
import sys
import termios
import types
from pathlib import Path

import conversation._cli.main  # noqa: F401
from conversation import Conversation
from conversation.testing import StandIn


def warm_up() -> None:
    """Import and build what the SDK and an exchange need at their first use."""
    with StandIn() as server, server.client() as client:
        Conversation(client=client).say("Hello")


def become_a_fork(channel: socket.socket) -> tuple[list[int], str]:
    """Make a fork for each message; return in it, with its streams and what it is to be."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        is_asked, descriptors, _, _ = socket.recv_fds(channel, 1, 4)
        if not is_asked:
            channel.close()
            sys.exit()
        if not os.fork():
            break
        for each in descriptors:
            os.close(each)
    channel.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, number = descriptors
    link = socket.socket(fileno=number)
    if child := os.fork():  # this process waits for it in the place of the tests
        for each in streams:
            os.close(each)
        with contextlib.suppress(OSError):
            link.sendall(f"{child}\n".encode())
            link.sendall(f"{os.waitpid(child, 0)[1]}\n".encode())
        os._exit(0)
    with link, link.makefile() as file:
        return streams, file.readline()


def open_streams(streams: list[int], closed: list[int], *, is_unbuffered: bool) -> None:
    """Make these descriptors the standard streams, as Python does when it begins."""
    encoding = sys.stderr.encoding
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        os.dup2(streams[number], number)
        os.close(streams[number])
        raw = io.FileIO(number, "w" if number else "r", closefd=False)
        is_raw = is_unbuffered and number
        stream = io.TextIOWrapper(
            raw if is_raw else (io.BufferedWriter if number else io.BufferedReader)(raw),
            encoding=encoding,
            errors="backslashreplace" if name == "stderr" else "strict",
            line_buffering=name == "stderr" or raw.isatty(),
            write_through=is_unbuffered,
        )
        if number in closed:
            os.close(number)
        setattr(sys, name, None if number in closed else stream)
        setattr(sys, f"__{name}__", getattr(sys, name))


def run(task: str, streams: list[int]) -> None:
    """Run a program as Python does."""
    arguments, environment, folder, closed, in_terminal = json.loads(task)
    is_unbuffered = arguments[0] == "-u"
    kind, *rest = arguments[is_unbuffered:]
    open_streams(streams, closed, is_unbuffered=is_unbuffered)
    if in_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    first = {"-m": folder, "-c": ""}.get(kind, str(Path(kind).parent))
    more = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [first, *(each for each in more if each and each not in sys.path)]
    importlib.invalidate_caches()
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.modules["__main__"] = module = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(module))
    else:
        sys.argv = [kind, *rest]
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    warm_up()
    gc.collect()
    gc.freeze()
    mine, what = become_a_fork(socket.socket(fileno=int(sys.argv[1])))
    run(what, mine)
