"""psycopg, which is an extra: the only module that imports it."""

from __future__ import annotations

import contextlib
import importlib

with contextlib.suppress(ImportError):  # `help(PostgresStore)` does without
    import psycopg
    from psycopg import conninfo, pq

__all__ = ["check_driver", "conninfo", "pq", "psycopg"]


def check_driver() -> None:
    """Refuse to go on without psycopg.

    Raises:
        ImportError: if it is not installed, or finds no libpq.
    """
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        msg = "PostgresStore needs the extra `postgres`: pip install '.[postgres]'"
        raise ImportError(msg) from error
