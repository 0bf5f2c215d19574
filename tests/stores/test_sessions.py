"""`FileStore` and what an opened session promises, over real files."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from conversation._values.turns import Turn
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    InvalidTurn,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionNotFound,
    SessionReadOnly,
)
from tests.conftest import Clock
from tests.samples import PNG, SOUND, spoken

IDS = [
    "retriever",
    "Retriever",
    "RETRIEVER",
    "telegram:42",
    "ann@example.org",
    "🐶",
    "🐕‍🦺 der Hund",
    "é",
    "e\u0301",
    "ü" * 64,
    "語" * 42 + "ab",
    "語" * 42 + "ac",
    "😀" * 32,
    "x" * 128,
    "X" * 128,
    ".",
    "..",
    "...",
    ".hidden",
    "a.",
    "a..",
    "a ",
    " a",
    "a",
    " ",
    "/",
    "a/b",
    "a%2Fb",
    "%",
    "../../etc/passwd",
    "/etc/passwd",
    "a\\b",
    "C:\\x",
    "con",
    "CON",
    "NUL.txt",
    "nul",
    "com1",
    "lpt9.json",
    "aux.tar.gz",
    "a.json",
    "a.audio",
    "a.lock",
    "a.torn-1",
    "-rf",
    "~",
    "~root",
    "$HOME",
    "*",
    "a?b",
    '"<>|',
    "\u2028",
    "\u202e",
    "\ufeff",
    "\U0010ffff",
]
DEVICES = {"con", "prn", "aux", "nul", *(f"{n}{i}" for n in ("com", "lpt") for i in range(10))}


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A store of the test's own."""
    return FileStore(tmp_path / "sessions", fsync=False)


@pytest.fixture
def hasty() -> Iterator[None]:
    """What hangs for 20 seconds is broken off."""

    def break_off(_: int, __: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, break_off)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def opened(store: FileStore, **options: Any) -> Conversation:
    """The session that most tests here use."""
    return Conversation.open("retriever", store=store, **options)


def place(store: FileStore) -> Path:
    """Its document."""
    return store.root / "retriever.json"


def document(store: FileStore) -> dict[str, Any]:
    """What its document says."""
    said: dict[str, Any] = json.loads(place(store).read_bytes())
    return said


def tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Everything there: mode, file number, time of change, content or a link's target."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink()).encode()
        else:
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        number, changed = status.st_ino, status.st_mtime_ns
        found[str(path.relative_to(folder))] = (status.st_mode, number, changed, content)
    return found


def spoken_of(turn: Turn) -> AssistantAudio:
    """A spoken answer's sound."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    return turn.audio


def said_of(turn: Turn) -> AudioInput:
    """The sound that the user said."""
    assert isinstance(turn, UserTurn)
    part = turn.content[0]
    assert isinstance(part, AudioInput)
    return part


def begin(store: FileStore, clock: Clock, **options: Any) -> tuple[Turn, ...]:
    """A session with a written, a spoken and a said turn, closed."""
    with opened(store, clock=clock, **options) as chat:
        chat.add_user("Is a golden retriever a good family dog?")
        chat.add_completion(spoken("Yes, it is."))
        chat.add_user(AudioInput(SOUND, transcript="Thank you."))
        return chat.turns


# --- where sessions live ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_the_root_is_the_argument(tmp_path: Path, kind: Callable[[Path], str | Path]) -> None:
    """It is made when it is first needed, and wins over the environment."""
    store = FileStore(kind(tmp_path / "mine"))
    assert store.root == tmp_path / "mine"
    with opened(store) as chat:
        assert not store.root.exists()
        chat.add_user("Hi")
    assert place(store).is_file()
    assert not (tmp_path / "home").exists()


def test_without_an_argument_the_environment_names_the_root(tmp_path: Path) -> None:
    """`$CONVERSATION_HOME`, also for `open` without a store."""
    assert FileStore().root == tmp_path / "home"
    with Conversation.open("retriever") as chat:
        chat.add_user("Hi")
    assert (tmp_path / "home" / "retriever.json").is_file()
    assert [info.id for info in FileStore().list()] == ["retriever"]


@pytest.mark.parametrize("home", [None, ""])
def test_without_both_it_is_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    """`conversation/sessions` in it; an empty variable counts as none."""
    monkeypatch.delenv("CONVERSATION_HOME")
    if home is not None:
        monkeypatch.setenv("CONVERSATION_HOME", home)
    for name in ("HOME", "LOCALAPPDATA", "APPDATA", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "ann"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    root = FileStore().root
    assert root.is_relative_to(tmp_path / "ann")
    assert root.parts[-2:] == ("conversation", "sessions")
    with Conversation.open("retriever") as chat:
        chat.add_user("Hi")
    assert (root / "retriever.json").is_file()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_only_the_user_may_read_what_is_made(tmp_path: Path, clock: Clock, umask: int) -> None:
    """Folders have mode 0700 and files 0600, whatever the umask: those above the root too."""
    store = FileStore(tmp_path / "a" / "b" / "sessions", fsync=False)
    before = os.umask(umask)
    try:
        begin(store, clock)
        with opened(store) as chat:
            chat.set_title("Dogs")
        place(store).write_bytes(place(store).read_bytes()[:-9])
        with opened(store) as chat:
            chat.add_completion(spoken())
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(list(store.root.glob("retriever*"))) == 4, "document, sound, lock, what was torn"
    wrong = {
        str(path): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in made
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    }
    assert wrong == {}


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    """It is the user's own."""
    tmp_path.chmod(0o755)
    with opened(FileStore(tmp_path)) as chat:
        chat.add_user("Hi")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


# --- ids -------------------------------------------------------------------------------------


def test_each_id_has_a_file_of_its_own_in_the_root(store: FileStore) -> None:
    """All of these at once: none takes another's place, all resume, and `list` knows them."""
    for session_id in IDS:
        with Conversation.open(session_id, store=store) as chat:
            assert chat.turns == ()
            chat.add_user(f"I am {session_id}")
            chat.add_completion(spoken(session_id))
    assert set(store.root.parent.iterdir()) <= {store.root, store.root.parent / "home"}
    assert len(list(store.root.glob("*.json"))) == len(IDS)
    assert sorted(info.id for info in store.list()) == sorted(IDS)
    for session_id in IDS:
        with Conversation.open(session_id, store=store, create=False) as chat:
            assert chat.id == session_id
            assert chat.turns[0].text == f"I am {session_id}"
            assert spoken_of(chat.turns[1]).read() == SOUND


@pytest.mark.parametrize("session_id", IDS)
def test_a_file_name_is_one_that_every_system_takes(store: FileStore, session_id: str) -> None:
    """ASCII, not hidden, no device of Windows, no dot or space at the end, short enough."""
    name = store.session(session_id).file.name
    assert store.session(session_id).file.parent == store.root
    stem = name.removesuffix(".json")
    assert re.fullmatch(r"[A-Za-z0-9_@%~.-]+", stem)
    assert not stem.startswith(".")
    assert not stem.endswith((".", " "))
    assert stem.split(".")[0].lower() not in DEVICES
    assert len(name) <= 200


session_ids = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("aA.%/~ "), min_size=1
).filter(lambda text: len(text.encode()) <= 128)


@given(session_ids, session_ids)
def test_different_ids_have_different_names(one: str, other: str) -> None:
    """For every two ids, and so have the sounds and locks beside them."""
    store = FileStore("sessions")
    names = {store.session(one).file.name, store.session(other).file.name}
    assert len(names) == len({one, other})
    assert all(not {"/", "\0"} & set(name) for name in names)


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        "x" * 129,
        "ü" * 64 + "x",
        "😀" * 33,
        "a\0b",
        "a\nb",
        "\t",
        "a\x1f",
        "\x7f",
        "\x85",
        "\x9f",
        "\ud800",
        "a\udcff",
        b"retriever",
        42,
        None,
        Path("retriever"),
        ["retriever"],
    ],
)
def test_an_id_that_cannot_be_is_refused(store: FileStore, session_id: Any) -> None:
    """Empty, too long, with control characters or half characters, or no text: nothing is made."""
    with pytest.raises(InvalidSetting, match="id"):
        Conversation.open(session_id, store=store)
    with pytest.raises(InvalidSetting, match="id"):
        store.delete(session_id)
    assert not store.root.exists()


@pytest.mark.parametrize("said", ["other", "Retriever", None, 5, ["retriever"], ...])
def test_a_file_that_names_another_session_is_corrupt(
    store: FileStore, clock: Clock, said: Any
) -> None:
    """A copied file, or a file system that ignores case: never taken for the one asked for."""
    begin(store, clock)
    changed = document(store) | {"id": said}
    if said is ...:
        del changed["id"]
    place(store).write_text(json.dumps(changed))
    before = tree(store.root)
    for read_only in (True, False):
        with pytest.raises(SessionCorrupt, match="copied or renamed") as caught:
            opened(store, read_only=read_only)
        assert caught.value.path == place(store)
    assert tree(store.root) == before


# --- the list --------------------------------------------------------------------------------


def test_the_list_has_the_newest_first(store: FileStore, clock: Clock) -> None:
    """With id, title, times and size."""
    assert list(store.list()) == []
    for number, session_id in enumerate(["old", "newest", "newer"]):
        clock.now += 60
        with Conversation.open(session_id, store=store, clock=clock) as chat:
            chat.add_user("Hi")
            if number:
                chat.set_title(f"Title {number}")
    for age, session_id in enumerate(["newest", "newer", "old"]):
        os.utime(store.root / f"{session_id}.json", (0, 1_700_000_000 - age))
    found = store.list()
    assert [(info.id, info.title) for info in found] == [
        ("newest", "Title 1"),
        ("newer", "Title 2"),
        ("old", None),
    ]
    assert found[0].created_at == datetime(2025, 11, 1, 12, 28, 40, tzinfo=UTC)
    assert found[0].updated_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert found[0].size == (store.root / "newest.json").stat().st_size


@pytest.mark.parametrize("length", [9, 3000, 4096, 10_000, 200_000])
def test_the_list_reads_no_turns(store: FileStore, clock: Clock, length: int) -> None:
    """A session whose turns are garbage is listed all the same; long instructions are common."""
    begin(store, clock, instructions="x" * length)
    first, _, turns = place(store).read_bytes().partition(b"\n")
    place(store).write_bytes(first + b"\n\xff\0 garbage {\n" * 1000 + turns)
    with pytest.raises(SessionCorrupt):
        opened(store)
    assert [info.id for info in store.list()] == ["retriever"]


def test_a_bracket_at_the_end_of_a_block_is_no_end_of_a_line(
    store: FileStore, clock: Clock
) -> None:
    """Wherever the first line is read in pieces, brackets in its texts are only text."""
    begin(store, clock)
    with opened(store) as chat:
        for size in (1024, 2048, 4096, 8192):
            chat.set_title("[" * size)
            assert [info.title for info in store.list()] == ["[" * size]


@pytest.mark.usefixtures("hasty")
def test_the_list_passes_over_what_is_no_session(
    store: FileStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Temporary and torn files, links, folders, FIFOs, other programs' files; a warning for bad."""
    begin(store, clock)
    place(store).write_bytes(place(store).read_bytes()[:-9])
    opened(store).close()
    assert len(list(store.root.glob("retriever.torn-*"))) == 1
    content = place(store).read_bytes()
    (store.root / ".retriever.json.tmp").write_bytes(content)
    (store.root / ".hidden.json").write_bytes(content)
    (store.root / "notes.txt").write_bytes(content)
    (store.root / "retriever.json.bak").write_bytes(content)
    caplog.clear()
    assert [info.id for info in store.list()] == ["retriever"]
    assert caplog.text == "", "what looks like no session is no cause for a warning"
    (store.root / "link.json").symlink_to(place(store))
    (store.root / "dangling.json").symlink_to("nowhere")
    (store.root / "folder.json").mkdir()
    os.mkfifo(store.root / "fifo.json")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(store.root / "socket.json"))
    bad: dict[str, bytes] = {
        "empty": b"",
        "text": b"Hello",
        "foreign": b'{"name":"package","version":"1.0.0"}',
        "list": b"[1,2,3]",
        "new": b'{"conversation":2,"id":"new","turns":[\n]}\n',
        "nameless": b'{"conversation":1,"turns":[\n]}\n',
        "numbered": b'{"conversation":1,"id":5,"turns":[\n]}\n',
        "binary": bytes(range(256)) * 100,
    }
    for name, data in bad.items():
        (store.root / f"{name}.json").write_bytes(data)
    before = tree(store.root)
    assert [info.id for info in store.list()] == ["retriever"]
    assert tree(store.root) == before
    for name in bad:
        assert f"{name}.json: " in caplog.text


@pytest.mark.parametrize("indent", [None, 2])
def test_the_list_reads_other_layouts(store: FileStore, clock: Clock, indent: int | None) -> None:
    """`jq .` and `jq -c .` leave a session that is listed."""
    begin(store, clock)
    with opened(store) as chat:
        chat.set_title("Dogs")
    place(store).write_text(json.dumps(document(store), indent=indent))
    assert [(info.id, info.title) for info in store.list()] == [("retriever", "Dogs")]


@pytest.mark.parametrize("created_at", [None, 5, "yesterday", "", [], "2025-13-01T00:00:00Z"])
def test_a_header_of_odd_kinds_is_listed_without_them(
    store: FileStore, clock: Clock, created_at: Any
) -> None:
    """What is no time and no title is None."""
    begin(store, clock)
    changed = document(store) | {"created_at": created_at, "title": ["Dogs"]}
    place(store).write_text(json.dumps(changed))
    (info,) = store.list()
    assert (info.id, info.title, info.created_at) == ("retriever", None, None)


@pytest.mark.parametrize("changed_at", [0, -1, 2**40])
def test_a_file_time_of_another_age_does_not_break_the_list(
    store: FileStore, clock: Clock, changed_at: int
) -> None:
    """File systems hold times that calendars do not."""
    begin(store, clock)
    os.utime(place(store), (0, changed_at))
    assert [info.id for info in store.list()] == ["retriever"]


# --- deleting --------------------------------------------------------------------------------


def test_delete_removes_all_of_a_session_and_nothing_else(store: FileStore, clock: Clock) -> None:
    """Document, sound and lock; the neighbours stay; the id can be used anew."""
    begin(store, clock)
    beside = {"retriever.torn-0123abcd", "retriever.damaged-0123abcd"}
    for name in beside:
        (store.root / name).write_bytes(b"what was put aside")
    neighbours = ("retriever.json", "retriever.audio", "retriever.torn-0123abcd", "Retriever")
    for neighbour in (*neighbours, "retriever2"):
        with Conversation.open(neighbour, store=store) as chat:
            chat.add_completion(spoken())
    before = tree(store.root)
    store.delete("retriever")
    after = tree(store.root)
    gone = {name for name in before if name not in after}
    assert {name for name in gone if "/" not in name} == {
        "retriever.json",
        "retriever.audio",
        "retriever.lock",
        *beside,
    }
    kept = {name: state for name, state in before.items() if name not in gone and name != "."}
    assert {name: state for name, state in after.items() if name != "."} == kept
    with pytest.raises(SessionNotFound):
        opened(store, create=False)
    with opened(store) as chat:
        assert chat.turns == ()


def test_what_is_not_there_cannot_be_deleted(store: FileStore, clock: Clock) -> None:
    """`SessionNotFound`, a `LookupError`, and nothing is made for it."""
    with pytest.raises(SessionNotFound, match="retriever"):
        store.delete("retriever")
    assert not store.root.exists()
    begin(store, clock)
    store.delete("retriever")
    with pytest.raises(LookupError):
        store.delete("retriever")
    assert list(store.root.iterdir()) == []


def test_delete_follows_no_link(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    """Links in the place of the sound folder, inside it, or of the document: only they go."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "0002-7f3a.wav").write_bytes(SOUND)
    before = tree(precious)
    begin(store, clock)
    (store.root / "retriever.audio" / "out").symlink_to(precious, target_is_directory=True)
    store.delete("retriever")
    begin(store, clock)
    shutil.rmtree(store.root / "retriever.audio")
    (store.root / "retriever.audio").symlink_to(precious, target_is_directory=True)
    store.delete("retriever")
    place(store).symlink_to(precious / "0002-7f3a.wav")
    store.delete("retriever")
    assert list(store.root.iterdir()) == []
    assert tree(precious) == before


def test_a_session_deleted_while_open_stays_deleted(store: FileStore, clock: Clock) -> None:
    """A change through the old object is refused, and brings nothing back."""
    begin(store, clock)
    with opened(store) as chat:
        turns = chat.turns
        store.delete("retriever")
        with pytest.raises(SessionChanged, match="deleted"):
            chat.add_user("More")
        with pytest.raises(SessionChanged):
            chat.set_title("More")
        assert chat.turns == turns
    assert not place(store).exists()


def test_a_session_begun_anew_is_not_the_one_that_was_open(store: FileStore, clock: Clock) -> None:
    """The old object does not mix with it, however often it tries; and keeps what it holds."""
    begin(store, clock)
    with opened(store) as old:
        turns = old.turns
        store.delete("retriever")
        clock.now += 1
        with opened(store, clock=clock) as new:
            new.add_user("Something else")
        before = tree(store.root)
        for _ in range(2):
            with pytest.raises(SessionChanged, match="begun anew") as caught:
                old.add_user("More")
            assert caught.value.path == place(store)
        assert old.turns == turns
        assert tree(store.root) == before


# --- taking back -----------------------------------------------------------------------------


def test_undo_removes_the_sound_and_keeps_the_bill(store: FileStore, clock: Clock) -> None:
    """The returned turns have their bytes; `usage` counts them after a restart too."""
    begin(store, clock)
    with opened(store, clock=clock) as chat:
        chat.add_user(AudioInput(SOUND), ImageInput(PNG))
        usage = {"prompt_tokens": 5, "prompt_tokens_details": {"audio_tokens": 3}}
        chat.add_completion({**spoken("Taken back"), "usage": usage})
        before, names = chat.turns, set((store.root / "retriever.audio").iterdir())
        question, answer = chat.undo()
        assert said_of(question).read() == SOUND
        assert spoken_of(answer).read() == SOUND
        gone = names - set((store.root / "retriever.audio").iterdir())
        assert len(gone) == 3
    with opened(store, clock=clock) as again:
        assert again.turns == before[:-2]
        assert (again.usage.prompt_tokens, again.usage.prompt_audio_tokens) == (5, 3)
        again.add(question)
        again.add(answer)
        assert spoken_of(again.turns[-1]).read() == SOUND
        again.undo()
        assert again.usage.prompt_tokens == 10
    copy = Conversation.load(again.save(store.root / "copy.txt"))
    assert copy.usage == again.usage


# --- which sound is kept ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keep_sound", "files"), [("all", ["0002", "0003"]), ("user", ["0003"]), ("none", [])]
)
def test_what_is_kept_of_sound(
    tmp_path: Path, clock: Clock, keep_sound: str, files: list[str]
) -> None:
    """Only what is kept is on the disk, in any form; what is not is read from memory alone."""
    store = FileStore(tmp_path, fsync=False, keep_sound=keep_sound)
    with opened(store, clock=clock) as chat:
        chat.add_user("Hi")
        answer = chat.add_completion(spoken("Yes, it is."))
        said = chat.add_user(AudioInput(SOUND, transcript="Thank you."))
        chat.set_title("Dogs")
        chat.add_user("Bye")
        assert spoken_of(answer).read() == SOUND
        assert said_of(said).read() == SOUND
        assert spoken_of(chat.turns[1]).read() == SOUND
        assert said_of(chat.turns[2]).read() == SOUND
    found = sorted(path.name[:4] for path in tmp_path.glob("retriever.audio/*"))
    assert found == files
    assert "UklGR" not in place(store).read_text(), "no sound in the document"
    assert place(store).stat().st_size < 1500
    clock.now += 7200
    with opened(store, clock=clock) as again:
        for turn, number in ((again.turns[1], "0002"), (again.turns[2], "0003")):
            sound = spoken_of(turn) if isinstance(turn, AssistantTurn) else said_of(turn)
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


def test_pictures_and_files_are_no_sound(tmp_path: Path, clock: Clock) -> None:
    """`keep_sound="none"` keeps them."""
    store = FileStore(tmp_path, fsync=False, keep_sound="none")
    with opened(store, clock=clock) as chat:
        chat.add_user(ImageInput(PNG), FileInput(b"%PDF", "a.pdf"))
    with opened(store, clock=clock) as again:
        turn = again.turns[0]
        assert isinstance(turn, UserTurn)
        url, file = again.messages()[0]["content"]
        assert url["image_url"]["url"].startswith("data:image/png;base64,")
        assert file["file"]["file_data"].startswith("data:application/pdf;base64,")


@pytest.mark.parametrize("keep_sound", ["", "some", None, True])
def test_another_wish_for_sound_is_refused(tmp_path: Path, keep_sound: Any) -> None:
    """The error names the three there are."""
    with pytest.raises(InvalidSetting, match='"all", "user" or "none"'):
        FileStore(tmp_path, keep_sound=keep_sound)


def test_memory_holds_no_bytes_of_saved_sound(store: FileStore, clock: Clock) -> None:
    """Neither in what is returned nor in the turns; `read` gets them from the disk."""
    with opened(store, clock=clock) as chat:
        answer = chat.add_completion(spoken())
        said = chat.add_user(AudioInput(SOUND), ImageInput(PNG), FileInput(b"%PDF-1", "a.pdf"))
        assert not isinstance(spoken_of(answer).data, bytes)
        assert not isinstance(said_of(said).data, bytes)
        with opened(store) as again:
            for turns in ((answer, said), chat.turns, again.turns):
                held = pickle.dumps(turns)
                assert SOUND[40:80] not in held
                assert PNG not in held
                assert b"%PDF-1" not in held
                assert spoken_of(turns[0]).read() == SOUND
                assert said_of(turns[1]).read() == SOUND
            before = tree(store.root)
            assert again.turns == chat.turns
            assert tree(store.root) == before


def test_a_turn_of_another_session_brings_its_sound(store: FileStore, clock: Clock) -> None:
    """The bytes are copied: deleting the one leaves the other whole."""
    turns = begin(store, clock)
    with Conversation.open("other", store=store, clock=clock) as other:
        for turn in turns:
            other.add(turn)
        store.delete("retriever")
        assert spoken_of(other.turns[1]).read() == SOUND
        assert said_of(other.turns[2]).read() == SOUND


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("instead", ["nothing", "a link", "a folder", "a FIFO", "a socket"])
def test_sound_that_is_gone_is_told_and_its_words_are_sent(
    store: FileStore,
    clock: Clock,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    instead: str,
) -> None:
    """`AudioFileMissing` from `read`; rendering warns and goes on; nothing hangs or is followed."""
    begin(store, clock)
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
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.bind(str(path))
    clock.now += 7200
    with opened(store, clock=clock) as chat:
        with pytest.raises(AudioFileMissing, match=r"0002-.*wav") as caught:
            spoken_of(chat.turns[1]).read()
        assert caught.value.path is not None
        assert caught.value.path.parent == store.root / "retriever.audio"
        with pytest.raises(FileNotFoundError):
            said_of(chat.turns[2]).read()
        caplog.clear()
        messages = chat.messages()
        assert messages[1]["content"] == "Yes, it is."
        assert messages[2]["content"] == [{"type": "text", "text": "Thank you."}]
        assert "is gone" in caplog.text
        assert chat.render().messages == messages
        chat.add_user("And on")
        portable = Conversation.load(chat.save(tmp_path / "portable.json"))
        assert portable.turns[2].text == "Thank you."


def test_a_link_in_place_of_the_sound_folder_is_not_followed(
    store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    """Nothing is read through it, written through it, or removed through it."""
    begin(store, clock)
    folder, elsewhere = store.root / "retriever.audio", tmp_path / "elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)
    before = tree(elsewhere)
    with opened(store, clock=clock) as chat:
        with pytest.raises(AudioFileMissing):
            spoken_of(chat.turns[1]).read()
        with pytest.raises(SaveFailed, match="is a link") as caught:
            chat.add_completion(spoken("Two"))
        assert caught.value.turn is not None
        assert len(chat.turns) == 3
    session = store.session("retriever")
    session.discard([name for name in before if name != "."])
    assert tree(elsewhere) == before


# --- opening ---------------------------------------------------------------------------------


def test_nothing_is_written_before_the_first_turn(store: FileStore, clock: Clock) -> None:
    """Opening, looking, rendering, refused turns, saving elsewhere and closing make no session."""
    with opened(store, clock=clock, voice="echo") as chat:
        assert (chat.turns, chat.title, chat.metadata, chat.id) == ((), None, {}, "retriever")
        chat.render()
        chat.request()
        with pytest.raises(InvalidTurn):
            chat.add_user("")
        chat.save(store.root.parent / "copy.json")
    assert not place(store).exists()
    assert list(store.list()) == []
    with pytest.raises(SessionNotFound):
        opened(store, create=False)
    with opened(store, clock=clock) as chat:
        chat.add_user("Hi")
        assert len(document(store)["turns"]) == 1


@pytest.mark.parametrize("label", ["title", "metadata"])
def test_a_label_begins_a_session_too(store: FileStore, clock: Clock, label: str) -> None:
    """Without any turn."""
    with opened(store, clock=clock) as chat:
        chat.set_title("Dogs") if label == "title" else chat.set_metadata({"a": 1})
        assert document(store)["turns"] == []
    with opened(store, create=False) as again:
        assert (again.title, again.metadata) == (chat.title, chat.metadata)
        assert again.turns == ()


@pytest.mark.parametrize("options", [{"create": False}, {"read_only": True}])
def test_a_session_that_is_not_there_is_not_found(
    store: FileStore, options: dict[str, bool]
) -> None:
    """Where it must exist; nothing is made."""
    with pytest.raises(SessionNotFound, match="retriever") as caught:
        opened(store, **options)
    assert caught.value.path == place(store)
    assert not store.root.exists()


def test_create_false_opens_what_exists(store: FileStore, clock: Clock) -> None:
    """To go on with it."""
    turns = begin(store, clock)
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
def test_a_reader_changes_nothing_at_all(store: FileStore, clock: Clock, torn: bool) -> None:
    """Not a file, not a time, not a lock, also where the end is torn or the folder read-only."""
    turns = begin(store, clock)
    (store.root / "retriever.lock").unlink()
    if torn:
        place(store).write_bytes(place(store).read_bytes()[:-9])
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


def test_a_closed_session_is_read_and_not_changed(store: FileStore, clock: Clock) -> None:
    """Turns and their sound stay readable; a change says to open it anew; closing twice is fine."""
    turns = begin(store, clock)
    chat = opened(store, clock=clock)
    chat.close()
    chat.close()
    before = tree(store.root)
    for change in CHANGES.values():
        with pytest.raises(SessionReadOnly, match=r"closed.*open it anew"):
            change(chat)
    assert chat.turns == turns
    assert spoken_of(chat.turns[1]).read() == SOUND
    assert len(chat.messages()) == 3
    assert tree(store.root) == before
    with opened(store, clock=clock) as again:
        again.add_user("More")
    assert len(document(store)["turns"]) == 4


def test_leaving_the_context_closes(store: FileStore) -> None:
    """Also when it is left by an error, which goes on."""
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


def test_an_open_session_holds_few_file_handles_and_close_lets_go(
    store: FileStore, clock: Clock
) -> None:
    """A document and a lock, whatever its length."""
    handles = Path("/proc/self/fd")
    if not handles.exists():
        pytest.skip("open files are not listed here")
    before = len(list(handles.iterdir()))
    for _ in range(3):
        begin(store, clock)
    assert len(list(handles.iterdir())) == before
    with opened(store, clock=clock) as chat:
        for _ in range(5):
            chat.add_completion(spoken())
            chat.set_title("Dogs")
            spoken_of(chat.turns[1]).read()
        assert len(list(handles.iterdir())) <= before + 2
    assert len(list(handles.iterdir())) == before


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("instead", ["a link", "a folder", "a FIFO", "a socket"])
def test_what_is_no_file_in_place_of_the_document_is_corrupt(
    store: FileStore, clock: Clock, tmp_path: Path, instead: str
) -> None:
    """It is never followed, never taken for a new session, and hangs nobody."""
    begin(store, clock)
    target = tmp_path / "elsewhere.json"
    place(store).rename(target)
    match instead:
        case "a link":
            place(store).symlink_to(target)
        case "a folder":
            place(store).mkdir()
        case "a FIFO":
            os.mkfifo(place(store))
        case "a socket":
            with socket.socket(socket.AF_UNIX) as sock:
                sock.bind(str(place(store)))
    before = tree(tmp_path)
    for options in ({}, {"read_only": True}, {"create": False}):
        with pytest.raises(SessionCorrupt, match="no regular file"):
            opened(store, **options)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("fsync", [True, False])
def test_with_and_without_fsync_it_is_the_same(tmp_path: Path, clock: Clock, fsync: bool) -> None:
    """The same bytes and the same turns."""
    store = FileStore(tmp_path, fsync=fsync)
    turns = begin(store, clock)
    with opened(store, clock=clock) as chat:
        assert chat.turns == turns
        chat.set_title("Dogs")
        assert spoken_of(chat.turns[1]).read() == SOUND
    assert [entry["role"] for entry in document(store)["turns"]] == ["user", "assistant", "user"]


# --- settings --------------------------------------------------------------------------------


def test_settings_given_at_open_win_and_are_saved_with_the_next_change(
    store: FileStore, clock: Clock
) -> None:
    """Opening alone writes nothing; the others in the file stay."""
    begin(store, clock, voice="echo", instructions="Be brief.")
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


def test_a_default_that_is_given_is_saved(store: FileStore, clock: Clock) -> None:
    """It was chosen, and stays if a later version has another default; what was not, is not."""
    with opened(store, clock=clock, voice="alloy", expiry_margin=30.0) as chat:
        chat.add_user("Hi")
    assert document(store)["settings"] == {"voice": "alloy", "expiry_margin": 30.0}
    with opened(store, clock=clock, model="gpt-audio-1.5") as chat:
        chat.add_user("Hi")
    assert set(document(store)["settings"]) == {"voice", "expiry_margin", "model"}
    with opened(store, clock=clock, instructions=None) as chat:
        chat.set_title("Dogs")
    assert document(store)["settings"]["instructions"] is None


def test_client_and_clock_are_never_saved(store: FileStore, clock: Clock) -> None:
    """Nor `timeout`, `create` and the like."""
    client: Any = object()
    with opened(store, clock=clock, client=client, timeout=1.0, create=True) as chat:
        chat.add_user("Hi")
        chat.set_title("Dogs")
    assert document(store)["settings"] == {}
    assert set(document(store)) == {
        "conversation",
        "id",
        "created_at",
        "title",
        "settings",
        "metadata",
        "turns",
    }


def test_a_setting_that_cannot_work_is_refused_before_anything_is_made(store: FileStore) -> None:
    """As in `Conversation` itself."""
    with pytest.raises(InvalidSetting):
        opened(store, voice="")
    with pytest.raises(TypeError):
        opened(store, colour="red")
    assert not store.root.exists()


@pytest.mark.parametrize("settings", [{}, {"voice": "echo"}])
def test_anothers_label_does_not_take_back_a_saved_setting(
    store: FileStore, clock: Clock, settings: dict[str, str]
) -> None:
    """An object that was open before keeps using its own settings, and saves none it was not given.

    Only settings that the caller gave are saved.
    """
    begin(store, clock, **settings)
    with opened(store, clock=clock) as early, opened(store, clock=clock, voice="coral") as late:
        late.add_user("More")
        assert document(store)["settings"] == {"voice": "coral"}
        early.set_title("Dogs")
    assert document(store)["title"] == "Dogs"
    assert document(store)["settings"] == {"voice": "coral"}


@pytest.mark.parametrize("change", CHANGES)
def test_what_another_version_wrote_survives_every_change(
    store: FileStore, clock: Clock, change: str
) -> None:
    """Keys of the header, the settings, the turns and what is inside them."""
    begin(store, clock, voice="echo")
    before = document(store)
    before["colour"] = {"name": "red", "tones": [1, 2]}
    before["settings"]["speed"] = 1.5
    before["turns"][0]["mood"] = "calm"
    before["turns"][1]["audio"]["pitch"] = 440
    before["turns"][2]["content"][0]["input_audio"]["noise"] = None
    before["turns"][2]["content"][0]["weight"] = 2
    for layout in (None, 1):
        place(store).write_text(json.dumps(before, indent=layout))
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


def test_title_and_metadata_are_set_got_and_kept(store: FileStore, clock: Clock) -> None:
    """Through this object, another one, and the disk; setting again takes the old one's place."""
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


def test_metadata_is_a_copy_in_and_out(store: FileStore) -> None:
    """Changing what was given, or what was got, changes nothing in the session."""
    given: dict[str, Any] = {"tags": ["a"]}
    with opened(store) as chat:
        chat.set_metadata(given)
        given["tags"].append("b")
        got = chat.metadata
        got["tags"].append("c")
        got["more"] = 1
        assert chat.metadata == {"tags": ["a"]}
        with pytest.raises(AttributeError):
            chat.metadata = {}  # type: ignore[misc]  # what must not work
        with pytest.raises(AttributeError):
            chat.title = "Dogs"  # type: ignore[misc]  # what must not work
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
def test_metadata_that_json_cannot_hold_changes_nothing(store: FileStore, value: Any) -> None:
    """Nor does a title that is no text."""
    with opened(store) as chat:
        chat.set_metadata({"old": 1})
        before = tree(store.root)
        with pytest.raises(InvalidSetting):
            chat.set_metadata(value)
        with pytest.raises(InvalidSetting):
            chat.set_title(5)  # type: ignore[arg-type]  # what must not work
        assert chat.metadata == {"old": 1}
        assert tree(store.root) == before


# --- a copy to carry away --------------------------------------------------------------------


def test_a_saved_copy_of_a_session_has_its_sound_inside(
    store: FileStore, clock: Clock, tmp_path: Path
) -> None:
    """It is read where the session is gone, with equal bytes; saving it changes no session."""
    begin(store, clock, voice="echo")
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
    assert spoken_of(again.turns[1]).read() == SOUND
    assert said_of(again.turns[2]).read() == SOUND
    assert again.messages() == messages
    assert (again.title, again.request()["audio"]["voice"]) == ("Dogs", "echo")
    assert again.save(tmp_path / "again.json").read_bytes() == path.read_bytes()
