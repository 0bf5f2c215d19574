"""Many open conversations with few file descriptors."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from conversation import AsyncConversation, AudioInput, Conversation, FileStore
from tests.samples import SOUND

pytestmark = pytest.mark.slow

OPEN, DESCRIPTORS = 600, 256


@pytest.fixture(autouse=True)
def _few_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_limit_holds() -> None:
    """This process cannot open as many files as there are conversations below."""
    opened: list[int] = []
    try:
        with pytest.raises(OSError, match="Too many open files"):
            opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(OPEN))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def test_600_conversations_are_open_at_once(tmp_path: Path) -> None:
    """600 conversations, each having just added a turn, need no descriptor."""
    store = FileStore(tmp_path, fsync=False)
    chats = [Conversation.open(f"user:{number}", store=store) for number in range(OPEN)]
    for text in ("Hello", "And again"):
        for chat in chats:
            chat.add_user(text, AudioInput(SOUND))
    assert all(len(chat.turns) == 2 for chat in chats)
    for chat in chats:
        chat.close()


def test_600_async_conversations_are_open_at_once(tmp_path: Path) -> None:
    """600 conversations in one event loop, each having just added a turn, need no descriptor."""
    store = FileStore(tmp_path, fsync=False)

    async def talk() -> None:
        chats = [
            await AsyncConversation.open(f"user:{number}", store=store) for number in range(OPEN)
        ]
        for text in ("Hello", "And again"):
            await asyncio.gather(*(chat.add_user(text) for chat in chats))
        assert all(len(chat.turns) == 2 for chat in chats)
        await asyncio.gather(*(chat.close() for chat in chats))

    asyncio.run(talk())
