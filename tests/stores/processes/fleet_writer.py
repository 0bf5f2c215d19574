"""Processes that write to a session in a database until they are killed, or paused."""

from __future__ import annotations

import contextlib
from multiprocessing.connection import Connection

from conversation import AudioInput, Conversation, PostgresStore
from conversation.errors import SessionChanged
from tests.samples import SOUND

LEASE = 0.2
"""Seconds of a lease, shorter than stores take: others soon overtake a writer that was killed."""


def write(url: str, schema: str, name: str, acknowledged: Connection[int, int]) -> None:
    """Add turns for ever, each fourth with sound, and send the number of each that is added.

    A turn that was refused, because a slow machine let the lease end, is added anew.
    """
    store = PostgresStore(url, schema=schema)
    store._leases.seconds = LEASE
    with Conversation.open("s", store=store) as chat:
        number = 0
        while True:
            text = f"{name} {number}"
            sound = [] if number % 4 else [AudioInput(SOUND + text.encode())]
            while True:
                with contextlib.suppress(SessionChanged):
                    chat.add_user(text, *sound)
                    break
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
