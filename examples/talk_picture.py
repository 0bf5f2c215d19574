"""The picture of an exported page: `python examples/talk_picture.py [file.png]`.

The stand-in on this machine answers, and the clock is moved by hand. The page is written to
`example-data/talk.html`. The picture needs Chromium, its driver, and the extra `browser`.
"""

import argparse
import base64
import importlib
import shutil
from pathlib import Path
from typing import Any

from conversation import AudioInput, Conversation
from conversation.testing import StandIn

MINUTE = 60
BEGIN = 1_772_877_900.0  # 2026-03-07 10:05 UTC
WIDTH, SCALE = 640, 1.875
RIGHT = "\ue014"  # the arrow key: a second
QUESTION = "Is a golden retriever a good family dog?"


class Clock:
    """Clock that is moved by hand."""

    now = BEGIN

    def __call__(self) -> float:
        """Return the Unix time in seconds."""
        return self.now


def weather(city: str) -> str:
    """Return the weather in a city."""
    return f"{city}: 4 degrees, dry until the evening"


def write_page(path: Path) -> Path:
    """Hold a conversation of an hour, and export it."""
    clock = Clock()
    with StandIn(clock=clock) as server, server.client() as client:
        chat = Conversation(client=client, clock=clock, tools=[weather])
        chat.set_title("A dog for the family")
        speech = client.audio.speech.create(
            model="gpt-4o-mini-tts", voice="alloy", input=QUESTION, response_format="wav"
        )
        server.will_answer("Yes. They are gentle, patient, and happy in company.")
        chat.say(AudioInput(speech.content, transcript=QUESTION), name="Ann")
        clock.now += 64 * MINUTE
        server.will_answer(tool_calls=[("weather", {"city": "Oslo"})])
        server.will_answer("It stays dry until the evening. Take a towel all the same!")
        chat.say("Will it stay dry in Oslo for a long walk?", name="Ann")
        clock.now += 7 * MINUTE
        return chat.export(path)


def take_picture(page: Path, picture: Path) -> None:
    """Save the beginning of the page as an image."""
    webdriver: Any = importlib.import_module("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("headless", "no-sandbox", "hide-scrollbars", "lang=en-GB"):
        options.add_argument(f"--{argument}")
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        screen = {"width": WIDTH, "height": 2000, "deviceScaleFactor": SCALE, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        browser.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Europe/Oslo"})
        browser.execute_cdp_cmd("Emulation.setLocaleOverride", {"locale": "en-GB"})
        browser.get(page.resolve().as_uri())
        wave = browser.find_elements("class name", "wave")[1]
        wave.send_keys(RIGHT, RIGHT)
        browser.execute_script("document.activeElement.blur(); scrollTo(0, 0)")
        usage = browser.find_element("class name", "usage")
        box = {"x": 0, "y": 0, "width": WIDTH, "height": usage.location["y"] - 16, "scale": 1}
        shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"clip": box})
        picture.write_bytes(base64.b64decode(shot["data"]))
    finally:
        browser.quit()


def main() -> None:
    """Write the page and the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", nargs="?", type=Path, default=Path("example-data/talk.png"))
    picture = parser.parse_args().picture
    folder = Path("example-data")
    folder.mkdir(exist_ok=True)
    page = write_page(folder / "talk.html")
    print(page)
    take_picture(page, picture)
    print(picture)


if __name__ == "__main__":
    main()
