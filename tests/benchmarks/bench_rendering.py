"""Rendering and importing."""

from __future__ import annotations

import os
import subprocess
import sys
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from conversation import AssistantAudio, AssistantTurn, Context, Conversation, UserTurn
from tests.benchmarks.measure import Result, compared

Turn = UserTurn | AssistantTurn

NOW = 1_762_000_000.0
TURNS = 10_000


def history() -> Iterator[Turn]:
    """Yield questions and spoken answers, the older half of them expired."""
    for i in range(TURNS // 2):
        yield UserTurn(f"Question number {i}")
        yield AssistantTurn(
            audio=AssistantAudio(
                id=f"audio_{i:032x}",
                expires_at=NOW - TURNS // 4 + i,
                transcript=f"Answer number {i}",
            )
        )


def by_hand(turns: tuple[Turn, ...], now: float) -> list[dict[str, Any]]:
    """Build the messages as a user would who knows that there are only these kinds of turns."""
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if isinstance(turn, UserTurn):
            messages.append({"role": "user", "content": turn.content[0]})
        elif isinstance(turn, AssistantTurn) and turn.audio:
            if now < (turn.audio.expires_at or 0) - 30:
                messages.append({"role": "assistant", "audio": {"id": turn.audio.id}})
            else:
                messages.append({"role": "assistant", "content": turn.audio.transcript})
    return messages


def of(turns: Iterable[Turn], context: Context) -> Conversation:
    """Return a conversation of these turns."""
    chat = Conversation(clock=lambda: NOW, context=context)
    for turn in turns:
        chat.add(turn)
    return chat


def sends_all(turns: Sequence[Turn], max_prompt_tokens: int) -> bool:
    """Return True if no turn is left out."""
    bounded = of(turns, Context(max_prompt_tokens=max_prompt_tokens))
    return len(bounded.messages()) == len(turns)


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    turns = tuple(history())
    chat = of(turns, Context())
    if chat.messages() != by_hand(turns, NOW):
        msg = "both must build the same list"
        raise AssertionError(msg)
    yield compared(
        f"messages() of {TURNS:,} turns / the same list built by hand",
        chat.messages,
        lambda: by_hand(turns, NOW),
        limit=1.5,
        rounds=15 if quick else 101,
    )

    whole = bisect_left(range(10**6), True, key=lambda tokens: sends_all(turns, tokens))
    for tokens, name in ((20_000, "for a tenth"), (whole - 1, "a token too small")):
        bounded = of(turns, Context(max_prompt_tokens=tokens))
        sent = bounded.messages()
        if not 100 < len(sent) < TURNS or sent != chat.messages()[-len(sent) :]:
            msg = "the budget must leave out the oldest turns"
            raise AssertionError(msg)
        yield compared(
            f"messages() of {TURNS:,} turns with a budget {name} / without",
            bounded.messages,
            chat.messages,
            limit=3,
            rounds=15 if quick else 101,
        )

    # Bytecode is cached, as after an install.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def python(code: str) -> None:
        subprocess.run([sys.executable, "-c", code], check=True, env=environment)

    python("import conversation")
    yield compared(
        "import conversation - a bare interpreter",
        lambda: python("import conversation"),
        lambda: python("pass"),
        limit=120,
        rounds=7 if quick else 31,
        is_difference=True,
    )
