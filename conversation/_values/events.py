"""Events of a streamed answer."""

from __future__ import annotations

from typing import TypeAlias

import attrs

from conversation._values.sound import PCM_RATE
from conversation._values.turns import AssistantTurn, ToolCall


@attrs.frozen
class TranscriptDelta:
    """The next spoken words.

    Attributes:
        text: A piece of the transcript.
    """

    text: str


@attrs.frozen
class TextDelta:
    """The next written words, or those of a refusal.

    Attributes:
        text: A piece of the text.
    """

    text: str


@attrs.frozen
class AudioDelta:
    """The next sound, ready to play.

    Attributes:
        data: Whole samples: mono, signed 16 bit, little-endian, whatever the server streams.
        rate: Samples per second (Hz): 24,000 from OpenAI; nothing is resampled.
    """

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")
    rate: int = PCM_RATE


@attrs.frozen
class ToolCalled:
    """A tool was called, and its result is kept.

    Attributes:
        call: The call that the model asked for.
        result: The result as text, as the model gets it.
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
