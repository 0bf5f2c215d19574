"""Drills: workers that are killed while they answer, and many that find the same question.

`CONVERSATION_KILLS=200` kills more often; `CONVERSATION_SEED` repeats the random choices of a
failure, though not the exact moments.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import Counter
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import attrs
import pytest

from conversation import Conversation
from conversation.errors import SessionLocked
from conversation.testing import StandIn
from tests.samples import answer, tool_call
from tests.stores.processes.answering import deliver, hold, reply_if_unanswered, store_at
from tests.stores.processes.forks import PROCESSES

pytestmark = pytest.mark.slow

Place = Path | tuple[str, str]


@pytest.fixture(params=["files", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A folder, or a database and a schema."""
    if request.param == "files":
        return tmp_path / "sessions"
    return request.getfixturevalue("postgres").url, request.getfixturevalue("schema")


def started(job: Any, *arguments: Any) -> tuple[BaseProcess, Connection[Any, Any]]:
    """Start a process, and return it and its pipe."""
    ours, theirs = PROCESSES.Pipe()
    process = PROCESSES.Process(target=job, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


@attrs.define
class Worker:
    """A process that answers the messages of a session, and what it has told."""

    session: str
    process: BaseProcess
    pipe: Connection[Any, Any]
    told: list[tuple[int, str]] = attrs.field(factory=list)
    refused: int = 0

    @classmethod
    def begin(cls, place: Place, session: str, url: str) -> Worker:
        """Start a worker."""
        return cls(session, *started(deliver, place, session, url))

    def answer(self) -> None:
        """Wait until it has answered the message that it was given last."""
        before = len(self.told)
        while len(self.told) == before:
            assert self.pipe.poll(120), f"a worker of {self.session} does not answer"
            self.hear()

    def hear(self) -> None:
        """Read what it tells next."""
        number, text = self.pipe.recv()
        if text is None:
            self.refused += 1
        else:
            self.told.append((number, text))

    def kill(self) -> None:
        """Kill it, and read what it has told."""
        self.process.kill()
        self.process.join()
        assert self.process.exitcode == -signal.SIGKILL
        with contextlib.suppress(EOFError, ConnectionError):
            while True:
                self.hear()


def test_each_delivery_is_answered_once(place: Place, server: StandIn) -> None:
    """Each message is delivered several times, also to two workers at once, of which some die.

    A kill costs one request at most: that which was under way.
    """
    kills = int(os.environ.get("CONVERSATION_KILLS") or (20 if isinstance(place, Path) else 8))
    seed = int(os.environ.get("CONVERSATION_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CONVERSATION_SEED={seed} CONVERSATION_KILLS={kills}")
    dice = random.Random(seed)
    workers = [Worker.begin(place, session, server.url) for session in ("a", "a", "b")]
    dead: list[Worker] = []
    found: Counter[str] = Counter()
    for number in range(kills):
        for worker in workers:
            worker.pipe.send(number)
        victim = workers.pop(dice.randrange(3))
        begun = len(server.requests) + dice.randrange(2)
        end = time.monotonic() + 0.3
        while len(server.requests) < begun and time.monotonic() < end:
            pass
        end = time.monotonic() + dice.random() * 0.03
        while time.monotonic() < end:
            pass
        victim.kill()
        dead.append(victim)
        found["answered"] += victim.told[-1:] != [] and victim.told[-1][0] == number
        next_one = Worker.begin(place, victim.session, server.url)
        next_one.pipe.send(number)  # nobody knows what became of it
        workers.append(next_one)
        for worker in workers:
            worker.answer()
        if number:
            again = dice.randrange(number)
            next_one.pipe.send(again)
            next_one.answer()
    for worker in workers:
        worker.kill()
    asked = Counter(str(request["messages"][-1]["content"]) for request in server.requests)
    for session in ("a", "b"):
        with Conversation.open(session, store=store_at(place), read_only=True) as chat:
            turns = chat.turns
        assert [turn.role for turn in turns] == ["user", "assistant"] * kills
        said = [f"{session} {number}" for number in range(kills)]
        assert [turn.text for turn in turns[::2]] == said
        answers = [turn.text for turn in turns[1::2]]
        told = [each for w in dead + workers if w.session == session for each in w.told]
        assert {number for number, _ in told} == {*range(kills)}
        assert all(answers[number] == text for number, text in told)
    assert len(asked) == 2 * kills
    refused = sum(worker.refused for worker in dead + workers)
    assert sum(asked.values()) <= len(asked) + kills - found["answered"] + refused
    print(f"{sum(asked.values())} requests for {len(asked)} messages, {dict(found)}")


def test_question_that_many_find_is_answered_once(place: Place, server: StandIn) -> None:
    """Eight processes that all see a question, a tool's result or open calls ask once."""
    others = [started(reply_if_unanswered, place, "s", server.url) for _ in range(8)]
    with Conversation.open("s", store=store_at(place)) as chat:
        for number, kind in enumerate(("question", "result", "calls", "question")):
            chat.add_user(f"Question {number}")
            if kind != "question":
                chat.add_completion(answer(tool_calls=[tool_call(f"c{number}")]))
            if kind == "result":
                chat.add_tool_result(f"c{number}", "noon")
            for _, pipe in others:
                pipe.send(True)
            assert [pipe.recv() for _, pipe in others] == [True] * 8
            for _, pipe in others:
                pipe.send("now")
            texts = {pipe.recv() for _, pipe in others}
            assert len(server.requests) == number + 1
            chat.refresh()
            assert texts == {chat.turns[-1].text}
            assert not chat.unanswered
    for process, pipe in others:
        pipe.send(False)
        process.join()


def chat_is_locked() -> pytest.RaisesExc[SessionLocked]:
    """Expect that another one holds the session."""
    return pytest.raises(SessionLocked)


def test_killed_holder_lets_go(place: Place, server: StandIn) -> None:
    """A killed holder's changes are there; the next one goes on at once, or after its lease."""
    process, pipe = started(hold, place, "s", server.url)
    assert pipe.recv() == "held"
    with Conversation.open("s", store=store_at(place), timeout=0) as chat, chat_is_locked():
        chat.add_user("two")
    process.kill()
    process.join()
    with Conversation.open("s", store=store_at(place), client=server.client()) as chat:
        assert chat.title == "held"
        chat.say("two")
        assert [turn.text for turn in chat.turns[::2]] == ["one", "two"]
