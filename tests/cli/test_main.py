"""Exit status, errors and standard streams of the command line."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from conversation import Conversation, __version__
from tests.cli.conftest import Run, run, shell

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "arguments",
    [(), ("nothing",), ("show",), ("show", "x" * 513), ("export", "x", "--format", "x")],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """The error says what is wrong, without a traceback."""
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"(error:|!) .+\n$", done.stderr)
    assert "Traceback" not in done.stderr


def test_version_is_printed(tmp_path: Path) -> None:
    """`--version` prints the package's version, and needs no store."""
    done = run("--version", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"conversation {__version__}\n", "")


def test_errors_are_one_line_on_stderr(tmp_path: Path) -> None:
    """An unknown session or a broken store exits with 1 and without a traceback."""
    done = run("show", "nobody", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("! there is no session 'nobody'")
    assert done.stderr.count("\n") == 1
    (tmp_path / "file").touch()
    done = run("chat", "--store", "file/sub", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("command", ["chat", "list", "show nobody", "delete nobody", "verify"])
def test_closed_standard_streams_are_no_error(
    closed: list[int], command: str, tmp_path: Path
) -> None:
    """Commands work with stdin, stdout or stderr closed, as cron and the like may start them."""
    done = run(*command.split(), folder=tmp_path, closed=closed)
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr
    assert "Warning" not in done.stderr
    assert done.returncode == int(command.endswith(" nobody"))


def test_a_closed_pipe_is_no_error(session: str, tmp_path: Path) -> None:
    """`conversation show … | head -1` prints nothing on stderr."""
    with Conversation.open(session) as chat:
        for _ in range(300):
            chat.add_user("word " * 100)
    done = shell(f'"$@" -m conversation show {session} | head -1', tmp_path)
    assert (done.stdout, done.stderr) == ("Dogs\n", "")


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ("say x hello --model", "--model"),
        ("say x hello --mod -- more", "--model"),
        ("say x hello --model --json", "--model"),
        ("export x -o", "--output/-o"),
        ("import x.json --id", "--id"),
        ("sweep --older-than", "--older-than"),
        ("list --store", "--store"),
    ],
)
def test_an_option_without_its_value_is_named(
    arguments: str, option: str, cli: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """It takes no other argument for its value, wherever it stands."""
    with pytest.raises(SystemExit):
        cli(*arguments.split())
    assert f"argument {option}: expected one argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ("--format", "markdown", "x", "y", "-o", "out"),
        ("x", "--format", "markdown", "y", "-o", "out"),
        ("x", "y", "--format=markdown", "-oout"),
        ("x", "--form", "markdown", "-o", "out", "--", "y"),
    ],
)
def test_options_stand_anywhere(
    arguments: tuple[str, ...], cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Options stand before, between and behind other arguments, in any of their forms."""
    monkeypatch.chdir(tmp_path)
    for name in ("x", "y"):
        with Conversation.open(name) as chat:
            chat.add_user("Hello")
    assert cli("export", *arguments)[::2] == (0, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"x.md", "y.md"}


def test_store_may_stand_before_the_command(cli: Run, tmp_path: Path) -> None:
    """`--store` is taken where many write it first, in both of its forms."""
    with Conversation.open("x", store=tmp_path / "talks") as chat:
        chat.add_user("Hello")
    for store in (("--store", f"{tmp_path}/talks"), (f"--store={tmp_path}/talks",)):
        assert cli(*store, "show", "x", "--json")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("lst", "--store", "postgresql://ann:secret@host/talks"),
        ("postgresql://ann:se/cr:et@host/talks", "list"),
        ("list", "postgresql://ann:secret@host/talks"),
        ("show", "postgresql://ann:se@cret@host/talks"),
        ("show", "postgresql://host/talks?user=ann&password=secret"),
        ("list", "--store", "postgresql://ann:secret&schema=a@127.0.0.1:1/talks"),
    ],
)
def test_passwords_that_stand_elsewhere_are_not_repeated(
    arguments: tuple[str, ...], cli: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """An error names a URL that was taken for something else without its password."""
    with contextlib.suppress(SystemExit):
        status, *said = cli(*arguments)
        assert status
        assert "cret" not in "".join(said)
    assert "cret" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
@pytest.mark.parametrize("command", ["list", "show x --json"])
def test_a_full_disk_behind_the_output_is_named(command: str, tmp_path: Path) -> None:
    """The error says that it is the output which could not be written."""
    with Conversation.open("x") as chat:
        chat.add_user("Hello")
    done = shell(f'"$@" -m conversation {command} > /dev/full', tmp_path)
    told = "! the output could not be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, told)
