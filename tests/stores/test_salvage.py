"""`FileStore.repair`: turns of a damaged document are salvaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conversation import AssistantTurn, Conversation, FileStore
from conversation.errors import SaveFailed, SessionCorrupt, SessionNotFound
from conversation.stores._format import revision_of
from conversation.stores._session import FileSession
from tests.conftest import Clock
from tests.samples import SOUND, spoken


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> FileStore:
    """Return a store with a session of four turns."""
    store = FileStore(tmp_path)
    with Conversation.open("retriever", store=store, clock=clock, voice="echo") as chat:
        chat.set_title("Dogs")
        for number in (1, 2):
            chat.add_user(f"Question {number} with {{braces}} and ]}}")
            chat.add_completion(spoken(f"Answer {number}"))
    return store


def texts(store: FileStore) -> list[str]:
    """Return the texts of the session's turns."""
    with Conversation.open("retriever", store=store, create=False) as chat:
        return [turn.text for turn in chat.turns]


def test_repair_loses_only_the_damaged_line(store: FileStore) -> None:
    """`repair` drops a damaged line, reports it, and keeps the original file beside."""
    path = store.root / "retriever.json"
    whole = texts(store)
    lines = path.read_bytes().split(b"\n")
    for number in (1, 2, 3, 4):
        damaged = b"\n".join([*lines[:number], lines[number][:-30], *lines[number + 1 :]])
        path.write_bytes(damaged)
        report = store.repair("retriever")
        assert texts(store) == [*whole[: number - 1], *whole[number:]]
        assert (report.kept, report.header_lost) == (3, False)
        assert b"".join(report.lost).startswith(lines[number][:20])
        assert report.original.read_bytes() == damaged
        with Conversation.open("retriever", store=store) as chat:
            assert chat.title == "Dogs"
            assert chat.request()["audio"]["voice"] == "echo"


@pytest.mark.parametrize("damage", [b"\0" * 40, b"", b'{"conversation":1,"id":"ret\xff', b"#!"])
def test_repair_replaces_a_damaged_header(store: FileStore, damage: bytes) -> None:
    """`repair` replaces a damaged header and keeps all turns with their sound."""
    path = store.root / "retriever.json"
    whole = texts(store)
    path.write_bytes(damage + b"\n" + path.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(SessionCorrupt):
        Conversation.open("retriever", store=store)
    report = store.repair("retriever")
    assert (report.kept, report.header_lost) == (4, True)
    assert texts(store) == whole
    with Conversation.open("retriever", store=store) as chat:
        audio = [turn.audio for turn in chat.turns if isinstance(turn, AssistantTurn)]
        assert [sound and sound.read() for sound in audio] == [SOUND, SOUND]


def test_repair_reads_reformatted_documents(store: FileStore) -> None:
    """`repair` salvages all turns of a damaged document that was reformatted."""
    path = store.root / "retriever.json"
    whole = texts(store)
    pretty = json.dumps(json.loads(path.read_bytes()), indent=2)
    path.write_text(pretty[:-4] + "!")
    report = store.repair("retriever")
    assert (report.kept, report.header_lost) == (4, False)
    assert texts(store) == whole


def test_repair_drops_a_turn_with_invalid_utf8(store: FileStore) -> None:
    """`repair` drops a turn with invalid UTF-8, and keeps the other lines byte for byte."""
    path = store.root / "retriever.json"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(path.read_bytes().replace(b"Answer 1", b"Answer \xff"))
    assert store.repair("retriever").kept == 3
    assert path.read_bytes().split(b"\n")[1:] == [lines[1], *lines[3:]]


def test_repair_leaves_an_intact_session_unchanged(store: FileStore) -> None:
    """`repair` leaves labels and turns of an intact session, and counts all of its turns."""
    path = store.root / "retriever.json"
    before = path.read_bytes()
    report = store.repair("retriever")
    assert (report.kept, report.lost) == (4, ())
    after = path.read_bytes().replace(revision_of(path.read_bytes()), revision_of(before))
    assert after == before.replace(b'_least":3', b'_least":4')


def test_repair_needs_a_document(tmp_path: Path) -> None:
    """`repair` raises `SessionNotFound` for a missing session, `SaveFailed` for a folder."""
    store = FileStore(tmp_path)
    with pytest.raises(SessionNotFound):
        store.repair("retriever")
    (tmp_path / "retriever.json").mkdir()
    with pytest.raises(SaveFailed):
        store.repair("retriever")


def test_repair_of_a_session_deleted_meanwhile_is_not_found(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`repair` raises `SessionNotFound` if the session is deleted while it waits for the lock."""
    locked = FileSession.locked

    def late(session: FileSession, timeout: float) -> Any:
        store.root.joinpath("retriever.json").unlink()
        return locked(session, timeout)

    monkeypatch.setattr(FileSession, "locked", late)
    with pytest.raises(SessionNotFound):
        store.repair("retriever")
