"""A program that has exchanges in a shared session, and logs when it waits and has its turn."""

from __future__ import annotations

import os
import sys

from openai import OpenAI

from conversation import Conversation, FileStore
from conversation.stores import News
from conversation.stores._session import FileSession


class Session(FileSession):
    """A session that writes a line when it gets its place in the queue."""

    waits = False
    line = b""
    descriptor = -1

    def acquire(self) -> News | None:
        news = super().acquire()
        if news is None and not self.waits:
            os.write(self.descriptor, self.line)
        self.waits = news is None
        return news


class Store(FileStore):
    """A folder of such sessions."""

    def session(self, session_id: str) -> FileSession:
        given = super().session(session_id)
        return Session(given.file, given.id, self._disk, self.keep_sound)


def main() -> None:
    """Have so many exchanges, one right after the other."""
    root, url, log, name, count = sys.argv[1:]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    Session.descriptor, Session.line = descriptor, f"waits {name}\n".encode()
    client = OpenAI(base_url=url, api_key="none")
    chat = Conversation.open("s", store=Store(root, fsync=False), client=client)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        with chat.stream(f"{name} {number}") as events:
            os.write(descriptor, f"served {name} {number}\n".encode())
            for _ in events:
                pass


if __name__ == "__main__":
    main()
