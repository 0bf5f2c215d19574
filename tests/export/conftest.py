"""A conversation with some of everything, for each export format."""

from __future__ import annotations

import attrs
import pytest

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileInput,
    ImageInput,
    UserTurn,
)
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import PNG, SOUND

HOSTILE = "<script>alert(1)</script> & \"x\" 'y' `z` \u202ereversed\x1b[31m\x00 </p></article>"


def weather(city: str) -> str:
    """The weather."""
    return f"Rain in {city} & <b>wind</b>"


def add_picture(chat: Conversation, answer: AssistantTurn, picture: bytes) -> None:
    """Add a picture to the turn before an answer, as if another model had seen it."""
    position = chat.turns.index(answer) - 1
    turn = chat.turns[position]
    assert isinstance(turn, UserTurn)
    shown = attrs.evolve(turn, content=(*turn.content, ImageInput(picture)))
    chat._history.replace({position: shown})


@pytest.fixture
def full(server: StandIn, clock: Clock) -> Conversation:
    """A conversation with some of everything."""
    chat = Conversation(
        client=server.client(), clock=clock, tools=[weather], instructions="Be brief."
    )
    chat.add_assistant("Good morning!")
    chat.say("Is a dog a friend?")
    add_picture(chat, chat.say(AudioInput(SOUND, transcript="And a cat?")), PNG)
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
    chat.say("The weather?")
    chat.say(HOSTILE)
    chat.add_user(FileInput(b"%PDF", "a.pdf"), "Read it")
    chat.add(AssistantTurn(content="It says …", interrupted=True))
    chat.say("Go on", audio={"format": "mp3"})
    return chat
