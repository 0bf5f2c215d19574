"""The session "retriever", on which most tests of `FileStore` work, and ways to look at it."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    FileStore,
    UserTurn,
)
from conversation._values.turns import Turn
from tests.conftest import Clock
from tests.samples import SOUND, spoken


def opened(store: FileStore, **options: Any) -> Conversation:
    """Open the session."""
    return Conversation.open("retriever", store=store, **options)


def create(store: FileStore, clock: Clock, **options: Any) -> tuple[Turn, ...]:
    """Save a session with a text turn, a spoken answer and a recorded turn; return the turns."""
    with opened(store, clock=clock, **options) as chat:
        chat.add_user("Is a golden retriever a good family dog?")
        chat.add_completion(spoken("Yes, it is."))
        chat.add_user(AudioInput(SOUND, transcript="Thank you."))
        return chat.turns


def path_of(store: FileStore) -> Path:
    """Return the path of the session's document."""
    return store.root / "retriever.json"


def document(store: FileStore) -> dict[str, Any]:
    """Return the session's document, parsed."""
    parsed: dict[str, Any] = json.loads(path_of(store).read_bytes())
    return parsed


def tree(folder: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return mode, inode, time of change, and content or link target of every file in a folder."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            content = str(path.readlink()).encode()
        else:
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        number, changed = status.st_ino, status.st_mtime_ns
        found[str(path.relative_to(folder))] = (status.st_mode, number, changed, content)
    return found


def answer_audio(turn: Turn) -> AssistantAudio:
    """Return the audio of a spoken answer."""
    assert isinstance(turn, AssistantTurn)
    assert turn.audio is not None
    return turn.audio


def user_audio(turn: Turn) -> AudioInput:
    """Return the audio of a recorded user turn."""
    assert isinstance(turn, UserTurn)
    part = turn.content[0]
    assert isinstance(part, AudioInput)
    return part


def names(store: FileStore) -> list[str]:
    """Return the names of all files and folders in a store, except locks."""
    found = (path.relative_to(store.root) for path in store.root.rglob("*"))
    return sorted(str(path) for path in found if path.suffix != ".lock")
