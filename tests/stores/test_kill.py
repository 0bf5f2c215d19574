"""Writers that are killed with SIGKILL at random moments: no acknowledged turn is lost.

`CONVERSATION_KILLS=2000` kills more often; `CONVERSATION_SEED` repeats the random choices of a
failure, though not the exact moments.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import attrs
import pytest

from conversation import Conversation, FileStore
from tests.stores.processes.child import Child
from tests.stores.processes.common import KINDS, check_sound, entries, tag_of
from tests.stores.processes.killed_writer import TITLE_EVERY

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("CONVERSATION_KILLS") or 200)


@attrs.define
class Acknowledged:
    """Changes that the writers of a session have acknowledged.

    Attributes:
        name: Id of the session.
        turns: Number of turns; the session may have one more.
        title: Title; the session may have the next one.
    """

    name: str
    turns: int = 0
    title: str | None = None


def run_and_kill(writers: Child, root: Path, acked: Acknowledged, dice: random.Random) -> None:
    """Start a writer and kill it at a random moment."""
    fsync = dice.random() < 0.5
    writers.write_line(json.dumps({"root": str(root), "session": acked.name, "fsync": fsync}))
    process = int(writers.read_line().removeprefix("began "))
    lines = 0 if dice.random() < 0.1 else dice.randrange(2, 16)
    for _ in range(lines):
        record(writers.read_line(), acked)
    # The busy wait is shorter than one change, or as long as several.
    wait = dice.randrange(6_000_000 if fsync or not lines else 400_000)
    if lines and dice.random() < 0.5:
        # A long turn comes next, so that some kills interrupt its write.
        while (acked.turns + 1) % len(KINDS) != KINDS.index("long"):
            record(writers.read_line(), acked)
        wait = dice.randrange(250_000)
    end = time.perf_counter_ns() + wait
    while time.perf_counter_ns() < end:
        pass
    os.kill(process, signal.SIGKILL)
    while (line := writers.read_line()) != f"dead {-signal.SIGKILL}":
        record(line, acked)


def record(line: str, acked: Acknowledged) -> None:
    """Record a line of a writer."""
    what, _, value = line.partition(" ")
    if what == "titled":
        acked.title = value
    else:
        assert what in ("opened", "added"), line
        acked.turns += what == "added"
        assert int(value) == acked.turns, f"{line} after {acked.turns} turns"


def check(root: Path, acked: Acknowledged, dice: random.Random) -> Counter[str]:
    """Assert that a session is complete and can be repaired; count the traces of the kill."""
    store, path = FileStore(root), root / f"{acked.name}.json"
    found: Counter[str] = Counter()
    if not path.exists():
        assert acked.turns == 0
        return found
    before = path.read_bytes()
    with Conversation.open(acked.name, store=store, read_only=True) as look:
        seen = entries(look)
        found["one turn more"] += len(seen) - acked.turns
        found["torn"] += look.recovered is not None
        check_turns(look, acked)
        assert path.read_bytes() == before
    if dice.random() < 0.3:
        # The next writer repairs the torn end, and may be killed during the repair.
        found["not repaired"] += look.recovered is not None
        return found
    with Conversation.open(acked.name, store=store, timeout=0) as repaired:
        assert entries(repaired) == seen
        assert (repaired.recovered is None) is (look.recovered is None)
        if repaired.recovered and repaired.recovered.put_aside:
            assert before.endswith(repaired.recovered.put_aside.read_bytes())
    whole = path.read_bytes()
    assert repaired.recovered or whole == before
    assert len(json.loads(whole)["turns"]) == len(seen)
    with Conversation.open(acked.name, store=store, timeout=0) as again:
        assert again.recovered is None
        assert entries(again) == seen
        assert path.read_bytes() == whole
    return found


def check_turns(chat: Conversation, acked: Acknowledged) -> None:
    """Assert that all acknowledged turns are there with their sound, and at most one more."""
    turns = chat.turns
    assert acked.turns <= len(turns) <= acked.turns + 1
    assert [tag_of(turn) for turn in turns] == [f"turn {i + 1}" for i in range(len(turns))]
    has_sound = [KINDS[(i + 1) % len(KINDS)] in ("recording", "voice") for i in range(len(turns))]
    assert [check_sound(turn) for turn in turns] == has_sound
    due = acked.turns and acked.turns % TITLE_EVERY == 0
    assert chat.title in (acked.title, f"title {acked.turns}" if due else acked.title)
    acked.turns, acked.title = len(turns), chat.title


def test_killed_writers_lose_no_acknowledged_turn(tmp_path: Path) -> None:
    """A session whose writers are killed again and again keeps every acknowledged turn."""
    seed = int(os.environ.get("CONVERSATION_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CONVERSATION_SEED={seed} CONVERSATION_KILLS={KILLS}")
    dice = random.Random(seed)
    found: Counter[str] = Counter()
    acked = Acknowledged("session-0")
    with Child("killed_writer") as writers:
        writers.expect("ready")
        for kill in range(KILLS):
            if dice.random() < 0.1:
                found["sessions"] += 1
                acked = Acknowledged(f"session-{kill}")
            print(f"kill {kill}: {acked}, so far {dict(found)}")
            run_and_kill(writers, tmp_path, acked, dice)
            found += check(tmp_path, acked, dice)
    # Temporary files do not pile up: a session has at most one of each kind.
    left = list(tmp_path.rglob(".*.tmp"))
    assert len(left) <= 3 * (found["sessions"] + 1)
    print(f"{dict(found)}, {len(left)} temporary files left")
    assert KILLS < 100 or found["one turn more"] + found["torn"] > 0, "no kill hit a write"
