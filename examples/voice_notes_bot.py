"""A messenger bot that hears voice notes and answers by voice: `voice_notes_bot.py`.

Its transport is the class `Messenger`, to be replaced by your messenger's: here messages are files
in the folder example-data, which each run of this example begins anew. As messengers do, it
delivers a message until it is acknowledged, and some twice. The bot is killed while a tool runs,
and before it has sent an answer, and started again: each message is answered once. With
OPENAI_API_KEY it talks to OpenAI, else to a stand-in server on your machine.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from conversation import AudioInput, Conversation, FileStore
from conversation.errors import UnsupportedAudio
from conversation.testing import StandIn

DATA = Path("example-data", "voice-notes")
INSTRUCTIONS = "You answer voice notes for a bakery, in a sentence or two."


@dataclasses.dataclass(frozen=True)
class Message:
    """A message that somebody has sent; `key` names this delivery of it."""

    key: str
    id: str
    chat: str
    name: str
    text: str = ""
    voice: bytes = b""


class Messenger:
    """Messages in a folder: those to be delivered, and the answers that were sent."""

    def __init__(self, folder: Path) -> None:
        self._inbox, self._sent = folder / "inbox", folder / "sent"
        for each in (self._inbox, self._sent):
            each.mkdir(parents=True, exist_ok=True)

    def write(self, message: Message) -> None:
        """Have a message delivered; users do that."""
        fields = dataclasses.asdict(message) | {"voice": message.voice.hex()}
        (self._inbox / f"{message.key}.json").write_text(json.dumps(fields))

    def messages(self) -> Iterator[Message]:
        """Yield what was not acknowledged yet, oldest first."""
        for path in sorted(self._inbox.glob("*.json")):
            fields = json.loads(path.read_text())
            yield Message(**{**fields, "voice": bytes.fromhex(fields["voice"])})

    def send(self, to: Message, text: str, voice: bytes | None) -> None:
        """Send an answer to a message; the same one again replaces it."""
        (self._sent / f"{to.id}.txt").write_text(text)
        if voice:
            (self._sent / f"{to.id}.wav").write_bytes(voice)

    def acknowledge(self, message: Message) -> None:
        """End the deliveries of a message."""
        (self._inbox / f"{message.key}.json").unlink()


def opening_hours(day: str) -> str:
    """Return the hours at which the bakery is open.

    Args:
        day: A day of the week.
    """
    die_once("tool")
    return "closed" if day == "Monday" else "7 to 13"


def heard(voice: bytes) -> AudioInput:
    """Return a voice note as the model takes it; most messengers send Ogg/Opus."""
    with contextlib.suppress(UnsupportedAudio):
        return AudioInput(voice)  # WAV and MP3 go as they are
    return AudioInput.convert(voice, to="mp3")  # needs the extra `formats`


def answer(message: Message, messenger: Messenger, store: FileStore) -> None:
    """Answer a message, whoever has begun to, and however often it is delivered."""
    with (
        Conversation.open(
            f"bakery:{message.chat}", store=store, tools=[opening_hours], instructions=INSTRUCTIONS
        ) as chat,
        chat.hold(),  # another worker's answer in this chat comes before or after this one
    ):
        content = heard(message.voice) if message.voice else message.text
        reply = chat.say(content, name=message.name, message_id=message.id)
        die_once("unsent")
        messenger.send(message, reply.text, reply.audio.read() if reply.audio else None)
        print(f"  {message.key}: {message.name} is told {reply.text!r}", flush=True)


def work() -> None:
    """Answer all messages that are delivered."""
    messenger, store = Messenger(DATA), FileStore(DATA / "sessions")
    for message in messenger.messages():
        answer(message, messenger, store)
        messenger.acknowledge(message)


# --- the demonstration ----------------------------------------------------------------------------


def die_once(moment: str) -> None:
    """Kill this process, without any clean-up, if it is told to die at this moment."""
    if os.environ.get("DIES") == moment:
        print(f"  killed: {moment}", flush=True)
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def voice_note(seconds: float) -> bytes:
    """Return silence in the place of speech."""
    return AudioInput.from_pcm(bytes(int(24_000 * seconds) * 2), rate=24_000).read()


@contextlib.contextmanager
def model() -> Iterator[None]:
    """Provide a model to the bot."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    print("No OPENAI_API_KEY: talking to a stand-in on this machine, which hums its answers.")
    with StandIn() as server:
        for day in (
            "Sunday",
            None,
            None,
            "Monday",
        ):  # the first and the last question call the tool
            calls = [("opening_hours", {"day": day})] if day else []
            server.will_answer(tool_calls=calls)
        os.environ |= {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": server.url}
        yield
        print(f"{len(server.requests)} requests")


def main() -> None:
    """Have messages delivered, and start the bot until it has answered all of them."""
    shutil.rmtree(DATA, ignore_errors=True)
    messenger = Messenger(DATA)
    ann = Message("1", "1001", "family", "Ann", voice=voice_note(1.5))
    bob = Message("3", "1002", "family", "Zoë B.", text="And is there cake?")
    eve = Message("4", "1003", "eve", "Eve", voice=voice_note(0.5))
    again = (dataclasses.replace(ann, key="2"), dataclasses.replace(bob, key="5"))
    for message in (ann, bob, eve, *again):
        messenger.write(message)
    with model():
        for moment in ("tool", "unsent", "never"):
            print("the bot is started")
            bot = [sys.executable, __file__, "--work"]
            subprocess.run(bot, env={**os.environ, "DIES": moment}, check=moment == "never")
    for name in ("family", "eve"):
        with Conversation.open(
            f"bakery:{name}", store=FileStore(DATA / "sessions"), read_only=True
        ) as chat:
            print(f"{name}: {' '.join(turn.role for turn in chat.turns)}")
            print(chat.export(DATA / f"{name}.html"))


if __name__ == "__main__":
    if sys.argv[1:] == ["--work"]:
        work()
    else:
        main()
