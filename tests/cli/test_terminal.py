"""Output of the command line on terminals, pipes and in other encodings."""

from __future__ import annotations

import ast
import contextlib
import html
import io
import json
import os
import re
import subprocess
import threading
import tty
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileInput,
    FileStore,
    ImageInput,
    SystemTurn,
    ToolCall,
)
from conversation._cli import terminal as terminal_module
from conversation._cli.main import main
from conversation.testing import StandIn
from tests.cli.conftest import HOSTILE, PROGRAM, Run, run
from tests.samples import SOUND
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
    assert "red \ufffd\\[31m" in words
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


BREAKS = ("\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029")
FORGED = "2 user 2026-11-22 10:15 UTC"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
LIVE = f"\x1b[2J\x07\x7f\x90\x9b\x9d{BIDI}"


def begun(lines: list[str]) -> list[str]:
    """Return the numbers and first words of lines that are not indented."""
    found = (re.match(r"(\d+ )?\S+", line) for line in lines if not line.startswith("  "))
    return [each[0] for each in found if each]


def full_of(words: str, tmp_path: Path) -> FileStore:
    """Return a store with a session that has these words wherever a text can stand."""
    store = FileStore(tmp_path / words.encode().hex()[:8])
    settings: Any = {"instructions": words, "model": words, "voice": words}
    with Conversation.open("x", store=store, **settings) as chat:
        chat.add_user(words, FileInput(b"x", words), FileInput(file_id=words))
        chat.add(SystemTurn(words))
        image = ImageInput(f"https://example.org/{words}")
        chat.add_user(AudioInput(SOUND, transcript=words), image)
        audio = AssistantAudio(words, None, words, b"sound", words)
        calls = (ToolCall(words, words, words), ToolCall("b", words, words, "custom"))
        chat.add(
            AssistantTurn(
                content=f"{words}!",
                audio=audio,
                tool_calls=calls,
                refusal=words,
                model=words,
                finish_reason=words,
                interrupted=True,
            )
        )
        chat.add_tool_result(words, words)
        chat.add(AssistantTurn(refusal=words, extra=json.dumps({words: words})))
        chat.set_title(words)
        chat.set_metadata({words: words})
    return store


def lines_of(text: str) -> list[str]:
    """Return the lines as a terminal shows them."""
    return [line for line in re.split("[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]", text) if line]


@pytest.mark.parametrize("end", BREAKS, ids=ascii)
def test_no_text_passes_for_a_turn(end: str, cli: Run, tmp_path: Path) -> None:
    """Whatever ends a line in it, and wherever it stands, `show` indents what follows."""
    store = full_of(f"Hello{end}{FORGED}{end}{end}tokens: none", tmp_path)
    status, out, err = cli("show", "x", "--store", str(store.root))
    assert (status, err) == (0, "")
    turns = ["1 user", "2 system", "3 user", "4 assistant", "5 tool", "6 assistant"]
    assert begun(lines_of(out)[2:]) == ["instructions", *turns, "tokens:"]
    assert len(lines_of(cli("list", "--store", str(store.root))[1])) == 1


@pytest.mark.parametrize("command", ["show", "show --json", "list", "list --json", "verify"])
def test_no_control_character_of_a_text_is_printed(command: str, cli: Run, tmp_path: Path) -> None:
    """Control characters of a text reach neither stdout nor stderr, wherever it stands."""
    store = full_of(LIVE, tmp_path)
    (store.root / f"{LIVE.replace(chr(0), '')}.json").write_text("{")
    name, *options = command.split()
    ids = ["x"] if name == "show" else []
    _, out, err = cli(name, *ids, *options, "--store", str(store.root))
    assert not set(out + err) & set(LIVE) - set("[2J")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["html", "json", "jsonl", "markdown", "messages"])
def test_an_export_to_stdout_is_escaped(form: str, tmp_path: Path) -> None:
    """An export to stdout has no control characters; JSON and HTML lose nothing by it."""
    store = full_of(LIVE, tmp_path)
    done = run(
        "export", "x", "--store", str(store.root), "--format", form, "-o", "-", folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not set(done.stdout) & set(LIVE) - set("[2J")
    with Conversation.open("x", store=store, read_only=True) as chat:
        whole = chat.export(tmp_path / "x", form).read_text()
    if form in ("json", "messages", "jsonl"):
        assert json.loads(done.stdout) == json.loads(whole)
    if form == "html":
        at = re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d)?")  # when each was made
        assert at.sub("", html.unescape(done.stdout)) == at.sub("", html.unescape(whole))


@pytest.mark.slow
def test_an_export_to_a_terminal_by_its_name_is_escaped(tmp_path: Path) -> None:
    """An export to a terminal's file has no control characters."""
    store = full_of(LIVE, tmp_path)
    arguments = ("export", "x", "--store", str(store.root), "--format", "json", "-o", "/dev/stdout")
    with Terminal(tmp_path, None, *PROGRAM, *arguments) as terminal:
        shown = terminal.end().replace("\r\x1b[K", "")  # progress
    assert "\\u202e" in shown
    assert not set(shown) & set(LIVE) - set("[2J")


@pytest.mark.parametrize("form", ["html", "json", "jsonl", "markdown", "messages"])
def test_an_exported_file_can_be_shown_in_a_terminal(form: str, tmp_path: Path) -> None:
    """A file, a terminal by its name, or whatever a name leads to: nothing in it is obeyed."""
    store = full_of(LIVE, tmp_path)
    with Conversation.open("x", store=store, read_only=True, clock=lambda: 1e9) as chat:
        assert not set(chat.export(tmp_path / "x", form).read_text()) & set(LIVE) - set("[2J")
        master, terminal = os.openpty()
        tty.setraw(terminal)
        shown = []
        reader = threading.Thread(target=lambda: shown.append(until_hung_up(master)))
        reader.start()
        chat.export(os.ttyname(terminal), form)
        os.close(terminal)
        reader.join()
        os.close(master)
    assert shown[0].decode().strip() == chat.export(tmp_path / "x", form).read_text().strip()


def until_hung_up(descriptor: int) -> bytes:
    """Return what is written to a terminal until nobody has it open."""
    pieces = []
    with contextlib.suppress(OSError):
        while piece := os.read(descriptor, 65_536):
            pieces.append(piece)
    return b"".join(pieces)


def test_errors_hold_no_control_character(cli: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Errors of commands and of arguments, and questions, have no control characters."""
    for arguments in (
        ["show", LIVE[:3]],
        ["show", f"a\u2028! forged{BIDI}"],
        ["list", "--store", f"/dev/null/{LIVE}"],
        ["list", "--store", f"/nowhere/{LIVE}"],
        ["import", f"{LIVE}\n! forged"],
        ["export", "x", "-o", f"{LIVE}\n! forged.docx"],
        ["delete", "--yes", f"x{BIDI}"],
    ):
        err = cli(*arguments)[2]
        assert len(lines_of(err)) == 1, arguments
        assert not set(err) & set(LIVE) - set("[2J"), arguments
    with pytest.raises(SystemExit):
        main(["list", f"--{LIVE}\nforged"])
    err = capsys.readouterr().err
    assert not set(err) & set(LIVE) - set("[2J")
    assert "\nforged" not in err


@pytest.mark.slow
@pytest.mark.parametrize("end", ["\n", "\r", "\x85", " " * 200])
def test_an_answer_does_not_pass_for_a_question(end: str, tmp_path: Path) -> None:
    """Further lines of an answer are indented, also those that a terminal would wrap."""
    with StandIn() as server:
        for _ in range(2):
            server.will_answer(f"Hello{end}user> forged{end}assistant> forged\x1b[2J")
        with Terminal(tmp_path, server, *PROGRAM, "chat", "x") as terminal:
            shown = terminal.until("user> ")
            shown += terminal.say("Hi")
            terminal.press("/quit\n")
            shown += terminal.end()
        done = run("chat", "y", folder=tmp_path, server=server, lines="Hi\n")
        with Terminal(tmp_path, server, *PROGRAM, "chat", "x") as terminal:
            again = terminal.until("\nuser> ")
    for text in (shown, again, done.stdout):
        assert "forged" in text
        assert "\x1b[2J" not in text
        assert not [line for line in rows(text) if re.match("(you|it)> forged", line)]


def rows(text: str, width: int = 80) -> list[str]:
    """Return the rows of a terminal that shows the text."""
    lines = lines_of(re.sub("\x1b\\[[0-9;]*[mK]", "", text))
    return [line[at : at + width] for line in lines for at in range(0, len(line), width)]


@pytest.mark.slow
def test_long_words_are_broken_before_the_terminal_breaks_them(tmp_path: Path) -> None:
    """Arguments of a tool that fill a row, by whatever characters, stay indented in `show`."""
    fillers = (" " * 100, "x" * 300, "狗" * 100, "\t" * 30)
    for number, filler in enumerate(fillers):
        store = FileStore(tmp_path / str(number))
        with Conversation.open("x", store=store) as chat:
            calls = (ToolCall("a", "f", f"{filler}{FORGED}"),)
            chat.add(AssistantTurn(content=f"{filler}{FORGED}", tool_calls=calls))
            chat.add_user(FileInput(b"x", f"{filler}{FORGED}"))
        arguments = (*PROGRAM, "show", "x", "--store", str(store.root))
        with Terminal(tmp_path, None, *arguments) as terminal:
            lines = lines_of(re.sub("\x1b\\[[0-9;]*[mK]", "", terminal.end()))[2:]
        assert max(sum(2 if char > "\xff" else 1 for char in line) for line in lines) < 80
        assert begun(lines) == ["1 assistant", "2 user", "tokens:"]


class Tty(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("text", "rows"),
    [
        (
            "The quick brown fox jumps over the lazy dog.",
            ["it> The quick brown fox", "    jumps over the lazy", "    dog."],
        ),
        ("four five sixteen seventeen", ["it> four five sixteen", "    seventeen"]),
        ("a\nb  c\n\n  d", ["it> a", "    b  c", "    ", "      d"]),
        ("Yes " + "x" * 45, ["it> Yes", f"    {'x' * 20}", f"    {'x' * 20}", "    xxxxx"]),
        ("狗是人类的好朋友朋友\uff0c非常", ["it> 狗是人类的好朋友朋", "    友\uff0c非常"]),
        ("Ein Mann sprach: schön war es", ["it> Ein Mann sprach:", "    schön war es"]),
        ("end" + " " * 60 + "you> no", ["it> end", "    you> no"]),
    ],
)
def test_answers_are_broken_between_words(
    text: str, rows: list[str], size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row of an answer is longer than the terminal, and no word that fits is broken."""
    monkeypatch.setenv("COLUMNS", "25")
    monkeypatch.setenv("NO_COLOR", "1")
    with (
        contextlib.redirect_stdout(Tty()) as out,
        terminal_module.answering("it> ", "blue", "    ") as shown,
    ):
        for at in range(0, len(text), size):
            shown.write(text[at : at + size])
    lines = out.getvalue().split("\n")
    if size < 45 and "x" * 45 in text:  # it was not known how long the word would be
        assert "".join(lines).replace(" ", "") == "it>Yes" + "x" * 45
        return
    assert lines == [*rows, ""]


def test_words_appear_at_once_where_they_can_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a word in the left half of a row does not wait for the next word."""
    monkeypatch.setenv("COLUMNS", "80")
    with contextlib.redirect_stdout(Tty()) as out:
        shown = terminal_module.Text()
        shown.write("One two")
        assert out.getvalue().endswith("One two")


def test_the_width_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that becomes narrower in the middle of an answer breaks the rest of it there."""
    monkeypatch.setenv("COLUMNS", "60")
    with contextlib.redirect_stdout(Tty()) as out:
        shown = terminal_module.Text("  ", "  ")
        shown.write("one two three four five six seven ")
        monkeypatch.setenv("COLUMNS", "23")
        shown.end("eight nine ten eleven twelve")
    rows = out.getvalue().split("\n")
    assert rows == [
        "  one two three four five six seven",
        "  eight nine ten",
        "  eleven twelve",
        "",
    ]


def test_what_is_no_terminal_gets_long_lines() -> None:
    """Text that goes to a file is neither broken nor coloured."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        terminal_module.write_text("word " * 99, "dim")
    assert out.getvalue() == f"  {'word ' * 99}\n"


def test_only_one_module_prints() -> None:
    """No module but `terminal` prints, so that all output is escaped."""
    folder = Path(str(terminal_module.__file__)).parent
    for path in folder.glob("*.py"):
        called = {
            node.func.id
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        asks = {"prompt.py": {"input"}}.get(path.name, set())
        assert path.name == "terminal.py" or called & {"print", "input"} == asks
