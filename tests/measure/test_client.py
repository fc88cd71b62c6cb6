"""The measuring client tells what came, when, and what went wrong; it raises for nothing but a cancel."""

import asyncio
import json
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the extra `measure` is not installed")

from metainf.measure.answer import Answer, read_answer, refusal
from metainf.measure.client import HUNG_UP, Client
from metainf.measure.words import Endpoint, Request, Timing
from metainf.testing.model_server import Behaviour, ModelServer

TOKENS = 6
TIMEOUT_S = 0.4


def asked(
    behaviour: Behaviour, count: int = 1, tokens: int = TOKENS
) -> tuple[list[Timing], ModelServer, Client]:
    """The timings of a few requests, one after another, to a fake that behaves so."""

    async def ask() -> tuple[list[Timing], ModelServer, Client]:
        async with (
            ModelServer(behaviour) as server,
            Client(Endpoint(server.base_url, "fake", api_key="secret"), timeout_s=TIMEOUT_S) as client,
        ):
            since = client.now()
            found = [await client.ask(Request(f"tell me {i}", tokens), since) for i in range(count)]
            return found, server, client

    return asyncio.run(ask())


def events(*values: object, done: bool = True) -> bytes:
    told = b"".join(b"data: " + json.dumps(value).encode() + b"\n\n" for value in values)
    return told + (b"data: [DONE]\n\n" if done else b"")


def piece(text: str, finish: str | None = None) -> dict[str, object]:
    return {"choices": [{"text": text, "finish_reason": finish}]}


def usage(output: int, cached: int | None = None) -> dict[str, object]:
    details = {} if cached is None else {"prompt_tokens_details": {"cached_tokens": cached}}
    return {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": output, **details}}


def test_a_good_answer() -> None:
    (timing,), server, _ = asked(Behaviour(ttft_s=0.02, itl_s=0.005))
    assert timing.error is None
    assert (timing.input_tokens, timing.output_tokens) == (3, TOKENS)
    assert len(timing.chunk_s) == TOKENS and len(timing.text.split()) == TOKENS
    assert list(timing.chunk_s) == sorted(timing.chunk_s)
    assert timing.chunk_s[0] - timing.sent_s >= 0.02
    assert timing.ended_s == timing.chunk_s[-1] and timing.ended_s - timing.sent_s >= 0.02 + 5 * 0.0045
    (body,) = server.seen
    assert body == {
        "model": "fake",
        "prompt": "tell me 0",
        "max_tokens": TOKENS,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("fail", "said", "pieces"),
    [
        ("unavailable", "HTTP 503: no worker is free", 0),
        ("bad_request", "HTTP 400: the prompt is too long", 0),
        ("garbage", "expected server-sent events with JSON, found 'data: {not json", 0),
        ("html", "expected server-sent events with JSON, found '<html>", 0),
        ("error_inside", "the server wrote: the worker died", 3),
        ("unfinished", "the stream ended after 3 pieces", 3),
        ("cut", "the connection broke within the stream (after 3 pieces", 3),
        ("stall", f"no whole answer within {TIMEOUT_S} s (after 3 pieces", 3),
        ("hang", f"no whole answer within {TIMEOUT_S} s", 0),
    ],
)
def test_what_goes_wrong_is_told(fail: str, said: str, pieces: int) -> None:
    (good, bad), _, _ = asked(Behaviour(fail=fail, fail_after=1), count=2)
    assert good.error is None
    assert bad.error is not None and bad.error.startswith(said)
    assert len(bad.chunk_s) == pieces and bad.ended_s >= bad.sent_s


def test_nobody_listens() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{held.getsockname()[1]}"

    async def ask(base_url: str) -> Timing:
        async with Client(Endpoint(base_url, "fake"), timeout_s=2) as client:
            return await client.ask(Request("hello", 3))

    refused = asyncio.run(ask(url)).error
    assert refused is not None and refused.startswith(f"could not connect to {url}")
    assert asyncio.run(ask("no address at all")).error is not None


def test_refused_extras_are_left_out_and_remembered() -> None:
    found, server, client = asked(Behaviour(fail="no_extras"), count=3)
    assert [timing.error for timing in found] == [None] * 3
    assert client.dropped == {"ignore_eos", "stream_options"}
    assert len(server.seen) == 4, "the first request twice, the others once"
    assert all(timing.output_tokens is None and len(timing.chunk_s) == TOKENS for timing in found)


def test_a_refusal_for_another_reason_drops_nothing() -> None:
    found, server, client = asked(Behaviour(fail="bad_request"), count=2)
    assert all(timing.error for timing in found)
    assert client.dropped == frozenset() and len(server.seen) == 4


def test_the_wait_for_a_hang_up_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A used connection breaks after three seconds of waiting; the answer to the second sending is quick."""
    tries = [(Timing(0.0, 3.0, error="the connection broke"), HUNG_UP), (Timing(3.0, 3.5, (3.2, 3.5)), 200)]

    async def once(*_: object) -> tuple[Timing, int]:
        return tries.pop(0)

    client = Client(Endpoint("http://127.0.0.1:9", "x"))
    monkeypatch.setattr(client, "_once", once)
    timing = asyncio.run(client.ask(Request("a", 2)))
    assert timing.error is None and (timing.sent_s, timing.chunk_s) == (0.0, (3.2, 3.5))
    assert not client.reuses


def test_a_server_that_hangs_up_after_each_answer_is_asked_anew() -> None:
    found, _, _ = asked(Behaviour(fail="hangs_up"), count=5)
    assert [timing.error for timing in found] == [None] * 5
    assert all(len(timing.chunk_s) == TOKENS for timing in found)
    assert asked(Behaviour(), count=5)[2].reuses


def test_a_server_without_counts() -> None:
    (timing,), _, _ = asked(Behaviour(fail="no_usage"))
    assert timing.error is None and timing.output_tokens is None and timing.input_tokens is None


def test_cancelling_leaves_at_once() -> None:
    async def ask() -> float:
        async with ModelServer(Behaviour(fail="hang")) as server:
            async with Client(Endpoint(server.base_url, "fake"), timeout_s=60) as client:
                task = asyncio.create_task(client.ask(Request("hello", 3)))
                while not server.seen:
                    await asyncio.sleep(0.01)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            return time.monotonic()

    asyncio.run(ask())


def test_endless_answers_are_stopped() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        try:
            while True:
                writer.write(events(piece(" on" * 20000), done=False))
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def ask() -> Timing:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            async with Client(Endpoint(f"http://127.0.0.1:{port}", "fake"), timeout_s=60) as client:
                return await client.ask(Request("hello", 3))

    error = asyncio.run(ask()).error
    assert error is not None and "bytes for 3 tokens" in error


@given(st.lists(st.text(max_size=5), min_size=1, max_size=12), st.data())
def test_cutting_the_bytes_elsewhere_changes_no_text(texts: list[str], data: st.DataObject) -> None:
    body = events(*[piece(text) for text in texts], piece("end", "length"), usage(len(texts) + 1, cached=4))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=20)))
    reads = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    found = read_answer([float(i) for i in range(len(reads))], reads)
    assert found.error is None and found.text == "".join(texts) + "end"
    assert (found.input_tokens, found.output_tokens, found.cached_tokens) == (9, len(texts) + 1, 4)
    assert len(found.times_s) == len(texts) + 1 and found.times_s == sorted(found.times_s)
    ends = [at + 1 for at in range(len(body)) if body[at : at + 2] == b"\n\n"]
    whole = [next(i for i in range(len(reads)) if sum(map(len, reads[: i + 1])) >= end) for end in ends]
    assert found.times_s == [float(i) for i in whole[: len(texts) + 1]]


@given(st.lists(st.binary(max_size=40), max_size=5))
def test_no_bytes_raise(reads: list[bytes]) -> None:
    found = read_answer([0.0] * len(reads), reads)
    assert isinstance(found, Answer) and found.error


@pytest.mark.parametrize(
    ("last", "pieces"),
    [(piece("", "stop"), 2), (piece(" c", "length"), 3)],
    ids=["finish reason alone", "finish reason with text"],
)
def test_a_finish_reason_alone_is_no_piece(last: dict[str, object], pieces: int) -> None:
    found = read_answer([1.0], [events(piece(" a"), piece(" b"), last, usage(pieces))])
    assert found.error is None and len(found.times_s) == pieces


def test_a_last_token_without_text_is_a_piece() -> None:
    found = read_answer([1.0], [events(piece(" a"), piece(" b"), piece("", "stop"), usage(3))])
    assert len(found.times_s) == 3


def test_carriage_returns_comments_and_a_broken_last_event() -> None:
    body = events(piece(" a"), piece(" b", "length")).replace(b"\n", b"\r\n")
    assert read_answer([1.0], [b": hello\r\n\r\n" + body]).text == " a b"
    cut = read_answer([1.0], [events(piece(" a"), piece(" b"), done=False)[:-8]])
    assert cut.text == " a" and cut.error is not None and "ended after 1 pieces" in cut.error
    assert read_answer([1.0], [events(piece(" a"))]).error is None, "[DONE] is an end too"
    assert read_answer([1.0], [events(usage(0))]).error == "the answer holds no text"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"error": {"message": "too long"}}', "HTTP 400: too long"),
        (b'{"error": "too long"}', "HTTP 400: too long"),
        (b'{"detail": [{"loc": 1}]}', 'HTTP 400: [{"loc": 1}]'),
        (b'{"object": "error", "message": "no"}', "HTTP 400: no"),
        (b"<p>no</p>", "HTTP 400: '<p>no</p>'"),
        (b"", "HTTP 400: nothing"),
        (b"{}", "HTTP 400: {}"),
    ],
)
def test_refusals_quote_the_server(body: bytes, said: str) -> None:
    assert refusal(400, body) == said
