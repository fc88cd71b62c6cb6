"""Whole models beside paths of blocks: which is taken, what a replica refuses, how a text goes on."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")

from small_swarm import Place, small_model, swarm_of  # noqa: E402

from metainf.domain import BadInput, NoFeasible  # noqa: E402
from metainf.hosts.tracing import CURRENT  # noqa: E402
from metainf.measure.words import Timing  # noqa: E402
from metainf.swarm.host.engine import NotMeasured, WholeLoad, measured, speed_of  # noqa: E402
from metainf.swarm.host.generating import Course, Swarm, Written, written  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.completing import (  # noqa: E402
    COMPLETE,
    EngineDoor,
    EngineFailed,
    Event,
    Replica,
    ReplicaFailed,
    Request,
    completed,
)
from metainf.swarm.net.directory import NODES  # noqa: E402
from metainf.swarm.net.forwarding import VERSION  # noqa: E402
from metainf.swarm.net.replica import IN_LINE, ReplicaNode, WholeOffer  # noqa: E402
from metainf.swarm.plan import replicas  # noqa: E402
from metainf.swarm.plan.coverage import swarm_state  # noqa: E402
from metainf.swarm.plan.replicas import ENDPOINT, Wanted, best_way, replica_ms, runs_blocks, writes  # noqa: E402
from metainf.swarm.plan.routing import Client, MissingBlocks, best_route  # noqa: E402
from metainf.swarm.plan.table import table  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.signing import seal  # noqa: E402
from metainf.swarm.trust.tls import channel, serving  # noqa: E402
from metainf.swarm.words import Announcement, Demand, Features, Profile, Route, Span  # noqa: E402
from metainf.testing.model_server import Behaviour, ModelServer  # noqa: E402

HALVES = {"a": (0, 2), "b": (2, 4)}
PRINTABLE = 94
"""Tokens that are printable characters of ASCII; they come first."""
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
BLOCKS, MODEL = 4, "b2:" + "0" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model, so that it writes printable characters only: a replica hands over text, and bytes that
    are none would be lost."""
    import transformers

    made = small_model(tmp_path_factory.mktemp("small"))
    model = transformers.AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight[PRINTABLE:] = 0.0
    model.save_pretrained(made)
    return made


def word(
    name: str, span: tuple[int, int], decode_ms: float, engine: str = "torch", **features: Any
) -> Announcement:
    labels = (ENDPOINT,) if engine != "torch" else ()
    said = Features(decode_ms_per_block=decode_ms, labels=labels, **features)
    return Announcement(
        node=name, generation=1, seq=1, address="127.0.0.1:1", certificate=MODEL, model=MODEL,
        num_blocks=BLOCKS, span=Span(start=span[0], end=span[1]),
        profile=Profile(dtype="float32", engine=engine), features=said, issued_s=1.0, valid_until_s=600.0,
    )  # fmt: skip


def test_a_replica_is_charged_once_where_a_path_is_charged_at_each_token() -> None:
    far = Client(rtt_ms={"whole": 40.0, "blocks": 40.0})
    demand = Demand(prompt_tokens=5, new_tokens=10)
    whole = word("whole", (0, 4), 2.0, "llama.cpp", prefill_ms_per_token_block=0.5, queue_ms=7.0)
    assert replica_ms(whole, demand, far) == 4 * (2.0 * 10 + 0.5 * 5) + 7.0 + 1.0 + 40.0
    blocks = word("blocks", (0, 4), 2.0)
    way = best_way([whole, blocks], demand, far, Wanted())
    assert isinstance(way, replicas.Replica) and way.node == "whole"
    near = Client(rtt_ms={"whole": 40.0, "blocks": 0.0})
    quick = word("blocks", (0, 4), 0.1)
    assert isinstance(best_way([whole, quick], demand, near, Wanted()), Route)
    assert isinstance(best_way([whole, blocks], demand, far, Wanted(replicas=False)), Route)
    assert isinstance(best_way([whole, blocks], demand, far, Wanted(path_first=True)), Route)
    short = whole.model_copy(update={"features": whole.features.model_copy(update={"cache_tokens_left": 9})})
    assert replica_ms(short, demand, far) == replica_ms(whole, demand, far) + 10_000
    doubted = Client(rtt_ms=far.rtt_ms, reputation={"whole": 0.5})
    assert replica_ms(whole, demand, doubted) > replica_ms(whole, demand, far)


spans = st.tuples(st.integers(0, BLOCKS - 1), st.integers(1, BLOCKS)).filter(lambda each: each[0] < each[1])
nodes = st.lists(
    st.tuples(spans, st.floats(0.1, 50), st.sampled_from(["torch", "llama.cpp", "vllm"])), max_size=6
)


@settings(max_examples=150, deadline=None)
@given(nodes, st.floats(0, 80), st.integers(1, 40), st.booleans())
def test_the_cheaper_of_both_is_taken_and_no_path_leads_through_a_replica(
    held: list[tuple[tuple[int, int], float, str]], rtt_ms: float, tokens: int, allowed: bool
) -> None:
    words = [
        word(f"node-{at}", span if engine == "torch" else (0, BLOCKS), ms, engine)
        for at, (span, ms, engine) in enumerate(held)
    ]
    client = Client(rtt_ms={each.node: rtt_ms for each in words})
    demand = Demand(prompt_tokens=3, new_tokens=tokens)
    engines = {each.node: each.profile.engine for each in words}
    costs = [replica_ms(each, demand, client) for each in words if writes(each) and allowed]
    with suppress(NoFeasible):
        laid = table([each for each in words if runs_blocks(each)])
        costs.append(best_route(laid, demand, client).expected_ms)
    if not costs:
        with pytest.raises(MissingBlocks):
            best_way(words, demand, client, Wanted(replicas=allowed))
        return
    way = best_way(words, demand, client, Wanted(replicas=allowed))
    assert way.expected_ms == min(costs)
    if isinstance(way, Route):
        assert {engines[stage.node] for stage in way.stages} == {"torch"}
    else:
        assert engines[way.node] != "torch" and allowed


def test_status_shows_replicas_apart_with_what_they_would_take() -> None:
    words = [word("whole", (0, 4), 2.0, "llama.cpp"), word("one", (0, 2), 1.0), word("two", (2, 4), 1.0)]
    demand = Demand(new_tokens=10)
    found = swarm_state(words, demand, 2.0, Client({each.node: 1.0 for each in words}))
    by_kind = {each.replicas: each for each in found.models}
    assert [node.node for node in by_kind[True].nodes] == ["whole"] and by_kind[True].complete
    assert by_kind[True].route is not None and by_kind[True].route.expected_ms == 4 * 2.0 * 10 + 1.0 + 1.0
    assert {node.node for node in by_kind[False].nodes} == {"one", "two"} and by_kind[False].complete


class Fake:
    """The engine behind the seam: writes the model's own likeliest text, or another's, and may break off."""

    def __init__(self, folder: Path, tokens: Any, off: int | None = None, wait_s: float = 0.0) -> None:
        import transformers

        self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32
        ).eval()
        self.tokens, self.off, self.wait_s = tokens, off, wait_s
        self.asked: list[Request] = []
        self.traces: list[str] = []
        self.left = 0

    async def events(self, request: Request) -> AsyncGenerator[Event, None]:
        self.asked.append(request)
        self.traces.append(CURRENT.get())
        made, text, ended = list(request.prompt), self.tokens.text(), False
        try:
            for at in range(request.max_tokens):
                if at == self.off:
                    raise EngineFailed("it was killed (by a test)")
                await asyncio.sleep(self.wait_s)
                with torch.inference_mode():
                    made.append(int(self.model(torch.tensor([made])).logits[0, -1].argmax()))
                if told := text.add(made[-1:]):
                    yield Event(text=told)
            ended = True
        finally:
            self.left += not ended
        yield Event(text=text.rest(), finished="length", output_tokens=request.max_tokens)


async def replica(here: Place, door: Any, decode_ms: float = 0.01, places: int = 2) -> ReplicaNode:
    """A replica among the nodes of a place."""
    identity = Identity(os.urandom(32))
    certified = certify(identity, time.time())
    node = ReplicaNode(WholeOffer(identity.node, here.model, places, 512), WholeLoad(1.0, 0.0, num_blocks=4))
    node.door = door
    book = here.books[0]
    port = await node.listen("127.0.0.1:0", serving(certified, book.trusted))
    held = Span(start=0, end=BLOCKS)
    said = here.word(identity, certified, held, f"127.0.0.1:{port}", decode_ms)
    said = said.model_copy(
        update={
            "profile": Profile(dtype="float32", codec="text", engine="llama.cpp"),
            "features": said.features.model_copy(update={"labels": (ENDPOINT,)}),
        }
    )
    await here.directory.put(f"{NODES}{identity.node}", seal(identity, said, certified.der))
    here.nodes[f"replica {len(here.nodes)}"] = node  # type: ignore[assignment]
    here.people[f"replica {len(here.people)}"] = (identity, certified)
    return node


@asynccontextmanager
async def mixed(folder: Path, **fake: Any) -> AsyncIterator[tuple[Place, Swarm, ReplicaNode, Fake]]:
    """Two nodes of blocks, a replica that says that it is quicker, and a caller that it lets in and that
    believes it, for it learns nothing."""
    async with swarm_of(folder, HALVES) as (here, swarm):
        swarm.caller.scheduler = None
        door = Fake(folder, swarm.tokens, **fake)
        node = await replica(here, door)
        await let_in(swarm, node)
        yield here, swarm, node, door


async def let_in(swarm: Swarm, *nodes: ReplicaNode) -> None:
    """Until replicas and blocks are open."""
    swarm.caller.expect(swarm.model)
    for _ in range(400):
        seen = {each.word.node for each in await swarm.caller.look()}
        if {node.offer.node for node in nodes} <= seen and len(seen) >= len(nodes) + len(HALVES):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the replica let nobody in")


async def told(swarm: Swarm, text: str = "the", tokens: int = 30, **terms: Any) -> tuple[Written, Course]:
    course = Course()
    ask = swarm.asked(text, plain=True, max_tokens=tokens, ignore_eos=True, **terms)
    return written([piece async for piece in swarm.stream(ask, course)], course, "small"), course


def test_a_text_is_the_replicas_where_it_is_cheaper(folder: Path) -> None:
    async def story() -> None:
        async with mixed(folder) as (_, swarm, node, door):
            CURRENT.set(TRACE)
            shown, course = await told(swarm)
            assert "whole, by llama.cpp" in course.routes[0] and len(door.asked) == node.texts == 1
            assert door.traces == [TRACE], "of whoever asked"
            swarm.replicas = False
            through, other = await told(swarm)
            assert "whole" not in other.routes[0] and len(door.asked) == 1
            assert (shown.text, shown.output_tokens, shown.finished) == (
                through.text, through.output_tokens, through.finished,
            )  # fmt: skip
            swarm.replicas = True
            _, seeded = await told(swarm, temperature=1.0, seed=5)
            assert "whole" not in seeded.routes[0]  # its draws would not follow the seed
            _, drawn = await told(swarm, temperature=1.0)
            assert "whole" in drawn.routes[0] and door.asked[-1].temperature == 1.0

    asyncio.run(story())


def test_where_a_replica_dies_the_text_goes_on_through_blocks(folder: Path) -> None:
    """The engine calculates as the nodes do, so the greedy text is that of one process."""

    async def story() -> None:
        async with mixed(folder, off=11) as (_, swarm, node, door):
            swarm.replicas = False
            unharmed, _ = await told(swarm)
            swarm.replicas = True
            lines: list[str] = []
            course = Course(lines.append)
            ask = swarm.asked("the", plain=True, max_tokens=30, ignore_eos=True)
            shown = written([piece async for piece in swarm.stream(ask, course)], course, "small")
            assert shown.text == unharmed.text and shown.output_tokens == 30
            assert shown.recoveries == 1 and len(shown.routes) == 2 and "whole" not in shown.routes[1]
            assert any("perhaps in other words" in line for line in lines)
            assert shown.replayed_tokens > len(swarm.prompt(ask)) and node.streams == 0
            assert len(door.asked) == 1

    asyncio.run(story())


def test_where_no_path_is_left_a_replica_goes_on(folder: Path) -> None:
    async def story() -> None:
        async with swarm_of(folder, HALVES) as (here, swarm):
            unharmed, _ = await told(swarm)
            door = Fake(folder, swarm.tokens)
            await let_in(swarm, await replica(here, door, decode_ms=5000.0))
            course, pieces = Course(), []
            async for piece in swarm.stream(
                swarm.asked("the", plain=True, max_tokens=30, ignore_eos=True), course
            ):
                pieces.append(piece)
                if piece.output_tokens == 8:
                    await here.kill("a")
                    await here.kill("b")
            shown = written(pieces, course, "small")
            assert shown.text == unharmed.text and "whole" not in shown.routes[0]
            assert "whole" in shown.routes[-1] and len(door.asked) == 1
            assert len(door.asked[0].prompt) > len("the")

    asyncio.run(story())


def test_who_leaves_frees_the_engine_and_full_replicas_say_so(folder: Path) -> None:
    async def story() -> None:
        async with mixed(folder, wait_s=0.02) as (_, swarm, node, door):
            ask = swarm.asked("the", plain=True, max_tokens=60, ignore_eos=True)
            pieces = swarm.stream(ask)
            await anext(pieces)
            await pieces.aclose()
            for _ in range(100):
                if node.streams == 0:
                    break
                await asyncio.sleep(0.02)
            assert (node.streams, node.places.taken, door.left) == (0, 0, 1)
            places = node.offer.places * (1 + IN_LINE)
            asked = [asyncio.create_task(told(swarm, f"n{n}", 12)) for n in range(places + 3)]
            shown = await asyncio.gather(*asked)
            assert len([each for each, course in shown if "whole" not in course.routes[-1]]) >= 1
            assert all(each.output_tokens == 12 for each, _ in shown)

    asyncio.run(story())


def test_what_a_replica_refuses(folder: Path) -> None:
    """Other models, broken requests, texts that do not fit; strangers and a leaving node get nothing."""

    async def refused(way: Any, node: ReplicaNode, message: bytes) -> str:
        call = way.unary_stream(COMPLETE)(message)
        answer = wire.FromNode.FromString(await call.read())
        call.cancel()
        return str(answer.refusal.why)

    async def story() -> None:
        async with mixed(folder) as (here, swarm, node, _):
            heard = next(each for each in await swarm.caller.look() if each.word.node == node.offer.node)
            mine = swarm.caller.mine
            way = channel(heard.word.address, node.offer.node, heard.certificate, mine)

            def asking(body: bytes, model: str = here.model, version: int = VERSION) -> bytes:
                asked = wire.Ask(version=version, model=model, request=body)
                return bytes(wire.ToNode(ask=asked).SerializeToString())

            assert "message" in await refused(way, node, b"\xff\xff")
            assert "version" in await refused(way, node, asking(b"", version=99))
            assert "asked for b2:other" in await refused(way, node, asking(b"", model="b2:other"))
            for body in (b"{", b"[]", b'{"prompt": []}', b'{"prompt": "text", "max_tokens": 3}', b"[" * 9000):
                assert await refused(way, node, asking(body))
            long = Request(prompt=(1,) * 500, max_tokens=100)
            assert "at most 512 tokens" in await refused(way, node, asking(long.canonical().encode()))
            nodes_way = Replica(node.offer.node, here.model, way)
            node.door = None
            with pytest.raises(ReplicaFailed, match="being started"):
                await anext(completed(nodes_way, Request(prompt=(1,), max_tokens=2)))
            node.draining = True
            assert "leaving" in await refused(way, node, asking(b""))
            await way.close()
            stranger = certify(Identity(os.urandom(32)), time.time())
            unknown = channel(heard.word.address, node.offer.node, heard.certificate, stranger)
            with pytest.raises(ReplicaFailed, match="UNAVAILABLE"):
                asked = Replica(node.offer.node, here.model, unknown)
                await anext(completed(asked, Request(prompt=(1,), max_tokens=2)))
            await unknown.close()
            assert node.streams == 0

    asyncio.run(story())


def test_an_engine_is_read_measured_and_found_out_over_http() -> None:
    async def story() -> None:
        request = Request(prompt=(1, 2, 3), max_tokens=12)
        async with ModelServer(Behaviour(ttft_s=0.02, itl_s=0.01)) as server:
            door = EngineDoor(server.base_url, "fake")
            events = [event async for event in door.events(request)]
            assert events[-1].finished == "length" and events[-1].output_tokens == 12
            assert "".join(event.text for event in events) and server.seen[-1]["prompt"] == [1, 2, 3]
            from metainf.measure.words import Endpoint

            speed = await measured(Endpoint(server.base_url, "fake"), BLOCKS)
            assert speed.decode_ms_per_block >= 10.0 / BLOCKS * 0.9
        for fail in ("cut", "garbage"):
            async with ModelServer(Behaviour(fail=fail)) as server:  # type: ignore[arg-type]
                with pytest.raises(EngineFailed):
                    [event async for event in EngineDoor(server.base_url, "fake").events(request)]
        with pytest.raises(EngineFailed):
            [event async for event in EngineDoor(server.base_url, "fake").events(request)]

    asyncio.run(story())


def test_the_speed_of_answers_and_the_line_before_a_replica() -> None:
    quick = Timing(0.0, 1.2, chunk_s=(0.3, 0.4, 0.5), input_tokens=10, output_tokens=3)
    speed = speed_of([quick, Timing(0.0, 1.0, error="cut")], 10)
    assert speed.decode_ms_per_block == pytest.approx(10.0)
    assert speed.prefill_ms_per_token_block == pytest.approx(2.0)
    with pytest.raises(NotMeasured, match="cut"):
        speed_of([Timing(0.0, 1.0, error="cut")], 10)
    load = WholeLoad(10.0, 2.0, num_blocks=10)
    load.wrote((50.0, 300.0, 200.0), (10, 3))
    assert load.queue_ms() == 50.0 and load.queue_ms() == 0.0
    assert load.decode_ms == pytest.approx(10.0) and load.text_ms == 500.0

    async def story() -> float:
        from metainf.hosts.places import Places

        load.places = Places(2, 4)
        async with load.places.place(), load.places.place():
            return load.queue_ms()

    assert asyncio.run(story()) == 250.0


def test_requests_are_bounded() -> None:
    for wrong in ({"prompt": ()}, {"max_tokens": 0}, {"temperature": 3.0}, {"seed": 2**70}, {"n": 2}):
        with pytest.raises(BadInput):
            Request.of({"prompt": (1,), "max_tokens": 4, **wrong})
