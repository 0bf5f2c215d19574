"""Drills: killed writers, servers that restart or are replaced, slow databases, poolers.

`CONVERSATION_KILLS=2000` kills more often; `CONVERSATION_DELAY=0.3` makes the slow database slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from typing import Any

import attrs
import pytest

pytest.importorskip("psycopg_pool")
from psycopg_pool import ConnectionPool

from conversation import (
    AsyncConversation,
    AudioInput,
    Conversation,
    PostgresStore,
    UserTurn,
)
from conversation.errors import SaveFailed, SessionChanged, SessionUnavailable
from conversation.testing import StandIn
from tests.postgres import Postgres, reserved_port
from tests.samples import SOUND
from tests.stores.processes.fleet_writer import hold_and_write, write
from tests.stores.processes.forks import PROCESSES
from tests.stores.proxy import Proxy

pytestmark = pytest.mark.slow

DELAY = float(os.environ.get("CONVERSATION_DELAY") or 0.05)
KILLS = int(os.environ.get("CONVERSATION_KILLS") or 200)


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """Return a server of its own for a test that stops it."""
    server = Postgres()
    yield server
    server.close()


def until(condition: Callable[[], object], seconds: float = 300.0) -> None:
    """Wait for something that happens."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


# --- killed writers -------------------------------------------------------------------------------


@attrs.define
class Writer:
    """A process that adds turns, and what it has acknowledged."""

    name: str
    process: BaseProcess
    reader: threading.Thread
    acked: list[int]

    @classmethod
    def begin(cls, url: str, schema: str, name: str) -> Writer:
        """Start a writer."""
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=write, args=(url, schema, name, sender))
        process.start()
        sender.close()
        acked: list[int] = []

        def read() -> None:
            with receiver, contextlib.suppress(EOFError, OSError):
                while True:
                    acked.append(receiver.recv())

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        return cls(name, process, reader, acked)

    def kill(self) -> None:
        """Kill it, and read the rest of what it has told."""
        self.process.kill()
        self.process.join()
        self.reader.join()
        assert self.process.exitcode == -signal.SIGKILL


def test_killed_writers_lose_and_double_nothing(postgres: Postgres, schema: str) -> None:
    """Three processes write one session; again and again one of them is killed."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    dead: list[Writer] = []
    writers = [Writer.begin(postgres.url, schema, f"w{number}") for number in range(3)]
    for kill in range(KILLS):
        goal = sum(len(each.acked) for each in writers) + dice.randrange(1, 6)
        until(lambda goal=goal: sum(len(each.acked) for each in writers) >= goal)  # type: ignore[misc]
        victim = writers.pop(0)
        victim.kill()
        dead.append(victim)
        writers.append(Writer.begin(postgres.url, schema, f"w{kill + 3}"))
    for writer in writers:
        writer.kill()
    dead += writers
    check_writers(PostgresStore(postgres.url, schema=schema), dead)


def check_writers(store: PostgresStore, writers: list[Writer]) -> None:
    """Assert that all acknowledged turns are there once, with their sound, and in order."""
    with Conversation.open("s", store=store, read_only=True) as chat:
        turns = chat.turns
    found: dict[str, list[int]] = {}
    for turn in turns:
        assert isinstance(turn, UserTurn)
        name, number = turn.text.split()
        found.setdefault(name, []).append(int(number))
        sound = [part for part in turn.content if isinstance(part, AudioInput)]
        assert len(sound) == (int(number) % 4 == 0)
        whole = AudioInput(SOUND + turn.text.encode()).read()
        assert [part.read() for part in sound] == [whole] * len(sound)
    more = 0
    for writer in writers:
        numbers = found.pop(writer.name, [])
        assert numbers == list(range(len(numbers)))
        assert len(writer.acked) <= len(numbers) <= len(writer.acked) + 1
        more += len(numbers) - len(writer.acked)
    assert not found
    print(f"{len(turns)} turns; {more} were stored and not acknowledged")


@pytest.mark.parametrize("is_overtaken", [True, False])
def test_paused_holder(postgres: Postgres, schema: str, is_overtaken: bool) -> None:
    """A process that is stopped beyond its lease is overtaken, and then writes nothing.

    Where nobody came, it goes on.
    """
    store = PostgresStore(postgres.url, schema=schema)
    with Conversation.open("s", store=store) as chat:
        chat.add_user("first")
        ours, theirs = PROCESSES.Pipe()
        process = PROCESSES.Process(target=hold_and_write, args=(postgres.url, schema, theirs))
        process.start()
        theirs.close()
        assert ours.recv() == "held"
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        held = f"SELECT held_until > clock_timestamp() FROM {schema}.conversation_sessions"
        until(lambda: postgres.execute(held) == [(False,)])
        if is_overtaken:
            chat.add_user("second")
        os.kill(process.pid, signal.SIGCONT)
        ours.send("write")
        assert ours.recv() == ("refused" if is_overtaken else "written")
        process.join()
        chat.add_user("last")
        between = "second" if is_overtaken else "late"
        assert [turn.text for turn in chat.turns] == ["first", between, "last"]


# --- servers that go away -------------------------------------------------------------------------


def test_server_restarts_in_mid_exchange(own_server: Postgres, server: StandIn) -> None:
    """A server that crashes and returns while a model answers costs neither question nor answer."""
    store = PostgresStore(own_server.url)
    client = server.client()
    with Conversation.open("s", store=store, client=client) as chat:
        for number, how in enumerate(("immediate", "fast", "kill")):
            server.will_answer(f"Story {number}")
            with chat.stream(f"Question {number}") as events:
                next(events)
                own_server.stop(how)  # type: ignore[arg-type]
                own_server.start()
                for _ in events:
                    pass
    with Conversation.open("s", store=store, read_only=True) as again:
        assert again.turns == chat.turns
        assert [turn.text for turn in again.turns][1::2] == ["Story 0", "Story 1", "Story 2"]


def test_server_is_away_under_load(own_server: Postgres) -> None:
    """Writers go on when the server returns; each turn is stored once, whatever they were told."""
    store = PostgresStore(own_server.url, lease=1)
    stop = threading.Event()
    failures: list[SaveFailed] = []
    counts = [0] * 4

    def write(name: int) -> None:
        with Conversation.open(f"s{name}", store=store) as chat:
            while not stop.is_set():
                try:
                    chat.add_user(f"{counts[name]}")
                except SaveFailed as error:
                    failures.append(error)
                    turn = error.turn
                    while True:
                        try:
                            chat.add(turn)
                            break
                        except SaveFailed as again:
                            turn = again.turn
                            time.sleep(0.05)
                counts[name] += 1

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        before = list(counts)
        until(lambda before=before: all(a > b + 3 for a, b in zip(counts, before, strict=True)))  # type: ignore[misc]
        failed = len(failures)
        own_server.stop("kill")
        until(lambda failed=failed: len(failures) > failed)  # type: ignore[misc]
        own_server.start()
    stop.set()
    for thread in threads:
        thread.join()
    for name, count in enumerate(counts):
        with Conversation.open(f"s{name}", store=store, read_only=True) as chat:
            assert [turn.text for turn in chat.turns] == [f"{number}" for number in range(count)]
    print(f"{counts}, {len(failures)} failures, {sum(e.in_doubt for e in failures)} in doubt")


def test_server_that_hangs_is_told_within_40_seconds(own_server: Postgres) -> None:
    """A server that is stopped in mid-air ends all calls; it works again as soon as it is back."""
    store = PostgresStore(own_server.url)
    with Conversation.open("s", store=store) as chat:
        chat.add_user("one")
        own_server.pause()
        began = time.monotonic()
        with pytest.raises(SaveFailed) as caught:
            chat.add_user("two")
        told = time.monotonic() - began
        own_server.go_on()
        began = time.monotonic()
        chat.add(caught.value.turn)
        back = time.monotonic() - began
        assert [turn.text for turn in chat.turns] == ["one", "two"]
    print(f"told within {told:.1f} s, back within {back:.1f} s")
    assert told < 40
    assert back < 20


@pytest.mark.parametrize(("what", "size"), [("data", 80), ("log", 24)])
def test_full_disk_loses_nothing(what: str, size: int) -> None:
    """A server whose disk is full says so; what it refused can be repeated when there is room.

    Where the server's own log finds no room, it ends, and is started again.
    """
    own = Postgres("min_wal_size=2MB", "restart_after_crash=off", disks={what: size})
    try:
        store = PostgresStore(own.url)
        store._database.pauses = (0.01, 0.01)
        with Conversation.open("s", store=store) as chat:
            chat.add_user("0")
            told = ["0"]

            def fill() -> None:
                for number in range(1, 10_000):
                    chat.add_user(f"{number}", AudioInput(SOUND + os.urandom(100_000)))
                    told.append(f"{number}")

            room, disk = own.folder / what / "room", os.statvfs(own.folder / what)
            with room.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - 3_000_000)
            with pytest.raises(SaveFailed) as caught:
                fill()
            room.unlink()
            print(caught.value)
            if what == "data":
                assert "disk is full); nothing was changed" in str(caught.value)
            else:
                assert own.process is not None
                own.process.wait(300)
                own.start()
            chat.add(caught.value.turn)
            told.append(caught.value.turn.text)
            chat.set_title("T")
            assert [turn.text for turn in chat.turns] == told
            with Conversation.open("s", store=store, read_only=True) as again:
                assert (again.turns, again.title) == (chat.turns, "T")
    finally:
        own.close()


# --- slow databases -------------------------------------------------------------------------------


@pytest.mark.parametrize(("objects", "tasks"), [(1, 10), (40, 40)])
def test_slow_database_never_stops_the_event_loop(
    postgres: Postgres, schema: str, server: StandIn, objects: int, tasks: int
) -> None:
    """Forty tasks talk in one session of a slow database; none stops the loop for 20 ms.

    How long it stops by the clock is printed and depends on what else the machine does. What is
    asserted does not: the loop's thread sends no statement, and waits for no connection; and the
    processor works for less than 20 ms between two looks at the loop.
    """
    longest = busiest = 0.0
    threads: set[str] = set()

    class Watched(ConnectionPool[Any]):
        def getconn(self, timeout: float | None = None) -> Any:
            threads.add(threading.current_thread().name)
            return super().getconn(timeout)

    async def watch() -> None:
        nonlocal longest, busiest
        last, worked = time.perf_counter(), time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - last - 0.001)
            busiest = max(busiest, time.thread_time() - worked)
            last, worked = time.perf_counter(), time.thread_time()

    async def talk(store: PostgresStore) -> None:
        client = server.async_client()
        chats = [
            AsyncConversation.open("s", store=store, client=client, timeout=600)
            for _ in range(objects)
        ]
        opened = [await chat.__aenter__() for chat in chats]
        await opened[0].say("Begin", AudioInput(SOUND))
        gc.collect()
        gc.freeze()  # the objects of the whole test run are not ours
        watching = asyncio.create_task(watch())
        doomed = asyncio.create_task(opened[-1].set_title("Never mind"))
        asyncio.get_running_loop().call_later(2.5 * DELAY, doomed.cancel)
        await asyncio.gather(
            *(opened[number % objects].add_user(f"{number}") for number in range(tasks))
        )
        await opened[0].undo()
        watching.cancel()  # what the SDK works for an answer is not ours
        gc.unfreeze()
        await opened[-1].say("End")
        await opened[0].undo()

    with Proxy(postgres.port) as proxy:
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres"
        options: Any = {"min_size": 8, "open": True, "kwargs": {"autocommit": True}}
        with Watched(url, **options) as pool:
            store = PostgresStore(pool, schema=schema)
            store.create()
            threads.clear()
            proxy.delay = DELAY
            asyncio.run(talk(store))
            proxy.delay = 0.0
            assert all(name.startswith("conversation-") for name in threads), threads
            with Conversation.open("s", store=store, read_only=True) as chat:
                texts = [turn.text for turn in chat.turns]
    assert {*texts[2:]} < {f"{number}" for number in range(tasks)}
    assert len(texts) == tasks + 1
    print(f"the event loop stopped for {longest * 1000:.1f} ms, of work {busiest * 1000:.1f} ms")
    assert busiest < 0.02


# --- failovers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("synchronous", [True, False])
def test_failover_loses_nothing_in_silence(synchronous: bool) -> None:  # noqa: C901, PLR0915
    """The primary is killed under load and its standby promoted.

    With synchronous replication every acknowledged turn is there. Otherwise a loss is a conflict,
    and turns of both sides are never mixed.
    """
    primary = Postgres("wal_level=replica", "max_wal_senders=4", "hot_standby=on")
    link = Proxy(primary.port)  # of the replication
    standby = Postgres(origin=primary, port=link.port)
    try:  # a primary, a standby, writers, and what they were told
        if synchronous:
            primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.execute("SELECT pg_reload_conf()")
        until(lambda: primary.execute("SELECT 1 FROM pg_stat_replication WHERE state='streaming'"))
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
        store = PostgresStore(url, lease=1)
        acked: dict[str, list[str]] = {f"s{number}": [] for number in range(4)}
        conflicts: list[str] = []
        stop = threading.Event()

        def write(name: str) -> None:
            with Conversation.open(name, store=store, timeout=120) as chat:
                number = 0
                while not stop.is_set():
                    turn = UserTurn((f"{name} {number}",))
                    while True:
                        try:
                            chat.add(turn)
                            acked[name].append(f"{name} {number}")
                            break
                        except SaveFailed as error:
                            turn = error.turn
                            time.sleep(0.05)
                        except SessionChanged:
                            conflicts.append(name)
                            return
                    number += 1

        threads = [threading.Thread(target=write, args=(name,)) for name in acked]
        for thread in threads:
            thread.start()
        until(lambda: all(len(each) > 20 for each in acked.values()))
        if not synchronous:
            link.is_silent = True  # it falls behind
            before = {name: len(each) for name, each in acked.items()}
            until(lambda: all(len(acked[name]) > count + 5 for name, count in before.items()))
        primary.stop("kill")
        standby.execute("SELECT pg_promote()")
        counts = {name: len(each) for name, each in acked.items()}
        until(
            lambda: all(
                len(acked[name]) > count + 5 or name in conflicts for name, count in counts.items()
            )
        )
        stop.set()
        for thread in threads:
            thread.join()
        for name, texts in acked.items():
            with Conversation.open(name, store=store, read_only=True) as chat:
                found = [turn.text for turn in chat.turns]
            if name in conflicts:
                assert not synchronous
                assert found == texts[: len(found)]
            else:
                assert found == texts
        assert synchronous or len(conflicts) == len(acked)
        print(f"{len(conflicts)} of {len(acked)} sessions had lost turns, and said so")
    finally:
        link.__exit__()
        standby.close()
        primary.close()


# --- poolers --------------------------------------------------------------------------------------


class PgBouncer:
    """A pgbouncer in transaction mode, with two connections to the server."""

    def __init__(self, server: Postgres) -> None:
        program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
        if program is None:
            pytest.skip("pgbouncer is not installed")
        self._reserved = reserved_port()
        self.port: int = self._reserved.getsockname()[1]
        settings = server.folder / f"pgbouncer-{self.port}.ini"
        settings.write_text(
            "[databases]\n"
            f"postgres = host=127.0.0.1 port={server.port} user=postgres\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
            "max_client_conn = 200\n"
        )
        settings.chmod(0o644)
        user = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
        self.process = subprocess.Popen(
            [program, str(settings)],
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **user,  # type: ignore[call-overload]
        )

    @property
    def url(self) -> str:
        """The URL of the database behind it."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def close(self) -> None:
        """Stop it."""
        self.process.kill()
        self.process.wait()
        self._reserved.close()


def test_six_writers_behind_pgbouncer(postgres: Postgres, schema: str) -> None:
    """In transaction mode six processes write one session through two connections."""
    bouncer = PgBouncer(postgres)
    try:
        store = PostgresStore(bouncer.url, schema=schema)

        def is_up() -> bool:
            try:
                store.list()
            except SessionUnavailable:
                return False
            return True

        until(is_up)
        writers = [Writer.begin(bouncer.url, schema, f"w{number}") for number in range(6)]
        until(lambda: all(len(writer.acked) > 10 for writer in writers))
        for writer in writers:
            writer.kill()
        check_writers(store, writers)
    finally:
        bouncer.close()
