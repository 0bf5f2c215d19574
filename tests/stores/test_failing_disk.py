"""Disks that are full, broken or read-only: a failed save loses no turn and keeps the old file."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  # a child without rights cannot import it later
import pytest
from openai import BadRequestError, OpenAI

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Conversation,
    FileStore,
    UserTurn,
)
from conversation.errors import SaveFailed, SessionCorrupt
from conversation.stores._disk import Disk
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import SOUND, spoken
from tests.stores.faulty_disk import FaultyDisk, files, limited_file_size
from tests.stores.processes.child import exit_code_of

CHANGES: dict[str, Any] = {
    "text": lambda chat: chat.add_user("More words"),
    "sound": lambda chat: chat.add_completion(spoken()),
    "user sound": lambda chat: chat.add_user(AudioInput(SOUND)),
    "title": lambda chat: chat.set_title("Other"),
    "undo": lambda chat: chat.undo() or chat.set_title("Nothing to undo"),
    "extend": lambda chat: chat.extend([UserTurn("New"), UserTurn((AudioInput(SOUND),))]),
    "remove": lambda chat: chat.remove(*chat.turns[:1]) or chat.set_title("Nothing to remove"),
}
LABELS = ("title", "undo", "extend", "remove")
"""Changes that add no single turn."""


@pytest.fixture
def disk() -> FaultyDisk:
    """Return a disk that fails on demand."""
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> FileStore:
    """Return a store on that disk."""
    store = FileStore(tmp_path)
    store._disk = disk
    return store


def failure_of(change: Callable[[], object]) -> SaveFailed | None:
    """Return the error of a change; None if it succeeds."""
    try:
        change()
    except SaveFailed as failure:
        return failure
    return None


def begin(store: FileStore, clock: Clock, *, begun: bool) -> Conversation:
    """Open a session, with two turns if `begun`."""
    chat = Conversation.open("retriever", store=store, clock=clock)
    if begun:
        chat.add_user("First")
        chat.add_completion(spoken("Second"))
    return chat


def count_of(operation: str, change: str, root: Path, clock: Clock, *, begun: bool) -> int:
    """Count the operations of this kind that the change takes."""
    store = FileStore(root)
    store._disk = disk = FaultyDisk()
    with begin(store, clock, begun=begun) as chat:
        disk.done.clear()
        CHANGES[change](chat)
    return disk.done.count(operation)


class SilentDisk(Disk):
    """A disk that takes a few bytes of each write, and at times none."""

    def __init__(self) -> None:
        super().__init__(fsync=False)
        self.most = 7

    def write_some(self, descriptor: int, data: bytes, at: int) -> int:
        return super().write_some(descriptor, data[: self.most], at) if self.most else 0


@pytest.mark.parametrize("change", ["text", "sound", "title"])
@pytest.mark.usefixtures("no_hang")
def test_a_write_of_no_bytes_fails(change: str, tmp_path: Path, clock: Clock) -> None:
    """The change raises `SaveFailed` and releases the lock; short writes are continued."""
    store = FileStore(tmp_path)
    store._disk = disk = SilentDisk()
    chat = begin(store, clock, begun=True)
    before = (tmp_path / "retriever.json").read_bytes()
    disk.most = 0
    with pytest.raises(SaveFailed, match="no byte was written"):
        CHANGES[change](chat)
    assert (tmp_path / "retriever.json").read_bytes() == before
    disk.most = 7
    with Conversation.open("retriever", store=FileStore(tmp_path), timeout=0.1) as other:
        other.add_user("The lock is free")
    CHANGES[change](chat)
    assert "The lock is free" in [turn.text for turn in chat.turns]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("operation", ["create", "write", "sync", "replace", "sync_folder"])
def test_failed_operation_changes_nothing(
    operation: str, change: str, begun: bool, error: int, clock: Clock, tmp_path: Path
) -> None:
    """A failed operation of any kind leaves file and memory unchanged; a retry succeeds."""
    steps = count_of(operation, change, tmp_path / "whole", clock, begun=begun)
    # Only an appended text creates no file.
    assert steps or (change == "text" and begun and operation not in ("write", "sync"))
    for step in range(steps):
        store = FileStore(tmp_path / str(step))
        store._disk = disk = FaultyDisk()
        with begin(store, clock, begun=begun) as chat:
            before, turns, title = files(store.root), chat.turns, chat.title
            disk.arm(operation, step, error)
            failure = failure_of(lambda chat=chat: CHANGES[change](chat))  # type: ignore[misc]
            assert disk.fails is None
            assert failure is not None
            assert os.strerror(error) in str(failure)
            assert (chat.turns, chat.title) == (turns, title)
            after = files(store.root)
            # After a failed sync the turn may be on the disk nevertheless: its sound stays.
            is_unknown = operation.startswith("sync")
            assert {n: d for n, d in after.items() if not is_unknown or n in before} == before
            with Conversation.open("retriever", store=store) as other:
                assert (other.turns, other.recovered) == (turns, None)
            assert (failure.turn is None) is (change in LABELS)
            if failure.turn is None:
                CHANGES[change](chat)
            else:
                added = chat.add(failure.turn)
                assert added.text == failure.turn.text
                assert chat.turns == (*turns, added)
        with Conversation.open("retriever", store=store, create=False) as again:
            assert (again.turns, again.title) == (chat.turns, chat.title)
            spoken_turns = [turn for turn in again.turns if isinstance(turn, AssistantTurn)]
            assert all(turn.audio and turn.audio.read() == SOUND for turn in spoken_turns)


def test_disk_without_locks_is_named_with_the_remedy(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """On a file system without locks, the error says where to keep sessions instead."""
    chat = begin(store, clock, begun=True)
    for number in (errno.ENOLCK, errno.ENOTSUP):
        disk.arm("write", error=number)
        with pytest.raises(SaveFailed, match=r"no file locks: keep sessions on a local disk"):
            chat.add_user("Hi")
    disk.arm("write", error=errno.EIO)
    with pytest.raises(SaveFailed) as caught:
        chat.add_user("Hi")
    assert "file locks" not in str(caught.value)


def test_order_of_disk_operations(store: FileStore, disk: FaultyDisk, clock: Clock) -> None:
    """Sound is durable before the turn that names it, and a new file before its folder."""
    whole = ["create", "write", "sync", "replace", "sync_folder"]
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        chat.add_user(AudioInput(SOUND))  # creates the folder
        disk.done.clear()
        chat.add_user(AudioInput(SOUND))
        assert disk.done == [*whole, "write", "write", "sync"]  # the turn, and the number of turns
        disk.done.clear()
        chat.set_title("Title")
        assert disk.done == whole


def test_append_writes_beyond_the_old_end_first(
    store: FileStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An append writes the bytes beyond the old end first, and then replaces the closing bytes."""
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        end = (store.root / "retriever.json").stat().st_size
        places = []
        write = store._disk.write

        def noted(descriptor: int, data: bytes, at: int) -> None:
            places.append(at)
            write(descriptor, data, at)

        monkeypatch.setattr(store._disk, "write", noted)
        chat.add_user("x" * 5000)
        assert places == [end, end - len(b"\n]}\n")]


def test_failed_rollback_duplicates_no_turn(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """If an append and its rollback fail, the next write replaces the file, without duplicates."""
    for restoring in ("write", "truncate"):
        with Conversation.open(restoring, store=store, clock=clock) as chat:
            chat.add_user("First")
            path = store.root / f"{restoring}.json"
            inode = path.stat().st_ino
            disk.arm("sync", 0, errno.EIO, then=restoring)
            with pytest.raises(SaveFailed) as caught:
                chat.add_user("Second")
            assert disk.fails is None
            assert caught.value.turn
            chat.add(caught.value.turn)
            assert path.stat().st_ino != inode
            assert [turn.text for turn in chat.turns] == ["First", "Second"]
        with Conversation.open(restoring, store=store) as again:
            assert [turn.text for turn in again.turns] == ["First", "Second"]


def test_failed_write_leaks_no_descriptor(
    store: FileStore, disk: FaultyDisk, clock: Clock, count_descriptors: Callable[[], int]
) -> None:
    """A failed write leaks no file descriptor, at any operation."""
    with begin(store, clock, begun=True) as chat:
        before = count_descriptors()
        for operation in ("create", "write", "sync", "replace", "sync_folder"):
            for change in ("user sound", "title"):
                disk.arm(operation)
                assert failure_of(lambda change=change: CHANGES[change](chat))  # type: ignore[misc]
        assert count_descriptors() == before


def test_write_after_a_failed_sync_replaces_the_file(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """The write after a failed sync replaces the file, as its content on disk is unknown."""
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        path = store.root / "retriever.json"
        inode = path.stat().st_ino
        disk.arm("sync", 0, errno.EIO)
        with pytest.raises(SaveFailed) as caught:
            chat.add_user("Second")
        assert caught.value.turn is not None
        assert path.stat().st_ino == inode
        chat.add(caught.value.turn)
        assert path.stat().st_ino != inode
        inode = path.stat().st_ino
        chat.add_user("Third")
        assert path.stat().st_ino == inode
    with Conversation.open("retriever", store=store) as again:
        assert [turn.text for turn in again.turns] == ["First", "Second", "Third"]


def test_full_disk_during_say_loses_no_turn(
    store: FileStore, disk: FaultyDisk, clock: Clock, client: OpenAI
) -> None:
    """A full disk during `say` keeps the question, and `SaveFailed` carries the answer."""
    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        disk.arm("write")
        with pytest.raises(SaveFailed):
            chat.say("One")
        assert not chat.turns
        disk.arm("write", 1)
        with pytest.raises(SaveFailed) as caught:
            chat.say("One")
        assert [turn.text for turn in chat.turns] == ["One"]
        assert caught.value.turn is not None
        assert "add(error.turn)" in "".join(caught.value.__notes__)
        chat.add(caught.value.turn)
        assert chat.turns[-1].text.startswith("You wrote: One")
        assert "1 of my earlier answers by voice" in chat.say("Two").text


def test_lost_audio_id_is_saved_by_the_next_write(
    store: FileStore,
    disk: FaultyDisk,
    clock: Clock,
    server: StandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """`say` succeeds if a lost audio id cannot be saved; the next write saves it."""
    client = server.client()
    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        first = chat.say("One")
        assert first.audio is not None
        server.forget(str(first.audio.id))
        disk.arm("replace")
        assert "from transcripts" in chat.say("Two").text
        assert "could not be saved" in caplog.text
    with Conversation.open("retriever", store=store, clock=clock) as again:
        assert again.render().items[1].why == "transcript, server lost it"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a real file system of 256 KB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("mount is not installed")
    if done.returncode:
        pytest.skip(f"mounting failed: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_real_full_disk(small_disk: Path, clock: Clock) -> None:
    """A full file system raises `SaveFailed`; its turn can be added once there is room."""
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(100_000))
    store = FileStore(small_disk / "sessions")
    with Conversation.open("retriever", store=store, clock=clock) as chat:

        def fill() -> None:
            for number in range(10_000):
                chat.add_user(f"{number} {'x' * 4000}")

        with pytest.raises(SaveFailed, match="No space left") as caught:
            fill()
        turns = chat.turns
        assert len(turns) > 10
        with Conversation.open("retriever", store=store, read_only=True) as reader:
            assert (reader.turns, reader.recovered) == (turns, None)
        with pytest.raises(SaveFailed, match="No space left"):
            chat.add_user(AudioInput.from_pcm(bytes(150_000), 24_000))
        ballast.unlink()
        assert caught.value.turn is not None
        chat.add(caught.value.turn)
        assert len(chat.turns) == len(turns) + 1
    with Conversation.open("retriever", store=store) as again:
        assert again.turns == chat.turns


def test_file_size_limit(tmp_path: Path, clock: Clock) -> None:
    """A write that the limit `RLIMIT_FSIZE` stops halfway raises `SaveFailed`, changing no file."""
    store = FileStore(tmp_path)
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        before = files(tmp_path)
        contents: list[str | AudioInput] = ["y" * 2000, AudioInput(SOUND)]
        with limited_file_size(1000):
            for content in contents:
                with pytest.raises(SaveFailed, match="File too large") as caught:
                    chat.add_user(content)
                assert files(tmp_path) == before
        assert caught.value.turn is not None
        chat.add(caught.value.turn)
    with Conversation.open("retriever", store=store) as again:
        assert again.turns == chat.turns


def test_keyboard_interrupt_during_a_sync_changes_nothing(store: FileStore, clock: Clock) -> None:
    """Ctrl-C during a sync leaves file and memory unchanged."""

    class Interrupted(Disk):
        countdown = -1

        def sync(self, descriptor: int) -> None:
            self.countdown -= 1
            if self.countdown == -1:
                raise KeyboardInterrupt
            super().sync(descriptor)

    store._disk = disk = Interrupted()
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        for name, change in CHANGES.items():
            for countdown in range(2 if "sound" in name else 1):
                before, turns = files(store.root), chat.turns
                disk.countdown = countdown
                with pytest.raises(KeyboardInterrupt):
                    change(chat)
                # After an interrupted sync the turn may be on the disk: its sound stays.
                after = files(store.root)
                assert {n: d for n, d in after.items() if not countdown or n in before} == before
                assert chat.turns == turns
            change(chat)
    with Conversation.open("retriever", store=store) as again:
        assert again.turns == chat.turns


@pytest.mark.skipif(os.geteuid() == 0, reason="root can write into read-only folders")
def test_read_only_folder(tmp_path: Path, clock: Clock) -> None:
    """A session in a read-only folder can be read; a change raises `SaveFailed` with its turn."""
    store = FileStore(tmp_path)
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
    tmp_path.chmod(0o500)
    (tmp_path / "retriever.json").chmod(0o400)
    try:
        with Conversation.open("retriever", store=store) as chat:
            with pytest.raises(SaveFailed) as caught:
                chat.add_user("Second")
            assert caught.value.turn
            assert caught.value.turn.text == "Second"
    finally:
        tmp_path.chmod(0o700)


def test_folder_of_another_user(tmp_path: Path, clock: Clock) -> None:
    """A session of another user can be read; a change raises `SaveFailed` with its turn."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to become another user")
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_mode & 0o005 != 0o005 and parent.stat().st_uid == 0:
            parent.chmod(parent.stat().st_mode | 0o005)
    root = tmp_path / "sessions"
    store = FileStore(root)
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
    root.chmod(0o555)
    for path in root.iterdir():
        path.chmod(0o444)

    def change() -> None:
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)
        with Conversation.open("retriever", store=store) as chat:
            with pytest.raises(SaveFailed, match="Permission denied") as caught:
                chat.add_user("Second")
            assert len(chat.turns) == 1
            assert caught.value.turn
            assert caught.value.turn.text == "Second"

    assert exit_code_of(change) == 0


def test_folder_in_place_of_the_document_is_corrupt(tmp_path: Path) -> None:
    """A folder in place of the document raises `SessionCorrupt`, instead of an empty session."""
    (tmp_path / "retriever.json").mkdir()
    with pytest.raises(SessionCorrupt, match="no regular file"):
        Conversation.open("retriever", store=FileStore(tmp_path))


def remount(mode: str, folder: Path) -> None:
    """Mount a real file system again, writable (`rw`) or read-only (`ro`)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def test_read_only_file_system(small_disk: Path, clock: Clock, client: OpenAI) -> None:
    """On a read-only file system, `SaveFailed` carries the turn of each kind of change."""
    store = FileStore(small_disk / "sessions")
    Conversation.open("retriever", store=store, clock=clock).add_user("First")
    remount("ro", small_disk)
    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        changes: list[Callable[[], Any]] = [
            lambda: chat.add_user("Words"),
            lambda: chat.add_completion(spoken("Words")),
            lambda: chat.say("Words"),
            lambda: chat.stream("Words").__enter__(),
        ]
        lost = []
        for change in changes:
            failure = failure_of(change)
            assert failure
            assert failure.turn
            assert failure.turn.text == "Words"
            lost.append(failure.turn)
        remount("rw", small_disk)
        for turn in lost:
            chat.add(turn)
        assert [turn.text for turn in chat.turns] == ["First", *["Words"] * 4]


def test_read_only_file_system_async(small_disk: Path, server: StandIn, clock: Clock) -> None:
    """On a read-only file system, `SaveFailed` carries the turn of each kind of async change."""
    store = FileStore(small_disk / "sessions")
    Conversation.open("retriever", store=store, clock=clock).add_user("First")
    remount("ro", small_disk)

    async def talk() -> None:
        client = server.async_client()
        opening = AsyncConversation.open("retriever", store=store, clock=clock, client=client)
        async with opening as chat:
            changes = (
                chat.add_user("Words"),
                chat.add_completion(spoken("Words")),
                chat.say("Words"),
                chat.stream("Words").__aenter__(),
            )
            for change in changes:
                with pytest.raises(SaveFailed) as caught:
                    await change
                assert caught.value.turn
                assert caught.value.turn.text == "Words"

    asyncio.run(talk())


# --- a failed save after another error ----------------------------------------------------------


def test_api_error_is_raised_if_the_question_cannot_be_removed(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """`say` raises the API's error if removing the question fails too; a note says so."""
    server.will_fail(400, "No.")
    client = server.client()
    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        chat.add_user("First")
        disk.arm("replace")
        with pytest.raises(BadRequestError) as caught:
            chat.say("Second")
        assert disk.fails is None
        assert "could not be taken back" in "".join(caught.value.__notes__)
        chat.undo()
        assert [turn.text for turn in chat.turns] == ["First"]


@pytest.mark.parametrize("broken_by", ["connection", "consumer"])
def test_save_failed_names_the_error_that_broke_the_stream(
    broken_by: str, store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """A broken stream whose part cannot be saved raises `SaveFailed` from the first error."""
    server.will_answer("One two three.", cut_after=4 if broken_by == "connection" else None)
    client = server.client()

    def listen(chat: Conversation) -> None:
        with chat.stream("Count") as events:
            for number, _ in enumerate(events):
                disk.arm("write")
                if number == 2 and broken_by == "consumer":
                    raise ZeroDivisionError

    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        with pytest.raises(SaveFailed) as caught:
            listen(chat)
        assert caught.value.turn
        assert caught.value.turn.text.startswith("One two")
        told = "".join(traceback.format_exception(caught.value))
        assert ("incomplete chunked read" if broken_by == "connection" else "ZeroDivision") in told
        disk.fails = None
        chat.add(caught.value.turn)
        assert len(chat.turns) == 2


def test_keyboard_interrupt_outranks_a_failed_save(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """Ctrl-C in a stream raises `KeyboardInterrupt` even if the part cannot be saved."""
    client = server.client()

    def listen(chat: Conversation) -> None:
        with chat.stream("Count") as events:
            next(events)
            disk.arm("write")
            raise KeyboardInterrupt

    with Conversation.open("retriever", store=store, clock=clock, client=client) as chat:
        with pytest.raises(KeyboardInterrupt) as caught:
            listen(chat)
        assert "was not kept: session 'retriever' could not be" in caught.value.__notes__[0]
        assert [turn.text for turn in chat.turns] == ["Count"]
        chat.add_user("Still unlocked")


def test_cancellation_outranks_a_failed_save(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """Cancelling a stream raises `CancelledError` even if the part cannot be saved."""

    async def talk() -> None:
        server.will_answer("One two three.", hold_after=3)
        client = server.async_client()
        opening = AsyncConversation.open("retriever", store=store, clock=clock, client=client)
        async with opening as chat:

            async def listen() -> None:
                async with chat.stream("Count") as events:
                    async for _ in events:
                        disk.arm("write")

            listening = asyncio.create_task(listen())
            await asyncio.to_thread(server.wait_until_held)
            while disk.fails is None:  # noqa: ASYNC110  # the disk has no event
                await asyncio.sleep(0)
            listening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listening
            assert [turn.text for turn in chat.turns] == ["Count"]

    asyncio.run(talk())
