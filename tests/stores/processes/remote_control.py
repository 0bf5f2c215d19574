"""Execute commands on an open session, one a line.

Arguments: root, session. `add <text>` adds a turn; `say <text>` has an exchange, during which it
writes `holding` and reads a line; `open` opens the session again. Each command writes `trying`,
and then the number of turns or the name of the error.
"""

from __future__ import annotations

import sys
from typing import Any

from conversation import Conversation, FileStore
from conversation.errors import SessionError
from tests.samples import spoken
from tests.stores.processes.child import PATIENCE
from tests.stores.processes.common import read_line, write_line


class Model:
    """A client that answers once it reads a line."""

    def __init__(self) -> None:
        self.chat = self.completions = self

    def create(self, **_: object) -> dict[str, Any]:
        """Return a spoken answer."""
        write_line("holding")
        read_line()
        return spoken()


def run(root: str, session: str) -> None:
    """Execute the commands on standard input."""
    model: Any = Model()

    def opened() -> Conversation:
        return Conversation.open(session, store=FileStore(root), timeout=PATIENCE, client=model)

    chat = opened()
    write_line("ready")
    while command := read_line():
        what, _, text = command.partition(" ")
        write_line("trying")
        try:
            if what == "open":
                chat.close()
                chat = opened()
            elif what == "say":
                chat.say(text)
            else:
                chat.add_user(text)
        except SessionError as error:
            write_line(type(error).__name__)
        else:
            write_line(f"{len(chat.turns)} turns")


if __name__ == "__main__":
    run(*sys.argv[1:])
