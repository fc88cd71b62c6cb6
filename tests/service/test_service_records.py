"""Records over HTTP: added, read page by page, imported in bulk; none that was acknowledged is ever lost."""

import itertools
import json
import time
from pathlib import Path

import httpx2
import pytest
from service_process import Served, served

from metainf import api
from metainf.client import Client, Refused
from metainf.domain import BadInput, UnknownName
from metainf.store import Filter, open_store
from metainf.store.jobs import Jobs
from metainf.testing.store_suite import sample

FIXTURES = Path(__file__).parents[1] / "importers" / "fixtures"
SAID = {"hardware": "2xH100", "engine": "vllm"}
OVER_S = 90.0
IMPORTS, KILLS, LINES, MANY = 100, 4, 30, 3_000
LARGE = 1_000_000
"""Number of the first record of a large file."""


def lines(trials: range, source: str = "bulk") -> bytes:
    """An export of records."""
    return b"".join(sample(trial, source).canonical().encode() + b"\n" for trial in trials)


def test_records_go_in_and_come_out(client: Client) -> None:
    given = [sample(trial, "in and out") for trial in range(25)]
    kept = client.append(given)
    assert (kept.new, kept.known) == (25, 0) and kept.ids == tuple(record.id for record in given)
    assert client.append(given[:5]).known == 5
    assert client.record(kept.ids[7]) == given[7]
    found, after = [], 0
    for _ in range(10):
        page = client.records(after, 10, source="in and out")
        found += page.records
        if page.next is None:
            break
        after = page.next
    assert found == given
    assert client.records(source="in and out", engine="engine-0", limit=1000).records == tuple(
        record for record in given if record.method.engine == "engine-0"
    )
    assert client.records(source="in and out", since="2025-04", until="2025-05").records == tuple(
        record for record in given if str(record.provenance.date)[:7] in ("2025-04", "2025-05")
    )
    (line,) = [each for each in client.sources() if each.source == "in and out"]
    assert (line.records, line.models, line.devices) == (25, 3, 2)


@pytest.mark.parametrize(
    "body", [b"[]", b"{}", b"[{}]", b'[{"setting": 1}]', b"[" * 5000, b'["\\ud800"]', b"\xff", b"[1e999]"]
)
def test_what_is_no_record_is_refused(service: Served, body: bytes) -> None:
    answer = httpx2.post(
        f"{service.url}/v1/records", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422 and answer.json()["type"].endswith("bad-input")


def test_a_result_file_becomes_records_as_it_does_here(client: Client, tmp_path: Path) -> None:
    path = FIXTURES / "vllm_serve_append.jsonl"
    with open_store(tmp_path / "here.sqlite") as here:
        known = api.import_file(path, None, SAID, here, True)
        expected = {record.canonical().replace(str(path), path.name) for record in here.query()}
    job = client.import_file(path, **SAID)
    states = list(client.follow(job.job_id))
    done = states[-1]
    assert done.state == "done" and done.over and all(not each.over for each in states[:-1])
    assert (done.format, done.read, done.new, done.rejected) == (
        known.format,
        known.read,
        known.new,
        known.rejected,
    )
    assert done.reasons == known.reasons
    assert client.imported(job.job_id) == done and done in client.imports()
    found = client.records(source="vllm bench serve", limit=100).records
    assert len(found) == len(expected)
    assert client.import_file(path, **SAID).job_id != job.job_id


def test_progress_comes_as_server_sent_events(service: Served, client: Client) -> None:
    job = client.hand_in(lines(range(6_000), "events"), "all.jsonl", "records")
    events = []
    with httpx2.stream("GET", f"{service.url}/v1/imports/{job.job_id}/events", timeout=OVER_S) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in answer.iter_lines():
            if line.startswith("event:"):
                name = line.removeprefix("event:").strip()
            elif line.startswith("data:"):
                events.append((name, json.loads(line.removeprefix("data:"))))
    assert [name for name, _ in events[:-1]] == ["progress"] * (len(events) - 1)
    assert events[-1][0] == "done" and events[-1][1]["new"] == 6_000
    counts = [data["new"] for _, data in events]
    assert counts == sorted(counts)


def test_an_import_that_fails_says_why_and_keeps_what_was_good(client: Client) -> None:
    torn = lines(range(30), "torn") + b'{"setting": 1}\n'
    *_, over = client.follow(client.hand_in(torn, "torn.jsonl", "records").job_id)
    assert over.state == "failed" and "torn.jsonl line 31" in str(over.error) and over.new == 30
    *_, over = client.follow(client.hand_in(b"no result file", "../../what?.json").job_id)
    assert over.state == "failed" and over.name == "what_.json"
    assert "expected a result file" in str(over.error) and "/" not in str(over.error).split(":")[0]


def test_what_is_said_of_a_file_is_checked_at_once(client: Client) -> None:
    for facts, error in (
        ({"format": "guidelm"}, UnknownName),
        ({"hardware": "H1000"}, UnknownName),
        ({"model": "/etc/passwd"}, UnknownName),
        ({"engine": "vlm"}, UnknownName),
        ({"engine": " "}, BadInput),
    ):
        with pytest.raises(error):
            client.hand_in(b"{}", "a.json", **facts)
    with pytest.raises(Refused, match="No such import"):
        client.imported("0" * 16)


def test_a_kill_in_the_middle_of_imports_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Files are handed in and records added while the service is killed again and again, each time in the
    middle of a large file; in the end every acknowledged one is there."""
    store, log = tmp_path / "records.sqlite", tmp_path / "log"
    accepted: dict[str, range] = {}
    appended: list[str] = []
    numbers, unfinished = itertools.count(), 0
    for _ in range(KILLS):
        with served(store, "--rate", "none", log=log) as one, Client(one.url, timeout=20) as client:
            for _ in range(IMPORTS // KILLS - 1):
                place = next(numbers)
                own = range(place * LINES, place * LINES + LINES)
                accepted[client.hand_in(lines(own), f"{place}.jsonl", "records").job_id] = own
                appended += client.append([sample(place, "appended")]).ids
            large = range(LARGE + len(accepted) * MANY, LARGE + (len(accepted) + 1) * MANY)
            accepted[client.hand_in(lines(large), "large.jsonl", "records").job_id] = large
            one.kill()
        with open_store(store) as opened:
            jobs = Jobs(opened.database)
            unfinished += any(not job.over for each in accepted if (job := jobs.get(each)) is not None)
    assert unfinished, "no kill fell into an import"
    assert len(accepted) == IMPORTS
    with served(store, "--rate", "none", log=log) as one, Client(one.url) as client:
        until = time.monotonic() + OVER_S
        while not all(client.imported(job).over for job in accepted):
            assert time.monotonic() < until, "imports that were accepted are not carried out"
            time.sleep(0.25)
        assert {client.imported(job).state for job in accepted} == {"done"}
    with open_store(store) as opened:
        assert opened.check() == opened.count()
        assert opened.count(Filter(source="bulk")) == sum(len(own) for own in accepted.values())
        assert {record.id for record in opened.query(Filter(source="appended"))} >= set(appended)
    assert not list((tmp_path / "records.sqlite.uploads").iterdir())
