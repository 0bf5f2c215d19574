"""Chromium, headless, driven by selenium.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and the extra `browser`; without
them the tests that import this are skipped, unless CONVERSATION_BROWSER names a folder for
screenshots. Accessibility is judged by axe (npm: axe-core), in `CONVERSATION_NODE_MODULES`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

NODE_MODULES = os.environ.get("CONVERSATION_NODE_MODULES")
AXE = Path(NODE_MODULES or "", "axe-core", "axe.min.js")
needs_axe = pytest.mark.skipif(
    not (NODE_MODULES and AXE.is_file()),
    reason="needs the package `axe-core` of npm in CONVERSATION_NODE_MODULES",
)

PICTURES = os.environ.get("CONVERSATION_BROWSER")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

if not PICTURES:
    pytest.importorskip("selenium", reason="needs the extra `browser`")
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs chromium and chromedriver", allow_module_level=True)

from selenium import webdriver  # noqa: E402
from selenium.common.exceptions import StaleElementReferenceException  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

Start = Callable[..., Any]


@contextlib.contextmanager
def browsers(folder: Path) -> Iterator[Start]:
    """Yield a function that returns a browser with an empty tab of this size, and without cookies.

    It goes on with the browser of the last call, unless that had other command line arguments.
    """
    running: list[tuple[tuple[str, ...], Any]] = []

    def start(*arguments: str, size: tuple[int, int] = (900, 1400)) -> Any:
        if not running or running[-1][0] != arguments:
            if running:
                running[-1][1].quit()
            running.append((arguments, started(folder / f"profile-{len(running)}", arguments)))
        else:
            renew(running[-1][1])
        running[-1][1].set_window_size(*size)
        return running[-1][1]

    try:
        yield start
    finally:
        if running:
            running[-1][1].quit()


def started(profile: Path, arguments: Iterable[str]) -> Any:
    """Start a browser."""
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for argument in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        *("disable-dev-shm-usage", "autoplay-policy=no-user-gesture-required"),
        f"user-data-dir={profile}",
        *arguments,
    ):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(str(DRIVER)))


def renew(browser: Any) -> None:
    """Put a new tab in the place of the last one, and forget its user and what was logged."""
    last = browser.current_window_handle
    browser.switch_to.new_window("tab")
    new = browser.current_window_handle
    browser.switch_to.window(last)
    browser.close()
    browser.switch_to.window(new)
    browser.execute_cdp_cmd("Network.clearBrowserCookies", {})
    for log in ("performance", "browser"):
        browser.get_log(log)


def screenshot(browser: Any, name: str) -> None:
    """Save a screenshot, if CONVERSATION_BROWSER is set."""
    if PICTURES:
        folder = Path(PICTURES)
        folder.mkdir(parents=True, exist_ok=True)
        browser.save_screenshot(str(folder / f"{name}.png"))


def resize(
    browser: Any, width: int = 900, scheme: str = "light", *, height: int = 1200, media: str = ""
) -> None:
    """Give the page a width, in pixels, and a colour scheme; narrow ones are those of a phone."""
    is_phone = width < 500
    screen = {"width": width, "height": height, "mobile": is_phone}
    screen["deviceScaleFactor"] = 2 if is_phone else 1
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})


def violations_everywhere(browser: Any, picture: str = "") -> list[str]:
    """Return the rules of accessibility that the page breaks, light and dark, narrow and wide.

    Args:
        browser: The browser, with the page in the state that is to be judged.
        picture: Beginning of the names of screenshots; without it there are none.
    """
    browser.execute_script(AXE.read_text("utf-8"))
    found = []
    for width, scheme in itertools.product((360, 1280), ("light", "dark")):
        resize(browser, width, scheme)
        result = browser.execute_async_script(
            "const done = arguments[0]; axe.run().then(done, error => done({error: String(error)}))"
        )
        assert "error" not in result, result["error"]
        assert len(result["passes"]) > 10
        found += [
            f"{width} {scheme}: {rule['id']}: {node['html'][:200]}: {node['failureSummary']}"
            for rule in result["violations"]
            for node in rule["nodes"]
        ]
        if picture:
            screenshot(browser, f"{picture}-{width}-{scheme}")
    return found


def until(browser: Any, look: Callable[[], Any], is_right: Callable[[Any], Any]) -> Any:
    """Wait until the value that `look` returns is right, and return it.

    An element that the page replaces while it is looked at is looked for again.
    """
    values: list[Any] = []

    def is_right_now(_: object) -> bool:
        values[:] = [look()]
        return bool(is_right(values[0]))

    ignored = [StaleElementReferenceException]
    WebDriverWait(browser, 180, ignored_exceptions=ignored).until(is_right_now)
    return values[0]
