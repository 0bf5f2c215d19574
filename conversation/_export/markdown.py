"""A conversation as Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from conversation._export.outline import Exported, counts, notes, texts_of, without_controls
from conversation._values.turns import AssistantTurn, Usage

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
