"""Add turns as fast as possible and acknowledge each one, until killed.

Each line of standard input (`root`, `session`, `fsync` as JSON) starts a writer: a fork, so that
200 writers need one program. A writer writes `began <pid>`, `opened <turns>`, and then
`added <turns>` and `titled <title>`; after its end, `dead <exit code>` is written.
"""

from __future__ import annotations

import json
import os
import traceback
from typing import NoReturn

from conversation import Conversation, FileStore
from tests.stores.processes.common import add, read_line, write_line

TITLE_EVERY = 9


def write(root: str, session: str, *, fsync: bool) -> NoReturn:
    """Add turns until killed, each tagged with its number in the session."""
    write_line(f"began {os.getpid()}")
    chat = Conversation.open(session, store=FileStore(root, fsync=fsync), timeout=0)
    number = len(chat.turns)
    write_line(f"opened {number}")
    while True:
        if number and number % TITLE_EVERY == 0:
            chat.set_title(f"title {number}")
            write_line(f"titled title {number}")
        number += 1
        add(chat, f"turn {number}", number)
        write_line(f"added {number}")


def main() -> None:
    """Start a writer for each line."""
    write_line("ready")
    while command := read_line():
        child = os.fork()
        if not child:
            try:
                write(**json.loads(command))
            except BaseException:  # noqa: BLE001  # a fork must not continue the loop
                traceback.print_exc()
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        write_line(f"dead {os.waitstatus_to_exitcode(status)}")


if __name__ == "__main__":
    main()
