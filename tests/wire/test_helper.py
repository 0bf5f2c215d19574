"""The SDK's own helper for streams, whose events and completions are taken as answers."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from conversation import AssistantTurn, AsyncConversation, Conversation, Form
from conversation._wire.reading import turn_from_entry
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import SOUND, answer, spoken

ID = "audio_" + "6" * 32


def arguments(chat: Conversation | AsyncConversation) -> dict[str, Any]:
    """Return the arguments of the helper, which streams in any case."""
    request: Any = chat._requests.request({"stream": True})
    return {key: request[key] for key in request if key != "stream"}


def helper_of(client: Any) -> Any:
    """Return `chat.completions.stream`, which older clients have below `beta`."""
    is_here = hasattr(client.chat.completions, "stream")
    return (client if is_here else client.beta).chat.completions.stream


def check(chat: Conversation | AsyncConversation, server: StandIn, clock: Clock) -> None:
    """Check that the answer came whole and is sent as voice."""
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert (turn.text, turn.finish_reason, turn.interrupted) == ("A fine dog.", "stop", False)
    assert turn.usage is not None
    assert turn.audio is not None
    assert turn.audio.expires_at == clock() + 3600
    assert turn.audio.duration == pytest.approx(1.2)
    audio_id = turn.audio.id
    assert audio_id is not None
    server.forget(audio_id)  # it is one that was issued


@pytest.mark.parametrize("given", ["manager", "stream", "events", "completion"])
def test_answers_of_the_helper_are_whole(
    server: StandIn, client: OpenAI, chat: Conversation, clock: Clock, given: str
) -> None:
    """The helper's manager, its stream, its events and its final completion are taken."""
    chat.add_user("Is it?")
    server.will_answer("A fine dog.")
    manager = helper_of(client)(**arguments(chat))
    if given == "manager":
        chat.add_completion(manager)
    else:
        with manager as stream:
            if given == "stream":
                chat.add_completion(stream)
            elif given == "events":
                chat.add_completion(list(stream))
            else:
                completion = stream.get_final_completion()
                audio = completion.choices[0].message.audio
                assert audio is not None
                assert audio.id.count("audio_") == 2, "no longer what this test is for"
                chat.add_completion(completion)
    check(chat, server, clock)


@pytest.mark.parametrize("given", ["manager", "stream"])
def test_answers_of_the_async_helper_are_whole(server: StandIn, clock: Clock, given: str) -> None:
    """The same goes for the async helper."""

    async def main() -> None:
        client: AsyncOpenAI = server.async_client()
        chat = AsyncConversation(client=client, clock=clock)
        await chat.add_user("Is it?")
        server.will_answer("A fine dog.")
        manager = helper_of(client)(**arguments(chat))
        if given == "manager":
            await chat.add_completion(manager)
        else:
            async with manager as stream:
                await chat.add_completion(stream)
        check(chat, server, clock)

    asyncio.run(main())


def test_tool_calls_of_the_helper_come_once(
    server: StandIn, client: OpenAI, chat: Conversation
) -> None:
    """Events that repeat what came add nothing."""
    chat.add_user("Weather?")
    server.will_answer(tool_calls=[("weather", {"city": "Oslo"}), ("weather", {"city": "Rome"})])
    turn = chat.add_completion(helper_of(client)(**arguments(chat)))
    assert [call.arguments for call in turn.tool_calls] == ['{"city":"Oslo"}', '{"city":"Rome"}']


@pytest.mark.parametrize(("given", "kept"), [(ID * 2, ID), (ID * 7, ID), (ID, ID)])
def test_repeated_id_counts_once(chat: Conversation, given: str, kept: str) -> None:
    """An id that was joined with itself is used once, in answers and in documents."""
    chat.add_completion(spoken(audio_id=given))
    assert chat.render().messages == [{"role": "assistant", "audio": {"id": kept}}]
    chat.add_completion(answer(content="x", audio={"id": f"{ID}audio_7", "transcript": "x"}))
    assert chat.render().items[1].form is Form.TRANSCRIPT


def test_joined_base64_is_decoded_piece_by_piece() -> None:
    """Pieces of base64 that each end in padding are decoded when joined."""
    pieces = [SOUND[at : at + 1000] for at in range(0, len(SOUND), 1000)]
    joined = "".join(base64.b64encode(piece).decode() for piece in pieces)
    assert "=" in joined[:-4]
    turn = turn_from_entry({"role": "assistant", "audio": {"id": ID, "data": joined}})
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    assert turn.audio.read() == SOUND
