"""`refresh`: what others wrote, without a change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from conversation import AudioInput, Conversation, FileStore
from conversation.errors import SessionChanged, SessionCorrupt
from conversation.testing import StandIn
from tests.samples import SOUND, spoken


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    """An empty store."""
    return FileStore(tmp_path, fsync=False)


def test_refresh_returns_what_is_behind_the_common_beginning(store: FileStore) -> None:
    """Added turns, those after an undone one, and none where nothing or only less is there."""
    writer = Conversation.open("s", store=store)
    writer.add_user("one", AudioInput(SOUND))
    reader = Conversation.open("s", store=store, read_only=True)
    (first,) = reader.turns
    assert reader.refresh() == ()
    second = writer.add_completion(spoken())
    assert reader.refresh() == (second,)
    assert reader.turns[0] is first
    writer.set_title("T")
    assert reader.refresh() == ()
    assert reader.title == "T"
    writer.undo(answer_only=True)
    writer.add_user("three")
    assert [turn.text for turn in reader.refresh()] == ["three"]
    assert reader.turns == writer.turns
    assert reader.turns[0] is first
    writer.undo()
    assert reader.refresh() == ()
    assert reader.turns == writer.turns == (first,)


def test_refresh_changes_nothing_and_waits_for_nobody(
    store: FileStore, server: StandIn, tmp_path: Path
) -> None:
    """It needs no lock: others may be in the middle of an exchange; it writes no file."""
    one = Conversation.open("s", store=store, client=server.client())
    two = Conversation.open("s", store=store, timeout=0)
    assert two.refresh() == ()
    with one.stream("Hello"):
        (question,) = two.refresh()
        assert question.text == "Hello"
        before = (tmp_path / "s.json").read_bytes()
        two.refresh()
        assert (tmp_path / "s.json").read_bytes() == before
        assert one.refresh() == ()
    two.add_user("Bye")
    assert [turn.text for turn in one.refresh()] == ["Bye"]
    one.add_user("Bye, bye")
    assert [turn.text for turn in two.refresh()] == ["Bye, bye"]
    assert Conversation().refresh() == ()


def test_refresh_waits_for_no_hold(store: FileStore) -> None:
    """While its own object is held, there is nothing to read: for strangers, and for the holder."""
    chat = Conversation.open("s", store=store, timeout=0)
    with chat.hold(), ThreadPoolExecutor(1) as others:
        chat.add_user("one")
        assert others.submit(chat.refresh).result() == ()
        assert chat.refresh() == ()
    Conversation.open("s", store=store).add_user("two")
    assert [turn.text for turn in chat.refresh()] == ["two"]


def test_refresh_keeps_sound_that_is_in_memory_only(tmp_path: Path, server: StandIn) -> None:
    """Sound that a store does not keep stays with the object that has heard it."""
    store = FileStore(tmp_path, keep_sound="none", fsync=False)
    chat = Conversation.open("s", store=store, client=server.client())
    reply = chat.say(AudioInput(SOUND))
    Conversation.open("s", store=store).add_user("More")
    assert [turn.text for turn in chat.refresh()] == ["More"]
    assert chat.turns[1] is reply
    assert reply.audio is not None
    assert reply.audio.read()


def test_refresh_of_deleted_and_damaged_sessions(store: FileStore, tmp_path: Path) -> None:
    """They are told, what is in memory stays, and a session that is whole again is read."""
    chat = Conversation.open("s", store=store)
    chat.add_user("one")
    whole = (tmp_path / "s.json").read_bytes()
    (tmp_path / "s.json").write_bytes(whole.replace(b'"role":"user"', b'"role":"robot"'))
    with pytest.raises(SessionCorrupt, match="robot"):
        chat.refresh()
    (tmp_path / "s.json").write_bytes(whole)
    assert chat.refresh() == ()
    chat.add_user("two")
    store.delete("s")
    with pytest.raises(SessionChanged, match="deleted"):
        chat.refresh()
    assert [turn.text for turn in chat.turns] == ["one", "two"]
    with Conversation.open("s", store=store) as other:
        other.add_user("three")
    with pytest.raises(SessionChanged, match="begun anew"):
        chat.refresh()


def test_session_that_others_begin_is_found(store: FileStore) -> None:
    """An object that has opened nothing yet finds what came since."""
    one, two = Conversation.open("s", store=store), Conversation.open("s", store=store)
    assert one.refresh() == ()
    two.add_user("one")
    assert [turn.text for turn in one.refresh()] == ["one"]
    one.add_user("two")
    assert [turn.text for turn in two.refresh()] == ["two"]


def test_system_turns_are_found_whoever_added_them(store: FileStore) -> None:
    """In entries that were read when it was opened, or later, among turns, and after an undo."""
    writer = Conversation.open("s", store=store)
    writer.add_user("one")
    reader = Conversation.open("s", store=store)
    assert reader._history.systems() == []
    writer.add_system("two")
    reader.refresh()
    assert reader._history.systems() == [1]
    reader.add_user("three")
    writer.add_system("four")
    reader.refresh()
    assert reader._history.systems() == [1, 3]
    assert reader._history.systems(2) == [3]
    reader.undo()
    opened = Conversation.open("s", store=store)
    assert opened._history.systems() == reader._history.systems() == [1]
