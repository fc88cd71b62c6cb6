"""The same service on PostgreSQL with several workers."""

import threading
import time
from collections import Counter
from pathlib import Path

import httpx2
import pytest
from service_process import Served, served

from metainf.client import Asked, Client
from metainf.store import Filter, open_store
from metainf.testing.store_suite import sample
from postgres_server import BINARIES

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.skipif(not BINARIES, reason="no PostgreSQL server under /usr/lib/postgresql: apt install it"),
]
ASKED = Asked(model="Llama-3.1-8B-Instruct", workload="sharegpt", hardware=("L4",), top=1)
FILES, RECORDS, WRITERS, LARGE = 4, 400, 4, 5_000
OVER_S = 60.0


def test_several_workers_share_one_store(postgres_url: str, tmp_path: Path) -> None:
    options = ("--workers", "2", "--rate", "none", "--uploads", str(tmp_path / "uploads"))
    with served(postgres_url, *options, log=tmp_path / "log") as one:
        with Client(one.url, timeout=60) as client:
            assert client.select(ASKED) == client.select(ASKED)
            jobs = [
                client.hand_in(
                    b"".join(sample(n, f"file {place}").canonical().encode() + b"\n" for n in range(RECORDS)),
                    f"{place}.jsonl",
                    "records",
                )
                for place in range(FILES)
            ]

            def write(writer: int) -> None:
                with Client(one.url, timeout=60) as own:
                    for trial in range(20):
                        own.append([sample(trial, f"writer {writer}")])

            writers = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join(60)
            ended = [list(client.follow(job.job_id))[-1] for job in jobs]
            assert {job.state for job in ended} == {"done"} and {job.new for job in ended} == {RECORDS}
            told = {line.source: line.records for line in client.sources()}
            assert told == {f"file {n}": RECORDS for n in range(FILES)} | {
                f"writer {n}": 20 for n in range(WRITERS)
            }
            answered = _answered_by(one, 2)
            assert _counted(one.url) >= answered.total() > max(answered.values())
        one.kill()
    with open_store(postgres_url) as store:
        assert store.count(Filter(source="writer 1")) == 20 and store.check() == store.count()


def _answered_by(one: Served, workers: int) -> Counter[int]:
    """How many requests each worker has answered, by its log; each connection goes to whoever takes it, so
    more are opened until so many workers did."""
    until = time.monotonic() + OVER_S
    while True:
        found = Counter(line["process"] for line in one.logged() if line["message"] == "request")
        if len(found) >= workers:
            return found
        assert time.monotonic() < until, f"only {len(found)} of {workers} workers answered"
        httpx2.get(f"{one.url}/health")


def _counted(url: str) -> float:
    """Requests answered by all workers together."""
    lines = httpx2.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[-1]) for line in lines if line.startswith("metainf_requests_total"))


def test_a_killed_worker_s_import_is_taken_over(postgres_url: str, tmp_path: Path) -> None:
    options = ("--rate", "none", "--uploads", str(tmp_path / "uploads"))
    text = b"".join(sample(n, "taken over").canonical().encode() + b"\n" for n in range(LARGE))
    with served(postgres_url, *options, log=tmp_path / "first") as first, Client(first.url) as client:
        job = client.hand_in(text, "large.jsonl", "records").job_id
        first.kill()
    with served(postgres_url, *options, log=tmp_path / "second") as second, Client(second.url) as client:
        until = time.monotonic() + OVER_S
        while not client.imported(job).over:
            assert time.monotonic() < until
            time.sleep(0.25)
        over = client.imported(job)
    assert over.state == "done" and over.new + over.known == LARGE
