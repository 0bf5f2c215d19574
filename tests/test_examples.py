"""The examples, run as a user runs them."""

from __future__ import annotations

import os
import re
import wave
from pathlib import Path

import pytest

from conversation import Conversation, FileStore, PostgresStore, UserTurn
from tests.postgres import Postgres
from tests.programs import ran

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
IGNORED = ROOT / ".gitignore"


def run(*arguments: str, folder: Path, **environment: str) -> str:
    """Run Python in that folder and return its output; it has to succeed without warnings."""
    done = ran(*arguments, folder=folder, environment={**os.environ, **environment}, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


def test_quickstart_resumes_after_an_hour_in_another_process(tmp_path: Path) -> None:
    """The quickstart sends voice, transcripts after the hour, and voice again; it says so."""
    folder = tmp_path / "example-data" / "quickstart"
    for turns in (0, 10):  # the second run's server knows no ids of the first
        out = run(str(ROOT / "examples" / "quickstart.py"), folder=tmp_path)
        assert "stand-in on this machine" in out
        assert f"Session of {turns} turns in" in out
        exchanges = out.split("\nyou:    ")[1:]
        voices = [sent(exchange, "voice") for exchange in exchanges]
        transcripts = [sent(exchange, "transcript") for exchange in exchanges]
        assert voices == [0, 1, 2, 0, 1]
        assert transcripts == [turns // 2 + number for number in (0, 0, 0, 3, 3)]
        for recalled, kept, exchange in zip(voices, transcripts, exchanges, strict=True):
            assert f"{recalled} of my earlier answers by voice and {kept} from" in exchange
        assert ("server lost them" in out) == bool(turns)
    assert [path.name for path in tmp_path.iterdir()] == ["example-data"]
    for number in range(1, 11):
        with wave.open(str(folder / f"answer-{number}.wav")) as sound:
            assert sound.getnframes() > sound.getframerate()
    with Conversation.open("quickstart", store=FileStore(folder), read_only=True) as chat:
        assert len(chat.turns) == 20


def sent(exchange: str, form: str) -> int:
    """Return the number of earlier answers that were sent in this form, by the quickstart."""
    groups = re.findall(rf"answers? (\d+)(?: (?:to|and) (\d+))? as {form}", exchange)
    return sum(int(last or first) - int(first) + 1 for first, last in groups)


@pytest.mark.skipif(not IGNORED.exists(), reason="needs the checkout")
def test_git_ignores_what_examples_write() -> None:
    """The folder `example-data` is in no commit."""
    assert "example-data/" in IGNORED.read_text().splitlines()


def test_resume_example_survives_four_kills(tmp_path: Path) -> None:
    """`resume.py` keeps every word although it is killed before and after answers."""
    out = run(str(ROOT / "examples" / "resume.py"), folder=tmp_path)
    assert out.count("it ended with status -9") == 4
    kept = out.split("Turns after four kills:\n")[1].splitlines()
    assert [line.split()[0] for line in kept] == ["user", "assistant"] * 4
    for question, answer in zip(kept[::2], kept[1::2], strict=True):
        assert question.split(maxsplit=1)[1] in answer
    assert [path.name for path in tmp_path.iterdir()] == ["example-data"]


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


def test_fleet_example_survives_the_death_of_a_worker(postgres: Postgres, tmp_path: Path) -> None:
    """Three processes serve three users; one is killed, and no question is lost or asked twice."""
    out = run(str(ROOT / "examples" / "fleet.py"), postgres.url, folder=tmp_path)
    assert out.count("is dead; ") > 1
    store = PostgresStore(postgres.url)
    for user in ("ann", "bob", "eve"):
        assert f"{user}: 8 turns, all asked once: 4 questions" in out
        with Conversation.open(f"fleet:{user}", store=store, read_only=True) as chat:
            assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 4
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("place", "told"),
    [("--help", "name a database"), ("postgresql://nobody@127.0.0.1:1/x", "could not be listed")],
)
def test_fleet_example_says_that_it_needs_a_database(place: str, told: str, tmp_path: Path) -> None:
    """Without a database that can be reached it ends with a sentence, before a worker starts."""
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    example = str(ROOT / "examples" / "fleet.py")
    done = ran(example, place, folder=tmp_path, environment=os.environ, timeout=300)
    assert (done.returncode, done.stdout) == (1, "")
    assert told in done.stderr
    assert "Traceback" not in done.stderr
