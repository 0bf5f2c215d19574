"""One of several processes with one session: holds one object open, and adds turns.

Arguments: root, session, a name for its turns, how many turns; then its habits: `reopens` adds
every second turn through an object opened for it, `relabels` changes labels between its turns,
`undoes` takes turns back.
It says `ready`, hears `go`, says `done`, hears `last`, makes one last change, and says `turns`
with their number and the digest of the turns that its object holds.
"""

from __future__ import annotations

import contextlib
import sys

from conversation import AudioInput, Conversation, FileStore
from conversation._client import run as perform
from tests.samples import SOUND
from tests.stores.processes.child import PATIENCE
from tests.stores.processes.common import (
    PASSING,
    add,
    check_grown,
    check_sound,
    digest,
    entries,
    hear,
    staying,
    tell,
)


def change_something_else(chat: Conversation, number: int) -> None:
    """A change that is no turn, and writes the whole session anew."""
    if number % 2:
        chat.set_title(f"title {number}")
    else:
        chat.set_metadata({"number": number})


def take_one_back(chat: Conversation) -> None:
    """Add a turn that others may see, and take it back, unless somebody has added to it."""
    chat.add_user(PASSING, AudioInput(SOUND))

    def undo() -> None:
        if chat.turns[-1].text == PASSING:
            (turn,) = chat._history.undo(answer_only=False)
            check_sound(turn)

    perform(chat._changing(undo))


def run(root: str, session: str, name: str, count: int, habits: list[str]) -> None:
    """Add turns; what this process saw before always stays as it was."""
    store = FileStore(root)

    def opened() -> Conversation:
        return Conversation.open(session, store=store, timeout=PATIENCE)

    with opened() as chat:
        seen = entries(chat)
        tell("ready")
        assert hear() == "go"
        for number in range(count):
            reopens = "reopens" in habits and number % 2
            with opened() if reopens else contextlib.nullcontext(chat) as using:
                assert using.recovered is None
                before = len(seen)
                add(using, f"{name} {number}", number)
                seen = check_grown(seen, entries(using))
                for turn in staying(using)[before:]:
                    check_sound(turn)
            if "undoes" in habits:
                take_one_back(chat)
                seen = check_grown(seen, entries(chat))
            if "relabels" in habits:
                change_something_else(chat, number)
                seen = check_grown(seen, entries(chat))
        tell("done")
        assert hear() == "last"
        chat.set_title(f"named by {name}")
        check_grown(seen, entries(chat))
        tell(digest(chat))


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
