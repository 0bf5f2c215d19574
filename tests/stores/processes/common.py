"""Tagged turns, checks and line-based messages, shared by the programs and their tests."""

from __future__ import annotations

import hashlib
import io
import os
import sys
import wave

from conversation import AssistantAudio, AssistantTurn, AudioInput, Conversation, UserTurn
from conversation._values.turns import Turn
from conversation._wire.writing import line_from_turn
from tests.samples import SOUND, spoken

KINDS = ("text", "voice", "recording", "text", "voice", "long", "recording", "answer")

TEMPORARY = "temporary"
"""Tag of turns that may be undone."""

LONG = "and on " * 15_000
"""Text so long that a kill can interrupt its write."""


def write_line(line: str) -> None:
    """Write a line to standard output, unbuffered."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def read_line() -> str:
    """Return the next line of standard input; an empty one at its end."""
    return sys.stdin.readline().rstrip("\n")


def add(chat: Conversation, tag: str, number: int) -> None:
    """Add a turn with the text `tag`; `number` selects its kind."""
    match KINDS[number % len(KINDS)]:
        case "text":
            chat.add_user(tag)
        case "long":
            chat.add_user(tag, LONG)
        case "recording":
            chat.add_user(AudioInput(SOUND, transcript=tag))
        case "answer":
            chat.add_assistant(tag)
        case _:
            chat.add_completion(spoken(tag, audio_id=f"audio_{number}"))


def tag_of(turn: Turn) -> str:
    """Return the tag that was given to `add`."""
    return turn.text.partition("\n")[0]


def check_sound(turn: Turn) -> int:
    """Return the number of sounds of the turn; assert that each one is complete and playable."""
    pieces: list[AssistantAudio | AudioInput] = []
    if isinstance(turn, AssistantTurn) and turn.audio:
        pieces.append(turn.audio)
    if isinstance(turn, UserTurn):
        pieces += (part for part in turn.content if isinstance(part, AudioInput))
    for piece in pieces:
        data = piece.read()
        assert data == SOUND, f"{len(data)} bytes instead of {len(SOUND)}"
        with wave.open(io.BytesIO(data)) as sound:
            assert (sound.getframerate(), sound.getnframes()) == (24_000, 2400)
    return len(pieces)


def entries(chat: Conversation) -> list[bytes]:
    """Return the saved form of the turns that are never undone."""
    return [line_from_turn(turn) for turn in permanent(chat)]


def permanent(chat: Conversation) -> list[Turn]:
    """Return the turns that are never undone."""
    return [turn for turn in chat.turns if tag_of(turn) != TEMPORARY]


def digest(chat: Conversation) -> str:
    """Return the number of turns and a digest of their content, as one line."""
    lines = [line_from_turn(turn) for turn in chat.turns]
    found = hashlib.sha256(b"\n".join(lines)).hexdigest()
    return f"turns {len(lines)} {found}"


def check_grown(before: list[bytes], now: list[bytes]) -> list[bytes]:
    """Return `now`; assert that it starts with everything in `before`."""
    assert len(now) >= len(before), f"{len(now)} turns after {len(before)}"
    assert now[: len(before)] == before, "earlier turns have changed"
    return now
