"""A caller leaves with the last event, while the endpoint has not closed its stream yet."""

import asyncio
import time

import pytest
from aiohttp import web

from metainf.gateway.answering import Answering
from metainf.gateway.asking import Attempt, Letter, attempt, session

TOKEN = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"text": "b", "finish_reason": "stop"}]}\n\n'
DONE = b"data: [DONE]\n\n"


async def left_after(*events: bytes) -> Attempt:
    """What comes of an attempt whose caller leaves once the events are there; the endpoint waits on."""
    sent: list[bytes] = []

    async def send(message: object) -> None:
        assert isinstance(message, dict)
        sent.append(message.get("body", b""))

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(event)
        await asyncio.sleep(60)
        return response

    app = web.Application()
    app.router.add_post("/v1/completions", stream)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    letter = Letter(
        f"http://127.0.0.1:{port}/v1/completions", {}, b"{}", stream=True, strip_usage=False, stall_s=30,
        until_s=time.perf_counter() + 50,
    )  # fmt: skip
    try:
        async with session() as connections:
            job = asyncio.create_task(attempt(connections, letter, Answering(send), []))
            while b"".join(sent) != b"".join(events):
                await asyncio.sleep(0.01)
            job.cancel()
            return await job
    finally:
        await runner.cleanup()


def test_who_leaves_with_the_last_event_was_answered() -> None:
    found = asyncio.run(left_after(TOKEN, TOKEN, LAST, DONE))
    assert found.result == "ok" and found.output_tokens == 3 and found.ttft_s


def test_who_leaves_before_it_was_not() -> None:
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(left_after(TOKEN, TOKEN))
