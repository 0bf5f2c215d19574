"""The format `markdown`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.attrs import attrs_plugin
from mdit_py_plugins.container import container_plugin
from mdit_py_plugins.deflist import deflist_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.footnote import footnote_plugin
from mdit_py_plugins.front_matter import front_matter_plugin
from mdit_py_plugins.tasklists import tasklists_plugin

from conversation import (
    AssistantAudio,
    AssistantTurn,
    Conversation,
    FileInput,
    ImageInput,
    ToolCall,
)
from conversation._export.markdown import markdown_document
from conversation._export.outline import Exported, without_controls

LIVE = """
![a](https://example.org/a.png) [link](https://example.org) [ref][1] [1] ![x][1]
[1]: https://example.org "title"
[^1] [^1]: note ^[inline note]
<b>bold</b> <img src=x onerror=alert(1)> <https://example.org> <a@example.org> <!-- x -->
<script>alert(1)</script>
https://example.org www.example.org example.org a@example.org mailto:a@example.org ftp://x.org
//192.168.0.1/reboot //localhost/x //1.1.1.1/x?y=z //example.org WWW.1evil。com www.-x
!spoiler
# heading ## heading
#
Setext
===
Setext
---
*em* **strong** __strong__ ~~gone~~ ==mark== ++ins++ ^sup^ ~sub~ `code` ``code``
- list
* list
+ list
1. list
2) list
- [ ] task
> quote
---
***
___
- - -
| a | b |
| --- | --- |
| 1 | 2 |
a | b
--|--
```python
code
```
~~~
code
~~~
    indented code
\tindented code
term
: definition
$x$ $$y$$ \\(x\\) \\[y\\] \\begin{x}
&amp; &lt; &#60; &nbsp; &copy;
:smile: :+1: :100: @user #123 word{.class} {.class}
::: warning
text
:::
two spaces at the end  \nand a backslash\\
\\*escaped\\* \\[x\\](y) \\
"""

SNIPPETS = [*LIVE.splitlines(), *"\\`*_{}[]()#+-.!|~$^=:@%<>&'\"/ \t\n\r12a\u2028\u3000é狗\0\x1b"]

OURS = {"heading", "paragraph", "blockquote", "inline", "text", "softbreak", "strong"}


def viewer() -> MarkdownIt:
    """Return a parser with the usual extensions, which links whatever looks like an address."""
    parser = MarkdownIt("gfm-like", {"linkify": True, "html": True, "typographer": False})
    for plugin in (
        attrs_plugin,
        deflist_plugin,
        dollarmath_plugin,
        footnote_plugin,
        front_matter_plugin,
        tasklists_plugin,
    ):
        parser.use(plugin)
    return parser.use(container_plugin, "warning")


VIEWER = viewer()


def flat(tokens: list[Token]) -> Iterator[Token]:
    """Yield all tokens, in order."""
    for token in tokens:
        yield token
        yield from flat(token.children or [])


def shown(document: str) -> tuple[set[str], str]:
    """Return the kinds of elements that a viewer shows, and its words."""
    kinds, words = set(), []
    for token in flat(VIEWER.parse(document)):
        kinds.add(re.sub("_(open|close)$", "", token.type))
        if token.type in ("text", "code_inline", "html_inline", "html_block", "code_block"):
            words.append(token.content)
        elif token.type in ("softbreak", "hardbreak") or token.block:
            words.append("\n")
    return kinds, spaced("".join(words))


def spaced(text: str) -> str:
    """Return the words with single spaces between them."""
    return " ".join(text.split())


def document_of(words: str) -> str:
    """Return the document of a conversation that has these words wherever a text can stand."""
    chat = Conversation(instructions=words or "x")
    chat.set_title(f"x{words}")
    chat.add_user(f"{words} end", FileInput(b"x", f"x{words}"))
    chat.add_user(ImageInput(f"https://{words}"))
    calls = (ToolCall("a", words, words),)
    audio = AssistantAudio(None, None, f"said {words}")
    chat.add(AssistantTurn(content=f"{words} end", audio=audio, tool_calls=calls))
    chat.add_tool_result("a", f"{words} end")
    exported: Exported = chat._exported()
    return "".join(markdown_document(exported))


PLACES = 9


def plain(text: str) -> str:
    """Return the text as it is shown: in lines, without control characters."""
    return spaced("\n".join(map(without_controls, text.splitlines())))


@given(st.lists(st.sampled_from(SNIPPETS), max_size=8).map("".join))
def test_words_are_shown_as_they_are(words: str) -> None:
    """Whatever Markdown is in them: no element of theirs is shown, and no character is lost."""
    document = document_of(words)
    kinds, text = shown(document)
    assert kinds <= OURS | {"code_inline"}
    for expected in (f"{words} end", f"said {words}", f"x{words}", f"file x{words}"):
        assert plain(expected) in text
    in_line = spaced(without_controls(words))
    assert f"calls {in_line} with {in_line}" in text or not in_line


@pytest.mark.parametrize("line", LIVE.splitlines())
def test_no_line_is_live(line: str) -> None:
    """Images, links, headings, lists, tables, HTML, math, footnotes and code are plain words."""
    for words in (line, f"before\n{line}\nafter", f"before\n\n{line}\n\nafter"):
        kinds, text = shown(document_of(words))
        assert kinds <= OURS | {"code_inline"}
        assert text.count(plain(words)) >= PLACES


def test_code_may_hold_any_number_of_backticks() -> None:
    """Arguments of a tool are code, and stay what they are."""
    for words in ("`", "``", "` ``", "`a` ``b`` ```c", "a`", "`a", "", " "):
        kinds, text = shown(document_of(words))
        assert "code_inline" in kinds
        assert spaced(f"calls {words} with {words}") in text


def test_all_of_it_is_not_live() -> None:
    """Also where one line would make another one live."""
    kinds, text = shown(document_of(LIVE))
    assert kinds <= OURS | {"code_inline"}
    assert text.count(plain(LIVE)) >= PLACES


def test_the_viewer_shows_what_is_live() -> None:
    """Without escaping, the words above make each kind of element."""
    kinds, _ = shown(LIVE)
    assert kinds >= {
        "image",
        "link",
        "heading",
        "html_inline",
        "html_block",
        "em",
        "s",
        "code_inline",
        "bullet_list",
        "ordered_list",
        "hr",
        "table",
        "fence",
        "code_block",
        "dl",
        "math_inline",
        "footnote_ref",
        "container_warning",
    }


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
    assert "> One\n>\n> \\# Two\n> \\`\\`\\`\n> three\n" in text


@pytest.mark.parametrize("address", ["www.1evil\u3002com/x", "WWW.-x", "www. 5", "//10.0.0.1/x"])
def test_addresses_are_broken_for_viewers_that_link_them_early(
    address: str, tmp_path: Path
) -> None:
    """Viewers that look for `www.` or `//` before they read escapes find neither."""
    chat = Conversation()
    chat.add_user(address)
    document = chat.export(tmp_path / "x.md").read_text()
    assert "www." not in document.lower()
    assert "//" not in document
    assert document.splitlines()[-1].replace("\\", "") == f"> {address}"
