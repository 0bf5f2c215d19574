"""Any sequence of changes, closings, openings and crashes: memory, disk and model stay equal."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import orjson
from hypothesis import HealthCheck, settings
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
    """All bytes that the turn keeps."""
    if isinstance(turn, AssistantTurn):
        return [turn.audio.read()] if turn.audio and turn.audio.data is not None else []
    if isinstance(turn, UserTurn):
        return [part.read() for part in turn.content if isinstance(part, AudioInput)]
    return []


class SessionMachine(RuleBasedStateMachine):
    """One session, one or two objects that have it open, and what was acknowledged."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = FileStore(self.folder, fsync=False)
        self.clock = Clock()
        self.turns: list[Turn] = []
        self.sounds: list[list[bytes]] = []
        self.title: str | None = None
        self.metadata: dict[str, Any] = {}
        self.waiting: list[str] = []
        self.calls = 0
        self.begun = False
        self.chats: list[Conversation] = []
        self.abandoned: list[Conversation] = []
        self.seen: dict[int, tuple[Turn, ...]] = {}
        self.undone = Usage()

    def teardown(self) -> None:
        """Leave nothing behind."""
        for chat in [*self.chats, *self.abandoned]:
            chat.close()
        shutil.rmtree(self.folder)

    @property
    def place(self) -> Path:
        """The document."""
        return self.folder / "s.json"

    def opened(self) -> Conversation:
        """The session, opened once more."""
        chat = Conversation.open("s", store=self.store, clock=self.clock)
        self.seen[id(chat)] = chat.turns
        return chat

    def acknowledged(self, chat: Conversation, turn: Turn, sounds: list[bytes]) -> None:
        """A call that added a turn has returned."""
        self.turns.append(turn)
        self.sounds.append(sounds)
        self.clock.now += 1
        self.changed(chat)

    def changed(self, chat: Conversation) -> None:
        """A call that changed something has returned: this object knows everything now."""
        self.begun = True
        self.seen[id(chat)] = chat.turns
        assert chat.turns == tuple(self.turns)
        assert (chat.title, chat.metadata) == (self.title, self.metadata)
        answers = (turn.usage for turn in chat.turns if isinstance(turn, AssistantTurn))
        assert chat.usage == sum((usage for usage in answers if usage), self.undone)

    @initialize()
    def begin(self) -> None:
        """One object from the start."""
        self.chats.append(self.opened())

    # --- changes, through any of the objects ---------------------------------------------------

    @precondition(lambda self: self.chats)
    @rule(text=words, which=st.integers(0, 1))
    def add_text(self, text: str, which: int) -> None:
        """What the user wrote."""
        chat = self.chats[which % len(self.chats)]
        self.acknowledged(chat, chat.add_user(text), [])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), data=st.sampled_from([SOUND, MP3]), transcript=labels)
    def add_sound(self, which: int, data: bytes, transcript: str | None) -> None:
        """What the user said, and a picture."""
        chat = self.chats[which % len(self.chats)]
        turn = chat.add_user(AudioInput(data, transcript=transcript), ImageInput(PNG))
        self.acknowledged(chat, turn, [data])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), transcript=words)
    def add_completion(self, which: int, transcript: str) -> None:
        """What the model said."""
        chat = self.chats[which % len(self.chats)]
        usage = {"prompt_tokens": 7, "completion_tokens": len(transcript)}
        turn = chat.add_completion({**spoken(transcript), "usage": usage})
        self.acknowledged(chat, turn, [SOUND])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), number=st.integers(1, 2))
    def add_tool_calls(self, which: int, number: int) -> None:
        """The model asks for one or two tools."""
        chat = self.chats[which % len(self.chats)]
        ids = [f"call_{self.calls + i}" for i in range(number)]
        self.calls += number
        calls = [tool_call(call_id) for call_id in ids]
        self.waiting = ids
        self.acknowledged(chat, chat.add_completion(answer(content=None, tool_calls=calls)), [])

    @precondition(lambda self: self.chats and self.waiting)
    @rule(which=st.integers(0, 1), result=st.text(max_size=9) | st.integers(0, 9))
    def add_tool_result(self, which: int, result: str | int) -> None:
        """A tool of the last such answer, perhaps called through another object, has a result."""
        chat = self.chats[which % len(self.chats)]
        self.acknowledged(chat, chat.add_tool_result(self.waiting.pop(), result), [])

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), title=labels)
    def set_title(self, which: int, title: str | None) -> None:
        """The session gets another name."""
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
        """The program notes something else."""
        chat = self.chats[which % len(self.chats)]
        chat.set_metadata(metadata)
        self.metadata = metadata
        self.changed(chat)

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1), answer_only=st.booleans())
    def undo(self, which: int, answer_only: bool) -> None:
        """The last exchange is taken back, with its sound, by an object that may not know it."""
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
        self.waiting = self.waiting if not back else []
        if self.begun:
            self.changed(chat)

    # --- objects come and go -------------------------------------------------------------------

    @precondition(lambda self: len(self.chats) < 2)
    @rule()
    def open_one_more(self) -> None:
        """It sees all that was acknowledged, and nothing to repair."""
        chat = self.opened()
        assert chat.recovered is None
        assert chat.turns == tuple(self.turns)
        assert (chat.title, chat.metadata) == (self.title, self.metadata)
        self.chats.append(chat)

    @precondition(lambda self: self.chats)
    @rule(which=st.integers(0, 1))
    def close_one(self, which: int) -> None:
        """Closing writes nothing."""
        before = self.place.read_bytes() if self.begun else b""
        self.chats.pop(which % len(self.chats)).close()
        assert self.begun is self.place.exists()
        assert not self.begun or self.place.read_bytes() == before

    @precondition(lambda self: self.begun)
    @rule(indent=st.sampled_from([None, 2]))
    def lay_out_anew(self, indent: int | None) -> None:
        """Another program formats the file, as `jq` does, while nobody has it open."""
        for chat in self.chats:
            chat.close()
        self.chats = [self.opened()]
        self.chats.pop().close()
        self.place.write_text(json.dumps(json.loads(self.place.read_bytes()), indent=indent))

    # --- crashes -------------------------------------------------------------------------------

    @precondition(lambda self: self.begun and self.is_ours())
    @rule(
        text=words | st.sampled_from(["x" * 3000, "]}\n", '"},\n{"role":"user","content":"x"}']),
        where=pieces,
        kind=st.sampled_from(["cut", "zeros", "old end", "end first"]),
    )
    def lose_power(self, text: str, where: float, kind: str) -> None:
        """Everybody is gone in the middle of an append; any part of it may be on the disk."""
        old = self.place.read_bytes()
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
        self.place.write_bytes(torn)
        self.resume(self.opened(), text)

    @precondition(lambda self: self.begun and self.is_ours())
    @rule(text=words, where=pieces, closing=st.integers(0, 4), survivor=st.booleans())
    def be_killed(self, text: str, where: float, closing: int, survivor: bool) -> None:
        """A process ends in the middle of an append; another one has the session open, and goes on.

        Bytes beyond the old end are written first, the closing bytes last.
        """
        old = self.place.read_bytes()
        in_flight = self.in_flight(text)
        beyond, first = in_flight[len(END) :], in_flight[: len(END)]
        if where < 0.9:
            torn = old + beyond[: int(where / 0.9 * len(beyond))]
        else:
            torn = old[: -len(END)] + first[:closing] + END[closing:] + beyond
        other = self.chats.pop() if self.chats and survivor else None
        self.abandon()
        with self.place.open("r+b") as file:
            file.write(torn)
        if other is None:
            self.resume(self.opened(), text)
            return
        other.set_title("I am still here")
        self.title = "I am still here"
        self.resume(other, text)

    def resume(self, chat: Conversation, text: str) -> None:
        """Every acknowledged turn is there; the one in flight may be too, but only whole."""
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
        """Objects whose process is gone: never used again, and not closed before the end."""
        self.abandoned += self.chats
        self.chats = []

    def in_flight(self, text: str) -> bytes:
        """What an append writes from the old closing bytes on."""
        entry = orjson.dumps({"role": "user", "content": text})
        return (b",\n" if self.turns else b"\n") + entry + END

    def is_ours(self) -> bool:
        """Whether the file has our layout, so that an append is possible at all."""
        data = self.place.read_bytes()
        return data.endswith(END) and data.count(b"\n") == len(self.turns) + 2

    # --- what always holds ---------------------------------------------------------------------

    @property
    def pictures(self) -> int:
        """How many pictures were shown; each is a file too."""
        users = [turn for turn in self.turns if isinstance(turn, UserTurn)]
        return sum(isinstance(part, ImageInput) for turn in users for part in turn.content)

    @invariant()
    def the_disk_says_what_was_acknowledged(self) -> None:
        """One valid JSON document with the model's turns and labels; nothing before that."""
        assert self.place.exists() is self.begun
        if not self.begun:
            return
        document = json.loads(self.place.read_bytes())
        assert document["turns"] == [entry_from_turn(turn) for turn in self.turns]
        assert (document["title"], document["metadata"]) == (self.title, self.metadata)

    @invariant()
    def memory_is_what_was_acknowledged(self) -> None:
        """All of it, as it was when the object last looked."""
        for chat in self.chats:
            assert chat.turns == self.seen[id(chat)]

    @invariant()
    def no_file_is_left_over(self) -> None:
        """Sound that was taken back is gone with its turn."""
        folder = self.folder / "s.audio"
        kept = len(list(folder.iterdir())) if folder.exists() else 0
        assert kept == sum(len(sounds) for sounds in self.sounds) + self.pictures

    @invariant()
    def a_reader_sees_all_of_it(self) -> None:
        """With its sound, and without repairing anything."""
        if not self.begun:
            return
        with Conversation.open("s", store=self.store, read_only=True) as reader:
            assert reader.recovered is None
            assert reader.turns == tuple(self.turns)
            assert [sound_of(turn) for turn in reader.turns] == self.sounds
            assert (reader.title, reader.metadata) == (self.title, self.metadata)


SessionMachine.TestCase.settings = settings(
    deadline=None,
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow],
)
TestSession = SessionMachine.TestCase
