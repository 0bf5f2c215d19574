"""The tables of `PostgresStore`, and its statements, each of which commits by itself.

Nothing in them belongs to a connection: no SET, no session lock, no LISTEN. So any statement may go
over any connection, also behind a pooler in transaction mode.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

VERSION = 1
"""The newest version of the tables that this code knows; later ones only add nullable columns."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

TEXT, BYTEA, UUID = 25, 17, 2950
"""Types of array elements, by their numbers in `pg_type`."""

BETWEEN = b",\n"
"""The separator of entries in one text."""

_TABLES = """\
CREATE TABLE IF NOT EXISTS {p}conversation_sessions (
  key bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- another one when an id is begun anew
  id text COLLATE "C" NOT NULL UNIQUE,
  header text,                             -- NULL: leased before its first turn
  created_at timestamptz,
  updated_at timestamptz,
  length integer NOT NULL DEFAULT 0,       -- number of turns
  size bigint NOT NULL DEFAULT 0,          -- bytes of header and turns
  revision bigint NOT NULL DEFAULT 0,      -- grows with every rewrite, not with appended turns
  holder uuid,                             -- the lease: its token,
  held_until timestamptz                   -- and its end
) WITH (fillfactor = 70);
CREATE INDEX IF NOT EXISTS conversation_sessions_updated
  ON {p}conversation_sessions (updated_at DESC, key DESC) WHERE header IS NOT NULL;
CREATE TABLE IF NOT EXISTS {p}conversation_turns (
  session bigint NOT NULL REFERENCES {p}conversation_sessions ON DELETE CASCADE,
  position integer NOT NULL,               -- from 0
  entry text NOT NULL,                     -- a JSON object; entry::jsonb for queries
  PRIMARY KEY (session, position)
);
CREATE TABLE IF NOT EXISTS {p}conversation_blobs (
  session bigint NOT NULL REFERENCES {p}conversation_sessions ON DELETE CASCADE,
  name text COLLATE "C" NOT NULL,          -- as the entries name it
  data bytea NOT NULL,
  PRIMARY KEY (session, name)
);
ALTER TABLE {p}conversation_blobs ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE TABLE IF NOT EXISTS {p}conversation_format (version integer NOT NULL);
INSERT INTO {p}conversation_format
  SELECT {version} WHERE NOT EXISTS (SELECT FROM {p}conversation_format);
"""

_LOCK = "SELECT pg_advisory_xact_lock(8315170361);\n"
"""Makes those who create the tables at the same time wait for each other."""

# A crash of the server may forget a lease, but never a turn.
_ASYNC = "async AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
_LEASED = "clock_timestamp() + interval '1 s' * $3::float8"
_IS_FREE = "held_until IS NULL OR held_until <= clock_timestamp() OR holder = ANY($4::uuid[])"

# $1 key, $2 token, $3 lease, $4 revision and $5 length as they were.
_CHANGES = """holder = $2::uuid, held_until = {leased}, updated_at = clock_timestamp()
  WHERE key = $1::bigint AND holder = $2::uuid AND revision = $4::bigint AND length = $5::integer
  RETURNING key"""
# Five parameters: names and bytes, and names, sessions and names there of what the server copies.
_KEPT = """kept AS (
  INSERT INTO {p}conversation_blobs (session, name, data)
  SELECT head.key, new.name, new.data
  FROM head, unnest(${0}::text[], ${1}::bytea[]) new (name, data)
  UNION ALL
  SELECT head.key, new.name, b.data
  FROM head, unnest(${2}::text[], ${3}::text[], ${4}::text[]) new (name, session, source)
  JOIN {p}conversation_sessions s ON s.id = new.session
  JOIN {p}conversation_blobs b ON b.session = s.key AND b.name = new.source
  ON CONFLICT DO NOTHING)"""
# $6 number of entries, $7 their bytes, $8 they.
_APPEND = """WITH head AS (
  UPDATE {p}conversation_sessions
  SET length = length + $6::integer, size = size + $7::bigint, {changes})%s
INSERT INTO {p}conversation_turns (session, position, entry)
SELECT head.key, $5::integer + n - 1, entry
FROM head, unnest($8::text[]) WITH ORDINALITY new (entry, n)"""
# $6 header, $7 revision, $8 created_at, $9 length, $10 positions, $11 entries, $12 bytes of both.
_REWRITE = """WITH head AS (
  UPDATE {p}conversation_sessions SET header = $6::text, revision = $7::bigint,
    created_at = $8::timestamptz, length = $9::integer,
    size = size + $12::bigint - coalesce(octet_length(header), 0) - coalesce((
      SELECT sum(octet_length(entry)) FROM {p}conversation_turns WHERE session = $1::bigint
      AND (position >= $9::integer OR position = ANY($10::integer[]))), 0), {changes}),
{kept13},%s
written AS (
  INSERT INTO {p}conversation_turns (session, position, entry)
  SELECT head.key, new.position, new.entry
  FROM head, unnest($10::integer[], $11::text[]) new (position, entry)
  ON CONFLICT (session, position) DO UPDATE SET entry = excluded.entry)
SELECT (SELECT entry FROM {p}conversation_turns
  WHERE session = head.key AND position = $9::integer - 1)
FROM head"""
# Turns behind the end, and the sound of changed and dropped entries that no other one names.
_DROPPED = """
gone AS (
  SELECT entry FROM head JOIN {p}conversation_turns ON session = head.key
  WHERE position >= $9::integer OR position = ANY($10::integer[])),
unnamed AS (
  DELETE FROM {p}conversation_blobs b USING head, (
    SELECT DISTINCT found[1] AS name
    FROM gone, regexp_matches(entry, '"file":"([^"]+)"', 'g') found) old
  WHERE b.session = head.key AND b.name = old.name
  AND NOT EXISTS (
    SELECT FROM unnest($11::text[]) entry WHERE strpos(entry, '"' || b.name || '"') > 0)
  AND NOT EXISTS (
    SELECT FROM {p}conversation_turns t WHERE t.session = $1::bigint
    AND t.position < $9::integer AND t.position <> ALL($10::integer[])
    AND strpos(t.entry, '"' || b.name || '"') > 0)),
dropped AS (
  DELETE FROM {p}conversation_turns USING head
  WHERE session = head.key AND position >= $9::integer),"""

_STATEMENTS = {
    "found": """SELECT count(relname) FROM pg_namespace n LEFT JOIN pg_class ON relnamespace = n.oid
AND relname IN ('conversation_sessions', 'conversation_turns', 'conversation_blobs',
  'conversation_format')
WHERE nspname = $1::text GROUP BY n.oid""",
    "identity": """SELECT pg_postmaster_start_time(), oid, to_regclass($1::text)
FROM pg_database WHERE datname = current_database()""",
    "version": "SELECT version FROM {p}conversation_format",
    # The first look of an object: $1 id, $2 token, $3 lease, $4 its own tokens.
    "take_first": """WITH {async}
INSERT INTO {p}conversation_sessions AS s (id, holder, held_until)
SELECT $1::text, $2::uuid, {leased} FROM async
WHERE NOT EXISTS (SELECT FROM {p}conversation_sessions WHERE id = $1::text AND NOT ({is_free}))
ON CONFLICT (id) DO UPDATE SET holder = excluded.holder, held_until = excluded.held_until
  WHERE s.held_until IS NULL OR s.held_until <= clock_timestamp() OR s.holder = ANY($4::uuid[])
RETURNING key, header IS NOT NULL""",
    # Later ones: $1 key, $2 to $4 as above, $5 known length. The last known entry comes along.
    "take": """WITH {async}, taken AS (
  UPDATE {p}conversation_sessions SET holder = $2::uuid, held_until = {leased} FROM async
  WHERE key = $1::bigint AND ({is_free}) RETURNING revision, length)
SELECT taken.revision, taken.length, (
  SELECT string_agg(entry, E',\\n' ORDER BY position) FROM {p}conversation_turns
  WHERE session = $1::bigint AND position >= $5::integer - 1)
FROM {p}conversation_sessions s LEFT JOIN taken ON true WHERE s.key = $1::bigint""",
    "look_on": """SELECT revision, length, (
  SELECT string_agg(entry, E',\\n' ORDER BY position) FROM {p}conversation_turns
  WHERE session = $1::bigint AND position >= $2::integer - 1)
FROM {p}conversation_sessions WHERE key = $1::bigint AND revision = $3::bigint""",
    "release": """WITH {async}
UPDATE {p}conversation_sessions SET holder = NULL, held_until = NULL FROM async
WHERE id = $1::text AND holder = ANY($2::uuid[])""",
    # By itself: not every role may DELETE.
    "remove_stub": """WITH {async}
DELETE FROM {p}conversation_sessions USING async
WHERE id = $1::text AND holder = ANY($2::uuid[]) AND header IS NULL""",
    "renew": """WITH {async}
UPDATE {p}conversation_sessions SET held_until = {leased}
FROM async, unnest($1::text[], $2::uuid[]) held (id, token)
WHERE conversation_sessions.id = held.id AND holder = held.token""",
    # Takes the lease away from a statement that may still be under way. A crash of the server may
    # have forgotten the lease, or its end.
    "fence": """UPDATE {p}conversation_sessions SET holder = $2::uuid, held_until = {leased}
WHERE key = $1::bigint AND ({is_free})""",
    "look": """SELECT revision, length, holder = $2::uuid, (
  SELECT entry FROM {p}conversation_turns
  WHERE session = $1::bigint AND position = $3::integer - 1)
FROM {p}conversation_sessions WHERE key = $1::bigint""",
    "read": """SELECT key, revision, length, header, (
  SELECT string_agg(entry, E',\\n' ORDER BY position) FROM {p}conversation_turns
  WHERE session = key), (
  SELECT entry FROM {p}conversation_turns WHERE session = key AND position = length - 1)
FROM {p}conversation_sessions WHERE id = $1::text AND header IS NOT NULL""",
    "exists": """SELECT true FROM {p}conversation_sessions
WHERE id = $1::text AND header IS NOT NULL""",
    "append": _APPEND % "",
    "append_with_sound": _APPEND % ", {kept9}",
    "relabel": """UPDATE {p}conversation_sessions SET header = $6::text, revision = $7::bigint,
  created_at = $8::timestamptz, size = size - octet_length(header) + octet_length($6::text),
  {changes}""",
    # Without the right to DELETE, where nothing is dropped.
    "amend": _REWRITE % "",
    "rewrite": _REWRITE % _DROPPED,
    "keep": """WITH head AS (
  SELECT key FROM {p}conversation_sessions WHERE key = $1::bigint AND holder = $2::uuid
  AND $3::float8 > 0 AND $4::bigint >= 0 AND $5::integer >= 0),
{kept6} SELECT FROM head""",
    "names": """SELECT name, octet_length(data) FROM {p}conversation_blobs
JOIN {p}conversation_sessions ON key = session WHERE id = $1::text""",
    "fetch": """SELECT name, data FROM {p}conversation_blobs
JOIN {p}conversation_sessions ON key = session
WHERE id = $1::text AND name = ANY($2::text[])""",
    "discard": """DELETE FROM {p}conversation_blobs b USING {p}conversation_sessions s
WHERE s.id = $1::text AND b.session = s.key AND b.name = ANY($2::text[]) AND NOT EXISTS (
  SELECT FROM {p}conversation_turns t
  WHERE t.session = s.key AND strpos(t.entry, '"' || b.name || '"') > 0)""",
    "list": """SELECT id, header, created_at, updated_at, size FROM {p}conversation_sessions
WHERE header IS NOT NULL AND starts_with(id, $1::text) AND (updated_at, key) < (
  coalesce($2::timestamptz, 'infinity'), coalesce((
  SELECT key FROM {p}conversation_sessions WHERE id = $3::text), 0))
ORDER BY updated_at DESC, key DESC LIMIT $4::bigint""",
    # Of a page of "list": $1 ids. The last turn that is no system turn, as entries begin.
    "summaries": """SELECT id, length, (
  SELECT count(*) FROM {p}conversation_turns WHERE session = key), header, (
  SELECT entry FROM {p}conversation_turns WHERE session = key
  AND entry NOT LIKE '{{"role":"system"%' ORDER BY position DESC LIMIT 1), (
  SELECT coalesce(sum(octet_length(data)), 0) FROM {p}conversation_blobs
  WHERE session = key AND name ~ $2::text)::bigint
FROM {p}conversation_sessions WHERE id = ANY($1::text[]) AND header IS NOT NULL""",
    "touched": """SELECT updated_at, coalesce(held_until > clock_timestamp(), false)
FROM {p}conversation_sessions WHERE id = $1::text AND header IS NOT NULL""",
    "now": "SELECT clock_timestamp()",
    "sweep": """DELETE FROM {p}conversation_sessions
WHERE id = $1::text AND updated_at = $2::timestamptz
AND (held_until IS NULL OR held_until <= clock_timestamp()) RETURNING key""",
    "delete": """WITH gone AS (
  DELETE FROM {p}conversation_sessions
  WHERE id = $1::text AND (held_until IS NULL OR held_until <= clock_timestamp())
  RETURNING key, header)
SELECT (SELECT count(header) FROM gone), (
  SELECT count(header) FROM {p}conversation_sessions WHERE id = $1::text), (
  SELECT key FROM gone)""",
}


def ddl(schema: str) -> str:
    """Return the statements that create the tables, where they are missing."""
    return _TABLES.format(p=prefix(schema), version=VERSION)


def creation(schema: str) -> str:
    """Return `ddl` for one message to the server, which is one transaction."""
    return _LOCK + ddl(schema)


def prefix(schema: str) -> str:
    """Return what stands before the name of a table."""
    quoted = schema.replace('"', '""')
    return f'"{quoted}".' if schema != "public" else "public."


def rights(sql: bytes) -> str:
    """Return the rights on the tables that a statement needs."""
    found = [each for each in ("SELECT", "INSERT", "UPDATE", "DELETE") if each.encode() in sql]
    return " and ".join(filter(None, (", ".join(found[:-1]), found[-1])))


def statements(schema: str) -> dict[str, bytes]:
    """Return all statements by their names."""
    common = {"p": prefix(schema), "leased": _LEASED}
    parts = {"async": _ASYNC, "is_free": _IS_FREE, "changes": _CHANGES.format(**common)}
    for first in (6, 9, 13):
        parts[f"kept{first}"] = _KEPT.format(*range(first, first + 5), **common)
    made = {name: sql.format(**common, **parts).encode() for name, sql in _STATEMENTS.items()}
    # Sweeping sound is no touch.
    return made | {"silence": made["rewrite"].replace(b", updated_at = clock_timestamp()", b"")}


def array(kind: int, items: Iterable[bytes]) -> bytes:
    """Return an array as PostgreSQL sends it in binary form."""
    pieces = [b"".join((struct.pack("!i", len(item)), item)) for item in items]
    if not pieces:
        return struct.pack("!iii", 0, 0, kind)
    return struct.pack("!iiiii", 1, 0, kind, len(pieces), 1) + b"".join(pieces)


def integers(numbers: Sequence[int]) -> bytes:
    """Return an array of integers."""
    return array(23, (struct.pack("!i", number) for number in numbers))


def number(value: Any) -> int:
    """Return an integer of a result."""
    return int.from_bytes(value, "big", signed=True)


def time_of(value: bytes) -> datetime:
    """Return a time of a result."""
    return _EPOCH + timedelta(microseconds=number(value))
