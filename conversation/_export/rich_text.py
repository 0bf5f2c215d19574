"""A safe subset of Markdown as HTML, for the model's written answers.

Paragraphs, headings, lists, code, emphasis and links to the web. Whatever else there is, HTML too,
is shown as it was written: each piece of the result is a tag of this module or escaped text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[^`]*$")
_HEADING = re.compile(r" {0,3}#{1,6} +(?=\S)(.*)$")
_ITEM = re.compile(r"( {0,3})([-*+]|\d{1,9}[.)]) +(?=\S)(.*)$")
_RULE = re.compile(r" {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$")
_DEEPEST = 6
"""Lists within lists; what lies deeper is shown as it was written."""

# All repetitions are bounded or end at the first character that cannot follow, so that the time
# grows with the length of the text alone.
_TOKEN = re.compile(
    r"\\(?P<literal>[!-/:-@\[-`{-~])"
    r"|(?<!`)(?P<ticks>`{1,3})(?!`)(?P<code>.+?)(?<!`)(?P=ticks)(?!`)"
    r"|!?\[(?P<label>[^\[\]]{0,1000})\]"
    r"\((?P<url>(?i:https?)://(?:[^\s()<>]|\([^\s()<>]{0,200}\)){1,2000})(?: \"[^\"]{0,200}\")?\)"
    r"|(?P<marks>\*+|_+)",
    re.DOTALL,
)
_EMPHASIS = {
    1: ("<em>", "</em>"),
    2: ("<strong>", "</strong>"),
    3: ("<strong><em>", "</em></strong>"),
}


def rich_text(text: str, escaped: Callable[[str], str]) -> str:
    """Return HTML of block elements.

    Args:
        text: Markdown from anybody.
        escaped: Returns text that is safe in HTML, in quoted attributes too.
    """
    return "\n".join(_Markdown(escaped).blocks(text.expandtabs(4).splitlines(), 0))


class _Markdown:
    def __init__(self, escaped: Callable[[str], str]) -> None:
        self._escaped = escaped

    def blocks(self, lines: Sequence[str], depth: int) -> list[str]:
        found, at = [], 0
        while at < len(lines):
            line = lines[at]
            if fence := _FENCE.match(line):
                end = at + 1
                while end < len(lines) and not _closes(lines[end], fence[1]):
                    end += 1
                code = self._escaped("\n".join(lines[at + 1 : end]))
                found.append(f"<pre><code>{code}</code></pre>")
                at = end + 1
            elif heading := _HEADING.match(line):
                found.append(f'<h3 dir="auto">{self._inline(heading[1].strip())}</h3>')
                at += 1
            elif _RULE.match(line):
                found.append("<hr>")
                at += 1
            elif depth < _DEEPEST and (item := _ITEM.match(line)):
                block, at = self._list(item, lines, at, depth)
                found.append(block)
            else:
                end = at + 1
                while end < len(lines) and not _interrupts(lines[end]):
                    end += 1
                if words := "\n".join(map(str.strip, lines[at:end])).strip():
                    found.append(f'<p dir="auto">{self._inline(words)}</p>')
                at = end
        return found

    def _list(
        self, first: re.Match[str], lines: Sequence[str], at: int, depth: int
    ) -> tuple[str, int]:
        kind, items = first[2][-1], []
        tag, number = ("ol", int(first[2][:-1])) if kind in ".)" else ("ul", 1)
        start = "" if number == 1 else f' start="{number}"'
        item: re.Match[str] | None = first
        while item and item[2][-1] == kind:
            least, width = len(item[1]) + 2, item.start(3)
            body = [item[3]]
            at += 1
            while at < len(lines):
                line = lines[at]
                indent = len(line) - len(line.lstrip(" "))
                is_inside = indent >= least or not line.strip()
                is_lazy = body[-1].strip() and not _interrupts(line) and not _ITEM.match(line)
                if not is_inside and not is_lazy:
                    break
                body.append(line[min(indent, width) :])
                at += 1
            items.append("\n".join(("<li>", *self.blocks(body, depth + 1), "</li>")))
            item = _ITEM.match(lines[at]) if at < len(lines) else None
        return "\n".join((f"<{tag}{start}>", *items, f"</{tag}>")), at

    def _inline(self, text: str) -> str:
        pieces: list[str] = []
        opened: list[tuple[str, int]] = []  # marks, each kind once, and their places in `pieces`
        at = 0
        for token in _TOKEN.finditer(text):
            pieces.append(self._escaped(text[at : token.start()]))
            at = token.end()
            if marks := token["marks"]:
                pieces.append(marks)
                kinds = [kind for kind, _ in opened]
                opens, closes = _flanks(text, token.start(), at)
                if closes and marks in kinds:
                    place = opened[kinds.index(marks)][1]
                    del opened[kinds.index(marks) :]
                    pieces[place], pieces[-1] = _EMPHASIS[len(marks)]
                elif opens and len(marks) in _EMPHASIS and marks not in kinds:
                    opened.append((marks, len(pieces) - 1))
            elif token["url"]:
                url = self._escaped(token["url"])
                label = self._inline(token["label"]) or url
                pieces.append(f'<a href="{url}" rel="noopener noreferrer nofollow">{label}</a>')
            elif code := token["code"]:
                is_padded = code[0] == code[-1] == " " and code.strip()
                pieces.append(f"<code>{self._escaped(code[1:-1] if is_padded else code)}</code>")
            else:
                pieces.append(self._escaped(token["literal"]))
        return "".join((*pieces, self._escaped(text[at:])))


def _closes(line: str, fence: str) -> bool:
    found = line.strip()
    return found.startswith(fence) and not found.strip(fence[0])


def _interrupts(line: str) -> bool:
    """Return True for a line that ends a paragraph."""
    if not line.strip() or _FENCE.match(line) or _HEADING.match(line) or _RULE.match(line):
        return True
    item = _ITEM.match(line)
    return item is not None and (item[2] in "-*+" or item[2][:-1] == "1")


def _flanks(text: str, start: int, end: int) -> tuple[bool, bool]:
    """Return True for marks that may open emphasis, and for those that may close it."""
    before, after = text[start - 1 : start], text[end : end + 1]
    opens, closes = bool(after.strip()), bool(before.strip())
    if text[start] == "_":  # within names such as `audio_not_found` it is a letter
        return opens and not before.isalnum(), closes and not after.isalnum()
    return opens, closes
