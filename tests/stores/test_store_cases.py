"""The cases of every store, run by `FileStore` and by a store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, PostgresStore
from conversation.errors import InvalidSetting
from tests.postgres import Postgres
from tests.samples import SOUND
from tests.stores.cases import StoreCases, acquired
from tests.stores.memory_store import MemoryStore


class TestFileStore(StoreCases):
    """Files on a disk."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        """Return an empty store."""
        return FileStore(tmp_path / "sessions", fsync=False)

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


class TestPostgresStore(StoreCases):
    """Rows in a database."""

    @pytest.fixture
    def store(self, postgres: Postgres, schema: str) -> PostgresStore:
        """Return an empty store."""
        return PostgresStore(postgres.url, schema=schema)

    def test_exists_finds_rows(self, store: PostgresStore) -> None:
        """A session exists from its first write to its end."""
        check_existence(store)


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
