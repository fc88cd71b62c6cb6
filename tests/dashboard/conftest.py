"""The dashboard in a real browser: Chromium of this machine, driven by Playwright."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICE_TESTS = ROOT / "tests" / "service"
if str(SERVICE_TESTS) not in sys.path:
    sys.path.insert(0, str(SERVICE_TESTS))  # how a service is started is told there once

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page
    from service_process import Served

NEEDS = ("fastapi", "httpx2", "playwright", "axe_playwright_python")
LACKING = [name for name in NEEDS if find_spec(name) is None]
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PICTURES = os.environ.get("METAINF_PICTURES")
"""Where this is set, the tests write the pictures of the documents anew."""


@dataclass
class Opened:
    """A page with what went wrong in it."""

    page: "Page"
    url: str
    wrong: list[str] = field(default_factory=list)

    def go(self, hash: str = "") -> "Page":
        """Open one of its pages from nothing."""
        self.page.goto("about:blank")
        self.page.goto(f"{self.url}/{hash}")
        return self.page

    def chart(self, title: str) -> "Any":
        """A drawn chart by the beginning of its label."""
        found = self.page.locator(f'.chart[aria-label^="{title}:"][data-drawn]')
        found.wait_for()
        return found

    def picture(self, name: str) -> None:
        """Keep what is seen as a picture of the documents, where that is asked for."""
        if PICTURES:
            path = ROOT / "docs" / "figures" / f"dashboard-{name}.png"
            self.page.wait_for_timeout(300)
            self.page.screenshot(path=path, animations="disabled")
            _shrink(path)


def _shrink(path: Path) -> None:
    """Fewer colours where Pillow is there: a picture of a page needs few."""
    if find_spec("PIL") is not None:
        from PIL import Image

        with Image.open(path) as found:
            found.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    """A fresh Chromium; Playwright gives it a user folder of its own."""
    if LACKING:
        pytest.skip(f"needs the extra dev: no {', '.join(LACKING)} here")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> "Iterator[Served]":
    """A service without a record or key."""
    from service_process import served

    folder = tmp_path_factory.mktemp("empty")
    with served(folder / "records.sqlite", "--rate", "none", log=folder / "log") as one:
        yield one


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, browser: "Browser") -> "Iterator[Served]":
    """A service over the runs that ship with the study of a CPU, and some that failed."""
    from dashboard_records import fill
    from service_process import served

    folder = tmp_path_factory.mktemp("filled")
    fill(folder / "records.sqlite")
    with served(folder / "records.sqlite", "--rate", "none", log=folder / "log") as one:
        yield one


@pytest.fixture
def open_page(browser: "Browser") -> "Iterator[Callable[..., Opened]]":
    """Opens pages of a service; in the end none of them may have had an error of its own."""
    opened: list[Opened] = []
    contexts = []

    def make(url: str, **context: Any) -> Opened:
        own = browser.new_context(
            **({"viewport": {"width": 1280, "height": 900}, "color_scheme": "light"} | context)
        )
        own.set_default_timeout(15_000)
        contexts.append(own)
        one = Opened(own.new_page(), url)
        one.page.on("pageerror", lambda error: one.wrong.append(str(error)))
        one.page.on("console", lambda told: _hear(one, told))
        one.page.on("request", lambda asked: _only_here(one, asked.url))
        opened.append(one)
        return one

    yield make
    for own in contexts:
        own.close()
    assert not [each for one in opened for each in one.wrong]


def _hear(one: Opened, told: Any) -> None:
    """Errors in the console, but for answers that were meant to be refusals."""
    if told.type == "error" and "the server responded with a status of" not in told.text:
        one.wrong.append(told.text)


def _only_here(one: Opened, url: str) -> None:
    if not url.startswith((one.url, "about:", "data:", "blob:")):
        one.wrong.append(f"a request beyond the service: {url}")
