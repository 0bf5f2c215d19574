"""`conversation list`: each session with its turns, its sound and its state, in both stores."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    PostgresStore,
    ToolCall,
)
from tests.cli.conftest import HOSTILE, Run
from tests.cli.test_verification import torn, unknown_role
from tests.postgres import Postgres
from tests.samples import SOUND


def begin(store: Any) -> None:
    """Begin a session in each state, named after it."""
    call = ToolCall(id="call_1", name="weather", arguments="{}")
    turns = {
        "answered": [AssistantTurn(content="Hi")],
        "spoken": [AssistantTurn(audio=AssistantAudio(data=SOUND, format="wav"))],
        "unanswered": [],
        "called": [AssistantTurn(tool_calls=(call,))],
        "interrupted": [AssistantTurn(content="H", interrupted=True)],
    }
    for session_id, added in turns.items():
        with Conversation.open(session_id, store=store) as chat:
            chat.add_user(AudioInput(SOUND))
            for turn in added:
                chat.add(turn)
            if session_id != "spoken":
                chat.add_system("Be brief.")
    with Conversation.open("titled", store=store) as chat:
        chat.set_title("Later")


STATES = {
    "answered": ("answered", 3),
    "spoken": ("answered", 2),
    "unanswered": ("unanswered", 2),
    "called": ("unanswered", 3),
    "interrupted": ("interrupted", 3),
    "titled": ("empty", 0),
}


@pytest.mark.parametrize("is_database", [False, True], ids=["files", "postgres"])
def test_list_tells_turns_sound_and_state(
    is_database: bool, cli: Run, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A session's state is that of its last turn, system turns aside; sound is counted in bytes."""
    store: Any
    place, store = str(tmp_path / "talks"), FileStore(tmp_path / "talks")
    if is_database:
        postgres, schema = map(request.getfixturevalue, ("postgres", "schema"))
        place = f"{postgres.url}?schema={schema}"
        store = PostgresStore(postgres.url, schema=schema)
    begin(store)
    if not is_database:
        os.utime(tmp_path / "talks" / "titled.json", (2e9, 2e9))  # else in one tick with others
    status, out, err = cli("list", "--json", "--store", place)
    assert (status, err) == (0, "")
    found = {each["id"]: each for each in json.loads(out)}
    assert {key: (each["state"], each["turns"]) for key, each in found.items()} == STATES
    assert [found[key]["sound"] for key in ("unanswered", "titled")] == [len(SOUND), 0]
    assert found["spoken"]["sound"] > len(SOUND)
    status, out, err = cli("list", "--store", place)
    assert (status, err, len(out.splitlines())) == (0, "", len(STATES))
    (line,) = (line for line in out.splitlines() if line.startswith("unanswered "))
    assert line.split()[3:] == ["2", "turns", "5", "KB", "of", "sound", "unanswered"]
    assert out.startswith("titled ")
    assert len(cli("list", "--limit", "2", "--store", place)[1].splitlines()) == 2
    assert cli("list", "--limit", "0", "--json", "--store", place)[:2] == (0, "[]\n")


def test_list_prints_all_sessions_newest_first(cli: Run, session: str) -> None:
    """Each line of `list` holds id, time, turns, sound, state and title."""
    with Conversation.open("bob") as chat:
        chat.add_user("Hello")
        chat.set_title(HOSTILE)
    status, out, err = cli("list")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert first.startswith("bob       ")
    assert " 1 turn   no sound " in first
    assert first.endswith("  unanswered  red \ufffd[31m and \ufffd2J and \ufffdback")
    assert second.startswith(session)
    assert " 5 turns  " in second
    assert second.endswith(" KB of sound  unanswered  Dogs")
    assert [info["id"] for info in json.loads(cli("list", "--json")[1])] == ["bob", session]


def test_columns_are_aligned_for_wide_characters(cli: Run) -> None:
    """The table gives two columns to characters that take two."""
    for session_id in ("日本語", "abcdef"):
        with Conversation.open(session_id) as chat:
            chat.add_user("Hello")
    lines = cli("list")[1].splitlines()  # in any order, if both were changed in one tick
    assert {lines[0][:8], lines[1][:8]} == {"日本語  202", "abcdef  "}


def not_json(root: Path, session_id: str) -> None:
    """Replace a document with something that is not JSON."""
    (root / f"{session_id}.json").write_text("{")


def cut_off(root: Path, session_id: str) -> None:
    """Cut the last write off."""
    (root / f"{session_id}.json").rename(root / "x.json")
    torn(root)
    (root / "x.json").rename(root / f"{session_id}.json")


@pytest.mark.parametrize("damage", [not_json, unknown_role, cut_off])
def test_a_damaged_session_is_listed_as_damaged(damage: Any, cli: Run, session: str) -> None:
    """A damaged session keeps its line, stderr says why, and the status is 1, with `--json` too."""
    with Conversation.open("ärger 1") as chat:
        chat.add_user(AudioInput(SOUND))
        chat.add_assistant("Hello")
    damage(FileStore().root, "%C3%A4rger%201")
    status, out, err = cli("list")
    assert status == 1
    assert "  damaged" in next(line for line in out.splitlines() if line.startswith("ärger 1  "))
    assert err.startswith("! ")
    assert err.count("\n") == 1
    status, out, _ = cli("list", "--json")
    assert status == 1
    found = {each["id"]: (each["state"], each["sound"]) for each in json.loads(out)}
    assert found["ärger 1"] == ("damaged", len(SOUND))
    assert found[session][0] == "unanswered"


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE {s}.conversation_sessions SET length = 4",
        "UPDATE {s}.conversation_sessions SET header = '{{'",
        "UPDATE {s}.conversation_turns SET entry = '{{\"role\":' WHERE position = 1",
        'UPDATE {s}.conversation_turns SET entry = \'{{"role":"x"}}\' WHERE position = 1',
    ],
)
def test_a_damaged_session_in_a_database_is_listed_as_damaged(
    damage: str, cli: Run, postgres: Postgres, schema: str
) -> None:
    """Missing turns, or a header or last turn that cannot be read, make a session damaged."""
    with Conversation.open("x", store=PostgresStore(postgres.url, schema=schema)) as chat:
        chat.add_user("Hello")
        chat.add_assistant("Hi")
    postgres.execute(damage.format(s=schema))
    status, out, _ = cli("list", "--json", "--store", f"{postgres.url}?schema={schema}")
    assert (status, json.loads(out)[0]["state"]) == (1, "damaged")


def test_list_skips_files_that_are_no_sessions(cli: Run, session: str) -> None:
    """Each file that is no session is a line on stderr, and makes the exit status 1."""
    path = FileStore().root / f"{session}.json"
    path.rename(path.with_name("ann (copy).json"))
    (path.with_name("ann2.json")).write_bytes(path.with_name("ann (copy).json").read_bytes())
    (FileStore().root / "folder.json").mkdir()
    for option in ((), ("--json",)):
        status, out, err = cli("list", *option)
        assert (status, out.strip("[]\n")) == (1, "")
        assert "no sessions" not in err
        assert [line[:10] for line in err.splitlines()] == ["! skipping"] * 3


def test_list_without_sessions_says_how_to_start_one(cli: Run) -> None:
    """Without sessions, `list` gives a hint on stderr, and `--json` prints an empty list."""
    status, out, err = cli("list")
    assert (status, out) == (0, "")
    assert "`conversation chat` starts one" in err
    assert json.loads(cli("list", "--json")[1]) == []


@pytest.mark.parametrize("limit", ["-1", "many", "1.5", ""])
def test_a_limit_is_a_whole_number(limit: str, cli: Run) -> None:
    """A limit that is no whole number is wrong usage."""
    with pytest.raises(SystemExit, match="2"):
        cli("list", "--limit", limit)


def test_a_session_without_turns_is_empty(cli: Run) -> None:
    """A session in which nothing was said is neither answered nor unanswered."""
    with Conversation.open("x") as chat:
        chat.set_title("Later")
        assert json.loads(cli("list", "--json")[1])[0]["state"] == "empty"
        chat.add_system("Be brief.")
        assert json.loads(cli("list", "--json")[1])[0]["state"] == "empty"
    assert cli("list")[1].split()[-2:] == ["empty", "Later"]


def test_missing_files_are_told(cli: Run, session: str) -> None:
    """`list` counts the files that a session has lost, `show` and `--json` name them."""
    gone = FileStore().root / f"{session}.audio"
    (path,) = (each for each in gone.iterdir() if each.name.startswith("0003"))
    path.unlink()
    status, out, err = cli("list")
    assert (status, err) == (0, "")
    assert "  unanswered, 1 file missing  Dogs" in out
    (listed,) = json.loads(cli("list", "--json")[1])
    assert listed["missing"] == 1
    shown = json.loads(cli("show", session, "--json")[1])
    assert [turn.get("missing") for turn in shown["turns"]] == [None, None, [path.name], None, None]
    assert shown["missing"] == 1


def test_one_word_for_one_thing(cli: Run, session: str) -> None:
    """The JSON of `show` has what `list` tells of the session, and numbers turns as `search`."""
    (listed,) = json.loads(cli("list", "--json")[1])
    shown = json.loads(cli("show", session, "--json")[1])
    assert {key: shown[key] for key in listed} == listed | {"turns": shown["turns"]}
    assert len(shown["turns"]) == listed["turns"]
    (hit,) = json.loads(cli("search", "friend", "--json")[1])[:1]
    assert shown["turns"][hit["turn"] - 1]["turn"] == hit["turn"]
    (checked,) = json.loads(cli("verify", "--json")[1])
    assert {key: checked[key] for key in ("id", "turns", "state")} == {
        key: listed[key] for key in ("id", "turns", "state")
    }


def test_only_the_sessions_that_are_listed_are_read(cli: Run, session: str) -> None:
    """With a limit, older documents are not opened, whatever they hold; long ids are found."""
    damaged = FileStore().root / "old.json"
    damaged.write_text("{")
    os.utime(damaged, (1, 1))
    with Conversation.open("long " * 60) as chat:
        chat.add_user("Hello")
    status, out, err = cli("list", "--limit", "2", "--json")
    assert (status, err) == (0, "")
    assert [each["id"] for each in json.loads(out)] == ["long " * 60, session]
    assert cli("list")[0] == 1
