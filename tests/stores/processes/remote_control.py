"""Has a session open and does what it is told, a line each, and says what came of it.

Arguments: root, session. `add <words>` adds a turn; `say <words>` has an exchange, in the middle
of which it says `holding` and hears a line; `open` opens the session anew. Each says `trying`
first, and then the number of turns, or the name of the error.
"""

from __future__ import annotations

import sys
from typing import Any

from conversation import Conversation, FileStore
from conversation.errors import SessionError
from tests.samples import spoken
from tests.stores.processes.child import PATIENCE
from tests.stores.processes.common import hear, tell


class Model:
    """Stands where a client does, and answers when it hears a line."""

    def __init__(self) -> None:
        self.chat = self.completions = self

    def create(self, **_: object) -> dict[str, Any]:
        """A spoken answer."""
        tell("holding")
        hear()
        return spoken()


def run(root: str, session: str) -> None:
    """Do what is heard."""
    model: Any = Model()

    def opened() -> Conversation:
        return Conversation.open(session, store=FileStore(root), timeout=PATIENCE, client=model)

    chat = opened()
    tell("ready")
    while order := hear():
        what, _, words = order.partition(" ")
        tell("trying")
        try:
            if what == "open":
                chat.close()
                chat = opened()
            elif what == "say":
                chat.say(words)
            else:
                chat.add_user(words)
        except SessionError as error:
            tell(type(error).__name__)
        else:
            tell(f"{len(chat.turns)} turns")


if __name__ == "__main__":
    run(*sys.argv[1:])
