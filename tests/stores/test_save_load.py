"""`save` and `load`: one file that holds everything."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from conversation import AssistantTurn, AudioInput, Conversation, FileInput, ImageInput
from conversation.errors import InvalidSetting, SaveFailed, SessionCorrupt, SessionTooNew
from tests.conftest import START, Clock
from tests.samples import MP3, PNG, SOUND, answer, recorded, spoken, tool_call

NO_AUDIO = (
    b'{"conversation":1,"turns":[{"role":"user","content":'
    b'[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}'
)


def full(clock: Clock) -> Conversation:
    """A conversation with a turn of every kind."""
    chat = Conversation(
        clock=clock, voice="echo", instructions="Be brief.", modalities=["text", "audio"]
    )
    chat.add_system("The user is Ann.")
    chat.add_user("Hi", AudioInput(SOUND, transcript="there"), AudioInput(MP3))
    chat.add_completion(recorded())
    chat.add_user(
        ImageInput(PNG, "low"),
        ImageInput("https://example.org/a.png"),
        FileInput(b"%PDF", "a.pdf"),
        FileInput(file_id="f"),
    )
    chat.add_completion(answer(content="Hm", tool_calls=[tool_call("a"), tool_call("b")], odd=[1]))
    chat.add_tool_result("a", "1")
    chat.add_completion(spoken(expires_at=None))
    chat.add(AssistantTurn(content="cut", interrupted=True, voice_dropped=True, refusal="no"))
    return chat


def test_everything_comes_back(tmp_path: Path, clock: Clock) -> None:
    """Turns, settings and usage are equal, and what is sent is too."""
    chat = full(clock)
    path = chat.save(tmp_path / "chat.json")
    again = Conversation.load(path, clock=clock)
    assert again.turns == chat.turns
    assert again.request() == chat.request()
    assert again.usage == chat.usage
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_a_loaded_conversation_goes_on(
    tmp_path: Path, chat: Conversation, client: OpenAI, clock: Clock
) -> None:
    """Its voice is remembered while the server may, and then its transcript."""
    chat.say("One")
    path = chat.save(tmp_path / "chat.json")
    again = Conversation.load(path, client=client, clock=clock)
    assert "1 of my earlier answers by voice" in again.say("Two").text
    clock.now += 3600
    later = Conversation.load(path, client=client, clock=clock)
    assert "0 of my earlier answers by voice and 1 from" in later.say("Three").text


def test_a_lost_id_stays_lost(tmp_path: Path, clock: Clock) -> None:
    """What the server forgot is not tried again by the next process."""
    chat = Conversation(clock=clock)
    turn = chat.add_completion(spoken())
    assert turn.audio is not None
    error = Exception(f"Assistant audio {turn.audio.id} not found.")
    error.code = "audio_not_found"  # type: ignore[attr-defined]  # as the SDK's errors have it
    assert chat.heal(error)
    again = Conversation.load(chat.save(tmp_path / "chat.json"), clock=clock)
    assert again.render().items[0].why == "transcript, server lost it"


def test_it_is_one_json_document_a_turn_a_line(tmp_path: Path, clock: Clock) -> None:
    """`jq` reads it, and a person too."""
    path = full(clock).save(tmp_path / "chat.json")
    document = json.loads(path.read_text())
    lines = path.read_text().splitlines()
    assert document["conversation"] == 1
    assert document["settings"] == {"voice": "echo", "instructions": "Be brief."}
    assert [json.loads(line.rstrip(",")) for line in lines[1:-1]] == document["turns"]
    assert document["turns"][0]["at"] == "2025-11-01T12:26:40Z"
    empty = Conversation(clock=clock).save(tmp_path / "empty.json")
    assert json.loads(empty.read_text())["turns"] == []
    assert Conversation.load(empty).turns == ()


def test_given_settings_win_over_those_in_the_file(tmp_path: Path, clock: Clock) -> None:
    """And are what is saved next."""
    path = full(clock).save(tmp_path / "chat.json")
    again = Conversation.load(path, voice="alloy", expiry_margin=60)
    again.save(path)
    assert json.loads(path.read_text())["settings"] == {
        "voice": "alloy",
        "instructions": "Be brief.",
        "expiry_margin": 60,
    }
    with pytest.raises(InvalidSetting):
        Conversation.load(path, voice="")


def test_what_another_version_wrote_is_kept(tmp_path: Path, clock: Clock) -> None:
    """Keys of the header, of settings and of turns that are unknown here survive."""
    path = full(clock).save(tmp_path / "chat.json")
    document = json.loads(path.read_text())
    document["colour"] = "red"
    document["settings"]["speed"] = 1.5
    document["turns"][0]["mood"] = "calm"
    path.write_text(json.dumps(document, indent=2))
    Conversation.load(path).save(path)
    assert json.loads(path.read_text()) == document


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON"),
        (b"Hello, this is text.", "not JSON"),
        (b"\xff\xfe\0\0", "not JSON"),
        (b"[]", "no format number"),
        (b'"text"', "no format number"),
        (b"{}", "no format number"),
        (b'{"conversation":"1","turns":[]}', "no format number"),
        (b'{"conversation":true,"turns":[]}', "no format number"),
        (b'{"conversation":0,"turns":[]}', "no format number"),
        (b'{"conversation":1}', "no list"),
        (b'{"conversation":1,"turns":{}}', "no list"),
        (b'{"conversation":1,"turns":[5]}', "turn 1: a turn is a JSON object"),
        (b'{"conversation":1,"turns":[{"role":"robot"}]}', "turn 1: a turn's role"),
        (b'{"conversation":1,"turns":[{"role":"user","content":5}]}', "turn 1: a user turn"),
        (b'{"conversation":1,"turns":[{"role":"user","content":[{"type":"smell"}]}]}', "'smell'"),
        (b'{"conversation":1,"turns":[{"role":"tool"}]}', "tool_call_id"),
        (
            NO_AUDIO,
            "WAV or MP3",
        ),
        (b'{"conversation":1,"settings":[],"turns":[]}', "settings"),
        (b'{"conversation":1,"settings":{"voice":5},"turns":[]}', "settings"),
        (b'{"conversation":1,"settings":{"tools":5},"turns":[]}', "settings"),
    ],
)
def test_a_file_that_is_no_saved_conversation_is_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    """The error names file and reason; the file stays as it is."""
    path = tmp_path / "chat.json"
    path.write_bytes(content)
    with pytest.raises(SessionCorrupt) as caught:
        Conversation.load(path)
    assert reason in caught.value.reason
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_the_line_of_the_damage_is_told(tmp_path: Path, clock: Clock) -> None:
    """Broken JSON and a broken turn are found by their line."""
    path = full(clock).save(tmp_path / "chat.json")
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], b'{"role":"robot"},', *lines[3:]]))
    with pytest.raises(SessionCorrupt, match="line 3") as caught:
        Conversation.load(path)
    assert caught.value.line == 3
    path.write_bytes(b"\n".join([*lines[:3], b'{"role', *lines[4:]]))
    with pytest.raises(SessionCorrupt) as caught:
        Conversation.load(path)
    assert caught.value.line in (4, 5)


def test_a_file_of_a_later_version_is_refused_as_such(tmp_path: Path) -> None:
    """The remedy is to upgrade."""
    path = tmp_path / "chat.json"
    path.write_text('{"conversation":2,"turns":[]}')
    with pytest.raises(SessionTooNew, match="upgrade") as caught:
        Conversation.load(path)
    assert caught.value.version == 2


def test_a_missing_file_is_a_missing_file(tmp_path: Path) -> None:
    """Never an empty conversation instead."""
    with pytest.raises(FileNotFoundError):
        Conversation.load(tmp_path / "chat.json")


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, clock: Clock) -> None:
    """Without room (a limit on file sizes), nothing changes and nothing is left over."""
    path = Conversation(clock=clock).save(tmp_path / "chat.json")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(SaveFailed, match="unchanged") as caught:
            full(clock).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert caught.value.path == path
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_a_folder_that_is_not_there_is_a_failed_save(tmp_path: Path, clock: Clock) -> None:
    """The error is both ours and an OSError."""
    with pytest.raises(SaveFailed, match="No such file"):
        Conversation(clock=clock).save(tmp_path / "no" / "chat.json")


def test_a_link_stays_a_link_and_the_mode_is_usual(tmp_path: Path, clock: Clock) -> None:
    """The file behind a link is replaced, not the link."""
    target = tmp_path / "real.json"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    umask = os.umask(0o022)
    try:
        full(clock).save(link)
    finally:
        os.umask(umask)
    assert link.is_symlink()
    assert stat.S_IMODE(target.stat().st_mode) == 0o644
    assert Conversation.load(link).turns == full(clock).turns


def test_times_survive_to_the_microsecond(tmp_path: Path) -> None:
    """`at` is what the clock said."""
    chat = Conversation(clock=Clock(START + 0.123456))
    turn: Any = chat.add_user("Hi")
    assert Conversation.load(chat.save(tmp_path / "c.json")).turns[0].at == turn.at
