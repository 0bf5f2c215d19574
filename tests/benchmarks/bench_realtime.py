"""Recording of Realtime sessions: time beside that of the talk, and memory."""

from __future__ import annotations

import tempfile
import time
import tracemalloc
from collections.abc import Iterator

from conversation import Conversation
from conversation.realtime import Recorder
from tests.benchmarks.measure import Result
from tests.realtime import events as e

MINUTES = 60
EXCHANGE = 12
"""Seconds: 4 of the user's speech, 6 of an answer, the rest silence."""

PIECE = e.appended(bytes(1920))
SOUND = bytes(6 * 48_000)
WORDS = "word " * 15


def exchange(number: int) -> list[e.Event]:
    """Return what a server sends while so much is appended."""
    start = 1000 * EXCHANGE * number
    item, response = f"item_{number}", f"resp_{number}"
    return [
        *e.spoke(f"said_{number}", start + 500, start + 4500),
        *e.answered(response, item, WORDS.strip(), SOUND),
        e.transcribed(f"said_{number}", "What the user said"),
    ]


def replay(recorder: Recorder, minutes: int) -> None:
    """Replay the events of a session: 25 pieces a second go out, answers come in."""
    for number in range(minutes * 60 // EXCHANGE):
        for _ in range(25 * EXCHANGE):
            recorder.sent(PIECE)
        for event in exchange(number):
            recorder.received(event)


def run(*, quick: bool) -> Iterator[Result]:
    """Yield all figures of this module."""
    minutes = 5 if quick else MINUTES
    with tempfile.TemporaryDirectory() as folder:
        chat = Conversation.open("hour", store=folder)
        start = time.process_time()
        replay(Recorder(chat), minutes)
        seconds = time.process_time() - start
        assert len(chat.turns) == 2 * minutes * 60 // EXCHANGE
    yield Result(
        f"recording the events of {minutes} minutes / these minutes",
        seconds,
        60.0 * minutes,
        limit=0.02,
        unit="s",
    )
    with tempfile.TemporaryDirectory() as folder:
        recorder = Recorder(Conversation.open("hour", store=folder))
        replay(recorder, 2)
        tracemalloc.start()
        peaks = []
        for _ in range(2):
            tracemalloc.reset_peak()
            recorder.received(e.session())
            replay(recorder, 2)
            peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
    yield Result(
        "memory at its peak while recording, later / before",
        peaks[1],
        peaks[0],
        limit=1.2,
        unit="MB",
    )
