"""The example `batch_sentiment.py`: a folder of recordings, judged one session each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conversation import FileStore
from conversation._values.conversion import encoded
from conversation.testing import StandIn
from tests.programs import ran
from tests.samples import SOUND
from tests.terminals import DEADLINE, environment

pytestmark = pytest.mark.slow

BATCH = str(Path(__file__).parent.parent.parent / "examples" / "batch_sentiment.py")
DATA = Path("example-data") / "batch-sentiment"


def batch(folder: Path, server: StandIn | None, *arguments: str, status: int = 0) -> list[str]:
    """Run the example, and return its lines."""
    around = environment(server, folder)
    done = ran(BATCH, *arguments, folder=folder, environment=around, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (status, ""), done.stderr
    return done.stdout.splitlines()


def results(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the results."""
    lines = (folder / DATA / "sentiments.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_it_runs_offline_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """Without a key and a folder it makes recordings, judges each once, and writes both files."""
    first = batch(tmp_path, None)
    assert first[1:4] == [
        "[1/3] cancel.wav: negative",
        "[2/3] hours.wav: neutral",
        "[3/3] thanks.wav: positive",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["example-data"]
    found = results(tmp_path)
    assert [(each["file"], each["sentiment"]) for each in found] == [
        ("cancel.wav", "negative"),
        ("hours.wav", "neutral"),
        ("thanks.wav", "positive"),
    ]
    assert all(each["seconds"] > 1 and each["tokens"] > 10 for each in found)
    page = (tmp_path / DATA / "sentiments.html").read_text("utf-8")
    assert page.count("<audio") == 3
    sessions = FileStore(tmp_path / DATA / "sessions").list()
    assert {info.title for info in sessions} == {"cancel.wav", "hours.wav", "thanks.wav"}
    assert batch(tmp_path, None) == first
    assert results(tmp_path) == found  # no token was spent anew


def test_a_recording_that_fails_stops_no_other(server: StandIn, tmp_path: Path) -> None:
    """Its error is in the results, and the next run asks only for what is missing."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.wav").write_bytes(SOUND + b"\0" * number)
    (folder / "broken.mp3").write_bytes(b"no sound")
    server.will_fail(400, "Not today.")
    lines = batch(tmp_path, server, "calls", "--at-once", "3", status=1)
    assert lines[6].startswith("[7/7] broken.mp3: FAILED, ")
    assert sum("Not today." in line for line in lines) == 1
    assert len(server.requests) == 6
    assert sum("error" in each for each in results(tmp_path)) == 2
    batch(tmp_path, server, "calls", status=1)
    assert len(server.requests) == 7
    assert [each.get("sentiment") for each in results(tmp_path)] == ["unclear"] * 6 + [None]


def test_voice_notes_are_judged(server: StandIn, tmp_path: Path) -> None:
    """Recordings of other formats are converted."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    (tmp_path / "calls").mkdir()
    (tmp_path / "calls" / "note.ogg").write_bytes(encoded([bytes(48_000)], "opus"))
    batch(tmp_path, server, "calls")
    [found] = results(tmp_path)
    assert found["seconds"] == pytest.approx(1.0)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """A folder that is not there is a wrong use, and nothing is written."""
    around = environment(None, tmp_path)
    done = ran(BATCH, "calls", folder=tmp_path, environment=around, timeout=DEADLINE)
    assert done.returncode == 2
    assert "there is no folder calls" in done.stderr
    assert list(tmp_path.iterdir()) == []
