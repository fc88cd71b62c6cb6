"""Nodes and a client over real gRPC with TLS on loopback: the same tokens whatever fails.

The directory is a dictionary in this process, behind the same seam; NATS has its own test below.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metainf.domain import BadInput
from metainf.swarm.compute.codec import MOST_TOKENS, packed, unpacked

torch = pytest.importorskip("torch", reason="needs the extra swarm")
transformers = pytest.importorskip("transformers", reason="needs the extra swarm")
grpc = pytest.importorskip("grpc", reason="needs the extra swarm")
pytest.importorskip("google.protobuf", reason="needs the extra swarm")
pytest.importorskip("cryptography", reason="needs the extra swarm")

from metainf.swarm.compute.blocks import Ends  # noqa: E402
from metainf.swarm.compute.shards import Checkpoint  # noqa: E402
from metainf.swarm.host.running import Book  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.client import Session  # noqa: E402
from metainf.swarm.net.directory import GUESTS, NODES  # noqa: E402
from metainf.swarm.net.node import METHOD, Node, Offer  # noqa: E402
from metainf.swarm.net.stream import StageFailed, Stream, Terms  # noqa: E402
from metainf.swarm.plan.routing import MissingBlocks  # noqa: E402
from metainf.swarm.trust.certificates import Certified, certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.signing import seal  # noqa: E402
from metainf.swarm.trust.tls import channel, serving  # noqa: E402
from metainf.swarm.words import Announcement, Features, Profile, Span, Stage  # noqa: E402

LAYERS = 4
PROMPT = [5, 17, 3, 88, 41]


class InMemory:
    """A directory in this process, for tests: nothing expires, nothing is far away."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    async def put(self, key: str, record: bytes) -> None:
        self.kept[key] = record

    async def remove(self, key: str) -> None:
        self.kept.pop(key, None)

    async def records(self) -> Mapping[str, bytes]:
        return dict(self.kept)

    async def close(self) -> None:
        pass


class Place:
    """A swarm in one process: real nodes, real sockets, real TLS."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint(folder)
        self.model = self.checkpoint.digest()
        self.directory = InMemory()
        self.nodes: dict[str, Node] = {}
        self.people: dict[str, tuple[Identity, Certified]] = {}
        self.me = Identity(os.urandom(32))
        self.mine = certify(self.me, time.time())

    async def start(self, name: str, span: tuple[int, int], decode_ms: float = 1.0, model: str = "") -> Node:
        identity = Identity(os.urandom(32))
        certified = certify(identity, time.time())
        held = Span(start=span[0], end=span[1])
        node = Node(self.checkpoint, Offer(identity.node, self.model, held))
        book = Book(self.directory)
        book.records = self.directory.kept
        port = await node.listen("127.0.0.1:0", serving(certified, book.trusted))
        now = time.time()
        word = Announcement(
            node=identity.node, generation=1, seq=1, address=f"127.0.0.1:{port}",
            certificate=certified.digest, model=model or self.model, num_blocks=LAYERS, span=held,
            profile=Profile(dtype="float32"), features=Features(decode_ms_per_block=decode_ms),
            issued_s=now, valid_until_s=now + 60,
        )  # fmt: skip
        await self.directory.put(f"{NODES}{identity.node}", seal(identity, word, certified.der))
        self.nodes[name], self.people[name] = node, (identity, certified)
        return node

    async def kill(self, name: str) -> None:
        """Gone at once, still in the directory."""
        await self.nodes[name].stop(0)

    def session(self, **terms: Any) -> Session:
        told = Terms("text", self.model, **{"open_s": 3.0, "step_s": 1.0, **terms})
        return Session(Ends(self.checkpoint), Book(self.directory).look, self.mine, told)

    def name_of(self, node: str) -> str:
        return next(name for name, (who, _) in self.people.items() if who.node == node)


@asynccontextmanager
async def place(folder: Path, known: bool = True) -> AsyncIterator[Place]:
    made = Place(folder)
    if known:
        await made.directory.put(f"{GUESTS}{made.me.node}", made.mine.der)
    try:
        yield made
    finally:
        for node in made.nodes.values():
            await node.stop(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    config = transformers.AutoConfig.for_model(
        "llama", vocab_size=97, bos_token_id=1, eos_token_id=2, hidden_size=32, intermediate_size=48,
        num_hidden_layers=LAYERS, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=512,
    )  # fmt: skip
    model = transformers.AutoModelForCausalLM.from_config(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    made = tmp_path_factory.mktemp("llama")
    model.save_pretrained(made)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[int]:
    """What one process writes."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokens = list(PROMPT)
    with torch.inference_mode():
        for _ in range(24):
            tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    assert len(set(tokens[5:])) > 3, "a text of one token shows nothing"
    return tokens[len(PROMPT) :]


async def written(session: Session, count: int, at: int | None = None, then: Any = None) -> list[int]:
    """Tokens of a session; `then` is awaited after token number `at`."""
    made = []
    async for token in session.generate(PROMPT, count):
        made.append(token)
        if len(made) == at:
            await then()
    return made


def test_three_nodes_write_what_one_process_writes(folder: Path, expected: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            for name, span in {"a": (0, 1), "b": (1, 3), "c": (3, 4)}.items():
                await swarm.start(name, span)
            async with swarm.session() as session:
                assert await written(session, 24) == expected
                assert [swarm.name_of(stage.node) for stage in session.route] == ["a", "b", "c"]
            for _ in range(50):
                if not any(part.sessions for node in swarm.nodes.values() for part in node.parts.values()):
                    return
                await asyncio.sleep(0.02)
            pytest.fail("a closed session leaves a cache")

    asyncio.run(story())


@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize("at", [1, 10])
def test_a_killed_node_costs_no_token(folder: Path, expected: list[int], victim: str, at: int) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("a", (0, 2))
            await swarm.start("b", (2, 4))
            await swarm.start("spare-front", (0, 3), decode_ms=50.0)
            await swarm.start("spare-back", (1, 4), decode_ms=50.0)
            async with swarm.session() as session:
                made = await written(session, 24, at, lambda: swarm.kill(victim))
                assert made == expected
                (recovery,) = session.recoveries
                assert swarm.name_of(recovery.stage.node) == victim
                assert recovery.replayed_tokens == len(PROMPT) + at - 1
                spare = {"a": ["spare-front", "b"], "b": ["a", "spare-back"]}[victim]
                assert [swarm.name_of(stage.node) for stage in session.route] == spare

    asyncio.run(story())


def test_a_node_that_never_answers_is_left_after_its_deadline(folder: Path, expected: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            hung = await swarm.start("a", (0, 4))
            await swarm.start("spare", (0, 4), decode_ms=50.0)
            answer = hung._answer

            async def silent(part: Any, name: str, message: bytes) -> Any:
                if wire.ToNode.FromString(message).step.position > len(PROMPT) + 3:
                    await asyncio.sleep(60)
                return await answer(part, name, message)

            hung._answer = silent  # type: ignore[method-assign]
            async with swarm.session(step_s=0.5) as session:
                begun = time.perf_counter()
                assert await written(session, 24) == expected
                assert time.perf_counter() - begun < 10
                assert "no answer within 0.5 s" in session.recoveries[0].why

    asyncio.run(story())


def test_a_node_that_answers_nonsense_is_left(folder: Path, expected: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            lying = await swarm.start("a", (0, 4))
            await swarm.start("spare", (0, 4), decode_ms=50.0)
            step = lying._step

            async def nonsense(part: Any, name: str, position: int, hidden: Any) -> Any:
                made, took = await step(part, name, position, hidden)
                return (made * float("nan") if position > 8 else made), took

            lying._step = nonsense  # type: ignore[method-assign]
            async with swarm.session() as session:
                assert await written(session, 24) == expected
                assert "no number" in session.recoveries[0].why

    asyncio.run(story())


def test_no_way_left_names_the_blocks(folder: Path) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("a", (0, 2))
            await swarm.start("b", (2, 4))
            async with swarm.session() as session:
                with pytest.raises(MissingBlocks, match=r"\[2, 4\)"):
                    await written(session, 24, 3, lambda: swarm.kill("b"))

    asyncio.run(story())


def test_another_revision_of_the_model_is_refused(folder: Path) -> None:
    """Once by the table, which does not know it, once by the node, whatever a client asks of it."""

    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("a", (0, 4), model="b2:" + "0" * 32)
            async with swarm.session() as session:
                with pytest.raises(MissingBlocks):
                    await written(session, 1)
            identity, certified = swarm.people["a"]
            heard = (await Book(swarm.directory).look())[0]
            way = channel(heard.word.address, identity.node, certified.der, swarm.mine)
            stage = Stage(node=identity.node, span=Span(start=0, end=4))
            with pytest.raises(StageFailed, match="expected b2:"):
                await Stream(stage, Terms("text", "b2:" + "0" * 32), way).open()
            await way.close()

    asyncio.run(story())


async def _first_words(
    swarm: Place, mine: Certified, messages: list[bytes], trust: bytes | None = None
) -> Any:
    """What a node answers last to raw messages."""
    identity, certified = swarm.people["a"]
    heard = (await Book(swarm.directory).look())[0]
    way = channel(heard.word.address, identity.node, trust or certified.der, mine)
    call = way.stream_stream(METHOD)()
    try:
        for message in messages:
            await call.write(message)
            answer = await asyncio.wait_for(call.read(), 5)
        return wire.FromNode.FromString(answer)
    finally:
        call.cancel()
        await way.close()


def test_strangers_and_impostors_do_not_connect(folder: Path) -> None:
    async def story() -> None:
        async with place(folder, known=False) as swarm:
            await swarm.start("a", (0, 4))
            opening = wire.ToNode(
                open=wire.Open(version=1, session="s", model=swarm.model, start=0, end=4, dtype="float32")
            ).SerializeToString()
            with pytest.raises(grpc.aio.AioRpcError):
                await _first_words(swarm, swarm.mine, [opening])
            await swarm.directory.put(f"{GUESTS}{swarm.me.node}", swarm.mine.der)
            assert (await _first_words(swarm, swarm.mine, [opening])).WhichOneof("kind") == "opened"
            other = certify(Identity(os.urandom(32)), time.time())
            with pytest.raises(grpc.aio.AioRpcError):
                await _first_words(swarm, swarm.mine, [opening], trust=other.der)

    asyncio.run(story())


def test_broken_messages_are_refused_and_the_node_lives(folder: Path, expected: list[int]) -> None:
    """400 mutations of both kinds of messages, each on a stream of its own, while the node serves others."""

    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("a", (0, 4))
            rng = np.random.default_rng(7)
            opening = wire.ToNode(
                open=wire.Open(version=1, session="s", model=swarm.model, start=0, end=4, dtype="float32")
            ).SerializeToString()
            shape, data = packed(np.zeros((1, 2, 32), dtype=np.float32))
            step = wire.ToNode(step=wire.Step(shape=shape, codec="f32", data=data)).SerializeToString()
            identity, certified = swarm.people["a"]
            heard = (await Book(swarm.directory).look())[0]
            way = channel(heard.word.address, identity.node, certified.der, swarm.mine)
            kinds = set()
            for number in range(400):
                broken = bytearray(opening if number % 2 else step)
                for _ in range(int(rng.integers(1, 5))):
                    broken[int(rng.integers(0, min(60, len(broken))))] = int(rng.integers(0, 256))
                call = way.stream_stream(METHOD)()
                if number % 2 == 0:
                    await call.write(opening)
                    await call.read()
                await call.write(bytes(broken))
                answer = await asyncio.wait_for(call.read(), 5)
                assert isinstance(answer, bytes), "the stream ended without a word"
                kinds.add(wire.FromNode.FromString(answer).WhichOneof("kind"))
                call.cancel()
            await way.close()
            assert "refusal" in kinds
            async with swarm.session() as session:
                assert await written(session, 24) == expected

    asyncio.run(story())


@pytest.mark.parametrize(
    ("shape", "codec", "data"),
    [((1, 2, 3), "f32", b"x" * 23), ((1, 2, 3), "f64", b"x" * 24), ((2, 1, 3), "f32", b"x" * 24),
     ((1, MOST_TOKENS + 1, 1), "f32", b""), ((1, 0, 3), "f32", b""), ((1, 2**31, 2**31), "f32", b""),
     ((), "f32", b"")],
    ids=str,
)  # fmt: skip
def test_activations_that_do_not_fit_are_refused(shape: tuple[int, ...], codec: str, data: bytes) -> None:
    with pytest.raises(BadInput):
        unpacked(shape, codec, data)


def test_activations_come_back_as_they_were() -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 5)).astype(np.float32)
    assert np.array_equal(unpacked(packed(values)[0], "f32", packed(values)[1]), values)
    assert np.allclose(
        unpacked(*(packed(values, "f16")[0], "f16", packed(values, "f16")[1])), values, rtol=1e-3
    )


def test_the_generated_code_is_that_of_the_protocol(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc", reason="needs grpcio-tools to generate")
    source = Path(wire.__file__).parent
    shutil.copy(source / "wire.proto", tmp_path)
    assert protoc.main(["protoc", f"-I{tmp_path}", f"--python_out={tmp_path}", "wire.proto"]) == 0

    def described(path: Path) -> str:
        return next(line for line in path.read_text().splitlines() if line.startswith("DESCRIPTOR ="))

    assert described(tmp_path / "wire_pb2.py") == described(source / "wire_pb2.py")
