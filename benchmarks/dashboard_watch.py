"""Times of the dashboard in Chromium and of the service behind it, with the processor time that they took."""

import json
import os
import shutil
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

WATCH = """new MutationObserver((seen) => {
  if (seen.some(({ attributeName }) => attributeName === "data-drawn")) window.drawnAt = performance.now();
}).observe(document, { subtree: true, attributes: true })"""
"""Run in the page before anything else: when a chart was last drawn (its painting is over by then)."""
FILTERS = [
    ("Device", "gpu-3"), ("Device", "gpu-7"), ("Metric", "tpot_s"), ("Metric", "ttft_s"),
    ("Engine", "sglang"), ("Engine", ""), ("Device", ""), ("Source", "source-4"), ("Source", "source-5"),
    ("Source", ""), ("Columns", "engine"), ("Columns", "method"), ("Model", "model-7"),
    ("Model", "model-9"), ("Device", "gpu-2"),
]  # fmt: skip
ROUNDS = 5
Timed = dict[str, float]


class Watch:
    """Processor time of all processes that this one started, and of a database server beside them."""

    def __init__(self, server: int | None = None) -> None:
        self._server = server

    def spent_s(self) -> float:
        """Seconds so far."""
        parents, used = {}, {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                told = path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
            except OSError:
                continue
            parents[int(path.parent.name)] = int(told[1])
            used[int(path.parent.name)] = int(told[11]) + int(told[12])
        roots = {os.getpid()} | ({self._server} if self._server else set())

        def ours(process: int) -> bool:
            while process and process not in roots:
                process = parents.get(process, 0)
            return bool(process)

        ticks = sum(ticks for process, ticks in used.items() if process != os.getpid() and ours(process))
        return ticks / os.sysconf("SC_CLK_TCK")

    def timed(self, run: Callable[[], Any]) -> Timed:
        """Milliseconds of a run by its own word, where it gives one, else by the clock; and of processors."""
        before, start = self.spent_s(), time.perf_counter()
        said = run()
        taken = said if isinstance(said, float) else 1000 * (time.perf_counter() - start)
        return {"ms": round(taken, 1), "processor_ms": round(1000 * (self.spent_s() - before))}


def ask(url: str) -> Any:
    """The answer of the service."""
    with urllib.request.urlopen(url, timeout=120) as answer:
        return json.load(answer)


def drawn_times(url: str, watch: Watch) -> dict[str, Any]:
    """Open the page and time it."""
    found: dict[str, Any] = {}
    chromium = shutil.which("chromium")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        found["paint_nothing_kept"] = [
            watch.timed(lambda: first_paint(browser.new_page(), url)) for _ in range(ROUNDS)
        ]
        page = browser.new_page()
        page.goto(f"{url}/#/swarm")
        found["paint"] = [watch.timed(lambda: first_paint(page, url)) for _ in range(ROUNDS)]
        first_paint(page, url)
        page.wait_for_load_state("networkidle")
        found["filters"] = {
            f"{label} {value or 'all'}": watch.timed(partial(filtered, page, label, value))
            for label, value in FILTERS
        }
        browser.close()
    return found


def first_paint(page: Page, url: str) -> float:
    """Milliseconds from asking for the page to the heat map, by the browser's own clock."""
    page.goto("about:blank")
    page.add_init_script(WATCH)
    page.goto(f"{url}/#/history", wait_until="commit")
    return drawn(page)


def filtered(page: Page, label: str, value: str) -> float:
    """Milliseconds from a choice to the heat map drawn anew, by the browser's own clock."""
    page.evaluate("window.drawnAt = 0")
    box = page.get_by_label(label, exact=True)
    box.evaluate("box => box.addEventListener('change', () => { window.chosenAt = performance.now() }, "
                 "{ capture: true, once: true })")  # fmt: skip
    box.select_option(value)
    return drawn(page) - float(round(page.evaluate("window.chosenAt")))


def drawn(page: Page) -> float:
    """When the heat map was drawn; asked for seldom, to leave the browser the processor."""
    while not (at := page.evaluate("window.drawnAt ?? 0")):
        time.sleep(0.1)
    return float(round(at))
