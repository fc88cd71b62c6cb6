"""What a node tells Prometheus, read over HTTP as Prometheus reads it."""

import asyncio
import os
import time
import urllib.request
from pathlib import Path

import pytest

for name in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "nats", "prometheus_client"):
    pytest.importorskip(name, reason="needs the extra swarm")

from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from small_swarm import small_model  # noqa: E402

from metainf.domain import BadInput, MissingExtra  # noqa: E402
from metainf.swarm.host.caller import Caller  # noqa: E402
from metainf.swarm.host.generating import Joined  # noqa: E402
from metainf.swarm.host.nats import program, started  # noqa: E402
from metainf.swarm.host.running import Said, Told, serve  # noqa: E402
from metainf.swarm.net.directory import joined  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from running_process import free_port  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)


def scraped(port: int) -> dict[str, float]:
    """All samples by name and labels, after Prometheus' own parser."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    told: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            kinds = [value for key, value in sample.labels.items() if key in ("state", "reason")]
            told[" ".join([sample.name, *kinds])] = sample.value
    return told


def test_a_node_counts_what_it_does(tmp_path: Path) -> None:
    folder, port = small_model(tmp_path / "small"), free_port()
    server = started(tmp_path / "nats")

    async def story() -> tuple[dict[str, float], dict[str, float]]:
        said: list[Said] = []
        told = {
            "checkpoint": str(folder),
            "join": server.url,
            "grace_s": 1.0,
            "cache": str(tmp_path / "speeds"),
        }
        told |= {"metrics_port": port, "span": {"start": 0, "end": 4}}
        stop = asyncio.Event()
        node = asyncio.create_task(serve(Told.of(told), said.append, stop))
        try:
            while not any(each.event == "ready" for each in said):
                await asyncio.sleep(0.05)
                if node.done():
                    node.result()
            before = await asyncio.to_thread(scraped, port)
            identity = Identity(os.urandom(32))
            async with Joined(Caller(await joined(server.url, identity), identity), folder, "small") as swarm:
                ask = swarm.asked("abc", plain=True, max_tokens=5, ignore_eos=True)
                await swarm.generate(ask)
            after = await asyncio.to_thread(scraped, port)
            with pytest.raises(BadInput, match="to be free for metrics"):
                await serve(Told.of(told), said.append, asyncio.Event())
            return before, after
        finally:
            stop.set()
            await node

    begun = time.time()
    try:
        before, after = asyncio.run(story())
    finally:
        server.stop()
    assert (before["metainf_node_steps_total"], before["metainf_node_sessions_opened_total"]) == (0, 0)
    assert after["metainf_node_tokens_total"] == 3 + 4, "the prompt, and each token that goes in again"
    assert after["metainf_node_steps_total"] == 5
    assert after["metainf_node_sessions_opened_total"] >= 1
    assert (after["metainf_node_span_start_block"], after["metainf_node_span_end_block"]) == (0, 4)
    assert after["metainf_node_state online"] == 1 and after["metainf_node_state draining"] == 0
    assert after["metainf_node_step_pass_seconds_total"] > 0
    assert after["metainf_node_cache_tokens_left"] > 0 and after["metainf_node_cache_limit_bytes"] > 0
    assert begun <= after["metainf_node_announced_timestamp_seconds"] <= time.time()
    assert after["metainf_node_directory_lost"] == after["metainf_node_failures_total"] == 0
    with pytest.raises(OSError):
        scraped(port)
