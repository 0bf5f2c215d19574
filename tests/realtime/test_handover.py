"""The real SDK's clients between Chat Completions and a Realtime session of the stand-in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from openai import OpenAI

from conversation import AssistantTurn, AsyncConversation, AudioInput, Conversation, UserTurn
from conversation._values.turns import Turn
from conversation.realtime import AsyncRecorder, Recorder, seed_events
from conversation.testing import StandIn, _voice
from tests.conftest import Clock
from tests.realtime import events as e

MODEL = "gpt-realtime-2"
SPEECH = _voice.spoken("What was that again", "pcm16") + bytes(48_000)
"""Speech with the silence that ends it."""


class Talk:
    """A connection and a recorder: all that goes through one is shown to the other."""

    def __init__(self, connection: Any, chat: Conversation) -> None:
        self.connection = connection
        self.recorder = Recorder(chat)
        self.kept: list[Turn] = []

    def send(self, *events: Any) -> None:
        """Send events."""
        for event in events:
            self.recorder.sent(event)
            self.connection.send(event)

    def until(self, kind: str) -> Any:
        """Receive events up to the first of this kind, and return it."""
        while True:
            event = self.connection.recv()
            self.kept += self.recorder.received(event)
            if event.type == kind:
                return event


def pieces(sound: bytes) -> Iterator[Any]:
    """Yield the client's events with this sound, 40 ms each."""
    for at in range(0, len(sound), 1920):
        yield e.appended(sound[at : at + 1920])


def test_a_chat_goes_to_a_session_and_comes_back(
    server: StandIn, client: OpenAI, clock: Clock, tmp_path: Path
) -> None:
    """Chat, seed, speak, barge in, come back, restart: nothing is lost."""
    chat = Conversation.open("talk", store=tmp_path, client=client, clock=clock)
    chat.say("Good morning")
    with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection, chat)
        transcription = {"model": "gpt-transcribe"}
        audio: Any = {"input": {"transcription": transcription}}
        talk.send({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
        talk.send(*seed_events(chat))
        server.will_transcribe("What was that again?")
        server.will_answer("One two three four five six seven eight", hold_after=12)
        talk.send(*pieces(SPEECH))
        server.wait_until_held()
        talk.send(*pieces(SPEECH))  # the user talks over the answer
        assert talk.until("response.done").response.status == "cancelled"
        talk.until("response.done")
        cut = chat.turns[-3]
        talk.send(
            {
                "type": "conversation.item.truncate",
                "item_id": orjson.loads(cut.extra)["realtime_item_id"],
                "content_index": 0,
                "audio_end_ms": 400,
            }
        )
        talk.until("conversation.item.truncated")
        assert talk.recorder.close() == []
    _, _, question, heard, again, answer = chat.turns
    assert isinstance(question, UserTurn)
    assert question.text == "What was that again?"
    (sound,) = question.content
    assert isinstance(sound, AudioInput)
    assert sound.duration is not None
    assert 1.6 < sound.duration < 2.6
    assert isinstance(heard, AssistantTurn)
    assert heard.interrupted
    assert heard.audio is not None
    assert heard.audio.duration == 0.4
    assert len(heard.text.split()) <= 2
    assert isinstance(again, UserTurn)
    assert "1 of my earlier answers by voice and 1 from transcripts" in answer.text
    # Back on Chat Completions: the first answer is still voice, the others are transcripts.
    assert "1 of my earlier answers by voice and 2 from transcripts" in chat.say("And now?").text
    chat.close()
    with Conversation.open("talk", store=tmp_path, client=client, clock=clock) as chat:
        assert len(chat.turns) == 8
        clock.now += 4000
        assert "0 of my earlier answers by voice and 4 from transcripts" in chat.say("Later?").text


def test_the_async_twins_do_the_same(server: StandIn, clock: Clock) -> None:
    """With asyncio, a chat is seeded, spoken to, called for a tool, and comes back."""

    async def talk() -> None:
        client = server.async_client()
        chat = AsyncConversation(client=client, clock=clock)
        await chat.say("Good morning")
        seeds = await seed_events(chat)
        async with (
            client.realtime.connect(model=MODEL) as connection,
            AsyncRecorder(chat) as recorder,
        ):

            async def send(*events: Any) -> None:
                for event in events:
                    recorder.sent(event)
                    await connection.send(event)

            async def until(kind: str) -> None:
                while True:
                    event = await connection.recv()
                    await recorder.received(event)
                    if event.type == kind:
                        return

            await send(*seeds)
            server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
            await send(*pieces(SPEECH))
            await until("response.done")
            (call,) = chat.turns[-1].tool_calls  # type: ignore[union-attr]
            result = {"type": "function_call_output", "call_id": call.id, "output": "-3"}
            await send(
                {"type": "conversation.item.create", "item": result}, {"type": "response.create"}
            )
            await until("response.done")
            server.will_answer("A long story", hold_after=8)
            await send({"type": "response.create"})
            await until("response.output_audio.delta")
        # The connection broke off in the middle of the story.
        roles = [turn.role for turn in chat.turns]
        assert roles == ["user", "assistant", "user", "assistant", "tool", "assistant", "assistant"]
        assert chat.turns[-2].text.startswith("The tool says -3.")
        story = chat.turns[-1]
        assert isinstance(story, AssistantTurn)
        assert story.interrupted
        reply = await chat.say("And now?")
        assert "1 of my earlier answers by voice and 2 from transcripts" in reply.text
        assert chat.usage.total_tokens

    asyncio.run(talk())


@pytest.mark.parametrize("name", ["audio/pcmu", "audio/pcma"])
def test_a_telephone_session_is_kept(server: StandIn, client: OpenAI, name: str) -> None:
    """Sound of 8 kHz in both directions is kept at its own speed."""
    from conversation._values.samples import companded, resampled

    encoding = {"audio/pcmu": "mulaw", "audio/pcma": "alaw"}[name]
    chat = Conversation(client=client)
    with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection, chat)
        side = {"format": {"type": name}}
        audio: Any = {"input": side, "output": side}
        talk.send({"type": "session.update", "session": {"type": "realtime", "audio": audio}})
        server.will_answer("One two three")
        said = companded(resampled(SPEECH, 24_000, 8000), encoding)
        talk.send(*[e.appended(said[at : at + 320]) for at in range(0, len(said), 320)])
        talk.until("response.done")
    question, answer = chat.turns
    assert isinstance(question, UserTurn)
    assert isinstance(answer, AssistantTurn)
    (sound,) = question.content
    assert isinstance(sound, AudioInput)
    assert sound.duration is not None
    assert 1.6 < sound.duration < 2.6
    assert answer.audio is not None
    assert answer.audio.duration == pytest.approx(1.2, abs=0.01)


def test_a_long_call_id_is_answered_over_there(client: OpenAI) -> None:
    """A call that was left open is answered in the session, whatever the length of its id."""
    from conversation import ToolCall

    chat = Conversation(client=client)
    chat.add_user("Cold?")
    chat.add(AssistantTurn(tool_calls=[ToolCall("call_" + "y" * 33, "look", "{}")]))
    with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection, chat)
        seeds = seed_events(chat)
        result = {"call_id": seeds[-1]["item"]["call_id"], "output": "-3"}
        item = {"type": "function_call_output", **result}
        talk.send(
            *seeds,
            {"type": "conversation.item.create", "item": item},
            {"type": "response.create"},
        )
        talk.until("response.done")
    assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool", "assistant"]
    assert chat.turns[-1].text.startswith("The tool says -3.")
    assert chat.say("Thanks").text


def test_a_seed_with_sound_and_pictures_is_accepted(server: StandIn, client: OpenAI) -> None:
    """All that `seed_events` makes of a chat passes the checks of a session."""
    from conversation import FileInput, ImageInput
    from tests.samples import MP3, PNG

    chat = Conversation(client=client)
    chat.add_system("Be kind.")
    chat.add_user("Hi", AudioInput.from_pcm(bytes(16_000), 8000), AudioInput(MP3))
    chat.add_user(ImageInput(PNG), FileInput(b"%PDF", "a.pdf"))
    chat.add_assistant("Hello")
    with client.realtime.connect(model=MODEL) as connection:
        talk = Talk(connection, chat)
        talk.send(*seed_events(chat, sound=True), {"type": "response.create"})
        event = talk.until("response.done")
    assert event.response.status == "completed"
    assert len(chat.turns) == 5
    kinds = [received["type"] for received in server.requests]
    assert kinds == ["conversation.item.create"] * 4 + ["response.create"]
