"""Damaged and torn documents: nothing is lost in silence, and repair keeps every whole line.

`CONVERSATION_DAMAGE=1` damages at every place instead of at some.
"""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from conversation.errors import SessionCorrupt, SessionTooNew
from conversation.stores._format import COUNT_AT, END, PAGE, count, parse
from tests.conftest import Clock

WHOLE = bool(os.environ.get("CONVERSATION_DAMAGE"))


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """Return an empty store."""
    return FileStore(tmp_path, fsync=False)


def saved(store: FileStore, clock: Clock, turns: int) -> bytes:
    """Add turns one by one; return the document, which counts all turns but the last."""
    with Conversation.open("s", store=store, clock=clock) as chat:
        for number in range(turns):
            chat.add_user(f"Turn {number} ]}}, {{[")
    return (store.root / "s.json").read_bytes()


def without_count(data: bytes) -> bytes:
    """Return the document as older versions wrote it."""
    return data[: data.index(b',"turns_at_least"')] + data[data.index(b',"id"') :]


def whole_lines(data: bytes) -> list[str]:
    """Return the texts of the turns that stand on whole lines."""
    texts = []
    for line in data.split(b"\n")[1:]:
        try:
            entry = json.loads(line.removesuffix(b","))
            texts += [entry["content"]] if entry["role"] == "user" else []
        except (ValueError, KeyError, TypeError):
            continue
    return texts


def check(store: FileStore, damaged: bytes, turns: int) -> str:
    """Open a damaged document of so many turns; assert that no turn is lost in silence."""
    path = store.root / "s.json"
    path.write_bytes(damaged)
    for each in store.root.glob("s.[td]*"):
        each.unlink()
    try:
        with Conversation.open("s", store=store) as chat:
            found = len(chat.turns)
            assert found == turns or (found == turns - 1 and chat.recovered), damaged
            return "all" if found == turns else "one less"
    except SessionTooNew:  # the format number was damaged
        assert path.read_bytes() == damaged
        return "too new"
    except SessionCorrupt:
        assert path.read_bytes() == damaged
    whole = whole_lines(damaged)
    salvage = store.repair("s")
    assert salvage.original.read_bytes() == damaged
    with Conversation.open("s", store=store, create=False) as chat:
        texts = iter([turn.text for turn in chat.turns])
        assert all(text in texts for text in whole), damaged  # in their order
        assert len(chat.turns) == salvage.kept
    return "corrupt"


def damages(data: bytes, at: int) -> Iterator[bytes]:
    """Yield the document with that byte removed, zeroed, flipped, or replaced by syntax."""
    yield data[:at] + data[at + 1 :]
    for byte in (0, data[at] ^ 1, *(b'\n,{}[]\\"1' if WHOLE else b"")):
        yield data[:at] + bytes((byte,)) + data[at + 1 :]


@pytest.mark.slow
@pytest.mark.parametrize("counted", [True, False])
def test_damaged_byte_loses_no_turn_in_silence(
    store: FileStore, clock: Clock, counted: bool
) -> None:
    """Damage of any byte leaves all turns, or all but the last and says so, or is corrupt."""
    data = saved(store, clock, 3)
    data = data if counted else without_count(data)
    places = range(0, len(data), 1 if WHOLE else 7)
    found = {check(store, damaged, 3) for at in places for damaged in damages(data, at)}
    assert found >= {"all", "corrupt"}


def test_cut_document_loses_no_turn_in_silence(store: FileStore, clock: Clock) -> None:
    """A document that is cut before its last turn is corrupt; in it, one turn less and reported."""
    data = saved(store, clock, 100)
    ends = [at for at, byte in enumerate(data) if byte == ord("\n")]
    for number in range(0, 102, 1 if WHOLE else 9):
        for cut in {ends[number], ends[number] + 1, (ends[max(number - 1, 0)] + ends[number]) // 2}:
            found = check(store, data[:cut], 100)
            assert (found == "corrupt") is (cut < ends[99])
    assert check(store, data[: ends[99] + 9], 100) == "one less"
    assert check(store, data[: ends[100]], 100) == "all"
    with Conversation.open("s", store=store) as chat:
        chat.set_title("All are durable now")
    counted = (store.root / "s.json").read_bytes()
    assert check(store, counted[: -len(END) - 9], 100) == "corrupt"


@pytest.mark.slow
def test_overwritten_tail_loses_no_turn_in_silence(store: FileStore, clock: Clock) -> None:
    """A tail of NULs or noise is corrupt; within the last turn it may be one turn less."""
    dice = random.Random(1)
    data = saved(store, clock, 100)
    last = data.rindex(b",\n{")
    for _ in range(400 if WHOLE else 8):
        for lowest in (0, last):
            at = dice.randrange(lowest, len(data))
            noise = dice.randbytes(len(data) - at)
            for damaged in (
                data[:at] + bytes(len(noise)),
                data[:at] + noise,
                data + noise,
                data[:at] + noise[:9] + data[at + 9 :],
                data[:at] + bytes(9) + data[at + 9 :],
            ):
                check(store, damaged, 100)


def test_damage_before_whole_turns_is_no_torn_end(store: FileStore, clock: Clock) -> None:
    """A lost block, or closing bytes, before whole turns is corrupt, also without a count."""
    data = without_count(saved(store, clock, 200))
    assert check(store, data[:PAGE] + bytes(PAGE) + data[2 * PAGE :], 200) == "corrupt"
    at = data.index(b",\n{", PAGE)
    for closing in (END, b",]}\n"):
        damaged = data[:at] + closing + data[at + len(closing) :]
        assert check(store, damaged, 200) == "corrupt"


def test_damage_of_the_only_turn_is_no_empty_session(store: FileStore, clock: Clock) -> None:
    """A damaged byte in the only turn is `SessionCorrupt`, also in documents without a count."""
    data = saved(store, clock, 1)
    for damaged in (data.replace(b'"user"', b'"user'), data[:-9]):
        assert check(store, damaged, 1) == "corrupt"
    assert check(store, without_count(data).replace(b'"user"', b'"user'), 1) == "corrupt"
    assert check(store, without_count(data)[:-9], 1) == "one less"


def test_count_is_never_behind_by_more_than_one(store: FileStore, clock: Clock) -> None:
    """Whatever object or change writes it, the count is that of the turns, or one less."""

    def counts() -> tuple[int, int]:
        document = json.loads((store.root / "s.json").read_bytes())
        return document["turns_at_least"], len(document["turns"])

    first, other = (Conversation.open("s", store=store, clock=clock) for _ in range(2))
    for number in range(12):
        (first if number % 3 else other).add_user("x" * (1 + number * 900))
        at_least, turns = counts()
        assert turns == number + 1
        assert number <= at_least <= turns
    first.undo()
    assert counts() == (11, 11)
    other.add_user("More")
    assert counts() == (11, 12)
    assert "turns_at_least" not in json.loads(first.save(store.root / "saved").read_bytes())
    assert Conversation.load(store.root / "saved").turns == first.turns
    first.fork("fork")
    assert json.loads((store.root / "fork.json").read_bytes())["turns_at_least"] == 12


def test_document_without_a_count_gets_one_with_its_next_rewrite(
    store: FileStore, clock: Clock
) -> None:
    """A document of an older version grows in place as it is, and is counted when rewritten."""
    path = store.root / "s.json"
    old = without_count(saved(store, clock, 2))
    path.write_bytes(old)
    with Conversation.open("s", store=store, clock=clock) as chat:
        assert path.read_bytes() == old
        chat.add_user("Third")
        assert path.read_bytes().startswith(old[: -len(END)])
        chat.set_title("Dogs")
        assert path.read_bytes()[COUNT_AT:].startswith(count(3))


@pytest.mark.parametrize("said", [b"4 ", b"-1", b"1.", b'""', b"[]", b"1e"])
def test_count_that_cannot_be_true_is_corrupt(store: FileStore, clock: Clock, said: bytes) -> None:
    """A count beyond the turns, or one that is no number of turns, is `SessionCorrupt`."""
    data = saved(store, clock, 3)
    rest = {b"1.": b"0", b"1e": b"0"}.get(said, b" ")
    damaged = data[:COUNT_AT] + said + rest + data[COUNT_AT + 3 :]
    assert check(store, damaged, 3) == "corrupt"


# --- what a crash can leave -----------------------------------------------------------------------


def crashes(old: bytes, new: bytes) -> Iterator[bytes]:
    """Yield all states of a file after a crash in an append: its blocks arrive in any order.

    A block is as it was before or after one of the writes; the size is any that the file had.
    """
    half = old + new[len(old) :]
    uncounted = old[: -len(END)] + new[len(old) - len(END) :]
    versions = [
        [(text.ljust(len(new), b"\0"))[at : at + PAGE] for text in (old, half, uncounted, new)]
        for at in range(0, len(new), PAGE)
    ]
    sizes = {len(old), len(new), *range(len(old) // PAGE * PAGE + PAGE, len(new), PAGE)}
    for blocks in itertools.product(*map(dict.fromkeys, versions)):
        for size in sizes:
            yield b"".join(blocks)[:size]


@pytest.mark.parametrize("turns", [0, 1, 2])
@pytest.mark.parametrize("behind", range(-2, 7))
def test_every_state_of_a_crash_is_recovered(
    store: FileStore, clock: Clock, turns: int, behind: int
) -> None:
    """An append of several blocks loses no earlier turn, wherever the closing bytes straddle."""
    path = store.root / "s.json"
    with Conversation.open("s", store=store, clock=clock) as chat:
        chat.set_title("")
        for number in range(turns):
            chat.add_user(f"Turn {number}")
        chat.set_title("x" * (PAGE - path.stat().st_size + behind))
        if turns == 2:  # grown in place, so that the count changes
            chat.undo()
            chat.add_user("Turn 1")
        old, before = path.read_bytes(), [turn.text for turn in chat.turns]
        assert len(old) == PAGE + behind
        chat.add_user("y{" * (PAGE + 9))
    new = path.read_bytes()
    states = set(crashes(old, new))
    assert len(states) > 10
    for number, state in enumerate(sorted(states)):
        snapshot = parse(state, path)
        assert [entry["content"] for entry in snapshot.entries[:turns]] == before
        assert len(snapshot.entries) <= turns + 1
        if WHOLE or number % 9 == 0:
            path.write_bytes(state)
            with Conversation.open("s", store=store) as chat:
                assert [turn.text for turn in chat.turns[:turns]] == before
            assert parse(path.read_bytes(), path).torn is None


def test_count_that_an_older_version_moved_is_not_counted_on(
    store: FileStore, clock: Clock
) -> None:
    """A count that an older version copied behind its own keys refuses nothing, and is renewed."""
    document = json.loads(saved(store, clock, 3))
    moved = {key: document[key] for key in ("id", "created_at", "title", "settings", "metadata")}
    copied = {"turns_at_least": document["turns_at_least"], "revision": document["revision"]}
    entries = document["turns"][:1]
    (store.root / "s.json").write_text(
        json.dumps({"conversation": 1, **moved, **copied, "turns": []})[:-2]
        + "\n"
        + ",\n".join(map(json.dumps, entries))
        + "\n]}\n"
    )
    with Conversation.open("s", store=store, clock=clock) as chat:
        assert len(chat.turns) == 1
        chat.add_user("More")
    data = (store.root / "s.json").read_bytes()
    assert data.startswith(b'{"conversation":1,"turns_at_least":2')
    assert data.count(b"turns_at_least") == data.count(b'"revision"') == 1
