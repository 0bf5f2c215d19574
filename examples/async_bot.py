"""Several users at once, in one process: `python examples/async_bot.py [NAME …]`.

Each talks in a session of their own, in the folder `async-bot`, and is resumed in the next run. A
line is printed for all that happens, as it happens. On OpenAI where OPENAI_API_KEY is set, else on
stand-ins, servers of this library on your own machine, which are told to use the tool.
"""

import argparse
import asyncio
import contextlib
import itertools
import os

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

CITIES = ("Oslo", "Lima", "Turin", "Kyoto")
BYTES_PER_SECOND = 48_000  # of the sound that streams


async def weather(city: str) -> str:
    """What the weather is like.

    Args:
        city: Where.
    """
    await asyncio.sleep(0)  # here a bot would ask somebody else, and others go on meanwhile
    return f"light rain in {city}"


async def answer(name: str, chat: AsyncConversation, question: str) -> None:
    """Say one thing for the user, and tell what happens until it is answered."""
    print(f"{name}: asks {question!r}")
    async with chat.stream(question) as events:
        async for event in events:
            match event:
                case TranscriptDelta(text) | TextDelta(text):
                    told = f"hears {text.strip()!r}"
                case AudioDelta(data):
                    told = f"hears {len(data) / BYTES_PER_SECOND:.1f} s of sound"
                case ToolCalled(call, result):
                    told = f"{call.name}({call.arguments}) gave {result!r}"
                case TurnFinished(turn):
                    told = f"has the answer: {turn.text or 'a call of a tool'}"
            print(f"{name}: {told}")


async def serve(name: str, city: str, store: FileStore, client: AsyncOpenAI) -> None:
    """Talk with one user. What goes wrong here does not disturb the others."""
    try:
        async with AsyncConversation.open(
            name, store=store, client=client, tools=[weather]
        ) as chat:
            print(f"{name}: {len(chat.turns)} turns are there")
            for question in (f"What is the weather in {city}?", "Do I need an umbrella?"):
                await answer(name, chat, question)
    except Exception as error:  # noqa: BLE001  # whatever it is, the others go on
        print(f"{name}: {type(error).__name__}: {error}")


async def serve_all(users: dict[tuple[str, str], AsyncOpenAI], store: FileStore) -> None:
    """Talk with all of them at once, and close the clients in the end."""
    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        for client in set(users.values()):
            await stack.enter_async_context(client)
        for (name, city), client in users.items():
            group.create_task(serve(name, city, store, client))


def stand_in(servers: contextlib.ExitStack, city: str) -> AsyncOpenAI:
    """A client of a stand-in that first asks what the weather is like in the city."""
    server = servers.enter_context(StandIn())
    server.will_answer(tool_calls=[("weather", {"city": city})])
    return server.async_client()


def main() -> None:
    """Find out who is there, and whom they talk to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["ann", "bob"])
    names = dict.fromkeys(parser.parse_args().names)
    users = list(zip(names, itertools.cycle(CITIES), strict=False))
    with contextlib.ExitStack() as servers:
        if os.environ.get("OPENAI_API_KEY"):
            clients = dict.fromkeys(users, AsyncOpenAI())  # one for all
        else:
            print("No OPENAI_API_KEY: talking to a stand-in for each, which hums its answers.")
            clients = {user: stand_in(servers, user[1]) for user in users}
        asyncio.run(serve_all(clients, FileStore("async-bot")))


if __name__ == "__main__":
    main()
