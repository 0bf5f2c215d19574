"""Add turns to a session through an object that stays open, while other processes do the same.

Arguments: root, session, tag of its turns, number of turns, and habits: `reopens` adds every
second turn through a newly opened object, `relabels` changes a label after each turn, `undoes`
adds and undoes a turn after each turn.
It writes `ready`, reads `go`, writes `done`, reads `last`, sets the title, and writes the digest
of the turns.
"""

from __future__ import annotations

import contextlib
import sys

from conversation import AudioInput, Conversation, FileStore
from conversation._client import run as perform
from tests.samples import SOUND
from tests.stores.processes.child import PATIENCE
from tests.stores.processes.common import (
    TEMPORARY,
    add,
    check_grown,
    check_sound,
    digest,
    entries,
    permanent,
    read_line,
    write_line,
)


def relabel(chat: Conversation, number: int) -> None:
    """Change the title or the metadata, which rewrites the document."""
    if number % 2:
        chat.set_title(f"title {number}")
    else:
        chat.set_metadata({"number": number})


def add_and_undo(chat: Conversation) -> None:
    """Add a turn and undo it, unless another process has added one meanwhile."""
    chat.add_user(TEMPORARY, AudioInput(SOUND))

    def undo() -> None:
        if chat.turns[-1].text == TEMPORARY:
            (turn,) = chat._history.undo(answer_only=False)
            check_sound(turn)

    perform(chat._changing(undo))


def run(root: str, session: str, name: str, count: int, habits: list[str]) -> None:
    """Add turns, and assert that earlier turns never change."""
    store = FileStore(root)

    def opened() -> Conversation:
        return Conversation.open(session, store=store, timeout=PATIENCE)

    with opened() as chat:
        seen = entries(chat)
        write_line("ready")
        assert read_line() == "go"
        for number in range(count):
            reopens = "reopens" in habits and number % 2
            with opened() if reopens else contextlib.nullcontext(chat) as using:
                assert using.recovered is None
                before = len(seen)
                add(using, f"{name} {number}", number)
                seen = check_grown(seen, entries(using))
                for turn in permanent(using)[before:]:
                    check_sound(turn)
            if "undoes" in habits:
                add_and_undo(chat)
                seen = check_grown(seen, entries(chat))
            if "relabels" in habits:
                relabel(chat, number)
                seen = check_grown(seen, entries(chat))
        write_line("done")
        assert read_line() == "last"
        chat.set_title(f"named by {name}")
        check_grown(seen, entries(chat))
        write_line(digest(chat))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
