"""`conversation verify` finds damage in sessions and their files; `repair` saves the rest."""

from __future__ import annotations

import argparse
import logging
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import attrs
import orjson

from conversation._cli.listing import info_at, state_of
from conversation._cli.places import AnyStore
from conversation._cli.terminal import plain_line, progress, write_json, write_line
from conversation._cli.wording import said
from conversation._client import run
from conversation._conversation import Conversation
from conversation._values.data import Stored
from conversation._values.parts import AudioInput, FileInput, ImageInput
from conversation._values.sound import duration_of, format_of
from conversation._values.text import counted
from conversation._values.turns import AssistantAudio, AssistantTurn, SystemTurn, Turn, UserTurn
from conversation._wire.strict_json import plain_json
from conversation.errors import (
    AudioFileMissing,
    InvalidSetting,
    SessionError,
    SessionUnavailable,
    corrupt,
    not_found,
)
from conversation.stores._salvage import torn_files
from conversation.stores.files import FileStore

_Media: TypeAlias = AssistantAudio | AudioInput | ImageInput | FileInput

_LOST = "lost_files"
"""Key of a turn under which `repair` notes which of its files are lost or damaged."""

_ROLE = re.compile(r'"role": ?"([a-z]+)"')
_WORDS = re.compile(r'"(?:content|transcript|text)": ?"((?:[^"\\]|\\.)+)')
_SHOWN = 60
"""Characters of a lost turn that are shown."""

_TOLERANCE = 0.1
"""Seconds by which a sound's length may differ from its turn's."""


@attrs.frozen
class _Result:
    """The result of checking one session.

    Attributes:
        place: Its document, or its place in a database.
        id: Its id; None if that cannot be read.
        turns: Number of turns.
        files: Number of files with audio, images and the like that the turns name.
        problems: Descriptions of what is wrong.
        noted: The same of files, for those that `repair` has noted as lost.
        word: Its state if nothing is wrong.
    """

    place: Path | str
    id: str | None
    turns: int = 0
    files: int = 0
    problems: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    word: str = "damaged"

    @property
    def state(self) -> str:
        """The state as `list` tells it; `damaged` also if a file is missing or damaged."""
        return "damaged" if self.problems else self.word


def verify(options: argparse.Namespace, store: AnyStore) -> int:
    """Check the given sessions, or all, and return the exit status: 1 if one is damaged."""
    todo: list[Callable[[], _Result]]
    if isinstance(store, FileStore):
        paths = [store.session(session_id).file for session_id in options.id]
        for session_id, path in zip(options.id, paths, strict=True):
            if not path.exists():
                raise store.session(session_id).not_found()
        paths = paths or list(store._documents())
        torn = torn_files(store.root) if paths else {}
        todo = [partial(_check, store, path, torn.get(path.name, ())) for path in paths]
    else:
        for session_id in options.id:
            if not store.exists(session_id):
                raise not_found(session_id, store.place, None)
        ids = options.id or [info.id for info in store.list()]
        places = [store.session(session_id).place for session_id in ids]
        todo = [partial(_checked, store, *each) for each in zip(ids, places, strict=True)]
    logging.getLogger("conversation").setLevel(logging.CRITICAL)  # the problems are printed below
    results = [check() for check in progress("verifying", todo)]
    damaged = sum(bool(result.problems) for result in results)
    if options.json:
        keys = ("id", "state", "turns", "files", "problems", "noted")
        shown = [{"path": str(r.place), **{k: getattr(r, k) for k in keys}} for r in results]
        write_json(plain_json(shown, "results"))
    else:
        for result in results:
            for problem in result.problems:
                name = shlex.quote(result.id) if result.id else Path(result.place).name
                line = plain_line(f"{name}: {problem}")
                write_line(("damaged", "red"), f" {line}")
            for note in result.noted:
                write_line(plain_line(f"known {shlex.quote(result.id or '')}: {note}"))
        counts = (
            counted(len(results), "session"),
            counted(sum(result.turns for result in results), "turn"),
            counted(sum(result.files for result in results), "file"),
        )
        write_line(f"{', '.join(counts)}; {damaged} damaged")
    return 1 if damaged else 0


def _check(store: FileStore, path: Path, torn: Sequence[Path]) -> _Result:
    """Check a session, all files that it names, and bytes that recoveries have put aside."""
    problems = [
        f"{each.name} has {each.lstat().st_size} bytes of a turn that was cut off. "
        "`conversation repair` reads them again."
        for each in torn
    ]
    try:
        info = info_at(store, path)
        if info is None:
            raise corrupt(path, "it does not exist any more")
    except (SessionError, OSError) as error:
        return _Result(path, None, problems=(said(error), *problems))
    return _checked(store, info.id, path, problems)


def _checked(
    store: AnyStore, session_id: str, place: Path | str, problems: Sequence[str] = ()
) -> _Result:
    """Check what can be checked in any store."""
    problems, files = [*problems], 0
    try:
        chat = Conversation.open(session_id, store=store, read_only=True)
        turns = chat.turns
    except SessionUnavailable:
        raise
    except (SessionError, OSError) as error:
        return _Result(place, session_id, problems=(said(error), *problems))
    if chat.recovered:
        at = chat.recovered.line
        problems.append(
            f"the last turn was cut off while it was saved (line {at}), and may be lost. "
            "A change repairs it."
        )
    noted: list[str] = []
    is_on_disk = isinstance(store, FileStore)  # a database loses none
    remedy = f". `conversation repair {shlex.quote(session_id)}` notes it as lost."
    remedy *= is_on_disk
    for number, part, stored, is_noted in files_of(turns):
        files += 1
        found = [f"turn {number}: {problem}" for problem in _problems(part, stored)]
        if is_noted:
            noted += found
        else:
            problems += [each + remedy for each in found]
    word = state_of(next((t for t in reversed(turns) if not isinstance(t, SystemTurn)), None))
    return _Result(place, session_id, len(turns), files, tuple(problems), tuple(noted), word)


def repair(options: argparse.Namespace, store: AnyStore) -> int:
    """Recover a damaged session."""
    if not isinstance(store, FileStore):
        msg = "repair is for sessions in files; for a database, restore a backup"
        raise InvalidSetting(msg)
    salvage = store.repair(options.id)
    if salvage.original == store.session(options.id).file:
        lost = _note_lost(store, options.id)
        what = f"{counted(len(lost), 'lost file')} noted" if lost else "nothing was changed"
        write_line(f"all {counted(salvage.kept, 'turn')} can be read; {what}")
        for line in lost:
            write_line(plain_line(f"lost: {line}"))
        return 0
    kept = counted(salvage.kept, "turn")
    write_line(f"kept {kept}; the damaged file is kept as {salvage.original}")
    if salvage.header_lost:
        write_line("title, settings and metadata could not be read")
    for piece in salvage.lost:
        write_line(plain_line(f"lost: {_about(piece)}"))
    for line in _note_lost(store, options.id):
        write_line(plain_line(f"lost: {line}"))
    return 0


def _about(piece: bytes) -> str:
    """Return whose turn a piece of a damaged file was, and its first words, as far as it tells."""
    text = piece.decode(errors="replace")
    role, words = _ROLE.search(text), _WORDS.search(text)
    if not (role or words):
        return f"{counted(len(piece), 'byte')} that are no turn"
    said = words[1].replace('\\"', '"').replace("\\n", " ") if words else ""
    begins = f": {said[:_SHOWN]}{'…' * (len(said) > _SHOWN)}" if said else ""
    return f"a turn of the {role[1] if role else 'conversation'}{begins}"


def _note_lost(store: AnyStore, session_id: str) -> list[str]:
    """Note in the turns which of their files are lost; return descriptions of those new to it."""
    lines, changed = list[str](), dict[int, Turn]()
    with Conversation.open(session_id, store=store, create=False) as chat:
        for number, part, stored, is_noted in files_of(turns := chat.turns):
            found = [] if is_noted or not _can_be_told(stored) else [*_problems(part, stored)]
            if not found:
                continue
            turn = changed.get(number - 1, turns[number - 1])
            extra = orjson.loads(turn.extra)
            extra[_LOST] = [*_lost_files(extra), stored.name]
            changed[number - 1] = attrs.evolve(turn, extra=orjson.dumps(extra).decode())
            lines += [f"turn {number}: {each}" for each in found]
        if changed:
            run(chat._replacing(changed))
    return lines


def files_of(turns: Sequence[Turn]) -> Iterator[tuple[int, _Media, Stored, bool]]:
    """Yield each file with the number of its turn, its part, and True if it is noted as lost."""
    for number, turn in enumerate(turns, 1):
        lost = _lost_files(orjson.loads(turn.extra)) if _LOST in turn.extra else []
        for part in _parts(turn):
            if isinstance(part.data, Stored) and part.data.name:
                yield number, part, part.data, part.data.name in lost


def _lost_files(extra: Mapping[str, Any]) -> list[Any]:
    found = extra.get(_LOST)
    return found if isinstance(found, list) else []


def _parts(turn: Turn) -> Iterator[_Media]:
    if isinstance(turn, AssistantTurn) and turn.audio:
        yield turn.audio
    for part in turn.content if isinstance(turn, UserTurn) else ():
        if not isinstance(part, str):
            yield part


def _can_be_told(stored: Stored) -> bool:
    """Return False for a file that is there, but cannot be read now: it may not be lost."""
    try:
        stored.read()
    except AudioFileMissing:
        return True
    except OSError:
        return False
    return True


def _problems(part: _Media, stored: Stored) -> Iterator[str]:
    try:
        data = stored.read()
    except (AudioFileMissing, OSError) as error:
        yield said(error)
        return
    if not data:
        yield f"the file {stored.name} is empty"
    elif isinstance(part, AssistantAudio | AudioInput):
        found, seconds = format_of(data), duration_of(data, part.format)
        if part.format not in ("pcm16", found):
            yield f"the file {stored.name} holds {found or 'no audio'}, expected {part.format}"
        elif seconds and part.duration and abs(seconds - part.duration) > _TOLERANCE:
            lengths = f"{seconds:.1f} s of audio, expected {part.duration:.1f} s"
            yield f"the file {stored.name} holds {lengths}"
