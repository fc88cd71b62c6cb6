"""A request through `swarm serve` and its nodes is one trace."""

import asyncio
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
from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402
from small_swarm import small_model, swarm_of  # noqa: E402

from metainf.hosts import tracing  # noqa: E402
from metainf.swarm.host.serving import Serving, application  # noqa: E402

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
