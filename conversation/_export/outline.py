"""A conversation in other forms: API messages, Markdown, lines for fine-tuning, a page to look at.

Each comes piece by piece, with one sound in memory at a time.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import attrs

from conversation._rendering import messages
from conversation._rendering.forms import Form, Prepared, prepare
from conversation._tools import Tool
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import AssistantTurn, ToolTurn, Turn, Usage, UserTurn

log = logging.getLogger("conversation")

_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


@attrs.frozen(kw_only=True)
class Exported:
    """What there is to be shown.

    Attributes:
        title: What it is called.
        about: Facts about all of it, such as its model.
        turns: All turns.
        instructions: What the model is told first.
        tools: What the model is told of.
        reasons: What would be sent now for a turn, by its `id()`: its form, and why.
        usage: Tokens of all answers together.
    """

    title: str
    about: Sequence[str]
    turns: Sequence[Turn]
    instructions: str | None
    tools: Sequence[Mapping[str, Any] | Tool]
    reasons: Mapping[int, tuple[Form, str]]
    usage: Usage

    @property
    def arranged(self) -> list[Prepared]:
        """The turns in the order in which they would be sent, however long they are."""
        prepared = [prepare(turn) for turn in self.turns]
        items = messages.arranged(prepared, self.instructions)
        return [item for item in items if item.form is not Form.LEFT_OUT]


# --- what a person is told of a turn --------------------------------------------------------------


def without_controls(text: str) -> str:
    """The text without control characters, which mean something to terminals and to nobody else."""
    return _CONTROLS.sub("\ufffd", text)


def time_of(at: datetime) -> str:
    """A time as people read it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def notes(turn: Turn) -> list[str]:
    """What is to be known of a turn beside its words."""
    told = [time_of(turn.at)] if turn.at else []
    if isinstance(turn, UserTurn):
        told += [note for part in turn.content if (note := _note(part))]
    elif isinstance(turn, ToolTurn):
        told.append(f"answer to {turn.tool_call_id}")
    elif isinstance(turn, AssistantTurn):
        if turn.audio:
            told.append(_length("spoken", turn.audio.duration))
        if turn.voice_dropped:
            told.append("the model did not speak")
        if turn.interrupted:
            told.append("interrupted")
        if turn.finish_reason in ("length", "content_filter"):
            told.append(f"cut off: {turn.finish_reason}")
    return told


def texts_of(turn: Turn) -> list[str]:
    """A turn's words."""
    text = turn.text
    if isinstance(turn, AssistantTurn) and not text and not turn.tool_calls:
        return ["(its words are not known)"]
    if isinstance(turn, UserTurn) and not text:
        return ["(no words are known)"]
    return [text] if text else []


def _note(part: Part) -> str:
    match part:
        case AudioInput():
            return _length("spoken", part.duration)
        case ImageInput():
            return f"picture {part.data[:200]}" if isinstance(part.data, str) else "picture"
        case FileInput():
            return f"file {part.filename or part.file_id}"
    return ""


def _length(what: str, seconds: float | None) -> str:
    return what if seconds is None else f"{what}, {seconds:.1f} s"


def counts(usage: Usage) -> list[tuple[str, int]]:
    """Tokens by name, those that were counted."""
    named = (
        ("sent", usage.prompt_tokens),
        ("sent as text", usage.prompt_text_tokens),
        ("sent as sound", usage.prompt_audio_tokens),
        ("sent and cached", usage.cached_tokens),
        ("answered", usage.completion_tokens),
        ("answered in text", usage.completion_text_tokens),
        ("answered in sound", usage.completion_audio_tokens),
    )
    return [(name, count) for name, count in named if count]
