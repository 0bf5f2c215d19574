"""The order in which processes and objects get a session: first come, first served."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from conversation.errors import SessionLocked
from conversation.stores._queue import Queue
from conversation.testing import StandIn
from tests.programs import Program

pytestmark = pytest.mark.slow

PROCESSES = 10
ROOT = Path(__file__).parents[2]


def test_greedy_process_starves_nobody(server: StandIn, tmp_path: Path) -> None:
    """Of ten processes, one of them greedy, none waits in the queue for more than nine others."""
    log = tmp_path / "log"
    arguments = [str(tmp_path / "sessions"), server.url, str(log)]
    command = ["-m", "tests.stores.processes.queueing_writer", *arguments]
    programs, keyboards, screens = [], [], []
    for name in range(PROCESSES):
        (stdin, keyboard), (screen, stdout) = os.pipe(), os.pipe()
        count = "30" if name == 0 else "3"
        streams = (stdin, stdout, stdout)
        programs.append(Program([*command, str(name), count], ROOT, os.environ, streams))
        keyboards.append(keyboard)
        screens.append(screen)
        os.close(stdin)
        os.close(stdout)
    for screen in screens:
        assert os.read(screen, 100) == b"ready\n"
    for keyboard in keyboards:
        os.write(keyboard, b"go\n")
    for program in programs:
        assert program.wait() == 0
    for each in (*keyboards, *screens):
        os.close(each)
    served: list[str] = []
    queued: dict[str, int] = {}
    for line in log.read_text().splitlines():
        what, who, *number = line.split()
        if what == "waits":
            queued[who] = len(served)
        else:
            assert len(served) - queued.pop(who, len(served)) < PROCESSES
            served.append(f"{who} {number[0]}")
    assert len(served) == 30 + 3 * (PROCESSES - 1)
    with Conversation.open("s", store=FileStore(arguments[0]), read_only=True) as chat:
        assert [turn.text for turn in chat.turns[::2]] == served
    assert not list(Path(arguments[0]).glob("*.queue"))


def test_object_that_gives_up_leaves_the_queue(tmp_path: Path) -> None:
    """An object whose timeout is over does not keep others from the session."""
    store = FileStore(tmp_path, fsync=False)
    session = store.session("s")
    assert session.acquire() is not None
    impatient = Conversation.open("s", store=store, timeout=0)
    for _ in range(2):
        try:
            impatient.add_user("Never")
        except SessionLocked:
            continue
        raise AssertionError
    session.release()
    with Conversation.open("s", store=store, timeout=0) as chat:
        chat.add_user("At once")
    impatient.add_user("Now")
    assert [turn.text for turn in impatient.turns] == ["At once", "Now"]


def test_dead_waiter_is_passed_by(tmp_path: Path) -> None:
    """A process that is killed while it waits keeps nobody from the session."""
    store = FileStore(tmp_path, fsync=False)
    session = store.session("s")
    assert session.acquire() is not None
    code = (
        "import sys; from conversation import FileStore; "
        "session = FileStore(sys.argv[1]).session('s'); assert session.acquire() is None; "
        "print('waits', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as waiter:
        assert waiter.stdout
        assert waiter.stdout.readline() == "waits\n"
        waiter.kill()
    session.release()
    with Conversation.open("s", store=store, timeout=0) as chat:
        chat.add_user("At once")
    assert not list(tmp_path.glob("*.queue"))


def test_session_can_be_shared_where_no_queue_can_be_made(tmp_path: Path) -> None:
    """If the queue's folder cannot be made, waiters take the lock in any order."""
    store = FileStore(tmp_path, fsync=False)
    (tmp_path / "s.queue").write_text("in the way")
    holder, waiter = store.session("s"), store.session("s")
    assert holder.acquire() is not None
    assert waiter.acquire() is None
    holder.release()
    assert waiter.acquire() is not None
    waiter.release()
    assert (tmp_path / "s.queue").read_text() == "in the way"


def test_waiters_may_come_and_leave_at_the_same_time(tmp_path: Path) -> None:
    """Threads that make and remove the queue's folder at once do not disturb each other."""

    def come_and_leave() -> None:
        queue = Queue(tmp_path / "s.queue")
        for _ in range(200):
            queue.enter()
            queue.is_next()
            queue.leave()

    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(come_and_leave) for _ in range(4)]:
            done.result()
    assert not list(tmp_path.iterdir())
