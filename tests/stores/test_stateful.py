"""A stateful test of saved sessions: random changes, reopenings and crashes."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, cast

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from conversation import AsyncConversation, Conversation, FileStore, PostgresStore
from conversation.stores._format import END
from tests.postgres import Postgres
from tests.samples import entry_from_turn
from tests.stores.machine import SessionMachine
from tests.strategies import words

pieces = st.floats(0, 1)


class Blocking:
    """`AsyncConversation` with the interface of `Conversation`."""

    def __init__(self, chat: AsyncConversation, run: Callable[[Any], Any]) -> None:
        self._chat = chat
        self._run = run

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._chat, name)
        if not callable(value):
            return value

        def called(*args: Any, **kwargs: Any) -> Any:
            result = value(*args, **kwargs)
            return self._run(result) if inspect.isawaitable(result) else result

        return called


class AsyncTwin(SessionMachine):
    """The same changes by `AsyncConversation`."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()

    def teardown(self) -> None:
        """Close all objects and the event loop."""
        super().teardown()
        self.loop.close()

    def open(self, **options: Any) -> Conversation:
        """Open the session in an object of the other twin."""
        run = self.loop.run_until_complete
        opening = AsyncConversation.open(self.id, store=self.store, clock=self.clock, **options)
        return cast("Conversation", Blocking(run(opening.__aenter__()), run))


class FileMachine(SessionMachine):
    """A session in files, which may be torn."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FileStore(self.folder, fsync=False)

    def teardown(self) -> None:
        """Close all objects and remove the folder."""
        super().teardown()
        shutil.rmtree(self.folder)

    @property
    def path(self) -> Path:
        """Return the path of the document."""
        return self.folder / "s.json"

    def saved(self) -> bytes:
        """Return the document."""
        return self.path.read_bytes() if self.path.exists() else b""

    @precondition(lambda self: self.exists)
    @rule(indent=st.sampled_from([None, 2]))
    def reformat(self, indent: int | None) -> None:
        """Reformat the file, as `jq` does, while no object is open."""
        for chat in self.chats:
            chat.close()
        self.chats = [self.opened()]
        self.chats.pop().close()
        self.path.write_text(json.dumps(json.loads(self.path.read_bytes()), indent=indent))

    # --- crashes -------------------------------------------------------------------------------

    @precondition(lambda self: self.exists and self.is_laid_out())
    @rule(
        text=words | st.sampled_from(["x" * 3000, "]}\n", '"},\n{"role":"user","content":"x"}']),
        where=pieces,
        kind=st.sampled_from(["cut", "zeros", "old end", "end first"]),
    )
    def lose_power(self, text: str, where: float, kind: str) -> None:
        """Lose power during an append: any part of it may be on the disk."""
        old = self.path.read_bytes()
        in_flight = self.in_flight(text)
        new = old[: -len(END)] + in_flight
        cut = len(old) - len(END) + int(where * len(in_flight))
        torn = {
            "cut": new[:cut],
            "zeros": new[:cut] + bytes(len(new) - cut),
            "old end": new[:cut] + old[cut:],
            "end first": old[:cut] + bytes(max(0, cut - len(old))) + new[cut:],
        }[kind]
        self.abandon()
        self.path.write_bytes(torn)
        self.resume(self.opened(), text)

    @precondition(lambda self: self.exists and self.is_laid_out())
    @rule(text=words, where=pieces, closing=st.integers(0, 4), survivor=st.booleans())
    def be_killed(self, text: str, where: float, closing: int, survivor: bool) -> None:
        """Kill a process during an append; another one may have the session open, and continue.

        Bytes beyond the old end are written first, the closing bytes last.
        """
        old = self.path.read_bytes()
        in_flight = self.in_flight(text)
        beyond, first = in_flight[len(END) :], in_flight[: len(END)]
        if where < 0.9:
            torn = old + beyond[: int(where / 0.9 * len(beyond))]
        else:
            torn = old[: -len(END)] + first[:closing] + END[closing:] + beyond
        other = self.chats.pop() if self.chats and survivor else None
        self.abandon()
        with self.path.open("r+b") as file:
            file.write(torn)
        if other is None:
            self.resume(self.opened(), text)
            return
        other.set_title("I am still here")
        self.title = "I am still here"
        self.resume(other, text)

    def in_flight(self, text: str) -> bytes:
        """Return the bytes that an append writes in place of the closing bytes."""
        entry = orjson.dumps({"role": "user", "content": text})
        return (b",\n" if self.turns else b"\n") + entry + END

    def is_laid_out(self) -> bool:
        """Return True if the file has one turn per line, so that an append is possible."""
        data = self.path.read_bytes()
        return data.endswith(END) and data.count(b"\n") == len(self.turns) + 2

    @invariant()
    def document_has_all_acknowledged_changes(self) -> None:
        """Compare the document with the acknowledged changes; no change, no document."""
        assert self.path.exists() is self.exists
        if not self.exists:
            return
        document = json.loads(self.path.read_bytes())
        assert document["turns"] == [entry_from_turn(turn) for turn in self.turns]
        assert (document["title"], document["metadata"]) == (self.title, self.metadata)

    @invariant()
    def no_file_is_left_over(self) -> None:
        """Assert that the sound of undone turns is deleted."""
        folder = self.folder / "s.audio"
        kept = len(list(folder.iterdir())) if folder.exists() else 0
        assert kept == sum(len(sounds) for sounds in self.sounds) + self.pictures


class AsyncFileMachine(FileMachine, AsyncTwin):
    """A session in files, changed by the async twin."""


class PostgresMachine(SessionMachine):
    """A session in rows, whose holders may be killed."""

    server: ClassVar[Postgres]
    schema: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.id = f"s{os.urandom(6).hex()}"
        self.store = self.another_store()

    def another_store(self) -> PostgresStore:
        """Return a store as another process has it."""
        return PostgresStore(self.server.url, schema=self.schema)

    def rows(self, columns: str, table: str, rest: str) -> Any:
        """Return rows of the session."""
        return self.server.execute(
            f"SELECT {columns} FROM {self.schema}.conversation_{table} "
            f"WHERE {'id' if table == 'sessions' else 'session'} = {rest}"
        )

    @property
    def key(self) -> str:
        """The session's key, as SQL."""
        return f"(SELECT key FROM {self.schema}.conversation_sessions WHERE id = '{self.id}')"

    def saved(self) -> Any:
        """Return all of the session's rows."""
        return (
            self.rows("header, revision, length", "sessions", f"'{self.id}'"),
            self.rows("entry", "turns", f"{self.key} ORDER BY position"),
        )

    @precondition(lambda self: self.exists)
    @rule(text=words, is_written=st.booleans(), survivor=st.booleans())
    def be_killed(self, text: str, is_written: bool, survivor: bool) -> None:
        """Kill a process that holds the session, before or after a write; its lease ends."""
        victim = self.another_store().session(self.id)
        assert victim.acquire() is not None
        if is_written:
            victim.append([orjson.dumps({"role": "user", "content": text})])
        self.server.execute(
            f"UPDATE {self.schema}.conversation_sessions SET held_until = clock_timestamp() "
            f"WHERE id = '{self.id}'"
        )
        other = self.chats.pop() if self.chats and survivor else None
        self.abandon()
        if other is None:
            self.resume(self.opened(), text)
            return
        other.set_title("I am still here")
        self.title = "I am still here"
        self.resume(other, text)

    @invariant()
    def rows_have_all_acknowledged_changes(self) -> None:
        """Compare the rows with the acknowledged changes; no change, no row, and no lease."""
        columns = "header, length, held_until > clock_timestamp(), size"
        found = self.rows(columns, "sessions", f"'{self.id}'")
        assert bool(found) is self.exists
        if not self.exists:
            return
        header, length, is_held, size = found[0]
        entries = [row[0] for row in self.rows("entry", "turns", f"{self.key} ORDER BY position")]
        assert [json.loads(entry) for entry in entries] == [*map(entry_from_turn, self.turns)]
        assert length == len(self.turns)
        assert not is_held
        assert size == sum(len(text.encode()) for text in (header, *entries))
        labels = json.loads(header)
        assert (labels["title"], labels["metadata"]) == (self.title, self.metadata)

    @invariant()
    def no_bytes_are_left_over(self) -> None:
        """Assert that the sound of undone turns is deleted."""
        kept = self.rows("count(*)", "blobs", self.key)[0][0]
        # The same bytes at the same position are stored once.
        assert kept == sum(len({*sounds}) for sounds in self.sounds) + self.pictures


class AsyncPostgresMachine(PostgresMachine, AsyncTwin):
    """A session in rows, changed by the async twin."""


TestSession = FileMachine.TestCase
TestSession.settings = settings(stateful_step_count=30)


def test_session_in_files_of_the_async_twin() -> None:
    """Random changes by the async twin are all in the files, and no others."""
    run_state_machine_as_test(AsyncFileMachine, settings=settings(max_examples=20))


@pytest.mark.parametrize("machine", [PostgresMachine, AsyncPostgresMachine])
def test_session_in_a_database(
    machine: type[PostgresMachine], postgres: Postgres, schema: str
) -> None:
    """Random changes of both twins are all in the database, and no others."""
    PostgresStore(postgres.url, schema=schema).create()
    machine.server, machine.schema = postgres, schema
    count = settings().max_examples // 8
    run_state_machine_as_test(
        machine, settings=settings(max_examples=count, stateful_step_count=30)
    )
