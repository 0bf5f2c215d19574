"""`sweep`: sessions that nobody has changed for long are deleted, or only their sound."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    ImageInput,
    PostgresStore,
    SessionInfo,
    UserTurn,
)
from conversation._cli.main import main
from conversation.errors import AudioFileMissing, InvalidSetting, SaveFailed, SessionNotFound
from conversation.stores import Stored
from tests.postgres import Postgres
from tests.samples import PNG, SOUND, spoken
from tests.stores.faulty_disk import FaultyDisk

DAY = timedelta(days=1)
AnyStore = FileStore | PostgresStore
Run = Callable[[str], Sequence[Any]]


class Place:
    """A store, and what the clock of its disk or server and a crash do to it."""

    store: AnyStore

    def age(self, session_id: str, days: float) -> None:
        """Pretend that the session was last changed so many days ago."""
        raise NotImplementedError

    def damage(self, session_id: str) -> None:
        """Break the first turn of the session."""
        raise NotImplementedError

    def sounds(self, session_id: str) -> list[str]:
        """Return the names of all bytes that are stored for the session."""
        raise NotImplementedError

    def leave(self, session_id: str) -> None:
        """Leave sound that no turn names, as a kill does."""
        raise NotImplementedError


class Files(Place):
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.store = FileStore(root, fsync=False)
        self.root = root

    def age(self, session_id: str, days: float) -> None:
        then = time.time() - days * 86_400
        os.utime(self.root / f"{session_id}.json", (then, then))

    def damage(self, session_id: str) -> None:
        path = self.root / f"{session_id}.json"
        path.write_bytes(path.read_bytes().replace(b'"role":"user"', b'"role":"oops"'))

    def sounds(self, session_id: str) -> list[str]:
        folder = self.root / f"{session_id}.audio"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def leave(self, session_id: str) -> None:
        (self.root / f"{session_id}.audio" / "0009-00000000.wav").write_bytes(SOUND)


class Tables(Place):
    """A schema of a database."""

    def __init__(self, server: Postgres, schema: str) -> None:
        self.store = PostgresStore(server.url, schema=schema)
        self._server = server
        self._schema = schema

    def run(self, sql: str) -> Any:
        """Execute a statement."""
        return self._server.execute(
            sql.replace("{", f"{self._schema}.conversation_").replace("}", "")
        )

    def age(self, session_id: str, days: float) -> None:
        then = f"clock_timestamp() - interval '{days} days'"
        self.run(f"UPDATE {{sessions}} SET updated_at = {then} WHERE id = '{session_id}'")

    def damage(self, session_id: str) -> None:
        broken = """replace(entry, '"role":"user"', '"role":"oops"')"""
        self.run(f"UPDATE {{turns}} SET entry = {broken} WHERE {self._is(session_id)}")

    def sounds(self, session_id: str) -> list[str]:
        rows = self.run(f"SELECT name FROM {{blobs}} WHERE {self._is(session_id)}")
        return sorted(name for (name,) in rows)

    def leave(self, session_id: str) -> None:
        self.run(
            "INSERT INTO {blobs} SELECT key, '0009-00000000.wav', 'x' FROM {sessions} "
            f"WHERE id = '{session_id}'"
        )

    def _is(self, session_id: str) -> str:
        return f"session = (SELECT key FROM {{sessions}} WHERE id = '{session_id}')"


@pytest.fixture(params=["files", "tables"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Return an empty store of each kind."""
    if request.param == "files":
        return Files(tmp_path / "sessions")
    server = request.getfixturevalue("postgres")
    return Tables(server, request.getfixturevalue("schema"))


def fill(place: Place, session_id: str, *, days: float) -> None:
    """Make a session with words, a picture, sound of the user and a spoken answer."""
    with Conversation.open(session_id, store=place.store) as chat:
        chat.add_user("Look", ImageInput(PNG), AudioInput(SOUND, transcript="at this"))
        chat.add_completion(spoken("Nice."))
        chat.add_user("Bye")
        chat.set_title("Dogs")
    place.age(session_id, days)


def ids(found: Sequence[SessionInfo]) -> list[str]:
    """Return the ids, sorted."""
    return sorted(info.id for info in found)


def test_old_sessions_are_deleted_with_their_sound(place: Place) -> None:
    """Sessions that were changed since stay; a dry run returns the same, and changes nothing."""
    for name, days in {"old": 91, "older": 400, "new": 89}.items():
        fill(place, name, days=days)
    before = place.store.list()
    would = place.store.sweep(older_than=90 * DAY, dry_run=True)
    assert place.store.list() == before
    swept = place.store.sweep(older_than=90 * DAY)
    assert would == swept == tuple(info for info in before if info.id != "new")
    assert ids(place.store.list()) == ["new"]
    assert len(place.sounds("new")) == 3
    assert place.sounds("old") == []
    with pytest.raises(SessionNotFound):
        Conversation.open("old", store=place.store, create=False)
    assert place.store.sweep(older_than=90 * DAY) == ()


def test_only_sound_is_deleted(place: Place) -> None:
    """Words, pictures, labels and the time of the last change stay; then there is none to sweep."""
    fill(place, "s", days=91)
    fill(place, "new", days=1)
    (_, before) = place.store.list()
    with Conversation.open("s", store=place.store, read_only=True) as chat:
        turns = chat.turns
    sweep: dict[str, Any] = {"older_than": 90 * DAY, "sound_only": True}
    assert ids(place.store.sweep(**sweep, dry_run=True)) == ["s"]
    assert len(place.sounds("s")) == 3
    assert place.store.sweep(**sweep) == (before,)
    assert place.store.list()[1].updated_at == before.updated_at
    assert [name[-4:] for name in place.sounds("s")] == [".png"]
    assert len(place.sounds("new")) == 3
    assert place.store.sweep(**sweep) == place.store.sweep(**sweep, dry_run=True) == ()
    with Conversation.open("s", store=place.store) as chat:
        assert [turn.text for turn in chat.turns] == [turn.text for turn in turns]
        question, answer, _ = chat.turns
        assert isinstance(question, UserTurn)
        assert isinstance(answer, AssistantTurn)
        picture = question.content[1]
        assert isinstance(picture, ImageInput)
        assert isinstance(picture.data, Stored)
        assert picture.data.read() == PNG
        assert answer.audio is not None
        assert answer.audio.duration == turns[1].audio.duration  # type: ignore[union-attr]
        assert chat.title == "Dogs"
        content = chat.messages()[0]["content"]
        assert {"type": "text", "text": "at this"} in content
        assert "input_audio" not in str(content)
        chat.add_user("More")
    assert ids(place.store.sweep(older_than=90 * DAY)) == []


def test_verify_calls_swept_sound_no_damage(tmp_path: Path, capsys: Any) -> None:
    """Neither is sound that was swept missing, nor what is left of it in the way."""
    place = Files(tmp_path)
    fill(place, "s", days=91)
    place.store.sweep(older_than=90 * DAY, sound_only=True)
    assert main(["verify", "--store", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "1 session, 3 turns, 1 file; 0 damaged\n"


def test_open_conversations_notice_that_their_sound_is_gone(place: Place) -> None:
    """An object that was open during a sweep goes on with the words."""
    fill(place, "s", days=0)
    with Conversation.open("s", store=place.store) as chat:
        assert len(chat.turns) == 3
        place.age("s", 91)
        answer = chat.turns[1]
        assert isinstance(answer, AssistantTurn)
        assert answer.audio is not None
        assert answer.audio.read()
        assert len(place.store.sweep(older_than=90 * DAY, sound_only=True)) == 1
        with pytest.raises(AudioFileMissing):
            answer.audio.read()
        chat.add_user("More")
        assert "input_audio" not in str(chat.messages())
        assert [turn.text for turn in chat.turns][-2:] == ["Bye", "More"]


@pytest.mark.parametrize("sound_only", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_sessions_in_use_are_left_for_the_next_sweep(
    place: Place, dry_run: bool, sound_only: bool
) -> None:
    """Whoever holds a session's lock keeps it, without a wait; the others are swept."""
    fill(place, "used", days=91)
    fill(place, "old", days=91)
    session = place.store.session("used")
    assert session.acquire() is not None
    sweep = {"sound_only": sound_only, "dry_run": dry_run}
    assert ids(place.store.sweep(older_than=90 * DAY, **sweep)) == ["old"]
    session.release()
    assert "used" in ids(place.store.sweep(older_than=90 * DAY, **sweep))


@pytest.mark.parametrize("sound_only", [False, True])
@pytest.mark.parametrize("dry_run", [False, True])
def test_damaged_sessions_are_skipped(
    place: Place, dry_run: bool, sound_only: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """A damaged session is not changed, and a warning names it."""
    fill(place, "bad", days=91)
    fill(place, "good", days=91)
    place.damage("bad")
    place.age("bad", 91)
    with caplog.at_level(logging.WARNING):
        found = place.store.sweep(older_than=90 * DAY, sound_only=sound_only, dry_run=dry_run)
    assert ids(found) == ["good"]
    assert len(place.sounds("bad")) == 3
    assert "session 'bad' was not swept" in caplog.text


@pytest.mark.parametrize("sound_only", [False, True])
def test_sessions_that_are_touched_after_the_list_stay(
    tmp_path: Path, request: pytest.FixtureRequest, sound_only: bool
) -> None:
    """The time of the last change is read again under each session's lock."""

    def touch(store: AnyStore) -> None:
        with Conversation.open("s", store=store) as chat:
            chat.add_user("I am back")

    class TouchedFiles(FileStore):
        def list(self, **given: Any) -> Sequence[SessionInfo]:
            found = super().list(**given)
            touch(self)
            return found

    class TouchedTables(PostgresStore):
        def list(self, **given: Any) -> Sequence[SessionInfo]:
            found = super().list(**given)
            touch(self)
            return found

    server, schema = request.getfixturevalue("postgres"), request.getfixturevalue("schema")
    for place, store in (
        (Files(tmp_path), TouchedFiles(tmp_path)),
        (Tables(server, schema), TouchedTables(server.url, schema=schema)),
    ):
        fill(place, "s", days=91)
        assert store.sweep(older_than=90 * DAY, sound_only=sound_only) == ()
        assert len(place.sounds("s")) == 3
        with Conversation.open("s", store=place.store, read_only=True) as chat:
            assert chat.turns[-1].text == "I am back"


def test_sound_without_a_turn_is_deleted(place: Place) -> None:
    """Sound that a killed writer or sweep has left behind goes with the next sweep."""
    fill(place, "s", days=91)
    place.store.sweep(older_than=90 * DAY, sound_only=True)
    place.leave("s")
    before = place.store.list()
    assert ids(place.store.sweep(older_than=90 * DAY, sound_only=True)) == ["s"]
    assert [name[-4:] for name in place.sounds("s")] == [".png"]
    assert place.store.list() == before


def test_sound_inside_of_a_document_is_deleted(tmp_path: Path) -> None:
    """A portable document that was put into the folder loses its inline sound."""
    chat = Conversation()
    chat.add_user(AudioInput(SOUND, transcript="Hello"))
    path = chat.save(tmp_path / "s.json")
    path.write_bytes(path.read_bytes().replace(b'"id":null', b'"id":"s"', 1))
    place = Files(tmp_path)
    place.age("s", 91)
    assert ids(place.store.sweep(older_than=90 * DAY, sound_only=True)) == ["s"]
    assert b'"data"' not in path.read_bytes()
    assert b"Hello" in path.read_bytes()


@pytest.mark.parametrize("sound_only", [False, True])
def test_a_session_whose_last_write_was_cut_off_is_swept(tmp_path: Path, sound_only: bool) -> None:
    """Its whole turns stay where only sound is swept, and so does its time."""
    place = Files(tmp_path)
    fill(place, "s", days=0)
    with Conversation.open("s", store=place.store) as chat:
        chat.add_user(AudioInput(SOUND))
    path = tmp_path / "s.json"
    path.write_bytes(path.read_bytes()[:-8])
    place.age("s", 91)
    updated_at = place.store.list()[0].updated_at
    assert ids(place.store.sweep(older_than=90 * DAY, sound_only=sound_only)) == ["s"]
    if not sound_only:
        assert list(tmp_path.iterdir()) == []
        return
    assert [name[-4:] for name in place.sounds("s")] == [".png"]
    assert place.store.list()[0].updated_at == updated_at
    with Conversation.open("s", store=place.store, read_only=True) as chat:
        assert [turn.text for turn in chat.turns] == ["Look\nat this", "Nice.", "Bye"]
        assert chat.recovered is None


def test_a_refusing_disk_stops_no_other_session(tmp_path: Path) -> None:
    """The others are swept before the failure is raised, with the numbers."""
    place = Files(tmp_path)
    for name in "abc":
        fill(place, name, days=91)
    place.store._disk = disk = FaultyDisk()  # type: ignore[union-attr]
    disk.arm("sync_folder")
    with pytest.raises(SaveFailed) as caught:
        place.store.sweep(older_than=90 * DAY, sound_only=True)
    assert caught.value.__notes__ == ["2 sessions were swept, 1 could not be"]
    assert len(place.store.sweep(older_than=90 * DAY, sound_only=True)) == 1


@pytest.mark.parametrize("older_than", [90, "90d", None, timedelta(-1), timedelta(0, -1)])
def test_ages_are_timedeltas(place: Place, older_than: Any) -> None:
    """Numbers, text and negative times are refused before anything is deleted."""
    fill(place, "s", days=91)
    with pytest.raises(InvalidSetting, match="older_than must be a timedelta >= 0"):
        place.store.sweep(older_than=older_than)
    assert len(place.store.list()) == 1


def test_extreme_ages(place: Place) -> None:
    """Nothing is older than all times; everything that was written is older than none."""
    fill(place, "s", days=1000)
    assert place.store.sweep(older_than=timedelta.max) == ()
    assert ids(place.store.sweep(older_than=timedelta(0))) == ["s"]


def test_a_writer_loses_no_word_while_sound_is_swept(place: Place) -> None:
    """Each acknowledged turn is there after sweeps at any moment."""
    done = threading.Event()

    def write() -> None:
        with Conversation.open("s", store=place.store) as chat:
            for number in range(15):
                chat.add_user(f"{number}", AudioInput(SOUND))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not done.is_set():
        place.store.sweep(older_than=timedelta(0), sound_only=True)
    thread.join()
    place.store.sweep(older_than=timedelta(0), sound_only=True)
    assert place.sounds("s") == []
    with Conversation.open("s", store=place.store, read_only=True) as chat:
        assert [turn.text for turn in chat.turns] == [f"{number}" for number in range(15)]


def test_command(place: Place, capsys: Any) -> None:
    """`conversation sweep` prints each session, and takes minutes, hours, days and weeks."""
    fill(place, "a", days=91)
    fill(place, "b", days=2)
    where = place.root if isinstance(place, Files) else place.store.place
    if isinstance(place, Tables):
        where = f"{place._server.url}?schema={place._schema}"

    def run(*arguments: str) -> tuple[int, str]:
        status = main(["sweep", *arguments, "--store", str(where)])
        return status, capsys.readouterr().out

    assert run("--older-than", "90d", "--dry-run") == (0, "would delete a\n")
    assert run("--older-than", "1h", "--sound", "--dry-run") == (
        0,
        "would delete the sound of b\nwould delete the sound of a\n",
    )
    assert run("--older-than", "12w", "--sound") == (0, "deleted the sound of a\n")
    assert run("--older-than", "36h", "--sound") == (0, "deleted the sound of b\n")
    assert run("--older-than", "90 d") == (0, "deleted a\n")
    assert run("--older-than", "90d") == (0, "nothing to delete is older than 90d\n")
    assert run("--older-than", "30min") == (0, "deleted b\n")
    for age in ("90", "d", "-1d", "1.5d", "90y", "", "99999999999999d"):
        assert run(f"--older-than={age}") == (2, "")
