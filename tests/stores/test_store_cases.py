"""The cases of every store, run by `FileStore` and by a store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    PostgresStore,
    UserTurn,
)
from conversation.errors import InvalidSetting
from conversation.stores import Looking, News, Store, StoredSession
from tests.postgres import Postgres
from tests.samples import SOUND, spoken
from tests.stores.cases import HEADER, StoreCases, acquired, line
from tests.stores.memory_store import MemoryStore


class ListCases:
    """Promises of the stores of this package about the arguments of `list`."""

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("limit", value) for value in (-1, True, 1.5, "2")),
            *(("prefix", value) for value in (5, None, b"s")),
            *(("before", value) for value in ("s", 0)),
        ],
    )
    def test_list_refuses_what_cannot_work(self, store: Store, name: str, value: object) -> None:
        """A refusal names the argument and the rule."""
        with pytest.raises(InvalidSetting, match=f"{name} must be"):
            store.list(**{name: value})  # type: ignore[arg-type]

    def test_list_takes_limits_of_any_size(self, store: Store) -> None:
        """A limit may be 0, or larger than any number of sessions."""
        Conversation.open("s", store=store).set_title("T")
        assert list(store.list(limit=0)) == []
        assert [info.id for info in store.list(limit=2**70)] == ["s"]


class LookingCases:
    """Promises of the stores of this package about a look without the lock."""

    def test_looking_at_what_was_added_needs_no_lock(
        self, store: Store, session: StoredSession
    ) -> None:
        """`look` returns added entries; None where nothing was read, and after other changes."""
        other = store.session("s")
        assert isinstance(other, Looking)
        assert other.look() is None
        assert other.read() is not None
        assert other.look() == News()
        with acquired(session):
            session.append([line("three")])
            session.append([line("four")])
            added = other.look()
            assert added is not None
            assert [entry["content"] for entry in added.added] == ["three", "four"]
            assert other.look() == News()
            session.append([line("five")])
        with acquired(other) as news:
            assert [entry["content"] for entry in news.added] == ["five"]
            other.append([line("six")])
        with acquired(session):
            session.rewrite(HEADER, {0: line("ONE")}, 6)
        assert other.look() is None
        with acquired(other) as news:
            assert news.state is not None
            assert [entry["content"] for entry in news.state.entries][::5] == ["ONE", "six"]
        store.delete("s")
        assert other.look() is None


class TestFileStore(ListCases, LookingCases, StoreCases):
    """Files on a disk."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        """Return an empty store."""
        return FileStore(tmp_path / "sessions", fsync=False)

    def test_path_is_that_of_the_kept_file(self, store: FileStore) -> None:
        """Kept sound has a path and a media type; sound in memory, or of a fork there, no path."""
        chat = Conversation.open("s", store=store)
        asked, answered = said(chat)
        for sound, number in ((asked, 1), (answered, 2)):
            assert sound.path is not None
            assert sound.path.parent == store.root / "s.audio"
            assert sound.path.name.startswith(f"000{number}-")
            assert (sound.path.read_bytes(), sound.media_type) == (SOUND, "audio/wav")
        for sound in (*said(chat.fork()), AudioInput(SOUND), AssistantAudio("audio_1")):
            assert sound.path is None
        store.keep_sound = "none"
        assert [sound.path for sound in said(Conversation.open("t", store=store))] == [None, None]

    def test_exists_finds_documents(self, store: FileStore) -> None:
        """A session exists from its first write to its end, also a damaged one."""
        check_existence(store)
        with Conversation.open("s", store=store) as chat:
            chat.add_user(AudioInput(SOUND))
        path = store.root / "s.json"
        path.write_bytes(b"?")
        assert store.exists("s")
        path.unlink()
        assert not store.exists("s")  # sound alone is no session


class TestMemoryStore(StoreCases):
    """A dict, through the protocol alone."""

    @pytest.fixture
    def store(self) -> MemoryStore:
        """Return an empty store."""
        return MemoryStore()


class TestPostgresStore(ListCases, LookingCases, StoreCases):
    """Rows in a database."""

    @pytest.fixture
    def store(self, postgres: Postgres, schema: str) -> PostgresStore:
        """Return an empty store."""
        return PostgresStore(postgres.url, schema=schema)

    def test_exists_finds_rows(self, store: PostgresStore) -> None:
        """A session exists from its first write to its end."""
        check_existence(store)

    def test_rows_have_no_path(self, store: PostgresStore) -> None:
        """Sound in a database has a media type, and no path."""
        for sound in said(Conversation.open("s", store=store)):
            assert (sound.path, sound.media_type) == (None, "audio/wav")


def said(chat: Conversation) -> tuple[AudioInput, AssistantAudio]:
    """Return a spoken question and a spoken answer, which are added to an empty conversation."""
    if not chat.turns:
        chat.add_user(AudioInput(SOUND))
        chat.add_completion(spoken())
    question, answer = chat.turns
    assert isinstance(question, UserTurn)
    assert isinstance(answer, AssistantTurn)
    [part] = question.content
    assert isinstance(part, AudioInput)
    assert answer.audio
    return part, answer.audio


def check_existence(store: FileStore | PostgresStore) -> None:
    """Assert that a session exists while it is written."""
    with Conversation.open("s", store=store) as chat:
        assert not store.exists("s")
        with acquired(store.session("s")):
            assert not store.exists("s")
        chat.add_user("Hi")
        assert store.exists("s")
        assert not store.exists("S")
    store.delete("s")
    assert not store.exists("s")
    with pytest.raises(InvalidSetting, match="session id"):
        store.exists("")
