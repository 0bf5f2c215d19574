"""Serve several users at once in one process: `python examples/async_bot.py [NAME …]`.

Each user has a session in the folder `example-data/async-bot`, which the next run resumes. Each
event is printed as one line. With OPENAI_API_KEY it talks to OpenAI, else to stand-in servers on
your machine, which are told to call the tool.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
from pathlib import Path

from openai import AsyncOpenAI

from conversation import (
    AsyncConversation,
    AudioDelta,
    FileStore,
    TextDelta,
    ToolCalled,
    TranscriptDelta,
    TurnFinished,
)
from conversation.testing import StandIn

FOLDER = Path("example-data", "async-bot")
CITIES = ("Oslo", "Lima", "Turin", "Kyoto")


async def weather(city: str) -> str:
    """Return the weather in a city.

    Args:
        city: Name of the city.
    """
    await asyncio.sleep(0)  # a real bot would call a service here
    return f"light rain in {city}"


async def answer(name: str, chat: AsyncConversation, question: str) -> None:
    """Ask one question, and print each event until it is answered."""
    print(f"{name}: asks {question!r}")
    async with chat.stream(question) as events:
        async for event in events:
            match event:
                case TranscriptDelta(text) | TextDelta(text):
                    told = f"hears {text.strip()!r}"
                case AudioDelta(data, rate):
                    told = f"hears {len(data) / 2 / rate:.1f} s of sound"
                case ToolCalled(call, result):
                    told = f"{call.name}({call.arguments}) gave {result!r}"
                case TurnFinished(turn):
                    told = f"has the answer: {turn.text or 'a tool call'}"
            print(f"{name}: {told}")


async def serve(name: str, city: str, store: FileStore, client: AsyncOpenAI) -> None:
    """Serve one user; an error here does not affect the others."""
    try:
        async with AsyncConversation.open(
            name, store=store, client=client, tools=[weather]
        ) as chat:
            print(f"{name}: {len(chat.turns)} turns so far")
            for question in (f"What is the weather in {city}?", "Do I need an umbrella?"):
                await answer(name, chat, question)
    except Exception as error:  # noqa: BLE001  # must not affect the other users
        print(f"{name}: {type(error).__name__}: {error}")


async def serve_all(users: dict[tuple[str, str], AsyncOpenAI], store: FileStore) -> None:
    """Serve all users at once, and close their clients at the end."""
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for client in set(users.values()):
            await stack.enter_async_context(client)
        for (name, city), client in users.items():
            group.create_task(serve(name, city, store, client))


def stand_in(servers: contextlib.ExitStack, city: str) -> AsyncOpenAI:
    """Return a client of a stand-in whose first answer calls the tool for the city."""
    server = servers.enter_context(StandIn())
    server.will_answer(tool_calls=[("weather", {"city": city})])
    return server.async_client()


def main() -> None:
    """Choose a client for each user, and serve them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["ann", "bob"])
    names = dict.fromkeys(parser.parse_args().names)
    users = list(zip(names, itertools.cycle(CITIES), strict=False))
    with contextlib.ExitStack() as servers:
        if os.environ.get("OPENAI_API_KEY"):
            clients = dict.fromkeys(users, AsyncOpenAI())  # shared
        else:
            print("No OPENAI_API_KEY: talking to one stand-in per user, which hums its answers.")
            clients = {user: stand_in(servers, user[1]) for user in users}
        asyncio.run(serve_all(clients, FileStore(FOLDER)))


if __name__ == "__main__":
    main()
