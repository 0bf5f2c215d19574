"""Forks in memory and on disk, and their undo and usage."""

from __future__ import annotations

import asyncio
import copy
import errno
import os
import pickle
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from openai import APIError, OpenAI

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Context,
    Conversation,
    FileStore,
    ImageInput,
    Usage,
    UserTurn,
)
from conversation.errors import (
    InvalidCompletion,
    InvalidSetting,
    SaveFailed,
    SessionExists,
    SessionLocked,
    SessionReadOnly,
)
from conversation.testing import StandIn
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, START, spoken
from tests.stores.faulty_disk import FaultyDisk, files

BILL = Usage(64, 200, 26, 38, 12, 41, 159)
"""Usage with a different number in each field."""


def billed(transcript: str = "Yes.", usage: Usage = BILL) -> AssistantTurn:
    """Return a spoken answer with that usage."""
    turn = Conversation().add_completion(spoken(transcript))
    return attrs.evolve(turn, usage=usage)


def sounds(chat: Any) -> list[bytes]:
    """Return the bytes of each sound, in order."""
    found = []
    for turn in chat.turns:
        if isinstance(turn, AssistantTurn) and turn.audio:
            found.append(turn.audio.read())
        elif isinstance(turn, UserTurn):
            found += [part.read() for part in turn.content if isinstance(part, AudioInput)]
    return found


def texts(chat: Any) -> list[str]:
    """Return the text of each turn."""
    return [turn.text for turn in chat.turns]


@pytest.fixture
def disk() -> FaultyDisk:
    """Provide a disk that can be told to fail."""
    return FaultyDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FaultyDisk) -> FileStore:
    """Provide a store on that disk."""
    store = FileStore(tmp_path / "sessions", fsync=False)
    store._disk = disk
    return store


@pytest.fixture
def opened(store: FileStore, clock: Clock, client: OpenAI) -> Iterator[Callable[..., Conversation]]:
    """Open sessions, and close them at the end."""
    chats = []

    def open_one(session_id: str = "origin", **given: Any) -> Conversation:
        chats.append(
            Conversation.open(session_id, store=store, clock=clock, client=client, **given)
        )
        return chats[-1]

    yield open_one
    for chat in chats:
        chat.close()


def begun(chat: Conversation) -> Conversation:
    """Add labels, sound, a picture, and an answer that is undone; return the conversation."""
    chat.set_title("Dogs")
    chat.set_metadata({"user": {"name": "Ann"}})
    chat.add_user(AudioInput(SOUND, transcript="Good dog?"), ImageInput(PNG))
    chat.add(billed())
    chat.add_user(AudioInput(MP3))
    chat.add(billed("Of course."))
    chat.undo(answer_only=True)
    return chat


def of(store: FileStore, name: str) -> dict[str, bytes]:
    """Return the files of one session."""
    return {path: data for path, data in files(store.root).items() if path.startswith(f"{name}.")}


# --- contents of a fork ------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["memory", "disk"])
@pytest.mark.parametrize("target", [None, "copy"])
def test_fork_copies_turns_settings_and_labels(
    opened: Callable[..., Conversation],
    clock: Clock,
    client: OpenAI,
    source: str,
    target: str | None,
) -> None:
    """A fork has the turns, settings and labels of its origin, in memory and on disk."""
    given: dict[str, Any] = {
        "voice": "echo",
        "instructions": "Be brief.",
        "context": Context(user_audio_turns=1),
        "transcribe": True,
        "expiry_margin": 5.0,
        "tools": [{"type": "function", "function": {"name": "look_up"}}],
    }
    origin = (
        opened(**given) if source == "disk" else Conversation(clock=clock, client=client, **given)
    )
    begun(origin)
    clock.now += 60
    fork = origin.fork(target)
    try:
        assert isinstance(fork, Conversation)
        assert (fork.id, fork.title, fork.metadata) == (target, origin.title, origin.metadata)
        assert texts(fork) == texts(origin)
        assert sounds(fork) == sounds(origin)
        assert [turn.at for turn in fork.turns] == [turn.at for turn in origin.turns]
        assert fork.request() == origin.request()
        assert fork.recovered is None
        assert fork._requests.context == origin._requests.context
        assert fork._requests.settings == origin._requests.settings
    finally:
        fork.close()


def test_saved_fork_is_a_session_of_its_own(
    store: FileStore, opened: Callable[..., Conversation], clock: Clock
) -> None:
    """A saved fork is listed with its own id and time, and resumes with the saved settings."""
    origin = begun(opened(voice="echo", context=Context(max_prompt_tokens=77)))
    clock.now += 60
    origin.fork("copy").close()
    copied, original = sorted(store.list(), key=lambda info: info.id)
    assert (copied.id, original.id) == ("copy", "origin")
    assert copied.title == original.title
    assert copied.created_at
    assert original.created_at
    assert (copied.created_at - original.created_at).total_seconds() == 60
    again = opened("copy")
    assert again.request()["audio"]["voice"] == "echo"
    assert (texts(again), sounds(again)) == (texts(origin), sounds(origin))
    again.say("Still there?")
    assert len(again.turns) == len(origin.turns) + 2


def test_fork_keeps_unknown_keys(store: FileStore, opened: Callable[..., Conversation]) -> None:
    """A fork keeps unknown keys in its header and in turns."""
    origin = opened()
    origin.add_user("Question")
    place = store.root / "origin.json"
    data = place.read_bytes()
    data = data.replace(b'"metadata":', b'"flavour":{"sweet":1},"metadata":', 1)
    place.write_bytes(data.replace(b'"role":', b'"shade":"blue","role":', 1))
    opened().fork("copy").close()
    copied = (store.root / "copy.json").read_bytes()
    assert b'"flavour":{"sweet":1}' in copied
    assert b'"shade":"blue"' in copied


@pytest.mark.parametrize("target", [None, "copy"])
def test_fork_shares_no_mutable_object(
    opened: Callable[..., Conversation], target: str | None
) -> None:
    """A fork shares no dict, list or set with its origin."""
    origin = begun(opened(voice={"id": "v"}, tools=[{"type": "function", "function": {}}]))
    fork = origin.fork(target)

    def mutable(chat: Conversation) -> dict[int, object]:
        found: dict[int, object] = {}  # with the objects, whose ids are others' once they are freed

        def walk(value: object) -> None:
            if isinstance(value, dict | list | set):
                found[id(value)] = value
                for inner in value.values() if isinstance(value, dict) else value:
                    walk(inner)

        walk(chat._history.header)
        walk(list(chat._history.turns))
        walk(chat._requests._turns._items)
        walk(chat._requests.settings.voice)
        walk(list(chat._requests.settings.tools))
        return found

    origin.messages()
    fork.messages()
    kept = (mutable(origin), mutable(fork))
    assert not kept[0].keys() & kept[1].keys()
    assert len(kept[0]) > 5
    fork.close()


@pytest.mark.parametrize("target", [None, "copy"])
def test_fork_and_origin_change_independently(
    opened: Callable[..., Conversation], target: str | None
) -> None:
    """Changes to a fork do not show in its origin, nor the other way round."""
    origin = begun(opened())
    fork = origin.fork(target)
    before = (origin.turns, origin.title, origin.metadata, origin.usage)
    fork.set_title("Cats")
    fork.set_metadata({})
    fork.say("Cats?")
    fork.truncate(0.1)
    fork.set_transcript(fork.turns[2], "Woof.")
    assert (origin.turns, origin.title, origin.metadata, origin.usage) == before
    mine = (fork.turns, fork.title, fork.metadata, fork.usage)
    origin.say("Dogs?")
    origin.undo()
    origin.undo()
    origin.set_title(None)
    assert (fork.turns, fork.title, fork.metadata, fork.usage) == mine
    fork.close()
    if target:
        assert texts(opened(target)) == [turn.text for turn in mine[0]]


# --- files of a fork ---------------------------------------------------------------------------


def test_fork_hard_links_its_files(store: FileStore, opened: Callable[..., Conversation]) -> None:
    """A fork hard-links its origin's files under names of its own."""
    begun(opened()).fork("copy").close()

    def numbers(name: str) -> list[tuple[int, int]]:
        paths = sorted((store.root / f"{name}.audio").iterdir(), key=lambda path: path.name[:4])
        status = [path.stat() for path in paths]
        assert all(stat.S_IMODE(one.st_mode) == 0o600 for one in status)
        return sorted((one.st_ino, one.st_nlink) for one in status)

    assert numbers("copy") == numbers("origin")
    assert {links for _, links in numbers("copy")} == {2}
    assert len(numbers("copy")) == 4
    names = [path.name for path in store.root.glob("*.audio/*")]
    assert len(set(names)) == 8, "each name is used once"


@pytest.mark.parametrize("gone", ["origin", "copy"])
def test_deleting_fork_or_origin_leaves_the_other_whole(
    store: FileStore, opened: Callable[..., Conversation], gone: str
) -> None:
    """Deleting a fork or its origin leaves the turns and sound of the other whole."""
    origin = begun(opened())
    heard, said = sounds(origin), texts(origin)
    origin.fork("copy").close()
    origin.close()
    store.delete(gone)
    left = opened("copy" if gone == "origin" else "origin", create=False)
    assert (sounds(left), texts(left)) == (heard, said)
    assert not of(store, gone)


@pytest.mark.parametrize("change", ["undo", "truncate", "clear"])
@pytest.mark.parametrize("changed", ["origin", "copy"])
def test_changing_fork_or_origin_touches_no_file_of_the_other(
    store: FileStore, opened: Callable[..., Conversation], changed: str, change: str
) -> None:
    """`undo`, `truncate` and `say` in a fork or its origin touch no file of the other."""
    origin = begun(opened())
    origin.add(billed("The last answer."))
    origin.fork("copy").close()
    origin.close()
    other = "copy" if changed == "origin" else "origin"
    before = of(store, other)
    chat = opened(changed)
    match change:
        case "undo":
            chat.undo()
        case "truncate":
            chat.truncate(0.05)
        case "clear":
            while chat.undo():
                pass
    chat.say("Go on")
    assert of(store, other) == before
    assert len(before) == 6
    assert len(sounds(opened(other))) == 4


def other_file_system(than: Path) -> Path | None:
    """Return a writable folder on another file system, or None."""
    for path in (Path("/dev/shm"), Path("/run/shm"), Path.home()):
        if path.is_dir() and os.access(path, os.W_OK) and path.stat().st_dev != than.stat().st_dev:
            return path
    return None


def test_fork_copies_files_to_another_file_system(
    store: FileStore, opened: Callable[..., Conversation], tmp_path: Path
) -> None:
    """A fork into a store on another file system copies the files."""
    elsewhere = other_file_system(tmp_path)
    if elsewhere is None:
        pytest.skip("there is one file system only")
    origin = begun(opened())
    with tempfile.TemporaryDirectory(dir=elsewhere) as folder:
        origin._store = FileStore(folder, fsync=False)
        with origin.fork("copy") as fork:
            assert sounds(fork) == sounds(origin)
            status = [path.stat() for path in Path(folder, "copy.audio").iterdir()]
            assert [one.st_nlink for one in status] == [1] * 4
            assert {stat.S_IMODE(one.st_mode) for one in status} == {0o600}
        store.delete("origin")
        origin.close()
        with Conversation.open("copy", store=origin._store) as again:
            assert len(sounds(again)) == 3


def test_fork_follows_no_symbolic_link(
    store: FileStore, opened: Callable[..., Conversation]
) -> None:
    """A fork takes no file through a symbolic link in place of its origin's sound folder."""
    origin = begun(opened())
    folder = store.root / "origin.audio"
    heard = sounds(origin)
    aside = folder.rename(store.root / "aside")
    folder.symlink_to(aside)
    with origin.fork("copy") as fork:
        assert not any((store.root / "copy.audio").glob("*"))
        assert texts(fork) == texts(origin)
    folder.unlink()
    aside.rename(folder)
    with origin.fork("other") as fork:
        assert sounds(fork) == heard


def test_fork_skips_a_missing_file(
    store: FileStore, opened: Callable[..., Conversation], caplog: pytest.LogCaptureFixture
) -> None:
    """A fork of a session with a missing file logs it, copies the rest, and sends the words."""
    origin = begun(opened())
    [lost] = (store.root / "origin.audio").glob("0001-*.wav")
    lost.unlink()
    with origin.fork("copy") as fork:
        assert "is gone" in caplog.text
        assert texts(fork) == texts(origin)
        first = fork.messages()[0]["content"]
        assert first[0] == {"type": "text", "text": "Good dog?"}
        assert len(list((store.root / "copy.audio").iterdir())) == 3


@pytest.mark.parametrize("keep_sound", ["user", "none"])
def test_fork_respects_keep_sound(tmp_path: Path, clock: Clock, keep_sound: str) -> None:
    """A fork keeps sound that `keep_sound` excludes in memory only."""
    store = FileStore(tmp_path, fsync=False, keep_sound=keep_sound)
    with Conversation.open("origin", store=store, clock=clock) as origin:
        begun(origin)
        with origin.fork("copy") as fork:
            assert sounds(fork) == sounds(origin)
            kept = sorted(path.suffix for path in (tmp_path / "copy.audio").iterdir())
            assert kept == {"user": [".mp3", ".png", ".wav"], "none": [".png"]}[keep_sound]


# --- undo --------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["memory", "disk"])
def test_undo_removes_a_question_without_an_answer(
    opened: Callable[..., Conversation], clock: Clock, source: str
) -> None:
    """`undo` removes a question without an answer as an exchange of its own."""
    chat = opened() if source == "disk" else Conversation(clock=clock)
    chat.add_user("First")
    chat.add(billed())
    question = chat.add_user("Second")
    assert chat.undo() == (question,)
    assert texts(chat) == ["First", "Yes."]
    assert [turn.text for turn in chat.undo()] == ["First", "Yes."]
    assert (chat.undo(), chat.turns) == ((), ())
    if source == "disk":
        chat.close()
        assert opened().turns == ()


def test_undone_turns_can_be_added_again(
    store: FileStore, opened: Callable[..., Conversation]
) -> None:
    """Turns that `undo` returned can be added again with their sound."""
    chat = begun(opened())
    heard, before = sounds(chat), of(store, "origin")
    back = chat.undo()
    assert len(of(store, "origin")) == len(before) - 1
    for turn in back:
        chat.add(turn)
    assert sounds(chat) == heard
    chat.close()
    assert sounds(opened()) == heard


# --- usage -------------------------------------------------------------------------------------


def test_usage_counts_undone_answers_across_restarts(
    opened: Callable[..., Conversation],
) -> None:
    """`usage` sums each field, counts undone answers, and survives a restart."""
    chat = opened()
    for factor in (1, 2, 3):
        chat.add_user("Question")
        chat.add(billed(usage=Usage(*[factor * n for n in attrs.astuple(BILL)])))
    last = chat.turns[-1]
    assert isinstance(last, AssistantTurn)
    assert last.usage == BILL + BILL + BILL
    expected = Usage(*[6 * n for n in attrs.astuple(BILL)])
    assert chat.usage == expected
    chat.undo()
    assert chat.usage == expected
    chat.close()
    chat = opened()
    assert chat.usage == expected
    chat.undo(answer_only=True)
    chat.undo()
    chat.undo()
    chat.close()
    chat = opened()
    assert (chat.turns, chat.usage) == ((), expected)
    assert expected.total_tokens == 6 * 264


@pytest.mark.parametrize("target", [None, "copy"])
def test_fork_counts_only_its_own_usage(
    opened: Callable[..., Conversation], target: str | None, tmp_path: Path, clock: Clock
) -> None:
    """`usage` of a fork counts only its own answers, also after undo and a restart."""
    origin = begun(opened())
    spent = origin.usage
    assert spent == BILL + BILL
    fork = origin.fork(target)
    assert fork.usage == Usage()

    def again() -> Conversation:
        if target:
            fork.close()
            return opened(target)
        return Conversation.load(fork.save(tmp_path / "fork.json"), clock=clock)

    assert fork.turns[1].usage == BILL  # type: ignore[union-attr]
    fork = again()
    assert fork.usage == Usage()
    fork.add(billed())
    assert fork.usage == BILL
    fork.undo()
    assert fork.usage == BILL, "its own answer was undone with an inherited question"
    fork = again()
    assert fork.usage == BILL
    fork.undo()
    assert (fork.turns, fork.usage) == ((), BILL)
    fork.add_user("Anew")
    fork.add(billed())
    assert fork.usage == BILL + BILL
    fork = again()
    assert fork.usage == BILL + BILL
    assert origin.usage == spent
    fork.close()


def test_fork_of_a_fork_counts_only_its_own_usage(opened: Callable[..., Conversation]) -> None:
    """`usage` of a fork of a fork counts only its own answers."""
    first = opened()
    first.say("One")
    second = first.fork("second")
    second.say("Two")
    third = second.fork("third")
    assert third.usage == Usage()
    third.say("Three")
    own = [chat.turns[-1].usage for chat in (first, second, third)]  # type: ignore[union-attr]
    assert [chat.usage for chat in (first, second, third)] == own
    assert [len(chat.turns) for chat in (first, second, third)] == [2, 4, 6]
    third.undo()
    third.undo()
    assert [chat.usage for chat in (first, second, third)] == own
    for chat in (second, third):
        chat.close()
    assert opened("third").usage == own[2]
    assert opened("second").usage == own[1]


# --- sources and targets -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["read-only", "closed", "unsaved"])
@pytest.mark.parametrize("target", [None, "copy"])
def test_read_only_closed_and_unsaved_sessions_can_be_forked(
    store: FileStore, opened: Callable[..., Conversation], kind: str, target: str | None
) -> None:
    """A read-only, closed or unsaved session can be forked, and its fork can be changed."""
    if kind == "unsaved":
        origin = opened("new")
        said: list[str] = []
    else:
        begun(opened()).close()
        origin = opened(read_only=kind == "read-only")
        said = texts(origin)
        if kind == "closed":
            origin.close()
        with pytest.raises(SessionReadOnly):
            origin.add_user("No")
    before = files(store.root)
    fork = origin.fork(target)
    fork.say("Yes")
    assert texts(fork)[:-1] == [*said, "Yes"]
    after = files(store.root)
    assert {path: after.get(path) for path in before} == before
    assert any(path.startswith("copy") for path in after.keys() - before.keys()) == bool(target)
    fork.close()


def test_empty_fork_is_saved_at_once(store: FileStore, opened: Callable[..., Conversation]) -> None:
    """A fork of an empty conversation is saved at once, so that its id is taken."""
    origin = opened()
    origin.fork("copy").close()
    assert [info.id for info in store.list()] == ["copy"]
    with pytest.raises(SessionExists):
        origin.fork("copy")


def test_fork_of_a_conversation_in_memory_uses_the_default_store(
    clock: Clock, tmp_path: Path
) -> None:
    """A fork from memory is saved in the default store, or in the store of its origin."""
    with begun(Conversation(clock=clock)).fork("copy") as fork:
        assert len(sounds(fork)) == 3
    assert (tmp_path / "home" / "copy.json").exists()
    elsewhere = FileStore(tmp_path / "elsewhere", fsync=False)
    with Conversation.open("origin", store=elsewhere, clock=clock) as origin:
        begun(origin).fork().fork("copy").close()
    assert [info.id for info in elsewhere.list()][:1] == ["copy"]


def test_tool_can_fork_its_conversation(server: StandIn, client: OpenAI, store: FileStore) -> None:
    """A tool can fork its conversation, and the open call is answered at rendering."""
    forks = []

    def branch() -> str:
        """Keep a copy."""
        forks.append(chat.fork("copy"))
        return "done"

    with Conversation.open("origin", store=store, client=client, tools=[branch]) as chat:
        server.will_answer(tool_calls=[("branch", {})])
        chat.say("Branch")
        [fork] = forks
        assert [turn.role for turn in fork.turns] == ["user", "assistant"]
        assert [message["role"] for message in fork.messages()] == ["user", "assistant", "tool"]
        assert fork.say("And now?").text
        assert len(chat.turns) == 4
        fork.close()


@pytest.mark.parametrize("taken", ["origin", "other", "labels only"])
def test_fork_never_overwrites_a_session(
    store: FileStore, opened: Callable[..., Conversation], taken: str
) -> None:
    """A fork into an existing session raises `SessionExists` and changes no file."""
    origin = begun(opened())
    if taken == "other":
        opened(taken).add_user("Mine")
    elif taken == "labels only":
        opened(taken).set_title("Mine")
    before = files(store.root)
    for _ in range(3):
        with pytest.raises(SessionExists, match="choose another id") as failure:
            origin.fork(taken)
    assert isinstance(failure.value, FileExistsError)
    assert failure.value.path
    assert files(store.root) == before
    origin.add_user("It goes on")


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
def test_failed_fork_leaks_no_descriptor(
    opened: Callable[..., Conversation], disk: FaultyDisk
) -> None:
    """A fork that fails leaks no file descriptor."""
    origin = begun(opened())
    origin.fork("copy").close()

    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    before = handles()
    for _ in range(5):
        with pytest.raises(SessionExists):
            origin.fork("copy")
        disk.arm("write")
        with pytest.raises(SaveFailed):
            origin.fork("other")
    assert handles() == before


def test_fork_refuses_an_invalid_id(opened: Callable[..., Conversation]) -> None:
    """`fork` refuses an invalid id."""
    with pytest.raises(InvalidSetting):
        opened().fork("")


def test_fork_waits_for_a_locked_target(
    store: FileStore, opened: Callable[..., Conversation]
) -> None:
    """A fork into a locked session raises `SessionLocked` and writes nothing."""
    origin = begun(opened(timeout=0))
    with store.session("copy").locked(0), pytest.raises(SessionLocked):
        origin.fork("copy")
    assert of(store, "copy") == {}


# --- failing disks -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    ("source", "operation", "countdown"),
    [
        ("disk", "create", 0),
        ("disk", "write", 0),
        ("disk", "sync", 0),
        ("disk", "replace", 0),
        ("memory", "create", 0),
        ("memory", "create", 2),
        ("memory", "write", 0),
        ("memory", "write", 4),
        ("memory", "sync", 3),
        ("memory", "replace", 1),
    ],
)
def test_failing_disk_leaves_no_fork(
    store: FileStore,
    disk: FaultyDisk,
    opened: Callable[..., Conversation],
    source: str,
    operation: str,
    countdown: int,
    error: int,
) -> None:
    """A fork that the disk refuses leaves no file, and can be retried."""
    disk.fsync = True
    origin = begun(opened())
    if source == "memory":
        origin = origin.fork()
    before, heard = files(store.root), sounds(origin)
    disk.arm(operation, countdown, error)
    with pytest.raises(SaveFailed, match="nothing was changed"):
        origin.fork("copy")
    assert disk.fails is None
    assert files(store.root) == before
    assert [info.id for info in store.list()] == ["origin"]
    with origin.fork("copy") as fork:
        assert sounds(fork) == heard
    assert sounds(opened("copy")) == heard


# --- AsyncConversation -------------------------------------------------------------------------


def test_async_fork_undo_and_usage(server: StandIn, store: FileStore, clock: Clock) -> None:
    """`AsyncConversation` forks, undoes and counts usage like `Conversation`."""

    async def talk() -> None:
        client = server.async_client()
        async with AsyncConversation.open(
            "origin", store=store, clock=clock, client=client
        ) as origin:
            await origin.say(AudioInput(SOUND))
            lone = await origin.add_user("Lone")
            fork = await origin.fork("copy")
            memory = await origin.fork()
            with pytest.raises(SessionExists):
                await origin.fork("copy")
            assert fork.usage == memory.usage == Usage()
            assert sounds(fork) == sounds(memory) == sounds(origin)
            numbers = {path.stat().st_nlink for path in store.root.rglob("*.wav")}
            assert numbers == {2}
            assert [turn.text for turn in await fork.undo()] == [lone.text]
            answer = await fork.say("Another")
            assert fork.usage == answer.usage
            await memory.undo()
            assert len(origin.turns) == 3
            await fork.close()
        store.delete("origin")
        async with AsyncConversation.open("copy", store=store, clock=clock) as again:
            assert again.usage == answer.usage
            assert sounds(again)[0] == SOUND

    asyncio.run(talk())


def test_fork_includes_changes_of_other_objects(opened: Callable[..., Conversation]) -> None:
    """A fork includes changes by other objects, except a fork of a read-only session."""
    mine, theirs = opened(), opened()
    mine.add_user("One")
    theirs.add_user("Two")
    assert [turn.text for turn in mine.fork().turns] == ["One", "Two"]
    theirs.undo()
    assert [turn.text for turn in mine.fork("copy").turns] == ["One"]
    reader = opened(read_only=True)
    theirs.add_user("Three")
    assert [turn.text for turn in reader.fork().turns] == ["One"]


def test_fork_keeps_the_measured_clock_skew(server: StandIn, client: OpenAI) -> None:
    """A fork keeps the clock skew that its origin measured."""
    wrong = Clock(START + 7200)
    chat = Conversation(client=client, clock=wrong)
    chat.say("Hello")
    assert chat.render().items[1].why == "voice, 60 min left"
    assert chat.fork().render().items[1].why == "voice, 60 min left"
    del server


# --- usage of answers that were not kept -------------------------------------------------------


TOLD: dict[str, Any] = {"prompt_tokens": 100, "completion_tokens": 5, "total_tokens": 105}


def test_usage_counts_a_refused_completion(
    server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """`usage` counts a completion that is refused for its two answers."""
    chat = opened()
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}
    server.will_send(
        {"object": "chat.completion", "choices": [choice, {**choice, "index": 1}], "usage": TOLD}
    )
    with pytest.raises(InvalidCompletion, match="one answer, got 2"):
        chat.say("Hello")
    assert chat.usage.total_tokens == 105
    chat.close()
    assert opened().usage.total_tokens == 105


@pytest.mark.parametrize("words", [True, False])
def test_usage_counts_a_stream_that_breaks(
    words: bool, server: StandIn, opened: Callable[..., Conversation]
) -> None:
    """`usage` counts a stream that breaks after its usage chunk, also after undo."""
    chat = opened()
    delta = {"choices": [{"index": 0, "delta": {"content": "Hi"}}]}
    events: list[Any] = [
        *([delta] if words else []),
        {"choices": [], "usage": TOLD},
        {"error": {"code": 1}},
    ]
    server.will_stream(events)
    with pytest.raises(APIError), chat.stream("Hello") as stream:
        list(stream)
    assert len(chat.turns) == 1 + words
    assert chat.usage.total_tokens == 105
    chat.undo()
    assert chat.usage.total_tokens == 105
    chat.close()
    assert opened().usage.total_tokens == 105


# --- copies by Python's own means --------------------------------------------------------------


@pytest.mark.parametrize("kind", [Conversation, AsyncConversation])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_python_copy_is_a_fork_in_memory(
    kind: type[Conversation | AsyncConversation], copied: Callable[[Any], Any], clock: Clock
) -> None:
    """`copy.copy` and `copy.deepcopy` share no turn, in containers and for both twins."""
    origin = kind.from_messages([{"role": "user", "content": "One"}], clock=clock, voice="ash")
    origin._history.fill([*origin.turns, billed()])
    other = copied(origin)
    origin._history.fill([])
    assert texts(other) == ["One", "Yes."]
    assert type(other) is kind
    assert (other.usage.total_tokens, other._requests.settings.voice) == (0, "ash")
    one, two = copy.deepcopy([other, other])
    assert one is two
    assert one is not other


def test_deep_copy_of_a_session_is_in_memory(
    opened: Callable[..., Conversation], store: FileStore
) -> None:
    """Its sound is its own: it outlives the session, which it never changes."""
    chat = begun(opened())
    before = of(store, "origin")
    other = copy.deepcopy(chat)
    other.add_user("Only here")
    assert (other.id, other.title, of(store, "origin")) == (None, "Dogs", before)
    store.delete("origin")
    assert sounds(other) == [SOUND, billed().audio.read(), MP3]  # type: ignore[union-attr]
    other.fork("again").close()
    assert [info.id for info in store.list()] == ["again"]


@pytest.mark.parametrize("kind", [Conversation, AsyncConversation])
def test_conversation_cannot_be_pickled_and_says_what_to_do(kind: type[Any]) -> None:
    """Pickling is refused with the remedy: open it again by its id, or save and load it."""
    with pytest.raises(TypeError, match=rf"{kind.__name__}\.open\(id\) it again, or save\(path\)"):
        pickle.dumps(kind())
