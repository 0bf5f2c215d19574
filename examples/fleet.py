"""Serve the same users from three processes, of which one is killed: `fleet.py [URL]`.

The sessions are in PostgreSQL, at the URL or at $CONVERSATION_STORE; the processes could as well
run on three machines. Whoever gets a question finds the whole conversation. When a process dies,
its question is given to another one, which goes on where it stopped. Needs the extra `postgres`.
With OPENAI_API_KEY it talks to OpenAI, else to a stand-in server on your machine.
"""

import contextlib
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Self

from conversation import Conversation, PostgresStore
from conversation.errors import ConversationError
from conversation.testing import StandIn

USERS = ("ann", "bob", "eve")
QUESTIONS = ("Good morning", "Is a dog a friend?", "And a cat?", "Which one is louder?")
KILLED = 4  # The question with which a process dies.


def work(url: str) -> None:
    """Answer questions from stdin, one a line: the user, a tab, the question.

    Another process may have begun to work on it, and even have answered it before it died.
    """
    store = PostgresStore(url, lease=2)  # the others wait so long for the session of a dead one
    for line in sys.stdin:
        user, _, question = line.rstrip("\n").partition("\t")
        with Conversation.open(f"fleet:{user}", store=store) as chat:
            before = len(chat.turns)
            print(f"{before}\t{chat.say(question, message_id=question).text}", flush=True)


class Worker:
    """A process that answers questions."""

    def __init__(self, number: int, url: str) -> None:
        self.name = f"worker {number}"
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(BrokenPipeError), self._process as process:
            process.kill()

    def answer(self, user: str, question: str, *, dies: bool) -> str | None:
        """Return the number of turns before, and the answer; None if the process has died."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise AssertionError
        with contextlib.suppress(BrokenPipeError):
            stdin.write(f"{user}\t{question}\n")
            stdin.flush()
        if dies:
            self._process.kill()
        return stdout.readline().rstrip("\n") or None


@contextlib.contextmanager
def model() -> Iterator[None]:
    """Provide a model to this process and its children."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    with StandIn() as server:
        print("OPENAI_API_KEY is not set: a stand-in on this machine answers")
        os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.url}
        yield


def main(url: str) -> None:
    """Ask all questions, each another process than the one before."""
    store = PostgresStore(url)
    store.list(limit=1)  # else a database that is not there would cost all workers their lives
    with contextlib.ExitStack() as stack:
        stack.enter_context(model())
        workers = [stack.enter_context(Worker(number, url)) for number in (1, 2, 3)]
        turn = itertools.cycle(workers)
        for number, (question, user) in enumerate(itertools.product(QUESTIONS, USERS)):
            worker = next(turn)
            told = worker.answer(user, question, dies=number == KILLED)
            asked = 1
            while told is None:
                if asked == len(workers):
                    sys.exit("all workers are dead")
                asked += 1
                print(f"{worker.name} is dead; {user}'s question goes to the next one")
                worker = next(turn)
                told = worker.answer(user, question, dies=False)
            turns, _, answer = told.partition("\t")
            print(f"{user} asks {worker.name}, who knows {turns} turns: {answer}")
    for user in USERS:
        with Conversation.open(f"fleet:{user}", store=store, read_only=True) as chat:
            questions = [turn.text for turn in chat.turns if turn.role == "user"]
            print(f"{user}: {len(chat.turns)} turns, all asked once: {len({*questions})} questions")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        work(sys.argv[2])
    else:
        place = (sys.argv[1:] or [os.environ.get("CONVERSATION_STORE", "")])[0]
        if "://" not in place:
            sys.exit("name a database: fleet.py postgresql://user:password@host/database")
        try:
            main(place)
        except ConversationError as error:
            sys.exit(str(error))
