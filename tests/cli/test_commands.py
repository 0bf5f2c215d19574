"""The command line, as it is typed: what it prints, what it changes, and how it ends."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    UserTurn,
)
from conversation._cli.main import main
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, SOUND
from tests.terminals import CTRL_D, DEADLINE, PYTHON, SOUNDDEVICE, Terminal, environment, turns_of

PROGRAM = ("-m", "conversation")
HOSTILE = "red \x1b[31m and \x9b2J and \u202eback"


def run(
    *arguments: str, folder: Path, server: StandIn | None = None, lines: str = ""
) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own, that reads and writes pipes."""
    return subprocess.run(
        [*PYTHON, *PROGRAM, *arguments],
        input=lines,
        cwd=folder,
        env=environment(server, folder),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Run:
    """What runs the command line here, and gives its exit status and what it printed."""

    def ran(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        out, err = capsys.readouterr()
        return status, out, err

    return ran


@pytest.fixture
def session(server: StandIn, clock: Clock) -> str:
    """The id of a saved session of two exchanges, one spoken."""
    client = server.client()
    with Conversation.open("ann@home", client=client, clock=clock, voice="ash") as chat:
        chat.say("Is a dog a friend?")
        chat.set_title("Dogs")
        server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
        chat.say(AudioInput(SOUND))
        chat.add_tool_result(chat.turns[-1].tool_calls[0].id, "Rain")  # type: ignore[union-attr]
    return "ann@home"


# --- list and show --------------------------------------------------------------------------------


def test_list_shows_all_sessions_newest_first(cli: Run, session: str) -> None:
    """Their ids, times, sizes and titles; damaged ones are complained of."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
        chat.set_title(HOSTILE)
    (FileStore().root / "broken.json").write_text("{")
    status, out, err = cli("list")
    assert status == 0
    first, second = out.splitlines()
    assert first.startswith("bob       ")
    assert first.endswith("KB  red \ufffd[31m and \ufffd2J and \ufffdback")
    assert second.startswith(session)
    assert second.endswith("  Dogs")
    assert err.startswith("! ")
    assert "broken.json is passed over" in err
    status, out, _ = cli("list", "--json")
    assert [info["id"] for info in json.loads(out)] == ["bob", session]


def test_list_of_nothing_says_how_to_begin(cli: Run) -> None:
    """On standard error; for programs it is an empty list."""
    status, out, err = cli("list")
    assert (status, out) == (0, "")
    assert "`conversation chat` begins one" in err
    assert json.loads(cli("list", "--json")[1]) == []


def test_show_tells_each_turn_and_what_would_be_sent(cli: Run, session: str) -> None:
    """Sound expired long ago by the clock of today."""
    status, out, err = cli("show", session)
    assert (status, err) == (0, "")
    assert out.startswith("Dogs\nann@home · begun 2025-11-01 12:26 UTC · 5 turns · gpt-audio-1.5 ·")
    assert re.search(r"\nassistant 2025-11-01 12:26 UTC · spoken, \d\.\d s → transcript, exp", out)
    assert '  weather({"city":"Oslo"})' in out
    assert "user 2025-11-01 12:26 UTC · spoken, 0.1 s\n  (no words are known)" in out
    assert "\ntokens: " in out


def test_show_as_json_is_what_is_saved_and_what_would_be_sent(cli: Run, session: str) -> None:
    """No sound in it, but the names of its files."""
    status, out, _ = cli("show", session, "--json")
    shown = json.loads(out)
    assert status == 0
    assert (shown["id"], shown["title"], shown["settings"]) == (session, "Dogs", {"voice": "ash"})
    turn = shown["turns"][1]
    assert turn["sent"]["form"] == "transcript"
    assert turn["audio"]["file"].endswith(".wav")
    assert "data" not in turn["audio"]
    assert shown["usage"]["completion_tokens"] > 0


def test_hostile_words_do_nothing_to_a_terminal(cli: Run, tmp_path: Path) -> None:
    """Whatever shows them."""
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


# --- export and import ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["html", "json", "jsonl", "markdown", "messages"])
def test_export_writes_each_form(
    form: str, cli: Run, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside each other in the folder where one is, under names that cannot clash."""
    monkeypatch.chdir(tmp_path)
    status, out, _ = cli("export", session, "--format", form)
    path = tmp_path / out.strip()
    assert status == 0
    assert path.name.startswith("ann@home.")
    with Conversation.open(session, read_only=True) as chat:
        assert chat.export(tmp_path / "again", form).read_bytes() == path.read_bytes()


def test_export_writes_over_nothing_unasked(
    cli: Run, session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session's own file least of all, even when forced."""
    monkeypatch.chdir(FileStore().root)
    before = Path("ann@home.json").read_bytes()
    status, _, err = cli("export", session, "--format", "json")
    assert status == 2
    assert "--force writes over it" in err
    status, _, err = cli("export", session, "--format", "json", "--force")
    assert status == 2
    assert "is where sessions are saved" in err
    for path in ("other.json", "ann@home.audio/x.md"):
        assert cli("export", session, "-o", path, "--force")[0] == 2
    assert Path("ann@home.json").read_bytes() == before
    other = tmp_path / "a.md"
    other.write_text("mine")
    assert cli("export", session, "-o", str(other))[0] == 2
    assert other.read_text() == "mine"
    assert cli("export", session, "-o", str(other), "--force")[0] == 0
    assert other.read_text().startswith("# Dogs")


def test_export_of_all_goes_into_a_folder_or_one_stream(session: str, tmp_path: Path) -> None:
    """Lines for fine-tuning can be put together."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
        chat.add_assistant("Hi")
    assert run("export", "--all", "-o", "out", folder=tmp_path).returncode == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {f"{session}.html", "bob.html"}
    lines = run("export", "--all", "--format", "jsonl", "-o", "-", folder=tmp_path).stdout
    first = [json.loads(line)["messages"][0]["content"] for line in lines.splitlines()]
    assert first == ["Hello", "Is a dog a friend?"]


def test_export_into_a_device_is_written_into_it(session: str, tmp_path: Path) -> None:
    """Standard output by its name; a full device is a line and status 1."""
    done = run("export", session, "-o", "/dev/stdout", "--format", "markdown", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Dogs")
    assert "/dev/stdout" not in done.stdout
    if Path("/dev/full").is_char_device():
        done = run("export", session, "-o", "/dev/full", "--format", "html", folder=tmp_path)
        assert done.returncode == 1
        assert "No space left" in done.stderr
        assert Path("/dev/full").is_char_device()


def test_export_needs_to_know_what(cli: Run, tmp_path: Path) -> None:
    """Which sessions, and into which form."""
    assert cli("export")[0] == 2
    assert cli("export", "nobody")[0] == 1
    with Conversation.open("x") as chat:
        chat.add_user("Hello")
    status, _, err = cli("export", "x", "-o", str(tmp_path / "a.docx"))
    assert status == 2
    assert "tells no form" in err


def test_export_can_find_the_words_first(
    cli: Run, session: str, server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of user sound that has none; they are kept."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    server.will_transcribe("And a cat?")
    path = tmp_path / "a.md"
    assert cli("export", session, "--transcribe", "-o", str(path))[0] == 0
    assert "> And a cat?" in path.read_text()
    assert turns_of(session)[2].text == "And a cat?"


def test_what_was_exported_is_imported(cli: Run, session: str, tmp_path: Path) -> None:
    """A portable file whole, with what was spent; messages and lines for fine-tuning as words."""
    before = turns_of(session)
    for form in ("json", "messages", "jsonl"):
        cli("export", session, "--format", form, "-o", str(tmp_path / f"a.{form}"))
    status, _, err = cli("import", str(tmp_path / "a.json"))
    assert status == 1
    assert "choose another id" in err
    status, out, _ = cli("import", str(tmp_path / "a.json"), "--id", "copy")
    assert (status, out) == (0, "session 'copy' of 5 turns\n")
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
        "session 'talk' of 5 turns\n",
    )
    assert cli("import", str(tmp_path / "a.jsonl"), "--id", "tuned")[0] == 0
    assert turns_of("tuned")[0].text == "Is a dog a friend?"
    assert cli("verify")[0] == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"a": 1}', "no format number"),
        (b'"text"', "no format number"),
        (b'{"conversation": 99, "turns": []}', "format 99"),
    ],
)
def test_what_cannot_be_imported_is_one_line(
    content: bytes, words: str, cli: Run, tmp_path: Path
) -> None:
    """And no session is made of it."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    status, out, err = cli("import", str(path))
    assert (status, out) == (1, "")
    assert words in err
    assert err.count("\n") == 1
    assert not FileStore().list()


def test_what_an_import_loses_is_named(cli: Run, tmp_path: Path) -> None:
    """Each on a line of standard error."""
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"role": "user", "content": "Hello"}, {"role": "alien"}, 3]))
    status, out, err = cli("import", str(path))
    assert (status, out) == (0, "session 'x' of 1 turns\n")
    assert [line[:19] for line in err.splitlines()] == [
        "! message 1 is left",
        "! message 2 is left",
    ]


# --- looking after sessions -----------------------------------------------------------------------


def test_delete_is_for_good_and_asks_first(cli: Run, session: str) -> None:
    """Without a terminal to answer on, it wants to be told."""
    status, _, err = cli("delete", session)
    assert status == 2
    assert "--yes" in err
    assert len(turns_of(session)) == 5
    assert cli("delete", session, "--yes")[:2] == (0, "deleted ann@home\n")
    assert not [p for p in FileStore().root.iterdir() if p.name.startswith("ann")]
    assert cli("delete", session, "--yes")[0] == 1


def test_verify_finds_nothing_wrong_with_what_is_whole(cli: Run, session: str) -> None:
    """One session, all sessions, and none."""
    assert cli("verify") == (0, "1 sessions, 5 turns, 2 files; 0 damaged\n", "")
    assert cli("verify", session)[0] == 0
    (found,) = json.loads(cli("verify", "--json")[1])
    assert (found["id"], found["files"], found["problems"]) == (session, 2, [])
    assert cli("verify", "nobody")[0] == 1


def torn(root: Path) -> str:
    """Its end is cut off."""
    path = root / "x.json"
    path.write_bytes(path.read_bytes()[:-20])
    return "its last write was cut off at line 3"


def no_json(root: Path) -> str:
    """It is no JSON."""
    (root / "x.json").write_text("{")
    return "is not a saved conversation"


def copied(root: Path) -> str:
    """Another file is a copy of it."""
    (root / "y.json").write_bytes((root / "x.json").read_bytes())
    return "it is the session 'x'"


def gone(root: Path) -> str:
    """Its sound is gone."""
    next((root / "x.audio").iterdir()).unlink()
    return "is gone"


def empty(root: Path) -> str:
    """Its sound is empty."""
    next((root / "x.audio").iterdir()).write_bytes(b"")
    return "is empty"


def shorter(root: Path) -> str:
    """Its sound is cut."""
    path = next((root / "x.audio").iterdir())
    path.write_bytes(path.read_bytes()[:20_000])
    return "s of sound instead of 1.0 s"


def of_another_kind(root: Path) -> str:
    """Its sound is MP3."""
    next((root / "x.audio").iterdir()).write_bytes(MP3)
    return "holds mp3 instead of wav"


def of_no_kind(root: Path, name: str = "x") -> str:
    """A turn is none."""
    path = root / f"{name}.json"
    path.write_bytes(path.read_bytes().replace(b'"role":"user"', b'"role":"alien"'))
    return "turn 1"


@pytest.mark.parametrize(
    "damage", [torn, no_json, copied, gone, empty, shorter, of_another_kind, of_no_kind]
)
def test_verify_finds_each_damage_and_changes_nothing(
    damage: Callable[[Path], str], cli: Run
) -> None:
    """One line each, and status 1."""
    root = FileStore().root
    with Conversation.open("x") as chat:
        chat.add_user("Say something")
        sound = AudioInput.from_pcm(bytes(48_000), 24_000).read()
        chat.add(AssistantTurn(audio=AssistantAudio(data=sound, transcript="Something")))
    words = damage(root)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    status, out, err = cli("verify")
    assert (status, err) == (1, "")
    assert words in out
    assert "1 damaged" in out
    assert out.count("\n") == 2
    status, out, _ = cli("verify", "--json")
    assert status == 1
    assert words in str(json.loads(out))
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_repair_saves_what_can_be_read(cli: Run, session: str) -> None:
    """It tells what was lost, and where the damaged file is."""
    path = FileStore().root / "ann@home.json"
    lines = path.read_bytes().splitlines()
    lines[1] = b'{"role":"user","content' + HOSTILE.encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    assert cli("show", session)[0] == 1
    status, out, _ = cli("repair", session)
    assert status == 0
    assert out.startswith("kept 4 turns; the damaged file is ")
    assert "\x1b" not in out
    assert 'lost: "role":"user","content' in out.replace("{", "")
    assert cli("verify")[0] == 0
    assert cli("repair", "nobody")[0] == 1


# --- asked wrongly, and ended early ---------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [(), ("nothing",), ("show",), ("show", "x" * 129), ("export", "x", "--format", "x")],
)
def test_what_is_asked_wrongly_ends_with_2(arguments: tuple[str, ...], tmp_path: Path) -> None:
    """And says what is right."""
    done = run(*arguments, folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.search(r"(error:|!) .+\n$", done.stderr)
    assert "Traceback" not in done.stderr


def test_a_damaged_session_keeps_no_other_from_being_exported(
    cli: Run, session: str, tmp_path: Path
) -> None:
    """It is told of, and the status is 1."""
    with Conversation.open("bad") as chat:
        chat.add_user("Hello")
    of_no_kind(FileStore().root, "bad")
    status, out, err = cli("export", "--all", "-o", str(tmp_path / "out"))
    assert (status, err.count("\n")) == (1, 1)
    assert "bad.json" in err
    assert out == f"{tmp_path / 'out'}/{session}.html\n"
    assert cli("export", session, session, "-o", str(tmp_path / "again"))[0] == 0


def test_a_file_of_another_session_is_not_imported(cli: Run, tmp_path: Path) -> None:
    """Its name means nothing here; what was imported can be opened."""
    audio = {"id": "audio_1", "transcript": "Hi", "file": "../../../etc/passwd"}
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "audio": audio}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"conversation": 1, "id": "x", "turns": turns}))
    assert cli("import", str(path))[0] == 0
    assert cli("show", "x")[0] == 0
    assert [turn.text for turn in turns_of("x")] == ["Hello", "Hi"]
    assert cli("verify")[0] == 0


def test_a_file_is_imported_from_a_pipe(session: str, tmp_path: Path) -> None:
    """It is read once."""
    shell = (
        f'"$@" -m conversation export {session} --format json -o - |'
        ' "$@" -m conversation import /dev/stdin --id copy'
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
    assert (done.stdout, done.stderr) == ("session 'copy' of 5 turns\n", "")
    assert len(turns_of("copy")) == 5


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (b'\xef\xbb\xbf[{"role": "user", "content": "Hello"}]', 0, ""),
        (b'[{"role": "alien"}]', 1, "none of its 1 messages can be kept"),
        (b'{"messages": []}\n{"messages": []}\n', 1, "import one at a time"),
    ],
)
def test_files_that_editors_and_exports_write(
    content: bytes, status: int, words: str, cli: Run, tmp_path: Path
) -> None:
    """A mark of byte order; nothing that can be kept; several conversations in one file."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    found, _, err = cli("import", str(path))
    assert found == status
    assert words in err
    assert bool(FileStore().list()) is (status == 0)


def test_titles_and_json_do_nothing_to_a_terminal(cli: Run) -> None:
    """No title makes a line of its own; JSON says the same in escapes."""
    title = f"one\n\nsession 'bob' deleted {HOSTILE}"
    with Conversation.open("x") as chat:
        chat.set_title(title)
    out = cli("list")[1]
    assert out.count("\n") == 1
    out = cli("list", "--json")[1]
    assert json.loads(out)[0]["title"] == title
    assert not set(out) & {"\x1b", "\x9b", "\u202e"}


def test_a_store_that_cannot_be_read_is_not_well(cli: Run, tmp_path: Path) -> None:
    """What is no folder has no sessions that could be whole."""
    (tmp_path / "file").touch()
    status, out, err = cli("verify", "--store", str(tmp_path / "file"))
    assert (status, out) == (1, "")
    assert "Not a directory" in err


def test_errors_are_one_line(tmp_path: Path) -> None:
    """Never a traceback; through the installed program too."""
    done = run("show", "nobody", folder=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("! there is no session 'nobody'")
    assert done.stderr.count("\n") == 1
    (tmp_path / "file").touch()
    done = run("chat", "--store", "file/sub", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 1
    assert "Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", ["chat", "list", "show nobody", "delete nobody", "verify"])
def test_closed_streams_are_no_error(closed: str, command: str, tmp_path: Path) -> None:
    """As cron and the like start programs."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" -m conversation {command} {closed}', "sh", *PYTHON],
        cwd=tmp_path,
        env=environment(None, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert done.returncode in (0, 1, 2)
    assert "Traceback" not in done.stderr + done.stdout
    assert "Exception ignored" not in done.stderr
    assert "Warning" not in done.stderr
    assert done.returncode == {"show nobody": 1, "delete nobody": 2}.get(command, 0)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_words_that_a_terminal_cannot_show_are_no_error(encoding: str, tmp_path: Path) -> None:
    """They are replaced."""
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


def test_verify_is_not_hung_by_what_is_no_file(cli: Run) -> None:
    """A FIFO, a folder, a link to nowhere, a file that nobody may read as one."""
    root = FileStore().root
    root.mkdir(parents=True)
    os.mkfifo(root / "fifo.json")
    (root / "folder.json").mkdir()
    (root / "link.json").symlink_to(root / "nowhere")
    (root / "binary.json").write_bytes(bytes(range(256)))
    status, out, err = cli("verify")
    assert (status, err) == (1, "")
    assert out.count("damaged ") == 4
    assert out.endswith("; 4 damaged\n")


def test_a_transcription_without_a_key_is_one_line(session: str, tmp_path: Path) -> None:
    """It says what to set; nothing is exported."""
    done = run("export", session, "--transcribe", folder=tmp_path)
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("*.html"))


def test_a_reader_who_has_enough_is_no_error(session: str, tmp_path: Path) -> None:
    """`conversation show … | head -1` complains of nothing."""
    with Conversation.open(session) as chat:
        for _ in range(300):
            chat.add_user("word " * 100)
    shell = f'"$@" -m conversation show {session} | head -1'
    done = subprocess.run(
        ["sh", "-c", shell, "sh", *PYTHON],
        cwd=tmp_path,
        env=environment(None, tmp_path),
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE,
    )
    assert (done.stdout, done.stderr) == ("Dogs\n", "")


# --- chat -----------------------------------------------------------------------------------------


@pytest.fixture
def talker(clock: Clock) -> Any:
    """A stand-in with the clock that other processes have."""
    del clock
    with StandIn() as server:
        yield server


def test_chat_through_pipes_is_answers_alone(talker: StandIn, tmp_path: Path) -> None:
    """A line of input, a line of output; the session is resumed."""
    done = run("chat", "x", "--voice", "ash", folder=tmp_path, server=talker, lines="One\nTwo\n")
    assert (done.returncode, done.stderr) == (0, "")
    first, second = done.stdout.splitlines()
    assert first.startswith("You wrote: One I recall 0")
    assert second.startswith("You wrote: Two I recall 1 of my earlier answers by voice")
    done = run("chat", "x", folder=tmp_path, server=talker, lines="Three")
    assert "I recall 2 of my earlier answers by voice" in done.stdout
    assert [request["audio"]["voice"] for request in talker.requests] == ["ash"] * 3
    assert len(turns_of("x")) == 6


def test_chat_speaks_a_file(talker: StandIn, tmp_path: Path) -> None:
    """Before what is typed; a file that is no sound is refused before anything is kept."""
    (tmp_path / "voice").write_bytes(SOUND)
    done = run("chat", "--audio", "voice", folder=tmp_path, server=talker, lines="And?\n")
    first, second = done.stdout.splitlines()
    assert first.startswith("I heard 0.1 seconds of sound.")
    assert second.startswith("You wrote: And?")
    (tmp_path / "words").write_text("no sound")
    done = run("chat", "y", "--audio", "words", folder=tmp_path, server=talker)
    assert done.returncode == 1
    assert "takes WAV or MP3" in done.stderr
    assert [info.id for info in FileStore().list()] == ["chat"]


def test_chat_without_a_key_says_so(tmp_path: Path) -> None:
    """And never lets a stand-in talk in a session of a real model."""
    done = run("chat", "mine", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 0
    assert "no OPENAI_API_KEY: a stand-in" in done.stderr
    assert done.stdout.startswith("You wrote: Hello")
    done = run("chat", "mine", folder=tmp_path, lines="Again\n")
    assert "0 of my earlier answers by voice and 1 from transcripts" in done.stdout
    assert run("chat", "silent", folder=tmp_path).returncode == 0
    assert [info.id for info in FileStore().list()] == ["mine"]
    with Conversation.open("real") as chat:
        chat.add_user("Hello")
        chat.add(AssistantTurn(audio=AssistantAudio("audio_" + "6" * 32, 9e9, "Hi")))
    before = (FileStore().root / "real.json").read_bytes()
    done = run("chat", "real", folder=tmp_path, lines="Hello\n")
    assert done.returncode == 2
    assert "was held with a real model" in done.stderr
    assert (FileStore().root / "real.json").read_bytes() == before


def test_a_session_that_a_stand_in_began_may_go_on_for_real(
    talker: StandIn, tmp_path: Path
) -> None:
    """With a key; from then on no stand-in talks in it."""
    assert run("chat", "x", folder=tmp_path, lines="Hello\n").returncode == 0
    assert run("chat", "x", folder=tmp_path, server=talker, lines="Again\n").returncode == 0
    done = run("chat", "x", folder=tmp_path, lines="And again\n")
    assert done.returncode == 2
    assert len(turns_of("x")) == 4


def test_a_server_that_fails_ends_what_nobody_watches(talker: StandIn, tmp_path: Path) -> None:
    """With a line, and status 1; the question is kept."""
    talker.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    done = run("chat", "x", folder=tmp_path, server=talker, lines="Hello\nnever asked\n")
    assert done.returncode == 1
    assert "OPENAI_API_KEY" in done.stderr
    assert done.stderr.count("\n") == 1
    assert [turn.text for turn in turns_of("x")] == ["Hello"]


def test_chat_plays_where_it_can(talker: StandIn, tmp_path: Path) -> None:
    """All of the sound; without the extra it says what is missing, and without a device too."""
    done = run("chat", "--play", folder=tmp_path, server=talker, lines="Hello\n")
    if done.returncode:  # where the extra is not installed
        assert done.returncode == 2
        assert "conversation[sound]" in done.stderr
    (tmp_path / "sounddevice.py").write_text(SOUNDDEVICE)
    done = run("chat", "none", "--play", folder=tmp_path, server=talker, lines="Hello\n")
    assert done.returncode == 1
    assert "nothing to play on" in done.stderr
    (tmp_path / "devices").mkdir()
    done = run("chat", "heard", "--play", folder=tmp_path, server=talker, lines="Hello\n")
    assert (done.returncode, done.stderr) == (0, "")
    turn = turns_of("heard")[1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    assert (tmp_path / "devices" / "speaker").read_bytes() == turn.audio.read()[44:]


def test_chat_in_a_terminal(talker: StandIn, tmp_path: Path) -> None:
    """Two turns, quit, resume, end of input: with colours, and the session is whole afterwards."""
    program = (*PROGRAM, "chat", "dogs")
    with Terminal(tmp_path, talker, *program) as terminal:
        assert "session dogs of 0 turns" in terminal.until("you> ")
        first = terminal.say("Is a dog a friend?")
        assert "You wrote: Is a dog a friend? I recall 0" in first
        assert "\x1b[" in first
        assert ".wav" in first
        assert "I recall 1 of my earlier answers by voice" in terminal.say("Why?")
        terminal.press("/quit\n")
        terminal.end()
    words = [turn.text for turn in turns_of("dogs")]
    assert words[::2] == ["Is a dog a friend?", "Why?"]
    with Terminal(tmp_path, talker, *program) as terminal:
        again = terminal.until("you> ")
        assert "session dogs of 4 turns" in again
        assert all(word in again for word in words)
        assert "I recall 2 of my earlier answers by voice" in terminal.say("And cats?")
        terminal.leave(CTRL_D)
    assert len(turns_of("dogs")) == 6


def test_ctrl_c_in_an_answer(talker: StandIn, tmp_path: Path) -> None:
    """What had come is kept, as interrupted; the chat goes on, and the session is whole."""
    talker.will_answer("One two three four five.", hold_after=4)
    with Terminal(tmp_path, talker, *PROGRAM, "chat") as terminal:
        terminal.until("you> ")
        terminal.press("Count\n")
        terminal.until("One two three")
        talker.wait_until_held()
        shown = terminal.break_off()
        assert "what had come is kept" in shown
        assert "Traceback" not in shown
        assert "assistant: transcript, interrupted" in terminal.say("/why")
        assert "0 of my earlier answers by voice and 1 from" in terminal.say("Go on")
        assert "took back 2 turns" in terminal.say("/undo")
        terminal.leave(CTRL_D)
    broken = turns_of("chat")[1]
    assert isinstance(broken, AssistantTurn)
    assert (broken.text, broken.interrupted) == ("One two three", True)
    assert len(turns_of("chat")) == 2


def test_an_empty_line_asks_again(talker: StandIn, tmp_path: Path) -> None:
    """Where an answer was broken off before a word, or a server failed; errors are one line."""
    talker.will_answer("Never heard.", hold_after=0)
    talker.will_fail(401, "No.")
    with Terminal(tmp_path, talker, *PROGRAM, "chat") as terminal:
        terminal.until("you> ")
        terminal.press("Hello?\n")
        talker.wait_until_held()
        assert "an empty line asks again" in terminal.break_off()
        assert len(turns_of("chat")) == 1
        assert "Error code: 401" in terminal.say("")
        assert "You wrote: Hello?" in terminal.say("")
        assert "/audio FILE" in terminal.say("/help")
        assert "nothere.wav" in terminal.say("/audio nothere.wav")
        terminal.leave(CTRL_D)
    assert [turn.role for turn in turns_of("chat")] == ["user", "assistant"]


def test_ctrl_c_while_another_chat_has_the_session(talker: StandIn, tmp_path: Path) -> None:
    """It says that nothing was sent, and shows no sound of an earlier answer."""
    program = (*PROGRAM, "chat", "shared")
    with (
        Terminal(tmp_path, talker, *program) as mine,
        Terminal(tmp_path, talker, *program) as theirs,
    ):
        for terminal in (mine, theirs):
            terminal.until("you> ")
        theirs.say("First")
        talker.will_answer("Wait for it.", hold_after=0)
        theirs.press("Second\n")
        talker.wait_until_held()
        mine.press("Blocked\n")
        mine.until("it> ")
        shown = mine.break_off()
        assert "nothing was sent" in shown
        assert ".wav" not in shown
        talker.go_on()
        theirs.until("\nyou> ")
        assert "You wrote: Third" in mine.say("Third")
    assert [turn.text for turn in turns_of("shared")][::2] == ["First", "Second", "Third"]


def test_speech_that_is_refused_does_not_end_a_chat(talker: StandIn, tmp_path: Path) -> None:
    """On a terminal it is a line, and the chat goes on."""
    (tmp_path / "voice").write_bytes(SOUND)
    talker.will_fail(401, "No.")
    with Terminal(tmp_path, talker, *PROGRAM, "chat", "--audio", "voice") as terminal:
        assert "Error code: 401" in terminal.until("\nyou> ")
        assert "I heard 0.1 seconds" in terminal.say("")
        terminal.leave(CTRL_D)


def test_delete_asks_in_a_terminal(session: str, tmp_path: Path) -> None:
    """Anything but yes keeps it."""
    for answer, status in (("n\n", 1), ("\n", 1), (CTRL_D, 1), ("y\n", 0)):
        with Terminal(tmp_path, None, *PROGRAM, "delete", session) as terminal:
            terminal.until("[y/N] ")
            terminal.press(answer)
            terminal.end(status)
        assert bool(FileStore().list()) == bool(status)


def test_long_work_shows_how_far_it_is_in_a_terminal_only(
    session: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And colours can be turned off."""
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
