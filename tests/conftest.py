"""What all tests share: a clock that is moved, a stand-in, and an environment of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from conversation import Conversation, _client
from conversation.testing import StandIn

START = 1_762_000_000.0


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVERSATION_HOME", str(tmp_path / "home"))
    _client._default_client.cache_clear()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still at a time of 2025."""
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[StandIn]:
    """A stand-in on the same clock."""
    with StandIn(clock=clock) as server:
        yield server


@pytest.fixture
def client(server: StandIn) -> OpenAI:
    """A client of the stand-in."""
    return server.client()


@pytest.fixture
def chat(client: OpenAI, clock: Clock) -> Conversation:
    """An empty conversation with the stand-in, on the same clock."""
    return Conversation(client=client, clock=clock)
