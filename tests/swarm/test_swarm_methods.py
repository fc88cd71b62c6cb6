"""Replicas that change their method when they are told to by those that their operator lists."""

import asyncio
import os
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")

from small_swarm import InMemory, small_model  # noqa: E402

from engines_here import needs_llama  # noqa: E402
from metainf.api.replicas import Asked, all_prepared  # noqa: E402
from metainf.domain import BadInput  # noqa: E402
from metainf.measure.process import NotReady  # noqa: E402
from metainf.measure.words import Endpoint  # noqa: E402
from metainf.swarm.compute.weights import packaged  # noqa: E402
from metainf.swarm.host import repertoire, whole, wishing  # noqa: E402
from metainf.swarm.host.book import signed_word  # noqa: E402
from metainf.swarm.host.caller import Caller  # noqa: E402
from metainf.swarm.host.engine import Child, Start  # noqa: E402
from metainf.swarm.host.generating import Course, Joined, Swarm, Written, written  # noqa: E402
from metainf.swarm.host.measuring import Speed  # noqa: E402
from metainf.swarm.host.told import Said, Told  # noqa: E402
from metainf.swarm.net.changing import NotChanged, asked_to_change, wish  # noqa: E402
from metainf.swarm.net.completing import EngineDoor  # noqa: E402
from metainf.swarm.net.directory import NODES  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.words import Announcement, Features, Offered, Profile, Writing  # noqa: E402
from metainf.testing.model_server import Behaviour, ModelServer  # noqa: E402
from running_process import free_port  # noqa: E402

WITHIN_S = 120.0


class Kid(Child):
    """An engine in this process. Of the methods `broken` does not start, and `slow` writes slowly."""

    started: list[str] = []  # noqa: RUF012

    def __init__(self, start: Start) -> None:
        super().__init__(start)
        self.server: ModelServer | None = None

    async def start(self) -> EngineDoor:
        method = self.start_as.method
        self.started.append(method)
        if method == "broken":
            raise NotReady(1.0, "")
        self.server = ModelServer(Behaviour(itl_s=0.02 if method == "slow" else 0.001))
        await self.server.start()
        served: Any = type("Served", (), {"endpoint": Endpoint(self.server.base_url, "fake")})()
        self.served = served
        return EngineDoor(self.server.base_url, "fake")

    @property
    def ended(self) -> bool:
        return self.server is None

    async def stop(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            await server.stop()


def started_as(method: str, prefix_tokens: int = 0) -> Start:
    profile = Profile(dtype="float32", quantization="q8" if method == "quick" else "none", engine="fake")
    nothing: Any = None
    return Start(nothing, nothing, profile, "a test", 2, 512, method, method, prefix_tokens)


@dataclass
class Life:
    """A replica that runs, what it said, and the directory."""

    directory: InMemory
    said: list[Said] = field(default_factory=list)

    def word(self) -> Announcement:
        found = signed_word(self.directory.kept[f"{NODES}{self.said[-1].node}"])
        assert found is not None
        return found

    def writing(self) -> Writing:
        found = self.word().features.writing
        assert found is not None
        return found

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not true():
                await asyncio.sleep(0.02)

    def heard(self, event: str) -> int:
        return len([each for each in self.said if each.event == event])


@asynccontextmanager
async def replica(
    folder: Path,
    starts: Sequence[Start],
    obey: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    metrics_port: int | None = None,
) -> AsyncIterator[Life]:
    life = Life(InMemory())

    async def directory(*_: object) -> InMemory:
        return life.directory

    monkeypatch.setattr(whole, "joined", directory)
    stop = asyncio.Event()
    told = Told(checkpoint=str(folder), join="memory", grace_s=10.0, obey=obey, metrics_port=metrics_port)
    run = asyncio.create_task(whole.serve(told, starts[0], life.said.append, stop, starts[1:]))
    try:
        await life.until(lambda: run.done() or life.heard("ready"))
        assert not run.done(), run.result()
        yield life
    finally:
        stop.set()
        await asyncio.gather(run, return_exceptions=True)
    assert life.said[-1].event == "left"


async def text(swarm: Swarm, tokens: int, at_first: Callable[[], Any] | None = None) -> Written:
    course, pieces = Course(), []
    asked = swarm.asked("one two three", plain=True, max_tokens=tokens, ignore_eos=True)
    async for piece in swarm.stream(asked, course):
        pieces.append(piece)
        if at_first is not None:
            await at_first()
            at_first = None
    return written(pieces, course, "small")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


def test_a_replica_drains_changes_and_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is being written ends first. What does not start is not offered any more."""
    monkeypatch.setattr(whole, "Child", Kid)
    monkeypatch.setattr(Kid, "started", [])
    me, stranger = Identity(os.urandom(32)), Identity(os.urandom(32))
    starts = [started_as("slow"), started_as("quick", 1024), started_as("broken")]

    async def story() -> None:
        async with (
            replica(folder, starts, (me.node,), monkeypatch) as life,
            Joined(Caller(life.directory, me), folder, "small") as swarm,
        ):
            caller = swarm.caller
            await caller.let_in(swarm.model)
            node, before = life.said[-1].node, life.writing()
            assert before.method == "slow" and [each.method for each in before.methods] == [
                "slow", "quick", "broken",
            ]  # fmt: skip
            assert before.methods[0].decode_ms_per_block and before.methods[1].decode_ms_per_block is None

            async def asked(who: Identity, method: str) -> None:
                way = caller.channel_to(node)
                await asked_to_change(way, wish(who, node, method, time.time()))

            for who, method, why in [(stranger, "quick", "operator"), (me, "other", "expected one of")]:
                with pytest.raises(NotChanged, match=why):
                    await asked(who, method)
            told = await text(swarm, 20, lambda: asked(me, "quick"))
            assert told.output_tokens == 20 and told.recoveries == 0 and len(told.routes) == 1
            await life.until(lambda: life.heard("changed"))
            after = life.writing()
            assert after.method == "quick" and life.word().state == "online"
            assert life.word().profile.quantization == "q8" and after.methods[1].prefix_tokens == 1024
            assert all(each.decode_ms_per_block for each in after.methods[:2])
            assert life.word().features.decode_ms_per_block == after.methods[1].decode_ms_per_block
            assert (await text(swarm, 5)).output_tokens == 5
            await caller.let_in(swarm.model)
            await asked(me, "broken")
            await life.until(lambda: life.heard("changed") == 2)
            assert life.writing().method == "quick" and len(life.writing().methods) == 2
            assert Kid.started == ["slow", "quick", "broken", "quick"]
            with pytest.raises(NotChanged, match="expected one of"):
                await asked(me, "broken-too")

    asyncio.run(story())


def test_a_replica_answers_prometheus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "Child", Kid)
    me, port = Identity(os.urandom(32)), free_port()

    def scraped() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    async def story() -> None:
        async with (
            replica(folder, [started_as("slow")], (), monkeypatch, port) as life,
            Joined(Caller(life.directory, me), folder, "small") as swarm,
        ):
            await text(swarm, 5)
            lines = (await asyncio.to_thread(scraped)).splitlines()
            assert {"metainf_node_engine_up 1.0", "metainf_node_texts 0.0"} <= set(lines)
            assert f"metainf_node_places {float(life.writing().places)}" in lines
            assert not any(line.startswith("metainf_node_cache_bytes") for line in lines)

    asyncio.run(story())
    with pytest.raises(OSError):
        scraped()


def test_the_schedulers_wish_is_told_to_the_node(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "Child", Kid)
    monkeypatch.setattr(Kid, "started", [])
    me = Identity(os.urandom(32))

    async def story() -> None:
        starts = [started_as("slow"), started_as("quick")]
        async with (
            replica(folder, starts, (me.node,), monkeypatch) as life,
            Joined(Caller(life.directory, me), folder, "small") as swarm,
        ):
            await swarm.caller.let_in(swarm.model)
            scheduler, node = swarm.caller.scheduler, life.said[-1].node
            assert scheduler is not None and await wishing.wished(swarm.caller) is None
            for name, method in [(node, "other"), ("ed-gone", "quick")]:
                monkeypatch.setattr(scheduler, "wish", lambda told=(name, method): told)
                assert await wishing.wished(swarm.caller) is None and name in scheduler.unwilling
            monkeypatch.setattr(scheduler, "wish", lambda: (node, "quick"))
            assert await wishing.wished(swarm.caller) == (node, "quick")
            await life.until(lambda: life.heard("changed"))
            assert life.writing().method == "quick"
            assert scheduler.counts == {"changes_wished": 3, "changes": 1}

    asyncio.run(story())


@needs_llama
def test_the_real_llama_cpp_changes_its_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """From no prefix cache to one: the engine is another process, the text goes on being the model's."""
    me, children = Identity(os.urandom(32)), list[Child]()

    class Watched(Child):
        def __init__(self, start: Start) -> None:
            super().__init__(start)
            children.append(self)

    async def soon(*_: object) -> Speed:
        return Speed(decode_ms_per_block=1.0, prefill_ms_per_token_block=0.1)

    async def story() -> None:
        model = packaged()
        monkeypatch.setattr(whole, "Child", Watched)
        for module in (whole, repertoire):  # measuring is tried elsewhere
            monkeypatch.setattr(module, "measured", soon)
        asked = Asked(
            engine="llamacpp", places=2, context_tokens=512, methods=("continuous-2", "continuous-2+prefix")
        )
        starts = await asyncio.to_thread(all_prepared, asked)
        assert [each.method for each in starts] == ["continuous-2", "continuous-2+prefix"]
        assert [each.prefix_tokens for each in starts] == [0, 1024]
        async with (
            replica(model, starts, (me.node,), monkeypatch) as life,
            Joined(Caller(life.directory, me), model) as swarm,
        ):
            await swarm.caller.let_in(swarm.model)
            first, process = await text(swarm, 8), children[0].served
            assert process is not None
            before = process.pid
            await asked_to_change(
                swarm.caller.channel_to(life.said[-1].node),
                wish(me, life.said[-1].node, "continuous-2+prefix", time.time()),
            )
            await life.until(lambda: life.heard("changed"))
            served = children[0].served
            assert served is not None and served.pid != before
            assert life.writing().method == "continuous-2+prefix" and life.word().state == "online"
            await swarm.caller.let_in(swarm.model)
            assert (await text(swarm, 8)).text == first.text

    asyncio.run(story())


def test_too_many_methods_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metainf.api.replicas.prepared", lambda asked, say: started_as(asked.method))
    with pytest.raises(BadInput, match="at most 7 other methods"):
        all_prepared(Asked(methods=tuple(f"static-{at}" for at in range(9))))


def test_what_the_predictor_knows_is_foretold_and_the_rest_is_not() -> None:
    """The first question is answered with nothing: it is worked out beside the texts, once."""
    from metainf.api.foretelling import MOST_KNOWN, Foretelling

    def said(hardware: str | None, *methods: str) -> Announcement:
        offered = tuple(Offered(method=each) for each in methods)
        writing = Writing(method=methods[0], methods=offered, places=2)
        features = Features(decode_ms_per_block=1.0, hardware=hardware, writing=writing)
        profile = Profile(dtype="float32", engine="llama.cpp")
        return Announcement.model_construct(features=features, profile=profile)

    foretelling = Foretelling(packaged())
    names = ("continuous-2", "continuous-2+q8_0")
    known, strange = said("1x raspberry-pi-5, linux", *names), said("2x a machine of the attic", *names)
    assert foretelling(known) == foretelling(strange) == {} == foretelling(said(None, *names))
    end_s = time.monotonic() + WITHIN_S
    while not (found := foretelling(known)) and time.monotonic() < end_s:
        time.sleep(0.02)
    assert set(found) == set(names) and foretelling(strange) == {}
    assert found[names[0]].step_s > found[names[1]].step_s > 0
    assert foretelling(known) is found
    foretelling.known |= {("x", "y", (str(at),)): {} for at in range(MOST_KNOWN)}
    assert foretelling(said("h100", *names)) == {} and len(foretelling.known) == MOST_KNOWN + 2
