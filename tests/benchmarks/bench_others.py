"""Comparisons with a list in a JSON file, and with `SQLiteSession` of `openai-agents`.

The latter needs the extra `bench`. Figures without a limit are for comparison.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from conversation import Conversation, FileStore
from tests.benchmarks.bench_sessions import WORDS, filled
from tests.benchmarks.measure import Result, compared

MESSAGE: Any = {"role": "user", "content": WORDS}
ANSWER: Any = {"role": "assistant", "content": WORDS}
SIZES = (10, 1000, 10_000)
EXCHANGES = 1000


def whole_file(path: Path, turns: int) -> Callable[[], object]:
    """Return a function that adds a message to a list and safely replaces the file of all."""
    messages = [MESSAGE] * turns
    temporary = path.with_suffix(".tmp")

    def add() -> None:
        messages.append(MESSAGE)
        with temporary.open("w") as file:
            json.dump(messages, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    return add


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_DIR")) as folder:
        root = Path(folder)
        for turns in SIZES:
            rounds = (20 if quick else 200) if turns < 10_000 else (5 if quick else 31)
            filled(root / str(turns), turns)
            with Conversation.open("session", store=FileStore(root / str(turns))) as chat:
                yield compared(
                    f"a durable text turn after {turns:,} / json.dump of all, fsync, rename",
                    lambda chat=chat: chat.add_user(WORDS),  # type: ignore[misc]
                    whole_file(root / f"{turns}.json", turns),
                    limit=float("inf"),
                    rounds=rounds,
                )
        yield from beside_sqlite(root, 30 if quick else 200)


def beside_sqlite(root: Path, rounds: int) -> Iterator[Result]:
    """Compare adding and resuming with the SQLite session of openai-agents."""
    try:
        from agents import SQLiteSession
    except ImportError:
        return
    turns = SIZES[1]
    database = root / "session.db"
    theirs = SQLiteSession("session", database)
    with asyncio.Runner() as runner:
        runner.run(theirs.add_items([MESSAGE] * turns))
        filled(root / "beside", turns)
        with Conversation.open("session", store=FileStore(root / "beside")) as chat:
            yield compared(
                f"a durable text turn after {turns:,} / openai-agents' SQLiteSession.add_items",
                lambda: chat.add_user(WORDS),
                lambda: runner.run(theirs.add_items([MESSAGE])),
                limit=float("inf"),
                rounds=rounds,
            )

        def get_items() -> None:
            session = SQLiteSession("session", database)
            runner.run(session.get_items())
            session.close()

        def first_request() -> None:
            with Conversation.open("session", store=store) as chat:
                chat.request()

        runner.run(theirs.clear_session())
        runner.run(theirs.add_items([MESSAGE, ANSWER] * EXCHANGES))
        store = filled(root / "exchanges", 2 * EXCHANGES)
        yield compared(
            f"opening {EXCHANGES:,} exchanges and the first request / openai-agents' get_items",
            first_request,
            get_items,
            limit=1.2,
            rounds=rounds // 5,
        )
    theirs.close()
