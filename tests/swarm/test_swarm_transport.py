"""Nodes and a client over real gRPC with TLS on loopback: the same tokens whatever fails.

The directory is a dictionary in this process, behind the same seam; NATS has its own test below.
"""

import asyncio
import os
import shutil
import time
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

from in_process import PROMPT, Place, alone, place, tiny, written  # noqa: E402

from metainf.swarm.host.running import Book  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.directory import GUESTS  # noqa: E402
from metainf.swarm.net.forwarding import METHOD  # noqa: E402
from metainf.swarm.net.stream import StageFailed, Stream, Terms  # noqa: E402
from metainf.swarm.plan.routing import MissingBlocks  # noqa: E402
from metainf.swarm.trust.certificates import Certified, certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.tls import channel  # noqa: E402
from metainf.swarm.words import Span, Stage  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[int]:
    return alone(folder, PROMPT, 24)


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

            async def silent(part: Any, name: str, step: Any) -> Any:
                if step.position > len(PROMPT) + 3:
                    await asyncio.sleep(60)
                return await answer(part, name, step)

            hung._answer = silent  # type: ignore[method-assign]
            async with swarm.session(step_s=0.5) as session:
                begun = time.perf_counter()
                assert await written(session, 24) == expected
                assert time.perf_counter() - begun < 30
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
