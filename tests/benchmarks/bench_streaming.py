"""Time and memory of a streamed answer."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

from openai import OpenAI

from conversation import AssistantTurn, Conversation
from tests.benchmarks.measure import Result, compared

QUESTION = "Tell me all about golden retrievers and small children, please. " * 12
"""The stand-in repeats it: about 50 s of sound in 125 chunks, after as many of words."""


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a stand-in in another process, whose time is not measured."""
    command = [sys.executable, "-m", "conversation.testing", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split()[2].rstrip(";")
        finally:
            process.terminate()


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    with server() as url, OpenAI(base_url=url, api_key="none", max_retries=0) as client:
        request: dict[str, Any] = Conversation().request(stream=True)
        request["messages"] = [{"role": "user", "content": QUESTION}]

        def ours() -> None:
            chat = Conversation(client=client)
            with chat.stream(QUESTION) as events:
                for _ in events:
                    pass

        def theirs() -> None:
            for _ in client.chat.completions.create(**request):
                pass

        yield compared(
            "consuming a stream / iterating the SDK's own",
            ours,
            theirs,
            limit=1.25,
            rounds=15 if quick else 61,
        )
        yield memory(client)


def memory(client: OpenAI) -> Result:
    """Compare the memory that a streamed answer takes with the sound kept."""
    chat = Conversation(client=client)
    with chat.stream("Begin") as events:
        for _ in events:
            pass
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        with chat.stream(QUESTION) as events:
            for _ in events:
                pass
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    turn = chat.turns[-1]
    assert isinstance(turn, AssistantTurn)
    assert turn.audio
    kept = len(turn.audio.read())
    return Result(
        "memory after a streamed answer / the sound kept",
        grown / 1e6,
        kept / 1e6,
        limit=1.2,
        unit="MB",
    )
