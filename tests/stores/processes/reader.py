"""Open a session with `read_only=True` again and again, until a line arrives.

Arguments: root, session. It writes `ready`, and at the end `saw` with the number of readings and
the number of different lengths. Each reading is complete, with its sound, and starts with the
turns of the reading before.
"""

from __future__ import annotations

import select
import sys

from conversation import Conversation, FileStore
from tests.stores.processes.common import check_grown, check_sound, entries, permanent, write_line


def run(root: str, session: str) -> None:
    """Read until a line arrives on standard input."""
    store = FileStore(root)
    seen: list[bytes] = []
    lengths: set[int] = set()
    readings = 0
    while readings == 0 or not select.select([sys.stdin], [], [], 0)[0]:
        with Conversation.open(session, store=store, read_only=True) as chat:
            assert chat.recovered is None, f"reading {readings}: {chat.recovered}"
            before = len(seen)
            seen = check_grown(seen, entries(chat))
            for turn in permanent(chat)[before:]:
                check_sound(turn)
        lengths.add(len(seen))
        readings += 1
        if readings == 1:
            write_line("ready")
    write_line(f"saw {readings} {len(lengths)}")


if __name__ == "__main__":
    run(*sys.argv[1:])
