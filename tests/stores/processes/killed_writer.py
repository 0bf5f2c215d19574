"""Adds turns as fast as it can, and tells each one that was acknowledged, until it is killed.

Each line on its standard input (`root`, `session`, `fsync` as JSON) begins a writer: a fork, so
that 200 writers take one start of Python. A writer says `began <pid>`, `opened <turns>` and then
`added <turns>` and `titled <title>`; when it is dead, `dead <signal>` is said for it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import NoReturn

import filelock  # noqa: F401  # now, and not in each fork

from conversation import Conversation, FileStore
from tests.stores.processes.common import add, hear, tell

TITLE_EVERY = 9


def write(root: str, session: str, *, fsync: bool) -> NoReturn:
    """Add turns until killed. Each says which of the session's turns it is."""
    tell(f"began {os.getpid()}")
    chat = Conversation.open(session, store=FileStore(root, fsync=fsync), timeout=0)
    number = len(chat.turns)
    tell(f"opened {number}")
    while True:
        if number and number % TITLE_EVERY == 0:
            chat.set_title(f"title {number}")
            tell(f"titled title {number}")
        number += 1
        add(chat, f"turn {number}", number)
        tell(f"added {number}")


def main() -> None:
    """Begin a writer for each line."""
    assert "openai" not in sys.modules
    tell("ready")
    while order := hear():
        child = os.fork()
        if not child:
            try:
                write(**json.loads(order))
            except BaseException:  # noqa: BLE001  # a fork must never go on in the loop
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        tell(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
