"""Waiting for a page whose policy lets nobody evaluate text in it (Playwright's own wait would)."""

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

WAIT_S = 15.0


def until(page: "Page", script: str) -> None:
    """Wait until an expression holds."""
    end_s = time.monotonic() + WAIT_S
    while not page.evaluate(script):
        assert time.monotonic() < end_s, f"never held: {script}"
        page.wait_for_timeout(40)
