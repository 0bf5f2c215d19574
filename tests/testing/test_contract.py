"""The page that describes what the stand-in reproduces."""

from __future__ import annotations

import re
from pathlib import Path

import conversation

PACKAGE = Path(conversation.__file__).parent


def test_cited_sections_exist() -> None:
    """CONTRACT.md lies in the package and has every section that code and tests cite."""
    page = (PACKAGE / "testing" / "CONTRACT.md").read_text(encoding="utf-8")
    sections = set(re.findall(r"^## (§\d+) ", page, re.MULTILINE))
    cited = set()
    for folder in (PACKAGE, Path(__file__).parents[1]):
        for path in folder.rglob("*.py"):
            for citation in re.findall(r"CONTRACT (§\d+(?:, §\d+)*)", path.read_text("utf-8")):
                cited |= set(citation.split(", "))
    assert cited
    assert cited <= sections
