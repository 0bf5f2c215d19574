"""The command line in this process and in others, and a session for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation
from conversation._cli.main import main
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.programs import ran
from tests.samples import SOUND
from tests.terminals import DEADLINE, PYTHON, environment

PROGRAM = ("-m", "conversation")
HOSTILE = "red \x1b[31m and \x9b2J and \u202eback"


def run(
    *arguments: str,
    folder: Path,
    server: StandIn | None = None,
    lines: str = "",
    closed: Sequence[int] = (),
) -> subprocess.CompletedProcess[str]:
    """Run the program in a process of its own, connected by pipes."""
    return ran(
        *PROGRAM,
        *arguments,
        folder=folder,
        environment=environment(server, folder),
        lines=lines,
        closed=closed,
        timeout=DEADLINE,
    )


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of `sh`, in which "$@" is Python."""
    return subprocess.run(
        ["sh", "-c", script, "sh", *PYTHON],
        cwd=folder,
        env=environment(None, folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs the command line in this process: exit status, stdout, stderr."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return ran


@pytest.fixture
def session(server: StandIn, clock: Clock) -> str:
    """The id of a saved session with two exchanges, one of them spoken."""
    client = server.client()
    with Conversation.open("ann@home", client=client, clock=clock, voice="ash") as chat:
        chat.say("Is a dog a friend?")
        chat.set_title("Dogs")
        server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
        chat.say(AudioInput(SOUND))
        chat.add_tool_result(chat.turns[-1].tool_calls[0].id, "Rain")  # type: ignore[union-attr]
    return "ann@home"
