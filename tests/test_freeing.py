"""Conversations that nobody uses any more are freed at once, without the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from conversation import AsyncConversation, Conversation
from conversation.errors import ConversationBusy, UnknownToolCall
from conversation.testing import StandIn

IDS = pytest.mark.parametrize("session_id", [None, "s"], ids=["memory", "file"])
USES = pytest.mark.parametrize("use", ["nothing", "change", "say", "tool", "hold", "refused"])
STREAMS = pytest.mark.parametrize("use", ["read", "left", "failed", "refused", "busy"])


@pytest.fixture(autouse=True)
def _uncollected() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def _look_up() -> str:
    return "found"


def _script(server: StandIn, use: str) -> None:
    if use == "refused":
        server.will_fail(400)
    if use == "tool":
        server.will_answer(tool_calls=[("_look_up", {})])


def _opened(server: StandIn, session_id: str | None) -> Conversation:
    given: Any = {"client": server.client(), "tools": [_look_up]}
    if session_id is None:
        return Conversation(**given)
    return Conversation.open(session_id, **given)


def _parts_of(chat: Conversation | AsyncConversation) -> list[weakref.ref[Any]]:
    return [weakref.ref(part) for part in (chat, chat._history, chat._requests)]


def _used(chat: Conversation, use: str) -> list[weakref.ref[Any]]:
    match use:
        case "change":
            chat.add_user("Hello", message_id="m1")
            chat.add_user("Hello", message_id="m1")
            with contextlib.suppress(UnknownToolCall):
                chat.add_tool_result("call_1", "found")
            chat.undo()
        case "hold":
            with chat.hold():
                chat.say("Hello")
                chat.fork()
        case "say" | "tool" | "refused":
            with contextlib.suppress(openai.BadRequestError):
                chat.say("Hello")
    return _parts_of(chat)


@IDS
@USES
def test_a_conversation_is_freed_at_once(session_id: str | None, use: str, server: StandIn) -> None:
    """Whatever it was used for, also after an error."""
    _script(server, use)
    assert [part() for part in _used(_opened(server, session_id), use)] == [None] * 3


def _streamed(chat: Conversation, use: str) -> list[weakref.ref[Any]]:
    ends = contextlib.suppress(openai.BadRequestError, LookupError, ConversationBusy)
    with ends, chat.stream("Hello") as events:
        for _ in events:
            if use == "left":
                break
            if use == "failed":
                raise LookupError
            if use == "busy":
                chat.undo()
    return _parts_of(chat)


@IDS
@STREAMS
def test_a_streamed_conversation_is_freed_at_once(
    session_id: str | None, use: str, server: StandIn
) -> None:
    """However its stream ended."""
    _script(server, use)
    assert [part() for part in _streamed(_opened(server, session_id), use)] == [None] * 3


async def _async_used(server: StandIn, session_id: str | None, use: str) -> list[weakref.ref[Any]]:
    given: Any = {"client": server.async_client(), "tools": [_look_up]}
    chat = AsyncConversation(**given)
    if session_id is not None:
        chat = await AsyncConversation.open(session_id, **given)
    match use:
        case "change":
            await chat.add_user("Hello", message_id="m1")
            with contextlib.suppress(UnknownToolCall):
                await chat.add_tool_result("call_1", "found")
            await chat.undo()
        case "hold":
            async with chat.hold():
                await chat.say("Hello")
        case "say" | "tool":
            await chat.say("Hello")
        case "refused":
            with contextlib.suppress(openai.BadRequestError):
                await chat.say("Hello")
            server.will_fail(400)
            with contextlib.suppress(openai.BadRequestError):
                async with chat.stream("Hello") as events:
                    assert [event async for event in events]
        case "left":
            async with chat.stream("Hello") as events:
                async for _ in events:
                    break
    return _parts_of(chat)


@IDS
@pytest.mark.parametrize("use", ["nothing", "change", "say", "tool", "hold", "refused", "left"])
def test_the_twin_is_freed_at_once(session_id: str | None, use: str, server: StandIn) -> None:
    """Same as the synchronous one, while its event loop goes on."""
    _script(server, use)

    async def main() -> None:
        parts = await _async_used(server, session_id, use)
        end = time.monotonic() + 60
        while parts and time.monotonic() < end:
            await asyncio.sleep(0)  # a worker thread lets go of what it has done
            parts = [part for part in parts if part() is not None]
        assert not parts

    asyncio.run(main())
