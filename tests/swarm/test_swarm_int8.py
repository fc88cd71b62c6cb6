"""Weights as int8: how far they are off, what they take, and that the profile keeps such nodes apart."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from families import LAYERS, config_of, one_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.compute import quantized
from metainf.swarm.compute.blocks import Blocks, Step
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import FAMILIES, Checkpoint
from metainf.swarm.compute.weights import random_checkpoint
from metainf.swarm.words import Announcement, Features, Profile, Span

torch = pytest.importorskip("torch", reason="needs the extra swarm")
transformers = pytest.importorskip("transformers", reason="needs the extra swarm")

__all__ = ["one_thread"]
WHOLE = Span(start=0, end=LAYERS)
TOKENS = [5, 17, 3, 88, 41, 9, 60, 22]


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    made = {family: tmp_path_factory.mktemp(family) for family in FAMILIES}
    return {f: Checkpoint(random_checkpoint(config_of(f), folder, 3, 0.1)) for f, folder in made.items()}


@settings(max_examples=30, deadline=None)
@given(
    outputs=st.integers(1, 70), inputs=st.integers(1, 40), seed=st.integers(0, 999), tile=st.integers(1, 900)
)
def test_a_weight_is_off_by_half_a_step(outputs: int, inputs: int, seed: int, tile: int) -> None:
    source = torch.Generator().manual_seed(seed)
    weight = torch.randn(outputs, inputs, generator=source) * 10.0 ** float(seed % 7 - 3)
    weight[seed % outputs] = 0
    whole, scale = quantized.as_int8(weight)
    assert ((whole * scale[:, None] - weight).abs() <= weight.abs().amax(1, keepdim=True) / 254 * 1.001).all()
    module = quantized.int8_linear(outputs, inputs, True, False)
    bias = torch.randn(outputs, generator=source)
    module.load_state_dict({"weight": whole, "scale": scale, "bias": bias}, assign=True)
    module.tile = max(1, tile // inputs)
    hidden = torch.randn(1, 3, inputs, generator=source)
    expected = torch.nn.functional.linear(hidden.double(), whole.double()) * scale + bias
    assert torch.allclose(module(hidden).double(), expected, rtol=1e-4, atol=1e-4 * float(scale.max()))


@pytest.mark.parametrize("family", FAMILIES)
def test_blocks_of_int8_take_a_quarter_and_say_nearly_the_same(
    checkpoints: dict[str, Checkpoint], family: str
) -> None:
    checkpoint = checkpoints[family]
    ends, exact = Ends(checkpoint), Blocks(checkpoint, WHOLE)
    rounded = Blocks(checkpoint, WHOLE, quantization="int8")
    linears = [
        m for layer in rounded.layers for m in layer.modules() if getattr(m, "weight", None) is not None
    ]
    assert sum(m.weight.dtype == torch.int8 for m in linears) == (4 if family == "gpt2" else 7) * LAYERS
    held = sum(
        each.numel() * each.element_size()
        for layer in rounded.layers
        for each in (*layer.parameters(), *layer.buffers())
    )
    learnt = rounded.placed.module.weight.numel() * 4 if family == "gpt2" else 0
    assert held + learnt == rounded.bytes
    assert rounded.bytes - learnt < 0.45 * (exact.bytes - learnt), "scales and norms weigh in small models"
    expected = ends.logits(exact.step("s", 0, ends.embed(TOKENS)))
    found = ends.logits(rounded.step("s", 0, ends.embed(TOKENS)))
    assert 1e-5 < (found - expected).abs().max() < 0.1 * expected.abs().max()


@pytest.mark.parametrize("family", FAMILIES)
def test_splits_and_batches_of_int8_give_the_same_numbers(
    checkpoints: dict[str, Checkpoint], family: str
) -> None:
    checkpoint = checkpoints[family]
    ends, whole = Ends(checkpoint), Blocks(checkpoint, WHOLE, quantization="int8")
    hidden = ends.embed(TOKENS)
    expected = whole.step("s", 0, hidden)
    made = hidden
    for start in range(LAYERS):
        made = Blocks(checkpoint, Span(start=start, end=start + 1), quantization="int8").step("s", 0, made)
    assert (made - expected).abs().max() <= 1e-4
    other = ends.embed([9, 8, 7])
    together = whole.steps([Step("a", 0, hidden), Step("b", 0, other)])
    assert (together[0] - expected).abs().max() <= 1e-4


def test_another_quantization_is_not_known(checkpoints: dict[str, Checkpoint]) -> None:
    with pytest.raises(BadInput, match="none, int8"):
        Blocks(checkpoints["llama"], WHOLE, quantization="int3")


def test_the_profile_says_how_weights_are_held() -> None:
    assert Profile(dtype="float32").numbers == "float32"
    assert Profile(dtype="float32", quantization="int8").numbers == "float32+int8"


def test_the_client_leaves_out_nodes_of_another_profile() -> None:
    pytest.importorskip("grpc", reason="needs the extra swarm")
    from metainf.swarm.net.client import Session
    from metainf.swarm.net.stream import Terms
    from metainf.swarm.plan.routing import MissingBlocks
    from metainf.swarm.trust.signing import Heard

    model, now = "b2:" + "0" * 32, time.time()
    heard = [
        Heard(
            Announcement(
                node=f"ed-{quantization}", generation=1, seq=1, address="127.0.0.1:1", certificate=model,
                model=model, num_blocks=LAYERS, span=WHOLE,
                profile=Profile(dtype="float32", quantization=quantization),
                features=Features(decode_ms_per_block=1.0), issued_s=now, valid_until_s=now + 60,
            ),
            b"",
        )
        for quantization in ("none", "int8")
    ]  # fmt: skip

    async def look() -> list[Heard]:
        return heard

    async def tried(quantization: str) -> str:
        ends: Any = SimpleNamespace(embed=lambda tokens: torch.zeros(1, len(tokens), 4))
        mine: Any = None
        session = Session(ends, look, mine, Terms("s", model, quantization=quantization))
        reached: list[str] = []

        async def opened(stages: Any, _: Any, *__: Any) -> Any:
            reached.extend(stage.node for stage in stages)
            raise InterruptedError

        session._all_opened = opened  # type: ignore[method-assign]
        with pytest.raises((InterruptedError, MissingBlocks)):
            async for _ in session.generate([5], 1):
                pass
        return ",".join(reached)

    assert asyncio.run(tried("none")) == "ed-none"
    assert asyncio.run(tried("int8")) == "ed-int8"
    assert asyncio.run(tried("int4")) == ""


def test_a_node_refuses_sessions_of_another_profile(tmp_path: Path) -> None:
    pytest.importorskip("grpc", reason="needs the extra swarm")
    from metainf.swarm.net import wire_pb2 as wire
    from metainf.swarm.net.node import No, Node, Offer

    folder = random_checkpoint(config_of("llama"), tmp_path)

    async def story() -> None:
        node = Node(Checkpoint(folder), Offer("ed-node", "b2:" + "0" * 32, WHOLE, quantization="int8"))
        try:
            told = {"version": 1, "session": "s", "model": node.offer.model, "start": 0, "end": LAYERS}
            for dtype in ("float32", "float32+int4", "float16+int8", "int8"):
                ask = wire.ToNode(open=wire.Open(dtype=dtype, **told))  # type: ignore[arg-type]
                with pytest.raises(No, match=r"float32\+int8"):
                    node._open(ask, "ed-peer")
            ask = wire.ToNode(open=wire.Open(dtype="float32+int8", **told))  # type: ignore[arg-type]
            part, _ = node._open(ask, "ed-peer")
            assert part is node.blocks
        finally:
            await node.stop(0)

    asyncio.run(story())
