"""Processes that answer messages and questions until they are killed."""

from __future__ import annotations

import ssl
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from openai import DefaultHttpxClient, OpenAI, resources

from conversation import Conversation, FileStore, PostgresStore
from conversation.errors import SessionChanged
from conversation.stores import Store

COMPLETIONS = resources.chat.completions.Completions
"""What the SDK imports with its first request; forks have it already."""


def store_at(place: Path | tuple[str, str]) -> Store:
    """Return the store in a folder, or in a database and schema."""
    if isinstance(place, Path):
        return FileStore(place, fsync=False)
    return PostgresStore(place[0], schema=place[1], lease=2)


def opened(place: Path | tuple[str, str], session: str, url: str) -> Conversation:
    """Open a session whose questions a stand-in answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading certificates takes long
    http = DefaultHttpxClient(verify=context, trust_env=False)
    client = OpenAI(base_url=url, api_key="any", max_retries=0, http_client=http)
    return Conversation.open(session, store=store_at(place), client=client)


def deliver(
    place: Path | tuple[str, str], session: str, url: str, told: Connection[Any, Any]
) -> None:
    """Say the messages whose numbers are told, and tell each answer.

    One that was refused, because a slow machine let the lease end, is told, and said again.
    """
    with opened(place, session, url) as chat:
        while (number := told.recv()) is not None:
            while True:
                try:
                    answer = chat.say(f"{session} {number}", message_id=f"{session}:{number}")
                except SessionChanged:
                    told.send((number, None))
                else:
                    break
            told.send((number, answer.text))


def reply_if_unanswered(
    place: Path | tuple[str, str], session: str, url: str, told: Connection[Any, Any]
) -> None:
    """Tell if the session is unanswered; when told to, answer it if it still looks so."""
    while told.recv():
        with opened(place, session, url) as chat:
            told.send(chat.unanswered)
            told.recv()
            if chat.unanswered:
                chat.reply()
            told.send(chat.turns[-1].text)


def hold(place: Path | tuple[str, str], session: str, url: str, told: Connection[Any, Any]) -> None:
    """Hold a session in the middle of several changes."""
    with opened(place, session, url) as chat, chat.hold():
        chat.say("one")
        chat.set_title("held")
        told.send("held")
        told.recv()
