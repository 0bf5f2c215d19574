"""Saving what can be read of a damaged session."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conversation import AssistantTurn, Conversation, FileStore
from conversation.errors import SaveFailed, SessionCorrupt, SessionNotFound
from tests.conftest import Clock
from tests.samples import SOUND, spoken


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> FileStore:
    """A store with a session of four turns."""
    store = FileStore(tmp_path)
    with Conversation.open("retriever", store=store, clock=clock, voice="echo") as chat:
        chat.set_title("Dogs")
        for number in (1, 2):
            chat.add_user(f"Question {number} with {{braces}} and ]}}")
            chat.add_completion(spoken(f"Answer {number}"))
    return store


def texts(store: FileStore) -> list[str]:
    """The words of the session's turns."""
    with Conversation.open("retriever", store=store, create=False) as chat:
        return [turn.text for turn in chat.turns]


def test_a_damaged_line_is_lost_and_all_others_are_kept(store: FileStore) -> None:
    """The report shows what was lost; the original is kept whole."""
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
def test_a_damaged_header_is_made_anew(store: FileStore, damage: bytes) -> None:
    """The turns are kept, with their sound."""
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


def test_another_layout_that_is_damaged_is_read_too(store: FileStore) -> None:
    """Line ends mean nothing to a repair."""
    path = store.root / "retriever.json"
    whole = texts(store)
    pretty = json.dumps(json.loads(path.read_bytes()), indent=2)
    path.write_text(pretty[:-4] + "!")
    report = store.repair("retriever")
    assert (report.kept, report.header_lost) == (4, False)
    assert texts(store) == whole


def test_invalid_bytes_in_one_turn_cost_that_turn(store: FileStore) -> None:
    """The others are kept byte for byte."""
    path = store.root / "retriever.json"
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(path.read_bytes().replace(b"Answer 1", b"Answer \xff"))
    assert store.repair("retriever").kept == 3
    assert path.read_bytes().split(b"\n")[1:] == [lines[1], *lines[3:]]


def test_a_session_that_is_whole_stays_as_it_is(store: FileStore) -> None:
    """A repair loses nothing."""
    path = store.root / "retriever.json"
    before = path.read_bytes()
    report = store.repair("retriever")
    assert (report.kept, report.lost, path.read_bytes()) == (4, (), before)


def test_what_is_not_there_cannot_be_repaired(tmp_path: Path) -> None:
    """The error names it; a folder in its place is refused too."""
    store = FileStore(tmp_path)
    with pytest.raises(SessionNotFound):
        store.repair("retriever")
    (tmp_path / "retriever.json").mkdir()
    with pytest.raises(SaveFailed):
        store.repair("retriever")
