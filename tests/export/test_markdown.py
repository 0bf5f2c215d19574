"""The format `markdown`."""

from __future__ import annotations

import re
from pathlib import Path

from conversation import Conversation


def test_turns_are_quotes_without_html(full: Conversation, tmp_path: Path) -> None:
    """Every `<` is escaped, and outside of quotes there are only headings and the usage table."""
    full.set_title("A <b>talk</b>")
    text = full.export(tmp_path / "a.md").read_text()
    assert text.startswith("# A &lt;b>talk&lt;/b>\n")
    assert "<" not in text
    assert "> Is a dog a friend?\n" in text
    assert '> calls `weather` with `{"city":"Oslo"}`' in text
    assert "**User** · 2025-11-01 12:26 UTC · spoken, 0.1 s · picture\n\n> And a cat?" in text
    assert "interrupted\n\n> It says …" in text
    outside = [line for line in text.splitlines() if line and not line.startswith(">")]
    assert all(re.match(r"(\*\*|#|\||begun )", line) for line in outside), outside


def test_text_cannot_leave_its_quote(tmp_path: Path) -> None:
    """Blank lines, headings and code fences in a turn's text are quoted too."""
    chat = Conversation()
    chat.add_user("One\n\n# Two\n```\nthree")
    text = chat.export(tmp_path / "a.md").read_text()
    assert "> One\n>\n> # Two\n> ```\n> three\n" in text
