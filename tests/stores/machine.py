"""A machine that changes a session at random, and compares it with its acknowledged changes."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from conversation import AssistantTurn, AudioInput, Conversation, ImageInput, Usage, UserTurn
from conversation._values.turns import Turn
from conversation.stores import Store
from tests.conftest import Clock
from tests.samples import MP3, PNG, SOUND, answer, spoken, tool_call
from tests.strategies import words

labels = st.none() | words


def sound_of(turn: Turn) -> list[bytes]:
    """Return the sounds that a turn keeps."""
    if isinstance(turn, AssistantTurn):
        return [turn.audio.read()] if turn.audio and turn.audio.data is not None else []
    if isinstance(turn, UserTurn):
        return [part.read() for part in turn.content if isinstance(part, AudioInput)]
    return []


class SessionMachine(RuleBasedStateMachine):
    """A session that is open in up to two objects, compared with its acknowledged changes."""

    store: Store
    id = "s"

    def __init__(self) -> None:
        super().__init__()
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
        """Close all objects."""
        for chat in [*self.chats, *self.abandoned]:
            chat.close()

    def saved(self) -> Any:
        """Return what the store holds, in any form that can be compared."""
        raise NotImplementedError

    def open(self, **options: Any) -> Conversation:
        """Open the session in an object, of this twin or of one that behaves like it."""
        return Conversation.open(self.id, store=self.store, clock=self.clock, **options)

    def opened(self) -> Conversation:
        """Open the session in another object."""
        chat = self.open()
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
        before = self.saved()
        self.chats.pop(which % len(self.chats)).close()
        assert self.saved() == before

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

    # --- invariants -----------------------------------------------------------------------------

    @property
    def pictures(self) -> int:
        """Return the number of pictures; each is a file too."""
        users = [turn for turn in self.turns if isinstance(turn, UserTurn)]
        return sum(isinstance(part, ImageInput) for turn in users for part in turn.content)

    @invariant()
    def objects_keep_what_they_read(self) -> None:
        """Compare each object with the state at its last change or opening."""
        for chat in self.chats:
            assert chat.turns == self.seen[id(chat)]

    @invariant()
    def readers_see_all_acknowledged_changes(self) -> None:
        """Compare a read-only object, with its sound, with the acknowledged changes."""
        if not self.exists:
            return
        with Conversation.open(self.id, store=self.store, read_only=True) as reader:
            assert reader.recovered is None
            assert reader.turns == tuple(self.turns)
            assert [sound_of(turn) for turn in reader.turns] == self.sounds
            assert (reader.title, reader.metadata) == (self.title, self.metadata)
