"""The store that a program names, by itself, by a path or not at all."""

from __future__ import annotations

from pathlib import Path

from conversation.errors import InvalidSetting
from conversation.stores import Store


def store_of(store: Store | str | Path | None) -> Store:
    """Return a store: of files if it is a path, the default one if it is None.

    Raises:
        InvalidSetting: if it is none of these.
    """
    if store is None or isinstance(store, str | Path):
        from conversation.stores.files import FileStore

        return FileStore(store)
    if not callable(getattr(store, "session", None)):
        msg = f"store must be a FileStore, a PostgresStore or a path, got {type(store).__name__}"
        raise InvalidSetting(msg)
    return store
