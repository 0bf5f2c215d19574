"""A chatbot that is killed in mid-conversation and resumes: `python examples/resume.py`.

It starts itself several times. Each process says one thing and is killed by SIGKILL, while the
answer is on its way or right after it arrived. No turn is lost. It talks to the stand-in server on
your machine, and begins the folder `example-data/resume` anew.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

from conversation import Conversation, FileStore
from conversation.testing import StandIn

FOLDER = Path("example-data", "resume")
WORDS = ("Good morning.", "I have a dog.", "She is three years old.", "What do you know of me?")


def be_killed() -> None:
    """Kill this process like `kill -9`, without any clean-up."""
    if hasattr(signal, "SIGKILL"):
        os.kill(os.getpid(), signal.SIGKILL)
    os.abort()


def say_one_thing(folder: Path, words: str, moment: str) -> None:
    """Open the session, answer a question left open, say one thing, and be killed."""
    with Conversation.open("resume", store=FileStore(folder)) as chat:
        print(f"  process {os.getpid()}: {len(chat.turns)} turns so far", flush=True)
        if chat.unanswered:
            print("  the last question has no answer yet: retrying", flush=True)
            chat.reply()
        if moment == "before the answer":
            chat.add_user(words)
            threading.Thread(target=chat.reply).start()
            be_killed()
        print(f"  answer: {chat.say(words).text}", flush=True)
        be_killed()


def main() -> None:
    """Start the chatbot once per line of WORDS, and show the turns that it saved."""
    if len(sys.argv) == 4:
        say_one_thing(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
        return
    shutil.rmtree(FOLDER, ignore_errors=True)
    with StandIn() as server:
        environment = {**os.environ, "OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "stand-in"}
        for number, words in enumerate(WORDS):
            moment = "before the answer" if number % 2 else "after the answer"
            print(f"{words!r}; killed {moment}", flush=True)
            done = subprocess.run(
                [sys.executable, __file__, str(FOLDER), words, moment], env=environment, check=False
            )
            print(f"  it ended with status {done.returncode}")
        with Conversation.open("resume", store=FileStore(FOLDER), client=server.client()) as chat:
            if chat.unanswered:
                chat.reply()
            print("\nTurns after four kills:")
            for turn in chat.turns:
                print(f"  {turn.role:9} {turn.text}")


if __name__ == "__main__":
    main()
