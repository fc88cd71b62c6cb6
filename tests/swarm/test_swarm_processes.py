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
from metainf.swarm.host.nats import Server, program, started  # noqa: E402
from metainf.swarm.host.running import Book, Said, Told, guest, serve  # noqa: E402
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

LAYERS, PROMPT, WITHIN_S = 6, [5, 17, 3, 88, 41], 300.0
pytestmark = pytest.mark.engine


@pytest.fixture(autouse=True)
def _speeds_kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = started(tmp_path_factory.mktemp("nats"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(
        tmp_path_factory.mktemp("qwen3"), seed=4, family="qwen3", head_dim=16, num_hidden_layers=LAYERS
    )


def test_a_directory_that_is_not_there_is_named() -> None:
    with pytest.raises(DirectoryLost, match=r"127\.0\.0\.1:9"):
        asyncio.run(NatsDirectory.join("nats://127.0.0.1:9"))


def test_processes_are_killed_and_drain(server: Server, folder: Path) -> None:
    """Three processes and a text: one gets SIGKILL, the text stays; the others get SIGTERM, their records go
    at once."""

    async def story() -> None:
        spans = [Span(start=0, end=3), Span(start=3, end=6), Span(start=0, end=6)]
        told = [Told(checkpoint=str(folder), join=server.url, span=span) for span in spans]
        nodes = [await start_node(str(i), each) for i, each in enumerate(told)]
        for each in nodes:
            await ready(each, WITHIN_S)
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
            assert await asyncio.wait_for(each.process.wait(), 60) == 0
            assert f"{NODES}{each.node}" not in await directory.records()

    asyncio.run(story())


def test_a_process_takes_the_blocks_that_nobody_holds(server: Server, folder: Path) -> None:
    async def story() -> None:
        url, stop, said = f"{server.url}?bucket=gap", asyncio.Event(), asyncio.Queue[Said]()
        here = Told(checkpoint=str(folder), join=url, span=Span(start=0, end=2), grace_s=0.0)
        beside = asyncio.create_task(serve(here, said.put_nowait, stop))
        while (await said.get()).event != "ready":
            pass
        node = await start_node("late", Told(checkpoint=str(folder), join=url, memory_blocks=4))
        try:
            await ready(node, WITHIN_S)
            assert node.words[2:4] == ["[2,", "6)"]
        finally:
            stop.set()
            await asyncio.gather(beside, all_stopped([node]))

    asyncio.run(asyncio.wait_for(story(), WITHIN_S + 60))


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
