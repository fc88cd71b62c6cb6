"""How long the dashboard takes to show a large store: `python benchmarks/bench_dashboard.py [RECORDS]`.

Makes a store of RECORDS (default 1,000,000) records as bench_store.py does, or takes the one of `--store`;
starts the service, waits until all are counted, and opens the history page in Chromium. Times are from asking
for the page to the first drawn heat map (in a browser that has the page's files, and in one that has none),
and from choosing a filter to the heat map drawn anew, each filter a question that was not asked before.
Prints one JSON object.
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from bench_store import generate
from measuring import tell
from playwright.sync_api import Page, sync_playwright

from metainf.store import open_store
from metainf.store.cells import AXIS, COUNTED, TALLIES

PORT = 8397
URL = f"http://127.0.0.1:{PORT}"
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


def make(path: Path, records: int) -> None:
    """A store of that many records, none counted."""
    if not path.exists():
        with open_store(path) as store:
            store.add(generate(records, random.Random(0)), batch=5000)
    with open_store(path) as store, store.database.write() as connection:
        for table in (*TALLIES, AXIS, COUNTED):
            table.drop(connection, checkfirst=True)


def ask(path: str) -> Any:
    """The answer of the service."""
    with urllib.request.urlopen(URL + path, timeout=120) as answer:
        return json.load(answer)


def ready() -> None:
    """Wait for the service."""
    for _ in range(600):
        try:
            ask("/ready")
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the service did not start")


def counted(records: int) -> float:
    """Seconds until all records are counted."""
    start = time.perf_counter()
    while ask("/v1/tensor/axes")["counted"] < records:
        time.sleep(0.5)
    return round(time.perf_counter() - start, 1)


def timed_query(query: str) -> float:
    """Milliseconds of one call that was not asked before."""
    start = time.perf_counter()
    ask(query)
    return round(1000 * (time.perf_counter() - start), 1)


def first_paint(page: Page) -> float:
    """Milliseconds from asking for the page to the heat map, by the browser's own clock."""
    page.goto("about:blank")
    page.add_init_script(WATCH)
    page.goto(f"{URL}/#/history", wait_until="commit")
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


def watch(report: dict[str, Any]) -> None:
    """Open the page and time it."""
    chromium = shutil.which("chromium")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        report["first_paint_nothing_cached_ms"] = [first_paint(browser.new_page()) for _ in range(ROUNDS)]
        page = browser.new_page()
        page.goto(f"{URL}/#/swarm")
        report["first_paint_ms"] = [first_paint(page) for _ in range(ROUNDS)]
        first_paint(page)
        page.wait_for_load_state("networkidle")
        told = [(f"{label} {value or 'all'}", filtered(page, label, value)) for label, value in FILTERS]
        report["filter_ms"] = dict(told)
        report["filter_median_ms"] = statistics.median(ms for _, ms in told)
        report["filter_most_ms"] = max(ms for _, ms in told)
        browser.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, help="a store that is kept (default: a temporary one)")
    parser.add_argument("--counted", action="store_true", help="leave what is counted of it already")
    options = parser.parse_args()
    report: dict[str, Any] = {"records": options.records}
    with tempfile.TemporaryDirectory() as folder:
        path = options.store or Path(folder) / "records.sqlite"
        if not options.counted:
            make(path, options.records)
        command = [sys.executable, "-m", "metainf", "serve", "--port", str(PORT), "--store", str(path)]
        with (Path(folder) / "log").open("w") as log:
            service = subprocess.Popen([*command, "--rate", "none"], stdout=log, stderr=log)
            try:
                ready()
                waited_s = counted(options.records)
                report |= {} if options.counted else {"count_s": waited_s}
                report["tensor_ms"] = timed_query("/v1/tensor?metric=e2e_s")
                report["tensor_of_a_source_ms"] = timed_query("/v1/tensor?metric=e2e_s&source=source-9")
                workloads = "/v1/tensor?metric=e2e_s&rows=workload&model=model-3"
                report["tensor_of_workloads_ms"] = timed_query(workloads)
                watch(report)
            finally:
                service.terminate()
                service.wait(30)
    tell(report)


if __name__ == "__main__":
    main()
