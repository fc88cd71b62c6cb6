"""Nodes as processes, found through a real NATS server: killed, told to stop, and what stays of them."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

for name in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from metainf.domain import BadInput, MissingExtra  # noqa: E402
from metainf.swarm.compute.blocks import Ends  # noqa: E402
from metainf.swarm.compute.shards import Checkpoint  # noqa: E402
from metainf.swarm.host.demo import Script, halves, one_process  # noqa: E402
from metainf.swarm.host.embedded import DidNotStart, Running, all_stopped, ready, start_node  # noqa: E402
from metainf.swarm.host.nats import Server, program  # noqa: E402
from metainf.swarm.host.nats import started as server_started  # noqa: E402
from metainf.swarm.host.running import Book, Told, guest  # noqa: E402
from metainf.swarm.net.client import Session  # noqa: E402
from metainf.swarm.net.directory import NODES, DirectoryLost, NatsDirectory  # noqa: E402
from metainf.swarm.net.stream import Terms  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.words import Span  # noqa: E402
from metainf.testing.random_models import random_model  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)

LAYERS, PROMPT = 6, [5, 17, 3, 88, 41]


pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _speeds_kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = server_started(tmp_path_factory.mktemp("nats"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(
        tmp_path_factory.mktemp("qwen3"), seed=4, family="qwen3", head_dim=16, num_hidden_layers=LAYERS
    )


def test_what_is_not_put_again_vanishes(tmp_path: Path) -> None:
    async def story(url: str) -> None:
        directory = await NatsDirectory.join(url, lifetime_s=2.0)
        assert await directory.records() == {}
        await directory.put("node.one", b"1")
        await directory.put("node.two", b"2")
        await directory.put("node.one", b"3")
        assert await directory.records() == {"node.one": b"3", "node.two": b"2"}
        await directory.remove("node.two")
        assert await directory.records() == {"node.one": b"3"}
        await asyncio.sleep(3.0)
        assert await directory.records() == {}
        await directory.close()

    alone = server_started(tmp_path)
    try:
        asyncio.run(story(alone.url))
    finally:
        alone.stop()


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(DirectoryLost, match=r"127\.0\.0\.1:9"):
        asyncio.run(NatsDirectory.join("nats://127.0.0.1:9"))


async def started(folder: Path, url: str, spans: list[Span | None], room: int | None = None) -> list[Running]:
    nodes = [
        await start_node(str(i), Told(checkpoint=str(folder), join=url, span=span, memory_blocks=room))
        for i, span in enumerate(spans)
    ]
    for each in nodes:
        await ready(each)
    return nodes


def test_processes_are_killed_and_drain(server: Server, folder: Path) -> None:
    """Three processes and a text: one gets SIGKILL, the text stays; the others get SIGTERM, their records go
    at once; one that starts without being told takes the blocks that nobody holds."""

    async def story() -> None:
        halves_ = [Span(start=0, end=3), Span(start=3, end=6), Span(start=0, end=6)]
        nodes = await started(folder, server.url, list(halves_))
        checkpoint = Checkpoint(folder)
        ends = Ends(checkpoint)
        directory = await NatsDirectory.join(server.url)
        me, stop = Identity(os.urandom(32)), asyncio.Event()
        book, mine = Book(directory), certify(me, time.time())
        present = asyncio.create_task(guest(book, mine, me, stop))
        try:
            await asyncio.sleep(2.0)
            terms = Terms("t", checkpoint.digest(), step_s=5.0)
            async with Session(ends, book.look, mine, terms) as session:
                made = []
                async for token in session.generate(PROMPT, 30):
                    made.append(token)
                    if len(made) == 10:
                        victim = next(n for n in nodes if n.node == session.route[0].node)
                        victim.process.send_signal(signal.SIGKILL)
                        await victim.process.wait()
                assert len(session.recoveries) == 1
            assert made == one_process(checkpoint, ends, PROMPT, 30)
            await a_leaver_is_gone(directory, nodes)
            await a_gap_is_filled(directory, nodes)
        finally:
            stop.set()
            await present
            await directory.close()
            await all_stopped(nodes)

    async def a_leaver_is_gone(directory: Any, nodes: list[Running]) -> None:
        alive = [each for each in nodes if each.process.returncode is None]
        for each in alive:
            each.process.send_signal(signal.SIGTERM)
        for each in alive:
            assert await asyncio.wait_for(each.process.wait(), 15) == 0
            assert f"{NODES}{each.node}" not in await directory.records()

    async def a_gap_is_filled(directory: Any, nodes: list[Running]) -> None:
        for _ in range(100):  # until the killed one has expired too
            if not any(key.startswith(NODES) for key in await directory.records()):
                break
            await asyncio.sleep(0.2)
        nodes += await started(folder, server.url, [Span(start=0, end=2)])
        nodes += await started(folder, server.url, [None], room=4)
        assert nodes[-1].words[2:4] == ["[2,", "6)"]

    asyncio.run(story())


def test_a_node_that_cannot_start_says_why(server: Server, tmp_path: Path) -> None:
    async def story() -> None:
        running = await start_node("x", Told(checkpoint=str(tmp_path), join=server.url))
        with pytest.raises(DidNotStart, match=r"config\.json"):
            await ready(running)
        assert await running.process.wait() == 1

    asyncio.run(story())


@pytest.mark.parametrize("blocks", [3, 4, 30, 31])
def test_any_node_of_the_demo_can_be_missing(blocks: int) -> None:
    spans = halves(blocks)
    for missing in range(4):
        left = [span for at, span in enumerate(spans) if at != missing]
        assert {b for span in left for b in range(span.start, span.end)} == set(range(blocks))


def test_a_demo_that_makes_no_sense() -> None:
    with pytest.raises(BadInput, match="after 1 to 4 of 5 tokens"):
        Script(tokens=5, kill_after=5)
    with pytest.raises(BadInput, match="at least 3 blocks"):
        halves(2)
