"""`conversation show`: the turns of a session, and how each would be sent now."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from conversation._cli.listing import listed
from conversation._cli.places import AnyStore
from conversation._cli.session import give_up_stand_in
from conversation._cli.terminal import plain_line, write_json, write_line, write_text
from conversation._cli.verification import files_of
from conversation._conversation import Conversation
from conversation._export.outline import Exported, about_line, counts, text_of, time_and_notes
from conversation._rendering.forms import Form
from conversation._values.turns import Turn
from conversation._wire.usage import usage_entry
from conversation._wire.writing import line_from_turn


def show(options: argparse.Namespace, store: AnyStore) -> int:
    """Print a session's turns, and how each would be sent now."""
    chat = Conversation.open(options.id, store=store, read_only=True)
    give_up_stand_in(chat)
    exported = chat._exported()
    lacking = _lacking(store, options.id, exported.turns)
    if options.json:
        _show_json(store, chat, exported, lacking)
    else:
        _show_text(exported, lacking)
    return 0


def _lacking(store: AnyStore, session_id: str, turns: Sequence[Turn]) -> dict[int, list[str]]:
    """Return the names of missing files by the numbers of the turns that name them."""
    there, found = store.session(session_id).sizes(), dict[int, list[str]]()
    for number, _, stored, _ in files_of(turns):
        if stored.name not in there:
            found.setdefault(number, []).append(stored.name)
    return found


def _show_json(
    store: AnyStore, chat: Conversation, exported: Exported, lacking: Mapping[int, list[str]]
) -> None:
    session = listed(store, str(chat.id))
    header = session.as_json() if session else {"id": chat.id, "title": chat.title}
    turns = []
    for number, turn in enumerate(exported.turns, 1):
        missing = {"missing": lacking[number]} if number in lacking else {}
        turns.append(shown_entry(number, turn, exported) | missing)
    usage = usage_entry(exported.usage)
    write_json({**header, "settings": chat._saved_settings, "usage": usage, "turns": turns})


def shown_entry(number: int, turn: Turn, exported: Exported) -> dict[str, Any]:
    """Return a turn as it is saved, with its number, and how it would be sent now."""
    form, why = exported.reasons.get(id(turn), (None, None))
    sent = {"form": form and form.value, "why": why}
    return {"turn": number, **orjson.loads(line_from_turn(turn)), "sent": sent}


def _show_text(exported: Exported, lacking: Collection[int]) -> None:
    write_text(plain_line(exported.title), "bold", before="")
    write_text(plain_line(about_line(exported)), "dim", before="")
    if exported.instructions:
        write_line()
        write_line(("instructions", "yellow"))
        write_text(exported.instructions)
    for number, turn in enumerate(exported.turns, 1):
        form, why = exported.reasons.get(id(turn), (Form.PLAIN, ""))
        colour = "green" if turn.role == "user" else "blue"
        sent = "" if form is Form.PLAIN else f" → {why}"
        known = [*time_and_notes(turn), *["its sound or file is missing"] * (number in lacking)]
        about = plain_line(" · ".join(known) + sent)
        write_line()
        role = f"{number} {turn.role}{' ' if about else ''}"
        write_text(about, "dim", before=role, before_colour=colour)
        if text := text_of(turn):
            write_text(text)
        for call in getattr(turn, "tool_calls", ()):
            write_text(f"{call.name}({call.arguments})")
    counted = ", ".join(f"{count:,} {name}" for name, count in counts(exported.usage))
    write_line()
    write_line((f"tokens: {counted or 'none'}", "dim"))
