"""The format `markdown`: the words, to be read.

All words are escaped: a viewer shows them as they are, and fetches nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from conversation._export.outline import (
    Exported,
    about_line,
    counts,
    text_of,
    time_and_notes,
    unanswered,
    without_controls,
)
from conversation._values.turns import AssistantTurn
from conversation._values.usage import Usage

# Of Markdown and its common extensions: emphasis, code, links, tables, math, marks, mentions and
# emoji; addresses, which some viewers link; HTML.
_LIVE = re.compile(
    r"[\\`*_{}\[\]#|~$^@<&]|:(?=[^\s\d])|(?<!\d):(?=\d)|(?<=www)\.|\.(?=[^\W\d])|(?<=/)/|([=%+!])(?=\1)",
    re.IGNORECASE,
)
_HTML = {"<": "&lt;", "&": "&amp;"}
# Quotes, lists, definitions, and the line below a heading.
_LIVE_AT_START = re.compile(r"^(\d+(?=[.)])|(?=[-+>:=!]))")


def markdown_document(exported: Exported) -> Iterator[str]:
    """Yield the document. Each turn is a block quote, whatever its text holds."""
    yield f"# {_line(exported.title)}\n\n{_line(about_line(exported))}\n"
    if exported.instructions:
        yield f"\n**Instructions**\n\n{_quoted(exported.instructions)}"
    lacking = unanswered(exported.turns)
    for position, turn in enumerate(exported.turns):
        told = [*time_and_notes(turn), *filter(None, [lacking.get(position)])]
        heading = [f"**{turn.role.capitalize()}**", *map(_line, told)]
        yield f"\n{' · '.join(heading)}\n"
        if text := text_of(turn):
            yield f"\n{_quoted(text)}"
        for call in turn.tool_calls if isinstance(turn, AssistantTurn) else ():
            yield f"\n> calls {_code(call.name)} with {_code(call.arguments)}\n"
    if exported.usage != Usage():
        yield "\n## Usage\n\n| tokens | |\n| --- | ---: |\n"
        yield from (f"| {name} | {count:,} |\n" for name, count in counts(exported.usage))


def _line(text: str) -> str:
    return _escaped(" ".join(text.split()))


def _quoted(text: str) -> str:
    return "".join(f"> {_escaped(line)}".rstrip() + "\n" for line in text.splitlines())


def _escaped(line: str) -> str:
    words = without_controls(line.expandtabs(4)).rstrip()
    # Spaces at the start would make it code.
    indent, words = len(words) - len(words.lstrip(" ")), words.lstrip(" ")
    words = _LIVE.sub(lambda found: _HTML.get(found[0], f"\\{found[0]}"), words)
    return "&nbsp;" * indent + _LIVE_AT_START.sub(r"\1\\", words)


def _code(text: str) -> str:
    code = " ".join(without_controls(text).split())
    fence = "`" * (max(map(len, re.findall("`+", code)), default=0) + 1)
    # A viewer takes one space away on each side.
    return f"{fence} {code} {fence}" if "`" in code or not code else f"`{code}`"
