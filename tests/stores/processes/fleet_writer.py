"""Processes that write to a session in a database until they are killed, or paused."""

from __future__ import annotations

from multiprocessing.connection import Connection

from conversation import AudioInput, Conversation, PostgresStore
from conversation.errors import SessionChanged
from tests.samples import SOUND


def write(url: str, schema: str, name: str, acknowledged: Connection[int, int]) -> None:
    """Add turns for ever, each fourth with sound, and send the number of each that is added."""
    store = PostgresStore(url, schema=schema, lease=1)
    with Conversation.open("s", store=store) as chat:
        number = 0
        while True:
            text = f"{name} {number}"
            chat.add_user(text, *([] if number % 4 else [AudioInput(SOUND + text.encode())]))
            acknowledged.send(number)
            number += 1


def hold_and_write(url: str, schema: str, told: Connection[str, str]) -> None:
    """Lease the session, and write a turn when told to; send what comes of it."""
    session = PostgresStore(url, schema=schema, lease=1).session("s")
    assert session.acquire() is not None
    told.send("held")
    told.recv()
    try:
        session.append([b'{"role":"user","content":"late"}'])
    except SessionChanged:
        told.send("refused")
    else:
        told.send("written")
    session.release()
