"""Opens a session with `read_only=True` again and again, until it is told to stop.

Arguments: root, session. It says `ready`, hears anything, and says `saw` with the number of its
readings and the number of different lengths that it saw. What it reads is always whole, with its
sound, and begins with what it read before.
"""

from __future__ import annotations

import select
import sys

from conversation import Conversation, FileStore
from tests.stores.processes.common import check_grown, check_sound, entries, staying, tell


def run(root: str, session: str) -> None:
    """Read until something is to be heard."""
    store = FileStore(root)
    seen: list[bytes] = []
    lengths: set[int] = set()
    readings = 0
    while readings == 0 or not select.select([sys.stdin], [], [], 0)[0]:
        with Conversation.open(session, store=store, read_only=True) as chat:
            assert chat.recovered is None, f"reading {readings}: {chat.recovered}"
            before = len(seen)
            seen = check_grown(seen, entries(chat))
            for turn in staying(chat)[before:]:
                check_sound(turn)
        lengths.add(len(seen))
        readings += 1
        if readings == 1:
            tell("ready")
    tell(f"saw {readings} {len(lengths)}")


if __name__ == "__main__":
    run(*sys.argv[1:])
