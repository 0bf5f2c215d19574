"""A conversation with some of everything, for each export format."""

from __future__ import annotations

import pytest

from conversation import AssistantTurn, AudioInput, Conversation, FileInput, ImageInput
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import PNG, SOUND

HOSTILE = "<script>alert(1)</script> & \"x\" 'y' `z` \u202ereversed\x1b[31m\x00 </p></article>"


def weather(city: str) -> str:
    """The weather."""
    return f"Rain in {city} & <b>wind</b>"


@pytest.fixture
def full(server: StandIn, clock: Clock) -> Conversation:
    """A conversation with some of everything."""
    chat = Conversation(
        client=server.client(), clock=clock, tools=[weather], instructions="Be brief."
    )
    chat.add_assistant("Good morning!")
    chat.say("Is a dog a friend?")
    chat.say(AudioInput(SOUND, transcript="And a cat?"), ImageInput(PNG))
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    chat.say("The weather?")
    chat.say(HOSTILE)
    chat.add_user(FileInput(b"%PDF", "a.pdf"), "Read it")
    chat.add(AssistantTurn(content="It says …", interrupted=True))
    chat.say("Go on", audio={"format": "mp3"})
    return chat
