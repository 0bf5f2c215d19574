"""A program that has exchanges in a shared session, and logs its requests and its turns."""

from __future__ import annotations

import os
import sys

from openai import OpenAI

from conversation import Conversation, FileStore


def main() -> None:
    """Have so many exchanges, one right after the other."""
    root, url, log, name, count = sys.argv[1:]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    client = OpenAI(base_url=url, api_key="none")
    chat = Conversation.open("s", store=FileStore(root, fsync=False), client=client)
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(count)):
        os.write(descriptor, f"asks {name} {number}\n".encode())
        with chat.stream(f"{name} {number}") as events:
            os.write(descriptor, f"served {name} {number}\n".encode())
            for _ in events:
                pass


if __name__ == "__main__":
    main()
