"""What happens while an answer streams in."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from conversation._values.turns import AssistantTurn, ToolCall


@attrs.frozen
class TranscriptDelta:
    """The next words of what is said.

    Attributes:
        text: A piece of the transcript.
    """

    text: str


@attrs.frozen
class TextDelta:
    """The next words of what is written, or of a refusal.

    Attributes:
        text: A piece of the text.
    """

    text: str


@attrs.frozen
class AudioDelta:
    """The next sound, to be played at once.

    Attributes:
        data: Whole samples: 24 kHz, mono, signed 16 bit, little-endian, as the API streams them.
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class ToolCalled:
    """A tool of the conversation was called, and its result is kept.

    Attributes:
        call: What the model asked for.
        result: What it is told.
    """

    call: ToolCall
    result: str


@attrs.frozen
class TurnFinished:
    """An answer is complete, and kept.

    Attributes:
        turn: The answer; with tool calls, another one follows when the tools have run.
    """

    turn: AssistantTurn


Event: TypeAlias = TranscriptDelta | TextDelta | AudioDelta | ToolCalled | TurnFinished
