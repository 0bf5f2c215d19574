"""The web chat in a real browser, with a microphone that hears a file."""

from __future__ import annotations

import base64
import io
import signal
import wave
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conversation import AssistantTurn
from conversation.testing import StandIn
from tests import speech
from tests.browsers import (
    Start,
    browsers,
    needs_axe,
    screenshot,
    until,
    violations_everywhere,
)
from tests.examples.web import Site
from tests.postgres import reserved_port

By: Any = pytest.importorskip("selenium.webdriver.common.by").By
Keys: Any = pytest.importorskip("selenium.webdriver.common.keys").Keys
ActionChains: Any = pytest.importorskip("selenium.webdriver.common.action_chains").ActionChains

pytestmark = pytest.mark.slow

MICROPHONE = ("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream")
LONG = "One two three four five six seven eight nine ten eleven twelve thirteen fourteen."


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """A function that returns a browser with the given command line arguments, for a new user."""
    with browsers(tmp_path_factory.mktemp("profiles")) as started:
        yield started


@pytest.fixture(scope="module")
def server() -> Iterator[StandIn]:
    """A stand-in for the one running example."""
    with StandIn() as server:
        yield server


@pytest.fixture(scope="module")
def site(server: StandIn, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One running example; each browser is another user."""
    with Site(tmp_path_factory.mktemp("site"), server) as site:
        yield site


NOTE_STATES = """
const status = document.querySelector("[role=status]");
window.states = [status.textContent];
const look = () => status.textContent === states.at(-1) || states.push(status.textContent);
new MutationObserver(look).observe(status, {childList: true, characterData: true, subtree: true});
const meter = document.querySelector("[role=meter]");
window.loudest = 0;
const hear = () => { loudest = Math.max(loudest, meter.getAttribute("aria-valuenow")); };
new MutationObserver(hear).observe(meter, {attributes: true});
"""


class Chat:
    """The page, by its accessible names."""

    def __init__(
        self, start: Start, site: Site, *arguments: str, microphone: tuple[str, ...] = MICROPHONE
    ) -> None:
        self.browser = start(*microphone, *arguments, size=(900, 900))
        self.open(site)

    def open(self, site: Site) -> None:
        """Load the page."""
        self.browser.get(site.url + "/")
        self.browser.execute_script(NOTE_STATES)
        self._states: list[str] = []
        self.is_in("Ready")

    def named(self, role: str, name: str) -> Any:
        """Return the visible element of a role and an accessible name, as soon as it is there."""

        def look() -> list[Any]:
            return [
                element
                for element in self.browser.find_elements(By.CSS_SELECTOR, "button, input, [role]")
                if element.aria_role == role and element.accessible_name == name
                if element.is_displayed()
            ]

        return until(self.browser, look, bool)[0]

    def status(self) -> str:
        """Return the state in words."""
        return str(self.browser.find_element(By.CSS_SELECTOR, "[role=status]").text)

    def is_in(self, *words: str) -> None:
        """Wait for a state, however short, since the last one that was waited for."""

        def is_found() -> bool:
            self._states += self.run("states.splice(0)")
            found = [n for n, state in enumerate(self._states, 1) if state in words]
            del self._states[: found[0] if found else 0]
            return bool(found)

        until(self.browser, is_found, bool)

    def texts(self) -> list[str]:
        """Return the words of all turns."""
        found: list[str] = self.run(
            "[...document.querySelectorAll('#turns li p')].map(p => p.innerText)"
        )
        return found

    def say(self, text: str) -> None:
        """Type a message."""
        self.named("textbox", "Message").send_keys(text + Keys.ENTER)

    def run(self, script: str) -> Any:
        """Evaluate an expression of the page."""
        return self.browser.execute_script(f"return {script}")


def heard(server: StandIn) -> bytes:
    """Return the sound in the last request."""
    part = server.requests[-1]["messages"][-1]["content"][0]
    return base64.b64decode(part["input_audio"]["data"])


def recording(path: Path, pause: int) -> str:
    """Return the argument for a microphone that hears speech, again after `pause` seconds."""
    with wave.open(io.BytesIO(speech.spoken())) as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        silence = bytes(2 * source.getframerate())
        target.writeframes(silence + source.readframes(10**7) + (pause - 1) * silence)
    return f"use-file-for-fake-audio-capture={path}"


def correlation(original: bytes, sound: bytes) -> float:
    """Return the likeness of envelopes, wherever one begins in the other."""
    ones, others = speech.envelope(original), speech.envelope(sound)
    shifted = [(ones, others[n:]) for n in range(60)] + [(ones[n:], others) for n in range(1, 60)]
    return max(speech.correlation(*pair) for pair in shifted)


@speech.needs_speech
def test_hands_free_hears_what_is_said(
    start: Start, site: Site, server: StandIn, tmp_path: Path
) -> None:
    """Speech begins and ends by itself, arrives as it was said, and the answer is played."""
    chat = Chat(start, site, recording(tmp_path / "voice.wav", pause=600))
    screenshot(chat.browser, "chat-empty")
    switch = chat.named("switch", "Hands-free")
    assert chat.named("meter", "Microphone level")
    assert switch.get_attribute("aria-checked") == "false"
    switch.click()
    assert switch.get_attribute("aria-checked") == "true"
    chat.is_in("Listening")
    until(chat.browser, partial(chat.run, "loudest"), lambda level: level > 30)
    screenshot(chat.browser, "chat-listening")
    chat.is_in("Speaking")
    screenshot(chat.browser, "chat-speaking")
    until(chat.browser, lambda: chat.run("played"), lambda frames: frames > 24_000)
    switch.click()
    chat.is_in("Ready")
    assert chat.run("played === pushed && pushed > 0")
    assert correlation(speech.spoken(), heard(server)) > 0.9
    turns = site.latest()
    assert [turn.role for turn in turns] == ["user", "assistant"]
    assert not chat.browser.get_log("browser")


def by_pointer(chat: Chat, *, down: bool) -> None:
    """Press or release the button by the mouse."""
    action = ActionChains(chat.browser)
    button = chat.named("button", "Hold to talk")
    (action.click_and_hold(button) if down else action.release()).perform()


def by_space(chat: Chat, *, down: bool) -> None:
    """Press or release the space bar on the button."""
    action = ActionChains(chat.browser)
    chat.run("document.querySelector('#talk').focus()")
    (action.key_down(Keys.SPACE) if down else action.key_up(Keys.SPACE)).perform()


@pytest.mark.parametrize("press", [by_pointer, by_space])
def test_holding_the_button_talks(
    press: Callable[..., None], start: Start, site: Site, server: StandIn
) -> None:
    """The microphone is heard while the button is held; a short press is told, and sent nowhere."""
    chat = Chat(start, site)  # the fake microphone beeps
    press(chat, down=True)
    chat.is_in("Listening")
    chat.run("blocks = -10_000")  # however long it takes here
    press(chat, down=False)
    until(chat.browser, lambda: chat.run("recording"), lambda recording: not recording)
    sent = len(server.requests)
    press(chat, down=True)
    chat.is_in("Listening")
    until(chat.browser, lambda: chat.run("blocks"), lambda blocks: blocks > 60)
    press(chat, down=False)
    chat.is_in("Speaking")
    assert len(server.requests) == sent + 1
    with wave.open(io.BytesIO(heard(server))) as sound:
        assert sound.getparams()[:3] == (1, 2, 24_000)
        assert sound.getnframes() > 1.2 * 24_000


def test_typing_stops_an_answer(start: Start, site: Site, server: StandIn) -> None:
    """Typing ends an answer: what was heard is kept, on the page and in the session."""
    chat = Chat(start, site)
    long = " ".join(f"word-{number}" for number in range(200))  # 80 s, however slow this machine is
    server.will_answer(long)
    chat.say("Count")
    until(chat.browser, lambda: chat.run("played"), lambda frames: frames > 24_000)
    chat.named("textbox", "Message").send_keys("W")
    chat.is_in("Ready")
    until(chat.browser, chat.texts, lambda texts: len(texts) == 2 and texts[1] != long)
    kept = chat.texts()[1]
    assert long.startswith(kept)
    assert kept != long
    turns = site.latest()
    assert isinstance(turns[1], AssistantTurn)
    assert turns[1].audio
    assert (turns[1].audio.duration or 0) > 0.5
    assert len(kept.split()) == pytest.approx((turns[1].audio.duration or 0) / 0.4, abs=1.5)
    assert turns[1].text == kept
    chat.say("hy?")
    chat.is_in("Speaking")
    assert server.requests[-1]["messages"][-2]["content"] == kept
    assert server.requests[-1]["messages"][-1]["content"] == "Why?"


@speech.needs_speech
def test_talking_over_an_answer_stops_it(
    start: Start, site: Site, server: StandIn, tmp_path: Path
) -> None:
    """Hands-free, a voice ends the answer while it still streams, and is then answered itself."""
    chat = Chat(start, site, recording(tmp_path / "voice.wav", pause=4))
    asked = len(server.requests)
    server.will_answer(LONG, order="mixed", hold_after=12)
    chat.say("Count")
    chat.is_in("Speaking")
    chat.named("switch", "Hands-free").click()
    chat.is_in("Listening")
    chat.named("switch", "Hands-free").click()
    until(chat.browser, lambda: len(site.latest()), lambda count: count >= 4)
    turns = site.latest()[:4]  # on a slow machine the voice may have come again
    assert [turn.role for turn in turns] == ["user", "assistant"] * 2
    assert isinstance(turns[1], AssistantTurn)
    assert turns[1].interrupted
    assert len(turns[1].text) < len(LONG)
    assert server.requests[asked + 1]["messages"][-2]["content"] == turns[1].text


def test_reload_shows_the_history_and_a_kill_does_not_end_it(
    start: Start, server: StandIn, tmp_path: Path
) -> None:
    """Sounds play again; when the server is killed the page says so, and goes on afterwards."""
    with (
        reserved_port() as kept,
        Site(tmp_path, server, "--port", str(kept.getsockname()[1])) as site,
    ):
        _reload_and_kill(Chat(start, site), site, server, tmp_path)


def _reload_and_kill(chat: Chat, site: Site, server: StandIn, folder: Path) -> None:
    chat.say("First")
    chat.is_in("Ready")
    before = chat.texts()
    assert before[0] == "First"
    chat.open(site)
    until(chat.browser, chat.texts, lambda texts: texts == before)
    play = chat.named("button", "Play")
    play.click()
    until(chat.browser, lambda: play.text, lambda text: text == "Stop")
    until(chat.browser, lambda: play.text, lambda text: text == "Play")
    site.stop(signal.SIGKILL)
    chat.is_in("Connection lost, trying again")
    with Site(folder, server, "--port", site.port):
        chat.is_in("Ready")
        assert chat.texts() == before
        chat.say("Second")
        chat.is_in("Speaking")
        chat.is_in("Ready")
        assert "I recall 1 of my earlier answers by voice" in chat.texts()[3]


def test_errors_are_words_with_a_retry(start: Start, site: Site, server: StandIn) -> None:
    """The alert says what is wrong, and "Try again" gets the answer."""
    chat = Chat(start, site)
    server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    chat.say("Hello")
    chat.is_in("Something went wrong")
    alert = chat.browser.find_element(By.CSS_SELECTOR, "[role=alert]")
    assert "The server's key was refused." in alert.text
    screenshot(chat.browser, "chat-error")
    chat.named("button", "Try again").click()
    chat.is_in("Speaking")
    assert not alert.is_displayed()
    chat.is_in("Ready")
    assert chat.texts()[1].startswith("You wrote: Hello")


def test_a_blocked_microphone_is_told(start: Start, site: Site) -> None:
    """A user who denies the microphone reads what to do, and can type."""
    chat = Chat(start, site, microphone=MICROPHONE[:1])
    chat.browser.execute_cdp_cmd(
        "Browser.setPermission",
        {"permission": {"name": "microphone"}, "setting": "denied", "origin": site.url},
    )
    chat.named("switch", "Hands-free").click()
    chat.is_in("Something went wrong")
    alert = chat.browser.find_element(By.CSS_SELECTOR, "[role=alert]")
    assert "microphone is blocked" in alert.text
    assert chat.named("switch", "Hands-free").get_attribute("aria-checked") == "false"
    chat.say("Hello")
    chat.is_in("Speaking")


def test_hostile_text_is_only_shown(start: Start, site: Site, server: StandIn) -> None:
    """Markup in questions and answers appears verbatim, and nothing is loaded from elsewhere."""
    hostile = "<img src=x onerror=\"document.title = 'hacked'\"><script>alert(1)</script>"
    chat = Chat(start, site)
    server.will_answer(hostile)
    chat.say(hostile)
    until(chat.browser, chat.texts, lambda texts: texts == [hostile] * 2)
    chat.is_in("Ready")
    assert chat.browser.title == "Voice chat"
    assert not chat.browser.find_elements(By.TAG_NAME, "img")
    asked = chat.run("performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(url.startswith((site.url, "blob:", "data:")) for url in asked), asked
    assert not chat.browser.get_log("browser")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_phones_and_dark_mode(
    scheme: str, start: Start, site: Site, server: StandIn
) -> None:
    """At 360 pixels nothing is wider than the screen, and colours follow the system's."""
    chat = Chat(start, site)
    chat.browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True},
    )
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chat.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    chat.open(site)
    server.will_answer("A_word_that_is_far_too_long_for_any_phone_" * 3)
    chat.say("Is a golden retriever a good family dog, and what does it eat?")
    chat.is_in("Ready")
    screenshot(chat.browser, f"chat-phone-{scheme}")
    assert chat.run("document.documentElement.scrollWidth") == 360
    red = int(
        chat.run("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0]
    )
    assert red < 60 if scheme == "dark" else red > 200


def test_sound_of_another_rate_keeps_its_speed(start: Start, site: Site) -> None:
    """Sound of 8 kHz gets three samples for one, until another answer begins."""
    chat = Chat(start, site)
    sound = "[...resampled(Int16Array.of(0, 300, 600))]"
    assert chat.run(f"(obey({{type: 'rate', rate: 8000}}), {sound})") == [
        *(0, 100, 200, 300, 400, 500),
        *(600, 600, 600),
    ]
    assert chat.run(f"(obey({{type: 'answer'}}), {sound})") == [0, 300, 600]


def test_on_paper_all_turns_are_shown(start: Start, site: Site) -> None:
    """A printed page is as long as its turns, dark on white, and without controls."""
    chat = Chat(start, site)
    chat.run("show(Array.from({length: 60}, () => ({role: 'user', text: 'Is a dog a friend?'})))")
    chat.browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]},
    )
    assert chat.run("document.querySelector('footer').checkVisibility()") is False
    assert chat.run("document.documentElement.scrollHeight") > 60 * 24
    words = "getComputedStyle(document.querySelector('#turns p')).color"
    assert chat.run(words) == "rgb(0, 0, 0)"
    assert chat.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


@needs_axe
def test_the_page_is_accessible(start: Start, site: Site, server: StandIn) -> None:
    """Axe finds nothing in answers, an error and a pressed button, light and dark, also narrow."""
    chat = Chat(start, site)
    assert not violations_everywhere(chat.browser)
    chat.say("Is a golden retriever a good family dog?")
    chat.is_in("Speaking")
    server.will_fail(401, "Incorrect API key provided.", code="invalid_api_key")
    chat.say("Hello")
    chat.is_in("Something went wrong")
    chat.run("document.querySelector('#talk').setAttribute('aria-pressed', true)")
    assert not violations_everywhere(chat.browser, "chat")


def test_screen_readers_read_written_answers(start: Start, site: Site, server: StandIn) -> None:
    """An answer that is not spoken is announced when it is whole; one that is spoken is not."""
    chat = Chat(start, site)
    announced = "document.querySelector('[aria-live=polite]').textContent"
    server.will_answer("It is written.", spoken=False)
    chat.say("Write")
    until(chat.browser, lambda: chat.run(announced), lambda text: text == "Answer: It is written.")
    chat.say("Speak")
    chat.is_in("Speaking")
    until(chat.browser, lambda: chat.run(announced), lambda text: text == "")


def test_keys_reach_every_control(start: Start, site: Site) -> None:
    """Tab visits all controls, each has a name, and the focus can be seen."""
    chat = Chat(start, site)
    names = []
    for _ in range(5):
        ActionChains(chat.browser).send_keys(Keys.TAB).perform()
        element = chat.browser.switch_to.active_element
        names.append(element.accessible_name)
        assert chat.run("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert names == ["Hold to talk", "Hands-free", "Message", "File", "Send"]
