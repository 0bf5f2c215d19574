"""`conversation export`: formats, places, transcripts, and what is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, UserTurn
from conversation.testing import StandIn
from tests.cli.conftest import PROGRAM, Run, run
from tests.cli.test_verification import unknown_role
from tests.samples import SOUND
from tests.terminals import Terminal, turns_of


def without_times(page: bytes) -> bytes:
    """Return a page without its times, and without what is counted from them."""
    at = rb"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d\+00:00| UTC)"
    return re.sub(at + rb"|\d+ (?:s|min|h|d) ago", b"", page)


@pytest.mark.parametrize("form", ["html", "json", "jsonl", "markdown", "messages"])
def test_export_writes_each_format(
    form: str, cli: Run, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `-o` the file is named after the session and lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = cli("export", session, "--format", form)
    path = tmp_path / out.strip()
    assert status == 0
    assert path.name.startswith("ann@home.")
    with Conversation.open(session, read_only=True) as chat:
        again = chat.export(tmp_path / "again", form).read_bytes()
    # A page says when it was exported.
    assert without_times(again) == without_times(path.read_bytes())


def test_export_overwrites_only_with_force(
    cli: Run, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--force` it overwrites other files, but never those of the store."""
    monkeypatch.chdir(FileStore().root)
    before = Path("ann@home.json").read_bytes()
    status, _, err = cli("export", session, "--format", "json")
    assert status == 2
    assert "--force overwrites it" in err
    status, _, err = cli("export", session, "--format", "json", "--force")
    assert status == 2
    assert "would overwrite a saved session" in err
    for path in ("other.json", "ann@home.audio/x.md"):
        assert cli("export", session, "-o", path, "--force")[0] == 2
    assert Path("ann@home.json").read_bytes() == before
    other = tmp_path / "a.md"
    other.write_text("mine")
    assert cli("export", session, "-o", str(other))[0] == 2
    assert other.read_text() == "mine"
    assert cli("export", session, "-o", str(other), "--force")[0] == 0
    assert other.read_text().startswith("# Dogs")


def test_exported_files_have_the_names_of_their_sessions(cli: Run, tmp_path: Path) -> None:
    """Only what file systems refuse is replaced; names that become equal are kept apart."""
    names = {
        "my talk": "my talk",
        "Ünï?": "Ünï_",
        "Ünï*": "Ünï_-2",
        "a/../b": "a_.._b",
        "A:..:B": "A_.._B-2",
        "..": "__",
        ".hidden.": "_hidden_",
        "nul.x": "_nul.x",
        "猫" * 100: "猫" * 66,
        "\u202eback": "_back",
    }
    for name in names:
        with Conversation.open(name) as chat:
            chat.add_user("Hello")
    folder = tmp_path / "out"
    assert cli("export", *names, "-o", str(folder), "--format", "markdown")[::2] == (0, "")
    assert {path.name for path in folder.iterdir()} == {f"{name}.md" for name in names.values()}


@pytest.mark.slow
def test_export_into_one_file_notes_what_it_leaves_out(session: str, tmp_path: Path) -> None:
    """In a terminal: the lines have no names, by which an import could tell the sessions apart."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
    program = (*PROGRAM, "export", session, "bob", "-o", "all.jsonl")
    with Terminal(tmp_path, None, *program) as terminal:
        assert "its lines hold words alone, and no names" in " ".join(terminal.end().split())


@pytest.mark.slow
def test_export_of_all_writes_a_folder_or_stdout(session: str, tmp_path: Path) -> None:
    """Several sessions as `jsonl` on stdout make one file of lines."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
        chat.add_assistant("Hi")
    assert run("export", "--all", "-o", "out", folder=tmp_path).returncode == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{session}.html", "bob.html"}
    lines = run("export", "--all", "--format", "jsonl", "-o", "-", folder=tmp_path).stdout
    first = [json.loads(line)["messages"][0]["content"] for line in lines.splitlines()]
    assert first == ["Hello", "Is a dog a friend?"]


@pytest.mark.slow
def test_export_writes_to_devices(session: str, tmp_path: Path) -> None:
    """/dev/stdout receives the export; a full device is one line on stderr and exit status 1."""
    done = run("export", session, "-o", "/dev/stdout", "--format", "markdown", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Dogs")
    assert "/dev/stdout" not in done.stdout
    if Path("/dev/full").is_char_device():
        done = run("export", session, "-o", "/dev/full", "--format", "html", folder=tmp_path)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert Path("/dev/full").is_char_device()


def test_export_needs_a_session_and_a_format(cli: Run, tmp_path: Path) -> None:
    """Without a session, or with a name that tells no format, the exit status is 2."""
    assert cli("export")[0] == 2
    assert cli("export", "nobody")[0] == 1
    with Conversation.open("x") as chat:
        chat.add_user("Hello")
    status, _, err = cli("export", "x", "-o", str(tmp_path / "a.docx"))
    assert status == 2
    assert "Pass --format, one of" in err
    assert "cannot tell the format" in err


def test_export_can_transcribe_first(
    cli: Run, session: str, default_server: StandIn, tmp_path: Path
) -> None:
    """`--transcribe` adds transcripts of user audio to the session and the export."""
    default_server.will_transcribe("And a cat?")
    path = tmp_path / "a.md"
    assert cli("export", session, "--transcribe", "-o", str(path))[0] == 0
    assert "> And a cat?" in path.read_text()
    assert turns_of(session)[2].text == "And a cat?"


def test_export_goes_on_where_a_clip_cannot_be_transcribed(
    cli: Run, default_server: StandIn, tmp_path: Path
) -> None:
    """A clip that is too short is reported; the others get their words, and the status is 0."""
    with Conversation.open("short") as chat:
        chat.add_user(AudioInput.from_pcm(bytes(960), 24_000))
        chat.add_user(AudioInput(SOUND))
    default_server.will_transcribe("And a cat?")
    arguments = ("export", "short", "--transcribe", "-o", str(tmp_path / "a.md"), "--force")
    status, _, err = cli(*arguments)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("! short: ")
    assert "too short" in err
    assert "> And a cat?" in (tmp_path / "a.md").read_text()
    assert cli(*arguments)[::2] == (0, "")
    default_server.will_fail(401)
    with Conversation.open("other") as chat:
        chat.add_user(AudioInput(SOUND))
    assert cli("export", "other", "--transcribe", "-o", str(tmp_path / "b.md"))[0] == 1


@pytest.mark.slow
def test_export_goes_on_where_the_server_fails_for_clips(
    cli: Run, default_server: StandIn, tmp_path: Path
) -> None:
    """Clips for which the server fails are reported; those behind them get their words."""
    with Conversation.open("s") as chat:
        for i in range(3):
            chat.add_user(AudioInput.from_pcm(bytes(4800 + 2 * i), 24_000))
    for _ in range(6):  # two clips, with two retries of the SDK each
        default_server.will_fail(500)
    default_server.will_transcribe("And a cat?")
    status, _, err = cli("export", "s", "--transcribe", "-o", str(tmp_path / "a.md"))
    assert (status, err.count("\n"), err[:5]) == (0, 1, "! s: ")
    assert "> And a cat?" in (tmp_path / "a.md").read_text()


@pytest.mark.slow
def test_transcribe_without_a_key_is_an_error(session: str, tmp_path: Path) -> None:
    """One line names OPENAI_API_KEY, and nothing is exported."""
    done = run("export", session, "--transcribe", folder=tmp_path)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_export_of_all_skips_damaged_sessions(cli: Run, session: str, tmp_path: Path) -> None:
    """The damaged one is reported and the exit status is 1; the others are exported."""
    with Conversation.open("bad") as chat:
        chat.add_user("Hello")
    unknown_role(FileStore().root, "bad")
    status, out, err = cli("export", "--all", "-o", str(tmp_path / "out"))
    assert (status, err.count("\n")) == (1, 1)
    assert "bad.json" in err
    assert out == f"{tmp_path / 'out'}/{session}.html\n"
    assert cli("export", session, session, "-o", str(tmp_path / "again"))[0] == 0


def test_exports_can_be_imported(cli: Run, session: str, tmp_path: Path) -> None:
    """`json` comes back whole, with its usage; `messages` and `jsonl` come back as text."""
    before = turns_of(session)
    for form in ("json", "messages", "jsonl"):
        cli("export", session, "--format", form, "-o", str(tmp_path / f"a.{form}"))
    status, _, err = cli("import", str(tmp_path / "a.json"))
    assert status == 1
    assert "Choose another by --id ID" in err
    status, out, _ = cli("import", str(tmp_path / "a.json"), "--id", "copy")
    assert (status, out) == (0, "imported session 'copy', 5 turns\n")
    with (
        Conversation.open("copy", read_only=True) as copy,
        Conversation.open(session, read_only=True) as chat,
    ):
        assert [turn.text for turn in copy.turns] == [turn.text for turn in before]
        assert (copy.usage, copy.title) == (chat.usage, "Dogs")
        assert isinstance(copy.turns[2], UserTurn)
        assert isinstance(copy.turns[2].content[0], AudioInput)
        assert copy.turns[2].content[0].read() == SOUND
    (tmp_path / "a.messages").rename(tmp_path / "talk.messages.json")
    assert cli("import", str(tmp_path / "talk.messages.json"))[:2] == (
        0,
        "imported session 'talk', 5 turns\n",
    )
    assert cli("import", str(tmp_path / "a.jsonl"), "--id", "tuned")[0] == 0
    assert turns_of("tuned")[0].text == "Is a dog a friend?"
    assert cli("verify")[0] == 0


def test_export_of_an_empty_store_is_no_error(cli: Run, tmp_path: Path) -> None:
    """A note on stderr says so, and the exit status is 0; without `--all` a session is needed."""
    for output in ((), ("-o", str(tmp_path / "all.jsonl")), ("-o", "-")):
        status, out, err = cli("export", "--all", *output)
        assert (status, out, err.count("\n")) == (0, "", 1)
        assert "no sessions in " in err
    assert cli("export")[0] == 2
    assert not [*tmp_path.glob("*.jsonl")]


def test_export_writes_several_sessions_into_one_file_of_lines(
    cli: Run, session: str, tmp_path: Path
) -> None:
    """By the name's ending, or `--format jsonl`; the exchanges left out are named by session."""
    for name in ("bob", "eve"):
        with Conversation.open(name) as chat:
            chat.add_user("Hello")
            chat.add_assistant(f"Hi, I am {name}")
    path = tmp_path / "all.jsonl"
    status, out, err = cli("export", session, "bob", "eve", "-o", str(path))
    assert (status, out) == (0, f"{path}\n")
    lines = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    assert [found[-1]["content"] for found in lines[1:]] == ["Hi, I am bob", "Hi, I am eve"]
    assert err == (
        f"! session '{session}': export of 'Dogs': skipping 1 exchange with audio that has no "
        "transcript (turns 3 to 5). --transcribe adds those of the user's audio.\n"
    )
    assert cli("export", "--all", "-o", str(path))[0] == 2, "it exists"
    (FileStore().root / "eve.json").write_text("{")
    assert cli("export", "bob", "eve", "-o", str(path), "--force")[0] == 1
    assert len(path.read_text().splitlines()) == 3, "it was not touched"
    status, _, err = cli("export", "--all", "-o", str(path), "--force")
    assert status == 1
    assert "eve.json" in err
    assert len(path.read_text().splitlines()) == 2
    assert cli("export", "bob", "-o", str(path), "--force")[0] == 0
    assert cli("import", str(path), "--id", "again")[0] == 0


@pytest.mark.parametrize("name", ["all.html", "all.json", "all.md", "all.messages.json"])
def test_one_file_of_another_format_holds_one_session(
    name: str, cli: Run, session: str, tmp_path: Path
) -> None:
    """Several sessions for it are wrong usage; a folder of that name takes them."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
    status, _, err = cli("export", "--all", "-o", str(tmp_path / name))
    assert (status, err.count("\n")) == (2, 1)
    assert ".jsonl" in err
    assert not (tmp_path / name).exists()
    (tmp_path / name).mkdir()
    assert cli("export", session, "bob", "-o", str(tmp_path / name))[0] == 0
    assert len([*(tmp_path / name).iterdir()]) == 2


@pytest.mark.parametrize(
    "command", ["show", "export", "delete --yes", "verify", "repair", "say --retry", "copy"]
)
def test_a_mistyped_id_brings_a_proposal(command: str, cli: Run, tmp_path: Path) -> None:
    """The session whose id is like it, in any case; else where all are, or that there are none."""
    name, *options = command.split()
    if name == "copy":
        options = ["--from", str(FileStore().root), "--to", str(tmp_path / "other")]
    FileStore().root.mkdir(parents=True)
    assert "There are none in /" in cli(name, "RETREIVER", *options)[2]
    with Conversation.open("retriever") as chat:
        chat.add_user("Hello")
    status, _, err = cli(name, "RETREIVER", *options)
    assert (status, err.count(str(FileStore().root))) == (1, 0)
    assert "no session 'RETREIVER'. Did you mean 'retriever'?" in err
    assert "`conversation list` shows all sessions" in cli(name, "cat", *options)[2]
