"""Writers that are killed at a chosen step: the session stays whole and leaves no stray files."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, FileStore, UserTurn
from conversation.errors import SessionNotFound
from conversation.stores._disk import Disk
from conversation.stores._session import FileSession
from tests.samples import SOUND
from tests.stores.processes.child import exit_code_of
from tests.stores.samples import names


def die(*_: object, **__: object) -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_delete_removes_the_remains_of_a_killed_writer(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`delete` removes the temporary document of a writer that was killed during a rewrite."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("my secret", AudioInput(SOUND))

    def title() -> None:
        monkeypatch.setattr(Disk, "replace", die)
        Conversation.open("x", store=store).set_title("Title")

    assert exit_code_of(title) == -signal.SIGKILL
    assert ".x.json.tmp" in names(store)
    store.delete("x")
    assert not names(store)


def test_next_write_removes_the_remains_of_a_killed_writer(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adding a turn removes the temporary document of a writer that was killed."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user("One")

    def title() -> None:
        monkeypatch.setattr(Disk, "replace", die)
        Conversation.open("x", store=store).set_title("Title")

    assert exit_code_of(title) == -signal.SIGKILL
    assert names(store) == [".x.json.tmp", "x.json"]
    with Conversation.open("x", store=store) as chat:
        chat.add_user("Two")
    assert names(store) == ["x.json"]


def test_killed_delete_can_be_retried(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """`delete` can be called again after it was killed before it removed the sound."""
    with Conversation.open("x", store=store) as chat:
        chat.add_user(AudioInput(SOUND))

    def delete() -> None:
        monkeypatch.setattr(shutil, "rmtree", die)
        store.delete("x")

    assert exit_code_of(delete) == -signal.SIGKILL
    assert names(store)[0] == "x.audio"
    store.delete("x")
    assert not names(store)
    with pytest.raises(SessionNotFound):
        store.delete("x")
    assert not list(store.root.iterdir())


def test_delete_removes_sound_without_a_document(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`delete` removes the sound of a session whose writer was killed before its first turn."""

    def begin() -> None:
        chat = Conversation.open("x", store=store)
        monkeypatch.setattr(FileSession, "rewrite", die)
        chat.add_user(AudioInput(SOUND))

    assert exit_code_of(begin) == -signal.SIGKILL
    assert len(names(store)) == 2
    assert not store.list()
    store.delete("x")
    assert not names(store)


# --- killed at each step of a change --------------------------------------------------------------


class DyingDisk(Disk):
    """A disk that kills its process before or after the n-th operation, or amid a write."""

    def __init__(self, countdown: int, *, after: bool) -> None:
        super().__init__(fsync=False)
        self.countdown = countdown
        self.after = after

    def _do(self, operation: Callable[..., Any], *arguments: Any) -> Any:
        self.countdown -= 1
        if self.countdown < 0 and not self.after:
            die()
        done = operation(*arguments)
        if self.countdown < 0:
            die()
        return done

    def write(self, descriptor: int, data: bytes, at: int) -> None:
        if self.countdown == 0 and self.after:
            super().write(descriptor, data[: len(data) // 2], at)
            die()
        self._do(super().write, descriptor, data, at)

    def create(self, path: Path) -> int:
        return int(self._do(super().create, path))

    def replace(self, source: Path, target: Path) -> None:
        self._do(super().replace, source, target)

    def sync(self, descriptor: int) -> None:
        self._do(super().sync, descriptor)

    def sync_folder(self, folder: Path) -> None:
        self._do(super().sync_folder, folder)


OLD = ["Old", "Older"]
CHANGES: dict[str, tuple[Callable[[Conversation], object], list[list[str]]]] = {
    "first turn": (lambda chat: chat.add_user("New"), [["New"]]),
    "first turn with sound": (lambda chat: chat.add_user(spoken("New")), [["New"]]),
    "turn": (lambda chat: chat.add_user("New"), [OLD, [*OLD, "New"]]),
    "turn with sound": (lambda chat: chat.add_user(spoken("New")), [OLD, [*OLD, "New"]]),
    "title": (lambda chat: chat.set_title("New"), [OLD]),
    "undo": (lambda chat: chat.undo(), [OLD, OLD[:1]]),
    "extend": (
        lambda chat: chat.extend([UserTurn("New"), UserTurn((spoken("Newer"),))]),
        [OLD, [*OLD, "New", "Newer"]],
    ),
    "first turns": (
        lambda chat: chat.extend([UserTurn("New"), UserTurn((spoken("Newer"),))]),
        [["New", "Newer"]],
    ),
    "remove": (lambda chat: chat.remove(chat.turns[0]), [OLD, OLD[1:]]),
    "clear": (lambda chat: chat.clear(), [OLD, []]),
    "fork": (lambda chat: chat.fork("fork"), [OLD]),
}
"""Changes, and the texts of the turns that a session may have afterwards."""


def spoken(words: str) -> AudioInput:
    """Return sound with a transcript."""
    return AudioInput(SOUND, transcript=words)


def finishes(change: Callable[[Conversation], object], store: FileStore, disk: Disk) -> bool:
    """Return True if a child process completes the change on that disk."""

    def work() -> None:
        chat = Conversation.open("x", store=store)
        store._disk = disk
        session: Any = chat._history._journal.session  # type: ignore[union-attr]
        session._disk = session._document._disk = disk
        change(chat)

    code = exit_code_of(work)
    assert code in (0, -signal.SIGKILL)
    return code == 0


def check_session(session_id: str, store: FileStore) -> list[str]:
    """Return a session's texts; assert that its sound is there and a turn can be added."""
    with Conversation.open(session_id, store=store) as chat:
        words = [turn.text for turn in chat.turns]
        parts = [p for turn in chat.turns if isinstance(turn, UserTurn) for p in turn.content]
        assert all(part.read() == SOUND for part in parts if isinstance(part, AudioInput))
        chat.add_user("And on")
    with Conversation.open(session_id, store=store, read_only=True) as chat:
        assert [turn.text for turn in chat.turns] == [*words, "And on"]
        assert chat.recovered is None
    return words


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_kill_at_any_step_leaves_the_old_or_the_new_state(
    name: str, after: bool, tmp_path: Path
) -> None:
    """A writer killed at any step of a change leaves the old or the new state, with its sound."""
    change, states = CHANGES[name]
    for step in range(40):
        store = FileStore(tmp_path / str(step), fsync=False)
        if not name.startswith("first"):
            with Conversation.open("x", store=store) as chat:
                chat.add_user("Old")
                chat.add_user(spoken("Older"))
        if finishes(change, store, DyingDisk(step, after=after)):
            break
        there = [info.id for info in store.list()]
        assert "x" in there or name.startswith("first")
        assert all(check_session(session_id, store) in states for session_id in there)
        for session_id in ("x", "fork"):
            if store.session(session_id).exists():
                store.delete(session_id)
        assert not names(store)
    assert 2 <= step < 39
