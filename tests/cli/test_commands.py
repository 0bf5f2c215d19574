"""The commands that show, export, import, delete and repair sessions."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore, PostgresStore, UserTurn
from conversation.testing import StandIn
from tests.cli.conftest import HOSTILE, PROGRAM, Run, run
from tests.cli.test_verification import unknown_role
from tests.postgres import Postgres
from tests.samples import SOUND
from tests.terminals import CTRL_D, DEADLINE, PYTHON, Terminal, environment, turns_of

# --- show -----------------------------------------------------------------------------------------


def test_show_prints_each_turn_and_how_it_would_be_sent(cli: Run, session: str) -> None:
    """An answer of 2025 is shown as sent by its transcript, because its audio id has expired."""
    status, out, err = cli("show", session)
    assert (status, err) == (0, "")
    assert out.startswith("Dogs\nann@home · begun 2025-11-01 12:26 UTC · 5 turns · gpt-audio-1.5 ·")
    assert re.search(
        r"\n2 assistant 2025-11-01 12:26 UTC · spoken, \d\.\d s → transcript, exp", out
    )
    assert '  weather({"city":"Oslo"})' in out
    assert "3 user 2025-11-01 12:26 UTC · spoken, 0.1 s\n  (no text)" in out
    assert "\ntokens: " in out


def test_show_as_json_holds_saved_turns_and_how_they_would_be_sent(cli: Run, session: str) -> None:
    """Audio is not included, only the names of its files."""
    status, out, _ = cli("show", session, "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["id"], shown["title"], shown["settings"]) == (session, "Dogs", {"voice": "ash"})
    turn = shown["turns"][1]
    assert turn["sent"]["form"] == "transcript"
    assert turn["audio"]["file"].endswith(".wav")
    assert "data" not in turn["audio"]
    assert shown["usage"]["completion_tokens"] > 0


def without_times(page: bytes) -> bytes:
    """Return a page without its times."""
    return re.sub(rb"<time.*?</time>", b"", page)


# --- export and import ----------------------------------------------------------------------------


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
    assert "pass --format, one of" in err
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
    assert "choose another id" in err
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


@pytest.mark.slow
def test_import_reads_from_a_pipe(session: str, tmp_path: Path) -> None:
    """`export -o - | import -` copies a session."""
    shell = (
        f'"$@" -m conversation export {session} --format json -o - |'
        ' "$@" -m conversation import - --id copy'
    )
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *PYTHON],
        cwd=tmp_path,
        env=environment(None, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.stdout, done.stderr) == ("imported session 'copy', 5 turns\n", "")
    assert len(turns_of("copy")) == 5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"a": 1}', "no conversation of a format that can be imported: got {'a': 1}"),
        (b'"text"', "no conversation of a format that can be imported: got 'text'"),
        (b"[]", "none of its 0 messages can be imported"),
        (b'{"conversation": 99, "turns": []}', "format 99"),
    ],
)
def test_import_of_an_invalid_file_is_an_error(
    content: bytes, words: str, cli: Run, tmp_path: Path
) -> None:
    """The error is one line, and no session is created."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1
    assert not FileStore().list()


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'\xef\xbb\xbf[{"role": "user", "content": "Hello"}]', 0, ""),
        (b'[{"role": "alien"}]', 1, "none of its 1 messages can be imported"),
        (b'{"messages": []}\n{"messages": []}\n', 1, "x-2: none of its 0 messages"),
    ],
)
def test_import_of_unusual_files(
    content: bytes, status: int, words: str, cli: Run, tmp_path: Path
) -> None:
    """A byte order mark is skipped; conversations without a valid message are errors."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    found, _, err = cli("import", str(path))
    assert found == status
    assert words in err
    assert bool(FileStore().list()) is (status == 0)


def test_import_reports_skipped_messages(cli: Run, tmp_path: Path) -> None:
    """Each reason for which messages are skipped is a line on stderr, and the exit status is 1."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"role": "user", "content": "Hello"}, {"role": "alien"}, 3]))
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "imported session 'x', 1 turn\n")
    assert [line[:20] for line in err.splitlines()] == [
        "! skipping message 1",
        "! skipping message 2",
    ]


def test_import_does_not_follow_file_names(cli: Run, tmp_path: Path) -> None:
    """The name of an audio file in an imported document means nothing; its text is imported."""
    audio = {"id": "audio_1", "transcript": "Hi", "file": "../../../etc/passwd"}
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "audio": audio}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"conversation": 1, "id": "x", "turns": turns}))
    assert cli("import", str(path))[0] == 0
    assert cli("show", "x")[0] == 0
    assert [turn.text for turn in turns_of("x")] == ["Hello", "Hi"]
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
        f"! session '{session}': export of 'Dogs': skipping 1 exchange(s) with audio that has no "
        "transcript (turns 3 to 5); --transcribe adds those of the user's audio\n"
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


# --- delete and repair ----------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    "command", ["show", "export", "delete --yes", "verify", "repair", "say --retry", "copy"]
)
def test_a_mistyped_id_brings_a_proposal(command: str, cli: Run, tmp_path: Path) -> None:
    """The session whose id is like it, in any case; else where all are, or that there are none."""
    name, *options = command.split()
    if name == "copy":
        options = ["--from", str(FileStore().root), "--to", str(tmp_path / "other")]
    FileStore().root.mkdir(parents=True)
    assert "there are none in /" in cli(name, "RETREIVER", *options)[2]
    with Conversation.open("retriever") as chat:
        chat.add_user("Hello")
    status, _, err = cli(name, "RETREIVER", *options)
    assert (status, err.count(str(FileStore().root))) == (1, 0)
    assert "no session 'RETREIVER'; did you mean 'retriever'?" in err
    assert "`conversation list` shows all sessions" in cli(name, "cat", *options)[2]


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
    """Anything but yes keeps the session, and the exit status is 1."""
    for answer, status in (("n\n", 1), ("\n", 1), (CTRL_D, 1), ("y\n", 0)):
        with Terminal(tmp_path, None, *PROGRAM, "delete", session) as terminal:
            terminal.until("[y/N] ")
            terminal.press(answer)
            assert ("nothing was deleted" in terminal.end(status)) == bool(status)
        assert bool(FileStore().list()) == bool(status)


def test_repair_recovers_what_can_be_read(cli: Run, session: str) -> None:
    """It prints the lost text and the path of the damaged file, without control characters."""
    path = FileStore().root / "ann@home.json"
    lines = path.read_bytes().splitlines()
    lines[1] = b'{"role":"user","content' + HOSTILE.encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    status, _, err = cli("show", session)
    assert status == 1
    assert "`conversation repair`" in err
    assert "`conversation repair`" in cli("verify")[1]
    status, out, _ = cli("repair", session)
    assert status == 0
    assert out.startswith("kept 4 turns; the damaged file is ")
    assert "\x1b" not in out
    assert 'lost: "role":"user","content' in out.replace("{", "")
    assert cli("verify")[0] == 0
    assert cli("repair", "nobody")[0] == 1
    before = sorted(path.name for path in FileStore().root.iterdir())
    assert cli("repair", session)[:2] == (0, "all 4 turns can be read; nothing was changed\n")
    assert sorted(path.name for path in FileStore().root.iterdir()) == before
