"""The README: its code runs and prints what stands below it, and its table of settings is true."""

from __future__ import annotations

import inspect
import os
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from conversation import AsyncConversation, Context, Conversation, FileStore
from conversation._cli.main import main
from tests.programs import ran

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:```text\n(.*?)```\n)?", README, re.DOTALL)
QUICKSTART = re.findall(r"examples/quickstart.py\n```\n```text\n(.*?)```\n", README, re.DOTALL)
SETTINGS = re.findall(r"^\| `(\w+)` \| `(.+?)` \| .+ \|$", README, re.MULTILINE)
[COMMANDS] = re.findall(r"^## Command line\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
FIRST_SCREEN = 75
MOST_LINES = 250


def pattern(shown: str) -> str:
    """Return a pattern of what is shown: a line of "…" is any lines, a "…" within one any text."""
    parts = [re.escape(line).replace("…", ".*") + r"\n" for line in shown.splitlines()]
    return "".join(r"(.*\n)*?" if part == r".*\n" else part for part in parts)


@pytest.mark.parametrize(
    ("shown", "printed", "fits"),
    [
        ("a\n", "a\n", True),
        ("a\n", "a\nb\n", False),
        ("a\n…\n", "a\nb\nc\n", True),
        ("…\nb\n", "a\nc\n", False),
        ("as voice, … min left\n", "as voice, 59 min left\n", True),
        ("as voice, … min left\n", "as voice,\n59 min left\n", False),
        ("1.5 s (a)\n", "125 s (a)\n", False),
    ],
)
def test_what_is_shown_is_compared_by_lines(shown: str, printed: str, fits: bool) -> None:
    """An ellipsis is the only thing that stands for something else."""
    assert bool(re.fullmatch(pattern(shown), printed)) == fits


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(BLOCKS)))
@pytest.mark.usefixtures("default_server")
def test_each_block_prints_what_is_shown(
    number: int,
    tmp_path: Path,
) -> None:
    """Each block of Python runs by itself, without warnings, and prints the text below it."""
    code, shown = BLOCKS[number]
    compare(shown, "-c", code, folder=tmp_path)


@pytest.mark.slow
def test_the_quickstart_prints_what_is_shown(tmp_path: Path) -> None:
    """The first command prints the excerpt below it."""
    assert len(QUICKSTART) == 1
    compare(QUICKSTART[0], str(ROOT / "examples" / "quickstart.py"), folder=tmp_path)


def compare(shown: str, *arguments: str, folder: Path) -> None:
    """Run Python in that folder: it succeeds in silence, and prints what is shown."""
    done = ran(*arguments, folder=folder, environment=os.environ, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(pattern(shown), done.stdout), done.stdout


def test_each_block_has_its_output() -> None:
    """There are blocks of Python, and none of them is without the text that it prints."""
    assert len(BLOCKS) == README.count("```python") >= 3
    assert all(shown.strip("… \n") for _, shown in BLOCKS)


def test_the_readme_is_short() -> None:
    """The README has at most 250 lines, and its first 75 hold the first program with its output."""
    lines = README.splitlines()
    assert len(lines) <= MOST_LINES
    top = "\n".join(lines[:FIRST_SCREEN])
    assert f"```python\n{BLOCKS[0][0]}```\n```text\n{BLOCKS[0][1]}```" in f"{top}\n"


def test_the_commands_for_ci_are_one_line_each() -> None:
    """`.ci/run` finds the quickstart and the tests by their words."""
    lines = [line for line in README.splitlines() if "venv" in line]
    for words in ("examples/quickstart.py", "-m pytest"):
        [command] = [line for line in lines if words in line]
        assert command.startswith("python3 -m venv .venv && ")


def test_the_table_of_settings_is_whole_and_true() -> None:
    """The table has all settings of both constructors and of `open`, with their defaults."""
    names = {"Context": Context, "time": time, "FileStore": FileStore}
    written = {name: eval(default, names) for name, default in SETTINGS}
    assert len(written) == len(SETTINGS)
    for kind in (Conversation, AsyncConversation):
        found = defaults(kind.open) | defaults(kind)
        assert written.keys() == found.keys()
        for name, default in written.items():
            # What stands for None: the store that is made then.
            given = None if isinstance(default, FileStore) else default
            assert given == found[name], name
    for field in inspect.signature(Context).parameters:
        assert re.search(rf"`{field}(=.+?)?`", README), field


def defaults(function: Any) -> dict[str, Any]:
    """Return the defaults of the named arguments."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.default is not each.empty}


def test_all_commands_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Each command stands in the section of the command line, with options that it has."""
    for line in re.findall(r"^conversation .+", COMMANDS, re.MULTILINE):
        command, options = line.split()[1], re.findall(r"--\w+", line.partition("  #")[0])
        assert options == [option for option in options if option in help_of(capsys, command)]
    commands = re.findall(r"^    (\w+)(?: |$)", help_of(capsys), re.MULTILINE)
    assert len(commands) > 10
    assert [name for name in commands if not re.search(rf"\b{name}\b", COMMANDS)] == []


@pytest.mark.usefixtures("default_server")
def test_the_first_commands_print_what_is_shown(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The first commands of the README succeed in silence, and print the lines below them."""
    monkeypatch.chdir(tmp_path)
    [(lines, shown)] = re.findall(r"```sh\n([^`]*)```\n```text\n(.*?)```", COMMANDS, re.DOTALL)
    assert [main(shlex.split(line)[1:]) for line in lines.splitlines()] == [0, 0]
    told = capsys.readouterr()
    assert re.fullmatch(pattern(shown), told.out), told.out
    assert told.err == ""
    assert [path.name for path in tmp_path.glob("*.wav")] == ["dog.wav"]


@pytest.mark.usefixtures("default_server")
def test_all_commands_do_what_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They can be run one after the other, as they stand there; only `chat` waits for its user."""
    monkeypatch.chdir(tmp_path)
    for line in re.findall(r"^conversation (?!chat).+", COMMANDS, re.MULTILINE):
        words = shlex.split(line, comments=True)[1:]
        assert main([*words, "--yes"] if words[0] == "delete" else words) == 0, line
    assert main(["show", "again"]) == 0


def help_of(capsys: pytest.CaptureFixture[str], *command: str) -> str:
    """Return what a command prints with `--help`."""
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0, command
    return capsys.readouterr().out


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="needs the checkout")
def test_links_and_files_exist() -> None:
    """Each relative link, picture and example that is named is in the repository."""
    links = re.findall(r"\]\(([^)#:]+)\)|src=\"([^\"]+)\"", README)
    named = re.findall(r"`((?:examples|tests)/[\w./]+)", README)
    about_tests = (ROOT / "tests" / "README.md").read_text("utf-8")
    tests = re.findall(r"`((?:[a-z_]+/)?test_\w+\.py)`", about_tests)
    assert links
    assert min(len(named), len(tests)) > 5
    for path in {*map("".join, links), *named, *(f"tests/{name}" for name in tests)}:
        assert (ROOT / path).exists(), path
    headings = {
        heading.lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    }
    assert {*re.findall(r"\]\(#(.+?)\)", README)} <= headings


def test_extras_are_installed_from_the_checkout() -> None:
    """No text sends users to the index, where the name belongs to another package."""
    texts = [ROOT / "README.md", *(ROOT / "examples").glob("*.py")]
    texts += (ROOT / ".github").glob("*.md")
    texts += Path(inspect.getfile(Conversation)).parent.rglob("*.py")
    for path in texts:
        for words in re.findall(r"pip install (?:-\S+ )*(\S+)", path.read_text("utf-8")):
            assert re.match(r"['`]?\.", words), f"{path}: pip install {words}"
        assert not re.search(r"['\"]conversation\[", path.read_text("utf-8")), path
