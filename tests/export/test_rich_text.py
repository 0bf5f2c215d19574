"""Markdown of answers as HTML: the subset, and that no text becomes markup or takes long."""

from __future__ import annotations

import html
import re
import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conversation._export.rich_text import rich_text


def rendered(text: str) -> str:
    """Return the HTML without line breaks and directions."""
    return rich_text(text, html.escape).replace(' dir="auto"', "").replace("\n", "")


LINK = '<a href="{0}" rel="noopener noreferrer nofollow">{1}</a>'

INLINE = {
    "a *b* _c_ d": "a <em>b</em> <em>c</em> d",
    "**b** __c__": "<strong>b</strong> <strong>c</strong>",
    "***both***": "<strong><em>both</em></strong>",
    "**a *b* c**": "<strong>a <em>b</em> c</strong>",
    "**a** *b **c": "<strong>a</strong> *b **c",
    "*a **b* c**": "<em>a **b</em> c**",
    "5 * 3 * 2, 2**3": "5 * 3 * 2, 2**3",
    "audio_not_found a__b__c": "audio_not_found a__b__c",
    "a****b": "a****b",
    r"\*a\* \_": "*a* _",
    "`*a* <b>`": "<code>*a* &lt;b&gt;</code>",
    "`` a`b ``": "<code>a`b</code>",
    "`a": "`a",
    "[a *b*](https://x.example/a_b_(c)?d=1&e)": LINK.format(
        "https://x.example/a_b_(c)?d=1&amp;e", "a <em>b</em>"
    ),
    '[a](http://x.example "title").': LINK.format("http://x.example", "a") + ".",
    "![a](https://x.example/y.png)": LINK.format("https://x.example/y.png", "a"),
    "![](https://x.example)": LINK.format("https://x.example", "https://x.example"),
    "[a](javascript:alert(1))": "[a](javascript:alert(1))",
    "[a](data:text/html,x) [b](//x.y) [c](x)": "[a](data:text/html,x) [b](//x.y) [c](x)",
    "[a](javascript://x.y/%0aalert) [b](file:///x)": "[a](javascript://x.y/%0aalert) [b](file:///x)",
    "[a](xhttps://x.y) [b](HTTP://x.y)": "[a](xhttps://x.y) " + LINK.format("HTTP://x.y", "b"),
    "[a]( https://x.example)": "[a]( https://x.example)",
    '[a](https://x.example/"onclick=")': LINK.format("https://x.example/&quot;onclick=&quot;", "a"),
    "https://x.example": "https://x.example",
    "<b>&amp; \"'</b>": "&lt;b&gt;&amp;amp; &quot;&#x27;&lt;/b&gt;",
}


@pytest.mark.parametrize("text", INLINE)
def test_emphasis_code_and_links(text: str) -> None:
    """Emphasis, code and links nest; other text stays as it is; links lead to the web only."""
    assert rendered(text) == f"<p>{INLINE[text]}</p>"


BLOCKS = {
    "a\nb\n\n\nc": "<p>ab</p><p>c</p>",
    "# A *b*\ntext\n## C#": "<h3>A <em>b</em></h3><p>text</p><h3>C#</h3>",
    "#tag": "<p>#tag</p>",
    "- a\n- b\n\n* c": "<ul><li><p>a</p></li><li><p>b</p></li></ul><ul><li><p>c</p></li></ul>",
    "1. a\n\n2. b\n\nc": "<ol><li><p>a</p></li><li><p>b</p></li></ol><p>c</p>",
    "3) a": '<ol start="3"><li><p>a</p></li></ol>',
    "a\n1. b": "<p>a</p><ol><li><p>b</p></li></ol>",
    "In\n1999. It was": "<p>In1999. It was</p>",
    "- a\n  - b\n    c\n- d": (
        "<ul><li><p>a</p><ul><li><p>bc</p></li></ul></li><li><p>d</p></li></ul>"
    ),
    "1. a\n   ```sh\n   b\n     c\n   ```\n2. d": (
        "<ol><li><p>a</p><pre><code>b  c</code></pre></li><li><p>d</p></li></ol>"
    ),
    "```\n# a\n<b>\n": "<pre><code># a&lt;b&gt;</code></pre>",
    "~~~~\n~~~\n~~~~\na": "<pre><code>~~~</code></pre><p>a</p>",
    "a\n---\nb": "<p>a</p><hr><p>b</p>",
    "> a\n\n| b |": "<p>&gt; a</p><p>| b |</p>",
    "": "",
    "\n \n": "",
}


@pytest.mark.parametrize("text", BLOCKS)
def test_paragraphs_headings_lists_and_code(text: str) -> None:
    """Lists nest and hold code; what the subset lacks is shown as it was written."""
    assert rendered(text) == BLOCKS[text]


class Reader(HTMLParser):
    """Notes tags and text, and refuses tags that do not nest."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Check a tag and its attributes."""
        assert re.fullmatch("p|h3|ul|ol|li|pre|code|em|strong|a|hr", tag)
        for name, value in attrs:
            assert name in ("dir", "start", "href", "rel")
            assert name != "href" or re.match(r"(?i)https?://\S+$", value or "")
        if tag != "hr":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close a tag."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add text."""
        self.words += data


PIECES = st.sampled_from(
    [
        *("*", "**", "***", "_", "__", "`", "``", "```", "~~~", "\n", "\n\n", " ", "    ", "\t"),
        *("# ", "- ", "1. ", "2) ", "---", "[", "](", ")", "![", "(", "https://x.example/", "\\"),
        *(
            "<script>",
            "</p>",
            '"',
            "'",
            "&",
            "&lt;",
            "javascript://a",
            "onerror=",
            "<!--",
            "\u202e",
        ),
        *("<!--", "\u202e", "a", "b c", "\r", "\u2028", "\x0b", "é", "<img src=x>"),
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_text_becomes_markup(text: str) -> None:
    """Any text becomes only tags of the subset, which nest, and no word of it is lost."""
    reader = Reader()
    reader.feed(rich_text(text, html.escape))
    reader.close()
    assert not reader.open
    letters = sorted(re.findall("[a-zé]", re.sub(r"!?\]\([^)]*\)|```.*|~~~.*", "", text)))
    for letter in {*letters} - {*"htpsxample"}:  # of addresses, which are not shown
        assert reader.words.count(letter) >= letters.count(letter) - text.count("](")


HOSTILE = {
    "openers": "**a *b _c ",
    "brackets": "[",
    "links": "[a](http://x(",
    "ticks": "`a``b```c",
    "lists": "- ",
    "escapes": "\\`",
    "rules": "_ ",
    "hashes": " #",
    "fences": "```\n~~~\n",
    "items": "* a\n",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_grows_with_the_length_alone(kind: str) -> None:
    """Ten times the text takes at most some ten times as long, also where it is made to be slow."""

    def seconds(size: int) -> float:
        text = HOSTILE[kind] * (size // len(HOSTILE[kind])) + "x"
        begin = time.thread_time()
        rich_text(text, html.escape)
        return time.thread_time() - begin

    short = min(seconds(2_000) for _ in range(3))
    assert seconds(20_000) < 40 * short + 0.05


def test_deep_lists_are_no_deep_recursion() -> None:
    """Lists within lists end at a depth; what lies deeper is shown as text."""
    text = "\n".join("  " * depth + f"- {depth}" for depth in range(500))
    page = rendered(text)
    assert page.count("<ul>") == 6
    assert "- 499" in page
    assert rendered("- " * 2_000 + "x").count("<ul>") == 6
