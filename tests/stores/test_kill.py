"""Writers that are killed with SIGKILL at random moments; nothing acknowledged is lost.

`CONVERSATION_KILLS=2000` kills more often, `CONVERSATION_SEED` repeats the choices of a failure
(the moments themselves are the machine's).
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

from conversation import Conversation, FileStore
from tests.stores.processes.child import Child
from tests.stores.processes.common import KINDS, check_sound, entries, tag_of
from tests.stores.processes.killed_writer import TITLE_EVERY

KILLS = int(os.environ.get("CONVERSATION_KILLS") or 200)


@attrs.define
class Told:
    """What a session's writers acknowledged.

    Attributes:
        name: The session.
        turns: How many turns there are at least; one more at most.
        title: What it is called; or what would have been said next.
    """

    name: str
    turns: int = 0
    title: str | None = None


def run_and_kill(writers: Child, root: Path, told: Told, dice: random.Random) -> None:
    """Let a writer go on with the session, and kill it at some moment."""
    fsync = dice.random() < 0.5
    writers.tell(json.dumps({"root": str(root), "session": told.name, "fsync": fsync}))
    process = int(writers.line().removeprefix("began "))
    lines = 0 if dice.random() < 0.1 else dice.randrange(2, 16)
    for _ in range(lines):
        hear(writers.line(), told)
    # A busy wait of random length: less than one change takes, or some of them.
    wait = dice.randrange(6_000_000 if fsync or not lines else 400_000)
    if lines and dice.random() < 0.5:
        # A long turn comes next: now and then it is cut in the middle of its bytes.
        while (told.turns + 1) % len(KINDS) != KINDS.index("long"):
            hear(writers.line(), told)
        wait = dice.randrange(250_000)
    end = time.perf_counter_ns() + wait
    while time.perf_counter_ns() < end:
        pass
    os.kill(process, signal.SIGKILL)
    while (line := writers.line()) != f"dead {-signal.SIGKILL}":
        hear(line, told)


def hear(line: str, told: Told) -> None:
    """Take in what a writer says."""
    what, _, value = line.partition(" ")
    if what == "titled":
        told.title = value
    else:
        assert what in ("opened", "added"), line
        told.turns += what == "added"
        assert int(value) == told.turns, f"{line}, and there were {told.turns}"


def check(root: Path, told: Told, dice: random.Random) -> Counter[str]:
    """Nothing that was acknowledged is lost, and the session is whole; what the kill left."""
    store, place = FileStore(root), root / f"{told.name}.json"
    found: Counter[str] = Counter()
    if not place.exists():
        assert told.turns == 0
        return found
    before = place.read_bytes()
    with Conversation.open(told.name, store=store, read_only=True) as look:
        seen = entries(look)
        found["one turn more"] += len(seen) - told.turns
        found["torn"] += look.recovered is not None
        check_turns(look, told)
        assert place.read_bytes() == before
    if dice.random() < 0.3:
        # The next writer repairs what is torn, and is perhaps killed doing it.
        found["left as it is"] += look.recovered is not None
        return found
    with Conversation.open(told.name, store=store, timeout=0) as mended:
        assert entries(mended) == seen
        assert (mended.recovered is None) is (look.recovered is None)
        if mended.recovered and mended.recovered.put_aside:
            assert before.endswith(mended.recovered.put_aside.read_bytes())
    whole = place.read_bytes()
    assert mended.recovered or whole == before
    assert len(json.loads(whole)["turns"]) == len(seen)
    with Conversation.open(told.name, store=store, timeout=0) as again:
        assert again.recovered is None
        assert entries(again) == seen
        assert place.read_bytes() == whole
    return found


def check_turns(chat: Conversation, told: Told) -> None:
    """All acknowledged turns in their order, their sound playable, and at most one turn more."""
    turns = chat.turns
    assert told.turns <= len(turns) <= told.turns + 1
    assert [tag_of(turn) for turn in turns] == [f"turn {i + 1}" for i in range(len(turns))]
    sounding = [KINDS[(i + 1) % len(KINDS)] in ("said", "spoken answer") for i in range(len(turns))]
    assert [check_sound(turn) for turn in turns] == sounding
    due = told.turns and told.turns % TITLE_EVERY == 0
    assert chat.title in (told.title, f"title {told.turns}" if due else told.title)
    told.turns, told.title = len(turns), chat.title


def test_no_kill_loses_what_was_acknowledged(tmp_path: Path) -> None:
    """After each kill the session opens with all its turns, and is killed again."""
    seed = int(os.environ.get("CONVERSATION_SEED") or random.SystemRandom().randrange(2**32))
    print(f"CONVERSATION_SEED={seed} CONVERSATION_KILLS={KILLS}")
    dice = random.Random(seed)
    found: Counter[str] = Counter()
    told = Told("session-0")
    with Child("killed_writer") as writers:
        writers.expect("ready")
        for kill in range(KILLS):
            if dice.random() < 0.1:
                found["sessions"] += 1
                told = Told(f"session-{kill}")
            print(f"kill {kill}: {told}, so far {dict(found)}")
            run_and_kill(writers, tmp_path, told, dice)
            found += check(tmp_path, told, dice)
    # What a killed writer leaves does not pile up: at most one temporary file a kind and session.
    left = list(tmp_path.rglob(".*.tmp"))
    assert len(left) <= 3 * (found["sessions"] + 1)
    print(f"{dict(found)}, {len(left)} temporary files left")
    assert KILLS < 100 or found["one turn more"] + found["torn"] > 0, "no kill hit a write"
