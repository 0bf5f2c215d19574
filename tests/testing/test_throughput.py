"""Hundreds of concurrent conversations in one process, none lost or mixed up."""

from __future__ import annotations

import asyncio
import io
import wave
from collections import Counter
from collections.abc import AsyncIterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioDelta,
    Conversation,
    FileStore,
    TranscriptDelta,
    TurnFinished,
)
from conversation.testing import StandIn, _voice
from tests.conftest import Clock

pytestmark = pytest.mark.slow

CHATS = 200
TURNS = 2


def echo(messages: Sequence[Mapping[str, Any]]) -> str:
    """Return an answer of the question and the number of earlier answers sent by voice."""
    voices = sum(1 for message in messages if message.get("audio"))
    return f"{messages[-1]['content']} recalls-{voices}"


def questions(name: str) -> list[str]:
    """Return the questions of a conversation, each a unique word."""
    return [f"{name}-{number}" for number in range(TURNS)]


def answers(name: str) -> list[str]:
    """Return the expected answers, with all earlier ones sent by voice."""
    return [f"{question} recalls-{number}" for number, question in enumerate(questions(name))]


def check(turns: Sequence[Any], name: str) -> None:
    """Assert that the turns belong to this conversation and the sound to its transcript."""
    said = [turn.text for turn in turns]
    assert said[::2] == questions(name)
    assert said[1::2] == answers(name)
    for turn in turns[1::2]:
        assert isinstance(turn, AssistantTurn)
        assert not turn.interrupted
        assert turn.audio is not None
        assert turn.audio.duration == 0.4 * len(turn.text.split())
        with wave.open(io.BytesIO(turn.audio.read())) as sound:
            assert sound.getparams()[:3] == (1, 2, 24_000)
            assert sound.readframes(10**7) == _voice.spoken(turn.text, "pcm16")


async def hear(events: AsyncIterable[Any], answer: str) -> None:
    """Assert that the stream brings the answer, its sound and the turn."""
    words, sound, finished = "", b"", []
    async for event in events:
        match event:
            case TranscriptDelta(text):
                words += text
            case AudioDelta(data):
                sound += data
            case TurnFinished(turn):
                finished.append(turn.text)
    assert (words, finished) == (answer, [answer])
    assert sound == _voice.spoken(answer, "pcm16")


def test_two_hundred_conversations_stream_at_once(
    server: StandIn, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of 200 concurrent conversations gets and saves its own answers."""
    monkeypatch.setattr("conversation.testing._answers.default_text", echo)
    client = server.async_client(timeout=600)
    store = FileStore(tmp_path, fsync=False)
    names = [f"chat{number}" for number in range(CHATS)]

    async def talk(name: str, all_stream: asyncio.Barrier) -> None:
        async with AsyncConversation.open(name, store=store, client=client, clock=clock) as chat:
            for question, answer in zip(questions(name), answers(name), strict=True):
                async with chat.stream(question) as events:
                    if question.endswith("-0"):
                        await all_stream.wait()
                    await hear(events, answer)
            check(chat.turns, name)

    async def main() -> None:
        all_stream = asyncio.Barrier(CHATS)
        async with asyncio.TaskGroup() as tasks:
            for name in names:
                tasks.create_task(talk(name, all_stream))

    asyncio.run(main())
    assert sorted(info.id for info in store.list()) == sorted(names)
    for name in names:
        with Conversation.open(name, store=store, create=False, read_only=True) as chat:
            assert chat.recovered is None
            check(chat.turns, name)
        assert len(list((tmp_path / f"{name}.audio").iterdir())) == TURNS
    assert len(list(tmp_path.iterdir())) == 3 * CHATS, "a document, a lock and a folder each"
    asked = Counter(request["messages"][-1]["content"] for request in server.requests)
    assert asked == Counter(question for name in names for question in questions(name))
    for request in server.requests:
        said = [message for message in request["messages"] if message["role"] == "user"]
        assert len({message["content"].partition("-")[0] for message in said}) == 1
