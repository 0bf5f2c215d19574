"""Whether saved sessions and their sound are whole. Changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from conversation._conversation import Conversation
from conversation._values.data import Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput
from conversation._values.sound import duration_of, format_of
from conversation._values.turns import AssistantAudio, AssistantTurn, Turn, UserTurn
from conversation.errors import AudioFileMissing, InvalidSetting, SessionError, corrupt
from conversation.stores import _format
from conversation.stores._disk import open_regular, read_all
from conversation.stores.files import FileStore, file_name

_TOLERANCE = 0.1
"""Seconds by which sound may be shorter or longer than its turn says."""


@attrs.frozen
class Checked:
    """What was found of one session.

    Attributes:
        path: Its document.
        id: What it is opened by; None if that cannot be read.
        turns: How many.
        files: How many files with sound, pictures and the like they name.
        problems: What is wrong, each in a sentence; empty if nothing is.
    """

    path: Path
    id: str | None
    turns: int = 0
    files: int = 0
    problems: tuple[str, ...] = ()


def documents(store: FileStore) -> list[Path]:
    """The documents of all sessions, damaged ones too.

    Raises:
        OSError: if the folder cannot be read.
    """
    found = store.root.iterdir() if store.root.exists() else ()
    return sorted(path for path in found if path.suffix == ".json" and path.name[0] != ".")


def check(store: FileStore, path: Path) -> Checked:
    """Look at a session and all that it names."""
    session_id = None
    try:
        session_id = _id_in(path)
        chat = Conversation.open(session_id, store=store, read_only=True)
        turns = chat.turns
    except (SessionError, OSError) as error:
        return Checked(path, session_id, problems=(str(error),))
    problems, files = [], 0
    if chat.recovered:
        at = chat.recovered.line
        problems.append(f"its last write was cut off at line {at}; the next change mends that")
    for number, turn in enumerate(turns, 1):
        for part in _parts(turn):
            if isinstance(part.data, Stored) and part.data.name:
                files += 1
                problems += [f"turn {number}: {problem}" for problem in _problems(part, part.data)]
    return Checked(path, session_id, len(turns), files, tuple(problems))


def _id_in(path: Path) -> str:
    """The id of the session, whose file it has to be.

    Raises:
        SessionCorrupt, SessionTooNew: if it is none.
    """
    descriptor = open_regular(path)  # a FIFO hangs nobody
    if descriptor is None:
        raise corrupt(path, "it is gone")
    try:
        session_id: Any = _format.parse(read_all(descriptor), path).header.get("id")
    finally:
        os.close(descriptor)
    try:
        name = file_name(session_id)
    except InvalidSetting as error:
        raise corrupt(path, str(error)) from error
    if f"{name}.json" != path.name:
        reason = f"it is the session {session_id!r} (a copied or renamed file?)"
        raise corrupt(path, reason)
    return str(session_id)


def _parts(turn: Turn) -> Iterator[AssistantAudio | AudioInput | ImageInput | FileInput]:
    if isinstance(turn, AssistantTurn) and turn.audio:
        yield turn.audio
    for part in turn.content if isinstance(turn, UserTurn) else ():
        if not isinstance(part, str):
            yield part


def _problems(
    part: AssistantAudio | AudioInput | ImageInput | FileInput, stored: Stored
) -> Iterator[str]:
    try:
        data = stored.read()
    except (AudioFileMissing, OSError) as error:
        yield str(error)
        return
    if not data:
        yield f"the file {stored.name} is empty"
    elif isinstance(part, AssistantAudio | AudioInput):
        found, seconds = format_of(data), duration_of(data, part.format)
        if part.format not in ("pcm16", found):
            yield f"the file {stored.name} holds {found or 'no sound'} instead of {part.format}"
        elif seconds and part.duration and abs(seconds - part.duration) > _TOLERANCE:
            told = f"{seconds:.1f} s of sound instead of {part.duration:.1f} s"
            yield f"the file {stored.name} holds {told}"
