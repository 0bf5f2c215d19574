"""The exported page in a real browser, headless."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conversation import (
    AssistantAudio,
    AssistantTurn,
    AudioInput,
    Conversation,
    ImageInput,
    ToolCall,
    UserTurn,
)
from conversation.testing import StandIn
from tests.browsers import (
    Start,
    browsers,
    needs_axe,
    resize,
    screenshot,
    until,
    violations_everywhere,
)
from tests.conftest import Clock
from tests.export.conftest import add_picture
from tests.samples import MP3

By: Any = pytest.importorskip("selenium.webdriver.common.by").By
Keys: Any = pytest.importorskip("selenium.webdriver.common.keys").Keys
ActionChains: Any = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains

pytestmark = pytest.mark.slow

# A PNG of one pixel.
DOT = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63606060"
    "6000000005000 1a5f645400000000049454e44ae426082".replace(" ", "")
)

HOSTILE = (
    "<script>document.title = 'hacked'</script><img src=x onerror=\"document.title = 'hacked'\">"
    "</p></article></main><iframe src='{url}/frame'></iframe><img src='{url}/image'>"
    "<style>@import '{url}/style';</style> \"quoted\" 'single' &lt;b&gt; \u202ereversed\u2066 \x00"
)


MARKDOWN = """# A list

1. **Oslo**, see [the map](https://example.org/map?a=1)
   - `rain`
2. <b>Bergen</b> [click](javascript:alert(1))

```python
print("a long line of code that does not fit into the width of a phone, and breaks")
```"""


def tool(city: str) -> str:
    """Describe a city."""
    return f"Rain in {city}"


@pytest.fixture(scope="module")
def clock() -> Clock:
    """A manual clock for all tests of this module."""
    return Clock()


@pytest.fixture(scope="module")
def server(clock: Clock) -> Iterator[StandIn]:
    """A stand-in for all tests of this module."""
    with StandIn(clock=clock) as server:
        yield server


@pytest.fixture(scope="module")
def page(server: StandIn, clock: Clock, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported page with some of everything: old and new answers, tools, hostile text."""
    chat = Conversation(client=server.client(), clock=clock, tools=[tool], instructions="Be kind.")
    hostile = HOSTILE.format(url=server.url)
    chat.set_title(f"Dogs {hostile}")
    chat.say("Is a golden retriever a good family dog?")
    clock.now += 3000
    add_picture(chat, chat.say(AudioInput(MP3, transcript="And a cat?")), DOT)
    chat.say("As MP3", audio={"format": "mp3"})
    server.will_answer(tool_calls=[("tool", {"city": "Oslo"})])
    chat.say("What is it like in Oslo?")
    server.will_answer(hostile)
    chat.say(hostile)
    chat.add_user(ImageInput(f"{server.url}/elsewhere.png"), "And this?")
    chat.add(AssistantTurn(tool_calls=[ToolCall("1", "f", f'{{"x": "{hostile}"}}')]))
    more = f"{MARKDOWN}\n\n{hostile}\n\n![picture]({server.url}/picture.png)"
    server.will_answer(more, spoken=False)
    chat.say("A **list**, please")
    server.will_answer("שלום, عليكم", spoken=False)
    chat.say("Hebrew, please")
    clock.now += 900
    return chat.export(tmp_path_factory.mktemp("page") / "page.html")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A function that returns a browser with an empty tab."""
    with browsers(tmp_path_factory.mktemp("profiles")) as started:
        yield started


def fetched(browser: Any) -> list[str]:
    """Return the URLs of all requests since the last call."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [
        event["params"]["request"]["url"].partition(",")[0]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
        if not event["params"]["documentURL"].startswith("chrome:")  # a new window's own
    ]


def is_in_india(browser: Any) -> None:
    """Move the browser to a time zone that is 5.5 hours ahead."""
    browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    browser.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "en-GB"})


def test_the_page_shows_the_dialogue(page: Path, start: Start) -> None:
    """All turns are shown in order with their texts; a click unfolds a tool call."""
    browser = start()
    is_in_india(browser)
    browser.get(page.as_uri())
    roles = [a.get_attribute("class") for a in browser.find_elements(By.TAG_NAME, "article")]
    pair = ["user", "assistant"]
    assert roles == ["system", *pair * 4, "assistant", *pair * 4]
    words = [p.text for p in browser.find_elements(By.CLASS_NAME, "words")]
    assert words[:2] == ["Be kind.", "Is a golden retriever a good family dog?"]
    sent = [p.text for p in browser.find_elements(By.CLASS_NAME, "sent")]
    assert sent[0] == "when exported: transcript, expired 5 min ago"
    assert "when exported: voice, 45 min left" in sent
    result = browser.find_element(By.CSS_SELECTOR, "details pre:last-child")
    assert not result.is_displayed()
    browser.find_element(By.TAG_NAME, "summary").click()
    assert result.is_displayed()
    assert result.text == "Rain in Oslo"
    assert browser.find_element(By.TAG_NAME, "th").text == "prompt"
    screenshot(browser, "light")


def test_players_play_and_waveforms_are_drawn(page: Path, start: Start) -> None:
    """Each sound has a player and a waveform of 64 bars, MP3 too; one plays at a time."""
    browser = start()
    browser.get(page.as_uri())
    figures = browser.find_elements(By.TAG_NAME, "figure")
    assert len(figures) == 6
    for figure in figures:
        browser.execute_script("arguments[0].scrollIntoView()", figure)
        path = figure.find_element(By.TAG_NAME, "path")
        until(browser, partial(path.get_attribute, "d"), lambda drawn: str(drawn).count("M") == 64)
        audio = figure.find_element(By.TAG_NAME, "audio")
        until(browser, partial(audio.get_property, "duration"), lambda s: s and s > 0.5)
        browser.execute_script("arguments[0].play()", audio)
        until(browser, partial(audio.get_property, "currentTime"), lambda s: s > 0.05)
    players = browser.find_elements(By.TAG_NAME, "audio")
    assert all(audio.get_property("paused") for audio in players[:-1])
    assert not browser.get_log("browser")


# Heads of WAV files: 64-bit floats, IMA ADPCM, GSM 6.10.
ODD = {
    "f64": struct.pack("<HHIIHH", 3, 1, 24_000, 192_000, 8, 64),
    "ADPCM": struct.pack("<HHIIHH", 0x11, 1, 24_000, 12_000, 512, 4),
    "GSM": struct.pack("<HHIIHH", 0x31, 1, 8_000, 1_625, 65, 0),
}


def test_sound_of_odd_codings_plays(tmp_path: Path, start: Start) -> None:
    """WAV files of codings that browsers do not know play, as they are embedded as MP3."""
    pytest.importorskip("av", reason="needs the extra `formats`")
    sound = AudioInput.from_pcm(bytes(6_144), 24_000).read()
    chat = Conversation()
    for head in ODD.values():
        chat.add_user(AudioInput(sound[:20] + head + sound[36:]))
    browser = start()
    browser.get(chat.export(tmp_path / "page.html").as_uri())
    players = browser.find_elements(By.TAG_NAME, "audio")
    assert len(players) == len(ODD)
    for audio in players:
        browser.execute_script("arguments[0].play()", audio)
        until(browser, partial(audio.get_property, "ended"), bool)


def test_sound_that_the_browser_cannot_play_is_offered_as_a_download(
    tmp_path: Path, start: Start
) -> None:
    """A line and a link that downloads the file stand in the player's place; others still play."""
    odd = b"OggS" + bytes(24) + b"OpusHead" + bytes(4_000)
    sound = AudioInput.from_pcm(bytes(48_000), 24_000)
    chat = Conversation()
    chat.add(AssistantTurn(audio=AssistantAudio(data=odd, transcript="Odd")))
    chat.add_user(sound)
    browser = start(size=(900, 700))
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.get(chat.export(tmp_path / "page.html").as_uri())
    until(browser, partial(browser.find_elements, By.CSS_SELECTOR, ".flag a"), bool)
    line = browser.find_element(By.CLASS_NAME, "flag")
    assert line.text == "This browser cannot play this sound. Download it."
    assert len(browser.find_elements(By.TAG_NAME, "figure")) == 1
    screenshot(browser, "unplayable")
    line.find_element(By.TAG_NAME, "a").click()
    until(browser, (tmp_path / "sound.opus").exists, bool)
    assert (tmp_path / "sound.opus").read_bytes() == odd
    browser.find_element(By.CSS_SELECTOR, "figure button").click()
    audio = browser.find_element(By.TAG_NAME, "audio")
    until(browser, partial(audio.get_property, "ended"), bool)


def test_a_click_on_the_waveform_plays_from_there(page: Path, start: Start) -> None:
    """A click in the middle starts the second half, which is shown; one for a menu does nothing."""
    browser = start()
    browser.get(page.as_uri())
    wave = browser.find_element(By.CLASS_NAME, "wave")
    audio = browser.find_element(By.CSS_SELECTOR, "figure audio")
    until(browser, partial(audio.get_property, "duration"), lambda s: s and s > 5)
    ActionChains(browser).context_click(wave).perform()
    assert audio.get_property("paused")
    wave.click()
    half = audio.get_property("duration") / 2
    until(browser, partial(audio.get_property, "currentTime"), lambda s: s > half)
    assert part_played(browser, wave) > 0.5


def part_played(browser: Any, wave: Any) -> float:
    """Return the part of a waveform that is shown as played."""
    script = "return Number(arguments[0].style.getPropertyValue('--at'))"
    return float(browser.execute_script(script, wave))


def focus(browser: Any) -> Any:
    """Return the element that has the focus, once it is seen to have it."""
    script = "return getComputedStyle(document.activeElement).outlineStyle"
    assert browser.execute_script(script) != "none"
    return browser.switch_to.active_element


def test_keys_play_and_seek(page: Path, start: Start) -> None:
    """Tab reaches each control, which has a name; keys play, stop, and move on the waveform."""
    browser = start()
    browser.get(page.as_uri())

    def press(*keys: str) -> None:
        ActionChains(browser).send_keys(*keys).perform()

    names = []
    for _ in range(4):
        press(Keys.TAB)
        names.append((focus(browser).aria_role, focus(browser).accessible_name))
    assert names == [
        ("button", "Play all"),
        ("combobox", "Speed"),
        ("button", "Play"),
        ("slider", "Position"),
    ]
    wave, audio = focus(browser), browser.find_element(By.TAG_NAME, "audio")
    until(browser, partial(audio.get_property, "duration"), lambda s: s and s > 5)

    def told() -> str:
        return str(wave.get_attribute("aria-valuetext"))

    assert told().startswith("0:00 of 0:0")
    press(Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert audio.get_property("currentTime") == pytest.approx(2)
    assert told().startswith("0:02 of")
    assert float(wave.get_attribute("aria-valuenow")) == 2
    press(Keys.PAGE_DOWN)
    assert audio.get_property("currentTime") == 0
    press(Keys.END)
    whole = audio.get_property("duration")
    assert audio.get_property("currentTime") == pytest.approx(whole, abs=0.01)
    assert part_played(browser, wave) == pytest.approx(1, abs=0.01)
    press(Keys.HOME, Keys.SPACE)
    until(browser, partial(audio.get_property, "currentTime"), lambda s: s > 0.05)
    button = browser.find_element(By.CSS_SELECTOR, "figure button")
    assert button.accessible_name == "Pause"
    press(Keys.SPACE)
    until(browser, partial(audio.get_property, "paused"), bool)
    assert button.accessible_name == "Play"
    assert browser.execute_script("return scrollY") == 0  # no key moved the page


def test_play_all_goes_through_the_page(page: Path, start: Start) -> None:
    """Each sound plays after the one before it, at the chosen speed; the button also stops it."""
    browser = start(size=(900, 700))
    browser.get(page.as_uri())
    button = browser.find_element(By.CSS_SELECTOR, ".bar button")
    button.click()
    until(browser, lambda: button.text, lambda text: text == "Pause")
    button.click()
    until(browser, lambda: button.text, lambda text: text == "Play all")
    players = browser.find_elements(By.TAG_NAME, "audio")
    assert all(audio.get_property("paused") for audio in players)
    browser.find_element(By.CSS_SELECTOR, ".bar option[value='2']").click()
    browser.execute_script(
        "window.played = []; [...document.querySelectorAll('audio')].forEach((audio, number) => {"
        " audio.addEventListener('playing', () => {"
        "  if (played.at(-1)?.[0] === number) return;"
        "  played.push([number, audio.playbackRate]); audio.currentTime = audio.duration - 0.1;"
        " })})"
    )
    button.click()
    until(browser, partial(browser.execute_script, "return played.at(-1)?.[0]"), lambda n: n == 5)
    played = browser.execute_script("return played")
    assert played == [[number, 2] for number in range(played[0][0], len(players))]
    until(browser, lambda: button.text, lambda text: text == "Play all")
    assert browser.execute_script("return scrollY") > 700  # it followed


def test_times_are_those_of_the_reader(page: Path, start: Start) -> None:
    """Days and times are local, with the reader's clock; UTC stands in the tooltip."""
    browser = start()
    is_in_india(browser)
    browser.get(page.as_uri())
    [begun, exported, first, *_] = browser.find_elements(By.TAG_NAME, "time")
    assert begun.text == "1 Nov 2025, 17:56 GMT+5:30"
    assert exported.text == "1 Nov 2025, 19:01 GMT+5:30"
    assert exported.get_attribute("title") == "2025-11-01 13:31 UTC"
    assert first.text == "17:56"
    assert first.get_attribute("title") == "2025-11-01 12:26 UTC"
    days = [day.text for day in browser.find_elements(By.CLASS_NAME, "day")]
    assert days == ["Saturday, 1 November 2025"]


def test_written_answers_are_rendered(page: Path, start: Start, server: StandIn) -> None:
    """Lists, emphasis, code and links appear as such; HTML and other links as text."""
    browser = start()
    browser.get(page.as_uri())
    rich = browser.find_elements(By.CLASS_NAME, "rich")[0]
    assert rich.find_element(By.TAG_NAME, "h3").text == "A list"
    assert [bold.text for bold in rich.find_elements(By.TAG_NAME, "strong")] == ["Oslo"]
    assert rich.find_element(By.CSS_SELECTOR, "ol ul code").text == "rain"
    assert "<b>Bergen</b> [click](javascript:alert(1))" in rich.text
    links = [link.get_attribute("href") for link in rich.find_elements(By.TAG_NAME, "a")]
    assert links == ["https://example.org/map?a=1", f"{server.url}/picture.png"]
    words = [p.text for p in browser.find_elements(By.CSS_SELECTOR, ".user .words")]
    assert "A **list**, please" in words

    def font(selector: str) -> Any:
        return browser.find_element(By.CSS_SELECTOR, selector).value_of_css_property("font-family")

    assert font(".user .spoken") == font(".assistant .spoken") != font(".user .typed")


def test_on_paper_all_is_unfolded_and_nothing_is_cut(page: Path, start: Start) -> None:
    """Print is light, without controls, with the addresses of links; turns stay on one sheet."""
    browser = start()
    resize(browser, scheme="dark")
    browser.get(page.as_uri())
    browser.execute_script(
        "addEventListener('beforeprint', () => { window.unfolded = "
        "[...document.querySelectorAll('details')].every(details => details.open) })"
    )
    sheets = browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"]
    assert base64.b64decode(sheets).startswith(b"%PDF")
    assert browser.execute_script("return window.unfolded")
    assert not browser.find_elements(By.CSS_SELECTOR, "details[open]")
    resize(browser, scheme="dark", media="print")
    for hidden in (".bar", "figure button", "audio"):
        assert not browser.find_element(By.CSS_SELECTOR, hidden).is_displayed()
    style = "const s = getComputedStyle(arguments[0], arguments[1] ?? null); return s[arguments[2]]"

    def styled(selector: str, name: str, pseudo: str | None = None) -> Any:
        element = browser.find_element(By.CSS_SELECTOR, selector)
        return browser.execute_script(style, element, pseudo, name)

    assert styled("article", "breakInside") == "avoid"
    assert styled("article", "contentVisibility") == "visible"
    assert styled("footer", "breakInside") == styled("footer", "breakBefore") == "avoid"
    assert styled("body", "color") == "rgb(27, 28, 32)"
    assert "https://example.org/map?a=1" in styled(".rich a", "content", "::after")


@pytest.mark.parametrize(("more", "is_long"), [(0, False), (320, True)])
def test_captures_show_all_turns(more: int, is_long: bool, tmp_path: Path, start: Start) -> None:
    """Nothing has to be scrolled to: turns are laid out, and waveforms drawn, in idle time."""
    chat = Conversation()
    chat.extend([UserTurn("Hello")] * (12 + more))
    chat.add_user(AudioInput(MP3))
    page = chat.export(tmp_path / "page.html")
    assert ('<main class="long">' in page.read_text()) == is_long
    browser = start("window-size=900,700")
    browser.get(page.as_uri())
    waiting = (
        "return [...document.querySelectorAll('article')].filter(article =>"
        " getComputedStyle(article).contentVisibility === 'auto').length"
    )
    until(browser, partial(browser.execute_script, waiting), lambda count: count == 0)
    path = browser.find_element(By.TAG_NAME, "path")
    until(browser, partial(path.get_attribute, "d"), bool)


def test_hostile_text_is_only_shown(page: Path, server: StandIn, start: Start) -> None:
    """Markup and scripts in a title or a text appear verbatim and have no effect."""
    browser = start()
    browser.get(page.as_uri())
    shown = HOSTILE.format(url=server.url).replace("\x00", "\ufffd")
    assert browser.find_element(By.TAG_NAME, "h1").get_property("textContent") == f"Dogs {shown}"
    words = browser.find_elements(By.CLASS_NAME, "words")
    assert [p.get_property("textContent") for p in words].count(shown) == 2
    rendered = browser.find_elements(By.CSS_SELECTOR, ".rich p")
    assert [p.get_property("textContent") for p in rendered].count(shown) == 1
    assert "hacked" not in str(browser.title).partition("<script>")[0]
    for tag, count in (("script", 1), ("iframe", 0), ("style", 1), ("img", 1), ("main", 1)):
        assert len(browser.find_elements(By.TAG_NAME, tag)) == count, tag
    # Marks that reverse the direction of text affect only the text that holds them.
    for paragraph in words:
        style = "return getComputedStyle(arguments[0]).unicodeBidi"
        assert browser.execute_script(style, paragraph) == "isolate"


def test_the_page_sends_no_requests(page: Path, server: StandIn, start: Start) -> None:
    """Reading, playing and unfolding load nothing but the file; its policy refuses the rest."""
    browser = start()
    browser.get(page.as_uri())
    for summary in browser.find_elements(By.TAG_NAME, "summary"):
        browser.execute_script("arguments[0].click()", summary)
    for audio in browser.find_elements(By.TAG_NAME, "audio"):
        browser.execute_script("arguments[0].scrollIntoView(); arguments[0].play()", audio)
        until(browser, partial(audio.get_property, "currentTime"), lambda s: s > 0.05)
    asked = fetched(browser)
    assert asked.count(page.as_uri()) == 1
    assert all(url == page.as_uri() or url.startswith("data:") for url in asked), asked
    browser.execute_script(
        "document.addEventListener('securitypolicyviolation', () => { window.refused = true });"
        "const image = new Image(); image.src = arguments[0]; document.body.append(image)",
        f"{server.url}/image.png",
    )
    until(browser, partial(browser.execute_script, "return window.refused"), bool)


def test_without_scripts_the_page_can_be_read_and_heard(page: Path, start: Start) -> None:
    """The browser's own players stand beside the waveforms; times are UTC, with their dates."""
    browser = start()
    resize(browser, 360)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get(page.as_uri())
    assert not browser.find_element(By.CLASS_NAME, "bar").is_displayed()
    assert browser.find_element(By.CSS_SELECTOR, "article.user time").text == "2025-11-01 12:26 UTC"
    for audio in browser.find_elements(By.TAG_NAME, "audio"):
        assert audio.get_attribute("controls")
        assert audio.size["width"] > 150
        assert audio.location["x"] + audio.size["width"] < 360


def test_the_picture_of_the_readme_is_made_by_its_script(tmp_path: Path) -> None:
    """`talk_picture.py` writes a page and a picture that is wide and small, as the kept one is."""
    examples = Path(__file__).parents[2] / "examples"
    subprocess.run([sys.executable, examples / "talk_picture.py"], cwd=tmp_path, check=True)
    assert "A dog for the family" in (tmp_path / "example-data" / "talk.html").read_text("utf-8")
    for picture in (tmp_path / "example-data" / "talk.png", examples / "talk.png"):
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", data[16:24])
        assert width == 1200
        assert 1000 < height < 2000
        assert len(data) < 200_000


@needs_axe
def test_the_page_is_accessible(page: Path, start: Start) -> None:
    """Axe finds nothing, light and dark, narrow and wide, with a playing sound and an open call."""
    browser = start()
    browser.get(page.as_uri())
    browser.execute_script("document.querySelector('details').open = true")
    browser.find_element(By.CSS_SELECTOR, "figure button").click()
    assert not violations_everywhere(browser, "page")
    bad = "const image = new Image(); document.querySelector('main').append(image)"
    browser.execute_script(bad)
    assert "image-alt" in "".join(violations_everywhere(browser))


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_the_page_adapts_to_dark_mode_and_phones(name: str, page: Path, start: Start) -> None:
    """In dark mode the background is dark; at 360 pixels nothing is wider than the screen."""
    browser = start()
    resize(browser, 360, "dark" if name == "dark" else "light")
    browser.get(page.as_uri())
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    red = int(colour.removeprefix("rgb(").split(",")[0])
    assert red < 60 if name == "dark" else red > 200
    assert browser.execute_script("return document.documentElement.scrollWidth") == 360
    size = browser.execute_script(
        "return getComputedStyle(document.querySelector('.words')).fontSize"
    )
    assert size == "16px"
    screenshot(browser, name)
