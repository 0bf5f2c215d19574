"""`conversation completion`: what is offered, and the shells' scripts in the shells themselves."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conversation import Conversation, FileStore
from tests.cli.conftest import HOSTILE, Run
from tests.terminals import DEADLINE, Terminal, environment

FILES = 3
IDS = ("ann@home", "telegram:42", "telegram:43", "my chat", "größe", "-x")


@pytest.fixture
def _sessions() -> None:
    for session_id in IDS:
        with Conversation.open(session_id) as chat:
            chat.set_title(HOSTILE)


def offered(cli: Run, *words: str) -> list[str] | None:
    """Return what may stand for the last word; None for the name of a file."""
    status, out, err = cli("completion", "fish", "--words", "\n".join(("conversation", *words)))
    assert (status in (0, FILES), err) == (True, "")
    return None if status == FILES else [line.partition("\t")[0] for line in out.splitlines()]


@pytest.mark.usefixtures("_sessions")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sh"], ["show"]),
        (["se"], ["search"]),
        (["--v"], ["--version"]),
        (["nothing", ""], []),
        (["show", "tele"], ["telegram:42", "telegram:43"]),
        (["show", "ann@home", ""], []),
        (["show", ""], ["ann@home", "telegram:42", "telegram:43", "my chat", "größe"]),
        (["show", "--json", "größ"], ["größe"]),
        (["chat", "my"], ["my chat"]),
        (["delete", "ann@home", "a"], []),
        (["delete", "--", "-"], ["-x"]),
        (["delete", "--", "ann@home", "-"], ["-x"]),
        (["export", "--fo"], ["--force", "--format"]),
        (["export", "--force", "--fo"], ["--format"]),
        (["export", "--format", "m"], ["markdown", "messages"]),
        (["export", "--format=m"], ["--format=markdown", "--format=messages"]),
        (["export", "--output", ""], None),
        (["export", "-o", "x", "telegram:42", "tele"], ["telegram:43"]),
        (["import", ""], None),
        (["import", "--id", "tele"], []),
        (["list", "--store", ""], None),
        (["list", "--store="], None),
        (["copy", "--from", ""], None),
        (["show", "--store", "/nowhere", ""], []),
        (["search", "tele"], []),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["completion", "bash", "--"], ["--help"]),
    ],
)
def test_words_that_fit_are_offered(words: list[str], found: list[str] | None, cli: Run) -> None:
    """Completion offers commands, options, their values, and sessions that are not named yet."""
    shown = offered(cli, *words)
    assert (shown if shown is None else sorted(shown)) == (
        found if found is None else sorted(found)
    )


def test_each_command_and_option_is_offered(cli: Run) -> None:
    """Completion offers every command, and the options of each."""
    commands = offered(cli, "")
    assert commands is not None
    assert {"say", "search", "completion", "verify"} <= {*commands}
    for command in commands:
        with pytest.raises(SystemExit, match="0"):
            cli(command, "--help")
        assert "--help" in (offered(cli, command, "--") or ())


def test_sessions_of_the_store_that_is_named_are_offered(cli: Run, tmp_path: Path) -> None:
    """A store that cannot be read offers nothing, and says nothing on stdout."""
    with Conversation.open("other", store=FileStore(tmp_path / "s")) as chat:
        chat.add_user("Hello")
    (tmp_path / "s" / "broken.json").write_text("{")
    for words in (["--store", str(tmp_path / "s")], [f"--store={tmp_path / 's'}"]):
        assert offered(cli, "show", *words, "") == ["other"]
    place = "postgresql://ann:secret@127.0.0.1:1/db?connect_timeout=1"
    typed = f"conversation\nshow\n--store\n{place}\n"
    assert cli("completion", "zsh", "--words", typed)[:2] == (1, "")


@pytest.mark.usefixtures("_sessions")
@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("conversation show telegram:", ["42", "43"]),
        ("conversation show ann@h", ["home"]),
        (r"conversation show my\ ", [r"my\ chat"]),
        ("conversation show 'my ", ["my chat"]),
        ('conversation show "telegram:', ["telegram:42", "telegram:43"]),
        ("conversation export --format=h", ["html"]),
    ],
)
def test_bash_gets_what_it_puts_in_place_of_its_word(line: str, found: list[str], cli: Run) -> None:
    """Bash gets what follows the last of its breaks, with spaces escaped, except in quotes."""
    status, out, _ = cli("completion", "bash", "--words", line, "--breaks", " \t\n\"'@><=;|&(:")
    assert (status, sorted(out.splitlines())) == (0, found)


@pytest.mark.parametrize("session_id", ["it's", "a';touch x;'", "a$(x)`y`$z", 'a"\\"b', "a\\"])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_no_id_leaves_the_quotes_that_bash_has_open(session_id: str, quote: str, cli: Run) -> None:
    """Bash reads what Tab puts between quotes as the id alone: it runs and expands nothing."""
    with Conversation.open(session_id) as chat:
        chat.add_user("Hello")
    typed = f"conversation show {quote}"
    for _ in range(2):  # then Tab is pressed again
        out = cli("completion", "bash", "--words", typed)[1].removesuffix("\n")
        typed = f"conversation show {quote}{out}"
    script = f'conversation() {{ printf %s "$2"; }}; {typed}{quote}'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (session_id, "")


@pytest.fixture
def shell_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a shell that finds the command `conversation`."""
    program = tmp_path / "bin" / "conversation"
    program.parent.mkdir()
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    program.write_text(
        f'#!/bin/sh\nPYTHONPATH={path} exec {sys.executable} -W error -m conversation "$@"\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "talk.md").touch()
    return tmp_path


START = {
    "bash": ("--norc", "--noprofile", "-i"),
    "zsh": ("-f", "-i"),
}
READY = {
    "bash": "PS1='rea''dy '; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'\n",
    "zsh": "unset zle_bracketed_paste; autoload -U compinit; compinit -u -D; PS1='rea''dy '\n",
}


LINES = {
    "sh": "show",
    "export --format mark": "export --format markdown",
    "show telegram:": "show telegram:4",
    "show ann": "show ann@home",
    "show my": "show my\\ chat",
    "show --store=fil": "show --store=files",
}


@pytest.mark.slow
@pytest.mark.usefixtures("_sessions")
@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_tab_completes_in_the_shell(shell: str, shell_environment: Path) -> None:
    """Tab completes commands, options, values, sessions with special characters, and files."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    start = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"
    with Terminal(shell_environment, None, "-c", start, shell, *START[shell]) as terminal:
        terminal.press(READY[shell])
        terminal.until("ready ")
        terminal.press(f'eval "$(conversation completion {shell})"\n')
        terminal.until("ready ")
        for typed, done in LINES.items():
            # What is typed ahead is read behind the completion.
            terminal.press(f"conversation {typed}\t\x01echo '<\x05>'\n")
            terminal.until("\n<")
            shown = terminal.until(">\r").removesuffix(">\r").rstrip(" /")
            assert shown == f"conversation {done}"
            terminal.until("ready ")
        terminal.press("exit\n")
        terminal.end()


@pytest.mark.slow
@pytest.mark.usefixtures("_sessions")
def test_fish_completes(shell_environment: Path) -> None:
    """Fish completes commands, options, values, sessions with special characters, and files."""
    if not shutil.which("fish"):
        pytest.skip("fish is not installed")
    script = "conversation completion fish | source\n"
    lines = {
        "sh": ["show"],
        "export --trans": ["--transcribe"],
        "export --format mark": ["markdown"],
        "show tele": ["telegram:42", "telegram:43"],
        "show 'my ": ["my chat"],
        "import files/t": ["files/talk.md"],
    }
    for line in lines:
        script += f'complete -C "conversation {line}"; echo ==\n'
    done = subprocess.run(
        ["fish", "--no-config", "-c", script],
        cwd=shell_environment,
        env=environment(None, shell_environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    found = [
        [each.partition("\t")[0] for each in block.splitlines() if each]
        for block in done.stdout.split("==\n")[:-1]
    ]
    assert (found, done.stderr) == ([*lines.values()], "")
