"""Output of the command line on terminals, pipes and in other encodings."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from conversation import Conversation
from tests.cli.conftest import HOSTILE, PROGRAM, Run, run
from tests.terminals import DEADLINE, PYTHON, Terminal, environment


def test_control_characters_in_text_are_replaced(cli: Run, tmp_path: Path) -> None:
    """`show` and exported Markdown hold none of those that a session contains."""
    with Conversation.open("x", instructions=HOSTILE) as chat:
        chat.add_user(HOSTILE)
    out = cli("show", "x")[1]
    assert "red \ufffd[31m" in out
    assert "\x1b" not in out
    assert "\u202e" not in out
    cli("export", "x", "-o", str(tmp_path / "x.md"))
    words = (tmp_path / "x.md").read_text()
    assert "red \ufffd[31m" in words
    assert "\x1b" not in words


def test_control_characters_in_titles_are_replaced(cli: Run) -> None:
    """`list` keeps a title in one line; JSON escapes control characters, so nothing is lost."""
    title = f"one\n\nsession 'bob' deleted {HOSTILE}"
    with Conversation.open("x") as chat:
        chat.set_title(title)
    out = cli("list")[1]
    assert out.count("\n") == 1
    out = cli("list", "--json")[1]
    assert json.loads(out)[0]["title"] == title
    assert not set(out) & {"\x1b", "\x9b", "\u202e"}


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_text_that_the_encoding_cannot_hold_is_replaced(encoding: str, tmp_path: Path) -> None:
    """`show` prints a `?` for a character that the output encoding does not have."""
    with Conversation.open("x") as chat:
        chat.add_user("naïve 狗")
    done = subprocess.run(
        [*PYTHON, *PROGRAM, "show", "x"],
        cwd=tmp_path,
        env={**environment(None, tmp_path), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"ve ?" in done.stdout


@pytest.mark.slow
def test_progress_and_colours_are_for_terminals_only(
    session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal `verify` shows progress and `show` uses colours, unless NO_COLOR is set."""
    for name in ("a", "b"):
        with Conversation.open(name) as chat:
            chat.add_user("Hello")
    with Terminal(tmp_path, None, *PROGRAM, "verify") as terminal:
        shown = terminal.end()
    assert "\r\x1b[Kverifying 3 of 3" in shown
    assert shown.endswith("3 sessions, 7 turns, 2 files; 0 damaged\n")
    assert run("verify", folder=tmp_path).stderr == ""
    with Terminal(tmp_path, None, *PROGRAM, "show", session) as terminal:
        assert "\x1b[1mDogs\x1b[0m" in terminal.end()
    monkeypatch.setenv("NO_COLOR", "1")
    with Terminal(tmp_path, None, *PROGRAM, "show", session) as terminal:
        assert "\x1b" not in terminal.end()
