"""Several processes, threads and objects with one session: all turns, whole, in one order."""

from __future__ import annotations

import hashlib
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
from tests.samples import SOUND, spoken
from tests.stores.processes.child import PATIENCE, Child
from tests.stores.processes.common import PASSING, add, check_sound, digest, tag_of

MEMBERS = 8
TURNS = 30


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """A store of the test's own, without waiting for the disk."""
    return FileStore(tmp_path / "sessions", fsync=False)


@pytest.fixture
def place(store: FileStore) -> Path:
    """The document of the session that all tests here use."""
    return store.root / "s.json"


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


class Interrupted:
    """A client in the middle of whose call something happens, and then an answer comes."""

    def __init__(
        self, happens: Callable[[], object], answer: Callable[..., Any] = lambda **_: spoken()
    ) -> None:
        self.chat = self.completions = self
        self._happens = happens
        self._answer = answer

    def create(self, **request: object) -> Any:
        """The answer."""
        self._happens()
        return self._answer(**request)


def opened(store: FileStore, **options: Any) -> Conversation:
    """The session, opened once more."""
    return Conversation.open("s", store=store, **options)


def tags(chat: Conversation) -> list[str]:
    """What each turn says."""
    return [tag_of(turn) for turn in chat.turns]


def files(place: Path) -> dict[str, str]:
    """Digests of all that is beside the session and in its folder, the lock aside."""
    found = (path for path in place.parent.rglob("*") if path.is_file())
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in found
        if path.suffix != ".lock"
    }


# --- processes ---------------------------------------------------------------------------------


def test_eight_processes_with_one_session_lose_nothing(tmp_path: Path) -> None:
    """All turns, whole, in an order that everybody saw; readers never see a broken session."""
    store = FileStore(tmp_path)
    with opened(store) as chat:
        chat.add_user("begin")
    with ExitStack() as stack:
        readers = [stack.enter_context(Child("reader", tmp_path, "s")) for _ in range(2)]
        members = []
        for i in range(MEMBERS):
            habits = (["reopens"] if i % 2 else []) + (["relabels", "undoes"] if i == 2 else [])
            member = Child("concurrent_writer", tmp_path, "s", f"member-{i}", TURNS, *habits)
            members.append(stack.enter_context(member))
        for child in [*readers, *members]:
            child.expect("ready")
        for word in ("go", "last"):
            for member in members:
                member.tell(word)
            if word == "go":
                for member in members:
                    member.expect("done")
        with_all = [member.line() for member in members]
        for reader in readers:
            reader.tell("stop")
        for reader in readers:
            what, readings, lengths = reader.line().split()
            print(f"a reader {what} {readings} readings, {lengths} different lengths")
            assert int(lengths) > 10
    with opened(store, timeout=0) as chat:
        assert chat.recovered is None
        assert set(with_all) == {digest(chat)}
        said = tags(chat)
        for i in range(MEMBERS):
            own = [tag for tag in said if tag.startswith(f"member-{i} ")]
            assert own == [f"member-{i} {number}" for number in range(TURNS)]
        left = said.count(PASSING)
        assert left < TURNS, "some were taken back"
        assert len(said) == 1 + MEMBERS * TURNS + left
        sounds = MEMBERS * sum(number % 8 in (1, 2, 4, 6) for number in range(TURNS)) + left
        assert sum(map(check_sound, chat.turns)) == sounds
        assert len(list((tmp_path / "s.audio").iterdir())) == sounds
        assert chat.metadata == {"number": TURNS - 2 + TURNS % 2}
        assert str(chat.title).startswith("named by member-")
    assert len(json.loads((tmp_path / "s.json").read_bytes())["turns"]) == len(said)
    assert list(tmp_path.rglob("*.torn-*")) + list(tmp_path.rglob(".*.tmp")) == []


def test_exchanges_of_processes_follow_one_another(store: FileStore) -> None:
    """Of two at once, one waits; no question comes between another and its answer."""
    with (
        opened(store) as chat,
        Child("remote_control", store.root, "s") as one,
        Child("remote_control", store.root, "s") as other,
    ):
        for visitor in (one, other):
            visitor.expect("ready")
        for visitor in (one, other):
            visitor.tell("say Hello?")
        for visitor in (one, other):
            visitor.expect("trying")
            visitor.tell("go on")
        for visitor in (one, other):
            visitor.expect("holding")
        counts = sorted(visitor.line() for visitor in (one, other))
        assert counts == ["2 turns", "4 turns"]
        chat.add_user("Bye.")
        assert tags(chat) == ["Hello?", "Good morning."] * 2 + ["Bye."]


def test_a_session_that_is_held_is_locked_at_once_without_patience(store: FileStore) -> None:
    """With `timeout=0` the error comes now; nothing is changed, and reading goes on."""
    with opened(store) as chat, Child("remote_control", store.root, "s") as visitor:
        chat.add_user("before")
        visitor.expect("ready")
        visitor.tell("say Are you there?")
        visitor.expect("trying")
        visitor.expect("holding")
        with opened(store, timeout=0) as hasty:
            for change in (lambda: hasty.add_user("mine"), lambda: hasty.set_title("mine")):
                with pytest.raises(SessionLocked, match="is in use"):
                    change()
            assert tags(hasty) == ["before", "Are you there?"]
        with pytest.raises(SessionLocked):
            store.delete("s", timeout=0)
        with opened(store, read_only=True) as reader:
            assert tags(reader) == ["before", "Are you there?"]
        visitor.tell("go on")
        visitor.expect("3 turns")
        chat.add_user("after")
        assert tags(chat) == ["before", "Are you there?", "Good morning.", "after"]


def test_the_lock_of_a_killed_process_is_free_at_once(store: FileStore) -> None:
    """And what it had said before its answer came is there."""
    with opened(store, timeout=0) as chat, Child("remote_control", store.root, "s") as visitor:
        visitor.expect("ready")
        visitor.tell("say Are you there?")
        visitor.expect("trying")
        visitor.expect("holding")
        with pytest.raises(SessionLocked):
            chat.add_user("mine")
        visitor.kill()
        chat.add_user("mine")
        assert tags(chat) == ["Are you there?", "mine"]
        assert chat.recovered is None


def test_who_waits_for_a_session_that_is_deleted_is_told(store: FileStore, place: Path) -> None:
    """A change raises `SessionChanged` and brings nothing back; opened anew, it begins anew."""
    with opened(store) as chat, Child("remote_control", store.root, "s") as visitor:
        chat.add_completion(spoken())
        visitor.expect("ready")
        visitor.tell("open")
        visitor.expect("trying")
        visitor.expect("1 turns")
        session = store.session("s")
        with session.locked(0):
            visitor.tell("add waiting")
            visitor.expect("trying")
            with ThreadPoolExecutor(1) as pool:
                second = pool.submit(store.delete, "s", timeout=PATIENCE)
                session.remove()
                session.release()
                # Whether it waited for the lock or came too late, there is nothing to delete.
                with pytest.raises(SessionNotFound):
                    second.result(PATIENCE)
        visitor.expect("SessionChanged")
        assert files(place) == {}
        assert store.list() == []
        visitor.tell("open")
        visitor.expect("trying")
        visitor.expect("0 turns")
        visitor.tell("add anew")
        visitor.expect("trying")
        visitor.expect("1 turns")
        with pytest.raises(SessionChanged, match="begun anew"):
            chat.add_user("another")
        with opened(store, read_only=True) as again:
            assert tags(again) == ["anew"]


def test_a_lock_whose_file_somebody_removed_holds_nothing(store: FileStore, place: Path) -> None:
    """Who waited for it takes the new one instead, and holds the session alone."""
    with Child("remote_control", store.root, "s") as visitor:
        visitor.expect("ready")
        visitor.tell("add old")
        visitor.expect("trying")
        visitor.expect("1 turns")
        session = store.session("s")
        with session.locked(PATIENCE):
            visitor.tell("add waiting")
            visitor.expect("trying")
            place.with_suffix(".lock").unlink()
        visitor.expect("2 turns")
        with opened(store, timeout=0) as other:
            other.add_user("other")
            visitor.tell("say Hello?")
            visitor.expect("trying")
            visitor.expect("holding")
            with pytest.raises(SessionLocked):
                other.add_user("mine")
            visitor.tell("go on")
            visitor.expect("5 turns")
            other.add_user("bye")
            assert tags(other)[2:] == ["other", "Hello?", "Good morning.", "bye"]


# --- threads and objects -----------------------------------------------------------------------


def test_threads_with_one_object_lose_nothing(store: FileStore, hurried: None) -> None:  # noqa: ARG001
    """Each thread's turns are there in its order, in memory and on the disk."""
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


def test_threads_that_say_at_once_take_turns(store: FileStore, client: OpenAI) -> None:
    """Each question is followed by its own answer."""
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


def test_objects_of_one_process_see_each_others_turns(store: FileStore) -> None:
    """With their next change; and neither keeps the other from making it."""
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


def test_reading_an_object_while_others_add_is_never_wrong(store: FileStore, hurried: None) -> None:  # noqa: ARG001
    """What a thread sees of an object only grows, whoever adds, and ends up equal to the file."""
    with opened(store) as one, opened(store) as other:
        stop = threading.Event()

        def read() -> int:
            seen: tuple[Turn, ...] = ()
            count = 0
            while not stop.is_set():
                now = one.turns
                assert now[: len(seen)] == seen, f"{len(now)} turns, and there were {len(seen)}"
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


# --- a file that is no longer ours -------------------------------------------------------------

FOREIGN = (
    b'{"conversation":1,"id":"s","created_at":null,"title":"other","settings":{},"metadata":{},'
    b'"turns":[\n{"role":"user","content":"not yours"}\n]}\n'
)


def replace(place: Path) -> bytes:
    """Another program renames its own file into the place of ours."""
    new = place.with_name("new")
    new.write_bytes(FOREIGN)
    new.replace(place)
    return FOREIGN


def restore(place: Path) -> bytes:
    """A copy of the very same bytes, such as a backup brings back."""
    new = place.with_name("new")
    new.write_bytes(place.read_bytes())
    new.replace(place)
    return place.read_bytes()


def overwrite(place: Path) -> bytes:
    """An editor writes into our file."""
    place.write_bytes(FOREIGN)
    return FOREIGN


def grow(place: Path) -> bytes:
    """A program that knows no locks adds a line."""
    with place.open("ab") as file:
        file.write(b"// seen\n")
    return place.read_bytes()


def damage_end(place: Path) -> bytes:
    """The closing bytes are others, and the size is the same."""
    place.write_bytes(place.read_bytes()[:-4] + b"    ")
    return place.read_bytes()


def delete(place: Path) -> None:
    """Somebody tidies up."""
    place.unlink()


@pytest.mark.parametrize("outsider", [replace, restore, overwrite, grow, damage_end, delete])
@pytest.mark.parametrize("change", ["answer", "drop"])
def test_a_file_changed_in_the_middle_of_an_exchange_is_left_alone(
    store: FileStore,
    place: Path,
    client: OpenAI,
    outsider: Callable[[Path], bytes | None],
    change: str,
) -> None:
    """`SessionChanged`; what is there now stays as it is, byte for byte, and memory as it was."""
    after: list[dict[str, str]] = []
    before: list[Any] = []

    def happens() -> None:
        outsider(place)
        before.append(chat.turns)
        after.append(files(place))

    def answer(**request: Any) -> Any:
        if change == "drop":
            # Refused by the server: the user turn is to be taken back.
            return client.chat.completions.create(**{**request, "messages": "none"})
        return client.chat.completions.create(**request)

    model: Any = Interrupted(happens, answer)
    with opened(store, client=model) as chat:
        chat.add_completion(spoken())
        with pytest.raises(SessionChanged, match="nothing was written") as caught:
            chat.say("What is new?")
        assert caught.value.path == place
        assert files(place) == after[0]
        assert place.exists() is (outsider is not delete)
        assert chat.turns == before[0]
        assert tags(chat) == ["Good morning.", "What is new?"]
        assert chat.title is None


@pytest.mark.parametrize("outsider", [replace, overwrite, grow, delete])
def test_a_file_changed_while_sound_is_transcribed_is_left_alone(
    store: FileStore, place: Path, outsider: Callable[[Path], bytes | None]
) -> None:
    """The words that came are not written over what is there now."""

    def create(**_: object) -> Any:
        outsider(place)
        after.append(files(place))
        return SimpleNamespace(text="Good dog!")

    after: list[dict[str, str]] = []
    transcriptions = SimpleNamespace(create=create)
    model: Any = SimpleNamespace(audio=SimpleNamespace(transcriptions=transcriptions))
    with opened(store, client=model) as chat:
        chat.add_user(AudioInput(SOUND))
        with pytest.raises(SessionChanged, match="nothing was written"):
            chat.transcribe()
        assert files(place) == after[0]
        assert place.exists() is (outsider is not delete)


def test_a_change_between_exchanges_is_taken_in(store: FileStore, place: Path) -> None:
    """A session that was replaced while nobody held it is news, and the turn follows it."""
    with opened(store, timeout=0) as chat:
        chat.add_user("gone")
        replace(place)
        chat.add_user("after")
        assert tags(chat) == ["not yours", "after"]
        assert chat.title == "other"
        place.unlink()
        with pytest.raises(SessionChanged, match="deleted"):
            chat.add_user("lost")
        assert not place.exists()
        chat.save(place.with_name("kept.json"))
    assert tags(Conversation.load(place.with_name("kept.json"))) == ["not yours", "after"]


def test_a_session_that_another_made_first_is_gone_on_with(store: FileStore, place: Path) -> None:
    """Two objects opened a session that was not there yet: neither writes over the other."""
    with opened(store, timeout=0) as one, opened(store, timeout=0, voice="echo") as other:
        assert not place.exists()
        one.add_user("one")
        other.add_user("other")
        one.add_user("one again")
        assert tags(one) == ["one", "other", "one again"]
    with opened(store) as again:
        assert tags(again) == ["one", "other", "one again"]


def test_a_forked_child_writes_with_its_parents_object(store: FileStore) -> None:
    """A child that was forked between two changes adds turns as another process does."""
    with opened(store) as chat:
        chat.add_user("parent")
        child = os.fork()
        if not child:
            try:
                chat.add_completion(spoken())
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        chat.add_user("parent again")
        assert [turn.role for turn in chat.turns] == ["user", "assistant", "user"]
    with opened(store) as again:
        assert again.turns == chat.turns
