"""What the drills' programs and their tests share: turns that tell what they are, and lines."""

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

KINDS = ("written", "spoken answer", "said", "written", "spoken answer", "long", "said", "answer")

PASSING = "passing"
"""What the turns say that may be taken back again."""

LONG = "and on " * 15_000
"""So many words that writing them can be interrupted."""


def tell(line: str) -> None:
    """Say a line on standard output, at once."""
    os.write(sys.stdout.fileno(), f"{line}\n".encode())


def hear() -> str:
    """The next line on standard input; empty at its end."""
    return sys.stdin.readline().rstrip("\n")


def add(chat: Conversation, tag: str, number: int) -> None:
    """Add a turn that says `tag`, of the kind that has its turn."""
    match KINDS[number % len(KINDS)]:
        case "written":
            chat.add_user(tag)
        case "long":
            chat.add_user(tag, LONG)
        case "said":
            chat.add_user(AudioInput(SOUND, transcript=tag))
        case "answer":
            chat.add_assistant(tag)
        case _:
            chat.add_completion(spoken(tag, audio_id=f"audio_{number}"))


def tag_of(turn: Turn) -> str:
    """What `add` was told to say."""
    return turn.text.partition("\n")[0]


def check_sound(turn: Turn) -> int:
    """How many sounds the turn names; each has to be there, whole, and playable."""
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
    """The turns that stay, as they are saved, to compare them."""
    return [line_from_turn(turn) for turn in staying(chat)]


def staying(chat: Conversation) -> list[Turn]:
    """The turns, without those that may be taken back again."""
    return [turn for turn in chat.turns if tag_of(turn) != PASSING]


def digest(chat: Conversation) -> str:
    """How many turns there are, and what they are, as one line."""
    lines = [line_from_turn(turn) for turn in chat.turns]
    found = hashlib.sha256(b"\n".join(lines)).hexdigest()
    return f"turns {len(lines)} {found}"


def check_grown(before: list[bytes], now: list[bytes]) -> list[bytes]:
    """What is there now; it has to begin with all that was there before."""
    assert len(now) >= len(before), f"{len(now)} turns, and there were {len(before)}"
    assert now[: len(before)] == before, "what was there before is no longer the same"
    return now
