"""A conversation in other forms: API messages, Markdown, lines for fine-tuning, a page to look at.

Each comes piece by piece, with one sound in memory at a time.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import attrs
import orjson

from conversation import _rendering, _wire
from conversation._inputs import AudioInput, FileInput, ImageInput, Part
from conversation._rendering import Form, Moment, Prepared
from conversation._tools import Tool
from conversation._turns import AssistantTurn, ToolTurn, Turn, Usage, UserTurn
from conversation.errors import InvalidSetting

log = logging.getLogger("conversation")

ENDINGS = {
    "html": ".html",
    "json": ".json",
    "jsonl": ".jsonl",
    "markdown": ".md",
    "messages": ".messages.json",
}
"""The forms there are, and how the names of their files end."""

_CONTROLS = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f]")

_FORGOTTEN = Moment(math.inf, 0.0)
"""When no audio id is of use any more."""


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
        prepared = [_rendering.prepare(turn) for turn in self.turns]
        items = _rendering.arranged(prepared, self.instructions)
        return [item for item in items if item.form is not Form.LEFT_OUT]


def form_of(path: Path, given: str | None) -> str:
    """The form that is asked for, or that a file's name tells.

    Raises:
        InvalidSetting: if there is no such form.
    """
    forms = ", ".join(map(repr, ENDINGS))
    if given is not None:
        if given not in ENDINGS:
            raise InvalidSetting(f"format is one of {forms}, not {given!r}")
        return given
    name = path.name.lower()
    told = [form for form, ending in ENDINGS.items() if name.endswith(ending)]
    if not told:
        msg = f"the name {path.name!r} tells no form; pass format=…, one of {forms}"
        raise InvalidSetting(msg)
    return told[-1]  # the most precise


def pieces(exported: Exported, form: str) -> Iterator[bytes]:
    """The file's content, in any form but `json`, which `save` writes."""
    match form:
        case "messages":
            yield from _messages(exported)
        case "jsonl":
            yield from _fine_tuning(exported)
        case "markdown":
            yield from map(str.encode, _markdown(exported))
        case _:
            from conversation import _html

            yield from map(str.encode, _html.page(exported))


def _messages(exported: Exported) -> Iterator[bytes]:
    """A list for `chat.completions.create`, answers as their words: ids are of no use tomorrow."""
    between = b"[\n"
    for item in exported.arranged:
        yield between + orjson.dumps(_rendering.message_at(item, _FORGOTTEN))
        between = b",\n"
    yield b"[]\n" if between == b"[\n" else b"\n]\n"


# --- fine-tuning ----------------------------------------------------------------------------------


def _fine_tuning(exported: Exported) -> Iterator[bytes]:
    """One line of text, as OpenAI's fine-tuning takes it; nothing where nothing can be learnt."""
    messages: list[_wire.Message] = []
    untold = 0
    for exchange in _exchanges(exported.arranged):
        told = [_text_message(item) for item in exchange]
        if None in told:
            untold += 1
            told = [message for item, message in zip(exchange, told, strict=True) if item.stays]
        messages += filter(None, told)
    while messages and (messages[-1]["role"] != "assistant" or "tool_calls" in messages[-1]):
        messages.pop()  # what was never answered
    if untold:
        log.warning(
            "%d exchange(s) are left out, whose words are not all known; transcribe() finds those "
            "of user sound",
            untold,
        )
    if not messages:
        log.warning("there is no answer that could be learnt from; nothing is exported")
        return
    tools = [tool.description if isinstance(tool, Tool) else tool for tool in exported.tools]
    line = {"messages": messages, **({"tools": tools} if tools else {})}
    yield orjson.dumps(line) + b"\n"


def _exchanges(items: Sequence[Prepared]) -> Iterator[list[Prepared]]:
    """What comes before the first user turn; then each user turn with what follows it."""
    exchange: list[Prepared] = []
    for item in items:
        if isinstance(item.turn, UserTurn) and exchange:
            yield exchange
            exchange = []
        exchange.append(item)
    yield exchange


def _text_message(item: Prepared) -> _wire.Message | None:
    """The message in words alone; None where they are not known."""
    turn = item.turn
    if isinstance(turn, UserTurn):
        sounds = [part for part in turn.content if isinstance(part, AudioInput)]
        is_told = turn.text and all(sound.transcript for sound in sounds)
        return {"role": "user", "content": turn.text} if is_told else None
    if item.form is Form.PLACEHOLDER:
        return None
    message = _rendering.message_at(item, _FORGOTTEN)
    if isinstance(turn, AssistantTurn) and turn.interrupted:
        message["weight"] = 0  # nobody is to learn to break off
    return message


# --- Markdown -------------------------------------------------------------------------------------


def _markdown(exported: Exported) -> Iterator[str]:
    yield f"# {_line(exported.title)}\n\n{_line(' · '.join(exported.about))}\n"
    if exported.instructions:
        yield f"\n**Instructions**\n\n{_quoted(exported.instructions)}"
    for turn in exported.turns:
        yield f"\n**{turn.role.capitalize()}**{''.join(f' · {_line(n)}' for n in notes(turn))}\n"
        for text in texts_of(turn):
            yield f"\n{_quoted(text)}"
        for call in turn.tool_calls if isinstance(turn, AssistantTurn) else ():
            yield f"\n> calls `{_code(call.name)}` with `{_code(call.arguments)}`\n"
    if exported.usage != Usage():
        yield "\n## Usage\n\n| tokens | |\n| --- | ---: |\n"
        yield from (f"| {name} | {count:,} |\n" for name, count in counts(exported.usage))


def _line(text: str) -> str:
    return " ".join(_without_html(text).split())


def _quoted(text: str) -> str:
    """Words as they are, which may be Markdown; but no HTML, and nothing gets out of the quote."""
    lines = _without_html(text).splitlines()
    return "".join(f"> {line}".rstrip() + "\n" for line in lines)


def _code(text: str) -> str:
    return " ".join(without_controls(text).replace("`", "'").split())


def _without_html(text: str) -> str:
    return without_controls(text).replace("&", "&amp;").replace("<", "&lt;")


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
