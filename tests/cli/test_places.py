"""Stores by their places: folders and databases, and copying between them."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
import time
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, ImageInput, PostgresStore
from conversation._values.media import kept_data
from conversation.stores import Store
from conversation.testing import StandIn
from tests.cli.conftest import PROGRAM, Run, run
from tests.postgres import Postgres
from tests.programs import Program, ran
from tests.samples import PNG, SOUND
from tests.stores.proxy import Proxy
from tests.terminals import environment


@pytest.fixture
def database(postgres: Postgres, schema: str) -> str:
    """Return the place of an empty store in a database."""
    return f"{postgres.url}?schema={schema}"


@pytest.fixture
def tables(postgres: Postgres, schema: str) -> PostgresStore:
    """Return the same store."""
    return PostgresStore(postgres.url, schema=schema)


def sound_of(number: int) -> AudioInput:
    """Return other sound for each session."""
    return AudioInput.from_pcm(number.to_bytes(4, "little") * 1200, 24_000)


def fill(store: Store, count: int) -> None:
    """Make sessions with words, sound and pictures."""
    for number in range(count):
        with Conversation.open(f"s%{number}", store=store, voice="ash") as chat:
            chat.add_user("Hello \0 \u2028", sound_of(number), ImageInput(PNG))
            chat.add_user("And more")
            chat.set_title(f"Talk {number}")
            chat.set_metadata({"number": number})


def contents(root: Path) -> dict[str, bytes]:
    """Return all files of a folder by name, without the random revision of documents."""
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            data = re.sub(rb'"revision":"[0-9a-f]{8}"', b"", path.read_bytes())
            found[str(path.relative_to(root))] = re.sub(rb'"turns_at_least":\d+ *', b"", data)
    return found


def test_every_command_takes_a_url(
    cli: Run, database: str, tmp_path: Path, server: StandIn, tables: PostgresStore
) -> None:
    """Sessions in a database are listed, shown, exported, imported, verified and deleted."""
    place = ("--store", database)
    done = run("chat", "ann", *place, folder=tmp_path, server=server, lines="Hello\nAgain\n")
    assert (done.returncode, done.stderr) == (0, "")
    status, out, err = cli("list", *place)
    assert (status, err, out.split()[0]) == (0, "", "ann")
    status, out, err = cli("show", "ann", *place)
    assert (status, err) == (0, "")
    assert out.count("user ") == 2
    assert cli("export", "ann", "-o", str(tmp_path / "talk.json"), *place)[0] == 0
    status, out, _ = cli("import", str(tmp_path / "talk.json"), "--id", "bob", *place)
    assert (status, out) == (0, "imported session 'bob', 4 turns\n")
    status, out, _ = cli("verify", *place)
    assert (status, out) == (0, "2 sessions, 8 turns, 4 files; 0 damaged\n")
    assert json.loads(cli("verify", "bob", "--json", *place)[1])[0]["path"].endswith("#bob")
    assert cli("delete", "bob", "--yes", *place)[0] == 0
    assert [info.id for info in tables.list()] == ["ann"]
    status, _, err = cli("repair", "ann", *place)
    assert status == 2
    assert "restore a backup" in err


def test_environment_sets_the_default_store(
    cli: Run, database: str, tables: PostgresStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`$CONVERSATION_STORE` is a URL or a folder; `--store` overrules it."""
    fill(tables, 1)
    monkeypatch.setenv("CONVERSATION_STORE", database)
    assert cli("list")[1].startswith("s%0 ")
    monkeypatch.setenv("CONVERSATION_STORE", str(tmp_path / "folder"))
    assert str(tmp_path / "folder") in cli("list")[2]
    assert cli("list", "--store", database)[1].startswith("s%0 ")


@pytest.mark.parametrize(
    "place",
    [
        "postgresql+psycopg://bot:hunter2@127.0.0.1/db",
        "mysql://bot:hunter2@127.0.0.1/db",
        "host=127.0.0.1 password=hunter2",
        " dbname=hunter2",
    ],
)
def test_what_is_no_folder_makes_none(
    cli: Run, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other URLs, and libpq's pairs, are refused, and not repeated: they may hold a password."""
    monkeypatch.chdir(tmp_path)
    before = list(tmp_path.rglob("*"))
    status, out, err = cli("list", "--store", place)
    assert (status, out) == (2, "")
    assert "hunter2" not in err
    assert list(tmp_path.rglob("*")) == before


def test_scheme_of_any_case_and_blanks_around_are_a_url(
    cli: Run, database: str, tables: PostgresStore
) -> None:
    """As they come from a file of settings."""
    fill(tables, 1)
    place = f" {database.replace('postgresql', 'POSTGRESQL', 1)} "
    assert cli("list", "--store", place)[1].startswith("s%0 ")


def test_verify_tells_sound_that_is_gone(
    cli: Run, database: str, tables: PostgresStore, postgres: Postgres, schema: str
) -> None:
    """Missing sound and damaged rows are found in a database, too."""
    fill(tables, 2)
    postgres.execute(f"DELETE FROM {schema}.conversation_blobs WHERE name LIKE '%.wav'")
    postgres.execute(
        f"UPDATE {schema}.conversation_turns SET entry = '5' WHERE session = "
        f"(SELECT key FROM {schema}.conversation_sessions WHERE id = 's%1')"
    )
    status, out, _ = cli("verify", "--store", database)
    assert status == 1
    assert "damaged s%0: turn 1: 0001-" in out
    assert "damaged s%1: " in out
    assert "2 damaged" in out
    status, out, err = cli("verify", "S%2", "--store", database)  # there is none
    assert (status, out) == (1, "")
    assert "there is no session 'S%2'. Did you mean 's%" in err
    assert cli("show", "s%0", "--store", database)[1].count("its sound or file is missing") == 1


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("postgresql://[x", "needs a folder or a URL"),
        ("postgresql://ann:secret@127.0.0.1:1/db", "could not be listed"),
    ],
)
def test_wrong_url_is_one_line(tmp_path: Path, place: str, said: str) -> None:
    """An error is one line without the password, and no library logs anything."""
    done = run("list", "--store", place, folder=tmp_path)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_sql_prints_what_create_executes(cli: Run, postgres: Postgres, schema: str) -> None:
    """The printed statements create all tables, so that `create=False` works."""
    status, out, err = cli("sql", "--schema", schema)
    assert (status, err) == (0, "")
    postgres.execute(out)
    postgres.execute(out)
    store = PostgresStore(postgres.url, schema=schema, create=False)
    fill(store, 1)
    assert len(store.list()) == 1


def test_copy_goes_both_ways_byte_by_byte(
    cli: Run, database: str, tmp_path: Path, tables: PostgresStore
) -> None:
    """Sessions copied to a database and back are the same files; the source stays."""
    source, back = tmp_path / "files", tmp_path / "back"
    fill(FileStore(source), 3)
    before = contents(source)
    status, out, err = cli("copy", "--from", str(source), "--to", database)
    assert (status, out, err) == (0, "3 sessions: 3 copied\n", "")
    assert contents(source) == before
    with Conversation.open("s%1", store=tables, read_only=True) as chat:
        assert chat.title == "Talk 1"
        sound = chat.turns[0].content[1]  # type: ignore[union-attr, index]
        assert isinstance(sound, AudioInput)
        assert sound.read() == sound_of(1).read()
    status, out, _ = cli("copy", "--from", database, "--to", str(back))
    assert (status, out) == (0, "3 sessions: 3 copied\n")
    assert contents(back) == before
    status, out, _ = cli("copy", "--from", database, "--to", str(back), "s%0", "s%2")
    assert (status, out) == (0, "2 sessions: 2 there already\n")
    assert contents(back) == before


def test_copy_continues_a_beginning_and_refuses_others(
    cli: Run, database: str, tmp_path: Path, tables: PostgresStore
) -> None:
    """A session that has grown since is continued; another one of the same id is an error."""
    source = FileStore(tmp_path / "files")
    fill(source, 2)
    arguments = ("copy", "--from", str(source.root), "--to", database)
    cli(*arguments)
    with Conversation.open("s%0", store=source) as chat:
        chat.add_user("Grown", AudioInput(SOUND))
    with Conversation.open("s%1", store=tables) as chat:
        chat.undo()
        chat.add_user("Another way")
    there = chat.turns
    status, out, err = cli(*arguments)
    assert (status, out) == (1, "2 sessions: 1 copied, 1 failed\n".replace("copied", "continued"))
    assert "s%1: there is another session 's%1'" in err
    with Conversation.open("s%0", store=tables, read_only=True) as copied:
        assert [turn.text for turn in copied.turns][-1] == "Grown"
        assert copied.turns[-1].content[1].read() == SOUND  # type: ignore[union-attr, index]
    with Conversation.open("s%1", store=tables, read_only=True) as other:
        assert other.turns == there
    status, _, err = cli(*arguments, "missing")
    assert status == 1
    assert "there is no session 'missing'" in err


@pytest.mark.parametrize("to_files", [True, False])
def test_copy_mends_labels_and_missing_sound(
    cli: Run, database: str, tmp_path: Path, postgres: Postgres, to_files: bool
) -> None:
    """A copy whose turns are equal, or a beginning, gets the labels and the sound that it lacks."""
    schema = database.partition("=")[2]
    files, tables = FileStore(tmp_path / "files"), PostgresStore(postgres.url, schema=schema)
    source, target = (tables, files) if to_files else (files, tables)
    places = [database, str(files.root)][:: 1 if to_files else -1]
    arguments = ("copy", "--from", places[0], "--to", places[1])
    fill(source, 3)
    assert cli(*arguments)[:2] == (0, "3 sessions: 3 copied\n")
    with Conversation.open("s%0", store=source) as chat:
        chat.set_title("New")
        chat.set_metadata({"new": 1})
    with Conversation.open("s%1", store=source) as chat:
        chat.add_user("Grown")
    if to_files:
        for number, name in ((0, "*.wav"), (1, "*"), (2, "*.png")):
            (path,) = list((files.root / f"s%25{number}.audio").glob(name))[:1]
            path.write_bytes(b"") if number else path.unlink()
    else:
        postgres.execute(f"DELETE FROM {schema}.conversation_blobs")
    status, out, err = cli(*arguments)
    assert (status, out, err) == (0, "3 sessions: 1 continued, 2 mended\n", "")
    for number in range(3):
        name = f"s%{number}"
        mine = Conversation.open(name, store=source, read_only=True)
        theirs = Conversation.open(name, store=target, read_only=True)
        assert (mine.title, mine.metadata) == (theirs.title, theirs.metadata)
        for turn, other in zip(mine.turns, theirs.turns, strict=True):
            assert [d.read() for d in kept_data(turn)] == [d.read() for d in kept_data(other)]
    assert cli(*arguments)[:2] == (0, "3 sessions: 3 there already\n")


def test_copy_refuses_the_same_store_however_it_is_spelled(
    cli: Run, tmp_path: Path, postgres: Postgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store is not copied into itself; two services of one server may be different stores."""
    (tmp_path / "link").symlink_to(tmp_path)
    services = tmp_path / "services"
    services.write_text(
        f"[one]\nhost=127.0.0.1\nport={postgres.port}\nuser=postgres\ndbname=postgres\n"
        f"[two]\nhost=127.0.0.1\nport={postgres.port}\nuser=postgres\ndbname=template1\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    schema = database.partition("?")[2]
    same = [
        (str(tmp_path), str(tmp_path)),
        (str(tmp_path), f"{tmp_path}/link/./"),
        (f"{tmp_path}/link", str(tmp_path)),
        (database, database),
        (database, database.replace("127.0.0.1", "localhost")),
        (database, f"postgresql:///?service=one&{schema}"),
    ]
    for source, target in same:
        status, _, err = cli("copy", "--from", source, "--to", target)
        assert (status, "the same store" in err) == (2, True)
    for target in ("postgresql:///?service=two", postgres.url):
        assert cli("copy", "--from", f"postgresql:///?service=one&{schema}", "--to", target)[0] == 1


def test_copy_from_nowhere_is_an_error(cli: Run, tmp_path: Path, database: str) -> None:
    """A source that is not there is no empty store: a wrong path, or a database without tables."""
    nowhere = str(tmp_path / "nowhere")
    for source, target in ((nowhere, database), (database, nowhere)):
        status, out, err = cli("copy", "--from", source, "--to", target)
        assert (status, out) == (1, "")
        assert f"there is no store at {source}" in err
    assert not (tmp_path / "nowhere").exists()


def test_copied_sound_that_is_gone_is_told(
    cli: Run, database: str, tmp_path: Path, tables: PostgresStore
) -> None:
    """A turn whose sound is gone is copied all the same, with a warning."""
    source = FileStore(tmp_path / "files")
    fill(source, 1)
    for path in source.root.rglob("*.wav"):
        path.unlink()
    status, _, err = cli("copy", "--from", str(source.root), "--to", database)
    assert status == 0
    assert ".wav is gone" in err
    assert tables.list()[0].id == "s%0"


def move_and_kill(postgres: Postgres, schema: str, folder: Path, count: int) -> None:
    """Copy sessions to a database and back; the program is killed several times on its way."""
    source, back, kills = folder / "files", folder / "back", 0
    store = FileStore(source, fsync=False)
    fill(store, few := min(count, 20))
    for number in range(few, count):
        Conversation.open(f"s%{number % few}", store=store, read_only=True).fork(f"s%{number}")
    with Proxy(postgres.port) as proxy:
        database = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?schema={schema}"
        proxy.counted = b"conversation_"
        for origin, target in ((str(source), database), (database, str(back))):
            arguments = (*PROGRAM, "copy", "--from", origin, "--to", target)
            around = environment(None, folder)
            for kill in range(3):
                proxy.statements = 0
                with Path(os.devnull).open("r+b") as nowhere:
                    process = Program(arguments, folder, around, (nowhere.fileno(),) * 3)
                while proxy.statements < count * (kill + 1) // 4 and process.poll() is None:
                    time.sleep(0.001)
                process.kill()
                kills += process.wait() == -signal.SIGKILL
                postgres.execute(  # not to wait for the end of the lease
                    f"UPDATE {schema}.conversation_sessions SET held_until = now()"
                )
            done = ran(*arguments, folder=folder, environment=around, timeout=300)
            assert (done.returncode, done.stderr) == (0, "")
    assert kills >= 4
    assert contents(back) == contents(source)
    assert len(list(back.glob("*.json"))) == count


@pytest.mark.slow
def test_killed_copy_goes_on(postgres: Postgres, schema: str, tmp_path: Path) -> None:
    """Sessions that are moved to a database and back by a program that is killed are the same."""
    PostgresStore(postgres.url, schema=schema).create()
    count = int(os.environ.get("CONVERSATION_MOVED") or 1000)
    memory = Path("/dev/shm")  # where an fsync costs nothing
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        move_and_kill(postgres, schema, Path(folder), count)
