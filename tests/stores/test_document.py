"""Documents of sessions: layout, appends in place, rewrites, and recovery from torn writes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import Conversation, FileStore
from conversation._values.turns import Turn
from conversation.errors import SessionCorrupt
from conversation.stores import _format
from conversation.stores._format import COUNT_AT, END, count
from tests.conftest import Clock
from tests.samples import spoken

Add = Callable[[Conversation], Turn]


def add_text(chat: Conversation) -> Turn:
    """Add a text turn that contains the syntax of the document."""
    return chat.add_user('He said: ]}\n{"role":"user"},\n]}')


def add_sound(chat: Conversation) -> Turn:
    """Add a spoken turn."""
    return chat.add_completion(spoken("Good }]\n{morning}."))


def session(store: FileStore, turns: int, clock: Clock) -> tuple[Path, tuple[Turn, ...]]:
    """Create a session with `turns` turns; return its path and turns."""
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.set_title("Dogs")
        for number in range(turns):
            add_sound(chat) if number % 2 else chat.add_user(f"Question {number}")
        return store.root / "retriever.json", chat.turns


def counted(data: bytes, turns: int) -> bytes:
    """Return the document with another `turns_at_least`."""
    return data[:COUNT_AT] + count(turns) + data[COUNT_AT + len(count(0)) :]


def is_json(data: bytes) -> bool:
    """Return True if the data is a JSON document."""
    try:
        return bool(json.loads(data))
    except ValueError:
        return False


def check_recovery(path: Path, store: FileStore, expected: tuple[Turn, ...], torn: bytes) -> None:
    """Assert that opening restores all expected turns, repairs the file, and keeps the torn end."""
    path.write_bytes(torn)
    with Conversation.open("retriever", store=store, read_only=True) as reader:
        assert reader.turns[: len(expected)] == expected
        assert path.read_bytes() == torn
    with Conversation.open("retriever", store=store) as chat:
        assert chat.turns[: len(expected)] == expected
        assert len(chat.turns) <= len(expected) + 1
        if is_json(torn):
            assert chat.recovered is None
            return
        assert chat.recovered is not None
        assert len(json.loads(path.read_bytes())["turns"]) == len(chat.turns)
        aside = list(path.parent.glob("retriever.torn-*"))
        size = chat.recovered.size
        assert [file.read_bytes() for file in aside] == ([torn[-size:]] if size else [])
        assert chat.recovered.put_aside == (aside[0] if size else None)
    with Conversation.open("retriever", store=store) as again:
        assert again.recovered is None
        assert again.turns == chat.turns
        again.add_user("and on")
        assert json.loads(path.read_bytes())["turns"][-1]["content"] == "and on"
    for file in aside:
        file.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("add", [add_text, add_sound])
@pytest.mark.parametrize("turns", [0, 1, 5])  # at each byte one of three ways, another for each
def test_torn_append_loses_no_earlier_turn(
    tmp_path: Path, clock: Clock, add: Add, turns: int
) -> None:
    """An append that is torn at any byte loses no earlier turn: cut, zero-filled, or half old."""
    store = FileStore(tmp_path, fsync=False)
    path, before = session(store, turns, clock)
    old = path.read_bytes()
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        add(chat)
    new = path.read_bytes()
    start = len(old) - len(END)
    assert new[:start] == counted(old, turns)[:start]
    for cut in range(start, len(new)):
        ways = (
            new[:cut],
            counted(new[:cut] + bytes(len(new) - cut), max(turns - 1, 0)),
            new[:cut] + old[cut:],
        )
        torn = ways[(cut - start + turns) % 3]
        if torn not in (old, new):
            check_recovery(path, store, before, torn)


@pytest.mark.parametrize("turns", [0, 1, 4])
def test_reordered_blocks_lose_no_earlier_turn(tmp_path: Path, clock: Clock, turns: int) -> None:
    """An append whose last block reaches the disk before the others loses no earlier turn."""
    store = FileStore(tmp_path, fsync=False)
    path, before = session(store, turns, clock)
    old = path.read_bytes()
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("New")
    new = path.read_bytes()
    start = len(old) - len(END)
    for cut in range(start + 1, len(new)):
        torn = old[:cut] + bytes(max(0, cut - len(old))) + new[cut:]
        if torn not in (old, new):
            check_recovery(path, store, before, counted(torn, turns if cut % 2 else 0))


def test_damage_before_the_last_line_is_corrupt(tmp_path: Path, clock: Clock) -> None:
    """A damaged line before the last one raises `SessionCorrupt` with its number."""
    store = FileStore(tmp_path)
    path, _ = session(store, 4, clock)
    lines = path.read_bytes().split(b"\n")
    for number in (1, 2, 3):
        damaged = b"\n".join([*lines[:number], lines[number][:-9], *lines[number + 1 :]])
        path.write_bytes(damaged)
        for read_only in (True, False):
            with pytest.raises(SessionCorrupt) as caught:
                Conversation.open("retriever", store=store, read_only=read_only)
            assert (caught.value.line, caught.value.path) == (number + 1, path)
            assert path.read_bytes() == damaged


def test_damaged_header_is_corrupt(tmp_path: Path, clock: Clock) -> None:
    """A damaged header raises `SessionCorrupt`; the file is not taken for an empty session."""
    store = FileStore(tmp_path)
    path, _ = session(store, 2, clock)
    whole = path.read_bytes()
    first = whole.index(b"\n")
    for cut in (0, 1, first // 2, first - 1):
        for damaged in (whole[:cut], whole[:cut] + bytes(len(whole) - cut)):
            path.write_bytes(damaged)
            with pytest.raises(SessionCorrupt):
                Conversation.open("retriever", store=store)
            assert path.read_bytes() == damaged


def test_turns_are_appended_and_labels_rewrite_the_file(tmp_path: Path, clock: Clock) -> None:
    """A new turn is appended in place; a new title replaces the file and keeps its lines."""
    store = FileStore(tmp_path)
    path, _ = session(store, 3, clock)
    inode, before = path.stat().st_ino, path.read_bytes()
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("More")
        assert path.stat().st_ino == inode
        assert path.read_bytes().startswith(counted(before, 3)[: -len(END)] + b",\n")
        grown = path.read_bytes()
        chat.set_title("Cats")
        assert path.stat().st_ino != inode
        assert path.read_bytes().split(b"\n")[1:] == grown.split(b"\n")[1:]


def test_rewrite_keeps_unchanged_lines(tmp_path: Path, clock: Clock) -> None:
    """A rewrite keeps every unchanged line byte for byte."""
    store = FileStore(tmp_path)
    path, _ = session(store, 1, clock)
    strange = b'{ "role" : "user", "content":"x", "mood":1e0, "mood2":[ ] }'
    path.write_bytes(path.read_bytes().replace(END, b",\n" + strange + END))
    with Conversation.open("retriever", store=store) as chat:
        chat.set_title("Other")
        chat.set_metadata({"a": 1})
        assert path.read_bytes().split(b"\n")[2] == strange


@pytest.mark.parametrize("indent", [None, 2])
def test_reformatted_document_is_laid_out_again(
    tmp_path: Path, clock: Clock, indent: int | None
) -> None:
    """A document reformatted by `jq` opens, and the first write restores one turn per line."""
    store = FileStore(tmp_path)
    path, before = session(store, 3, clock)
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document, indent=indent) + "\n")
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        assert chat.turns == before
        chat.add_user("More")
    lines = path.read_bytes().splitlines()
    assert len(lines) == 2 + 4
    assert json.loads(path.read_bytes())["turns"][:3] == document["turns"]


def test_change_picks_up_what_other_objects_wrote(tmp_path: Path, clock: Clock) -> None:
    """A change picks up the turns and labels that another object has saved meanwhile."""
    store = FileStore(tmp_path)
    session(store, 2, clock)
    one = Conversation.open("retriever", store=store, clock=clock)
    other = Conversation.open("retriever", store=store, clock=clock)
    with one, other:
        other.add_user("A")
        add_sound(other)
        one.add_user("B")
        assert [turn.text for turn in one.turns[2:]] == ["A", "Good }]\n{morning}.", "B"]
        other.set_title("New")
        assert other.turns == one.turns
        one.add_user("C")
        assert one.title == "New"
        assert json.loads((tmp_path / "retriever.json").read_bytes())["title"] == "New"


def test_parse_inverts_dump() -> None:
    """`parse` returns the header and the entries that `dump` wrote."""
    for lines in ([], [b'{"a":1}'], [b'{"a":1}', b'{"b":2}']):
        data = _format.dump({"id": "x"}, lines)
        snapshot = _format.parse(data, Path("x"))
        assert (snapshot.header, snapshot.torn) == ({"id": "x"}, None)
        assert [json.dumps(e, separators=(",", ":")).encode() for e in snapshot.entries] == lines
        assert _format.is_laid_out(data, snapshot)


@pytest.mark.parametrize("written", ["empty", "partial", "complete"])
def test_temporary_file_is_no_session(tmp_path: Path, clock: Clock, written: str) -> None:
    """A temporary file left by a crash is no session, and the next write removes it."""
    store = FileStore(tmp_path)
    path, turns = session(store, 1, clock)
    whole = path.read_bytes()
    path.unlink()
    left = path.with_name(f".{path.name}.tmp")
    left.write_bytes({"empty": b"", "partial": whole[:40], "complete": whole}[written])
    assert store.list() == []
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        assert chat.turns == ()
        assert chat.recovered is None
        chat.add_user("Question 0")
        assert chat.turns == turns
    assert not left.exists()


@pytest.mark.parametrize("content", [b"", b'{"conversation":1,'])
def test_crash_in_a_rewrite_keeps_the_old_document(
    tmp_path: Path, clock: Clock, content: bytes
) -> None:
    """A crash during a rewrite keeps the old document; the next rewrite removes its remains."""
    store = FileStore(tmp_path)
    path, turns = session(store, 2, clock)
    left = path.with_name(f".{path.name}.tmp")
    left.write_bytes(content)
    with Conversation.open("retriever", store=store) as chat:
        assert chat.turns == turns
        chat.set_title("Later")
    assert not left.exists()


def test_orphaned_sound_is_ignored(tmp_path: Path, clock: Clock) -> None:
    """A sound file that no turn names is ignored; a temporary one is removed."""
    store = FileStore(tmp_path)
    path, turns = session(store, 2, clock)
    folder = tmp_path / "retriever.audio"
    (folder / "0003-00000000.wav").write_bytes(b"RIFF")
    (folder / f".{path.name}.part.tmp").write_bytes(b"RI")
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        assert chat.turns == turns
        add_sound(chat)
    assert not list(folder.glob(".*"))


def test_temporary_link_is_not_followed(tmp_path: Path, clock: Clock) -> None:
    """A link in place of the temporary file is removed; its target stays as it is."""
    store = FileStore(tmp_path / "root")
    path, _ = session(store, 1, clock)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.with_name(f".{path.name}.tmp").symlink_to(victim)
    with Conversation.open("retriever", store=store) as chat:
        chat.set_title("x")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()


def test_document_is_readable(tmp_path: Path, clock: Clock) -> None:
    """A document has a header, one turn per line, file names of sounds, and ISO times."""
    path, _ = session(FileStore(tmp_path), 2, clock)
    first, question, reply, last = path.read_text().splitlines()
    assert re.sub('"revision":"[0-9a-f]{8}",', "", first) == (
        '{"conversation":1,"turns_at_least":1         ,"id":"retriever",'
        '"created_at":"2025-11-01T12:26:40Z","title":"Dogs","settings":{},"metadata":{},"turns":['
    )
    assert question == ('{"role":"user","content":"Question 0","at":"2025-11-01T12:26:40Z"},')
    audio: dict[str, Any] = json.loads(reply)["audio"]
    assert (tmp_path / "retriever.audio" / audio["file"]).stat().st_size == 4844
    assert last == "]}"


def test_reader_ignores_a_write_in_progress(tmp_path: Path, clock: Clock) -> None:
    """A reader sees the turns before a write in progress, and reports no recovery."""
    store = FileStore(tmp_path)
    path, turns = session(store, 2, clock)
    path.write_bytes(path.read_bytes() + b'role":"user"')
    with store.session("retriever").locked(0):
        reader = Conversation.open("retriever", store=store, read_only=True)
        assert (reader.turns, reader.recovered) == (turns, None)
    with Conversation.open("retriever", store=store, read_only=True) as reader:
        assert reader.turns == turns
        assert reader.recovered is not None
