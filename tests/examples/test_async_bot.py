"""The example `async_bot.py`: several users in one process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conversation.testing import StandIn
from tests.programs import Program
from tests.terminals import Running, environment, turns_of

pytestmark = pytest.mark.slow

DATA = Path("example-data") / "async-bot"
BOT = str(Path(__file__).parent.parent.parent / "examples" / "async_bot.py")


def bot(folder: Path, server: StandIn | None, *names: str) -> Running:
    """Start the example."""
    output, theirs = os.pipe()
    streams = (theirs, theirs, theirs)  # it reads no input
    program = Program(["-u", BOT, *names], folder, environment(server, folder), streams)
    os.close(theirs)
    return Running(program, output)


def test_the_bot_serves_several_users_and_resumes_their_sessions(tmp_path: Path) -> None:
    """Each user has a session, and a tool call with a city of their own."""
    names = {"ann": "Oslo", "bob": "Lima", "cid": "Turin"}
    for run in (1, 2):
        out = bot(tmp_path, None, *names).end()
        assert "Traceback" not in out
        for name, city in names.items():
            own = [line for line in out.splitlines() if line.startswith(f"{name}: ")]
            assert own[0] == f"{name}: {6 * (run - 1)} turns so far"
            call = f'{name}: weather({{"city":"{city}"}}) gave \'light rain in {city}\''
            assert call in own
            assert f"{name}: hears 0.4 s of sound" in own
            told = [line for line in own if "has the answer" in line]
            assert "a tool call" in told[0]
            assert f"The tool says light rain in {city}" in told[1]
            assert f"and {2 * (run - 1)} from transcripts" in told[2]
            turns = turns_of(name, tmp_path / DATA)
            roles = ["user", "assistant", "tool", "assistant", "user", "assistant"]
            assert [turn.role for turn in turns] == roles * run
    assert [path.name for path in tmp_path.iterdir()] == ["example-data"]


def test_one_user_does_not_wait_for_another(server: StandIn, tmp_path: Path) -> None:
    """While the answer to one user hangs, the answers to the other are completed."""
    server.will_answer("Wait for it.", hold_after=3)
    running = bot(tmp_path, server)
    running.until("has the answer: You wrote: Do I need an umbrella?")
    server.go_on()
    rest = running.end()
    assert "has the answer: Wait for it." in rest
    assert [len(turns_of(name, tmp_path / DATA)) for name in ("ann", "bob")] == [4, 4]


def test_an_error_for_one_user_is_one_line(server: StandIn, tmp_path: Path) -> None:
    """A refused request is reported, and the other user is served."""
    server.will_fail(400, "No.")
    out = bot(tmp_path, server).end()
    assert "Traceback" not in out
    assert out.count(": BadRequestError: ") == 1
    assert out.count("has the answer: You wrote: Do I need an umbrella?") == 1


def test_a_broken_stream_for_one_user_is_not_a_traceback(server: StandIn, tmp_path: Path) -> None:
    """Even one that the SDK cannot parse; the other user is served."""
    server.will_send(b"data: {oops\n\n")
    out = bot(tmp_path, server).end()
    assert "Traceback" not in out
    assert out.count("has the answer: You wrote: Do I need an umbrella?") >= 1
