"""Errors of commands: one line, in words of the command line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, FileStore
from conversation.testing import StandIn
from tests.cli.conftest import Run
from tests.cli.test_wording import WORDS_OF_PYTHON
from tests.samples import SOUND

Damage = Callable[[Path], object]


def changed(before: bytes, after: bytes) -> Damage:
    """Return a function that replaces bytes of the document."""
    return lambda path: path.write_bytes(path.read_bytes().replace(before, after))


def replaced_by_folder(path: Path) -> None:
    """Put a folder in place of the document."""
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Damage] = {
    "nothing": lambda path: path.write_bytes(b""),
    "no JSON": lambda path: path.write_bytes(b"{"),
    "a list": lambda path: path.write_bytes(b"[]"),
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-20]),
    "a broken line": changed(b'{"role":"user"', b'{"role:"user"'),
    "an unknown role": changed(b'"role":"user"', b'"role":"alien"'),
    "no role": changed(b'"role":"user"', b'"role":null'),
    "a later format": changed(b'{"conversation":1', b'{"conversation":9'),
    "no format": changed(b'{"conversation":1', b'{"talk":1'),
    "fewer turns": changed(b'"turns_at_least":1', b'"turns_at_least":5'),
    "a wrong number": changed(b'"turns_at_least":1 ', b'"turns_at_least":-1'),
    "no id": changed(b'"id":"ann"', b'"ib":"ann"'),
    "another id": changed(b'"id":"ann"', b'"id":"bob"'),
    "a wrong id": changed(b'"id":"ann"', b'"id":null '),
    "no turns": changed(b'"turns":[', b'"turms":['),
    "wrong settings": changed(b'"settings":{', b'"settings":{"model":3,'),
    "no sound": lambda path: shutil.rmtree(path.with_suffix(".audio")),
    "other sound": lambda path: [
        each.write_bytes(b"text") for each in path.with_suffix(".audio").iterdir()
    ],
    "a link": lambda path: path.symlink_to(path.rename(path.with_suffix(".x"))),
    "a folder": replaced_by_folder,
}

COMMANDS = (
    "list",
    "list --json",
    "search hello",
    "show ann",
    "show ann --json",
    "export ann --format html -o - --force",
    "export ann --format jsonl -o -",
    "export ann --format json -o {folder}/ann.x --force",
    "export --all --format markdown -o {folder}/out --force",
    "verify",
    "verify ann --json",
    "say ann Hello",
    "copy --from {store} --to {folder}/copies",
    "import {store}/ann.json --id other",
    "sweep --older-than 0h --dry-run",
    "sweep --older-than 0h --sound",
    "repair ann",
    "verify",
    "delete ann --yes",
)


def check(shown: str) -> None:
    """Check that a command has shown neither Python nor a traceback, outside of JSON."""
    lines = [line for line in shown.splitlines() if not line.lstrip().startswith(('"', "{", "["))]
    assert [line for line in lines if WORDS_OF_PYTHON.search(line) or "Traceback" in line] == []


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.usefixtures("default_server")
def test_damage_is_told_without_python(damage: str, cli: Run, tmp_path: Path) -> None:
    """Each command on a damaged session ends with a status of its own, and words of its own."""
    root = FileStore().root
    with Conversation.open("ann", instructions="Be brief.") as chat:
        chat.add_user("Hello")
        chat.add_user(AudioInput(SOUND))
        chat.add_assistant("Hi")
    DAMAGES[damage](root / "ann.json")
    for command in COMMANDS:
        status, out, err = cli(*command.format(folder=tmp_path, store=root).split())
        assert status in (0, 1, 2), command
        check(err if "<html" in out or command.endswith("-o -") else out + err)
        assert status == 0 or err or "damaged" in out or '"problems"' in out, command


WRONG = (
    "show nobody",
    "sql --schema=",
    "show {long}",
    "export nobody",
    "export ann -o x.docx",
    "export ann -o nowhere/x.html",
    "export ann -o {store}/ann.json --force",
    "export ann --format jsonl -o {folder} --transcribe",
    "import nowhere.json",
    "import {folder}",
    "import {folder}/zip",
    "import {folder}/talks --key nothing",
    "import {folder}/talks --id ann",
    "import {folder}/text",
    "delete nobody --yes",
    "sweep --older-than soon",
    "verify nobody",
    "repair nobody",
    "copy --from nowhere --to {folder}/x",
    "copy --from {store} --to {store}",
    "list --store mysql://ann:secret@127.0.0.1/db",
    "list --store dbname=talks",
    "list --store {folder}/zip",
    "chat --store {folder}/zip/x",
    "list --store postgresql://ann:secret@127.0.0.1:1/db?connect_timeout=1",
    "list --store postgresql://127.0.0.1:1/db?nonsense=1",
    "list --store postgresql://[x",
    "list --store ~nosuchuser/talks",
    "say ann --audio {folder}/text",
    "say ann --audio {folder}",
    "say ann --audio nowhere.wav",
    "say {long} Hello",
    "say ann Hello --voice nobody",
    "say ann Hello --model nothing",
    "say ann Hello --model gpt-4o",
    "say ann Hello --store {folder}/zip/x",
)


@pytest.mark.parametrize("command", WRONG)
def test_wrong_commands_are_told_without_python(
    command: str, cli: Run, default_server: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong command exits with 1 or 2, and stderr says why, without a password."""
    monkeypatch.chdir(tmp_path)
    with Conversation.open("ann") as chat:
        chat.add_user(AudioInput(SOUND))
    (tmp_path / "zip").write_bytes(b"PK\3\4")
    (tmp_path / "text").write_text("some text")
    (tmp_path / "talks").write_text(json.dumps({"a": [{"role": "user", "content": "Hello"}]}))
    words = command.format(folder=tmp_path, store=FileStore().root, long="x" * 600).split()
    if "--transcribe" in words:
        default_server.will_fail(401)
    status, out, err = cli(*words)
    assert (status in (1, 2), bool(err)) == (True, True)
    check(out + err)
    assert "secret" not in err


@pytest.mark.parametrize("fault", [400, 401, 403, 404, 413, 422, "empty", "list", "text", "error"])
def test_faults_of_a_server_are_told_without_python(
    fault: int | str, cli: Run, default_server: StandIn
) -> None:
    """A refusal, or an answer that is none, exits with 1, and is one line on stderr."""
    sent: dict[str, Any] = {
        "empty": {},
        "list": {"choices": []},
        "text": {"choices": "x"},
        "error": {"error": {}},
    }
    if isinstance(fault, int):
        default_server.will_fail(fault)
    else:
        default_server.will_send(sent[fault])
    status, out, err = cli("say", "ann", "Hello")
    assert (status, out, err.count("\n")) == (1, "", 1)
    check(err)


def test_no_server_is_told_without_python(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """If no server answers, the message is kept, and the remedy is a command."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    status, _, err = cli("say", "ann", "Hello")
    assert (status, err.count("\n")) == (1, 1)
    assert "`conversation say ann --retry` asks again" in err
    check(err)
