"""How long the dashboard takes to show a large store: `python benchmarks/bench_dashboard.py [RECORDS]`.

Makes a store of RECORDS (default 1,000,000) records as bench_store.py does, in SQLite and on a PostgreSQL
server that it starts (or takes those of `--sqlite` and `--postgres`); starts the service on each, waits until
all are counted, and opens the history page in Chromium. Times are from asking for the page to the first drawn
heat map (in a browser that has the page's files, and in one that has none), and from choosing a filter to the
heat map drawn anew, each filter a question that was not asked before. Beside them is the processor time of
service, database and browser together, which other programs change less. Prints one JSON object; `--write
PAGE` puts the table into the page, `--counted` leaves what is counted of the stores already.
"""

import argparse
import contextlib
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from bench_store import generate
from dashboard_page import write
from dashboard_watch import Watch, ask, drawn_times
from measuring import machine, tell

from metainf.domain import MetaInfError
from metainf.store import open_store
from metainf.store.cells import AXIS, COUNTED, TALLIES
from metainf.testing import postgres

PORT = 8397
URL = f"http://127.0.0.1:{PORT}"
QUERIES = {"all": "", "of_a_source": "&source=source-9", "of_workloads": "&rows=workload&model=model-3"}
DURABLE = "-c shared_buffers=512MB"
"""PostgreSQL as it comes, with memory that a store of this size is usually given."""


def make(store: str, records: int) -> None:
    """A store of that many records, none counted."""
    with open_store(store) as opened:
        if opened.count() < records:
            opened.add(generate(records, random.Random(0)), batch=5000)
        with opened.database.write() as connection:
            for table in (*TALLIES, AXIS, COUNTED):
                table.drop(connection, checkfirst=True)


def ready() -> None:
    """Wait for the service."""
    for _ in range(600):
        with contextlib.suppress(OSError):
            ask(f"{URL}/ready")
            return
        time.sleep(0.1)
    raise SystemExit("the service did not start")


def counted(records: int) -> float:
    """Seconds until all records are counted."""
    start = time.perf_counter()
    while ask(f"{URL}/v1/tensor/axes")["counted"] < records:
        time.sleep(0.5)
    return round(time.perf_counter() - start, 1)


@contextlib.contextmanager
def service(store: str) -> Iterator[None]:
    """The service on a store."""
    command = [sys.executable, "-m", "metainf", "serve", "--port", str(PORT), "--store", store]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w") as log:
        process = subprocess.Popen([*command, "--rate", "none", "--uploads", folder], stdout=log, stderr=log)
        try:
            ready()
            yield
        finally:
            process.terminate()
            process.wait(30)


def measure(store: str, records: int, was_counted: bool, watch: Watch) -> dict[str, Any]:
    """All times of one store."""
    found: dict[str, Any] = {}
    with service(store):
        waited_s = counted(records)
        found |= {} if was_counted else {"count_s": waited_s}
        for name, query in QUERIES.items():
            found[f"tensor_{name}"] = watch.timed(partial(ask, f"{URL}/v1/tensor?metric=e2e_s{query}"))
        found |= drawn_times(URL, watch)
    others = [ms for name, ms in found["filters"].items() if not name.startswith("Model ")]
    found["filter_median_ms"] = statistics.median(one["ms"] for one in others)
    found["filter_most_ms"] = max(one["ms"] for one in others)
    found["filter_processor_ms"] = statistics.median(one["processor_ms"] for one in others)
    return found


@contextlib.contextmanager
def stores(options: argparse.Namespace) -> Iterator[dict[str, tuple[str, int | None]]]:
    """Address of each store, and the first process of its server."""
    found: dict[str, tuple[str, int | None]] = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        if "sqlite" in options.on:
            found["SQLite"] = (str(options.sqlite or Path(folder) / "records.sqlite"), None)
        if "postgres" in options.on and (options.postgres or postgres.BINARIES):
            url, server = options.postgres, options.server
            if url is None:
                where = stack.enter_context(postgres.running(DURABLE))
                url = postgres.url_of(where, "dashboard")
                server = int((where / "data" / "postmaster.pid").read_text().split()[0])
            found["PostgreSQL"] = (url, server)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=1_000_000)
    parser.add_argument("--on", nargs="+", choices=("sqlite", "postgres"), default=["sqlite", "postgres"])
    parser.add_argument("--sqlite", type=Path, help="a store that is kept (default: a temporary one)")
    parser.add_argument("--postgres", help="URL of a store that is kept (default: a server of its own)")
    parser.add_argument("--server", type=int, help="the first process of that server, for its processor time")
    parser.add_argument("--counted", action="store_true", help="leave what is counted of them already")
    parser.add_argument("--write", type=Path, help="the page to put the table into")
    options = parser.parse_args()
    report: dict[str, Any] = {"records": options.records, "stores": {}}
    with stores(options) as found:
        for name, (store, server) in found.items():
            if not options.counted:
                make(store, options.records)
            report["stores"][name] = measure(store, options.records, options.counted, Watch(server))
    tell(report)
    if options.write is not None:
        write(options.write, report, machine())


if __name__ == "__main__":
    try:
        main()
    except MetaInfError as error:
        raise SystemExit(str(error)) from None
