"""Long conversations: bounded uploads, across resumes and estimates that are too low."""

from __future__ import annotations

from pathlib import Path

import pytest
from openai import OpenAI

from conversation import AssistantTurn, AudioInput, Context, Conversation, FileStore, UserTurn
from conversation._values.turns import Turn
from conversation.testing import StandIn
from tests.conftest import Clock

pytestmark = pytest.mark.slow

EXCHANGES = 120
RATE = 8000


def sound(number: int) -> AudioInput:
    """Return about 0.5 s of sound, of a length that depends on the number."""
    return AudioInput.from_pcm(b"\1\0" * (RATE // 2 + number), RATE)


def upload_sizes(server: StandIn, path: str) -> list[int]:
    """Return the sizes of the requests to one endpoint, in bytes."""
    sent = [request for request in server.requests if request.path.endswith(path)]
    return [int(request.headers["content-length"]) for request in sent]


def voice_of(turn: Turn) -> str:
    """Return the audio id of an answer."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    assert turn.audio.id
    return turn.audio.id


def test_spoken_exchanges_across_three_resumes(
    server: StandIn, client: OpenAI, clock: Clock, tmp_path: Path
) -> None:
    """In a small window, uploads stay bounded and each recording is transcribed once."""
    store = FileStore(tmp_path, fsync=False)
    context = Context(2000, 60_000, user_audio_turns=3, assistant_audio_turns=4)

    def opened() -> Conversation:
        return Conversation.open(
            "long", store=store, client=client, clock=clock, context=context, transcribe=True
        )

    chat, spent, healed = opened(), 0, 0
    for number in range(EXCHANGES):
        if number and number % 30 == 0:
            chat.close()
            clock.now += 20 if number == 60 else 86_400
            chat = opened()
        if number % 40 == 20:
            server.forget(voice_of(chat.turns[-1]))
            healed += 1
        turn = chat.say(sound(number))
        assert turn.audio
        assert turn.usage
        # The estimate bounds it; after a resume nothing has corrected the estimate yet.
        assert turn.usage.prompt_tokens <= 2000 * 1.3
        spent += turn.usage.total_tokens
        clock.now += 20
    chat.close()

    uploads = upload_sizes(server, "/chat/completions")
    assert len(uploads) == EXCHANGES + healed
    assert max(uploads[40:]) <= 1.2 * max(uploads[20:40])
    assert max(uploads) < 60_000
    transcribed = upload_sizes(server, "/transcriptions")
    assert len(transcribed) == EXCHANGES - 3
    assert len(
        {request["file"]["size"] for request in server.requests if "file" in request}
    ) == len(transcribed)

    with opened() as chat:
        assert len(chat.turns) == 2 * EXCHANGES
        assert chat.usage.total_tokens == spent
        for number, question in enumerate(chat.turns[::2]):
            assert isinstance(question, UserTurn)
            [said] = question.content
            assert isinstance(said, AudioInput)
            assert said.read() == sound(number).read()
            assert bool(said.transcript) == (number < EXCHANGES - 3)
        first = chat.render().items[0]
        assert first.why == "left out, over budget"


@pytest.mark.parametrize("most", [40_000, 100_000])
def test_max_upload_bytes_bounds_sound(
    server: StandIn, client: OpenAI, clock: Clock, most: int
) -> None:
    """Recordings without transcripts are sent as sound until `max_upload_bytes` is reached."""
    chat = Conversation(client=client, clock=clock, context=Context(max_upload_bytes=most))
    for number in range(40):
        chat.say(sound(number))
    uploads = upload_sizes(server, "/chat/completions")
    assert max(uploads) < most + 20_000
    sounds = [
        sum(
            len(m["content"][0]["input_audio"]["data"])
            for m in r["messages"]
            if m["role"] == "user"
        )
        for r in server.requests
    ]
    assert most - 2 * 11_000 < max(sounds) <= most
    assert sounds[-1] > most - 2 * 11_000
