"""Bytes uploaded for each exchange of a long history."""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from conversation import AssistantAudio, AssistantTurn, AudioInput, Context, Conversation
from tests.benchmarks.measure import Result

NOW = 1_762_000_000.0
WORDS = "Why do you say that golden retrievers are loyal, and what about small children?"
SOUND = AudioInput.from_pcm(bytes(96_000), 24_000, transcript=WORDS)
"""2 s of a user's voice, with its transcript."""

BOUNDS = Context(max_prompt_tokens=4000, user_audio_turns=8, assistant_audio_turns=8)
NO_BOUNDS = Context(max_prompt_tokens=10**9, max_upload_bytes=10**12)


def uploads(context: Context, exchanges: tuple[int, ...]) -> dict[int, float]:
    """Return the megabytes of the request body at these exchanges of one conversation."""
    chat = Conversation(clock=lambda: NOW, context=context)
    found = {}
    for number in range(1, max(exchanges) + 1):
        chat.add_user(SOUND)
        if number in exchanges:
            found[number] = len(orjson.dumps(chat.request())) / 1e6
        audio = AssistantAudio(f"audio_{number:032x}", NOW + 3600, WORDS, duration=5.0)
        chat.add(AssistantTurn(audio=audio))
    return found


def run(*, quick: bool) -> Iterator[Result]:  # noqa: ARG001  # bytes do not vary
    """Yield all figures of this module."""
    exchanges = (10, 50, 100, 200, 500)
    bounded, unbounded = uploads(BOUNDS, exchanges), uploads(NO_BOUNDS, exchanges)
    for number in exchanges:
        yield Result(
            f"upload at exchange {number}, 4,000 tokens and 8 sounds / without bounds",
            bounded[number],
            unbounded[number],
            limit=1,
            unit="MB",
        )
    yield Result(
        "upload at exchange 500 / at 100, 4,000 tokens and 8 sounds",
        bounded[500],
        bounded[100],
        limit=1.05,
        unit="MB",
    )
