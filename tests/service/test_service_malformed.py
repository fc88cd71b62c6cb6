"""Wrong requests are refused, each with a problem, and leave the service as it was."""

import socket
from itertools import islice
from urllib.parse import urlsplit

import httpx2
from service_process import Served

from metainf.client import Client
from metainf.service.routes.choosing import PAIRS, QUESTION, SIZE
from metainf.service.routes.records import EXAMPLE
from metainf.testing.malformed import malformed

QUESTIONS = {"/v1/select": QUESTION, "/v1/size": SIZE, "/v1/predict": PAIRS, "/v1/explain": PAIRS}
HOW_MANY = 800


def test_wrong_requests_are_refused(service: Served, client: Client) -> None:
    before = sum(line.records for line in client.sources())
    with httpx2.Client(base_url=service.url, timeout=30) as wrong:
        for one in islice(malformed(7, QUESTIONS, [EXAMPLE]), HOW_MANY):
            headers = {"Content-Type": one.content_type}
            answer = wrong.request(one.method, one.path, content=one.body, headers=headers)
            assert 400 <= answer.status_code < 500, (one, answer.status_code, answer.text)
            problem = answer.json()
            assert problem["status"] == answer.status_code and problem["detail"]
            assert "Traceback" not in problem["detail"]
    assert sum(line.records for line in client.sources()) == before
    assert not [line for line in service.logged() if line["level"] == "error"]


def test_what_is_no_http_is_refused(service: Served) -> None:
    where = urlsplit(service.url)
    assert where.hostname is not None
    long_head = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 200_000
    for text in (b"\x00\x01\x02\r\n\r\n", b"GET\r\n\r\n", long_head):
        with socket.create_connection((where.hostname, where.port), timeout=20) as raw:
            try:
                raw.sendall(text)
                raw.shutdown(socket.SHUT_WR)
                answer = raw.recv(1000)
            except ConnectionError:
                answer = b""
            assert answer == b"" or answer.split()[1].startswith(b"4")
    assert httpx2.get(f"{service.url}/health").status_code == 200
