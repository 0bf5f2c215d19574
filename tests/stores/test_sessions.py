"""Conversations that `open` keeps in a `FileStore`: sound, settings, labels, and closing."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
from collections.abc import Callable
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
    UserTurn,
)
from conversation._values.sound import wav_from_pcm
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionCorrupt,
    SessionNotFound,
    SessionReadOnly,
)
from tests.conftest import Clock
from tests.samples import PNG, SOUND, spoken
from tests.stores.faulty_disk import files
from tests.stores.samples import (
    answer_audio,
    create,
    document,
    opened,
    path_of,
    tree,
    user_audio,
)

# --- sound -----------------------------------------------------------------------------------


def test_undo_deletes_sound_and_keeps_usage(store: FileStore, clock: Clock) -> None:
    """`undo` deletes the files of the turns, returns their bytes, and keeps `usage`."""
    create(store, clock)
    with opened(store, clock=clock) as chat:
        chat.add_user(AudioInput(SOUND), ImageInput(PNG))
        usage = {"prompt_tokens": 5, "prompt_tokens_details": {"audio_tokens": 3}}
        chat.add_completion({**spoken("Taken back"), "usage": usage})
        before, names = chat.turns, set((store.root / "retriever.audio").iterdir())
        question, answer = chat.undo()
        assert user_audio(question).read() == SOUND
        assert answer_audio(answer).read() == SOUND
        gone = names - set((store.root / "retriever.audio").iterdir())
        assert len(gone) == 3
    with opened(store, clock=clock) as again:
        assert again.turns == before[:-2]
        assert (again.usage.prompt_tokens, again.usage.prompt_audio_tokens) == (5, 3)
        again.add(question)
        again.add(answer)
        assert answer_audio(again.turns[-1]).read() == SOUND
        again.undo()
        assert again.usage.prompt_tokens == 10
    copy = Conversation.load(again.save(store.root / "copy.txt"))
    assert copy.usage == again.usage


@pytest.mark.parametrize(
    ("keep_sound", "files"), [("all", ["0002", "0003"]), ("user", ["0003"]), ("none", [])]
)
def test_keep_sound_selects_what_is_saved(
    tmp_path: Path, clock: Clock, keep_sound: str, files: list[str]
) -> None:
    """`keep_sound` decides which sound is saved; the rest is readable in memory only."""
    store = FileStore(tmp_path, fsync=False, keep_sound=keep_sound)
    with opened(store, clock=clock) as chat:
        chat.add_user("Hi")
        answer = chat.add_completion(spoken("Yes, it is."))
        said = chat.add_user(AudioInput(SOUND, transcript="Thank you."))
        chat.set_title("Dogs")
        chat.add_user("Bye")
        assert answer_audio(answer).read() == SOUND
        assert user_audio(said).read() == SOUND
        assert answer_audio(chat.turns[1]).read() == SOUND
        assert user_audio(chat.turns[2]).read() == SOUND
    found = sorted(path.name[:4] for path in tmp_path.glob("retriever.audio/*"))
    assert found == files
    assert "UklGR" not in path_of(store).read_text(), "the document contains no sound"
    assert path_of(store).stat().st_size < 1500
    clock.now += 7200
    with opened(store, clock=clock) as again:
        for turn, number in ((again.turns[1], "0002"), (again.turns[2], "0003")):
            sound = answer_audio(turn) if isinstance(turn, AssistantTurn) else user_audio(turn)
            if number in files:
                assert sound.read() == SOUND
            else:
                with pytest.raises((AudioFileMissing, LookupError)):
                    sound.read()
        answered, thanked = again.messages()[1:3]
        assert answered["content"] == "Yes, it is."
        if "0003" in files:
            assert thanked["content"][0]["type"] == "input_audio"
        else:
            assert "Thank you." in str(thanked["content"])
        again.add_user("And on")
        again.set_title("More")
    with opened(store, create=False) as last:
        assert [turn.text for turn in last.turns][1:] == [
            "Yes, it is.",
            "Thank you.",
            "Bye",
            "And on",
        ]


def test_keep_sound_none_keeps_pictures_and_files(tmp_path: Path, clock: Clock) -> None:
    """`keep_sound="none"` saves pictures and files."""
    store = FileStore(tmp_path, fsync=False, keep_sound="none")
    with opened(store, clock=clock) as chat:
        chat.add_user(ImageInput(PNG), FileInput(b"%PDF", "a.pdf"))
    with opened(store, clock=clock) as again:
        turn = again.turns[0]
        assert isinstance(turn, UserTurn)
        url, file = again.messages()[0]["content"]
        assert url["image_url"]["url"].startswith("data:image/png;base64,")
        assert file["file"]["file_data"].startswith("data:application/pdf;base64,")


@pytest.mark.parametrize("keep_sound", ["user", "none"])
def test_keep_sound_goes_by_kind_and_not_by_format(
    tmp_path: Path, clock: Clock, keep_sound: str
) -> None:
    """Sound of a format that is not listed is sound, and a document may be named voice.mp3."""
    store = FileStore(tmp_path, fsync=False, keep_sound=keep_sound)
    formats = (None, "aiff", "../x")
    with opened(store, clock=clock) as chat:
        chat.add_user(FileInput(b"words", "voice.mp3"))
        for sound_format in formats:
            audio = AssistantAudio("audio_1", None, "Hi", b"some bytes", sound_format)
            assert answer_audio(chat.add(AssistantTurn(audio=audio))).read() == b"some bytes"
    assert [path.suffix for path in (tmp_path / "retriever.audio").iterdir()] == [".mp3"]
    with opened(store, clock=clock) as again:
        file = again.request(model="gpt-5")["messages"][0]["content"][0]["file"]
        assert file["filename"] == "voice.mp3"
        assert file["file_data"].endswith("d29yZHM=")


def test_sound_of_any_format_is_kept_under_a_plain_name(tmp_path: Path, clock: Clock) -> None:
    """A format that is not listed, such as a path, does not become part of the file's name."""
    store = FileStore(tmp_path, fsync=False)
    with opened(store, clock=clock) as chat:
        for sound_format in ("aiff", "../x", "wav"):
            audio = AssistantAudio("audio_1", None, "Hi", b"some bytes", sound_format)
            chat.add(AssistantTurn(audio=audio))
    found = sorted((tmp_path / "retriever.audio").iterdir())
    assert [path.suffix for path in found] == [".bin", ".bin", ".wav"]
    turns = opened(store, clock=clock, read_only=True).turns
    raw = b"some bytes"
    assert [answer_audio(turn).read() for turn in turns] == [raw, raw, wav_from_pcm(raw)]


@pytest.mark.parametrize("keep_sound", ["", "some", None, True])
def test_invalid_keep_sound_is_refused(tmp_path: Path, keep_sound: Any) -> None:
    """An invalid `keep_sound` is refused, and the error names the three valid values."""
    with pytest.raises(InvalidSetting, match='"all", "user" or "none"'):
        FileStore(tmp_path, keep_sound=keep_sound)


def test_saved_sound_is_not_held_in_memory(store: FileStore, clock: Clock) -> None:
    """Turns of a saved session hold no bytes; `read` gets them from the disk."""
    with opened(store, clock=clock) as chat:
        answer = chat.add_completion(spoken())
        said = chat.add_user(AudioInput(SOUND), ImageInput(PNG), FileInput(b"%PDF-1", "a.pdf"))
        assert not isinstance(answer_audio(answer).data, bytes)
        assert not isinstance(user_audio(said).data, bytes)
        with opened(store) as again:
            for turns in ((answer, said), chat.turns, again.turns):
                held = pickle.dumps(turns)
                assert SOUND[40:80] not in held
                assert PNG not in held
                assert b"%PDF-1" not in held
                assert answer_audio(turns[0]).read() == SOUND
                assert user_audio(turns[1]).read() == SOUND
            before = tree(store.root)
            assert again.turns == chat.turns
            assert tree(store.root) == before


def test_turn_of_another_session_is_copied_with_its_sound(store: FileStore, clock: Clock) -> None:
    """A turn added from another session keeps its sound after that session is deleted."""
    turns = create(store, clock)
    with Conversation.open("other", store=store, clock=clock) as other:
        for turn in turns:
            other.add(turn)
        store.delete("retriever")
        assert answer_audio(other.turns[1]).read() == SOUND
        assert user_audio(other.turns[2]).read() == SOUND


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("instead", ["nothing", "a link", "a folder", "a FIFO", "a socket"])
def test_transcript_is_sent_for_missing_sound(
    store: FileStore,
    clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    instead: str,
) -> None:
    """`read` of a missing sound file raises `AudioFileMissing`; rendering sends the transcript."""
    create(store, clock)
    (tmp_path / "secret.wav").write_bytes(SOUND)
    for path in (store.root / "retriever.audio").iterdir():
        path.unlink()
        match instead:
            case "a link":
                path.symlink_to(tmp_path / "secret.wav")
            case "a folder":
                path.mkdir()
            case "a FIFO":
                os.mkfifo(path)
            case "a socket":
                # Relative: the path of a socket has at most some 100 bytes.
                with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(path.parent):
                    sock.bind(path.name)
    clock.now += 7200
    with opened(store, clock=clock) as chat:
        with pytest.raises(AudioFileMissing, match=r"0002-.*wav") as caught:
            answer_audio(chat.turns[1]).read()
        assert caught.value.path is not None
        assert caught.value.path.parent == store.root / "retriever.audio"
        with pytest.raises(FileNotFoundError):
            user_audio(chat.turns[2]).read()
        caplog.clear()
        messages = chat.messages()
        assert messages[1]["content"] == "Yes, it is."
        assert messages[2]["content"] == [{"type": "text", "text": "Thank you."}]
        assert "is gone" in caplog.text
        assert chat.render().messages == messages
        chat.add_user("And on")
        portable = Conversation.load(chat.save(tmp_path / "portable.json"))
        assert portable.turns[2].text == "Thank you."


def test_link_in_place_of_the_sound_folder_is_not_followed(
    store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    """Nothing is read, written or deleted through a link in place of the sound folder."""
    create(store, clock)
    folder, elsewhere = store.root / "retriever.audio", tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    before = tree(elsewhere)
    with opened(store, clock=clock) as chat:
        with pytest.raises(AudioFileMissing):
            answer_audio(chat.turns[1]).read()
        with pytest.raises(SaveFailed, match="is a link") as caught:
            chat.add_completion(spoken("Two"))
        assert caught.value.turn is not None
        assert len(chat.turns) == 3
    session = store.session("retriever")
    session.discard([name for name in before if name != "."])
    assert tree(elsewhere) == before


# --- open and close --------------------------------------------------------------------------


def test_nothing_is_written_before_the_first_turn(store: FileStore, clock: Clock) -> None:
    """Opening, rendering, a refused turn, `save` and closing create no session."""
    with opened(store, clock=clock, voice="echo") as chat:
        assert (chat.turns, chat.title, chat.metadata, chat.id) == ((), None, {}, "retriever")
        chat.render()
        chat.request()
        with pytest.raises(InvalidTurn):
            chat.add_user("")
        chat.save(store.root.parent / "copy.json")
    assert not path_of(store).exists()
    assert list(store.list()) == []
    with pytest.raises(SessionNotFound):
        opened(store, create=False)
    with opened(store, clock=clock) as chat:
        chat.add_user("Hi")
        assert len(document(store)["turns"]) == 1


@pytest.mark.parametrize("label", ["title", "metadata"])
def test_label_creates_the_session(store: FileStore, clock: Clock, label: str) -> None:
    """Setting a title or metadata creates the session, without any turn."""
    with opened(store, clock=clock) as chat:
        chat.set_title("Dogs") if label == "title" else chat.set_metadata({"a": 1})
        assert document(store)["turns"] == []
    with opened(store, create=False) as again:
        assert (again.title, again.metadata) == (chat.title, chat.metadata)
        assert again.turns == ()


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_missing_session_is_not_found(store: FileStore, options: dict[str, bool]) -> None:
    """`create=False` and `read_only=True` raise `SessionNotFound` for a missing session."""
    with pytest.raises(SessionNotFound, match="retriever") as caught:
        opened(store, **options)
    assert caught.value.path == path_of(store)
    assert not store.root.exists()


def test_create_false_resumes_an_existing_session(store: FileStore, clock: Clock) -> None:
    """`create=False` resumes an existing session, which can be changed."""
    turns = create(store, clock)
    with opened(store, create=False, clock=clock) as chat:
        assert chat.turns == turns
        chat.add_user("More")
    assert len(document(store)["turns"]) == 4


CHANGES: dict[str, Callable[[Conversation], object]] = {
    "add_user": lambda chat: chat.add_user("More"),
    "add_assistant": lambda chat: chat.add_assistant("More"),
    "add_system": lambda chat: chat.add_system("More"),
    "add_completion": lambda chat: chat.add_completion(spoken()),
    "add": lambda chat: chat.add(UserTurn("More")),
    "set_title": lambda chat: chat.set_title("Other"),
    "set_metadata": lambda chat: chat.set_metadata({"a": 1}),
}


@pytest.mark.parametrize("torn", [False, True])
def test_read_only_changes_no_file(store: FileStore, clock: Clock, torn: bool) -> None:
    """A session opened with `read_only=True` refuses changes and touches no file, torn or not."""
    turns = create(store, clock)
    (store.root / "retriever.lock").unlink()
    if torn:
        path_of(store).write_bytes(path_of(store).read_bytes()[:-9])
    before = tree(store.root)
    with opened(store, clock=clock, read_only=True, voice="echo") as chat:
        assert chat.turns == turns[: 2 if torn else 3]
        assert (chat.recovered is not None) is torn
        chat.messages()
        chat.render()
        for change in CHANGES.values():
            with pytest.raises(SessionReadOnly, match="read_only=True"):
                change(chat)
        assert chat.turns == turns[: 2 if torn else 3]
        assert (chat.title, chat.metadata) == (None, {})
    assert tree(store.root) == before


def test_closed_session_is_read_only(store: FileStore, clock: Clock) -> None:
    """After `close`, turns and sound stay readable and changes raise `SessionReadOnly`."""
    turns = create(store, clock)
    chat = opened(store, clock=clock)
    chat.close()
    chat.close()
    before = tree(store.root)
    for change in CHANGES.values():
        with pytest.raises(SessionReadOnly, match=r"closed.*open it anew"):
            change(chat)
    assert chat.turns == turns
    assert answer_audio(chat.turns[1]).read() == SOUND
    assert len(chat.messages()) == 3
    assert tree(store.root) == before
    with opened(store, clock=clock) as again:
        again.add_user("More")
    assert len(document(store)["turns"]) == 4


def test_leaving_the_with_block_closes(store: FileStore) -> None:
    """Leaving the `with` block closes the session, also on an exception, which propagates."""
    with opened(store) as chat:
        chat.add_user("Hi")
    with pytest.raises(PermissionError):
        chat.add_user("More")

    def fail() -> None:
        with opened(store) as other:
            others.append(other)
            raise KeyError("mine")

    others: list[Conversation] = []
    with pytest.raises(KeyError, match="mine"):
        fail()
    with pytest.raises(SessionReadOnly):
        others[0].add_user("More")


def test_open_session_holds_no_descriptor(
    store: FileStore, clock: Clock, count_descriptors: Callable[[], int]
) -> None:
    """An open session holds no descriptor between two changes."""
    before = count_descriptors()
    for _ in range(3):
        create(store, clock)
    assert count_descriptors() == before
    with opened(store, clock=clock) as chat:
        for _ in range(5):
            chat.add_completion(spoken())
            chat.set_title("Dogs")
            answer_audio(chat.turns[1]).read()
        assert count_descriptors() == before


@pytest.mark.usefixtures("no_hang")
@pytest.mark.parametrize("instead", ["a link", "a folder", "a FIFO", "a socket"])
def test_document_must_be_a_regular_file(
    store: FileStore, clock: Clock, tmp_path: Path, instead: str
) -> None:
    """A link, folder, FIFO or socket in place of the document raises `SessionCorrupt`."""
    create(store, clock)
    target = tmp_path / "elsewhere.json"
    path_of(store).rename(target)
    match instead:
        case "a link":
            path_of(store).symlink_to(target)
        case "a folder":
            path_of(store).mkdir()
        case "a FIFO":
            os.mkfifo(path_of(store))
        case "a socket":
            with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(store.root):
                sock.bind(path_of(store).name)
    before = tree(tmp_path)
    for options in ({}, {"read_only": True}, {"create": False}):
        with pytest.raises(SessionCorrupt, match="no regular file"):
            opened(store, **options)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("fsync", [True, False])
def test_fsync_does_not_change_what_is_saved(tmp_path: Path, clock: Clock, fsync: bool) -> None:
    """The same turns are saved with and without `fsync`."""
    store = FileStore(tmp_path, fsync=fsync)
    turns = create(store, clock)
    with opened(store, clock=clock) as chat:
        assert chat.turns == turns
        chat.set_title("Dogs")
        assert answer_audio(chat.turns[1]).read() == SOUND
    assert [entry["role"] for entry in document(store)["turns"]] == ["user", "assistant", "user"]


# --- settings --------------------------------------------------------------------------------


def test_settings_given_at_open_are_saved_by_the_next_change(
    store: FileStore, clock: Clock
) -> None:
    """Settings given to `open` win over saved ones, and the next change saves them."""
    create(store, clock, voice="echo", instructions="Be brief.")
    assert document(store)["settings"] == {"voice": "echo", "instructions": "Be brief."}
    before = tree(store.root)
    with opened(store, clock=clock, voice="coral", modalities=("text",)) as chat:
        assert chat.request()["modalities"] == ["text"]
        assert chat.messages()[0] == {"role": "system", "content": "Be brief."}
        assert tree(store.root) == before
        chat.add_user("More")
        assert len(document(store)["turns"]) == 4
    settings = {"voice": "coral", "instructions": "Be brief.", "modalities": ["text"]}
    assert document(store)["settings"] == settings
    with opened(store, clock=clock, modalities=("text", "audio")) as again:
        assert again.request()["audio"]["voice"] == "coral"
        again.set_title("Dogs")
    assert document(store)["settings"]["modalities"] == ["text", "audio"]


def test_explicit_default_is_saved(store: FileStore, clock: Clock) -> None:
    """A setting that is given is saved even if it equals the default; others are not."""
    with opened(store, clock=clock, voice="alloy", expiry_margin=30.0) as chat:
        chat.add_user("Hi")
    assert document(store)["settings"] == {"voice": "alloy", "expiry_margin": 30.0}
    with opened(store, clock=clock, model="gpt-audio-1.5") as chat:
        chat.add_user("Hi")
    assert set(document(store)["settings"]) == {"voice", "expiry_margin", "model"}
    with opened(store, clock=clock, instructions=None) as chat:
        chat.set_title("Dogs")
    assert document(store)["settings"]["instructions"] is None


def test_options_that_are_no_settings_are_not_saved(store: FileStore, clock: Clock) -> None:
    """`client`, `clock`, `timeout` and `create` are never saved."""
    client: Any = object()
    with opened(store, clock=clock, client=client, timeout=1.0, create=True) as chat:
        chat.add_user("Hi")
        chat.set_title("Dogs")
    assert document(store)["settings"] == {}
    assert set(document(store)) == {
        "conversation",
        "turns_at_least",
        "revision",
        "id",
        "created_at",
        "title",
        "settings",
        "metadata",
        "turns",
    }


def test_invalid_setting_creates_nothing(store: FileStore) -> None:
    """An invalid or unknown setting is refused before any file is created."""
    with pytest.raises(InvalidSetting):
        opened(store, voice="")
    with pytest.raises(TypeError):
        opened(store, colour="red")
    assert not store.root.exists()


@pytest.mark.parametrize("settings", [{}, {"voice": "echo"}])
def test_stale_object_does_not_overwrite_saved_settings(
    store: FileStore, clock: Clock, settings: dict[str, str]
) -> None:
    """An object opened earlier does not overwrite settings that another object has saved since."""
    create(store, clock, **settings)
    with opened(store, clock=clock) as early, opened(store, clock=clock, voice="coral") as late:
        late.add_user("More")
        assert document(store)["settings"] == {"voice": "coral"}
        early.set_title("Dogs")
    assert document(store)["title"] == "Dogs"
    assert document(store)["settings"] == {"voice": "coral"}


@pytest.mark.parametrize("change", CHANGES)
def test_unknown_keys_survive_every_change(store: FileStore, clock: Clock, change: str) -> None:
    """Unknown keys of the header, the settings and the turns survive every change."""
    create(store, clock, voice="echo")
    before = document(store)
    before["colour"] = {"name": "red", "tones": [1, 2]}
    before["settings"]["speed"] = 1.5
    before["turns"][0]["mood"] = "calm"
    before["turns"][1]["audio"]["pitch"] = 440
    before["turns"][2]["content"][0]["input_audio"]["noise"] = None
    before["turns"][2]["content"][0]["weight"] = 2
    for layout in (None, 1):
        path_of(store).write_text(json.dumps(before, indent=layout))
        for options in ({}, {"voice": "coral"}):
            with opened(store, clock=clock, **options) as chat:
                CHANGES[change](chat)
        after = document(store)
        assert after["colour"] == before["colour"]
        assert after["settings"] == {"voice": "coral", "speed": 1.5}
        assert after["turns"][:3] == before["turns"]
        for path in (store.root / "retriever.audio").iterdir():
            if path.name[:4] not in ("0002", "0003"):
                path.unlink()


# --- labels ----------------------------------------------------------------------------------


def test_title_and_metadata_are_saved_and_replaced(store: FileStore, clock: Clock) -> None:
    """Title and metadata are saved, resumed, and replaced when they are set again."""
    with opened(store, clock=clock) as chat:
        chat.add_user("Hi")
        chat.set_title("Dogs")
        chat.set_metadata({"user": "ann", "tags": ["a", {"b": None}], "n": 1.5})
        assert (chat.title, chat.metadata["tags"]) == ("Dogs", ["a", {"b": None}])
    with opened(store, clock=clock) as again:
        assert again.title == "Dogs"
        assert again.metadata == {"user": "ann", "tags": ["a", {"b": None}], "n": 1.5}
        again.set_metadata({"other": True})
        assert again.metadata == {"other": True}
        again.set_title(None)
        assert again.title is None
        again.set_title("Hunde \ud83d\udc36 und \ud800")
        assert again.title == "Hunde 🐶 und \ufffd"
    assert document(store)["metadata"] == {"other": True}
    assert document(store)["title"] == "Hunde 🐶 und \ufffd"


def test_metadata_is_copied(store: FileStore) -> None:
    """Mutating a dict given to `set_metadata`, or got from `metadata`, changes nothing."""
    given: dict[str, Any] = {"tags": ["a"]}
    with opened(store) as chat:
        chat.set_metadata(given)
        given["tags"].append("b")
        got = chat.metadata
        got["tags"].append("c")
        got["more"] = 1
        assert chat.metadata == {"tags": ["a"]}
        with pytest.raises(AttributeError):
            chat.metadata = {}  # type: ignore[misc]  # read-only
        with pytest.raises(AttributeError):
            chat.title = "Dogs"  # type: ignore[misc]  # read-only
        chat.add_user("Hi")
    assert document(store)["metadata"] == {"tags": ["a"]}


@pytest.mark.parametrize(
    "value",
    [
        {"a": float("nan")},
        {"a": 2**70},
        {1: "a"},
        {"a": object()},
        {"a": b"x"},
        ["a"],
        "a",
        None,
        5,
    ],
)
def test_invalid_metadata_and_titles_are_refused(store: FileStore, value: Any) -> None:
    """Metadata that is no JSON object, and a title that is no text, are refused."""
    with opened(store) as chat:
        chat.set_metadata({"old": 1})
        before = tree(store.root)
        with pytest.raises(InvalidSetting):
            chat.set_metadata(value)
        with pytest.raises(InvalidSetting):
            chat.set_title(5)  # type: ignore[arg-type]  # not a text
        assert chat.metadata == {"old": 1}
        assert tree(store.root) == before


@pytest.mark.parametrize("timeout", ["5", True, -1, float("nan"), 10**400, None])
def test_timeout_that_is_no_number_of_seconds_is_refused(store: FileStore, timeout: Any) -> None:
    """`open`, `delete` and `repair` refuse a timeout that is no number >= 0; nothing is changed."""
    with Conversation.open("retriever", store=store) as chat:
        chat.add_user("Hello")
    before = files(store.root)
    for call in (
        lambda: Conversation.open("retriever", store=store, timeout=timeout),
        lambda: store.delete("retriever", timeout=timeout),
        lambda: store.repair("retriever", timeout=timeout),
    ):
        with pytest.raises(InvalidSetting, match="timeout must be a number of seconds >= 0, got"):
            call()
    assert files(store.root) == before
