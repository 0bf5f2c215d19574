"""`Conversation.save` and `load`: a whole conversation in one file."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileInput,
    FileStore,
    ImageInput,
    UserTurn,
)
from conversation.errors import InvalidSetting, SaveFailed, SessionCorrupt, SessionTooNew
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, START, answer, recorded, spoken, tool_call
from tests.stores.faulty_disk import limited_file_size
from tests.stores.samples import answer_audio, create, opened, tree, user_audio

NO_AUDIO = (
    b'{"conversation":1,"turns":[{"role":"user","content":'
    b'[{"type":"input_audio","input_audio":{"data":"AAAA","format":"wav"}}]}]}'
)


def full(clock: Clock) -> Conversation:
    """Return a conversation with a turn of every kind."""
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


def test_load_restores_what_save_wrote(tmp_path: Path, clock: Clock) -> None:
    """`load` restores turns, settings and usage, and sends the same request."""
    chat = full(clock)
    path = chat.save(tmp_path / "chat.json")
    again = Conversation.load(path, clock=clock)
    assert again.turns == chat.turns
    assert again.request() == chat.request()
    assert again.usage == chat.usage
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_loaded_conversation_uses_voices_until_they_expire(
    tmp_path: Path, chat: Conversation, client: OpenAI, clock: Clock
) -> None:
    """A loaded conversation refers to its earlier voice by id, and by transcript after expiry."""
    chat.say("One")
    path = chat.save(tmp_path / "chat.json")
    again = Conversation.load(path, client=client, clock=clock)
    assert "1 of my earlier answers by voice" in again.say("Two").text
    clock.now += 3600
    later = Conversation.load(path, client=client, clock=clock)
    assert "0 of my earlier answers by voice and 1 from" in later.say("Three").text


def test_lost_audio_id_is_saved(tmp_path: Path, clock: Clock) -> None:
    """An audio id that the server has forgotten is not sent again after `load`."""
    chat = Conversation(clock=clock)
    turn = chat.add_completion(spoken())
    assert turn.audio is not None
    error = Exception(f"Assistant audio {turn.audio.id} not found.")
    error.code = "audio_not_found"  # type: ignore[attr-defined]  # as the SDK's errors have it
    assert chat.heal(error)
    again = Conversation.load(chat.save(tmp_path / "chat.json"), clock=clock)
    assert again.render().items[0].why == "transcript, server lost it"


def test_file_is_json_with_one_turn_per_line(tmp_path: Path, clock: Clock) -> None:
    """The file is one JSON document, with one turn per line."""
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


def test_settings_given_to_load_win_and_are_saved(tmp_path: Path, clock: Clock) -> None:
    """Settings given to `load` win over those in the file, and are saved next."""
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


def test_unknown_keys_survive_load_and_save(tmp_path: Path, clock: Clock) -> None:
    """Unknown keys of the header, the settings and the turns survive `load` and `save`."""
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
        (b'{"conversation":1,"turns":[5]}', "turn 1: a turn must be a JSON object"),
        (b'{"conversation":1,"turns":[{"role":"robot"}]}', "turn 1: role must be user"),
        (b'{"conversation":1,"turns":[{"role":"user","content":5}]}', "turn 1: content must be"),
        (b'{"conversation":1,"turns":[{"role":"user","content":[{"type":"smell"}]}]}', "'smell'"),
        (b'{"conversation":1,"turns":[{"role":"tool"}]}', "tool_call_id"),
        (NO_AUDIO, "WAV or MP3"),
        (b'{"conversation":1,"settings":[],"turns":[]}', "settings"),
        (b'{"conversation":1,"settings":{"voice":5},"turns":[]}', "settings"),
        (b'{"conversation":1,"settings":{"tools":5},"turns":[]}', "settings"),
    ],
)
def test_invalid_file_is_corrupt(tmp_path: Path, content: bytes, reason: str) -> None:
    """`load` of an invalid file raises `SessionCorrupt` with its path and the reason."""
    path = tmp_path / "chat.json"
    path.write_bytes(content)
    with pytest.raises(SessionCorrupt) as caught:
        Conversation.load(path)
    assert reason in caught.value.reason
    assert caught.value.path == path
    assert str(path) in str(caught.value)
    assert path.read_bytes() == content


def test_error_names_the_damaged_line(tmp_path: Path, clock: Clock) -> None:
    """`SessionCorrupt` names the line of broken JSON and of an invalid turn."""
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


def test_newer_format_is_refused(tmp_path: Path) -> None:
    """`load` of a newer format raises `SessionTooNew`, which recommends an upgrade."""
    path = tmp_path / "chat.json"
    path.write_text('{"conversation":2,"turns":[]}')
    with pytest.raises(SessionTooNew, match="upgrade") as caught:
        Conversation.load(path)
    assert caught.value.version == 2


def test_missing_file_is_not_found(tmp_path: Path) -> None:
    """`load` of a missing file raises `FileNotFoundError`."""
    with pytest.raises(FileNotFoundError):
        Conversation.load(tmp_path / "chat.json")


def test_failed_save_keeps_the_old_file(tmp_path: Path, clock: Clock) -> None:
    """`save` on a full disk raises `SaveFailed`, keeps the old file, and leaves no other."""
    path = Conversation(clock=clock).save(tmp_path / "chat.json")
    before = path.read_bytes()
    with limited_file_size(1000), pytest.raises(SaveFailed, match="unchanged") as caught:
        full(clock).save(path)
    assert caught.value.path == path
    assert isinstance(caught.value.__cause__, OSError)
    assert path.read_bytes() == before
    assert list(tmp_path.glob(".*")) == []


def test_save_into_a_missing_folder_fails(tmp_path: Path, clock: Clock) -> None:
    """`save` into a missing folder raises `SaveFailed`."""
    with pytest.raises(SaveFailed, match="No such file"):
        Conversation(clock=clock).save(tmp_path / "no" / "chat.json")


def test_save_follows_links(tmp_path: Path, clock: Clock) -> None:
    """`save` replaces the target of a link, not the link."""
    target = tmp_path / "real.json"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    full(clock).save(link)
    assert link.is_symlink()
    assert Conversation.load(link).turns == full(clock).turns


def test_times_keep_microseconds(tmp_path: Path) -> None:
    """`at` keeps its microseconds through `save` and `load`."""
    chat = Conversation(clock=Clock(START + 0.123456))
    turn: Any = chat.add_user("Hi")
    assert Conversation.load(chat.save(tmp_path / "c.json")).turns[0].at == turn.at


def test_saved_session_contains_its_sound(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    """`save` puts a session's sound into the file, which loads after the session is gone."""
    create(store, clock, voice="echo")
    with opened(store, clock=clock) as chat:
        chat.add_user(ImageInput(PNG), FileInput(b"%PDF", "a.pdf"))
        chat.set_title("Dogs")
        before = tree(store.root)
        messages = chat.messages()
        path = chat.save(tmp_path / "portable.json")
        assert tree(store.root) == before
        chat.add_user("Not in the copy")
    shutil.rmtree(store.root)
    again = Conversation.load(path, clock=clock)
    assert [turn.text for turn in again.turns] == [turn.text for turn in chat.turns[:4]]
    assert answer_audio(again.turns[1]).read() == SOUND
    assert user_audio(again.turns[2]).read() == SOUND
    assert again.messages() == messages
    assert (again.title, again.request()["audio"]["voice"]) == ("Dogs", "echo")
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()


# --- a session's own document ------------------------------------------------------------------


def test_sessions_own_document_is_loaded_with_its_sound(tmp_path: Path, clock: Clock) -> None:
    """`load` reads the folder beside it into memory, and changes nothing there."""
    store = FileStore(tmp_path)
    with Conversation.open("ann", store=store, clock=clock) as chat:
        chat.add_user("Look", AudioInput(SOUND), ImageInput(PNG))
        chat.add_completion(spoken("Yes."))
        chat.set_title("Dogs")
    path = tmp_path / "ann.json"
    before = path.read_bytes()
    loaded = Conversation.load(path, clock=clock)
    assert path.read_bytes() == before
    store.delete("ann")
    assert (loaded.title, [turn.text for turn in loaded.turns]) == ("Dogs", ["Look", "Yes."])
    question, answer = loaded.turns
    assert isinstance(question, UserTurn)
    assert question.content == ("Look", AudioInput(SOUND), ImageInput(PNG))
    assert isinstance(answer, AssistantTurn)
    assert answer.audio
    assert answer.audio.read() == SOUND
    again = Conversation.load(loaded.save(tmp_path / "saved.json"), clock=clock)
    assert again.messages() == loaded.messages()


def test_sessions_own_document_without_its_sound_is_refused(tmp_path: Path) -> None:
    """A copy without the folder of sound is an error that names the export; one of words loads."""
    store = FileStore(tmp_path)
    with Conversation.open("ann", store=store) as chat:
        chat.add_user("Hello")
        copy = tmp_path / "copy.json"
        copy.write_bytes((tmp_path / "ann.json").read_bytes())
        assert Conversation.load(copy).turns[0].text == "Hello"
        chat.add_user(ImageInput(PNG))
    copy.write_bytes((tmp_path / "ann.json").read_bytes())
    with pytest.raises(SessionCorrupt, match=r"copy.audio beside it; .*export --format json"):
        Conversation.load(copy)
