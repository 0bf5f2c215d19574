"""The exported page in a real browser, headless."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conversation import AudioInput, Conversation, ImageInput, ToolCall
from conversation._values.turns import AssistantTurn
from conversation.testing import StandIn
from tests.browsers import Start, browsers, screenshot, until
from tests.conftest import Clock
from tests.export.conftest import add_picture
from tests.samples import MP3

By: Any = pytest.importorskip("selenium.webdriver.common.by").By

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


def tool(city: str) -> str:
    """Describe a city."""
    return f"Rain in {city}"


@pytest.fixture
def page(server: StandIn, clock: Clock, tmp_path: Path) -> Path:
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
    server.will_answer("שלום, عليكم", spoken=False)
    chat.say("Hebrew, please")
    clock.now += 900
    server.requests.clear()
    return chat.export(tmp_path / "page.html")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """A function that starts a browser with the given command line arguments."""
    with browsers(tmp_path) as started:
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


def test_the_page_shows_the_dialogue(page: Path, start: Start) -> None:
    """All turns are shown in order with their texts; a click unfolds a tool call."""
    browser = start("window-size=900,1400")
    browser.get(page.as_uri())
    roles = [a.get_attribute("class") for a in browser.find_elements(By.TAG_NAME, "article")]
    pair = ["user", "assistant"]
    assert roles == ["system", *pair * 4, "assistant", *pair * 3]
    words = [p.text for p in browser.find_elements(By.CLASS_NAME, "words")]
    assert words[:2] == ["Be kind.", "Is a golden retriever a good family dog?"]
    sent = [p.text for p in browser.find_elements(By.CLASS_NAME, "sent")]
    assert sent[0] == "sent now as: transcript, expired 5 min ago"
    assert "sent now as: voice, 45 min left" in sent
    result = browser.find_element(By.CSS_SELECTOR, "details pre:last-child")
    assert not result.is_displayed()
    browser.find_element(By.TAG_NAME, "summary").click()
    assert result.is_displayed()
    assert result.text == "Rain in Oslo"
    assert browser.find_element(By.TAG_NAME, "td").text == "prompt"
    screenshot(browser, "light")


def test_players_play_and_waveforms_are_drawn(page: Path, start: Start) -> None:
    """Each sound has a player and a waveform of 120 bars, MP3 too; one plays at a time."""
    browser = start("window-size=900,1400")
    browser.get(page.as_uri())
    figures = browser.find_elements(By.TAG_NAME, "figure")
    assert len(figures) == 6
    for figure in figures:
        browser.execute_script("arguments[0].scrollIntoView()", figure)
        path = figure.find_element(By.TAG_NAME, "path")
        until(browser, partial(path.get_attribute, "d"), lambda drawn: str(drawn).count("M") == 120)
        audio = figure.find_element(By.TAG_NAME, "audio")
        until(browser, partial(audio.get_property, "duration"), lambda s: s and s > 0.5)
        browser.execute_script("arguments[0].play()", audio)
        until(browser, partial(audio.get_property, "currentTime"), lambda s: s > 0.05)
    players = browser.find_elements(By.TAG_NAME, "audio")
    assert all(audio.get_property("paused") for audio in players[:-1])
    assert not browser.get_log("browser")


# Offset and bytes of the head of a WAV file: 64-bit floats, IMA ADPCM, GSM 6.10.
UNPLAYABLE = {
    "f64": struct.pack("<HHIIHH", 3, 1, 24_000, 192_000, 8, 64),
    "ADPCM": struct.pack("<HHIIHH", 0x11, 1, 24_000, 12_000, 512, 4),
    "GSM": struct.pack("<HHIIHH", 0x31, 1, 8_000, 1_625, 65, 0),
}


@pytest.mark.parametrize("coding", UNPLAYABLE)
def test_sound_that_the_browser_cannot_play_is_offered_as_a_download(
    tmp_path: Path, start: Start, coding: str
) -> None:
    """A line and a link that downloads the file stand in the player's place; others still play."""
    sound = AudioInput.from_pcm(bytes(48_000), 24_000).read()
    odd = AudioInput(sound[:20] + UNPLAYABLE[coding] + sound[36:]).read()
    chat = Conversation()
    chat.add_user(AudioInput(odd))
    chat.add_user(AudioInput(sound))
    browser = start("window-size=900,700")
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.get(chat.export(tmp_path / "page.html").as_uri())
    until(browser, partial(browser.find_elements, By.CSS_SELECTOR, ".flag a"), bool)
    line = browser.find_element(By.CLASS_NAME, "flag")
    assert line.text == "This browser cannot play this sound. Download it."
    assert len(browser.find_elements(By.TAG_NAME, "figure")) == 1
    screenshot(browser, f"unplayable-{coding}")
    line.find_element(By.TAG_NAME, "a").click()
    until(browser, (tmp_path / "sound.wav").exists, bool)
    assert (tmp_path / "sound.wav").read_bytes() == odd


def test_a_click_on_the_waveform_plays_from_there(page: Path, start: Start) -> None:
    """A click in the middle starts the second half, and the play head follows."""
    browser = start("window-size=900,1400")
    browser.get(page.as_uri())
    wave = browser.find_element(By.CSS_SELECTOR, "figure svg")
    audio = browser.find_element(By.CSS_SELECTOR, "figure audio")
    until(browser, partial(audio.get_property, "duration"), lambda s: s and s > 5)
    wave.click()
    half = audio.get_property("duration") / 2
    until(browser, partial(audio.get_property, "currentTime"), lambda s: s > half)
    head = browser.find_element(By.CSS_SELECTOR, "figure line")
    until(browser, partial(head.get_attribute, "x1"), lambda x: float(x or 0) >= 60)


def test_hostile_text_is_only_shown(page: Path, server: StandIn, start: Start) -> None:
    """Markup and scripts in a title or a text appear verbatim and have no effect."""
    browser = start("window-size=900,1400")
    browser.get(page.as_uri())
    shown = HOSTILE.format(url=server.url).replace("\x00", "\ufffd")
    assert browser.find_element(By.TAG_NAME, "h1").get_property("textContent") == f"Dogs {shown}"
    words = browser.find_elements(By.CLASS_NAME, "words")
    assert [p.get_property("textContent") for p in words].count(shown) == 2
    assert "hacked" not in str(browser.title).partition("<script>")[0]
    for tag, count in (("script", 1), ("iframe", 0), ("style", 1), ("img", 1), ("main", 1)):
        assert len(browser.find_elements(By.TAG_NAME, tag)) == count, tag
    # Marks that reverse the direction of text affect only the text that holds them.
    for paragraph in words:
        style = "return getComputedStyle(arguments[0]).unicodeBidi"
        assert browser.execute_script(style, paragraph) == "isolate"


def test_the_page_sends_no_requests(page: Path, server: StandIn, start: Start) -> None:
    """Reading, playing and unfolding load nothing but the file; its policy refuses the rest."""
    browser = start("window-size=900,1400")
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


@pytest.mark.parametrize("name", ["dark", "phone"])
def test_the_page_adapts_to_dark_mode_and_phones(name: str, page: Path, start: Start) -> None:
    """In dark mode the background is dark; at 360 pixels nothing is wider than the screen."""
    browser = start("window-size=390,1200")
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 1200, "deviceScaleFactor": 2, "mobile": True},
    )
    scheme = {"name": "prefers-color-scheme", "value": "dark" if name == "dark" else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
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
