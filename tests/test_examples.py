"""The examples and the README's code, run as a user runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from conversation import Conversation, FileStore, PostgresStore, UserTurn
from conversation.testing import StandIn
from tests.postgres import Postgres

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def run(*arguments: str, folder: Path, **environment: str) -> str:
    """Run Python in that folder and return its output; it has to succeed without warnings."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_quickstart_resumes_after_an_hour_in_another_process(tmp_path: Path) -> None:
    """The quickstart sends voice, transcripts after the hour, and voice again."""
    out = run(str(ROOT / "examples" / "quickstart.py"), folder=tmp_path)
    assert "stand-in on this machine" in out
    requests = re.split(r"\nrequest of \d+ messages:\n", out)[1:]
    voices = [request.count("assistant voice") for request in requests]
    transcripts = [request.count("assistant transcript, expired 3 min ago") for request in requests]
    assert voices == [0, 1, 2, 0, 1]
    assert transcripts == [0, 0, 0, 3, 3]
    for recalled, kept, request in zip(voices, transcripts, requests, strict=True):
        assert f"{recalled} of my earlier answers by voice and {kept} from transcripts" in request
    folder = tmp_path / "quickstart-sound"
    for number in range(1, 6):
        with wave.open(str(folder / f"answer-{number}.wav")) as sound:
            assert sound.getnframes() > sound.getframerate()
    with Conversation.open("quickstart", store=FileStore(folder), read_only=True) as chat:
        assert len(chat.turns) == 10
        assert [len(item.message or ()) for item in chat.render().items]


def test_resume_example_survives_four_kills(tmp_path: Path) -> None:
    """`resume.py` keeps every word although it is killed before and after answers."""
    out = run(str(ROOT / "examples" / "resume.py"), folder=tmp_path)
    assert out.count("it ended with status -9") == 4
    kept = out.split("Turns after four kills:\n")[1].splitlines()
    assert [line.split()[0] for line in kept] == ["user", "assistant"] * 4
    for question, answer in zip(kept[::2], kept[1::2], strict=True):
        assert question.split(maxsplit=1)[1] in answer


def test_voice_notes_bot_answers_each_message_once(tmp_path: Path) -> None:
    """Repeated deliveries, a kill in a tool and one before sending cost no second answer."""
    (tmp_path / "here").mkdir()
    for _ in range(2):
        out = run(str(ROOT / "examples" / "voice_notes_bot.py"), folder=tmp_path / "here")
        assert [line.strip() for line in out.splitlines() if "killed" in line] == [
            "killed: tool",
            "killed: unsent",
        ]
        assert "5 requests" in out
        told = re.findall(r"(\d): .* is told '(.*)'", out)
        assert [key for key, _ in told] == ["1", "2", "3", "4", "5"]
        assert told[0][1] == told[1][1]
        assert told[2][1] == told[4][1]
        assert "The tool says closed" in told[3][1]
    data = tmp_path / "here" / "example-data" / "voice-notes"
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["example-data"]
    assert not list((data / "inbox").iterdir())
    for number in (1001, 1002, 1003):
        with wave.open(str(data / "sent" / f"{number}.wav")) as sound:
            assert sound.getnframes() > sound.getframerate()
    with Conversation.open(
        "bakery:family", store=FileStore(data / "sessions"), read_only=True
    ) as chat:
        roles = " ".join(turn.role for turn in chat.turns)
        assert roles == "user assistant assistant user assistant"
        assert [turn.name for turn in chat.turns if isinstance(turn, UserTurn)] == ["Ann", "Zoë B."]
        assert "Zoë B." in (data / "family.html").read_text()


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_readme_code_runs(
    number: int, tmp_path: Path, server: StandIn, request: pytest.FixtureRequest
) -> None:
    """Each Python block of the README runs by itself."""
    place = ""
    if "PostgresStore" in BLOCKS[number]:
        place = request.getfixturevalue("postgres").url
    run(
        "-c",
        BLOCKS[number],
        folder=tmp_path,
        OPENAI_BASE_URL=server.url,
        OPENAI_API_KEY="any",
        CONVERSATION_HOME=str(tmp_path / "home"),
        CONVERSATION_STORE=place,
    )


def test_readme_has_code() -> None:
    """At least three Python blocks are found in the README."""
    assert len(BLOCKS) >= 3


def test_fleet_example_survives_the_death_of_a_worker(postgres: Postgres, tmp_path: Path) -> None:
    """Three processes serve three users; one is killed, and no question is lost or asked twice."""
    out = run(str(ROOT / "examples" / "fleet.py"), postgres.url, folder=tmp_path)
    assert out.count("is dead; ") > 1
    store = PostgresStore(postgres.url)
    for user in ("ann", "bob", "eve"):
        assert f"{user}: 8 turns, all asked once: 4 questions" in out
        with Conversation.open(f"fleet:{user}", store=store, read_only=True) as chat:
            assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 4
