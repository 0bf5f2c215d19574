"""`conversation delete` and `sweep`: what is looked at, asked and deleted."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, PostgresStore
from tests.cli.conftest import PROGRAM, Run
from tests.postgres import Postgres
from tests.samples import SOUND
from tests.terminals import CTRL_C, CTRL_D, Terminal, turns_of


def test_delete_without_a_terminal_needs_yes(cli: Run, session: str) -> None:
    """With `--yes` all files of the session are deleted."""
    status, _, err = cli("delete", session)
    assert status == 2
    assert "--yes" in err
    assert len(turns_of(session)) == 5
    assert cli("delete", session, "--yes")[:2] == (0, "deleted ann@home\n")
    assert not [p for p in FileStore().root.iterdir() if p.name.startswith("ann")]
    assert cli("delete", session, "--yes")[0] == 1


def test_delete_looks_before_it_deletes(cli: Run, session: str) -> None:
    """If one session does not exist, none is deleted, with `--yes` either."""
    status, out, err = cli("delete", session, "nobody", "--yes")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "there is no session 'nobody'" in err
    assert "`conversation list`" in err
    assert len(turns_of(session)) == 5
    assert "there is no session 'nobody'" in cli("delete", "nobody")[2]  # before it asks
    assert cli("delete", session)[0] == 2
    assert cli("delete", session, session, "--yes")[:2] == (0, "deleted ann@home\n")


@pytest.mark.slow
def test_delete_says_what_goes(session: str, tmp_path: Path) -> None:
    """The question counts turns and sound; of a damaged session the damage is reported."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
    with Conversation.open("eve") as chat:
        chat.add_user(AudioInput(SOUND))
    (FileStore().root / "eve.json").write_text("{")
    with Terminal(tmp_path, None, *PROGRAM, "delete", session, "bob", "eve") as terminal:
        shown = terminal.until("[y/N] ")
        assert re.search(r"'ann@home' \(5 turns, 2 sound files of \d+ KB\)", shown)
        assert "'bob' (1 turn, no sound)" in shown
        assert "'eve' (damaged, 1 sound file of 5 KB)" in shown
        assert "! " in shown, "why it is damaged"
        terminal.press("y\n")
        terminal.end()
    assert not FileStore().list()
    with Terminal(tmp_path, None, *PROGRAM, "delete", "nobody") as terminal:
        assert "there is no session 'nobody'" in terminal.end(1)


def test_delete_in_a_database(cli: Run, postgres: Postgres, schema: str) -> None:
    """A missing session is found before anything is deleted."""
    store = PostgresStore(postgres.url, schema=schema)
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))
    place = f"{postgres.url}?schema={schema}"
    assert cli("delete", "x", "nobody", "--yes", "--store", place)[0] == 1
    assert store.exists("x")
    assert cli("delete", "x", "--yes", "--store", place)[:2] == (0, "deleted x\n")


@pytest.mark.slow
def test_delete_asks_for_confirmation_in_a_terminal(session: str, tmp_path: Path) -> None:
    """Anything but yes keeps the session, and says so; the exit status is that of a failure."""
    for answer, status in (("n\n", 1), ("\n", 1), (CTRL_D, 1), (CTRL_C, 130), ("y\n", 0)):
        with Terminal(tmp_path, None, *PROGRAM, "delete", session) as terminal:
            terminal.until("[y/N] ")
            assert ("nothing was deleted" in terminal.leave(answer, status)) == bool(status)
        assert bool(FileStore().list()) == bool(status)


@pytest.mark.slow
def test_sweep_asks_in_a_terminal(session: str, tmp_path: Path) -> None:
    """It says which sessions it would delete, and deletes them after a yes, or with `--yes`."""
    sweep = (*PROGRAM, "sweep", "--older-than", "0h")
    with Terminal(tmp_path, None, *sweep) as terminal:
        shown = terminal.until("[y/N] ")
        assert shown == f"would delete {session}\npermanently delete 1 session? [y/N] "
        assert "nothing was deleted" in terminal.leave("\n", 1)
    with Terminal(tmp_path, None, *sweep, "--sound") as terminal:
        assert "delete the sound of 1 session?" in terminal.until("[y/N] ")
        terminal.press("y\n")
        assert f"deleted the sound of {session}" in terminal.end()
    assert FileStore().list()
    with Terminal(tmp_path, None, *sweep, "--dry-run") as terminal:
        assert terminal.end() == f"would delete {session}\n"
    with Terminal(tmp_path, None, *sweep, "--yes") as terminal:
        assert terminal.end() == f"deleted {session}\n"
    with Terminal(tmp_path, None, *sweep) as terminal:
        assert terminal.end() == "nothing to delete is older than 0h\n"


def test_sweep_does_not_ask_without_a_terminal(cli: Run, session: str) -> None:
    """Timers have none: it deletes."""
    assert cli("sweep", "--older-than", "0h")[:2] == (0, f"deleted {session}\n")


@pytest.mark.slow
def test_a_question_is_seen_where_the_output_goes_into_a_file(session: str, tmp_path: Path) -> None:
    """The question is shown in the terminal; the file gets what was done."""
    code = "import sys, conversation._cli.main as it; sys.stdout = open('log', 'w'); it.main()"
    with Terminal(tmp_path, None, "-c", code, "delete", session) as terminal:
        terminal.until("[y/N] ")
        terminal.press("y\n")
        terminal.end()
    assert (tmp_path / "log").read_text() == f"deleted {session}\n"
