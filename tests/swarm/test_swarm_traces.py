"""A request through `swarm serve` and its nodes is one trace."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for name in (
    "torch",
    "transformers",
    "grpc",
    "google.protobuf",
    "cryptography",
    "aiohttp",
    "opentelemetry.sdk",
):
    pytest.importorskip(name, reason="needs the extras swarm and traces")

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402
from aiohttp.test_utils import TestClient, TestServer  # noqa: E402
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from small_swarm import small_model, swarm_of  # noqa: E402

from metainf.domain import MissingExtra  # noqa: E402
from metainf.hosts import tracing  # noqa: E402
from metainf.swarm.host.engine import WholeLoad  # noqa: E402
from metainf.swarm.host.nats import program, started  # noqa: E402
from metainf.swarm.host.serving import Serving, application  # noqa: E402
from metainf.swarm.net.completing import EngineDoor, Replica, Request, completed  # noqa: E402
from metainf.swarm.net.replica import ReplicaNode, WholeOffer  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.tls import channel, serving  # noqa: E402

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TOLD = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture
def recorded() -> Iterator[InMemorySpanExporter]:
    kept = InMemorySpanExporter()
    made = TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(kept))
    tracing.use(made)
    yield kept
    tracing.flush()


def asked(folder: Path, header: str | None, **fields: Any) -> int:
    """One question to the door of a swarm of two nodes; the status."""

    async def story() -> int:
        async with swarm_of(folder, {"a": (0, 2), "b": (2, 4)}) as (here, swarm):
            app, writer = application(swarm, Serving())
            runner = web.AppRunner(app, handler_cancellation=True)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
            headers = {} if header is None else {"traceparent": header}
            try:
                async with aiohttp.ClientSession() as session:
                    url, body = f"http://127.0.0.1:{port}/v1/completions", {"model": "small", **fields}
                    async with session.post(url, json=body, headers=headers) as answer:
                        await answer.read()
                        status = answer.status
                while here.streams():  # the nodes notice that the session is over
                    await asyncio.sleep(0.01)
                return status
            finally:
                writer.close()
                await runner.cleanup()

    return asyncio.run(story())


def test_a_request_through_nodes_is_one_trace(folder: Path, recorded: InMemorySpanExporter) -> None:
    assert asked(folder, TOLD, prompt="abc", max_tokens=5, ignore_eos=True) == 200
    spans = {
        f"{each.name} {each.attributes.get('first_block', '')}": each
        for each in recorded.get_finished_spans()
    }
    assert set(spans) == {"swarm.request ", "swarm.text ", "swarm.stage 0", "swarm.stage 2"}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    request, text = spans["swarm.request "], spans["swarm.text "]
    assert f"{request.parent.span_id:016x}" == PARENT
    assert text.parent.span_id == request.context.span_id
    assert {spans[f"swarm.stage {at}"].parent.span_id for at in (0, 2)} == {text.context.span_id}
    assert text.attributes["output_tokens"] == 5 and request.attributes["status"] == 200
    assert {spans[f"swarm.stage {at}"].attributes["tokens"] for at in (0, 2)} == {3 + 4}
    assert any(event.name.startswith("route ") for event in text.events)


def test_a_refusal_and_a_new_trace(folder: Path, recorded: InMemorySpanExporter) -> None:
    assert asked(folder, "nonsense", prompt="abc", n=2) == 400
    (span,) = [each for each in recorded.get_finished_spans() if each.name == "swarm.request"]
    assert span.parent is None and span.attributes["status"] == 400


def named(recorded: InMemorySpanExporter) -> dict[str, Any]:
    """Spans by name and first block, all of the caller's trace."""
    spans = {
        f"{each.name} {each.attributes.get('first_block', '')}".strip(): each
        for each in recorded.get_finished_spans()
    }
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    return spans


def under(spans: dict[str, Any], *names: str) -> bool:
    """Whether each is the child of the one before, the first that of the caller's span."""
    parents = [int(PARENT, 16), *(spans[name].context.span_id for name in names)]
    return [spans[name].parent.span_id for name in names] == parents[:-1]


def test_a_request_through_the_queue_is_one_trace(
    folder: Path, tmp_path: Path, recorded: InMemorySpanExporter
) -> None:
    """Agent, worker and nodes; who is asked for it without a trace begins one."""
    pytest.importorskip("nats", reason="needs the extra swarm")
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))
    from metainf.api import queueing
    from metainf.swarm.broker.agent import Agent
    from metainf.swarm.host.queued import Desk

    async def story(url: str) -> None:
        async with swarm_of(folder, {"a": (0, 2), "b": (2, 4)}) as (here, swarm):
            working = await queueing.worker(url, swarm, queueing.Offered())
            async with working, Agent(url, "agent") as agent:
                front = Desk(agent)
                while not await front.groups():
                    front._read_s = 0.0
                    await asyncio.sleep(0.02)
                body = {"model": "small", "prompt": "abc", "max_tokens": 5, "ignore_eos": True}
                async with TestClient(TestServer(front.application([]))) as client:
                    headers = {"traceparent": TOLD}
                    async with client.post("/v1/completions", json=body, headers=headers) as answer:
                        assert answer.status == 200
                    while here.streams():
                        await asyncio.sleep(0.01)
                    spans = named(recorded)
                    path = ("swarm.request", "swarm.job", "swarm.text")
                    assert set(spans) == {*path, "swarm.stage 0", "swarm.stage 2"}
                    assert under(spans, *path, "swarm.stage 0") and under(spans, *path, "swarm.stage 2")
                    assert spans["swarm.job"].attributes["attempt"] == 1
                    recorded.clear()
                    async with client.post("/v1/completions", json=body) as answer:
                        assert answer.status == 200
        found = recorded.get_finished_spans()
        assert len({span.context.trace_id for span in found}) == 1 and len(found) >= 3

    server = started(tmp_path / "nats")
    try:
        asyncio.run(asyncio.wait_for(story(server.url), 60))
    finally:
        server.stop()


def test_a_text_of_a_replica_is_in_the_trace_and_its_engine_is_told(
    tmp_path: Path, recorded: InMemorySpanExporter
) -> None:
    """Over the wire: the client's trace is the parent of the replica's span, whose trace the engine gets."""
    heard: list[str] = []

    async def story() -> None:
        async def engine(request: web.Request) -> web.Response:
            heard.append(request.headers["traceparent"])
            pieces = ({"choices": [{"text": "a"}]}, {"choices": [{"text": "", "finish_reason": "stop"}]})
            lines = [f"data: {json.dumps(each)}\n\n" for each in pieces]
            return web.Response(text="".join([*lines, "data: [DONE]\n\n"]))

        app = web.Application()
        app.router.add_post("/v1/completions", engine)
        identity, me = Identity(b"r" * 32), Identity(b"c" * 32)
        card, mine = certify(identity, time.time()), certify(me, time.time())
        node = ReplicaNode(
            WholeOffer(identity.node, "b2:" + "0" * 32, 2, 512), WholeLoad(1.0, 0.0, num_blocks=4)
        )
        async with TestServer(app) as server:
            node.door = EngineDoor(str(server.make_url("")), "model")
            port = await node.listen("127.0.0.1:0", serving(card, lambda: mine.pem))
            way = channel(f"127.0.0.1:{port}", identity.node, card.der, mine)
            replica = Replica(identity.node, node.offer.model, way)
            made = [each async for each in completed(replica, Request(prompt=(1, 2), max_tokens=3), TOLD)]
            assert made[-1].finished == "stop"
            while node.streams:
                await asyncio.sleep(0.01)
            await way.close()
            await node.stop(0)

    asyncio.run(asyncio.wait_for(story(), 60))
    spans = named(recorded)
    assert set(spans) == {"swarm.replica"} and under(spans, "swarm.replica")
    span = spans["swarm.replica"]
    assert heard == [f"00-{TRACE}-{span.context.span_id:016x}-01"]
    assert (span.attributes["input_tokens"], span.attributes["output_tokens"]) == (2, 1)
    assert span.status.status_code.name == "UNSET"


def test_without_a_recorder_the_trace_is_handed_on() -> None:
    mark = tracing.begun("anything", TOLD)
    mark.tell("event")
    mark.end("why")
    assert mark.trace == TOLD


@given(st.one_of(st.text(), st.binary(), st.none()))
def test_nothing_but_a_trace_is_handed_on(told: str | bytes | None) -> None:
    found = tracing.believed(told)
    assert found == "" or tracing.FORM.fullmatch(found)
    assert tracing.believed(TOLD.encode()) == TOLD
