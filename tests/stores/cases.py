"""Cases that every store passes: derive a test class and provide the fixture `store`.

::

    class TestMyStore(StoreCases):
        @pytest.fixture
        def store(self) -> MyStore:
            return MyStore(…)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from conversation import (
    AssistantTurn,
    AsyncConversation,
    AudioInput,
    Conversation,
    ImageInput,
    TurnFinished,
    UserTurn,
)
from conversation._async_conversation import Opening
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    InvalidTurn,
    SessionChanged,
    SessionExists,
    SessionLocked,
    SessionNotFound,
)
from conversation.stores import News, Store, Stored, StoredSession
from conversation.testing import StandIn
from tests.samples import PNG, SOUND, spoken

HEADER = {"id": "s", "created_at": "2026-11-25T10:00:00Z", "title": None, "metadata": {"a": 1}}


def line(text: str, **keys: Any) -> bytes:
    """Return the entry of a user turn."""
    return orjson.dumps({"role": "user", "content": text, **keys})


@contextmanager
def acquired(session: StoredSession) -> Iterator[News]:
    """Hold a session's lock, which is free."""
    news = session.acquire()
    assert news is not None
    try:
        yield news
    finally:
        session.release()


def texts(session: StoredSession) -> list[str]:
    """Return the texts of all entries."""
    state = session.read()
    return [] if state is None else [entry["content"] for entry in state.entries]


async def awaited(opening: Opening[AsyncConversation]) -> AsyncConversation:
    """Return the conversation that is opened."""
    return await opening


def check_sound(chat: Conversation) -> int:
    """Return the number of sounds; assert that each one can be read."""
    pieces = [turn.audio for turn in chat.turns if isinstance(turn, AssistantTurn) and turn.audio]
    users = [turn for turn in chat.turns if isinstance(turn, UserTurn)]
    parts = [p for turn in users for p in turn.content if isinstance(p, AudioInput)]
    assert all(sound.read() == SOUND for sound in pieces)
    assert all(part.read() == SOUND for part in parts)
    return len(pieces) + len(parts)


class StoreCases:
    """Promises of a store, member by member, and through a conversation."""

    @pytest.fixture
    def session(self, store: Store) -> StoredSession:
        """Return a session of two turns."""
        session = store.session("s")
        with acquired(session):
            session.rewrite(HEADER, {0: line("one", mood="good"), 1: line("two")}, 2)
        return session

    # --- reading and writing -------------------------------------------------------------------

    def test_session_that_was_never_written_is_none(self, store: Store) -> None:
        """A session exists only from its first write on, also if its lock was taken."""
        session = store.session("s")
        assert session.read() is None
        with acquired(session) as news:
            assert news == News()
        assert session.read() is None
        assert list(store.list()) == []
        assert session.id == "s"
        assert session.place
        assert 0 < session.pauses[0] <= session.pauses[1]

    def test_header_and_entries_come_back_as_they_were_written(
        self, store: Store, session: StoredSession
    ) -> None:
        """`read` returns what `rewrite` was given, to another object too."""
        for reader in (session, store.session("s")):
            state = reader.read()
            assert state is not None
            assert state.header == HEADER
            assert state.entries == [
                {"role": "user", "content": "one", "mood": "good"},
                {"role": "user", "content": "two"},
            ]
            assert state.recovered is None

    def test_append_adds_one_or_more_turns(self, store: Store, session: StoredSession) -> None:
        """`append` adds entries in their order, one or several at once."""
        with acquired(session):
            session.append([line("three")])
            session.append([line("four"), line("five")])
        assert texts(store.session("s")) == ["one", "two", "three", "four", "five"]

    def test_rewrite_is_a_difference(self, store: Store, session: StoredSession) -> None:
        """`rewrite` changes some entries, drops the last ones and keeps the others."""
        with acquired(session):
            session.append([line("three"), line("four")])
            session.rewrite({**HEADER, "title": "T"}, {1: line("2")}, 3)
            session.append([line("4")])
        state = store.session("s").read()
        assert state is not None
        assert state.header["title"] == "T"
        assert state.entries[0] == {"role": "user", "content": "one", "mood": "good"}
        assert texts(store.session("s")) == ["one", "2", "three", "4"]

    def test_any_text_survives(self, store: Store, session: StoredSession) -> None:
        """NUL, line ends, quotes and large numbers come back as they were."""
        hostile = '\0 "\\ \n]}\n \u2028 \U0001f600 ' + "x" * 100_000
        with acquired(session):
            session.append([line(hostile, number=2**63, small=1e-300)])
        state = store.session("s").read()
        assert state is not None
        assert state.entries[2] == {
            "role": "user",
            "content": hostile,
            "number": 2**63,
            "small": 1e-300,
        }

    # --- locking and news ----------------------------------------------------------------------

    def test_lock_admits_one_object(self, store: Store, session: StoredSession) -> None:
        """`acquire` returns None while another object holds the lock; `release` is idempotent."""
        other = store.session("s")
        with acquired(session):
            assert other.acquire() is None
            with acquired(store.session("another")):
                pass
        session.release()
        with acquired(other):
            assert session.acquire() is None
            session.release()
            assert session.acquire() is None
            session.release()

    def test_news_are_nothing_added_entries_or_all(
        self, store: Store, session: StoredSession
    ) -> None:
        """`acquire` tells what others changed since this object last looked or wrote."""
        other = store.session("s")
        with acquired(other) as first:
            assert (first.state is None) is False
        with acquired(session) as own:
            assert own == News()
            session.append([line("three")])
        with acquired(other) as news:
            assert news.state is None
            assert [entry["content"] for entry in news.added] == ["three"]
        with acquired(other) as nothing:
            assert nothing == News()
        with acquired(session):
            session.rewrite({**HEADER, "title": "T"}, {}, 1)
        with acquired(other) as all_of_it:
            assert all_of_it.state is not None
            assert all_of_it.state.header["title"] == "T"
            assert [entry["content"] for entry in all_of_it.state.entries] == ["one"]

    def test_deleted_session_is_a_change(self, store: Store, session: StoredSession) -> None:
        """`acquire` raises `SessionChanged` for a session that was deleted, again and again."""
        store.delete("s")
        for _ in range(2):
            with pytest.raises(SessionChanged):
                session.acquire()
        assert store.session("s").read() is None
        with acquired(store.session("s")):
            pass  # a failed `acquire` holds no lock

    # --- bytes ---------------------------------------------------------------------------------

    def test_bytes_are_kept_by_name(self, store: Store, session: StoredSession) -> None:
        """`keep` stores bytes under a name of their own that `fetch` and `fetch_all` know."""
        with acquired(session):
            kept = [
                session.keep(b"sound", "wav", position=2, kind="speech"),
                session.keep(b"picture", "png", position=2, kind="image"),
                session.keep(b"", "bin", position=2, kind="file"),
            ]
            names = [data.name for data in kept if not isinstance(data, bytes)]
            assert len({*names}) == 3
            session.append([line("three", file=names)])
        other = store.session("s")
        assert [other.fetch(name).read() for name in names] == [b"sound", b"picture", b""]
        assert [other.fetch(name).size() for name in names] == [5, 7, 0]
        assert other.fetch_all([*names, "missing.wav"]) == dict(
            zip(names, (b"sound", b"picture", b""), strict=True)
        )
        with acquired(other):
            assert other.keep(other.fetch(names[0]), "wav", position=2, kind="speech") == (
                other.fetch(names[0])
            )

    def test_missing_bytes_are_told_when_they_are_read(self, session: StoredSession) -> None:
        """`fetch` looks at nothing; reading missing bytes raises `AudioFileMissing`."""
        missing = session.fetch("0001-0000.wav")
        assert missing.size() == 0
        with pytest.raises(AudioFileMissing):
            missing.read()

    @pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", ".hidden"])
    def test_names_of_others_are_refused(self, session: StoredSession, name: str) -> None:
        """`fetch` refuses what `keep` could not have named."""
        with pytest.raises(InvalidTurn):
            session.fetch(name)

    def test_discard_removes_what_no_turn_names(self, store: Store, session: StoredSession) -> None:
        """`discard` removes bytes, but not those that a turn still names."""
        with acquired(session):
            first = session.keep(b"one", "wav", position=2, kind="answer")
            second = session.keep(b"two", "wav", position=2, kind="answer")
            assert not isinstance(first, bytes)
            assert not isinstance(second, bytes)
            session.append([line("three", file=first.name)])
            session.discard([first.name, second.name, "missing.wav"])
        assert store.session("s").fetch_all([first.name, second.name]) == {first.name: b"one"}

    # --- the store -----------------------------------------------------------------------------

    def test_list_is_sorted_limited_and_filtered(self, store: Store) -> None:
        """`list` returns the last changed first; `limit` and a literal `prefix` bound it."""
        for number, name in enumerate(("a%1", "b", "a%2", "a_3")):
            session = store.session(name)
            with acquired(session):
                header = {**HEADER, "id": name, "title": f"T{number}"}
                session.rewrite(header, {0: line("x" * number)}, 1)
        found = {info.id: info for info in store.list()}
        assert {*found} == {"a%1", "b", "a%2", "a_3"}
        assert [found[name].title for name in ("a%1", "b", "a%2", "a_3")] == [
            "T0",
            "T1",
            "T2",
            "T3",
        ]
        times = [info.updated_at for info in store.list()]
        assert times == sorted(times, reverse=True)
        assert {info.id for info in store.list(prefix="a%")} == {"a%1", "a%2"}
        assert [info.id for info in store.list(limit=2)] == [info.id for info in store.list()][:2]
        assert list(store.list(limit=0)) == []

    def test_list_goes_on_before_the_last_of_another_list(self, store: Store) -> None:
        """Pages of a list are disjoint and complete."""
        for number in range(7):
            session = store.session(f"s{number}")
            with acquired(session):
                session.rewrite({**HEADER, "id": session.id}, {}, 0)
        whole = [info.id for info in store.list()]
        assert {*whole} == {f"s{number}" for number in range(7)}
        pages, last = [], None
        while page := store.list(limit=3, before=last):
            pages.append([info.id for info in page])
            last = page[-1]
        assert pages == [whole[:3], whole[3:6], whole[6:]]
        assert [info.id for info in store.list(prefix="s", before=store.list()[4])] == whole[5:]

    def test_bytes_may_be_kept_by_a_name_of_another_store(
        self, store: Store, session: StoredSession
    ) -> None:
        """`keep` stores bytes by the name it is given."""
        with acquired(session):
            name = "0003-0123abcd.wav"
            kept = session.keep(b"sound", "wav", position=2, kind="speech", name=name)
            assert not isinstance(kept, bytes)
            assert kept.name == name
            session.append([line("three", file=name)])
        assert store.session("s").fetch(name).read() == b"sound"

    def test_delete_removes_turns_and_bytes(self, store: Store, session: StoredSession) -> None:
        """`delete` removes a session; its id begins a new one, without the old bytes."""
        with acquired(session):
            kept = session.keep(b"sound", "wav", position=2, kind="speech")
            assert not isinstance(kept, bytes)
            session.append([line("three", file=kept.name)])
        store.delete("s")
        assert list(store.list()) == []
        assert store.session("s").read() is None
        assert store.session("s").fetch_all([kept.name]) == {}
        with pytest.raises(SessionNotFound):
            store.delete("s")

    @pytest.mark.parametrize("session_id", ["", "a\nb", "\0", 5])
    def test_invalid_ids_are_refused(self, store: Store, session_id: Any) -> None:
        """An id is text without control characters."""
        with pytest.raises(InvalidSetting):
            store.session(session_id)

    # --- through a conversation ----------------------------------------------------------------

    def test_conversation_is_resumed(self, store: Store, server: StandIn) -> None:
        """A session with sound, a picture, labels and settings is resumed as it was."""
        client = server.client()
        with Conversation.open("ann@1", store=store, client=client, voice="echo") as chat:
            chat.add_user(AudioInput(SOUND), ImageInput(PNG))
            chat.add_completion(spoken())
            chat.set_title("Dogs")
            chat.set_metadata({"user": 42})
            chat.truncate(0.1)
            before = chat.turns
        with Conversation.open("ann@1", store=store, client=client, create=False) as chat:
            assert chat.turns == before
            assert (chat.title, chat.metadata) == ("Dogs", {"user": 42})
            assert chat.request()["audio"]["voice"] == "echo"
            answer = chat.turns[-1]
            assert isinstance(answer, AssistantTurn)
            assert answer.audio
            assert len(answer.audio.read()) > 44
            question = chat.turns[0]
            assert isinstance(question, UserTurn)
            sound = question.content[0]
            assert isinstance(sound, AudioInput)
            assert sound.read() == SOUND
            chat.say("And cats?")
            assert chat.undo()[0].text == "And cats?"
            assert chat.turns == before

    def test_two_objects_take_turns(self, store: Store) -> None:
        """Each change of an object follows all changes of the other."""
        with Conversation.open("s", store=store) as one, Conversation.open("s", store=store) as two:
            one.add_user("a")
            two.add_user("b")
            one.set_title("T")
            two.add_user("c", AudioInput(SOUND))
            one.undo()
            two.add_user("d")
            one.add_user("e")
            assert [turn.text for turn in one.turns] == ["a", "b", "d", "e"]
            assert one.title == two.title == "T"
        with Conversation.open("s", store=store, read_only=True) as again:
            assert again.turns == one.turns

    def test_crowd_loses_no_turn(self, store: Store) -> None:
        """Eight threads with objects of their own add 25 turns each; all are there, in order."""

        def add(name: int) -> None:
            with Conversation.open("s", store=store) as chat:
                for number in range(25):
                    chat.add_user(f"{name} {number}")

        threads = [threading.Thread(target=add, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with Conversation.open("s", store=store, read_only=True) as chat:
            words = [turn.text for turn in chat.turns]
        for name in range(8):
            own = [text for text in words if text.startswith(f"{name} ")]
            assert own == [f"{name} {number}" for number in range(25)]
        assert len(words) == 200

    def test_exchange_holds_the_lock(self, store: Store, server: StandIn) -> None:
        """While an answer streams, nobody else changes or deletes the session."""
        client = server.client()
        with Conversation.open("s", store=store, client=client) as chat:
            other = Conversation.open("s", store=store, timeout=0)
            with chat.stream("Hello") as events:
                next(events)
                with pytest.raises(SessionLocked):
                    other.add_user("Me too")
                waiting = store.session("s")
                assert waiting.acquire() is None
                waiting.release()
                assert any(isinstance(event, TurnFinished) for event in events)
            other.add_user("Now")
            assert [turn.role for turn in other.turns] == ["user", "assistant", "user"]

    def test_message_is_taken_once_by_all_objects(self, store: Store, server: StandIn) -> None:
        """A message that one object has answered is sent by no other one."""
        client = server.client()
        with (
            Conversation.open("s", store=store, client=client) as one,
            Conversation.open("s", store=store, client=client) as two,
        ):
            first = one.say(AudioInput(SOUND), name="Zoë", message_id="1")
            assert two.say("Hello", message_id="1") == first
            two.add_user("Bye", message_id="2")
            second = one.reply()
            assert two.reply() == second == two.say("Bye", message_id="2")
            assert one.turns == two.turns
            assert len(server.requests) == 2
        with Conversation.open("s", store=store, client=client) as again:
            assert again.say("Hello", message_id="1") == first
            assert len(server.requests) == 2

    def test_hold_locks_the_session(self, store: Store, server: StandIn) -> None:
        """Nobody else comes in between; `refresh` looks at it all the same."""
        with (
            Conversation.open("s", store=store, client=server.client()) as one,
            Conversation.open("s", store=store, timeout=0) as two,
        ):
            with one.hold():
                one.add_user("one")
                assert [turn.text for turn in two.refresh()] == ["one"]
                one.reply()
                with pytest.raises(SessionLocked):
                    two.add_user("two")
                one.undo(answer_only=True)
                one.set_title("T")
            two.add_user("two")
            assert [turn.text for turn in one.refresh()] == ["two"]
            assert two.title == "T"

    def test_async_twin_shares_the_session(self, store: Store, server: StandIn) -> None:
        """Tasks of the twin and the other twin add to one session."""

        async def talk() -> None:
            client = server.async_client()
            async with AsyncConversation.open("s", store=store, client=client) as chat:
                await asyncio.gather(*(chat.say(f"Question {i}") for i in range(5)))
                async with chat.stream("Last") as events:
                    async for _ in events:
                        pass

        asyncio.run(talk())
        with Conversation.open("s", store=store, read_only=True) as chat:
            assert [turn.role for turn in chat.turns] == ["user", "assistant"] * 6
            assert chat.turns[-2].text == "Last"

    def test_fork_is_independent(self, store: Store) -> None:
        """A fork has its own turns and bytes; deleting its origin leaves it whole."""
        with Conversation.open("s", store=store) as chat:
            chat.add_user("Hear", AudioInput(SOUND))
            with chat.fork("copy") as fork:
                fork.add_user("More")
            with pytest.raises(SessionExists):
                chat.fork("copy")
        store.delete("s")
        with Conversation.open("copy", store=store, read_only=True) as fork:
            assert [turn.text for turn in fork.turns] == ["Hear", "More"]
            question = fork.turns[0]
            assert isinstance(question, UserTurn)
            sound = question.content[1]
            assert isinstance(sound, AudioInput)
            assert sound.read() == SOUND

    def test_edits_are_saved(self, store: Store, server: StandIn) -> None:
        """Turns are added together, dropped from a turn on, one by one, and all at once."""
        client = server.client()
        with Conversation.open("s", store=store, client=client) as chat:
            answer = Conversation().add_completion(spoken("b"))
            heard = UserTurn((AudioInput(SOUND, transcript="c"), ImageInput(PNG)))
            kept = chat.extend([UserTurn("a"), answer, heard, UserTurn("d"), heard])
            assert kept == chat.turns
            other = Conversation.open("s", store=store, timeout=120)
            assert other.turns == kept
            assert [turn.text for turn in chat.remove(kept[3], kept[0])] == ["a", "d"]
            other.add_user("e", AudioInput(SOUND))
            dropped = chat.rewind(other.turns[2])
            assert [turn.text for turn in dropped] == ["c", "e"]
            again = Conversation.open("s", store=store, read_only=True)
            assert again.turns == chat.turns == kept[1:3]
            assert check_sound(again) == 2
            chat.extend(dropped)
            chat.extend([])
            chat.set_title("T")
            other.clear()
            assert (other.turns, other.title) == ((), "T")
            chat.add_user("new")
        with Conversation.open("s", store=store, read_only=True) as again:
            assert [turn.text for turn in again.turns] == ["new"]
            assert again.title == "T"
        kinds = [turn for turn in (*kept, *dropped) if isinstance(turn, UserTurn)]
        names = [getattr(part, "data", None) for turn in kinds for part in turn.content]
        stored = [data.name for data in names if isinstance(data, Stored)]
        assert stored
        assert store.session("s").fetch_all(stored) == {}

    def test_fork_of_the_beginning_goes_into_any_store(self, store: Store, tmp_path: Path) -> None:
        """A fork gets the turns up to one, in files, in this store, or from memory."""
        with Conversation.open("s", store=store) as chat:
            chat.add_user("one", AudioInput(SOUND))
            until = chat.add_completion(spoken("two"))
            chat.add_user("three")
            with chat.fork("copy", until=until, store=tmp_path / "files") as fork:
                back = fork.fork("back", store=store)
                memory = back.fork(until=back.turns[0])
                again = memory.fork("again", store=store)
        for copied, count in ((fork, 2), (back, 2), (memory, 1), (again, 1)):
            assert [turn.text for turn in copied.turns] == ["one", "two"][:count]
            assert check_sound(copied) == count
        with Conversation.open("again", store=store, read_only=True) as found:
            assert found.turns == again.turns
        with Conversation.open("copy", store=tmp_path / "files", create=False) as found:
            assert found.turns == fork.turns

    def test_imported_messages_become_a_session(self, store: Store) -> None:
        """A list of messages is saved as a whole, and never over a session."""
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
        for twin in (Conversation, AsyncConversation):
            name = twin.__name__
            if twin is Conversation:
                chat: Any = Conversation.from_messages(messages, session_id=name, store=store)
            else:
                chat = asyncio.run(
                    awaited(AsyncConversation.from_messages(messages, session_id=name, store=store))
                )
            assert chat.id == name
            with Conversation.open(name, store=store, create=False) as again:
                assert again.turns == chat.turns
                assert [turn.text for turn in again.turns] == ["Hi", "Hello"]
                with pytest.raises(SessionExists):
                    Conversation.from_messages(messages, session_id=name, store=store)
                assert len(again.turns) == 2

    def test_list_tells_the_metadata(self, store: Store) -> None:
        """Each session in the list has its metadata, an empty dict without any."""
        with Conversation.open("s", store=store) as chat:
            chat.add_user("Hi")
            assert [info.metadata for info in store.list()] == [{}]
            chat.set_metadata({"owner": "ann", "tags": ["a", {"b": None}]})
        [info] = store.list()
        assert info.metadata == {"owner": "ann", "tags": ["a", {"b": None}]}
        assert len({info, info}) == 1

    def test_session_begun_anew_is_not_mixed_with_the_old_one(self, store: Store) -> None:
        """An object of a deleted session refuses changes, also if its id was begun anew."""
        with Conversation.open("s", store=store, clock=lambda: 1e9) as old:
            old.add_user("Old")
            store.delete("s")
            with Conversation.open("s", store=store) as new:
                new.add_user("New")
            for _ in range(2):
                with pytest.raises(SessionChanged) as caught:
                    old.add_user("More")
                assert caught.value.turn.text == "More"
            assert [turn.text for turn in old.turns] == ["Old"]
        with Conversation.open("s", store=store, read_only=True) as new:
            assert [turn.text for turn in new.turns] == ["New"]

    def test_missing_session_is_refused(self, store: Store) -> None:
        """`create=False` and `read_only=True` raise `SessionNotFound`."""
        for given in ({"create": False}, {"read_only": True}):
            with pytest.raises(SessionNotFound):
                Conversation.open("s", store=store, **given)  # type: ignore[arg-type]
