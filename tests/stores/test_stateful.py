"""A stateful test of saved sessions: random changes, reopenings and crashes."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from conversation import (
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    ImageInput,
    Usage,
    UserTurn,
)
from conversation._values.turns import Turn
from conversation.stores._format import END
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, answer, entry_from_turn, spoken, tool_call
from tests.strategies import words

labels = st.none() | words
pieces = st.floats(0, 1)


def sound_of(turn: Turn) -> list[bytes]:
    """Return the sounds that a turn keeps."""
    if isinstance(turn, AssistantTurn):
        return [turn.audio.read()] if turn.audio and turn.audio.data is not None else []
    if isinstance(turn, UserTurn):
        return [part.read() for part in turn.content if isinstance(part, AudioInput)]
    return []


class SessionMachine(RuleBasedStateMachine):
    """A session that is open in up to two objects, compared with its acknowledged changes."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FileStore(self.folder, fsync=False)
        self.clock = Clock()
        self.turns: list[Turn] = []
        self.sounds: list[list[bytes]] = []
        self.title: str | None = None
        self.metadata: dict[str, Any] = {}
        self.open_calls: list[str] = []
        self.calls = 0
        self.exists = False
        self.chats: list[Conversation] = []
        self.abandoned: list[Conversation] = []
        self.seen: dict[int, tuple[Turn, ...]] = {}
        self.undone = Usage()

    def teardown(self) -> None:
        """Close all objects and remove the folder."""
        for chat in [*self.chats, *self.abandoned]:
            chat.close()
        shutil.rmtree(self.folder)

    @property
    def path(self) -> Path:
        """Return the path of the document."""
        return self.folder / "s.json"

    def opened(self) -> Conversation:
        """Open the session in another object."""
        chat = Conversation.open("s", store=self.store, clock=self.clock)
        self.seen[id(chat)] = chat.turns
        return chat

    def added(self, chat: Conversation, turn: Turn, sounds: list[bytes]) -> None:
        """Record a call that has added a turn."""
        self.turns.append(turn)
        self.sounds.append(sounds)
        self.clock.now += 1
        self.changed(chat)

    def changed(self, chat: Conversation) -> None:
        """Record a call that has changed the session; its object is up to date now."""
        self.exists = True
        self.seen[id(chat)] = chat.turns
        assert chat.turns == tuple(self.turns)
        assert (chat.title, chat.metadata) == (self.title, self.metadata)
        answers = (turn.usage for turn in chat.turns if isinstance(turn, AssistantTurn))
        assert chat.usage == sum((usage for usage in answers if usage), self.undone)

    @initialize()
    def begin(self) -> None:
        """Open the session in one object."""
        self.chats.append(self.opened())

    # --- changes through any of the objects -----------------------------------------------------

    @precondition(lambda self: self.chats)
    @rule(text=words, which=st.integers(0, 1))
    def add_text(self, text: str, which: int) -> None:
        """Add a text turn."""
        chat = self.chats[which % len(self.chats)]
        self.added(chat, chat.add_user(text), [])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), data=st.sampled_from([SOUND, MP3]), transcript=labels)
    def add_sound(self, which: int, data: bytes, transcript: str | None) -> None:
        """Add a recorded turn with a picture."""
        chat = self.chats[which % len(self.chats)]
        turn = chat.add_user(AudioInput(data, transcript=transcript), ImageInput(PNG))
        self.added(chat, turn, [data])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), transcript=words)
    def add_completion(self, which: int, transcript: str) -> None:
        """Add a spoken answer."""
        chat = self.chats[which % len(self.chats)]
        usage = {"prompt_tokens": 7, "completion_tokens": len(transcript)}
        turn = chat.add_completion({**spoken(transcript), "usage": usage})
        self.added(chat, turn, [SOUND])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), number=st.integers(1, 2))
    def add_tool_calls(self, which: int, number: int) -> None:
        """Add an answer with one or two tool calls."""
        chat = self.chats[which % len(self.chats)]
        ids = [f"call_{self.calls + i}" for i in range(number)]
        self.calls += number
        calls = [tool_call(call_id) for call_id in ids]
        self.open_calls = ids
        self.added(chat, chat.add_completion(answer(content=None, tool_calls=calls)), [])

    @precondition(lambda self: self.chats and self.open_calls)
    @rule(which=st.integers(0, 1), result=st.text(max_size=9) | st.integers(0, 9))
    def add_tool_result(self, which: int, result: str | int) -> None:
        """Add the result of a tool call, which another object may have added."""
        chat = self.chats[which % len(self.chats)]
        self.added(chat, chat.add_tool_result(self.open_calls.pop(), result), [])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), title=labels)
    def set_title(self, which: int, title: str | None) -> None:
        """Set the title."""
        chat = self.chats[which % len(self.chats)]
        chat.set_title(title)
        self.title = title
        self.changed(chat)

    @precondition(lambda self: self.chats)
    @rule(
        which=st.integers(0, 1),
        metadata=st.dictionaries(st.text(max_size=3), words | st.integers(-9, 9), max_size=2),
    )
    def set_metadata(self, which: int, metadata: dict[str, Any]) -> None:
        """Set the metadata."""
        chat = self.chats[which % len(self.chats)]
        chat.set_metadata(metadata)
        self.metadata = metadata
        self.changed(chat)

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), answer_only=st.booleans())
    def undo(self, which: int, answer_only: bool) -> None:
        """Undo the last exchange and its sound through an object that may not have seen it."""
        chat = self.chats[which % len(self.chats)]
        asked = [i for i, turn in enumerate(self.turns) if isinstance(turn, UserTurn)]
        start = asked[-1] + answer_only if asked else 0
        back = chat.undo(answer_only)
        assert [sound_of(turn) for turn in back] == self.sounds[start:]
        assert [turn.text for turn in back] == [turn.text for turn in self.turns[start:]]
        for turn in self.turns[start:]:
            if isinstance(turn, AssistantTurn) and turn.usage:
                self.undone += turn.usage
        self.turns, self.sounds = self.turns[:start], self.sounds[:start]
        self.open_calls = self.open_calls if not back else []
        if self.exists:
            self.changed(chat)

    # --- open and close -------------------------------------------------------------------------

    @precondition(lambda self: len(self.chats) < 2)
    @rule()
    def open_one_more(self) -> None:
        """Open the session: all acknowledged changes are there, and nothing was repaired."""
        chat = self.opened()
        assert chat.recovered is None
        assert chat.turns == tuple(self.turns)
        assert (chat.title, chat.metadata) == (self.title, self.metadata)
        self.chats.append(chat)

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1))
    def close_one(self, which: int) -> None:
        """Close an object, which writes nothing."""
        before = self.path.read_bytes() if self.exists else b""
        self.chats.pop(which % len(self.chats)).close()
        assert self.exists is self.path.exists()
        assert not self.exists or self.path.read_bytes() == before

    @precondition(lambda self: self.exists)
    @rule(indent=st.sampled_from([None, 2]))
    def reformat(self, indent: int | None) -> None:
        """Reformat the file, as `jq` does, while no object is open."""
        for chat in self.chats:
            chat.close()
        self.chats = [self.opened()]
        self.chats.pop().close()
        self.path.write_text(json.dumps(json.loads(self.path.read_bytes()), indent=indent))

    # --- crashes -------------------------------------------------------------------------------

    @precondition(lambda self: self.exists and self.is_laid_out())
    @rule(
        text=words | st.sampled_from(["x" * 3000, "]}\n", '"},\n{"role":"user","content":"x"}']),
        where=pieces,
        kind=st.sampled_from(["cut", "zeros", "old end", "end first"]),
    )
    def lose_power(self, text: str, where: float, kind: str) -> None:
        """Lose power during an append: any part of it may be on the disk."""
        old = self.path.read_bytes()
        in_flight = self.in_flight(text)
        new = old[: -len(END)] + in_flight
        cut = len(old) - len(END) + int(where * len(in_flight))
        torn = {
            "cut": new[:cut],
            "zeros": new[:cut] + bytes(len(new) - cut),
            "old end": new[:cut] + old[cut:],
            "end first": old[:cut] + bytes(max(0, cut - len(old))) + new[cut:],
        }[kind]
        self.abandon()
        self.path.write_bytes(torn)
        self.resume(self.opened(), text)

    @precondition(lambda self: self.exists and self.is_laid_out())
    @rule(text=words, where=pieces, closing=st.integers(0, 4), survivor=st.booleans())
    def be_killed(self, text: str, where: float, closing: int, survivor: bool) -> None:
        """Kill a process during an append; another one may have the session open, and continue.

        Bytes beyond the old end are written first, the closing bytes last.
        """
        old = self.path.read_bytes()
        in_flight = self.in_flight(text)
        beyond, first = in_flight[len(END) :], in_flight[: len(END)]
        if where < 0.9:
            torn = old + beyond[: int(where / 0.9 * len(beyond))]
        else:
            torn = old[: -len(END)] + first[:closing] + END[closing:] + beyond
        other = self.chats.pop() if self.chats and survivor else None
        self.abandon()
        with self.path.open("r+b") as file:
            file.write(torn)
        if other is None:
            self.resume(self.opened(), text)
            return
        other.set_title("I am still here")
        self.title = "I am still here"
        self.resume(other, text)

    def resume(self, chat: Conversation, text: str) -> None:
        """Assert that all acknowledged turns are there; the one in flight is whole or missing."""
        self.chats.append(chat)
        found = chat.turns
        assert found[: len(self.turns)] == tuple(self.turns)
        if len(found) > len(self.turns):
            (extra,) = found[len(self.turns) :]
            assert isinstance(extra, UserTurn)
            assert extra.content == (text,)
            self.turns.append(extra)
            self.sounds.append([])
        self.changed(chat)

    def abandon(self) -> None:
        """Stop using all objects, without closing them, as their process is gone."""
        self.abandoned += self.chats
        self.chats = []

    def in_flight(self, text: str) -> bytes:
        """Return the bytes that an append writes in place of the closing bytes."""
        entry = orjson.dumps({"role": "user", "content": text})
        return (b",\n" if self.turns else b"\n") + entry + END

    def is_laid_out(self) -> bool:
        """Return True if the file has one turn per line, so that an append is possible."""
        data = self.path.read_bytes()
        return data.endswith(END) and data.count(b"\n") == len(self.turns) + 2

    # --- invariants -----------------------------------------------------------------------------

    @property
    def pictures(self) -> int:
        """Return the number of pictures; each is a file too."""
        users = [turn for turn in self.turns if isinstance(turn, UserTurn)]
        return sum(isinstance(part, ImageInput) for turn in users for part in turn.content)

    @invariant()
    def document_has_all_acknowledged_changes(self) -> None:
        """Compare the document with the acknowledged changes; no change, no document."""
        assert self.path.exists() is self.exists
        if not self.exists:
            return
        document = json.loads(self.path.read_bytes())
        assert document["turns"] == [entry_from_turn(turn) for turn in self.turns]
        assert (document["title"], document["metadata"]) == (self.title, self.metadata)

    @invariant()
    def objects_keep_what_they_read(self) -> None:
        """Compare each object with the state at its last change or opening."""
        for chat in self.chats:
            assert chat.turns == self.seen[id(chat)]

    @invariant()
    def no_file_is_left_over(self) -> None:
        """Assert that the sound of undone turns is deleted."""
        folder = self.folder / "s.audio"
        kept = len(list(folder.iterdir())) if folder.exists() else 0
        assert kept == sum(len(sounds) for sounds in self.sounds) + self.pictures

    @invariant()
    def readers_see_all_acknowledged_changes(self) -> None:
        """Compare a read-only object, with its sound, with the acknowledged changes."""
        if not self.exists:
            return
        with Conversation.open("s", store=self.store, read_only=True) as reader:
            assert reader.recovered is None
            assert reader.turns == tuple(self.turns)
            assert [sound_of(turn) for turn in reader.turns] == self.sounds
            assert (reader.title, reader.metadata) == (self.title, self.metadata)


SessionMachine.TestCase.settings = settings(stateful_step_count=30)
TestSession = SessionMachine.TestCase
