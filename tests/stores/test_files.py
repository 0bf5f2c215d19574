"""`FileStore`: its root, the file names of session ids, `list` and `delete`."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation import AudioInput, Conversation, FileStore, UserTurn
from conversation.errors import (
    InvalidSetting,
    SaveFailed,
    SessionChanged,
    SessionCorrupt,
    SessionNotFound,
)
from tests.conftest import Clock
from tests.samples import SOUND, spoken
from tests.stores.samples import answer_audio, create, document, names, opened, path_of, tree

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
    "ü" * 256,
    "語" * 170 + "ab",
    "語" * 170 + "ac",
    "😀" * 128,
    "29:" + "x" * 255,
    "x" * 512,
    "X" * 512,
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
WINDOWS_DEVICES = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"{n}{i}" for n in ("com", "lpt") for i in range(10)),
}


# --- root -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, Path])
def test_root_argument_wins_over_the_environment(
    tmp_path: Path, kind: Callable[[Path], str | Path]
) -> None:
    """`FileStore(root)` ignores `$CONVERSATION_HOME`; the first write creates the root."""
    store = FileStore(kind(tmp_path / "mine"))
    assert store.root == tmp_path / "mine"
    with opened(store) as chat:
        assert not store.root.exists()
        chat.add_user("Hi")
    assert path_of(store).is_file()
    assert not (tmp_path / "home").exists()


def test_root_may_begin_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the user's home, in an argument and in `$CONVERSATION_HOME`; an unknown user's not."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("~/x", Path("~/x")):
        assert FileStore(root).root == tmp_path / "x"
    assert FileStore(tmp_path / "~").root == tmp_path / "~"
    monkeypatch.setenv("CONVERSATION_HOME", "~/y")
    assert FileStore().root == tmp_path / "y"
    with pytest.raises(InvalidSetting, match="write it in full"):
        FileStore("~nobody-of-this-name/x")


def test_root_defaults_to_conversation_home(tmp_path: Path) -> None:
    """Without a root, `FileStore()` and `open()` use `$CONVERSATION_HOME`."""
    assert FileStore().root == tmp_path / "home"
    with Conversation.open("retriever") as chat:
        chat.add_user("Hi")
    assert (tmp_path / "home" / "retriever.json").is_file()
    assert [info.id for info in FileStore().list()] == ["retriever"]


@pytest.mark.parametrize("home", [None, ""])
def test_root_falls_back_to_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    """Without root and `$CONVERSATION_HOME`, sessions go to the user's data folder."""
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
def test_new_files_are_private_under_every_umask(tmp_path: Path, clock: Clock, umask: int) -> None:
    """New folders, even above the root, have mode 0700 and files 0600, under every umask."""
    store = FileStore(tmp_path / "a" / "b" / "sessions", fsync=False)
    before = os.umask(umask)
    try:
        create(store, clock)
        with opened(store) as chat:
            chat.set_title("Dogs")
            chat.add_user("Bye.")
        path_of(store).write_bytes(path_of(store).read_bytes()[:-9])
        with opened(store) as chat:
            chat.add_completion(spoken())
    finally:
        os.umask(before)
    made = [tmp_path / "a", *(tmp_path / "a").rglob("*")]
    assert len(list(store.root.glob("retriever*"))) == 4, "document, sound, lock, torn end"
    wrong = {
        str(path): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in made
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    }
    assert wrong == {}


def test_existing_root_keeps_its_mode(tmp_path: Path) -> None:
    """A root folder that existed before keeps its mode."""
    tmp_path.chmod(0o755)
    with opened(FileStore(tmp_path)) as chat:
        chat.add_user("Hi")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_relative_root_is_resolved_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative root is resolved when the store is created; a later `chdir` does not move it."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVERSATION_HOME", "home")
    for store in (FileStore("sessions"), FileStore()):
        with Conversation.open("x", store=store) as chat:
            chat.add_user(AudioInput(SOUND))
            monkeypatch.chdir("elsewhere")
            chat.add_user("Words")
            turn = chat.turns[0]
            assert isinstance(turn, UserTurn)
            assert isinstance(turn.content[0], AudioInput)
            assert turn.content[0].read() == SOUND
            monkeypatch.chdir("..")
    assert not list((tmp_path / "elsewhere").iterdir())


# --- ids ------------------------------------------------------------------------------------------


def test_every_id_has_its_own_file_in_the_root(store: FileStore) -> None:
    """Sessions with unusual ids live side by side in the root, resume, and are listed."""
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
            assert answer_audio(chat.turns[1]).read() == SOUND


@pytest.mark.parametrize("session_id", IDS)
def test_file_names_are_portable(store: FileStore, session_id: str) -> None:
    """A session's file name is short printable ASCII, not hidden, and no device name on Windows."""
    name = store.session(session_id).file.name
    assert store.session(session_id).file.parent == store.root
    stem = name.removesuffix(".json")
    assert re.fullmatch(r"[A-Za-z0-9_@%~.-]+", stem)
    assert not stem.startswith(".")
    assert not stem.endswith((".", " "))
    assert stem.split(".")[0].lower() not in WINDOWS_DEVICES
    assert len(name) <= 200


session_ids = st.text(
    st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("aA.%/~ "), min_size=1
).filter(lambda text: len(text.encode()) <= 512)


@given(session_ids, session_ids)
def test_different_ids_have_different_file_names(one: str, other: str) -> None:
    """Any two different ids map to different file names without path separators."""
    store = FileStore("sessions")
    files = {store.session(one).file.name, store.session(other).file.name}
    assert len(files) == len({one, other})
    assert all(not {"/", "\0"} & set(name) for name in files)


@pytest.mark.parametrize(
    "session_id",
    [
        "",
        "x" * 513,
        "ü" * 256 + "x",
        "😀" * 129,
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
def test_invalid_id_is_refused(store: FileStore, session_id: Any) -> None:
    """Ids must be texts of 1 to 512 bytes without control characters and surrogates."""
    with pytest.raises(InvalidSetting, match="id"):
        Conversation.open(session_id, store=store)
    with pytest.raises(InvalidSetting, match="id"):
        store.delete(session_id)
    assert not store.root.exists()


@pytest.mark.parametrize("named", ["other", "Retriever", None, 5, ["retriever"], ...])
def test_document_with_another_id_is_corrupt(store: FileStore, clock: Clock, named: Any) -> None:
    """Opening a document that holds another id, such as a copied file, raises `SessionCorrupt`."""
    create(store, clock)
    changed = document(store) | {"id": named}
    if named is ...:
        del changed["id"]
    path_of(store).write_text(json.dumps(changed))
    before = tree(store.root)
    for read_only in (True, False):
        with pytest.raises(SessionCorrupt, match="copied or renamed") as caught:
            opened(store, read_only=read_only)
        assert caught.value.path == path_of(store)
    assert tree(store.root) == before


@pytest.mark.parametrize("named", ["Retriever", "RETRIEVER", "other"])
def test_delete_and_repair_refuse_the_file_of_another_session(
    store: FileStore, clock: Clock, named: str
) -> None:
    """A file that holds another id, as where case is ignored, is neither deleted nor taken over."""
    create(store, clock)
    path_of(store).write_text(json.dumps(document(store) | {"id": named}))
    before = tree(store.root)
    for call in (store.delete, store.repair):
        with pytest.raises(SessionCorrupt, match=f"it is the session '{named}', not 'retriever'"):
            call("retriever")
        assert tree(store.root) == before
    path_of(store).write_bytes(b"<<<" + path_of(store).read_bytes() + b">>>")
    with pytest.raises(SessionCorrupt, match=f"it is the session '{named}'"):
        store.repair("retriever")


def test_session_of_a_later_version_is_deleted_but_not_that_of_another_id(
    store: FileStore, clock: Clock
) -> None:
    """The id in a document counts, whatever its format; a document without one is deleted."""
    create(store, clock)
    for text in ('{"conversation":99,"id":"Retriever","turns":[]}', '{"id":"x"}'):
        path_of(store).write_text(text)
        with pytest.raises(SessionCorrupt):
            store.delete("retriever")
    path_of(store).write_text('{"conversation":99,"id":"retriever"}')
    store.delete("retriever")
    path_of(store).write_text('{"conversation":99,')
    store.delete("retriever")
    assert not path_of(store).exists()


# --- list -----------------------------------------------------------------------------------------


def test_list_shows_a_file_only_under_the_name_of_its_id(
    store: FileStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """A copy that a synchronization left is a warning, and lends its old date to no session."""
    create(store, clock)
    for name in ("retriever (conflicted copy)", "retriever 2", "Retriever.bak", "other"):
        copy = store.root / f"{name}.json"
        copy.write_bytes(path_of(store).read_bytes())
        os.utime(copy, (0, 0))
    (info,) = store.list()
    assert (info.id, info.updated_at.year > 1970) == ("retriever", True)
    assert "retriever (conflicted copy).json" in caplog.text
    assert "it is the session 'retriever', not 'retriever (conflicted copy)'" in caplog.text
    assert len(caplog.records) == 4
    path_of(store).unlink()
    assert store.list() == []


def test_list_is_sorted_by_time_of_change(store: FileStore, clock: Clock) -> None:
    """`list` yields id, title, times and size of each session, the latest change first."""
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
def test_list_reads_only_the_header(store: FileStore, clock: Clock, length: int) -> None:
    """`list` shows a session with damaged turns, after a header of any length."""
    create(store, clock, instructions="x" * length)
    first, _, turns = path_of(store).read_bytes().partition(b"\n")
    path_of(store).write_bytes(first + b"\n\xff\0 garbage {\n" * 1000 + turns)
    with pytest.raises(SessionCorrupt):
        opened(store)
    assert [info.id for info in store.list()] == ["retriever"]


def test_list_reads_headers_with_brackets_at_block_ends(store: FileStore, clock: Clock) -> None:
    """`list` reads a title of 1 to 8 KiB of `[`, although it reads headers in blocks."""
    create(store, clock)
    with opened(store) as chat:
        for size in (1024, 2048, 4096, 8192):
            chat.set_title("[" * size)
            assert [info.title for info in store.list()] == ["[" * size]


@pytest.mark.usefixtures("no_hang")
def test_list_skips_files_that_are_no_sessions(
    store: FileStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """`list` skips foreign files, links, folders and FIFOs, and logs the bad documents."""
    create(store, clock)
    path_of(store).write_bytes(path_of(store).read_bytes()[:-9])
    opened(store).close()
    assert len(list(store.root.glob("retriever.torn-*"))) == 1
    content = path_of(store).read_bytes()
    (store.root / ".retriever.json.tmp").write_bytes(content)
    (store.root / ".hidden.json").write_bytes(content)
    (store.root / "notes.txt").write_bytes(content)
    (store.root / "retriever.json.bak").write_bytes(content)
    caplog.clear()
    assert [info.id for info in store.list()] == ["retriever"]
    assert caplog.text == "", "no warning about files with other names"
    (store.root / "link.json").symlink_to(path_of(store))
    (store.root / "dangling.json").symlink_to("nowhere")
    (store.root / "folder.json").mkdir()
    os.mkfifo(store.root / "fifo.json")
    # Relative: the path of a socket has at most some 100 bytes.
    with socket.socket(socket.AF_UNIX) as sock, contextlib.chdir(store.root):
        sock.bind("socket.json")
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
def test_list_reads_reformatted_documents(
    store: FileStore, clock: Clock, indent: int | None
) -> None:
    """`list` shows a session that `jq .` or `jq -c .` has reformatted."""
    create(store, clock)
    with opened(store) as chat:
        chat.set_title("Dogs")
    path_of(store).write_text(json.dumps(document(store), indent=indent))
    assert [(info.id, info.title) for info in store.list()] == [("retriever", "Dogs")]


@pytest.mark.parametrize("created_at", [None, 5, "yesterday", "", [], "2025-13-01T00:00:00Z"])
def test_list_omits_a_malformed_title_and_time(
    store: FileStore, clock: Clock, created_at: Any
) -> None:
    """`list` reports a malformed title or time of creation as None."""
    create(store, clock)
    changed = document(store) | {"created_at": created_at, "title": ["Dogs"]}
    path_of(store).write_text(json.dumps(changed))
    (info,) = store.list()
    assert (info.id, info.title, info.created_at) == ("retriever", None, None)


@pytest.mark.parametrize("changed_at", [0, -1, 2**40])
def test_list_accepts_any_modification_time(
    store: FileStore, clock: Clock, changed_at: int
) -> None:
    """`list` accepts modification times that are outside the range of `datetime`."""
    create(store, clock)
    os.utime(path_of(store), (0, changed_at))
    assert [info.id for info in store.list()] == ["retriever"]


@pytest.mark.parametrize(
    "beginning", [b"", b"{\n", b'{"conversation":1,"title":"', b'{"conversation":1,"id":"x"}\n']
)
def test_list_reads_no_huge_file(
    beginning: bytes, store: FileStore, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside a sparse file of 1 GB, `list` takes some megabytes, and warns."""
    create(store, clock)
    path = store.root / "x.json"
    path.write_bytes(beginning)
    os.truncate(path, 2**30)
    tracemalloc.start()
    try:
        assert [info.id for info in store.list()] == ["retriever"]
        assert tracemalloc.get_traced_memory()[1] < 64 * 2**20
    finally:
        tracemalloc.stop()
    assert "skipping" in caplog.text
    assert "x.json" in caplog.text


def test_a_session_whose_header_is_too_long_for_list_can_be_opened(
    store: FileStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond 16 MB it is skipped with a warning, and nothing is lost."""
    metadata = {"notes": "x" * 2**24}
    with Conversation.open("x", store=store) as chat:
        chat.add_user("Hello")
        chat.set_metadata(metadata)
    assert list(store.list()) == []
    assert "hold no header" in caplog.text
    assert Conversation.open("x", store=store, create=False).metadata == metadata


# --- delete ---------------------------------------------------------------------------------------


def test_delete_removes_all_files_of_one_session(store: FileStore, clock: Clock) -> None:
    """`delete` removes document, sound, lock and salvaged files of this session only."""
    create(store, clock)
    beside = {"retriever.torn-0123abcd", "retriever.damaged-0123abcd"}
    for name in beside:
        (store.root / name).write_bytes(b"put aside")
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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("retriever.json", kind) for kind in ("fifo", "socket", "link")),
        *(("retriever.audio", kind) for kind in ("fifo", "socket", "link", "file", "odd files")),
    ],
)
@pytest.mark.usefixtures("no_hang")
def test_delete_removes_whatever_has_the_name(
    name: str, kind: str, store: FileStore, clock: Clock, tmp_path: Path, monkeypatch: Any
) -> None:
    """A FIFO does not block it, and a link is not followed."""
    create(store, clock)
    path = store.root / name
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    monkeypatch.chdir(store.root)  # the path of a socket has to be short
    if kind == "fifo":
        os.mkfifo(name)
    elif kind == "socket":
        bound(name)
    elif kind == "file":
        path.write_bytes(b"x")
    elif kind == "link":
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "precious").touch()
        path.symlink_to(tmp_path / "target")
    else:
        (path / "folder").mkdir(parents=True)
        os.mkfifo(path / "folder" / "fifo")
        os.mkfifo(path / "fifo")
        bound(f"{name}/socket")
        (path / "link").symlink_to(tmp_path)
    store.delete("retriever")
    assert list(store.root.iterdir()) == []
    assert kind != "link" or (tmp_path / "target" / "precious").exists()


def bound(name: str) -> None:
    """Make a socket in the file system."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(name)


def test_delete_of_an_unknown_session_is_refused(store: FileStore, clock: Clock) -> None:
    """Deleting an unknown session raises `SessionNotFound` and creates nothing."""
    with pytest.raises(SessionNotFound, match="retriever") as missing:
        store.delete("retriever")
    assert missing.value.session_id == "retriever"
    assert not store.root.exists()
    create(store, clock)
    store.delete("retriever")
    with pytest.raises(LookupError):
        store.delete("retriever")
    assert list(store.root.iterdir()) == []


def test_delete_does_not_follow_links(store: FileStore, clock: Clock, tmp_path: Path) -> None:
    """`delete` removes links in place of a session's files, and leaves their targets alone."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "0002-7f3a.wav").write_bytes(SOUND)
    before = tree(precious)
    create(store, clock)
    (store.root / "retriever.audio" / "out").symlink_to(precious, target_is_directory=True)
    store.delete("retriever")
    create(store, clock)
    shutil.rmtree(store.root / "retriever.audio")
    (store.root / "retriever.audio").symlink_to(precious, target_is_directory=True)
    store.delete("retriever")
    path_of(store).symlink_to(precious / "0002-7f3a.wav")
    store.delete("retriever")
    assert list(store.root.iterdir()) == []
    assert tree(precious) == before


def test_failed_delete_can_be_retried(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`delete` raises `SaveFailed` if a folder cannot be removed, and can be retried."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))

    def refuse(path: Any) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", refuse)
        with pytest.raises(SaveFailed, match=r"could not be deleted \(Operation not permitted"):
            store.delete("x")
    assert names(store)[0] == "x.audio"
    store.delete("x")
    assert not names(store)


def test_delete_of_an_immutable_file_fails(store: FileStore) -> None:
    """`delete` raises `SaveFailed` while a file is immutable, and can be retried."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))
    (sound,) = (store.root / "x.audio").iterdir()
    try:
        done = subprocess.run(["chattr", "+i", str(sound)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("chattr is not installed")
    if done.returncode:
        pytest.skip("the file system has no immutable files")
    try:
        with pytest.raises(SaveFailed, match="could not be deleted"):
            store.delete("x")
    finally:
        subprocess.run(["chattr", "-i", str(sound)], check=True)
    store.delete("x")
    assert not names(store)


def test_change_after_delete_is_refused(store: FileStore, clock: Clock) -> None:
    """A change through an object whose session was deleted raises `SessionChanged`."""
    create(store, clock)
    with opened(store) as chat:
        turns = chat.turns
        store.delete("retriever")
        with pytest.raises(SessionChanged, match="deleted"):
            chat.add_user("More")
        with pytest.raises(SessionChanged):
            chat.set_title("More")
        assert chat.turns == turns
    assert not path_of(store).exists()


def test_recreated_session_is_not_mixed_with_the_old_one(store: FileStore, clock: Clock) -> None:
    """An object whose session was deleted and recreated can never change the new one."""
    create(store, clock)
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
            assert caught.value.path == path_of(store)
        assert old.turns == turns
        assert tree(store.root) == before


def test_no_change_brings_a_deleted_session_back(store: FileStore) -> None:
    """No change restores a deleted session, even after its id was reused and deleted."""
    old = Conversation.open("x", store=store)
    old.add_user("old secret")
    store.delete("x")
    with Conversation.open("x", store=store) as new:
        new.add_user("New")
    changes: tuple[Callable[[], object], ...] = (
        lambda: old.set_title("Title"),
        lambda: old.add_user("More"),
        old.undo,
    )
    for change in changes:
        with pytest.raises(SessionChanged, match="begun anew"):
            change()
    store.delete("x")
    for change in changes:
        with pytest.raises(SessionChanged, match="it was deleted"):
            change()
    assert not names(store)
    assert old.turns[0].text == "old secret"


@pytest.mark.parametrize("changed_at", [-1e12, -7e10, 253402300799, 1e12])
def test_times_beyond_the_calendar_are_listed(tmp_path: Path, changed_at: float) -> None:
    """A file with an absurd time of its last change keeps no session from the list, in any zone."""
    store = FileStore(tmp_path)
    for name in ("a", "b"):
        Conversation.open(name, store=store).add_user("Hello")
    os.utime(tmp_path / "a.json", (changed_at, changed_at))
    listed = {info.id: info.updated_at for info in store.list()}
    assert set(listed) == {"a", "b"}
    for hours in (-14, 14):
        assert listed["a"].astimezone(timezone(timedelta(hours=hours)))
