"""`conversation search`: turns and titles with a phrase in them, whatever their case."""

from __future__ import annotations

import argparse
import shutil
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import attrs

from conversation._cli.places import AnyStore
from conversation._cli.terminal import (
    one_line,
    plain,
    plain_line,
    progress,
    report,
    show_progress,
    write_json,
    write_line,
)
from conversation._wire.reading import turn_from_entry
from conversation.errors import InvalidSetting, InvalidTurn, SessionError, SessionUnavailable
from conversation.stores import SessionInfo

_WIDTH = 100
"""Columns of a line where there is no terminal."""


@attrs.frozen
class _Hit:
    """A text with the phrase in it: the words before it, those that fit, and those behind it."""

    id: str
    turn: int | None
    role: str
    at: Any
    texts: tuple[str, str, str]


def search(options: argparse.Namespace, store: AnyStore) -> int:
    """Print what has the phrase; the exit status is 1 if nothing has."""
    phrase, hits = _folded(" ".join(options.words)), list[_Hit]()
    if not phrase:
        raise InvalidSetting("there is nothing to search for: give a word or a phrase")
    for info in progress("searching", store.list()):
        try:
            found = [*_in_session(store, info, phrase)]
        except SessionUnavailable:
            raise
        except (InvalidTurn, SessionError, OSError) as error:
            show_progress("")
            report(f"{info.id}: {one_line(error)}")
            continue
        hits += found
        if found and not options.json:
            show_progress("")
            for hit in found:
                _write(hit)
    if options.json:
        write_json(
            [
                attrs.asdict(hit, filter=lambda field, _: field.name != "texts")
                | {"text": "".join(hit.texts)}
                for hit in hits
            ]
        )
    return 0 if hits else 1


def _in_session(store: AnyStore, info: SessionInfo, phrase: str) -> Iterator[_Hit]:
    if texts := _found(info.title or "", phrase):
        yield _Hit(info.id, None, "title", None, texts)
    state = store.session(info.id).read()
    for number, entry in enumerate(state.entries if state else (), 1):
        turn = turn_from_entry(entry)
        if texts := _found(turn.text, phrase):
            yield _Hit(info.id, number, turn.role, turn.at, texts)


def _write(hit: _Hit) -> None:
    where = "title" if hit.turn is None else f"turn {hit.turn}, {hit.role}"
    about = f"{plain(hit.id)}  {where}: "
    width = shutil.get_terminal_size().columns - 1 if sys.stdout.isatty() else _WIDTH
    before, words, behind = hit.texts
    left = max(width - len(about) - len(words), 30)
    if len(before) > (most := max(left // 3, left - len(behind))):
        before = f"…{before[len(before) - most + 1 :]}"
    if len(behind) > left - len(before):
        behind = f"{behind[: left - len(before) - 1]}…"
    write_line((about, "dim"), before, (words, "bold"), behind)


def _folded(text: str) -> str:
    """Return the text as it is compared: in one line, any case, however its accents are written."""
    text = text.lower() if text.isascii() else unicodedata.normalize("NFC", text).casefold()
    return " ".join(text.split())


def _found(text: str, phrase: str) -> tuple[str, str, str] | None:
    """Return the words before the phrase, the phrase, and those behind it; None without it."""
    if phrase not in _folded(text):
        return None
    shown = plain_line(unicodedata.normalize("NFC", text))
    # Some characters become two: "ß" is found by "ss".
    offsets = [at for at, char in enumerate(shown) for _ in char.casefold()]
    begin = _folded(shown).find(phrase)
    if begin < 0:  # it has control characters in it
        return "", shown, ""
    end = offsets[begin + len(phrase) - 1] + 1
    return shown[: offsets[begin]], shown[offsets[begin] : end], shown[end:]
