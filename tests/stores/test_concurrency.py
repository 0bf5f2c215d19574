"""One session in several processes, threads and objects, and files that other programs change."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from openai import OpenAI

from conversation import AudioInput, Conversation, FileStore
from conversation._values.turns import Turn
from conversation.errors import SessionChanged, SessionLocked, SessionNotFound
from conversation.stores._session import FileSession
from conversation.testing import StandIn
from tests.samples import SOUND, spoken
from tests.stores.faulty_disk import files
from tests.stores.processes.child import PATIENCE, Child, exit_code_of
from tests.stores.processes.common import TEMPORARY, add, check_sound, digest, tag_of

WRITERS = 8
TURNS = 10


@pytest.fixture
def path(store: FileStore) -> Path:
    """Return the path of the document of the session "s"."""
    return store.root / "s.json"


@pytest.fixture
def fast_switching() -> Iterator[None]:
    """Switch between threads as often as possible."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Interrupted:
    """A client that calls `happens` during each request, and then returns `answer`."""

    def __init__(
        self, happens: Callable[[], object], answer: Callable[..., Any] = lambda **_: spoken()
    ) -> None:
        self.chat = self.completions = self
        self._happens = happens
        self._answer = answer

    def create(self, **request: object) -> Any:
        """Return the answer."""
        self._happens()
        return self._answer(**request)


def opened(store: FileStore, **options: Any) -> Conversation:
    """Open the session "s"."""
    return Conversation.open("s", store=store, **options)


def tags(chat: Conversation) -> list[str]:
    """Return the tag of each turn."""
    return [tag_of(turn) for turn in chat.turns]


# --- processes ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_eight_processes_lose_no_turn(tmp_path: Path) -> None:
    """Eight writing processes lose no turn and agree on the order; readers see whole sessions."""
    store = FileStore(tmp_path)
    with opened(store) as chat:
        chat.add_user("begin")
    with ExitStack() as stack:
        readers = [stack.enter_context(Child("reader", tmp_path, "s")) for _ in range(2)]
        writers = []
        for i in range(WRITERS):
            habits = (["reopens"] if i % 2 else []) + (["relabels", "undoes"] if i == 2 else [])
            writer = Child("concurrent_writer", tmp_path, "s", f"writer-{i}", TURNS, *habits)
            writers.append(stack.enter_context(writer))
        for child in [*readers, *writers]:
            child.expect("ready")
        for word in ("go", "last"):
            for writer in writers:
                writer.write_line(word)
            if word == "go":
                for writer in writers:
                    writer.expect("done")
        digests = [writer.read_line() for writer in writers]
        for reader in readers:
            reader.write_line("stop")
        for reader in readers:
            what, readings, lengths = reader.read_line().split()
            print(f"reader: {what} {readings} readings, {lengths} different lengths")
            assert int(lengths) > 1  # a busy machine may let it look seldom
    with opened(store, timeout=0) as chat:
        assert chat.recovered is None
        assert set(digests) == {digest(chat)}
        said = tags(chat)
        for i in range(WRITERS):
            own = [tag for tag in said if tag.startswith(f"writer-{i} ")]
            assert own == [f"writer-{i} {number}" for number in range(TURNS)]
        left = said.count(TEMPORARY)
        assert left < TURNS, "no turn was undone"
        assert len(said) == 1 + WRITERS * TURNS + left
        sounds = WRITERS * sum(number % 8 in (1, 2, 4, 6) for number in range(TURNS)) + left
        assert sum(map(check_sound, chat.turns)) == sounds
        assert len(list((tmp_path / "s.audio").iterdir())) == sounds
        assert chat.metadata == {"number": TURNS - 2 + TURNS % 2}
        assert str(chat.title).startswith("named by writer-")
    assert len(json.loads((tmp_path / "s.json").read_bytes())["turns"]) == len(said)
    assert list(tmp_path.rglob("*.torn-*")) + list(tmp_path.rglob(".*.tmp")) == []


@pytest.mark.slow
def test_exchanges_of_two_processes_do_not_interleave(store: FileStore) -> None:
    """Two processes that call `say` at once run one after the other."""
    with (
        opened(store) as chat,
        Child("remote_control", store.root, "s") as one,
        Child("remote_control", store.root, "s") as other,
    ):
        for child in (one, other):
            child.expect("ready")
        for child in (one, other):
            child.write_line("say Hello?")
        for child in (one, other):
            child.expect("trying")
            child.write_line("go on")
        for child in (one, other):
            child.expect("holding")
        counts = sorted(child.read_line() for child in (one, other))
        assert counts == ["2 turns", "4 turns"]
        chat.add_user("Bye.")
        assert tags(chat) == ["Hello?", "Good morning."] * 2 + ["Bye."]


@pytest.mark.slow
def test_zero_timeout_raises_session_locked(store: FileStore) -> None:
    """With `timeout=0`, changes to a locked session raise `SessionLocked`; reading still works."""
    with opened(store) as chat, Child("remote_control", store.root, "s") as child:
        chat.add_user("before")
        child.expect("ready")
        child.write_line("say Are you there?")
        child.expect("trying")
        child.expect("holding")
        with opened(store, timeout=0) as impatient:
            for change in (lambda: impatient.add_user("mine"), lambda: impatient.set_title("mine")):
                with pytest.raises(SessionLocked, match="is in use"):
                    change()
            assert tags(impatient) == ["before", "Are you there?"]
        with pytest.raises(SessionLocked):
            store.delete("s", timeout=0)
        with opened(store, read_only=True) as reader:
            assert tags(reader) == ["before", "Are you there?"]
        child.write_line("go on")
        child.expect("3 turns")
        chat.add_user("after")
        assert tags(chat) == ["before", "Are you there?", "Good morning.", "after"]


@pytest.mark.slow
def test_lock_of_a_killed_process_is_released(store: FileStore) -> None:
    """The lock of a killed process is released at once, and its question is saved."""
    with opened(store, timeout=0) as chat, Child("remote_control", store.root, "s") as child:
        child.expect("ready")
        child.write_line("say Are you there?")
        child.expect("trying")
        child.expect("holding")
        with pytest.raises(SessionLocked):
            chat.add_user("mine")
        child.kill()
        chat.add_user("mine")
        assert tags(chat) == ["Are you there?", "mine"]
        assert chat.recovered is None


@pytest.mark.slow
def test_waiting_for_a_session_that_is_deleted(store: FileStore, path: Path) -> None:
    """A change that waits for a session while it is deleted raises `SessionChanged`."""
    with opened(store) as chat, Child("remote_control", store.root, "s") as child:
        chat.add_completion(spoken())
        child.expect("ready")
        child.write_line("open")
        child.expect("trying")
        child.expect("1 turns")
        session = store.session("s")
        with session.locked(0):
            child.write_line("add waiting")
            child.expect("trying")
            with ThreadPoolExecutor(1) as pool:
                second = pool.submit(store.delete, "s", timeout=PATIENCE)
                session.remove()
                session.release()
                # The second deletion waited for the lock, or started after the first one.
                with pytest.raises(SessionNotFound):
                    second.result(PATIENCE)
        child.expect("SessionChanged")
        assert files(path.parent) == {}
        assert store.list() == []
        child.write_line("open")
        child.expect("trying")
        child.expect("0 turns")
        child.write_line("add anew")
        child.expect("trying")
        child.expect("1 turns")
        with pytest.raises(SessionChanged, match="begun anew"):
            chat.add_user("another")
        with opened(store, read_only=True) as again:
            assert tags(again) == ["anew"]


@pytest.mark.slow
def test_removed_lock_file_is_replaced(store: FileStore, path: Path) -> None:
    """A process that waits for a lock whose file is removed acquires the new lock file."""
    with Child("remote_control", store.root, "s") as child:
        child.expect("ready")
        child.write_line("add old")
        child.expect("trying")
        child.expect("1 turns")
        session = store.session("s")
        with session.locked(PATIENCE):
            child.write_line("add waiting")
            child.expect("trying")
            path.with_suffix(".lock").unlink()
        child.expect("2 turns")
        with opened(store, timeout=0) as other:
            other.add_user("other")
            child.write_line("say Hello?")
            child.expect("trying")
            child.expect("holding")
            with pytest.raises(SessionLocked):
                other.add_user("mine")
            child.write_line("go on")
            child.expect("5 turns")
            other.add_user("bye")
            assert tags(other)[2:] == ["other", "Hello?", "Good morning.", "bye"]


# --- threads and objects -----------------------------------------------------------------------


@pytest.mark.usefixtures("fast_switching")
def test_threads_with_one_object_lose_no_turn(store: FileStore) -> None:
    """Threads that share one object lose no turn, and each thread's turns keep their order."""
    with opened(store) as chat:

        def work(name: str) -> None:
            for number in range(40):
                add(chat, f"{name} {number}", number)
                if number % 10 == 9:
                    chat.set_title(f"{name} {number}")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(work, ("a", "b")))
        for name in ("a", "b"):
            own = [tag for tag in tags(chat) if tag.startswith(name)]
            assert own == [f"{name} {number}" for number in range(40)]
        assert len(chat.turns) == 80
        with opened(store) as again:
            assert again.turns == chat.turns
            assert again.recovered is None


def test_exchanges_of_threads_do_not_interleave(store: FileStore, client: OpenAI) -> None:
    """Threads that call `say` at once get one answer after each question."""
    with opened(store, client=client, modalities=["text", "audio"]) as chat:
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(chat.say, [f"This is question {i}." for i in range(6)]))
        turns = chat.turns
        assert [turn.role for turn in turns] == ["user", "assistant"] * 6
        for i, answer in enumerate(answers):
            at = turns.index(answer)
            assert tag_of(turns[at - 1]) == f"This is question {i}."
    with opened(store) as again:
        assert again.turns == turns


def test_objects_of_one_process_share_a_session(store: FileStore) -> None:
    """Two objects of one process see each other's turns and labels with their next change."""
    with opened(store, timeout=0) as one, opened(store, timeout=0) as other:
        for number in range(0, 12, 2):
            add(one, f"turn {number}", number)
            add(other, f"turn {number + 1}", number + 1)
        assert tags(other) == [f"turn {number}" for number in range(12)]
        one.set_title("both")
        assert one.turns == other.turns
        other.set_metadata({"seen": True})
        assert other.title == "both"
        with opened(store) as third:
            assert third.turns == one.turns
            assert (third.title, third.metadata) == ("both", {"seen": True})


@pytest.mark.usefixtures("fast_switching")
def test_reading_while_others_write_is_consistent(store: FileStore) -> None:
    """`turns` only grows while other threads and objects add turns, and ends up complete."""
    with opened(store) as one, opened(store) as other:
        stop = threading.Event()

        def read() -> int:
            seen: tuple[Turn, ...] = ()
            count = 0
            while not stop.is_set():
                now = one.turns
                assert now[: len(seen)] == seen, f"{len(now)} turns after {len(seen)}"
                seen = now
                count += 1
            return count

        def work(chat: Conversation) -> None:
            for number in range(200):
                chat.add_user(f"{number}")
                if number % 20 == 19:
                    chat.set_title(f"{number}")

        with ThreadPoolExecutor(4) as pool:
            readings = [pool.submit(read) for _ in range(2)]
            try:
                list(pool.map(work, (one, other)))
            finally:
                stop.set()
            assert all(reading.result() for reading in readings)
        one.set_title("last")
        with opened(store) as again:
            assert one.turns == again.turns
            assert len(again.turns) == 400


# --- files that other programs change ----------------------------------------------------------

FOREIGN = (
    b'{"conversation":1,"id":"s","created_at":null,"title":"other","settings":{},"metadata":{},'
    b'"turns":[\n{"role":"user","content":"not yours"}\n]}\n'
)


def replace(path: Path) -> bytes:
    """Replace the document with a file of another program."""
    new = path.with_name("new")
    new.write_bytes(FOREIGN)
    new.replace(path)
    return FOREIGN


def restore(path: Path) -> bytes:
    """Replace the document with a copy of itself, such as a restored backup."""
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    new.replace(path)
    return path.read_bytes()


def overwrite(path: Path) -> bytes:
    """Overwrite the document in place, as an editor does."""
    path.write_bytes(FOREIGN)
    return FOREIGN


def grow(path: Path) -> bytes:
    """Append a line without taking the lock."""
    with path.open("ab") as file:
        file.write(b"// seen\n")
    return path.read_bytes()


def damage_end(path: Path) -> bytes:
    """Overwrite the closing bytes without changing the size."""
    path.write_bytes(path.read_bytes()[:-4] + b"    ")
    return path.read_bytes()


def delete(path: Path) -> None:
    """Delete the document."""
    path.unlink()


@pytest.mark.parametrize("outsider", [replace, restore, overwrite, grow, damage_end, delete])
@pytest.mark.parametrize("change", ["answer", "drop"])
def test_document_changed_during_an_exchange_is_not_overwritten(
    store: FileStore,
    path: Path,
    client: OpenAI,
    outsider: Callable[[Path], bytes | None],
    change: str,
) -> None:
    """`say` raises `SessionChanged` if another program changes the document meanwhile."""
    after: list[dict[str, bytes]] = []
    before: list[Any] = []

    def happens() -> None:
        outsider(path)
        before.append(chat.turns)
        after.append(files(path.parent))

    def answer(**request: Any) -> Any:
        if change == "drop":
            # The server refuses the request, and `say` removes the question.
            return client.chat.completions.create(**{**request, "messages": "none"})
        return client.chat.completions.create(**request)

    model: Any = Interrupted(happens, answer)
    with opened(store, client=model) as chat:
        chat.add_completion(spoken())
        with pytest.raises(SessionChanged, match="nothing was written") as caught:
            chat.say("What is new?")
        assert caught.value.path == path
        assert files(path.parent) == after[0]
        assert path.exists() is (outsider is not delete)
        assert chat.turns == before[0]
        assert tags(chat) == ["Good morning.", "What is new?"]
        assert chat.title is None


@pytest.mark.parametrize("outsider", [replace, overwrite, grow, delete])
def test_document_changed_during_a_transcription_is_not_overwritten(
    store: FileStore, path: Path, outsider: Callable[[Path], bytes | None]
) -> None:
    """`transcribe` raises `SessionChanged` if another program changes the document meanwhile."""

    def create(**_: object) -> Any:
        outsider(path)
        after.append(files(path.parent))
        return SimpleNamespace(text="Good dog!")

    after: list[dict[str, bytes]] = []
    transcriptions = SimpleNamespace(create=create)
    model: Any = SimpleNamespace(audio=SimpleNamespace(transcriptions=transcriptions))
    with opened(store, client=model) as chat:
        chat.add_user(AudioInput(SOUND))
        with pytest.raises(SessionChanged, match="nothing was written"):
            chat.transcribe()
        assert files(path.parent) == after[0]
        assert path.exists() is (outsider is not delete)


def test_document_replaced_between_changes_is_read_again(store: FileStore, path: Path) -> None:
    """A change reads a replaced document first, and raises `SessionChanged` if it is deleted."""
    with opened(store, timeout=0) as chat:
        chat.add_user("gone")
        replace(path)
        chat.add_user("after")
        assert tags(chat) == ["not yours", "after"]
        assert chat.title == "other"
        path.unlink()
        with pytest.raises(SessionChanged, match="deleted"):
            chat.add_user("lost")
        assert not path.exists()
        chat.save(path.with_name("kept.json"))
    assert tags(Conversation.load(path.with_name("kept.json"))) == ["not yours", "after"]


def test_two_objects_that_create_one_session_share_it(store: FileStore, path: Path) -> None:
    """Two objects that open the same missing session share it once one of them creates it."""
    with opened(store, timeout=0) as one, opened(store, timeout=0, voice="echo") as other:
        assert not path.exists()
        one.add_user("one")
        other.add_user("other")
        one.add_user("one again")
        assert tags(one) == ["one", "other", "one again"]
    with opened(store) as again:
        assert tags(again) == ["one", "other", "one again"]


def test_forked_child_adds_sound_to_its_parents_session(store: FileStore) -> None:
    """A forked child adds turns with the object of its parent, as another process does."""
    with opened(store) as chat:
        chat.add_user("parent")
        assert exit_code_of(lambda: chat.add_completion(spoken())) == 0
        chat.add_user("parent again")
        assert [turn.role for turn in chat.turns] == ["user", "assistant", "user"]
    with opened(store) as again:
        assert again.turns == chat.turns


def test_document_replaced_while_sound_is_written(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`add_user` raises `SessionChanged` if the document is replaced while its sound is written."""
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


def test_hard_linked_backup_is_not_changed(store: FileStore, tmp_path: Path) -> None:
    """A hard link to the document keeps its content; the session continues in a new file."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")
        before = (store.root / "x.json").read_bytes()
        os.link(store.root / "x.json", tmp_path / "backup")
        chat.add_user("Two")
        chat.add_user("Three")
    assert (tmp_path / "backup").read_bytes() == before
    with Conversation.open("x", store=store, read_only=True) as again:
        assert [turn.text for turn in again.turns] == ["One", "Two", "Three"]


def test_forked_child_goes_on_with_its_parents_session(store: FileStore) -> None:
    """A forked child adds turns behind those that its parent added since the fork."""
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


def test_same_size_edit_of_another_program_is_taken_in(store: FileStore, path: Path) -> None:
    """An editor that rewrites the file in place, at the same size, is noticed before a change."""
    with opened(store) as chat:
        chat.add_user("Good morning")
        data = path.read_bytes().replace(b"morning", b"evening")
        with path.open("r+b") as file:
            file.write(data)
        chat.add_user("And good night")
        assert [turn.text for turn in chat.turns] == ["Good evening", "And good night"]
    with opened(store, read_only=True) as again:
        assert again.turns == chat.turns


def test_removed_lock_of_a_busy_writer_is_a_conflict(
    store: FileStore, path: Path, server: StandIn
) -> None:
    """Two holders, after the lock's file was removed, lose no turn: one raises `SessionChanged`."""
    server.will_answer("one two three four")
    with opened(store, client=server.client()) as chat, opened(store, timeout=0) as other:

        def talk() -> None:
            with chat.stream("Hello") as events:
                next(events)
                path.with_suffix(".lock").unlink()
                other.add_user("Other")
                for _ in events:
                    pass

        with pytest.raises(SessionChanged) as caught:
            talk()
        assert "one two three four" in caught.value.turn.text
        chat.add(caught.value.turn)
        assert [turn.text for turn in chat.turns][:2] == ["Hello", "Other"]
    with opened(store, read_only=True) as again:
        assert again.turns == chat.turns


@pytest.mark.parametrize("change", ["repair", "remove"])
def test_repair_and_delete_write_nothing_without_their_lock(
    store: FileStore, path: Path, change: str
) -> None:
    """If the lock's file was removed, another writer may be busy: its turn is not lost."""
    with opened(store) as chat:
        chat.add_user("one")
    damaged = path.read_bytes().replace(b'"user"', b'"user')
    path.write_bytes(damaged)
    session = store.session(path.stem)
    with session.locked(0):
        path.with_suffix(".lock").unlink()
        with pytest.raises(SessionChanged, match="was removed while it was held"):
            getattr(session, change)()
        assert path.read_bytes() == damaged


def test_rewrite_under_the_number_of_the_old_file_is_read_anew(
    store: FileStore, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may give a rewritten document the inode of an old one: nothing is missed."""
    with opened(store) as chat, opened(store) as other:
        chat.add_user("one")
        chat.add_user("two")
        chat.set_title("Title 1")
        inode = path.stat().st_ino
        fstat, lstat = os.fstat, os.lstat

        def same(status: os.stat_result) -> os.stat_result:
            is_new = status.st_ino == path.stat().st_ino
            return os.stat_result((status[0], inode, *status[2:])) if is_new else status

        other.set_title("Title 2")
        other.add_user("three")
        monkeypatch.setattr(os, "fstat", lambda descriptor: same(fstat(descriptor)))
        monkeypatch.setattr(os, "lstat", lambda name: same(lstat(name)))
        chat.add_user("four")
        monkeypatch.undo()
        assert chat.title == "Title 2"
        assert [turn.text for turn in chat.turns] == ["one", "two", "three", "four"]
    with opened(store, read_only=True) as again:
        assert (again.title, again.turns) == (chat.title, chat.turns)
