"""`FileStore.repair`: turns of a damaged document are salvaged."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from conversation import AssistantTurn, Conversation, FileStore
from conversation.errors import SaveFailed, SessionCorrupt, SessionNotFound, SessionTooNew
from conversation.stores._session import FileSession
from tests.conftest import Clock
from tests.samples import SOUND, spoken
from tests.stores.samples import names


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


@pytest.mark.parametrize("indent", [None, 2, ...])
def test_repair_does_nothing_to_a_whole_session(store: FileStore, indent: Any) -> None:
    """`repair` counts the turns of a whole session in any layout, and writes no file."""
    path = store.root / "retriever.json"
    if indent is not ...:
        path.write_text("\ufeff" + json.dumps(json.loads(path.read_bytes()), indent=indent))
    before = {each: each.read_bytes() for each in store.root.iterdir() if each.is_file()}
    report = store.repair("retriever")
    assert (report.kept, report.lost, report.header_lost) == (4, (), False)
    assert report.original == path
    assert {each: each.read_bytes() for each in store.root.iterdir() if each.is_file()} == before


LAYOUTS: dict[str, Callable[[bytes], bytes]] = {
    "ours": lambda data: data,
    "indented": lambda data: json.dumps(json.loads(data), indent=2).encode(),
    "one line": lambda data: json.dumps(json.loads(data)).encode(),
}
RUBBLE = [
    b"\0" * 9,
    b"x",
    b"<<<<<<< HEAD\n",
    b"{junk}\n",
    b"{{{[",
    b'{"a":1}',
    b'{"a": {"b": [1, 2',
    b'{"turns":[{"a":1}]}\n',
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("rubble", RUBBLE)
@pytest.mark.parametrize("end", [b"", b">>>>>>> other\n"])
def test_repair_looks_behind_rubble(
    store: FileStore, rubble: bytes, layout: str, end: bytes
) -> None:
    """`repair` keeps header and turns, whatever stands before the first brace or at the end."""
    path = store.root / "retriever.json"
    whole = texts(store)
    path.write_bytes(rubble + LAYOUTS[layout](path.read_bytes()) + end)
    with pytest.raises(SessionCorrupt, match=r"FileStore\.repair"):
        Conversation.open("retriever", store=store)
    report = store.repair("retriever")
    assert (report.kept, report.header_lost) == (4, False)
    assert texts(store) == whole
    assert b"".join(report.lost).endswith(end.strip())
    with Conversation.open("retriever", store=store) as chat:
        assert chat.title == "Dogs"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_document_with_a_byte_order_mark_opens(store: FileStore, clock: Clock, layout: str) -> None:
    """An editor's byte order mark is no damage; the next change removes it."""
    path = store.root / "retriever.json"
    whole = texts(store)
    path.write_bytes(b"\xef\xbb\xbf" + LAYOUTS[layout](path.read_bytes()))
    assert [info.title for info in store.list()] == ["Dogs"]
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("And on")
    assert texts(store) == [*whole, "And on"]
    assert path.read_bytes().startswith(b"{")


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


@pytest.mark.parametrize(
    "ending", [b"[", b"{", b'"', b'{"a":[', b"[" * 2000, b'{"role":"user","x":']
)
@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_damaged_line_swallows_no_other(store: FileStore, ending: bytes, number: int) -> None:
    """`repair` keeps every whole line, whatever open bracket or quote a damaged one ends in."""
    path = store.root / "retriever.json"
    whole = texts(store)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(
        b"\n".join([*lines[:number], lines[number][:-20] + ending, *lines[number + 1 :]])
    )
    store.repair("retriever")
    assert texts(store) == (whole if number == 0 else [*whole[: number - 1], *whole[number:]])
    kept = [line.strip(b",") for line in path.read_bytes().split(b"\n")[1:]]
    assert kept == [line.strip(b",") for i, line in enumerate(lines) if i not in (0, number)]


@pytest.mark.parametrize("lost", range(4))
def test_repair_finds_turns_that_are_no_lines(store: FileStore, lost: int) -> None:
    """`repair` finds the whole turns of a document in one line, whose one turn is damaged."""
    path = store.root / "retriever.json"
    whole = texts(store)
    entries = json.loads(path.read_bytes())["turns"]
    one_line = json.dumps(json.loads(path.read_bytes()))
    turn = json.dumps(entries[lost])
    for damaged in (turn.replace('": "', '": ', 1), turn[:-9], turn[:-1] + "[", turn[1:]):
        path.write_text(one_line.replace(turn, damaged))
        store.repair("retriever")
        assert texts(store) == [*whole[:lost], *whole[lost + 1 :]]


NESTED = [
    b'{"conversation"',
    b'{"conversation":1,"turns":[',
    b"[",
    b"{",
    b'{"a":',
    b'{"role":',
    b'[{"a":[',
    b'{"',
    b'{\\"',
    b'"turns":[',
    b"{},",
    b'{"a"\n',
]


@pytest.mark.slow
@pytest.mark.parametrize("unit", NESTED)
@pytest.mark.parametrize("closing", [b"", b"}", b"]}"])
@pytest.mark.parametrize("before", [False, True])
def test_repair_takes_linear_time(
    store: FileStore, unit: bytes, closing: bytes, before: bool
) -> None:
    """Eight times the rubble takes `repair` about eight times as long, not 64 times."""
    path = store.root / "retriever.json"
    whole, document = texts(store), path.read_bytes()
    header, line = document.split(b"\n")[:2]

    def seconds(times: int) -> float:
        rubble = unit * times + closing * times
        damaged = (
            rubble + document if before else document.replace(header, header + b"\n" + rubble, 1)
        )
        path.write_bytes(damaged)
        begun = time.process_time()
        assert store.repair("retriever").kept == len(whole)
        return time.process_time() - begun

    assert line.startswith(b"{")
    small, large = (min(seconds(times) for _ in range(3)) for times in (1_000, 8_000))
    assert large < 25 * small + 0.1


def test_repair_reads_nested_rubble_a_few_times(store: FileStore) -> None:
    """A large value inside 900 objects that cannot be read takes about as long as inside of 9."""
    path = store.root / "retriever.json"
    document = path.read_bytes()

    def seconds(levels: int) -> float:
        value = b'["' + b"x" * 3_000_000 + b'",x]'
        path.write_bytes(document + b'{"a":' * levels + value + b"}" * levels)
        begun = time.process_time()
        assert store.repair("retriever").kept == 4
        return time.process_time() - begun

    shallow, deep = (min(seconds(levels) for _ in range(3)) for levels in (9, 900))
    assert deep < 5 * shallow + 0.1


def put_aside(store: FileStore, name: str, data: bytes) -> Path:
    """Put bytes aside, as a recovery does."""
    path = store.root / f"{name}.torn-0123abcd"
    path.write_bytes(data)
    return path


def test_repair_reads_put_aside_bytes_again(store: FileStore, clock: Clock) -> None:
    """A whole turn among put-aside bytes becomes the last one, unless the session went on."""
    other = put_aside(store, "retriever.x", b"{}")  # of another session
    whole = texts(store)
    clock.now += 60
    at = datetime.fromtimestamp(clock.now, UTC).isoformat()
    late = json.dumps({"role": "user", "content": "Late", "at": at}).encode()
    aside = put_aside(store, "retriever", b']}\n{"ro' + late + b"\0\0")
    report = store.repair("retriever")
    assert texts(store) == [*whole, "Late"]
    assert (report.kept, report.lost) == (len(whole) + 1, (b'{"ro',))
    assert not aside.exists()
    assert aside.with_suffix(".damaged-0123abcd").exists()

    put_aside(store, "retriever", late + b"\n" + late.replace(b"Late", b"Early"))
    clock.now += 60
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("And on")
    report = store.repair("retriever")
    assert texts(store) == [*whole, "Late", "And on"]
    assert report.lost == (late.replace(b"Late", b"Early"),)
    assert other.exists()
    store.delete("retriever")
    assert [path.name for path in store.root.glob("retriever*")] == [other.name]


def test_repair_refuses_a_newer_format(store: FileStore) -> None:
    """`repair` of a document that a later version wrote raises, and changes nothing."""
    path = store.root / "retriever.json"
    newer = path.read_bytes().replace(b'{"conversation":1,', b'{"conversation":2,')
    for document in (newer, newer[:-9], json.dumps(json.loads(newer), indent=2).encode()):
        path.write_bytes(document)
        with pytest.raises(SessionTooNew, match="upgrade conversation"):
            store.repair("retriever")
        assert path.read_bytes() == document


def test_repair_gives_up_a_header_that_cannot_be_written(store: FileStore) -> None:
    """A header nested so deep that it cannot be written again is lost; no turn is."""
    path = store.root / "retriever.json"
    whole = texts(store)
    nested = b"[" * 253 + b"]" * 253
    with contextlib.suppress(orjson.JSONEncodeError):
        orjson.dumps({"metadata": {"a": orjson.loads(nested)}})
        pytest.skip("this orjson writes it")
    deep = b'"metadata":{"a":%b}' % nested
    path.write_bytes(path.read_bytes().replace(b'"metadata":{}', deep))
    with pytest.raises(SessionCorrupt):
        Conversation.open("retriever", store=store)
    report = store.repair("retriever")
    assert (report.kept, report.header_lost) == (4, True)
    assert texts(store) == whole


def test_repair_passes_by_what_only_looks_put_aside(store: FileStore) -> None:
    """A folder under the name of put-aside bytes does not keep a session from its repair."""
    path = store.root / "retriever.json"
    (store.root / "retriever.torn-01234567").mkdir()
    path.write_bytes(path.read_bytes().replace(b'"Answer 1"', b'"Answer 1'))
    assert store.repair("retriever").kept == 3
    assert (store.root / "retriever.torn-01234567").is_dir()


@pytest.mark.parametrize("data", [b"{}", b'{"a":[1,2]}', bytes(200), b""])
def test_repair_leaves_alone_what_is_no_conversation(store: FileStore, data: bytes) -> None:
    """A file in which nothing of a session can be read is never replaced by an empty session."""
    path = store.root / "retriever.json"
    path.write_bytes(data)
    before = names(store)
    with pytest.raises(SessionCorrupt, match="it was left as it is"):
        store.repair("retriever")
    assert path.read_bytes() == data
    assert names(store) == before
