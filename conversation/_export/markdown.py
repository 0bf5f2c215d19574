"""The format `markdown`: the words, to be read."""

from __future__ import annotations

from collections.abc import Iterator

from conversation._export.outline import (
    Exported,
    counts,
    text_of,
    time_and_notes,
    without_controls,
)
from conversation._values.turns import AssistantTurn, Usage


def markdown_document(exported: Exported) -> Iterator[str]:
    """Yield the document. Each turn is a block quote, whatever its text holds."""
    yield f"# {_line(exported.title)}\n\n{_line(' · '.join(exported.about))}\n"
    if exported.instructions:
        yield f"\n**Instructions**\n\n{_quoted(exported.instructions)}"
    for turn in exported.turns:
        heading = [f"**{turn.role.capitalize()}**", *map(_line, time_and_notes(turn))]
        yield f"\n{' · '.join(heading)}\n"
        if text := text_of(turn):
            yield f"\n{_quoted(text)}"
        for call in turn.tool_calls if isinstance(turn, AssistantTurn) else ():
            yield f"\n> calls `{_code(call.name)}` with `{_code(call.arguments)}`\n"
    if exported.usage != Usage():
        yield "\n## Usage\n\n| tokens | |\n| --- | ---: |\n"
        yield from (f"| {name} | {count:,} |\n" for name, count in counts(exported.usage))


def _line(text: str) -> str:
    return " ".join(_without_html(text).split())


def _quoted(text: str) -> str:
    lines = _without_html(text).splitlines()
    return "".join(f"> {line}".rstrip() + "\n" for line in lines)


def _code(text: str) -> str:
    return " ".join(without_controls(text).replace("`", "'").split())


def _without_html(text: str) -> str:
    return without_controls(text).replace("&", "&amp;").replace("<", "&lt;")
