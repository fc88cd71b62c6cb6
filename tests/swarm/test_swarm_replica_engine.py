"""A replica with the real llama.cpp beside a node of blocks: its engine is killed in the middle of a text."""

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")

from small_swarm import InMemory, Place  # noqa: E402

from engines_here import needs_llama  # noqa: E402
from metainf.api.replicas import Asked, _methods, prepared  # noqa: E402
from metainf.domain import Batching, MetaInfError, NotSupported, UnknownName  # noqa: E402
from metainf.swarm.compute.weights import packaged  # noqa: E402
from metainf.swarm.host import whole  # noqa: E402
from metainf.swarm.host.book import signed_word  # noqa: E402
from metainf.swarm.host.caller import Caller  # noqa: E402
from metainf.swarm.host.engine import Child  # noqa: E402
from metainf.swarm.host.generating import Course, Joined, Written, written  # noqa: E402
from metainf.swarm.host.told import Said, Told  # noqa: E402
from metainf.swarm.net.directory import NODES  # noqa: E402
from metainf.swarm.words import Announcement  # noqa: E402

QUESTION, TOKENS, WITHIN_S = "Name three rivers of Europe.", 40, 120.0


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not true():
            await asyncio.sleep(0.05)


def announced(directory: InMemory, node: str) -> Announcement | None:
    return signed_word(directory.kept.get(f"{NODES}{node}", b""))


@needs_llama
def test_a_real_engine_dies_in_the_middle_of_a_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """The text goes on through blocks; the engine is started again, and the node leaves when told to."""
    children: list[Child] = []

    class Watched(Child):
        def __init__(self, start: Any) -> None:
            super().__init__(start)
            children.append(self)

    def kill() -> None:
        served = children[0].served
        assert served is not None and served.pid is not None
        os.killpg(served.pid, signal.SIGKILL)

    async def story() -> None:
        folder = packaged()
        here = Place(folder)

        async def directory(*_: object) -> InMemory:
            return here.directory

        monkeypatch.setattr(whole, "joined", directory)
        monkeypatch.setattr(whole, "Child", Watched)
        said: list[Said] = []
        stop = asyncio.Event()
        start = await asyncio.to_thread(prepared, Asked(engine="llamacpp", places=2, context_tokens=512))
        assert start.engine.name == start.profile.engine == "llama.cpp" and start.how
        told = Told(checkpoint=str(folder), join="memory", grace_s=1.0)
        life = asyncio.create_task(whole.serve(told, start, said.append, stop))
        await here.start("blocks", (0, here.checkpoint.num_blocks), decode_ms=500.0)
        try:
            await until(lambda: life.done() or any(each.event == "ready" for each in said))
            assert not life.done(), life.result()
            me = said[-1].node
            word = announced(here.directory, me)
            assert word is not None and word.state == "online" and word.profile.engine == "llama.cpp"
            assert word.span.end == here.checkpoint.num_blocks and "endpoint=openai" in word.features.labels
            assert 0 < word.features.decode_ms_per_block < 500
            async with Joined(Caller(here.directory), folder) as swarm:
                await swarm.caller.let_in(swarm.model)
                open_ones = [len(await swarm.caller.look())]
                while open_ones[-1] < 2:
                    await asyncio.sleep(0.1)
                    open_ones.append(len(await swarm.caller.look()))
                alone, _ = await text(swarm, None)
                assert alone.recoveries == 0 and "whole, by llama.cpp" in alone.routes[0]
                broken, _ = await text(swarm, kill)
                assert broken.output_tokens == TOKENS and broken.recoveries == 1
                assert "whole" in broken.routes[0] and "whole" not in broken.routes[-1]
                assert broken.text[:10] == alone.text[:10]  # what the engine wrote before it died stays
            await until(lambda: len([each for each in said if each.event == "ready"]) == 2)
            again = announced(here.directory, me)
            assert again is not None and again.state == "online"
        finally:
            stop.set()
            await asyncio.gather(life, return_exceptions=True)
            await here.kill("blocks")
        assert said[-1].event == "left" and announced(here.directory, me) is None
        assert children[0].ended

    asyncio.run(story())


async def text(swarm: Any, kill: Callable[[], None] | None) -> tuple[Written, Course]:
    """A greedy text, in the middle of which something may happen."""
    course, pieces = Course(), []
    ask = swarm.asked(QUESTION, max_tokens=TOKENS, ignore_eos=True)
    async for piece in swarm.stream(ask, course):
        pieces.append(piece)
        if kill is not None and len("".join(each.text for each in pieces)) > 20:
            kill()
            kill = None
    return written(pieces, course, swarm.name), course


@needs_llama
def test_engine_and_method_are_those_of_the_selection_where_something_is_predicted() -> None:
    from dataclasses import replace

    from metainf import catalog, engines
    from metainf.api.measuring import Measuring, subject_of

    subject = subject_of(Measuring(engine="llama.cpp", offline=True), None)
    known = replace(subject, hardware=catalog.parse_hardware("raspberry-pi-5")[0])
    engine: Any = engines.engine("llama.cpp")
    asked = Asked(places=3, offline=True)
    methods, how = _methods(asked, {"llama.cpp": (engine, known)}, lambda _: None)
    assert "by MetaInf's selection" in how and len(methods) > 2
    batching = [method.get(Batching) for method in methods]
    assert all(each is not None and each.max_sequences == 3 for each in batching)
    unknown = replace(
        subject, hardware=known.hardware.model_copy(
            update={"device": known.hardware.device.model_copy(update={"memory_bandwidth_gb_per_s": None})}
        ),
    )  # fmt: skip
    plain, told = _methods(asked, {"llama.cpp": (engine, unknown)}, lambda _: None)
    assert len(plain) == 1 and told.startswith("nothing is predicted")


def test_an_engine_that_is_not_here_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MetaInfError, match="pip install"):
        prepared(Asked(engine="sglang"))
    with pytest.raises(UnknownName):
        prepared(Asked(engine="ollamacpp"))
    with pytest.raises(NotSupported, match="language model"):
        prepared(Asked(engine="diffusers"))
