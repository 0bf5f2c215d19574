"""The input of all export formats, and the short descriptions of turns that people read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import attrs

from conversation._rendering.forms import Form
from conversation._tools import Tool
from conversation._values.parts import AudioInput, FileInput, ImageInput, Part
from conversation._values.turns import AssistantTurn, SystemTurn, ToolTurn, Turn, UserTurn
from conversation._values.usage import Usage

_CUT_OFF = {
    "length": "cut off at the largest length of an answer",
    "content_filter": "cut off by the content filter",
}
_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")


@attrs.frozen(kw_only=True)
class Exported:
    """A conversation as the export formats see it.

    Attributes:
        title: Its title, else its id.
        about: Facts about the whole conversation, such as its model; a time is when it began.
        turns: All turns.
        instructions: The model's instructions.
        tools: The tools that the model may call.
        reasons: Form and reason with which a turn would be sent now, by the turn's `id()`.
        usage: Tokens of all answers together.
        at: The time of the export, by the conversation's clock: that of `reasons`.
    """

    title: str
    about: Sequence[str | datetime]
    turns: Sequence[Turn]
    instructions: str | None
    tools: Sequence[Mapping[str, Any] | Tool]
    reasons: Mapping[int, tuple[Form, str]]
    usage: Usage
    at: datetime


class Note(NamedTuple):
    """A short fact about a turn.

    Attributes:
        text: The fact.
        is_spoken: True if it tells of sound.
    """

    text: str
    is_spoken: bool = False


def without_controls(text: str) -> str:
    """Return the text with control characters replaced: terminals obey them, even in a file."""
    return _CONTROLS.sub("\ufffd", text)


def time_of(at: datetime) -> str:
    """Return a time in the format that people read."""
    return f"{at:%Y-%m-%d %H:%M} UTC"


def about_line(exported: Exported) -> str:
    """Return the facts about the conversation in one line."""
    facts = exported.about
    return " · ".join(each if isinstance(each, str) else f"begun {time_of(each)}" for each in facts)


def text_of(turn: Turn) -> str:
    """Return the turn's text, or a note in its place if it should have one."""
    only_calls = isinstance(turn, AssistantTurn) and turn.tool_calls
    if turn.text or only_calls or isinstance(turn, SystemTurn | ToolTurn):
        return turn.text
    return "(no text)"


def notes(turn: Turn) -> list[Note]:
    """Return short facts about the turn besides its time and text."""
    if isinstance(turn, UserTurn):
        found = [Note((turn.name or "").strip()), *map(_note, turn.content)]
        return [note for note in found if note.text]
    if isinstance(turn, ToolTurn):
        return [Note(f"result of {turn.tool_call_id}")]
    if not isinstance(turn, AssistantTurn):
        return []
    found = [_spoken(turn.audio.duration)] if turn.audio else []
    if turn.refusal:
        found.append(Note("the model refused to answer"))
    elif turn.voice_dropped:
        found.append(Note("the model did not speak"))
    if turn.interrupted:
        found.append(Note("interrupted"))
    if turn.finish_reason in _CUT_OFF:
        found.append(Note(_CUT_OFF[turn.finish_reason]))
    return found


def unanswered(turns: Sequence[Turn]) -> dict[int, str]:
    """Return a note for each user turn that no answer follows, by its position."""
    found: dict[int, str] = {}
    last: int | None = None
    for position, turn in enumerate(turns):
        if isinstance(turn, UserTurn):
            if last is not None:
                found[last] = "no answer of its own"
            last = position
        elif isinstance(turn, AssistantTurn):
            last = None
    return found if last is None else {**found, last: "not answered"}


def time_and_notes(turn: Turn) -> list[str]:
    """Return the turn's time, if it is known, and its notes."""
    return [*([time_of(turn.at)] if turn.at else []), *(note.text for note in notes(turn))]


def counts(usage: Usage) -> list[tuple[str, int]]:
    """Return the token counts that are not zero, with their names."""
    named = (
        ("prompt", usage.prompt_tokens),
        ("prompt text", usage.prompt_text_tokens),
        ("prompt audio", usage.prompt_audio_tokens),
        ("prompt image", usage.prompt_image_tokens),
        ("prompt cached", usage.cached_tokens),
        ("prompt cache write", usage.cache_write_tokens),
        ("completion", usage.completion_tokens),
        ("completion text", usage.completion_text_tokens),
        ("completion audio", usage.completion_audio_tokens),
    )
    return [(name, count) for name, count in named if count]


def _note(part: Part) -> Note:
    match part:
        case AudioInput():
            return _spoken(part.duration)
        case ImageInput():
            return Note(f"picture {part.data[:200]}" if isinstance(part.data, str) else "picture")
        case FileInput():
            return Note(f"file {part.filename or part.file_id}")
    return Note("")


def _spoken(seconds: float | None) -> Note:
    return Note("spoken" if seconds is None else f"spoken, {seconds:.1f} s", is_spoken=True)
