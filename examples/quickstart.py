"""A spoken conversation that outlives its audio: `python examples/quickstart.py [folder]`.

On OpenAI where OPENAI_API_KEY is set, else on the stand-in, a server of this library on your own
machine. The answers are written as WAV files, and the conversation is saved beside them.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from openai import OpenAI

from conversation import AssistantTurn, AudioInput, Conversation
from conversation.testing import StandIn

AN_HOUR = 3600


class Clock:
    """The time of day, which can be moved on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Unix time in seconds."""
        return time.time() + self.ahead


@contextlib.contextmanager
def some_client(clock: Clock) -> Iterator[OpenAI]:
    """OpenAI with a key, the stand-in without."""
    if os.environ.get("OPENAI_API_KEY"):
        print("OPENAI_API_KEY is set: talking to OpenAI.")
        yield OpenAI()
        return
    print("No OPENAI_API_KEY: talking to the stand-in on this machine, which hums its answers.")
    with StandIn(audio_lifetime=AN_HOUR, clock=clock) as server:
        yield server.client()


def ask(chat: Conversation, question: str | AudioInput, folder: Path) -> AssistantTurn:
    """Say one thing, show what is sent for it, and keep the spoken answer."""
    chat.add_user(question)
    print(f"\nrequest of {len(chat.turns)} turns:")
    for item in chat.render().items:
        words = item.turn.text if item.turn else ""
        print(f"  {item.turn.role if item.turn else 'system':9} {item.why:32} {words[:44]}")
    reply = chat.reply()
    print(f"  answer:   {reply.text}")
    if reply.audio:
        number = sum(1 for turn in chat.turns if turn.role == "assistant")
        path = reply.audio.save(folder / f"answer-{number}.wav")
        print(f"  heard:    {path} ({reply.audio.duration:.1f} s)")
    return reply


def main() -> None:
    """Talk, wait an hour, go on; save, load, go on."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-sound")
    folder.mkdir(exist_ok=True)
    clock = Clock()
    with some_client(clock) as client:
        chat = Conversation(client=client, clock=clock, instructions="Answer in one sentence.")
        first = ask(chat, "Is a golden retriever a good family dog?", folder)
        ask(chat, "Why do you say they are loyal?", folder)
        if first.audio:
            ask(chat, AudioInput(first.audio.read(), transcript=first.audio.transcript), folder)

        print("\n--- an hour later, the server has forgotten what it said ---")
        clock.ahead += AN_HOUR + 180
        if os.environ.get("OPENAI_API_KEY"):
            # OpenAI's hour cannot be skipped; a margin of an hour gives up the ids just as well.
            clock.ahead = 0
            chat = Conversation.load(
                chat.save(folder / "chat.json"), client=client, clock=clock, expiry_margin=AN_HOUR
            )
        ask(chat, "And with small children?", folder)

        print("\n--- saved, and loaded again ---")
        path = chat.save(folder / "chat.json")
        chat = Conversation.load(path, client=client, clock=clock)
        print(f"{path}: {len(chat.turns)} turns, {chat.usage.total_tokens} tokens so far")
        ask(chat, "Thank you. What was my first question?", folder)


if __name__ == "__main__":
    main()
