"""Wrong requests are refused, each with a problem, and leave the service as it was."""

import contextlib
import json
import socket
from collections.abc import Iterator
from itertools import islice
from urllib.parse import urlsplit

import httpx2
import pytest
from service_process import Served

from metainf.client import Client
from metainf.service.routes.choosing import PAIRS, QUESTION, SIZE
from metainf.service.routes.records import EXAMPLE
from metainf.testing.malformed import malformed

QUESTIONS = {"/v1/select": QUESTION, "/v1/size": SIZE, "/v1/predict": PAIRS, "/v1/explain": PAIRS}
HOW_MANY = 800
GROWTH_MIB = 40.0
"""More than what the first wrong requests load for good, far less than what keeping them would take."""
BALLAST = 100_000
"""Bytes of each large wrong request: kept, they would be over a hundred MiB."""


def memory_mib(service: Served) -> float:
    """Of the service's process."""
    psutil = pytest.importorskip("psutil", reason="psutil is not installed")
    return float(psutil.Process(service.process.pid).memory_info().rss / 2**20)


def test_wrong_requests_leave_memory_flat(service: Served) -> None:
    before, counted = memory_mib(service), 0
    with httpx2.Client(base_url=service.url, timeout=30) as wrong:
        for number in range(1_200):
            path = list(QUESTIONS)[number % len(QUESTIONS)]
            body = json.dumps({"model": f"{number:0{BALLAST}d}"}).encode()
            answer = wrong.post(path, content=body, headers={"Content-Type": "application/json"})
            counted += 400 <= answer.status_code < 500
    assert counted == 1_200 and memory_mib(service) - before < GROWTH_MIB


def test_wrong_requests_are_refused(service: Served, client: Client) -> None:
    before = sum(line.records for line in client.sources())
    with httpx2.Client(base_url=service.url, timeout=30) as wrong:
        held = memory_mib(service)
        for number, one in enumerate(islice(malformed(7, QUESTIONS, [EXAMPLE]), HOW_MANY)):
            held = memory_mib(service) if number == HOW_MANY // 2 else held
            headers = {"Content-Type": one.content_type}
            answer = wrong.request(one.method, one.path, content=one.body, headers=headers)
            assert 400 <= answer.status_code < 500, (one, answer.status_code, answer.text)
            problem = answer.json()
            assert problem["status"] == answer.status_code and problem["detail"]
            assert "Traceback" not in problem["detail"]
    assert memory_mib(service) - held < GROWTH_MIB / 2, "the second half leaves nothing more"
    assert sum(line.records for line in client.sources()) == before
    assert not [line for line in service.logged() if line["level"] == "error"]


HEAD = b"POST /v1/select HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def connected(service: Served) -> Iterator[socket.socket]:
    """A connection for bytes of one's own."""
    where = urlsplit(service.url)
    with socket.create_connection((str(where.hostname), where.port or 80), timeout=20) as raw:
        yield raw
    assert httpx2.get(f"{service.url}/health").status_code == 200


@pytest.mark.parametrize("text", [b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", b"BREW / HTTP/1.1\r\n\r\n"])
def test_what_is_no_http_is_refused(service: Served, text: bytes) -> None:
    with connected(service) as raw:
        raw.sendall(text)
        head, _, body = raw.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.split()[1] == b"400" and json.loads(body)["type"].endswith("no-http")


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.1\r\nX: ", b"GET /", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n0\r\nX: "],
    ids=["head", "path", "trailer"],
)
def test_a_head_without_an_end_is_not_kept(service: Served, start: bytes) -> None:
    with connected(service) as raw, pytest.raises(ConnectionError):
        raw.sendall(start)
        for _ in range(1000):
            raw.sendall(b"x" * 65_536)
