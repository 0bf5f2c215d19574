"""A spoken chat that goes on after its audio has expired: `python examples/quickstart.py [folder]`.

With OPENAI_API_KEY it talks to OpenAI, else to the stand-in server on your machine. It prints for
each question as what the earlier answers were sent. The session and its sound are saved in the
folder (default: `example-data/quickstart`). A second process resumes it an hour later, after its
audio ids have expired.
"""

import argparse
import contextlib
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from conversation import AssistantTurn, AudioInput, Conversation, FileStore
from conversation.testing import StandIn

FOLDER = Path("example-data", "quickstart")
AN_HOUR = 3600.0
QUESTIONS = ("Is a golden retriever a good family dog?", "Why do you say they are loyal?")
LATER = ("And with small children?", "Thank you. What was my first question?")


class Clock:
    """Clock that can be moved ahead."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead

    def __call__(self) -> float:
        """Return the Unix time in seconds."""
        return time.time() + self.ahead


@contextlib.contextmanager
def some_server(clock: Clock) -> Iterator[None]:
    """Use OpenAI if there is a key, else point the environment to a stand-in."""
    if os.environ.get("OPENAI_API_KEY"):
        print("OPENAI_API_KEY is set: talking to OpenAI.")
        yield
        return
    print("No OPENAI_API_KEY: talking to the stand-in on this machine, which hums its answers.")
    with StandIn(audio_lifetime=AN_HOUR, clock=clock) as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "stand-in"}
        yield


def ask(chat: Conversation, question: str | AudioInput, folder: Path) -> AssistantTurn:
    """Ask one question, show as what the earlier answers were sent, and save the spoken answer."""
    print(f"\nyou:    {question if isinstance(question, str) else '(the answer above, as sound)'}")
    reply = chat.say(question)
    # Rendered after the exchange: before it, nobody knows which ids the server has lost.
    answers = [item.why for item in chat.render().items if item.role == "assistant"]
    for why, group in itertools.groupby(enumerate(answers[:-1], 1), key=lambda answer: answer[1]):
        first, *others = [number for number, _ in group]
        which = f"answer {first}"
        if others:
            which = f"answers {first} {'to' if others[1:] else 'and'} {others[-1]}"
        print(f"sent:   {which} as {why.replace('lost it', 'lost them') if others else why}")
    print(f"model:  {reply.text}")
    if reply.audio:
        path = reply.audio.save(folder / f"answer-{len(answers)}.wav")
        print(f"heard:  {path} ({reply.audio.duration:.1f} s)")
    return reply


def first_hour(folder: Path, clock: Clock) -> None:
    """Ask two questions in text, and one by voice."""
    with Conversation.open(
        "quickstart", store=FileStore(folder), clock=clock, instructions="Answer in one sentence."
    ) as chat:
        print(f"Session of {len(chat.turns)} turns in {folder}")
        for question in QUESTIONS:
            reply = ask(chat, question, folder)
        if reply.audio:
            # The spoken answer stands in for a microphone.
            ask(chat, AudioInput(reply.audio.read(), transcript=reply.text), folder)


def an_hour_later(folder: Path, clock: Clock, margin: float) -> None:
    """Resume the session in another process, and ask two more questions."""
    with Conversation.open(
        "quickstart", store=FileStore(folder), clock=clock, create=False, expiry_margin=margin
    ) as chat:
        print(f"Session of {len(chat.turns)} turns in {folder}")
        for question in LATER:
            ask(chat, question, folder)
        print(f"\n{chat.usage.total_tokens} tokens in all; the session is in {folder}")


def main() -> None:
    """Talk, then resume in another process an hour later."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=FOLDER)
    parser.add_argument("--later", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--margin", type=float, default=30.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.later is not None:
        an_hour_later(options.folder, Clock(options.later), options.margin)
        return
    clock = Clock(0)
    on_openai = bool(os.environ.get("OPENAI_API_KEY"))
    options.folder.mkdir(parents=True, exist_ok=True)
    with some_server(clock):
        first_hour(options.folder, clock)
        banner = "\nAn hour later, in another process: the audio ids have expired."
        print(banner, flush=True)
        # OpenAI's clock cannot be moved; a margin of an hour gives up the ids, too.
        clock.ahead, margin = (0.0, AN_HOUR) if on_openai else (AN_HOUR + 180, 30.0)
        later = ["--later", str(clock.ahead), "--margin", str(margin)]
        subprocess.run([sys.executable, __file__, str(options.folder), *later], check=True)


if __name__ == "__main__":
    main()
