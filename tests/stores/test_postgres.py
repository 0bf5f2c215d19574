"""Sessions in PostgreSQL: leases, lost connections, refusals, forks, and pools."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
import multiprocessing
import os
import pickle
import random
import shlex
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import Any

import attrs
import orjson
import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Conversation,
    FileStore,
    PostgresStore,
    SystemTurn,
    UserTurn,
)
from conversation._values.media import kept_data
from conversation._values.turns import Turn
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionExists,
    SessionLocked,
    SessionNotFound,
    SessionTooNew,
    SessionUnavailable,
)
from conversation.stores import _postgres_answers, _postgres_database, _postgres_pool, _postgres_sql
from conversation.testing import StandIn
from tests.postgres import Postgres
from tests.samples import MP3, PNG, SOUND, spoken
from tests.stores.cases import HEADER, acquired, line, texts
from tests.stores.proxy import Moment, Proxy

APPEND = b"length = length +"
REWRITE = b"written AS"
HEAD = b"octet_length($6"
RELEASE = b"SET holder = NULL"


@pytest.fixture
def store(postgres: Postgres, schema: str) -> PostgresStore:
    """Return an empty store."""
    return PostgresStore(postgres.url, schema=schema)


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[Proxy]:
    """Return a proxy before the server."""
    with Proxy(postgres.port) as proxy:
        yield proxy


@pytest.fixture
def remote(proxy: Proxy, schema: str) -> PostgresStore:
    """Return an empty store behind the proxy, whose tables exist."""
    store = PostgresStore(url(proxy.port), schema=schema)
    store.create()
    list(store.list())
    return store


def url(port: int, database: str = "postgres") -> str:
    """Return the URL of a database at this port."""
    return f"postgresql://postgres:secret@127.0.0.1:{port}/{database}"


def expire(postgres: Postgres, schema: str) -> None:
    """Let all leases end now."""
    postgres.execute(
        f"UPDATE {schema}.conversation_sessions SET held_until = clock_timestamp() "
        "WHERE held_until IS NOT NULL"
    )


# --- tables ---------------------------------------------------------------------------------------


def test_tables_are_created_by_the_first_who_needs_them(store: PostgresStore) -> None:
    """The first turn creates them; `create` may be called again."""
    Conversation.open("s", store=store).add_user("Hello")
    store.create()
    store.create()


def test_many_may_create_the_tables_at_once(postgres: Postgres, schema: str) -> None:
    """Eight stores that find no tables create them together, without an error."""
    problems: list[BaseException] = []
    start = threading.Barrier(8)

    def begin() -> None:
        store = PostgresStore(postgres.url, schema=schema)
        start.wait()
        try:
            Conversation.open(os.urandom(4).hex(), store=store).set_title("T")
        except BaseException as error:
            problems.append(error)
            raise

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def test_missing_tables_name_the_command(postgres: Postgres, schema: str) -> None:
    """With `create=False` the error names the command that prints the statements."""
    store = PostgresStore(postgres.url, schema=schema, create=False)
    for call in (store.list, store.session("s").read, store.session("s").acquire):
        with pytest.raises(InvalidSetting, match=f"conversation sql --schema {schema}"):
            call()


def test_missing_schema_is_an_invalid_setting(postgres: Postgres) -> None:
    """The schema has to exist; the error names it."""
    store = PostgresStore(postgres.url, schema="nowhere")
    for call in (store.list, store.session("s").acquire):
        with pytest.raises(InvalidSetting, match=r'"nowhere" does not exist.*CREATE SCHEMA "no'):
            call()


def test_schema_may_have_any_name(postgres: Postgres) -> None:
    """The name of a schema is quoted."""
    name = f'a "b". %s {{x}} {os.urandom(4).hex()}'
    quoted = name.replace('"', '""')
    postgres.execute(f'CREATE SCHEMA "{quoted}"')
    with pytest.raises(InvalidSetting) as refused:
        PostgresStore(postgres.url, schema=name, create=False).list()
    assert f"conversation sql --schema {shlex.quote(name)} | psql" in str(refused.value)
    store = PostgresStore(postgres.url, schema=name)
    with Conversation.open("s", store=store) as chat:
        chat.add_user("Hello", AudioInput(SOUND))
        chat.undo()
    assert [info.id for info in store.list()] == ["s"]


def test_tables_of_a_later_version_are_refused(store: PostgresStore, postgres: Postgres) -> None:
    """Tables of a newer version are left alone."""
    store.create()
    schema = store._database.schema
    postgres.execute(f"UPDATE {schema}.conversation_format SET version = 2")
    for call in (store.list, store.session("s").read, store.session("s").acquire):
        with pytest.raises(SessionTooNew, match="of version 2") as caught:
            call()
        assert caught.value.version == 2


def test_entries_are_the_lines_of_the_file_format(
    store: PostgresStore, postgres: Postgres, tmp_path: Path
) -> None:
    """An entry is stored byte by byte as in a file, and can be queried as `jsonb`."""
    files = FileStore(tmp_path)
    for each in (store, files):
        with Conversation.open("s", store=each, clock=lambda: 1e9) as chat:
            chat.add_user("Hello \0 \u2028 \U0001f600")
            chat.add_user("more")
    schema = store._database.schema
    query = f"SELECT entry FROM {schema}.conversation_turns ORDER BY position"
    rows = [row[0].encode() for row in postgres.execute(query)]
    lines = (tmp_path / "s.json").read_bytes().split(b"\n")[1:-2]
    assert rows == [each.removesuffix(b",") for each in lines]
    found = postgres.execute(
        f"SELECT entry::jsonb->>'role' FROM {schema}.conversation_turns WHERE position = 1"
    )
    assert found == [("user",)]


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"schema": ""}, "schema must be"),
        ({"lease": 0}, "lease must be a number of seconds >= 1"),
        ({"lease": "long"}, "lease must be a number of seconds >= 1"),
        ({"keep_sound": "some"}, "keep_sound must be"),
        ({"cache_bytes": -1}, "cache_bytes must be a whole number >= 0"),
        ({"max_size": 0}, "max_size must be a whole number >= 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: Any, rule: str) -> None:
    """Each refusal states the rule."""
    with pytest.raises(InvalidSetting, match=rule):
        PostgresStore("postgresql://localhost/db", **given)


@pytest.mark.parametrize(
    "given", ["postgresql://ann:secret@[host/db", "host=h password=secret nonsense", "/tmp/x", 5]
)
def test_what_is_no_url_is_refused_without_its_password(given: Any) -> None:
    """The error says what is expected, and repeats no password."""
    with pytest.raises(InvalidSetting, match="URL") as caught:
        PostgresStore(given)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_place_has_no_password() -> None:
    """Errors and `repr` name the database without its password."""
    store = PostgresStore("postgresql://ann:secret@db.example:6543/talks?connect_timeout=3")
    assert repr(store) == "PostgresStore('postgresql://ann@db.example:6543/talks')"
    assert store.session("ann@1").place == "postgresql://ann@db.example:6543/talks#ann%401"
    several = PostgresStore("postgresql://one,two:5433/talks")
    assert several.place == "postgresql://one,two:5433/talks"


def test_folder_store_refuses_a_url() -> None:
    """A URL is not taken for a folder, also a mistyped one; the error names the store to use."""
    for call in (FileStore, lambda url: Conversation.open("s", store=url)):
        for url in (
            "postgresql://ann:secret@localhost/talks",
            "jdbc:postgresql://localhost/talks?password=secret",
            "'postgresql://ann:secret@localhost/talks'",
            "postgresql//ann:secret@localhost/talks",
            "postgres:ann:secret@localhost/talks",
        ):
            with pytest.raises(InvalidSetting, match=r"PostgresStore\(") as refused:
                call(url)
            assert "secret" not in str(refused.value)
    assert FileStore("postgres/sessions").root.name == "sessions"


@pytest.mark.parametrize("setting", ["client_encoding=latin1", "client_encoding=auto"])
def test_encoding_in_a_url_spoils_no_words(postgres: Postgres, schema: str, setting: str) -> None:
    """Entries are sent as UTF-8, whatever the URL says: others read the same words."""
    with Conversation.open(
        "é", store=PostgresStore(f"{postgres.url}?{setting}", schema=schema)
    ) as chat:
        chat.add_user("Grüße 🎉")
    there = Conversation.open("é", store=PostgresStore(postgres.url, schema=schema), create=False)
    assert there.turns == chat.turns


def test_making_a_store_without_the_extra_names_it() -> None:
    """Without psycopg, the class can be imported, and making a store says what to install."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from conversation import PostgresStore\n"
        "try:\n    PostgresStore('postgresql://localhost/talks')\n"
        "except ImportError as error:\n    print(error)\n"
        "from conversation._cli.main import main\n"
        "main(['list', '--store', 'postgresql://localhost/talks'])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "PostgresStore needs the extra `postgres`: pip install '.[postgres]'" in done.stdout
    assert "a database needs the extra `postgres`: pip install '.[postgres]'" in done.stderr


def test_server_that_is_away(postgres: Postgres, schema: str) -> None:
    """Reads raise `SessionUnavailable`, changes `SaveFailed` with the turn; nothing is lost."""
    with Proxy(postgres.port) as proxy:
        store = PostgresStore(url(proxy.port), schema=schema)
        store._database.pauses = (0.01, 0.01)
        chat = Conversation.open("s", store=store)
        chat.add_user("one")
        held = store.session("s").fetch("0001-0000.wav")
    for call in (
        store.list,
        lambda: Conversation.open("s", store=store),
        held.read,
        lambda: store.session("s").fetch_all(["0001-0000.wav"]),
    ):
        with pytest.raises(SessionUnavailable, match=r"127\.0\.0\.1") as unavailable:
            call()
        assert "secret" not in str(unavailable.value)
    with pytest.raises(SaveFailed, match="nothing was changed") as caught:
        chat.add_user("two")
    assert not caught.value.in_doubt
    assert caught.value.turn.text == "two"
    with pytest.raises(SaveFailed):
        store.delete("s")
    with pytest.raises(SaveFailed):
        store.create()
    assert [turn.text for turn in chat.turns] == ["one"]


def test_role_without_rights(store: PostgresStore, postgres: Postgres) -> None:
    """A refusal says what to grant; without tables, what to run."""
    store.create()
    schema, role = store._database.schema, f"r{os.urandom(4).hex()}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    poor = PostgresStore(postgres.url.replace("postgres@", f"{role}@"), schema=schema)
    with pytest.raises(SessionUnavailable, match=r"permission denied.* needs SELECT on .*GRANT"):
        poor.list()
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    postgres.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
    chat = Conversation.open("s", store=poor)
    with pytest.raises(SaveFailed, match=r"permission denied.*GRANT") as caught:
        chat.add_user("Hello")
    assert caught.value.turn.text == "Hello"
    postgres.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}")
    chat.add(caught.value.turn)
    postgres.execute(f"CREATE SCHEMA {role}")
    postgres.execute(f"GRANT USAGE ON SCHEMA {role} TO {role}")
    poorer = PostgresStore(postgres.url.replace("postgres@", f"{role}@"), schema=role)
    with pytest.raises(
        InvalidSetting, match=rf"permission denied.*conversation sql --schema {role}"
    ):
        Conversation.open("s", store=poorer).add_user("Hello")


def test_role_without_delete(store: PostgresStore, postgres: Postgres, schema: str) -> None:
    """A role that may not DELETE talks, relabels and gives locks back; an undo names the right."""
    store.create()
    role = f"r{os.urandom(4).hex()}"
    postgres.execute(f"CREATE ROLE {role} LOGIN")
    postgres.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
    postgres.execute(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA {schema} TO {role}")
    poor = PostgresStore(postgres.url.replace("postgres@", f"{role}@"), schema=schema)
    with acquired(poor.session("s")):
        pass  # leaves a row that nobody lists
    assert list(poor.list()) == []
    with Conversation.open("s", store=poor, timeout=0) as chat:
        chat.add_user("one", AudioInput(SOUND))
        chat.add_completion(spoken("two", audio_id="audio_2"))
        chat.set_title("T")
        chat.set_transcript(chat.turns[1], "zwei")
        chat.truncate(0.05)
        sweep = partial(poor.sweep, older_than=timedelta(0))
        changes: list[Callable[[], object]] = [chat.undo, lambda: poor.delete("s"), sweep]
        changes.append(partial(sweep, sound_only=True))
        for change in changes:
            with pytest.raises(SaveFailed, match=r"permission denied.* needs .*DELETE"):
                change()
        chat.add_user("three")
        with chat.fork("t") as fork:
            fork.add_user("four")
    with Conversation.open("s", store=store, timeout=0) as again:
        assert [turn.text for turn in again.turns] == ["one", "zw", "three"]
        assert again.turns[0].content[1].read() == SOUND  # type: ignore[union-attr, index]
        again.undo()
    assert {info.id for info in store.list()} == {"s", "t"}


def test_lock_that_cannot_be_given_back_is_told(
    store: PostgresStore, postgres: Postgres, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the server refuses to unlock a session, a warning names it."""
    session = store.session("s")
    with acquired(session):
        session.rewrite(HEADER, {}, 0)
        postgres.execute(
            f"ALTER TABLE {schema}.conversation_sessions ADD CHECK (holder IS NOT NULL) NOT VALID"
        )
    assert "session 's' stays locked for up to 20 s (new row for relation" in caplog.text


def test_reading_creates_nothing(store: PostgresStore, postgres: Postgres, schema: str) -> None:
    """In a database without tables there are no sessions; only a first write makes tables."""
    assert list(store.list()) == []
    assert store.session("s").read() is None
    assert store.session("s").fetch_all(["0001-0000.wav"]) == {}
    for call in (
        lambda: store.delete("s"),
        lambda: Conversation.open("s", store=store, read_only=True),
        lambda: Conversation.open("s", store=store, create=False),
    ):
        with pytest.raises(SessionNotFound):
            call()
    chat = Conversation.open("s", store=store)
    tables = f"SELECT count(*) FROM pg_tables WHERE schemaname = '{schema}'"
    assert postgres.execute(tables) == [(0,)]
    chat.add_user("Hello")
    assert postgres.execute(tables) == [(4,)]
    assert [info.id for info in store.list()] == ["s"]


@pytest.mark.parametrize("table", ["turns", "blobs", "format"])
def test_part_of_the_tables_is_no_empty_store(
    store: PostgresStore, postgres: Postgres, schema: str, table: str
) -> None:
    """If a table is missing, no session is taken for empty, and nothing is created."""
    chat = Conversation.open("s", store=store)
    chat.add_user("Hello", AudioInput(SOUND))
    postgres.execute(f"ALTER TABLE {schema}.conversation_{table} RENAME TO other")
    fresh = PostgresStore(postgres.url, schema=schema)
    sound = fresh.session("s").fetch("0001-0000.wav")
    calls: list[Callable[[], object]] = [lambda: chat.add_user("on", AudioInput(SOUND))]
    if table != "blobs":
        calls.append(lambda: Conversation.open("s", store=fresh))
    if table != "turns":
        calls.append(sound.read)
    for call in calls if table != "format" else calls[1:]:
        with pytest.raises(InvalidSetting, match="1 of 4 tables are missing: restore"):
            call()
    postgres.execute(f"ALTER TABLE {schema}.other RENAME TO conversation_{table}")
    chat.add_user("on")
    assert len(texts(fresh.session("s"))) == 2


@pytest.mark.parametrize("who", ["nobody@127.0.0.1", "postgres@127.0.0.1"])
def test_wrong_database_or_role_is_told(postgres: Postgres, who: str) -> None:
    """The server's reason is in the error."""
    wrong = f"postgresql://{who}:{postgres.port}/nowhere"
    with pytest.raises(SessionUnavailable, match=r'(role "nobody"|"nowhere") does not exist'):
        PostgresStore(wrong).list()


def test_standby_is_told(postgres: Postgres, schema: str) -> None:
    """A server that takes no writes is told with the remedy; it can be read."""
    PostgresStore(postgres.url, schema=schema).create()
    options = "options=-c%20default_transaction_read_only%3Don"
    standby = PostgresStore(f"{postgres.url}?{options}", schema=schema)
    chat = Conversation.open("s", store=standby)
    with pytest.raises(SaveFailed, match="target_session_attrs=read-write") as caught:
        chat.add_user("Hello")
    assert caught.value.turn.text == "Hello"
    assert list(standby.list()) == []


@pytest.mark.parametrize("what", ["entry = '{'", "header = '{'", "header = '5'", "length = 3"])
def test_damaged_rows_are_no_empty_session(
    store: PostgresStore, postgres: Postgres, what: str
) -> None:
    """Rows that are no session are refused and left alone."""
    with acquired(store.session("s")) as _:
        pass
    session = store.session("s")
    with acquired(session):
        session.rewrite(HEADER, {0: line("one"), 1: line("two")}, 2)
    table = "turns" if what.startswith("entry") else "sessions"
    postgres.execute(f"UPDATE {store._database.schema}.conversation_{table} SET {what}")
    with pytest.raises(SessionCorrupt, match="#s"):
        Conversation.open("s", store=store)


# --- leases ---------------------------------------------------------------------------------------


def test_lease_of_a_killed_holder_ends(postgres: Postgres, schema: str) -> None:
    """A session whose holder is gone is free when the lease ends, and not before."""
    store = PostgresStore(postgres.url, schema=schema, lease=1)
    session = store.session("s")
    with acquired(session):
        session.rewrite(HEADER, {}, 0)
    began = time.monotonic()
    assert session.acquire() is not None
    session._leases._first.clear()  # as if its process had died: nobody renews
    session.token, token = None, session.token
    with Conversation.open("s", store=PostgresStore(postgres.url, schema=schema)) as chat:
        chat.add_user("Hello")
    assert time.monotonic() - began > 0.9
    session.token = token
    with pytest.raises(SessionChanged, match="was changed"):
        session.append([line("late")])
    assert texts(store.session("s")) == ["Hello"]


def test_lease_is_renewed_while_it_is_held(postgres: Postgres, schema: str) -> None:
    """An exchange that takes longer than the lease keeps it."""
    store = PostgresStore(postgres.url, schema=schema, lease=1)
    ends = f"SELECT min(held_until) FROM {schema}.conversation_sessions"
    with acquired(store.session("s")) as _, acquired(store.session("t")) as __:
        store._leases.seconds = 60  # from the first renewal on: a busy machine may be late
        other = PostgresStore(postgres.url, schema=schema).session("s")
        soon = f"{ends} WHERE held_until < clock_timestamp() + interval '30 s'"
        last = time.monotonic() + 120
        while postgres.execute(soon) != [(None,)]:
            assert time.monotonic() < last, "nobody renews"
            time.sleep(0.01)
        first = postgres.execute(ends)
        while postgres.execute(ends) == first:
            assert other.acquire() is None
            time.sleep(0.01)
        assert other.acquire() is None
    assert other.acquire() is not None
    other.release()


def test_holder_that_was_paused_and_overtaken_writes_nothing(
    store: PostgresStore, postgres: Postgres, server: StandIn, schema: str
) -> None:
    """An answer that comes after another one took the lease is in the error, and not stored."""
    with Conversation.open("s", store=store, client=server.client()) as chat:
        server.will_answer("A long story")

        def overtaken() -> None:
            with chat.stream("Hello") as events:
                next(events)
                expire(postgres, schema)
                rival = PostgresStore(postgres.url, schema=schema)
                with Conversation.open("s", store=rival) as other:
                    other.add_user("I was faster")
                for _ in events:
                    pass

        with pytest.raises(SessionChanged) as caught:
            overtaken()
        assert isinstance(caught.value.turn, AssistantTurn)
        assert caught.value.turn.text == "A long story"
        chat.add_user("Next")
        assert [turn.text for turn in chat.turns] == ["Hello", "I was faster", "Next"]


def test_holder_that_was_paused_waits_for_the_one_who_overtook_it(
    postgres: Postgres, schema: str
) -> None:
    """While another one holds the lease, a late write is refused, even before anything changed."""
    store = PostgresStore(postgres.url, schema=schema, lease=1)
    late, other = store.session("s"), PostgresStore(postgres.url, schema=schema).session("s")
    with acquired(late):
        late.rewrite(HEADER, {}, 0)
        late._leases._first.clear()  # nobody renews
        expire(postgres, schema)
        with acquired(other):
            with pytest.raises(SessionChanged, match="lease was taken"):
                late.append([line("late")])
            other.append([line("mine")])
    assert texts(store.session("s")) == ["mine"]


def test_holder_that_was_paused_and_not_overtaken_goes_on(
    store: PostgresStore, postgres: Postgres, server: StandIn, schema: str
) -> None:
    """A lease that ended while nobody came is still good for a write."""
    with Conversation.open("s", store=store, client=server.client()) as chat:
        with chat.stream("Hello") as events:
            next(events)
            expire(postgres, schema)
            for _ in events:
                pass
        assert len(chat.turns) == 2


def test_waiters_of_one_process_ask_once(proxy: Proxy, remote: PostgresStore) -> None:
    """Of 20 objects that wait for a session, one asks the server."""
    other = PostgresStore(url(proxy.port), schema=remote._database.schema).session("s")
    with acquired(other):
        waiting = [remote.session("s") for _ in range(20)]
        proxy.counted = b"INSERT INTO"
        assert [session.acquire() for session in waiting] == [None] * 20
        assert proxy.statements == 1
        waiting[0].release()  # it gives up
        assert [session.acquire() for session in waiting[1:]] == [None] * 19
        assert proxy.statements == 2
    for session in waiting:
        session.release()


def test_stub_of_a_session_that_was_never_written_is_removed(
    store: PostgresStore, postgres: Postgres, schema: str
) -> None:
    """A lock without a first turn leaves no row, and `delete` finds no session."""
    with acquired(store.session("s")):
        assert list(store.list()) == []
        with pytest.raises(SessionNotFound):
            store.delete("s")
    assert postgres.execute(f"SELECT count(*) FROM {schema}.conversation_sessions") == [(0,)]


def test_delete_waits_for_the_holder(store: PostgresStore) -> None:
    """A session in use is not deleted; `timeout` bounds the wait."""
    session = store.session("s")
    with acquired(session):
        session.rewrite(HEADER, {}, 0)
        with pytest.raises(SessionLocked):
            store.delete("s", timeout=0)
    store.delete("s", timeout=0)


# --- lists and bytes ------------------------------------------------------------------------------


def test_equal_times_are_listed_once(store: PostgresStore, postgres: Postgres) -> None:
    """Pages of a list are complete where many sessions were changed at the same time."""
    for number in range(5):
        with Conversation.open(f"s{number}", store=store) as chat:
            chat.set_title("T")
    schema = store._database.schema
    postgres.execute(f"UPDATE {schema}.conversation_sessions SET updated_at = '2026-01-01'")
    found: list[str] = []
    last = None
    while page := store.list(limit=2, before=last):
        found += [info.id for info in page]
        last = page[-1]
    assert found == ["s4", "s3", "s2", "s1", "s0"]


def test_sound_is_fetched_once_and_kept_in_memory(
    proxy: Proxy, remote: PostgresStore, server: StandIn
) -> None:
    """The sound of a request comes in one round trip; the next request needs none."""
    with Conversation.open("s", store=remote) as chat:
        for text in ("one", "two", "three"):
            chat.add_user(text, AudioInput(SOUND + text.encode()))
    proxy.counted = b"SELECT name, data"
    again = PostgresStore(url(proxy.port), schema=remote._database.schema)
    with Conversation.open("s", store=again, client=server.client()) as chat:
        chat.reply()
        assert proxy.statements == 1
        chat.say("More")
        assert proxy.statements == 1


def test_cache_has_a_bound(postgres: Postgres, schema: str) -> None:
    """Without memory for sound it is read anew each time."""
    small = PostgresStore(postgres.url, schema=schema, cache_bytes=0)
    with Conversation.open("s", store=small) as chat:
        turn = chat.add_user(AudioInput(SOUND))
        part = turn.content[0]
        assert isinstance(part, AudioInput)
        assert part.read() == SOUND
        postgres.execute(f"DELETE FROM {schema}.conversation_blobs")
        with pytest.raises(AudioFileMissing):
            part.read()


def test_sound_of_an_undone_turn_goes_with_it(store: PostgresStore, postgres: Postgres) -> None:
    """An undo removes sound in the same statement, but not what another turn names."""
    count = f"SELECT count(*) FROM {store._database.schema}.conversation_blobs"
    with Conversation.open("s", store=store) as chat:
        first = chat.add_user(AudioInput(SOUND))
        chat.add(UserTurn(first.content))
        assert postgres.execute(count) == [(1,)]
        session = chat._history._journal.session  # type: ignore[union-attr]
        with acquired(session):
            session.rewrite(dict(chat._history.header), {}, 1)
        assert postgres.execute(count) == [(1,)]
        with acquired(session):
            session.rewrite(dict(chat._history.header), {}, 0)
        assert postgres.execute(count) == [(0,)]


def test_much_sound_is_stored_in_pieces(store: PostgresStore) -> None:
    """A session with more sound than fits into one statement is stored whole by a fork."""
    sound = AudioInput.from_pcm(bytes(3_000_000), 24_000)
    chat = Conversation()
    for number in range(15):
        chat.add_user(str(number), sound)
    with Conversation.open("one", store=store) as one:
        for turn in chat.turns:
            one.add(turn)
        with one.fork("two") as two:
            assert len(two.turns) == 15
    store.delete("one")
    with Conversation.open("two", store=store, read_only=True) as two:
        kept = [data for turn in two.turns for data in kept_data(turn)]
        assert [data.read() for data in kept] == [sound.read()] * 15


def test_keep_sound_leaves_sound_out(postgres: Postgres, schema: str, server: StandIn) -> None:
    """`keep_sound="user"` stores no spoken answers, `"none"` no sound at all."""
    count = f"SELECT count(*) FROM {schema}.conversation_blobs"
    for keep, expected in (("none", 0), ("user", 1), ("all", 3)):
        store = PostgresStore(postgres.url, schema=schema, keep_sound=keep)
        with Conversation.open(keep, store=store, client=server.client()) as chat:
            chat.say(AudioInput(MP3))
        assert postgres.execute(count) == [(expected,)]


# --- connections that break -----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("statement", [APPEND, REWRITE, b"relabel", b"taken AS", RELEASE])
def test_cut_connection_is_no_error(
    proxy: Proxy, remote: PostgresStore, when: Moment, statement: bytes
) -> None:
    """A change whose connection is cut is made once, whenever that happens."""
    statement = HEAD if statement == b"relabel" else statement
    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one", AudioInput(SOUND))
        chat.add_user("two")
        proxy.cut_next(when, statement)
        chat.add_user("three", AudioInput(MP3))
        chat.set_title("T")
        undone = chat.undo()
        chat.add_user("four")
        assert proxy.has_cut
        assert [turn.text for turn in undone] == ["three"]
    with Conversation.open("s", store=remote) as again:
        assert again.turns == chat.turns
        assert [turn.text for turn in again.turns] == ["one", "two", "four"]
        assert again.title == "T"
        again.add_user("five")


def test_write_that_the_server_finishes_late_is_no_other_write(
    proxy: Proxy, remote: PostgresStore, postgres: Postgres
) -> None:
    """A statement that goes on at the server without its connection is waited for, not repeated."""
    import psycopg

    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one")
        with psycopg.connect(postgres.url) as blocking:
            # Each append waits at the server for this lock, after its connection is gone.
            lock = f"SELECT 1 FROM {remote._database.schema}.conversation_sessions FOR UPDATE"
            waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"

            def block() -> None:
                while not proxy.statements:
                    time.sleep(0.001)
                end = time.monotonic() + 2.5
                while time.monotonic() < end and proxy.cuts < 4:  # as often as it is repeated
                    if proxy.has_cut:
                        proxy.cut_next("during", APPEND)
                    time.sleep(0.001)
                assert postgres.execute(waits)[0][0] >= 1
                proxy.cut_next("during", b"nothing contains this")
                blocking.rollback()

            session = remote.session("s")
            assert session.acquire() is not None
            blocking.execute(lock.encode())
            proxy.counted = APPEND
            proxy.cut_next("during", APPEND)
            thread = threading.Thread(target=block)
            thread.start()
            session.append([line("two")])
            thread.join()
            session.append([line("three")])
            session.release()
    assert texts(remote.session("s")) == ["one", "two", "three"]


@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_cut_connection_of_delete_is_no_error(
    proxy: Proxy, remote: PostgresStore, when: Moment
) -> None:
    """A session whose deletion had no answer is deleted, and not missing; its sound with it."""
    with Conversation.open("s", store=remote) as chat:
        (sound,) = chat.add_user(AudioInput(SOUND)).content
    proxy.cut_next(when, b"gone AS")
    remote.delete("s")
    assert proxy.has_cut
    assert list(remote.list()) == []
    assert isinstance(sound, AudioInput)
    with pytest.raises(AudioFileMissing):
        sound.read()


def test_deleted_sound_leaves_memory(store: PostgresStore) -> None:
    """Of a deleted session a process keeps no sound; that of others stays in its memory."""
    for name in ("s", "t"):
        Conversation.open(name, store=store).add_user(AudioInput(SOUND))
    with Conversation.open("s", store=store) as chat:
        (turn,) = chat.turns
        assert isinstance(turn, UserTurn)
        (sound,) = turn.content
        assert isinstance(sound, AudioInput)
        assert sound.read() == SOUND
        store.delete("s")
        with pytest.raises(AudioFileMissing):
            sound.read()
    assert store._cache._size == len(SOUND)


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("sound", [(), (AudioInput(SOUND),)])
@pytest.mark.parametrize("is_held", [True, False])
def test_turn_in_doubt_is_added_once(
    proxy: Proxy, remote: PostgresStore, is_stored: bool, sound: Any, is_held: bool
) -> None:
    """If nobody can know, the error says so; adding its turn stores it once in any case."""
    remote._database.pauses = (0.01, 0.01)
    with (
        Conversation.open("s", store=remote) as chat,
        chat.hold() if is_held else contextlib.nullcontext(),
    ):
        chat.add_user("one")
        proxy.cut_next("after" if is_stored else "before", APPEND, for_good=True)
        with pytest.raises(SaveFailed, match="may have been stored") as caught:
            chat.add_user("two", *sound)
        assert caught.value.in_doubt
        assert [turn.text for turn in chat.turns] == ["one"]
        proxy.is_away = False
        added = chat.add(caught.value.turn)
        assert added.text == "two"
        assert [turn.text for turn in chat.turns] == ["one", "two"]
        assert chat.turns[1] == added
        chat.add(caught.value.turn)  # and once more, as anybody may
        assert [turn.text for turn in chat.turns] == ["one", "two", "two"]
    with Conversation.open("s", store=remote, read_only=True) as again:
        assert again.turns == chat.turns


@pytest.mark.parametrize("is_held", [True, False])
def test_after_a_doubt_everything_is_read_anew(
    proxy: Proxy, remote: PostgresStore, is_held: bool
) -> None:
    """Another change than the doubtful one sees what was stored."""
    remote._database.pauses = (0.01, 0.01)
    with (
        Conversation.open("s", store=remote) as chat,
        chat.hold() if is_held else contextlib.nullcontext(),
    ):
        chat.add_user("one")
        proxy.cut_next("after", APPEND, for_good=True)
        with pytest.raises(SaveFailed) as caught:
            chat.add_user("two")
        proxy.is_away = False
        chat.add_user("three")
        assert [turn.text for turn in chat.turns] == ["one", "two", "three"]
        proxy.cut_next("after", b"conversation_sessions", for_good=True)
        with pytest.raises(SaveFailed):
            chat.set_title("T")
        proxy.is_away = False
        chat.set_metadata({"a": 1})
        assert chat.metadata == {"a": 1}
        assert chat.add(caught.value.turn) == chat.turns[1]  # late, and still stored only once
        assert [turn.text for turn in chat.turns] == ["one", "two", "three"]


@pytest.mark.parametrize("is_repeated", [True, False])
def test_loss_at_the_server_is_noticed_behind_a_doubt(
    proxy: Proxy, remote: PostgresStore, postgres: Postgres, schema: str, *, is_repeated: bool
) -> None:
    """A failover that takes acknowledged turns along is a conflict, also for a write in doubt."""
    remote._database.pauses = (0.01, 0.01)
    with Conversation.open("s", store=remote) as chat:
        for text in ("one", "two"):
            chat.add_user(text)
        proxy.cut_next("before", APPEND, for_good=True)
        with pytest.raises(SaveFailed) as caught:
            chat.add_user("three")
        assert caught.value.in_doubt
        postgres.execute(f"DELETE FROM {schema}.conversation_turns WHERE position = 1")
        is_free = "holder = NULL, held_until = NULL"
        postgres.execute(f"UPDATE {schema}.conversation_sessions SET length = 1, {is_free}")
        proxy.is_away = False
        for _ in range(2):
            with pytest.raises(SessionChanged, match="has lost changes that were acknowledged"):
                chat.add(caught.value.turn) if is_repeated else chat.add_user("four")
    assert texts(remote.session("s")) == ["one"]


@pytest.mark.parametrize("is_stored", [True, False])
def test_turns_in_doubt_are_added_once(
    proxy: Proxy, remote: PostgresStore, *, is_stored: bool
) -> None:
    """If nobody can know whether several turns were stored, adding them again stores them once."""
    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one")
        proxy.cut_next("after" if is_stored else "before", APPEND, for_good=True)
        turns = [UserTurn("two"), UserTurn((AudioInput(SOUND),)), UserTurn("two")]
        with pytest.raises(SaveFailed, match="may have been stored") as caught:
            chat.extend(turns)
        assert caught.value.turn is None
        assert [turn.text for turn in chat.turns] == ["one"]
        proxy.is_away = False
        kept = chat.extend(turns)
        assert chat.turns[1:] == kept
        assert [turn.text for turn in chat.turns] == ["one", "two", "", "two"]
    with Conversation.open("s", store=remote, read_only=True) as again:
        assert again.turns == chat.turns


def test_tool_result_in_doubt_is_added_once(proxy: Proxy, remote: PostgresStore) -> None:
    """A tool's result that was stored after all answers no open call any more, and is no error."""
    from tests.samples import answer, tool_call

    remote._database.pauses = (0.01, 0.01)
    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one")
        chat.add_completion(answer(content=None, tool_calls=[tool_call("call_1")]))
        proxy.cut_next("after", APPEND, for_good=True)
        with pytest.raises(SaveFailed) as caught:
            chat.add_tool_result("call_1", "sunny")
        proxy.is_away = False
        chat.add(caught.value.turn)
        assert [turn.role for turn in chat.turns] == ["user", "assistant", "tool"]


def test_equal_turn_after_a_doubt_and_another_change_is_new(
    proxy: Proxy, remote: PostgresStore
) -> None:
    """A turn without a time of its own is taken for a repeat only as the next change."""
    remote._database.pauses = (0.01, 0.01)
    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one")
        proxy.cut_next("after", APPEND, for_good=True)
        with pytest.raises(SaveFailed) as caught:
            chat.add(SystemTurn("Be brief."))
        proxy.is_away = False
        chat.add_user("two")
        assert chat.add(SystemTurn("Be brief.")) is chat.turns[3]
        assert chat.add(caught.value.turn) is chat.turns[1]
    said = ["one", "Be brief.", "two", "Be brief."]
    with Conversation.open("s", store=remote, read_only=True) as again:
        assert [turn.text for turn in again.turns] == said


def test_first_turn_in_doubt_is_added_once(proxy: Proxy, remote: PostgresStore) -> None:
    """Also the turn that begins a session is stored once."""
    remote._database.pauses = (0.01, 0.01)
    with Conversation.open("s", store=remote) as chat:
        proxy.cut_next("after", REWRITE, for_good=True)
        with pytest.raises(SaveFailed) as caught:
            chat.add_user("one", AudioInput(SOUND))
        proxy.is_away = False
        chat.add(caught.value.turn)
        assert [turn.text for turn in chat.turns] == ["one"]
    with Conversation.open("s", store=remote, read_only=True) as again:
        assert again.turns == chat.turns


def fork(chat: Conversation) -> object:
    """Return what a fork holds."""
    with chat.fork("t") as forked:
        return [turn.text for turn in forked.turns]


CHANGES: dict[str, tuple[bytes, Callable[[Conversation], object]]] = {
    "undo": (REWRITE, lambda chat: [turn.text for turn in chat.undo()]),
    "answer": (REWRITE, lambda chat: [turn.text for turn in chat.undo(answer_only=True)]),
    "rewind": (REWRITE, lambda chat: [turn.text for turn in chat.rewind(heard(chat))]),
    "remove": (REWRITE, lambda chat: [turn.text for turn in chat.remove(heard(chat))]),
    "clear": (REWRITE, lambda chat: chat.clear()),
    "title": (HEAD, lambda chat: chat.set_title("T")),
    "notes": (HEAD, lambda chat: chat.set_metadata({"a": 1})),
    "words": (REWRITE, lambda chat: chat.set_transcript(heard(chat), "other").text),
    "cut": (REWRITE, lambda chat: chat.truncate(0.05).text),
    "fork": (REWRITE, fork),
}
_heard: list[Turn] = []


def heard(chat: Conversation) -> Turn:
    """Return a turn as it was when this was called first, as a caller may keep it."""
    if not _heard:
        _heard.append(chat.turns[1])
    return _heard[0]


def test_fork_in_doubt_of_a_chat_that_went_on(proxy: Proxy, remote: PostgresStore) -> None:
    """A fork that was stored without the newest turns is not taken for one that has them."""
    remote._database.pauses = (0.0,)
    with Conversation.open("s", store=remote) as chat:
        chat.add_user("one")
        proxy.cut_next("after", REWRITE, for_good=True)
        with pytest.raises(SaveFailed):
            chat.fork("t")
        proxy.is_away = False
        chat.add_user("two")
        with pytest.raises(SessionExists):
            chat.fork("t")
    assert texts(remote.session("t")) == ["one"]


@pytest.mark.parametrize("is_stored", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_repeated_change_in_doubt_is_made_once(
    proxy: Proxy, remote: PostgresStore, change: str, is_stored: bool
) -> None:
    """A change without an answer is repeated by its caller: it succeeds, and is made once."""
    _heard.clear()
    statement, job = CHANGES[change]
    remote._database.pauses = (0.0,)
    with Conversation.open("same", store=remote) as same:
        fill(same)
        expected = job(same)
        turns, labels = [turn.text for turn in same.turns], (same.title, same.metadata)
        usage = same.usage
    _heard.clear()
    if change == "fork":
        remote.delete("t")
    with Conversation.open("s", store=remote) as chat:
        fill(chat)
        proxy.cut_next("after" if is_stored else "before", statement, for_good=True)
        with pytest.raises(SaveFailed, match=r"may have been stored.*repeat the change") as caught:
            job(chat)
        assert caught.value.in_doubt
        assert len(chat.turns) == 4
        proxy.is_away = False
        assert job(chat) == expected
        assert [turn.text for turn in chat.turns] == turns
        assert ((chat.title, chat.metadata), chat.usage) == (labels, usage)
        with Conversation.open("s", store=remote, read_only=True) as again:
            assert again.turns == chat.turns
        if change == "undo":  # the next one is another one
            assert [turn.text for turn in chat.undo()] == ["one", "uno"]


def fill(chat: Conversation) -> None:
    """Add two exchanges."""
    for question, answer in (("one", "uno"), ("two", "due tre")):
        chat.add_user(question, AudioInput(SOUND))
        chat.add_completion(spoken(answer, audio_id=f"audio_{question}"))


def test_other_changes_end_the_doubt(proxy: Proxy, remote: PostgresStore) -> None:
    """An undo after another change takes back what is the last exchange then."""
    remote._database.pauses = (0.0,)
    with Conversation.open("s", store=remote) as chat:
        for text in ("one", "two"):
            chat.add_user(text)
        proxy.cut_next("after", REWRITE, for_good=True)
        with pytest.raises(SaveFailed):
            chat.undo()
        proxy.is_away = False
        chat.add_user("three")
        assert [turn.text for turn in chat.turns] == ["one", "three"]
        assert [turn.text for turn in chat.undo()] == ["three"]


@pytest.mark.parametrize("is_stored", [True, False])
def test_delete_in_doubt_may_be_repeated(
    proxy: Proxy, remote: PostgresStore, is_stored: bool
) -> None:
    """A deletion without an answer is repeated by its caller, and the session is gone."""
    remote._database.pauses = (0.0,)
    for name in ("s", "t"):
        Conversation.open(name, store=remote).set_title("T")
    proxy.cut_next("after" if is_stored else "before", b"gone AS", for_good=True)
    with pytest.raises(SaveFailed, match=r"may have been done.*repeat it") as caught:
        remote.delete("s")
    assert caught.value.in_doubt
    proxy.is_away = False
    remote.delete("s")
    assert [info.id for info in remote.list()] == ["t"]
    with pytest.raises(SessionNotFound):
        remote.delete("s")


@pytest.mark.parametrize("is_stored", [True, False])
def test_exchange_goes_on_after_a_label_in_doubt(
    proxy: Proxy, remote: PostgresStore, is_stored: bool
) -> None:
    """A server that is lost while a dead audio id is noted, and back for the answer, is no loss."""
    remote._database.pauses = (0.0,)
    with Conversation.open("s", store=remote) as chat:
        fill(chat)
        history = chat._history
        assert history.acquire()
        proxy.cut_next("after" if is_stored else "before", REWRITE, for_good=True)
        turn = chat.turns[1]
        assert isinstance(turn, AssistantTurn)
        assert turn.audio
        dead = attrs.evolve(turn, audio=attrs.evolve(turn.audio, lost=True))
        history.replace({1: dead}, must_save=False)
        proxy.is_away = False
        history.add(UserTurn(("three",)))
        history.release()
        assert chat.turns[1] == dead
    with Conversation.open("s", store=remote, read_only=True) as again:
        assert again.turns == chat.turns


def test_idle_connections_that_broke_are_replaced(proxy: Proxy, remote: PostgresStore) -> None:
    """Between two changes all connections may break."""
    with Conversation.open("s", store=remote) as chat:
        for number in range(5):
            chat.add_user(str(number))
            proxy.cut_all()
    assert len(texts(remote.session("s"))) == 5


def test_silent_server_is_told(
    proxy: Proxy, remote: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that drops everything ends a call, and the next one works when it is back."""
    slow = PostgresStore(f"{url(proxy.port)}?connect_timeout=2", schema=remote._database.schema)
    with Conversation.open("s", store=slow) as chat:
        chat.add_user("one")
        with monkeypatch.context() as impatient:
            impatient.setattr(_postgres_answers, "_SILENCE", 0.3)
            impatient.setattr(_postgres_pool, "PATIENCE", 0.2)
            impatient.setattr(_postgres_database, "PATIENCE", 0.2)
            proxy.is_silent = True
            with pytest.raises(SaveFailed) as caught:
                chat.add_user("two")
            with pytest.raises(SessionUnavailable):
                Conversation.open("s", store=slow)
            proxy.is_silent = False
        chat.add(caught.value.turn)
    assert texts(slow.session("s")) == ["one", "two"]


def test_no_connection_is_held_while_the_model_answers(
    postgres: Postgres, schema: str, server: StandIn
) -> None:
    """Ten exchanges at once, with one connection for all of them."""
    store = PostgresStore(postgres.url, schema=schema, max_size=1)

    async def talk() -> None:
        client = server.async_client()
        server.will_answer("A long story", hold_after=5)
        first = AsyncConversation.open("first", store=store, client=client)
        async with first as chat, chat.stream("Hello") as events:
            await anext(events)
            for number in range(9):
                other = AsyncConversation.open(f"s{number}", store=store, client=client)
                async with other as each:
                    await each.say("Hello")
            server.go_on()
            async for _ in events:
                pass

    asyncio.run(talk())
    assert {len(texts(store.session(info.id))) for info in store.list()} == {2}


def test_losing_everything_is_logged_by_nobody(
    postgres: Postgres, schema: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Connections that fail leave no log lines of libraries."""
    caplog.set_level(logging.DEBUG)
    with Proxy(postgres.port) as proxy:
        store = PostgresStore(url(proxy.port), schema=schema)
        with Conversation.open("s", store=store) as chat:
            chat.add_user("one")
    with pytest.raises(SessionUnavailable):
        store.list()
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


# --- processes, pools and poolers -----------------------------------------------------------------


def test_forked_child_shares_the_session(postgres: Postgres, schema: str) -> None:
    """A child uses its own connections, and leaves the parent's lease and connections alone."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}'"
    store = PostgresStore(f"{postgres.url}?application_name={schema}", schema=schema)
    with Conversation.open("s", store=store) as chat:
        chat.add_user("parent")
        session = store.session("s")
        with acquired(session):
            pid = os.fork()
            if not pid:
                status = 1
                try:
                    session.release()
                    assert session.acquire() is None
                    assert store.session("s").acquire() is None
                    assert texts(store.session("s")) == ["parent"]
                    assert postgres.execute(query) == [(2,)]
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitpid(pid, 0)[1] == 0
            session.append([line("still mine")])
        pid = os.fork()
        if not pid:
            status = 1
            try:
                chat.add_user("child")
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        chat.add_user("parent again")
        assert [turn.text for turn in chat.turns] == [
            "parent",
            "still mine",
            "child",
            "parent again",
        ]


def test_store_works_in_pools_of_processes(store: PostgresStore) -> None:
    """Forked workers with the parent's store add to one session."""
    with Conversation.open("s", store=store) as chat:
        chat.add_user("parent")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_add, args=(store, name)) for name in ("a", "b", "c")]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert sorted(texts(store.session("s"))) == sorted(
        ["parent", *(f"{name}{number}" for name in "abc" for number in range(5))]
    )


def _add(store: PostgresStore, name: str) -> None:
    with Conversation.open("s", store=store) as chat:
        for number in range(5):
            chat.add_user(f"{name}{number}")


POOLED = {"autocommit": True, "client_encoding": "utf8"}


def test_pool_of_the_caller_is_used_and_left_open(postgres: Postgres, schema: str) -> None:
    """A pool with autocommit is used; one without is refused."""
    from psycopg_pool import ConnectionPool

    options: dict[str, Any] = {"min_size": 1, "max_size": 2, "open": True}
    with ConnectionPool(postgres.url, kwargs=POOLED, **options) as pool:
        store = PostgresStore(pool, schema=schema)
        with Conversation.open("s", store=store) as chat:
            chat.add_user("one")
        assert texts(store.session("s")) == ["one"]
        del store
        with pool.connection() as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]
    with (
        ConnectionPool(postgres.url, **options) as pool,
        pytest.raises(InvalidSetting, match="autocommit"),
    ):
        PostgresStore(pool, schema=schema).list()
    latin = {"autocommit": True, "client_encoding": "latin1"}
    with (
        ConnectionPool(postgres.url, kwargs=latin, **options) as pool,
        pytest.raises(InvalidSetting, match='"client_encoding": "utf8"'),
    ):
        PostgresStore(pool, schema=schema).list()
    apart = {"host": "127.0.0.1", "port": postgres.port, "user": "postgres", "dbname": "postgres"}
    with ConnectionPool("", kwargs=POOLED | apart, **options) as pool:
        store = PostgresStore(pool, schema=schema)
        assert store.place == f"{postgres.url}?schema={schema}"
        assert [info.id for info in store.list()] == ["s"]


def test_prepared_statements_give_the_same(postgres: Postgres, schema: str) -> None:
    """`prepare=True` changes nothing but the cost."""
    store = PostgresStore(postgres.url, schema=schema, prepare=True)
    for _ in range(3):
        with Conversation.open("s", store=store) as chat:
            chat.add_user("one", AudioInput(SOUND))
            chat.set_title("T")
            chat.undo()
            chat.add_user("two")
    assert texts(store.session("s")) == ["two"] * 3


def test_nothing_in_the_statements_belongs_to_a_connection() -> None:
    """No statement sets, listens or locks anything beyond its own transaction."""
    for sql in _postgres_sql.statements("public").values():
        text = sql.decode().upper()
        for word in ("LISTEN", "PG_ADVISORY_LOCK", "SET SESSION", "TEMP", "DECLARE"):
            assert word not in text


def test_failover_that_lost_turns_is_noticed(
    store: PostgresStore, postgres: Postgres, schema: str
) -> None:
    """Turns that were acknowledged and are gone are a conflict, also behind other new ones."""
    for way in ("shorter", "other turns"):
        with Conversation.open(way, store=store) as chat:
            chat.add_user("one")
            chat.add_user("two")
            key = f"(SELECT key FROM {schema}.conversation_sessions WHERE id = '{way}')"
            postgres.execute(
                f"DELETE FROM {schema}.conversation_turns WHERE session = {key} AND position = 1"
            )
            postgres.execute(
                f"UPDATE {schema}.conversation_sessions SET length = 1 WHERE key = {key}"
            )
            if way == "other turns":
                with Conversation.open(way, store=store) as other:
                    other.add_user("else")
                    other.add_user("more")
            for _ in range(2):
                with pytest.raises(SessionChanged, match="lost changes"):
                    chat.add_user("three")
        with Conversation.open(way, store=store) as again:
            again.add_user("on")


def test_random_cuts_lose_nothing(proxy: Proxy, remote: PostgresStore) -> None:
    """Connections are cut 40 times at random; memory and database agree, and nothing is refused."""
    cut_at_random(proxy, remote, 40)


@pytest.mark.slow
def test_many_random_cuts_lose_nothing(proxy: Proxy, remote: PostgresStore) -> None:
    """Connections are cut 200 times at random; memory and database agree."""
    cut_at_random(proxy, remote, 200)


def cut_at_random(proxy: Proxy, store: PostgresStore, cuts: int) -> None:
    """Make changes while connections are cut, and compare."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    expected: list[str] = []
    moments: tuple[Moment, ...] = ("before", "during", "after")
    with Conversation.open("s", store=store) as chat:
        while proxy.cuts < cuts:
            if proxy.has_cut:
                proxy.cut_next(dice.choice(moments), skip=dice.randrange(4))
            what = dice.random()
            if what < 0.6 or not expected:
                expected.append(f"turn {proxy.cuts} {len(expected)}")
                chat.add_user(expected[-1])
            elif what < 0.8:
                expected.append(f"sound {proxy.cuts} {len(expected)}")
                chat.add_user(expected[-1], AudioInput(SOUND + expected[-1].encode()))
            elif what < 0.9:
                chat.set_title(f"{proxy.cuts}")
            else:
                assert [turn.text for turn in chat.undo()] == [expected.pop()]
            assert [turn.text for turn in chat.turns] == expected
        proxy.cut_next("before", b"nothing contains this")
        with Conversation.open("s", store=store, read_only=True) as again:
            assert again.turns == chat.turns
            assert again.title == chat.title


def test_exception_in_the_middle_of_a_write_loses_nothing(
    proxy: Proxy, remote: PostgresStore
) -> None:
    """A time limit that raises while the server works on a turn leaves memory as the rows are."""

    class OverError(Exception):
        pass

    def fail(_: int, frame: FrameType | None) -> None:
        while frame is not None and not frame.f_globals["__name__"].startswith("conversation"):
            if frame.f_globals["__name__"].startswith("coverage."):  # it would keep its lock
                signal.setitimer(signal.ITIMER_REAL, 0.001)
                return
            frame = frame.f_back
        raise OverError

    before = signal.signal(signal.SIGALRM, fail)
    try:
        with Conversation.open("s", store=remote) as chat:
            chat.add_user("one")
            for number in range(12):
                proxy.delay = 0.02
                told = []
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0.01 + number * 0.006)
                    told.append(chat.add_user(f"turn {number}").text)
                except OverError:
                    pass
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    proxy.delay = 0
                chat.set_title(f"{number}")
                found = [turn.text for turn in chat.turns]
                assert found == texts(remote.session("s"))
                assert len({*found}) == len(found)
                assert {*told} <= {*found}
    finally:
        signal.signal(signal.SIGALRM, before)


def test_connection_that_nobody_holds_is_free(store: PostgresStore) -> None:
    """An exception between getting the right to a connection and using it costs none."""
    assert store.list() == []
    pool = store._database._pool
    assert isinstance(pool, _postgres_pool.Pool)
    for _ in range(20):
        pool._free.get(timeout=60)  # and lost
    assert pool._free.qsize() == 8
    assert store.list() == []
    for _ in range(8):
        pool._free.get(timeout=60)._free = weakref.ref(SimpleQueue())  # `__del__` does nothing
    assert pool._free.qsize() == 0
    assert store.list() == []
    assert pool._free.qsize() == 8


def test_async_pool_is_refused(postgres: Postgres) -> None:
    """A store takes the pool of the synchronous driver, for both twins."""
    from psycopg_pool import AsyncConnectionPool

    pool = AsyncConnectionPool(postgres.url, open=False)
    with pytest.raises(InvalidSetting, match="got AsyncConnectionPool"):
        PostgresStore(pool)


def test_pool_of_the_caller_is_not_shared_with_a_child(postgres: Postgres, schema: str) -> None:
    """A pool's connections belong to one process; a child is told what to do."""
    from psycopg_pool import ConnectionPool

    with ConnectionPool(postgres.url, kwargs=POOLED, open=True) as pool:
        store = PostgresStore(pool, schema=schema)
        store.list()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                store.list()
            except InvalidSetting as error:
                status = 0 if "in the child" in str(error) else 2
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        assert list(store.list()) == []


@pytest.mark.parametrize("prefix", ["\0", "s\0", "\ud800", "%", "s_", "'"])
def test_prefixes_that_no_id_has(store: PostgresStore, prefix: str) -> None:
    """A prefix is literal, whatever it holds."""
    with Conversation.open("s1", store=store) as chat:
        chat.add_user("Hello")
    assert list(store.list(prefix=prefix)) == []


def test_database_is_seen_as_rows(store: PostgresStore, postgres: Postgres, schema: str) -> None:
    """Labels, times and sizes stand in columns of their own."""
    with Conversation.open("s", store=store, clock=lambda: 1e9) as chat:
        chat.add_user("Hello")
        chat.add_user("Hear", AudioInput(SOUND), AudioInput(MP3))
        chat.set_title("T\0")
    columns = "id, length, size, extract(epoch FROM created_at)::bigint, updated_at > '2020-01-01'"
    (row,) = postgres.execute(f"SELECT {columns} FROM {schema}.conversation_sessions")
    entries = postgres.execute(f"SELECT entry FROM {schema}.conversation_turns")
    (header,) = postgres.execute(f"SELECT header FROM {schema}.conversation_sessions")
    size = sum(len(text.encode()) for (text,) in [header, *entries])
    assert row == ("s", 2, size, 1_000_000_000, True)
    assert orjson.loads(header[0])["title"] == "T\0"
    assert store.list()[0].size == size
    assert store.list()[0].title == "T\0"
    sizes = postgres.execute(f"SELECT length(data) FROM {schema}.conversation_blobs ORDER BY 1")
    assert [size for (size,) in sizes] == sorted([len(SOUND), len(MP3)])


def test_session_may_be_renamed_by_sql(
    store: PostgresStore, postgres: Postgres, schema: str
) -> None:
    """A session has the id of its row: so it is opened, logged and copied."""
    with Conversation.open("old", store=store) as chat:
        chat.add_user("Hello")
    postgres.execute(f"UPDATE {schema}.conversation_sessions SET id = 'new'")
    with Conversation.open("new", store=store, create=False) as renamed:
        renamed.add_user("And more")
        assert renamed.id == "new"
        assert len(renamed.turns) == 2


def test_picture_sizes_come_in_one_round_trip(proxy: Proxy, remote: PostgresStore) -> None:
    """The sizes that a request needs for its bound on uploads are asked for once."""
    from conversation import ImageInput

    with Conversation.open("s", store=remote) as chat:
        for number in range(5):
            chat.add_user(str(number), AudioInput(SOUND), ImageInput(PNG + bytes([number])))
    proxy.counted = b"octet_length(data)"
    with Conversation.open("s", store=remote) as chat:
        chat.request()
    assert proxy.statements <= 1


def test_store_forgets_its_connections(postgres: Postgres, schema: str) -> None:
    """A store that nobody uses any more closes its connections."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE application_name = '{schema}'"
    store = PostgresStore(f"{postgres.url}?application_name={schema}", schema=schema)
    store.list()
    assert postgres.execute(query) == [(1,)]
    del store
    end = time.monotonic() + 120
    while postgres.execute(query) != [(0,)]:
        assert time.monotonic() < end


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://bot:hun/ter2@127.0.0.1:1/db",
        "postgresql://bot:hun@ter2@127.0.0.1:1/db",
        'postgres//bot:a"hun"ter2"b@db',
    ],
)
def test_password_that_is_not_encoded_is_not_repeated(url: str) -> None:
    """The error says how to encode it, or what is understood, without any part of it."""
    with pytest.raises(InvalidSetting) as caught:
        PostgresStore(url).list()
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_turns_in_a_database_are_copied_and_not_pickled(store: PostgresStore) -> None:
    """A deep copy names the same bytes; pickling says what to do."""
    with Conversation.open("s", store=store) as chat:
        turn = chat.add_user(AudioInput(SOUND))
    copied = copy.deepcopy(turn)
    assert copied == turn
    assert isinstance(sound := copied.content[0], AudioInput)
    assert sound.read() == SOUND
    with pytest.raises(TypeError, match=r"keep its bytes, by read\(\)"):
        pickle.dumps(turn)


def test_damaged_row_hides_no_other_session(
    store: PostgresStore, postgres: Postgres, schema: str
) -> None:
    """Headers that are no JSON are listed without a title, dates beyond the calendar as none."""
    for name in ("a", "b", "c"):
        Conversation.open(name, store=store).add_user("Hello")
    table = f"{schema}.conversation_sessions"
    postgres.execute(f"UPDATE {table} SET header = '{{' WHERE id = 'a'")
    postgres.execute(f"UPDATE {table} SET created_at = '9999-12-31T23:59:59-05:00' WHERE id = 'b'")
    found = {info.id: info for info in store.list()}
    assert set(found) == {"a", "b", "c"}
    assert found["b"].created_at is None
