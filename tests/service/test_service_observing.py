"""What the service tells of itself: metrics, logs, ids of requests, traces."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest
from service_process import Served, served

from metainf.client import Asked, Client
from metainf.service.observing import Lines

ASKED = Asked(model="Llama-3.1-8B-Instruct", workload="sharegpt", hardware=("L4",), top=1)


def counted(service: Served, name: str) -> float:
    """The value of one line of the metrics."""
    lines = httpx2.get(f"{service.url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[-1]) for line in lines if line.startswith(name))


def test_requests_and_answers_are_counted(service: Served, client: Client) -> None:
    line = 'metainf_requests_total{method="POST",route="/v1/select",status="200"}'
    before, known = counted(service, line), counted(service, 'metainf_answers_total{known="true"}')
    for _ in range(3):
        client.select(ASKED)
    assert counted(service, line) == before + 3
    assert counted(service, 'metainf_answers_total{known="true"}') >= known + 2
    assert counted(service, 'metainf_request_seconds_count{method="POST",route="/v1/select"}') >= 3


def test_names_make_no_labels(service: Served) -> None:
    for number in range(5):
        httpx2.get(f"{service.url}/v1/models/nobody-{number}")
        httpx2.get(f"{service.url}/nowhere-{number}")
    assert "nobody-" not in httpx2.get(f"{service.url}/metrics").text
    assert "nowhere-" not in httpx2.get(f"{service.url}/metrics").text


def test_each_request_is_one_line_with_its_id(service: Served) -> None:
    answer = httpx2.get(f"{service.url}/v1/workloads", headers={"X-Request-Id": "mine-1"})
    assert (
        answer.headers["x-request-id"] == "mine-1" and answer.headers["x-content-type-options"] == "nosniff"
    )
    found, end_s = list[dict[str, Any]](), time.monotonic() + 20
    while not found and time.monotonic() < end_s:  # it is written once the answer has been sent
        found = [line for line in service.logged() if line.get("request_id") == "mine-1"]
    (line,) = found
    assert (line["route"], line["status"], line["level"]) == ("/v1/workloads", 200, "info")
    assert line["duration_ms"] >= 0 and line["process"]
    odd = httpx2.get(f"{service.url}/health", headers={"X-Request-Id": "a b\tc"})
    assert odd.headers["x-request-id"] not in ("a b\tc", "")


@pytest.mark.parametrize("end", ["\n", "\r", "\x85", "\u2028", "\x0b"])
def test_whatever_is_sent_a_line_of_the_log_stays_one(end: str) -> None:
    record = logging.LogRecord("metainf", logging.INFO, __file__, 1, f"one{end}two", (), None)
    (line,) = Lines().format(record).splitlines()
    assert json.loads(line)["message"] == f"one{end}two"


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """A collector of traces: its address, and what it was sent."""
    sent: list[bytes] = []

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Takes)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    thread.join(10)


def test_traces_go_where_opentelemetry_is_told(collector: tuple[str, list[bytes]], tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.instrumentation.fastapi", reason="needs the extra traces")
    address, sent = collector
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": address}
    with served(tmp_path / "records.sqlite", log=tmp_path / "log", **told) as one:
        with Client(one.url) as client:
            client.select(ASKED)
        assert one.stop() in (0, -15)
    text = b"".join(sent)
    assert b"POST /v1/select" in text and b"metainf" in text
