"""Forks in the middle of exchanges: no child hangs, and none keeps the locks of its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from conversation.errors import SessionLocked
from conversation.testing import StandIn
from tests.stores.processes.child import exit_code_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
]

HOLDER = """
import os, sys
from openai import OpenAI
from conversation import Conversation, FileStore

chat = Conversation.open(
    "s", store=FileStore(sys.argv[1]), client=OpenAI(base_url=sys.argv[2], api_key="none")
)
with chat.stream("Hello") as events:
    next(events)
    if not os.fork():
        os.read(0, 1)
        os._exit(0)
    print("holds", flush=True)
    os.read(0, 1)
"""


@pytest.mark.parametrize("session", [None, "s"])
def test_child_is_forked_while_a_thread_is_in_an_exchange(
    session: str | None, server: StandIn, tmp_path: Path
) -> None:
    """The child's copy in memory goes on; a session is locked by the parent, and not forever."""
    client, store = server.client(), FileStore(tmp_path, fsync=False)
    chat = (
        Conversation(client=client)
        if session is None
        else Conversation.open(session, store=store, client=client, timeout=0)
    )
    server.will_answer("Wait.", hold_after=0)
    thread = threading.Thread(target=chat.say, args=("Hello",))
    thread.start()
    server.wait_until_held()

    def work() -> None:
        signal.alarm(300)  # a child that hangs dies
        if session is None:
            chat.add_user("Child")
            assert chat.turns[-1].text == "Child"
        else:
            with pytest.raises(SessionLocked):
                chat.add_user("Child")
        assert chat.messages()

    assert exit_code_of(work) == 0
    server.go_on()
    thread.join()
    assert [turn.role for turn in chat.turns] == ["user", "assistant"]
    chat.add_user("Parent")
    if session is not None:

        def add() -> None:
            signal.alarm(300)
            chat.add_user("Child")

        assert exit_code_of(add) == 0
        chat.add_user("Parent again")
        texts = [turn.text for turn in chat.turns[2:]]
        assert texts == ["Parent", "Child", "Parent again"]


def test_child_of_a_killed_parent_holds_no_lock(server: StandIn, tmp_path: Path) -> None:
    """A parent is killed in an exchange while its child lives: the session is free at once."""
    read_end, write_end = os.pipe()
    command = [sys.executable, "-c", HOLDER, str(tmp_path), server.url]
    with subprocess.Popen(
        command, stdin=read_end, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "holds\n"
        with Conversation.open("s", store=FileStore(tmp_path), timeout=0) as chat:
            with pytest.raises(SessionLocked):
                chat.add_user("Too early")
            holder.kill()
            holder.wait()
            chat.add_user("Now")
        os.close(read_end)
        os.close(write_end)  # the child ends


def test_child_is_forked_while_a_thread_waits_in_the_queue(tmp_path: Path) -> None:
    """The child neither holds its parent's place in the queue nor gives it up."""
    store = FileStore(tmp_path, fsync=False)
    holder, waiter = store.session("s"), store.session("s")
    assert holder.acquire() is not None
    assert waiter.acquire() is None
    places = sorted((tmp_path / "s.queue").iterdir())

    def wait() -> None:
        assert waiter.acquire() is None
        waiter.release()
        assert sorted((tmp_path / "s.queue").iterdir()) == places

    assert exit_code_of(wait) == 0
    holder.release()
    with Conversation.open("s", store=store, timeout=0) as chat, pytest.raises(SessionLocked):
        chat.add_user("Not my turn")
    assert waiter.acquire() is not None
    waiter.release()
    assert not list(tmp_path.glob("*.queue"))
