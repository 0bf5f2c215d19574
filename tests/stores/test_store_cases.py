"""The cases of every store, run by `FileStore` and by a store in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from conversation import FileStore, PostgresStore
from tests.postgres import Postgres
from tests.stores.cases import StoreCases
from tests.stores.memory_store import MemoryStore


class TestFileStore(StoreCases):
    """Files on a disk."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> FileStore:
        """Return an empty store."""
        return FileStore(tmp_path / "sessions", fsync=False)


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
