"""The export formats: name, file ending and writer of each.

To add one, write a module that turns an `Exported` into text or bytes, and list it in `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from conversation._export.fine_tuning import fine_tuning_line
from conversation._export.markdown import markdown_document
from conversation._export.messages import message_list
from conversation._export.outline import Exported
from conversation._values.text import CONTROLS_BEYOND
from conversation.errors import InvalidSetting


class Format(NamedTuple):
    """An export format.

    Attributes:
        ending: Ending of its files' names.
        write: Yields the file piece by piece, as text or UTF-8, with one sound in memory at a time.
            None for `json`: only the conversation itself can write everything about it.
    """

    ending: str
    write: Callable[[Exported], Iterable[str | bytes]] | None


def _html_page(exported: Exported) -> Iterable[str]:
    from conversation._export.html import html_page  # keeps `import conversation` cheap

    return html_page(exported)


FORMATS: Mapping[str, Format] = {
    "html": Format(".html", _html_page),
    "json": Format(".json", None),
    "jsonl": Format(".jsonl", fine_tuning_line),
    "markdown": Format(".md", markdown_document),
    "messages": Format(".messages.json", message_list),
}


def format_for(path: Path, given: str | None, *, option: str = "format=") -> str:
    """Return the name of the given format, or else of the one that the file's name ends in.

    Args:
        path: The file.
        given: A format's name.
        option: How the caller can give one; named in the error.

    Raises:
        InvalidSetting: if there is no such format.
    """
    names = ", ".join(map(repr, FORMATS))
    if given is not None:
        if given not in FORMATS:
            raise InvalidSetting(f"format must be one of {names}, got {given!r}")
        return given
    file_name = path.name.lower()
    fitting = [name for name in FORMATS if file_name.endswith(FORMATS[name].ending)]
    if not fitting:
        msg = f"cannot tell the format from the name {path.name!r}"
        raise InvalidSetting(f"{msg}; pass {option}, one of {names}")
    return max(fitting, key=lambda name: len(FORMATS[name].ending))


def pieces(exported: Exported, name: str) -> Iterator[bytes]:
    """Yield the file in the named format, which is not `json`."""
    write = FORMATS[name].write
    if write is None:
        raise NotImplementedError(f"the conversation itself writes the format {name!r}")
    form = "\\u{:04x}" if name in ("jsonl", "messages") else "&#x{:x};"
    for piece in write(exported):
        yield _escaped(piece, form)


def escaped_json(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a JSON file with all control characters escaped."""
    for piece in pieces:
        yield _escaped(piece, "\\u{:04x}")


def _escaped(piece: str | bytes, form: str) -> bytes:
    """Escape control characters: a file may be shown in a terminal.

    Those of ASCII do not occur: JSON escapes them, the others leave them out.
    """
    data = piece.encode() if isinstance(piece, str) else piece
    if data.isascii() and b"\x7f" not in data:
        return data
    return CONTROLS_BEYOND.sub(lambda found: form.format(ord(found[0])), data.decode()).encode()
