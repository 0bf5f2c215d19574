"""The example of a hand-over, run offline as a user runs it, twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conversation import AssistantTurn, Conversation
from tests.programs import ran

EXAMPLE = Path(__file__).parents[2] / "examples" / "realtime_handover.py"

pytestmark = pytest.mark.slow


def test_the_handover_runs_offline_and_goes_on(tmp_path: Path) -> None:
    """Each run adds ten turns below `example-data`, among them an answer that was cut off."""
    for run in (1, 2):
        around = {**os.environ, "HOME": str(tmp_path / "home")}
        done = ran(str(EXAMPLE), folder=tmp_path, environment=around, timeout=300)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"after {10 * (run - 1)} turns" in done.stdout
        assert done.stdout.count("(cut off)") == 1
        assert [path.name for path in tmp_path.iterdir()] == ["example-data"]
        folder = tmp_path / "example-data" / "realtime-handover"
        with Conversation.open("dogs", store=folder, read_only=True) as chat:
            turns = chat.turns[-10:]
        roles = ["user", "assistant"] * 5
        assert [turn.role for turn in turns] == roles
        cut = turns[3]
        assert isinstance(cut, AssistantTurn)
        assert cut.interrupted
        assert cut.audio is not None
        assert cut.audio.duration == 0.8
        assert f"and {5 * run - 3} from transcripts" in turns[-1].text
