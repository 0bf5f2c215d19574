"""A program that is interrupted by signals at random moments, and checks that nothing is lost."""

from __future__ import annotations

import random
import signal
import sys
from types import FrameType

from conversation import AssistantTurn, AudioInput, Conversation, FileStore, UserTurn
from conversation.testing import StandIn
from tests.samples import SOUND


class Alarm(Exception):
    """A soft time limit, as task queues have it."""


is_inside = False


def on_alarm(_: int, __: FrameType | None) -> None:
    """Interrupt a change, and nothing else."""
    if is_inside:
        if sys.argv[2] == "SIGINT":
            signal.raise_signal(signal.SIGINT)
        else:
            raise Alarm


def change(chat: Conversation, number: int, said: list[str]) -> None:
    """Make one of several changes; note what was acknowledged."""
    match number % 5:
        case 0 | 1:
            chat.add_user(f"turn {number}")
            said.append(f"turn {number}")
        case 2:
            chat.add_user(f"turn {number}", AudioInput(SOUND))
            said.append(f"turn {number}")
        case 3:
            chat.set_title(f"title {number}")
        case _:
            chat.say(f"turn {number}")
            said.append(f"turn {number}")


def check(chat: Conversation, store: FileStore, number: int, said: list[str]) -> None:
    """Check that nobody is locked out, that nothing is missing, and that memory equals the disk."""
    with Conversation.open("s", store=store, timeout=0) as other:
        other.add_user(f"other {number}")
    chat.add_user(f"next {number}")
    with Conversation.open("s", store=store, read_only=True) as again:
        assert again.turns == chat.turns
        assert again.title == chat.title
    texts = [turn.text for turn in chat.turns]
    assert texts[-2:] == [f"other {number}", f"next {number}"]
    assert [text for text in texts if text in set(said)] == said
    for turn in chat.turns:
        if isinstance(turn, AssistantTurn) and turn.audio and turn.audio.data:
            turn.audio.read()
        for part in turn.content if isinstance(turn, UserTurn) else ():
            if isinstance(part, AudioInput):
                part.read()


def main() -> None:
    """Make changes until so many were interrupted."""
    global is_inside  # noqa: PLW0603
    root, _, count, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    store, chance = FileStore(root, fsync=False), random.Random(seed)
    signal.signal(signal.SIGALRM, on_alarm)
    interrupted = number = 0
    with StandIn() as server:
        client = server.client()
        Conversation(client=client).say("Import it all")  # imports do not survive interrupts
        chat, said = Conversation.open("s", store=store, client=client), list[str]()
        while interrupted < count:
            number += 1
            if number % 60 == 0:
                store.delete("s")
                chat, said = Conversation.open("s", store=store, client=client), []
            slow = 0.03 if number % 5 == 4 else 0.002
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.00002, slow))
                is_inside = True
                change(chat, number, said)
                is_inside = False
            except (KeyboardInterrupt, Alarm):
                is_inside = False
                interrupted += 1
                check(chat, store, number, said)
            finally:
                is_inside = False
                signal.setitimer(signal.ITIMER_REAL, 0)
    print("interrupted", interrupted)


if __name__ == "__main__":
    main()
