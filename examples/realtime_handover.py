"""From Chat Completions to a Realtime session and back: `python examples/realtime_handover.py`.

With OPENAI_API_KEY it talks to OpenAI, else to the stand-in server on your machine. It needs the
extra `realtime`, and keeps the chat in `example-data/realtime-handover`: run it again to go on.
"""

import base64
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openai import OpenAI

from conversation import AssistantTurn, Conversation
from conversation.realtime import Recorder, seed_events
from conversation.testing import StandIn

FOLDER = Path("example-data", "realtime-handover")
MODEL = "gpt-realtime-2"
INSTRUCTIONS = "You know a lot about dogs."
SILENCE = bytes(2 * 24_000)
"""A second, by which the server hears that the user has finished."""


@contextlib.contextmanager
def some_server() -> Iterator[None]:
    """Use OpenAI if there is a key, else point the environment to a stand-in."""
    if os.environ.get("OPENAI_API_KEY"):
        yield
        return
    print("No OPENAI_API_KEY: talking to the stand-in on this machine, which hums its answers.")
    with StandIn() as server:
        os.environ |= {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "stand-in"}
        yield


def speech(client: OpenAI, text: str) -> bytes:
    """Return what a microphone would give: 24 kHz mono s16le."""
    spoken = client.audio.speech.create(
        model="gpt-4o-mini-tts", voice="sage", input=text, response_format="pcm"
    )
    return spoken.content + SILENCE


class Call:
    """A Realtime session: what is sent and what is received is shown to the recorder.

    Args:
        connection: The SDK's connection, or any that sends and receives events.
        chat: The conversation that is seeded and kept.
    """

    def __init__(self, connection: Any, chat: Conversation) -> None:
        self.connection = connection
        self.recorder = Recorder(chat)
        session = {
            "type": "realtime",
            "instructions": INSTRUCTIONS,
            "audio": {"input": {"transcription": {"model": "gpt-transcribe"}}},
        }
        self.send({"type": "session.update", "session": session})
        for event in seed_events(chat):
            self.send(event)

    def send(self, event: dict[str, Any]) -> None:
        """Send one event."""
        self.recorder.sent(event)
        self.connection.send(event)

    def say(self, sound: bytes) -> None:
        """Send what the user says, in pieces of 40 ms."""
        for start in range(0, len(sound), 1920):
            piece = base64.b64encode(sound[start : start + 1920]).decode()
            self.send({"type": "input_audio_buffer.append", "audio": piece})

    def listen(self, *until: str) -> Any:
        """Receive events until these kinds have come, and print the turns that are kept."""
        awaited = set(until)
        for event in self.connection:
            for turn in self.recorder.received(event):
                cut = " (cut off)" if isinstance(turn, AssistantTurn) and turn.interrupted else ""
                print(f"  kept: {turn.role}: {turn.text or '…'}{cut}")
            awaited.discard(event.type)
            if not awaited:
                return event
        raise ConnectionError("the session ended too early")


def talk(client: OpenAI, chat: Conversation) -> None:
    """Speak in a Realtime session, and interrupt an answer."""
    question, interruption = speech(client, "Tell me about my dog"), speech(client, "Stop please")
    with client.realtime.connect(model=MODEL) as connection:
        call = Call(connection, chat)
        try:
            call.say(question)
            item = call.listen("response.done").response.output[0]
            print("The user talks over the answer, of which 0.8 s were played:")
            call.say(interruption)
            cut = {"item_id": item.id, "content_index": 0, "audio_end_ms": 800}
            call.send({"type": "conversation.item.truncate", **cut})
            call.listen("conversation.item.truncated", "response.done")  # in whichever order
        finally:
            call.recorder.close()  # keeps what has begun, if the connection broke


def main() -> None:
    """Chat, hand over, talk, come back, and resume as another process would."""
    settings: dict[str, Any] = {"store": FOLDER, "instructions": INSTRUCTIONS}
    with some_server(), OpenAI() as client:
        with Conversation.open("dogs", client=client, **settings) as chat:
            print(f"On Chat Completions, after {len(chat.turns)} turns:")
            print(f"  {chat.say('My dog is called Rex.').text}")
            print(f"In a Realtime session, seeded with {len(chat.turns)} turns:")
            talk(client, chat)
            print("Back on Chat Completions:")
            print(f"  {chat.say('What did I ask you?').text}")
        with Conversation.open("dogs", client=client, **settings) as chat:
            print(f"Resumed with {len(chat.turns)} turns:")
            print(f"  {chat.say('Goodbye').text}")


if __name__ == "__main__":
    main()
