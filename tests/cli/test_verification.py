"""`conversation verify` and `repair`: what counts as damage, and what is saved of it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conversation import AssistantAudio, AssistantTurn, AudioInput, Conversation, FileStore
from tests.cli.conftest import HOSTILE, Run
from tests.samples import MP3


def test_verify_of_intact_sessions(cli: Run, session: str) -> None:
    """`verify` counts one session or all, and exits with 0 if none is damaged."""
    assert cli("verify") == (0, "1 session, 5 turns, 2 files; 0 damaged\n", "")
    assert cli("verify", session)[0] == 0
    (found,) = json.loads(cli("verify", "--json")[1])
    assert (found["id"], found["files"], found["problems"]) == (session, 2, [])
    assert cli("verify", "nobody")[0] == 1


def torn(root: Path) -> str:
    """Cut off the end of the document."""
    path = root / "x.json"
    path.write_bytes(path.read_bytes()[:-20])
    return "(line 3), and may be lost"


def not_json(root: Path) -> str:
    """Replace the document with something that is not JSON."""
    (root / "x.json").write_text("{")
    return "is not a saved conversation"


def copied(root: Path) -> str:
    """Copy the document to the name of another session."""
    (root / "y.json").write_bytes((root / "x.json").read_bytes())
    return "it is the session 'x', not 'y'"


def missing(root: Path) -> str:
    """Delete the audio file."""
    next((root / "x.audio").iterdir()).unlink()
    return "is gone"


def empty(root: Path) -> str:
    """Truncate the audio file to nothing."""
    next((root / "x.audio").iterdir()).write_bytes(b"")
    return "is empty"


def shortened(root: Path) -> str:
    """Cut the audio."""
    path = next((root / "x.audio").iterdir())
    path.write_bytes(path.read_bytes()[:20_000])
    return "s of audio, expected 1.0 s"


def other_format(root: Path) -> str:
    """Replace the WAV audio with MP3."""
    next((root / "x.audio").iterdir()).write_bytes(MP3)
    return "holds mp3, expected wav"


def unknown_role(root: Path, name: str = "x") -> str:
    """Give a turn an unknown role."""
    path = root / f"{name}.json"
    path.write_bytes(path.read_bytes().replace(b'"role":"user"', b'"role":"alien"'))
    return "turn 1"


@pytest.mark.parametrize(
    "damage", [torn, not_json, copied, missing, empty, shortened, other_format, unknown_role]
)
def test_verify_reports_damage_and_changes_nothing(damage: Callable[[Path], str], cli: Run) -> None:
    """Each damage is one line and the exit status 1; no file is changed."""
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
    (damaged,) = (each for each in json.loads(out) if each["problems"])
    assert damaged["id"] == (None if damage is copied else "x")
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", [missing, empty, shortened, other_format])
def test_repair_notes_lost_files(damage: Callable[[Path], str], cli: Run, tmp_path: Path) -> None:
    """A loss that `repair` has noted is no damage any more, also if the file comes back."""
    sound = AudioInput.from_pcm(bytes(48_000), 24_000).read()
    root = FileStore().root
    with Conversation.open("x") as chat:
        chat.add_user(AudioInput(MP3), AudioInput(sound))
        others = [path.rename(tmp_path / path.name) for path in (root / "x.audio").iterdir()]
        chat.add(AssistantTurn(audio=AssistantAudio(data=sound, transcript="Something")))
    [last] = (root / "x.audio").iterdir()
    words = damage(root)
    for path in others:
        path.rename(root / "x.audio" / path.name)
    status, out, _ = cli("verify", "x")
    assert (status, words in out) == (1, True)
    assert "`conversation repair x` notes it as lost" in out
    status, out, _ = cli("repair", "x")
    assert (status, out.count("lost: turn 2: ")) == (0, 1)
    assert out.startswith("all 2 turns can be read; 1 lost file noted\n")
    status, out, _ = cli("verify")
    assert (status, out.startswith("known x: turn 2: ")) == (0, True)
    assert "0 damaged" in out
    [found] = json.loads(cli("verify", "--json")[1])
    assert (found["problems"], len(found["noted"])) == ([], 1)
    assert cli("repair", "x")[1] == "all 2 turns can be read; nothing was changed\n"
    with Conversation.open("x") as chat:
        assert [turn.text for turn in chat.turns] == ["", "Something"]
        assert "lost" not in str(chat.messages())
    (root / "x.audio" / others[0].name).unlink()
    assert cli("verify")[0] == 1  # another one
    assert cli("repair", "x")[0] == cli("verify")[0] == 0
    last.write_bytes(sound)
    assert cli("verify")[1].count("known") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads all files")
def test_files_that_cannot_be_read_are_not_noted(cli: Run) -> None:
    """A file that is there may be readable later."""
    with Conversation.open("x") as chat:
        chat.add_user(AudioInput(MP3))
    next((FileStore().root / "x.audio").iterdir()).chmod(0)
    assert cli("verify")[0] == 1
    assert "nothing was changed" in cli("repair", "x")[1]


def test_verify_reports_put_aside_bytes_until_they_are_repaired(cli: Run, session: str) -> None:
    """Bytes that a recovery put aside are a problem, until `repair` has read them again."""
    path = next(FileStore().root.glob("*.json"))
    path.write_bytes(path.read_bytes()[:-20])
    with Conversation.open(session) as chat:
        assert chat.recovered
        aside = chat.recovered.put_aside
    assert aside
    status, out, _ = cli("verify")
    assert status == 1
    assert f"{aside.name} has {aside.stat().st_size} bytes of a turn that was cut off" in out
    assert cli("repair", session)[0] == 0
    assert cli("verify")[0] == 0


def test_verify_of_a_store_that_is_not_a_folder(cli: Run, tmp_path: Path) -> None:
    """A file in the place of the store is an error, not an empty store."""
    (tmp_path / "file").touch()
    status, out, err = cli("verify", "--store", str(tmp_path / "file"))
    assert (status, out) == (1, "")
    assert "Not a directory" in err


def test_verify_reports_documents_that_are_not_files(cli: Run) -> None:
    """A FIFO does not block it; folders, broken links and binary files are damaged as well."""
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


def test_verify_reads_the_folder_once(cli: Run, tmp_path: Path) -> None:
    """The files beside the sessions are listed once, however many sessions there are."""
    store = FileStore(tmp_path / "many", fsync=False)
    for number in range(20):
        Conversation.open(f"s{number}", store=store).add_user("Hello")
    listings: list[str] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event in ("os.listdir", "os.scandir") and str(arguments[0]) == str(store.root):
            listings.append(event)

    sys.addaudithook(audit)
    assert cli("verify", "--store", str(store.root))[0] == 0
    assert len(listings) <= 3


def test_verify_prints_json_for_names_that_are_not_utf8(cli: Run, tmp_path: Path) -> None:
    """A file name that is not UTF-8 does not keep `--json` from the other results."""
    root = tmp_path / "odd"
    Conversation.open("a", store=FileStore(root)).add_user("Hello")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff.json")).write_text("{}")
    status, out, _ = cli("verify", "--json", "--store", str(root))
    assert status == 1
    assert sorted(result["id"] or "" for result in json.loads(out)) == ["", "a"]


def test_repair_recovers_what_can_be_read(cli: Run, session: str) -> None:
    """`repair` prints the lost text and the damaged file's path, without control characters."""
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
    assert "\nlost: a turn of the user\n" in out
    assert cli("verify")[0] == 0
    assert cli("repair", "nobody")[0] == 1
    before = sorted(path.name for path in FileStore().root.iterdir())
    assert cli("repair", session)[:2] == (0, "all 4 turns can be read; nothing was changed\n")
    assert sorted(path.name for path in FileStore().root.iterdir()) == before


def test_missing_sound_is_told_by_show_and_export(cli: Run, tmp_path: Path) -> None:
    """`show` marks the turns, `export` counts the files, `verify` names the remedy for this id."""
    with Conversation.open("my talk") as chat:
        chat.add_user(AudioInput(MP3))
        chat.add_user("Hello")
    [sound] = (FileStore().root / "my%20talk.audio").iterdir()
    for form in ("html", "json", "markdown"):
        assert not cli("export", "my talk", "-o", str(tmp_path), "--format", form)[2]
    assert "missing" not in cli("show", "my talk")[1]
    sound.unlink()
    assert cli("show", "my talk")[1].count("its sound or file is missing") == 1
    for form, is_told in (("html", True), ("json", True), ("markdown", False)):
        options = ("-o", str(tmp_path), "--format", form, "--force")
        err = cli("export", "my talk", *options)[2]
        assert ("my talk: 1 file with sound or the like missing" in err) == is_told
    out = cli("verify")[1]
    assert "damaged 'my talk': turn 1: " in out
    assert "`conversation repair 'my talk'` notes it as lost" in out


def test_a_turn_that_was_cut_off_is_told_in_plain_words(cli: Run, session: str) -> None:
    """What is lost and what to do, in the same words by all commands."""
    path = next(FileStore().root.glob("*.json"))
    path.write_bytes(path.read_bytes()[:-20])
    words = "the last turn was cut off while it was saved"
    for told in (cli("show", session)[2], cli("verify")[1]):
        assert words in told
        assert "may be lost. A change repairs it" in told
    with Conversation.open(session) as chat:
        chat.set_title("Cats")
    assert cli("repair", session)[0] == 0


def test_repair_tells_lost_turns_by_their_words(cli: Run, session: str) -> None:
    """By whom they were and how they began, not as JSON; other bytes are counted."""
    path = next(FileStore().root.glob("*.json"))
    lines = path.read_bytes().splitlines()
    lines[1] = rb'{"role":"user","content":"Is a \"dog\" a friend of mine'
    lines[3] = b"???"
    path.write_bytes(b"\n".join(lines) + b"\n")
    out = cli("repair", session)[1]
    assert 'lost: a turn of the user: Is a "dog" a friend of mine\n' in out
    assert "lost: 3 bytes that are no turn\n" in out
