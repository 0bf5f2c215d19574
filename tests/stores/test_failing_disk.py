"""A disk that is full, broken or read-only: nothing is lost, and nothing half-written."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock  # noqa: F401  # for the child, who may not read where it is installed
import pytest
from openai import BadRequestError, OpenAI

from conversation import AssistantTurn, AsyncConversation, AudioInput, Conversation, FileStore
from conversation.errors import SaveFailed, SessionCorrupt
from conversation.stores._disk import Disk
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import SOUND, spoken

CHANGES: dict[str, Any] = {
    "text": lambda chat: chat.add_user("More words"),
    "sound": lambda chat: chat.add_completion(spoken()),
    "user sound": lambda chat: chat.add_user(AudioInput(SOUND)),
    "title": lambda chat: chat.set_title("Other"),
    "undo": lambda chat: chat.undo() or chat.set_title("Nothing to undo"),
}


class FaultyDisk(Disk):
    """A disk whose n-th operation of a kind fails, having done a part of it.

    Attributes:
        done: What it did, in order; what failed too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fails: str | None = None
        self.then: str | None = None
        self.countdown = 0
        self.error = errno.ENOSPC
        self.done: list[str] = []

    def arm(
        self,
        operation: str,
        countdown: int = 0,
        error: int = errno.ENOSPC,
        *,
        then: str | None = None,
    ) -> None:
        """Let the operation fail, after so many that do not; then the next one of another kind."""
        self.fails, self.countdown, self.error, self.then = operation, countdown, error, then

    def _strikes(self, operation: str) -> bool:
        self.done.append(operation)
        if operation != self.fails:
            return False
        self.countdown -= 1
        return self.countdown < 0

    def _fail(self) -> None:
        self.fails, self.then = self.then, None
        raise OSError(self.error, os.strerror(self.error))

    def truncate(self, descriptor: int, size: int) -> None:
        if self._strikes("truncate"):
            self._fail()
        super().truncate(descriptor, size)

    def sync_folder(self, folder: Path) -> None:
        if self._strikes("sync_folder"):
            self._fail()
        super().sync_folder(folder)

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self._strikes("write"):
            super().write(descriptor, data[: len(data) // 2], at)
            self._fail()
        super().write(descriptor, data, at)

    def sync(self, descriptor: int) -> None:
        if self._strikes("sync"):
            self._fail()
        super().sync(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        if self._strikes("replace"):
            self._fail()
        super().replace(source, target)

    def create(self, path: Path, mode: int | None) -> int:
        if self._strikes("create"):
            self._fail()
        return super().create(path, mode)


@pytest.fixture
def disk() -> FaultyDisk:
    """A disk that can be told to fail."""
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> FileStore:
    """A store on that disk."""
    store = FileStore(tmp_path)
    store._disk = disk
    return store


def files(folder: Path) -> dict[str, bytes]:
    """Everything in the folder but locks."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def failure_of(change: Callable[[], object]) -> SaveFailed | None:
    """How the change failed; None if it did not."""
    try:
        change()
    except SaveFailed as failure:
        return failure
    return None


def begin(store: FileStore, clock: Clock, *, begun: bool) -> Conversation:
    """A session, of two turns if it is begun."""
    chat = Conversation.open("retriever", store=store, clock=clock)
    if begun:
        chat.add_user("First")
        chat.add_completion(spoken("Second"))
    return chat


def count_of(operation: str, change: str, root: Path, clock: Clock, *, begun: bool) -> int:
    """How many operations of this kind the change takes."""
    store = FileStore(root)
    store._disk = disk = FaultyDisk()
    with begin(store, clock, begun=begun) as chat:
        disk.done.clear()
        CHANGES[change](chat)
    return disk.done.count(operation)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("operation", ["create", "write", "sync", "replace", "sync_folder"])
def test_a_write_that_fails_changes_nothing(
    operation: str, change: str, begun: bool, error: int, clock: Clock, tmp_path: Path
) -> None:
    """Each of its steps: file and memory are as before, and adding the turn again works."""
    steps = count_of(operation, change, tmp_path / "whole", clock, begun=begun)
    # Only a text that is added at the end makes no file.
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
            # After a failed sync nobody knows whether the disk names the sound: it stays.
            is_unsure = operation.startswith("sync")
            assert {n: d for n, d in after.items() if not is_unsure or n in before} == before
            with Conversation.open("retriever", store=store) as other:
                assert (other.turns, other.recovered) == (turns, None)
            assert (failure.turn is None) is (change in ("title", "undo"))
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


def test_what_is_durable_is_so_in_this_order(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """Sound before the turn that names it; the closing bytes last; names with their folder."""
    whole = ["create", "write", "sync", "replace", "sync_folder"]
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        chat.add_user(AudioInput(SOUND))  # makes the folder
        disk.done.clear()
        chat.add_user(AudioInput(SOUND))
        assert disk.done == [*whole, "write", "sync"]
        disk.done.clear()
        chat.set_title("Title")
        assert disk.done == whole


def test_the_bytes_beyond_the_old_end_come_first(
    store: FileStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until they are there, the old closing bytes stand."""
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


def test_a_restore_that_fails_too_repeats_no_turn(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """The next write is a whole one, of what memory holds."""
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


def test_a_failed_write_leaves_no_file_handle(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """Whatever fails, and however often."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("open files cannot be counted here")
    with begin(store, clock, begun=True) as chat:
        before = len(list(descriptors.iterdir()))
        for operation in ("create", "write", "sync", "replace", "sync_folder"):
            for change in ("user sound", "title"):
                disk.arm(operation)
                assert failure_of(lambda change=change: CHANGES[change](chat))  # type: ignore[misc]
        assert len(list(descriptors.iterdir())) == before


def test_after_a_failed_sync_the_next_write_is_a_whole_one(
    store: FileStore, disk: FaultyDisk, clock: Clock
) -> None:
    """What the disk holds then is unknown, so nothing is built upon it."""
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


def test_a_full_disk_in_say_loses_neither_question_nor_answer(
    store: FileStore, disk: FaultyDisk, clock: Clock, client: OpenAI
) -> None:
    """Before sending: nothing was sent. After the answer: it is in the error."""
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


def test_a_dead_id_that_cannot_be_saved_does_not_fail_the_exchange(
    store: FileStore,
    disk: FaultyDisk,
    clock: Clock,
    server: StandIn,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The next write makes up for it."""
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
    """A real file system of 256 KB."""
    mount = tmp_path / "small"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def test_a_real_full_disk(small_disk: Path, clock: Clock) -> None:
    """Turns are added until there is no room; room is made; the last turn goes in."""
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


def test_a_limit_on_file_sizes(tmp_path: Path, clock: Clock) -> None:
    """The same by `RLIMIT_FSIZE`, which needs no rights: the write stops in the middle."""
    store = FileStore(tmp_path)
    with Conversation.open("retriever", store=store, clock=clock) as chat:
        chat.add_user("First")
        before = files(tmp_path)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        try:
            contents: list[str | AudioInput] = ["y" * 2000, AudioInput(SOUND)]
            for content in contents:
                with pytest.raises(SaveFailed, match="File too large") as caught:
                    chat.add_user(content)
                assert files(tmp_path) == before
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert caught.value.turn is not None
        chat.add(caught.value.turn)
    with Conversation.open("retriever", store=store) as again:
        assert again.turns == chat.turns


def test_an_interrupt_in_the_middle_of_a_write_leaves_the_old_state(
    store: FileStore, clock: Clock
) -> None:
    """Ctrl-C at the worst moments: in each wait for the disk."""

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
                # After a broken-off sync nobody knows whether the disk names the sound: it stays.
                after = files(store.root)
                assert {n: d for n, d in after.items() if not countdown or n in before} == before
                assert chat.turns == turns
            change(chat)
    with Conversation.open("retriever", store=store) as again:
        assert again.turns == chat.turns


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is read-only for root")
def test_a_read_only_folder(tmp_path: Path, clock: Clock) -> None:
    """It is read, and each change fails as a save."""
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


def test_a_read_only_folder_as_another_user(tmp_path: Path, clock: Clock) -> None:
    """Root may write anything, so a child process without rights tries it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
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
    child = os.fork()
    if not child:
        os.setgroups([])
        os.setgid(65_534)
        os.setuid(65_534)
        try:
            with Conversation.open("retriever", store=store) as chat:
                chat.add_user("Second")
        except SaveFailed as error:
            has_it = error.turn is not None and error.turn.text == "Second"
            is_so = "Permission denied" in str(error) and len(chat.turns) == 1 and has_it
            os._exit(0 if is_so else 2)
        except BaseException as error:  # noqa: BLE001  # a forked child must not go on as a test
            os.write(2, repr(error).encode())
            os._exit(3)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_session_is_never_taken_for_empty(tmp_path: Path) -> None:
    """A file that cannot be read as one is an error, not a new chat."""
    (tmp_path / "retriever.json").mkdir()
    with pytest.raises(SessionCorrupt, match="no regular file"):
        Conversation.open("retriever", store=FileStore(tmp_path))


def remount(mode: str, folder: Path) -> None:
    """Let a real file system be written to (`rw`), or only be read (`ro`)."""
    subprocess.run(["mount", "-o", f"remount,{mode}", str(folder)], check=True)


def test_a_read_only_file_system(small_disk: Path, clock: Clock, client: OpenAI) -> None:
    """Each turn is in its error, also a question, and an answer that was paid for."""
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


def test_a_turn_is_in_the_error_of_the_twin_too(
    small_disk: Path, server: StandIn, clock: Clock
) -> None:
    """Whatever it was that could not even begin."""
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


# --- a save that fails when something else has failed -------------------------------------------


def test_a_refusal_is_told_although_its_question_cannot_be_taken_back(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """The server's error comes through; a note says what is left to do."""
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
def test_what_broke_a_stream_is_told_although_its_part_cannot_be_kept(
    broken_by: str, store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """Both are: the one is the cause of the other, and the part is in the error."""
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


def test_ctrl_c_goes_on_although_a_part_cannot_be_kept(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """It is no failed save; a note tells of that."""
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
        chat.add_user("Nobody holds it")


def test_a_cancellation_goes_on_although_a_part_cannot_be_kept(
    store: FileStore, disk: FaultyDisk, server: StandIn, clock: Clock
) -> None:
    """It is never swallowed: `asyncio.timeout` says what it says."""

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
            while disk.fails is None:  # noqa: ASYNC110  # it tells nobody
                await asyncio.sleep(0)
            listening.cancel()
            with pytest.raises(asyncio.CancelledError):
                await listening
            assert [turn.text for turn in chat.turns] == ["Count"]

    asyncio.run(talk())
