"""The endpoint encoder against a real HTTP server on the loopback."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from metainf.domain import BadInput, MetaInfError
from metainf.embed.endpoint import Endpoint
from metainf.embed.text import TextEmbedding
from metainf.testing.embedding_suite import EmbeddingSuite


def _vector(text):
    return [float(len(text)), float(sum(text.encode()) % 97), 0.5]


def _answer(texts):
    items = [{"object": "embedding", "index": i, "embedding": _vector(t)} for i, t in enumerate(texts)]
    return 200, {"object": "list", "model": "m", "data": items[::-1]}, {}  # any order: `index` decides


class Server:
    """Answers from a queue of `(status, body, headers)` first, then as the schema says."""

    def __init__(self):
        self.requests, self.queue, self.dropped = [], [], 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, dict(self.headers), body))
                if outer.dropped:
                    outer.dropped -= 1
                    self.connection.close()
                    return
                status, answer, headers = outer.queue.pop(0) if outer.queue else _answer(body["input"])
                raw = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            def log_message(self, *args):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server():
    running = Server()
    yield running
    running.close()


@pytest.fixture
def slept():
    return []


class TestEndpoint(EmbeddingSuite):
    @pytest.fixture(autouse=True)
    def _server(self, server):
        self.server = server

    def embed(self, things):
        return Endpoint(self.server.url, "m", sleep=lambda _: None, batch_size=2).embed(things)

    def columns(self):
        return ["endpoint.0", "endpoint.1", "endpoint.2"]

    def inputs(self):
        return ["a", "bb", "", "naïve 東京", "bb"]


def test_sends_what_the_schema_asks(server, slept):
    Endpoint(server.url + "/", "all-minilm", sleep=slept.append, key="secret").embed(["a", "b"])
    ((path, headers, body),) = server.requests
    assert path == "/v1/embeddings"
    assert body == {"model": "all-minilm", "input": ["a", "b"], "encoding_format": "float"}
    assert headers["Authorization"] == "Bearer secret" and headers["Content-Type"] == "application/json"
    Endpoint(server.url + "/embeddings", "m", sleep=slept.append).embed(["a"])
    path, headers, _ = server.requests[-1]
    assert path == "/v1/embeddings" and "Authorization" not in headers
    assert slept == []


def test_long_lists_go_in_batches(server, slept):
    texts = [f"text {i}" for i in range(5)]
    rows = Endpoint(server.url, "m", sleep=slept.append, batch_size=2).embed(texts)
    assert [len(body["input"]) for _, _, body in server.requests] == [2, 2, 1]
    np.testing.assert_array_equal(rows, np.array([_vector(text) for text in texts], np.float32))


def test_busy_answers_are_tried_again_with_growing_waits(server, slept):
    server.queue = [(503, b"loading", {}), (500, b"", {}), (429, b"slow", {"Retry-After": "7"})]
    rows = Endpoint(server.url, "m", sleep=slept.append).embed(["a"])
    assert rows.tolist() == [_vector("a")]
    assert slept == [0.5, 1.0, 7.0]


def test_waits_are_bounded_whatever_the_server_asks(server, slept):
    server.queue = [
        (503, b"", {"Retry-After": "86400"}),
        (503, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}),
    ]
    Endpoint(server.url, "m", sleep=slept.append).embed(["a"])
    assert slept == [60.0, 1.0]


def test_gives_up_after_the_attempts(server, slept):
    server.queue = [(503, b"still loading", {})] * 9
    with pytest.raises(MetaInfError, match=r"in 2 attempts: HTTP 503 still loading"):
        Endpoint(server.url, "m", sleep=slept.append, attempts=2).embed(["a"])
    assert len(server.requests) == 2 and slept == [0.5]


def test_a_dropped_connection_is_tried_again(server, slept):
    server.dropped = 1
    assert Endpoint(server.url, "m", sleep=slept.append).embed(["a"]).shape == (1, 3)
    assert slept == [0.5]


def test_nobody_listening_is_said(slept):
    closed = Server()
    closed.close()
    with pytest.raises(MetaInfError, match="check that it runs and is reachable") as caught:
        Endpoint(closed.url, "m", sleep=slept.append, attempts=2).embed(["a"])
    assert not isinstance(caught.value, BadInput)


def test_a_silent_server_times_out(slept):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(MetaInfError, match="timed out"):
            Endpoint(url, "m", sleep=slept.append, timeout_s=0.1, attempts=1).embed(["a"])


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (400, "check the request"),
        (401, "check the key"),
        (404, "model name 'm'"),
        (307, "give the final URL"),
    ],
)
def test_refusals_are_not_tried_again(server, slept, status, hint):
    server.queue = [(status, b"no", {"Location": "http://127.0.0.1:1/elsewhere"})]
    with pytest.raises(BadInput, match=f"HTTP {status} no: .*{hint}"):
        Endpoint(server.url, "m", sleep=slept.append).embed(["a"])
    assert len(server.requests) == 1 and slept == []


def test_a_redirect_does_not_carry_the_key_elsewhere(server, slept):
    other = Server()
    server.queue = [(302, b"", {"Location": other.url})]
    try:
        with pytest.raises(BadInput, match="redirects"):
            Endpoint(server.url, "m", sleep=slept.append, key="secret").embed(["a"])
        assert other.requests == []
    finally:
        other.close()


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"\xff\xfe",
        b"[]",
        b'{"data": 3}',
        {"data": [{"index": 0}]},
        {"data": [{"index": 0, "embedding": "AAAA"}]},
        {"data": [{"index": 0, "embedding": [None]}]},
        {"data": []},
        {"data": [{"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": []}]},
        b'{"data": [{"index": 0, "embedding": [NaN]}]}',
    ],
)
def test_another_schema_is_refused(server, slept, body):
    server.queue = [(200, body, {})]
    with pytest.raises(BadInput, match=r"expected .* from http://127.0.0.1"):
        Endpoint(server.url, "m", sleep=slept.append).embed(["a"])
    assert slept == []


def test_widths_that_differ_are_refused(server, slept):
    rows = [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 2.0]}]
    server.queue = [(200, {"data": rows}, {})]
    with pytest.raises(BadInput, match="one width"):
        Endpoint(server.url, "m", sleep=slept.append).embed(["a", "b"])


@pytest.mark.parametrize("url", ["file:///etc/hosts", "localhost:8000", "ftp://host/v1", ""])
def test_only_http_urls(url, slept):
    with pytest.raises(BadInput, match="http"):
        Endpoint(url, "m", sleep=slept.append)


def test_the_key_is_not_shown(server, slept):
    assert "secret" not in repr(Endpoint(server.url, "m", sleep=slept.append, key="secret"))


def test_serves_as_the_encoder_of_a_text_embedding(server, slept, tmp_path):
    encoder = Endpoint(server.url, "org/m", sleep=slept.append)
    assert encoder.model_id == "127.0.0.1-org/m" and encoder.width == 3
    rows = TextEmbedding(encoder, tmp_path).embed(["a", "b", "a"])
    asked = len(server.requests)
    np.testing.assert_array_equal(TextEmbedding(encoder, tmp_path).embed(["a", "b", "a"]), rows)
    assert len(server.requests) == asked == 2
