"""The formats of an export: their names, file endings and writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from conversation._export.markdown import _markdown
from conversation._export.messages import _fine_tuning, _messages
from conversation._export.outline import Exported
from conversation.errors import InvalidSetting

ENDINGS = {
    "html": ".html",
    "json": ".json",
    "jsonl": ".jsonl",
    "markdown": ".md",
    "messages": ".messages.json",
}
"""The forms there are, and how the names of their files end."""


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
            from conversation._export.html import page

            yield from map(str.encode, page(exported))
