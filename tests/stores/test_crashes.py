"""Sessions whose files others delete, replace, link and copy, and what killed writers leave."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, FileStore, UserTurn
from conversation.errors import SaveFailed, SessionChanged, SessionNotFound
from conversation.stores._disk import Disk
from conversation.stores._session import FileSession
from tests.samples import SOUND


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A store in a folder of its own."""
    return FileStore(tmp_path / "sessions", fsync=False)


def names(store: FileStore) -> list[str]:
    """Everything in it, locks aside."""
    found = (path.relative_to(store.root) for path in store.root.rglob("*"))
    return sorted(str(path) for path in found if path.suffix != ".lock")


def killed(job: Callable[[], object]) -> None:
    """Do this in a process that is killed in the middle of it."""
    child = os.fork()
    if not child:
        try:
            job()
        finally:
            os._exit(1)  # it was not killed
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def die(*_: object, **__: object) -> None:
    """Be killed here."""
    os.kill(os.getpid(), signal.SIGKILL)


# --- deleting -------------------------------------------------------------------------------------


def test_nothing_is_left_of_a_session_whose_writer_was_killed(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole document lay beside it, under a temporary name."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("my secret", AudioInput(SOUND))

    def title() -> None:
        monkeypatch.setattr(Disk, "replace", die)
        Conversation.open("x", store=store).set_title("Title")

    killed(title)
    assert ".x.json.tmp" in names(store)
    store.delete("x")
    assert not names(store)


def test_a_writer_removes_what_another_left_who_was_killed(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that only adds a turn."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")

    def title() -> None:
        monkeypatch.setattr(Disk, "replace", die)
        Conversation.open("x", store=store).set_title("Title")

    killed(title)
    assert names(store) == [".x.json.tmp", "x.json"]
    with Conversation.open("x", store=store) as chat:
        chat.add_user("Two")
    assert names(store) == ["x.json"]


def test_a_deletion_that_was_killed_can_be_done_again(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sound does not stay for ever."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))

    def delete() -> None:
        monkeypatch.setattr(shutil, "rmtree", die)
        store.delete("x")

    killed(delete)
    assert names(store)[0] == "x.audio"
    store.delete("x")
    assert not names(store)
    with pytest.raises(SessionNotFound):
        store.delete("x")
    assert not list(store.root.iterdir())


def test_sound_of_a_birth_that_was_killed_can_be_deleted(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no session yet that would name it."""

    def begin() -> None:
        chat = Conversation.open("x", store=store)
        monkeypatch.setattr(FileSession, "rewrite", die)
        chat.add_user(AudioInput(SOUND))

    killed(begin)
    assert len(names(store)) == 2
    assert not store.list()
    store.delete("x")
    assert not names(store)


def test_what_cannot_be_deleted_is_told(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can be tried again."""
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


def test_a_deleted_session_does_not_come_back(store: FileStore) -> None:
    """Not even after another was begun in its place, and deleted too."""
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


# --- replacing and linking ------------------------------------------------------------------------


def test_a_file_that_is_replaced_while_sound_is_written_is_noticed(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No turn is acknowledged that is in a file nobody sees any more."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")
        path = store.root / "x.json"
        keep = FileSession.keep

        def slow(*arguments: Any, **options: Any) -> Any:
            kept = keep(*arguments, **options)
            (store.root / "backup").write_bytes(path.read_bytes())
            (store.root / "backup").replace(path)
            return kept

        monkeypatch.setattr(FileSession, "keep", slow)
        with pytest.raises(SessionChanged, match="another file is in its place") as caught:
            chat.add_user("Two", AudioInput(SOUND))
        assert caught.value.turn
        assert [turn.text for turn in chat.turns] == ["One"]
    assert not list((store.root / "x.audio").iterdir())


def test_a_backup_by_hard_links_stays_as_it_is(store: FileStore, tmp_path: Path) -> None:
    """The session goes on in a file of its own."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")
        before = (store.root / "x.json").read_bytes()
        os.link(store.root / "x.json", tmp_path / "backup")
        chat.add_user("Two")
        chat.add_user("Three")
    assert (tmp_path / "backup").read_bytes() == before
    with Conversation.open("x", store=store, read_only=True) as again:
        assert [turn.text for turn in again.turns] == ["One", "Two", "Three"]


def test_a_forked_child_goes_on_with_the_parents_session(store: FileStore) -> None:
    """Turns of a child and of its parent follow one another, whatever the parent did before."""
    for parent_does in ("nothing", "add_user", "set_title"):
        chat = Conversation.open(parent_does, store=store)
        chat.add_user("Parent")
        go, gone = os.pipe()
        child = os.fork()
        if not child:
            os.read(go, 1)
            try:
                chat.add_user("Child")
                os._exit(0)
            finally:
                os._exit(1)
        getattr(chat, parent_does, lambda _: None)("Words")
        os.write(gone, b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        chat.add_user("Parent again")
        words = ["Parent", *(["Words"] if parent_does == "add_user" else []), "Child"]
        assert [turn.text for turn in chat.turns] == [*words, "Parent again"]
        for descriptor in (go, gone):
            os.close(descriptor)


# --- what programs do -----------------------------------------------------------------------------


def test_a_program_may_go_to_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store's root is where it was when the store was made."""
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


def test_sessions_that_are_dropped_let_go_of_their_files(store: FileStore) -> None:
    """A bot that forgets to close them does not run out of file handles."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files cannot be counted here")
    before = len(list(descriptors.iterdir()))
    for number in range(20):
        Conversation.open(str(number), store=store).add_user("Hello")
    assert len(list(descriptors.iterdir())) <= before + 2


def test_a_session_that_is_deleted_while_it_is_repaired_is_not_found(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a disk that failed."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")
    locked = FileSession.locked

    def late(session: FileSession, timeout: float) -> Any:
        store.root.joinpath("x.json").unlink()
        return locked(session, timeout)

    monkeypatch.setattr(FileSession, "locked", late)
    with pytest.raises(SessionNotFound):
        store.repair("x")


def test_a_folder_that_cannot_be_removed_for_real(store: FileStore) -> None:
    """A file that even root may not delete."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))
    (sound,) = (store.root / "x.audio").iterdir()
    try:
        done = subprocess.run(["chattr", "+i", str(sound)], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no chattr command here")
    if done.returncode:
        pytest.skip("no file can be made immutable here")
    try:
        with pytest.raises(SaveFailed, match="could not be deleted"):
            store.delete("x")
    finally:
        subprocess.run(["chattr", "-i", str(sound)], check=True)
    store.delete("x")
    assert not names(store)


# --- dying at each step ---------------------------------------------------------------------------


class DyingDisk(Disk):
    """A disk whose user is killed before, or right after, its n-th operation."""

    def __init__(self, countdown: int, *, after: bool) -> None:
        super().__init__(fsync=False)
        self.countdown = countdown
        self.after = after

    def _do(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        self.countdown -= 1
        if self.countdown < 0 and not self.after:
            die()
        done = operation(*arguments)
        if self.countdown < 0:
            die()
        return done

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.countdown == 0 and self.after:
            super().write(descriptor, data[: len(data) // 2], at)
            die()
        self._do(super().write, descriptor, data, at)

    def create(self, path: Path, mode: int | None) -> int:
        return int(self._do(super().create, path, mode))

    def replace(self, source: Path, target: Path) -> None:
        self._do(super().replace, source, target)

    def sync(self, descriptor: int) -> None:
        self._do(super().sync, descriptor)

    def sync_folder(self, folder: Path) -> None:
        self._do(super().sync_folder, folder)


OLD = ["Old", "Older"]
STEPS: dict[str, tuple[Callable[[Conversation], object], list[list[str]]]] = {
    "birth": (lambda chat: chat.add_user("New"), [["New"]]),
    "birth with sound": (lambda chat: chat.add_user(spoken("New")), [["New"]]),
    "a turn": (lambda chat: chat.add_user("New"), [OLD, [*OLD, "New"]]),
    "sound": (lambda chat: chat.add_user(spoken("New")), [OLD, [*OLD, "New"]]),
    "a rewrite": (lambda chat: chat.set_title("New"), [OLD]),
    "undo": (lambda chat: chat.undo(), [OLD, OLD[:1]]),
    "a fork": (lambda chat: chat.fork("fork"), [OLD]),
}
"""Changes, and what may be there afterwards, if anything is."""


def spoken(words: str) -> AudioInput:
    """Sound with its words."""
    return AudioInput(SOUND, transcript=words)


def finishes(change: Callable[[Conversation], object], store: FileStore, disk: Disk) -> bool:
    """Whether a process can do this on that disk before it dies."""
    child = os.fork()
    if not child:
        chat = Conversation.open("x", store=store)
        store._disk = disk
        session: Any = chat._history._journal.session  # type: ignore[union-attr]
        session._disk = session._document._disk = disk
        change(chat)
        os._exit(0)
    return not os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def is_whole(session_id: str, store: FileStore) -> list[str]:
    """The words of a session whose sound is all there, and to which turns can be added."""
    with Conversation.open(session_id, store=store) as chat:
        words = [turn.text for turn in chat.turns]
        parts = [p for turn in chat.turns if isinstance(turn, UserTurn) for p in turn.content]
        assert all(part.read() == SOUND for part in parts if isinstance(part, AudioInput))
        chat.add_user("And on")
    with Conversation.open(session_id, store=store, read_only=True) as chat:
        assert [turn.text for turn in chat.turns] == [*words, "And on"]
        assert chat.recovered is None
    return words


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", STEPS)
def test_who_dies_at_any_step_leaves_the_old_state_or_the_new(
    name: str, after: bool, tmp_path: Path
) -> None:
    """Never half of it: all turns before are there with their sound, and it goes on."""
    change, states = STEPS[name]
    for step in range(40):
        store = FileStore(tmp_path / str(step), fsync=False)
        if not name.startswith("birth"):
            with Conversation.open("x", store=store) as chat:
                chat.add_user("Old")
                chat.add_user(spoken("Older"))
        if finishes(change, store, DyingDisk(step, after=after)):
            break
        there = [info.id for info in store.list()]
        assert "x" in there or name.startswith("birth")
        assert all(is_whole(session_id, store) in states for session_id in there)
        for session_id in ("x", "fork"):
            if store.session(session_id).exists():
                store.delete(session_id)
        assert not names(store)
    assert 2 <= step < 39
