"""A manual clock, a stand-in on it, and an isolated environment for each test."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from openai import OpenAI

from conversation import Conversation, _client
from conversation.testing import StandIn
from tests.postgres import Postgres
from tests.samples import START

if importlib.util.find_spec("openai.types.realtime") is None:  # in the SDK's first versions
    collect_ignore_glob = ["realtime/*", "*/test_realtime*.py"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as what a script starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

for name, examples in {"quick": 15, "usual": 40, "thorough": 1000}.items():
    settings.register_profile(
        name,
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        derandomize=name != "thorough",  # no run fails by what its dice alone brought
    )
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "usual"))


class Clock:
    """A clock that moves only when a test moves it."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _isolated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (
        "CONVERSATION_STORE",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "OPENAI_ORG_ID",
        "OPENAI_PROJECT_ID",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVERSATION_HOME", str(tmp_path / "home"))
    _client._default_client.cache_clear()


@pytest.fixture
def clock() -> Clock:
    """A manual clock."""
    return Clock()


@pytest.fixture
def server(clock: Clock) -> Iterator[StandIn]:
    """A stand-in on the manual clock."""
    with StandIn(clock=clock) as server:
        yield server


@pytest.fixture
def default_server(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The same stand-in, which the environment names as the API."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    return server


@pytest.fixture
def client(server: StandIn) -> OpenAI:
    """A client of the stand-in."""
    return server.client()


@pytest.fixture
def chat(client: OpenAI, clock: Clock) -> Conversation:
    """An empty conversation with the stand-in, on the manual clock."""
    return Conversation(client=client, clock=clock)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for the whole test run."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture
def schema(postgres: Postgres) -> str:
    """An empty schema of the server."""
    name = f"s{os.urandom(6).hex()}"
    postgres.execute(f"CREATE SCHEMA {name}")
    return name
