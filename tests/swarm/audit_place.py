"""A swarm in one process for the tests of trust: real nodes, real sockets, real TLS, and ways to lie."""

import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metainf.swarm.compute.blocks import Blocks, Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.net.client import Session
from metainf.swarm.net.directory import GUESTS, NODES, nodes, trusted
from metainf.swarm.net.node import Node, Offer
from metainf.swarm.net.stream import Terms
from metainf.swarm.trust.audit_calibrating import cheapened
from metainf.swarm.trust.certificates import Certified, certify
from metainf.swarm.trust.identity import Identity
from metainf.swarm.trust.signing import Heard, seal
from metainf.swarm.trust.tls import serving
from metainf.swarm.words import Announcement, Features, Profile, Span
from metainf.testing.random_models import LAYERS, random_model

WIDTH = 64
PROMPT = [5, 17, 3, 88, 41, 9, 60, 2, 33]


def small_model(folder: Path) -> Path:
    """A Llama of four layers with random weights as a checkpoint."""
    return random_model(folder, std=0.1, hidden_size=WIDTH, intermediate_size=96)


class Place:
    """Nodes and what they announce."""

    def __init__(self, folder: Path) -> None:
        self.checkpoint = Checkpoint(folder)
        self.model = self.checkpoint.digest()
        self.records: dict[str, bytes] = {}
        self.nodes: dict[str, Node] = {}
        self.people: dict[str, tuple[Identity, Certified, str]] = {}
        self.me = Identity(os.urandom(32))
        self.mine = certify(self.me, time.time())
        self.records[f"{GUESTS}{self.me.node}"] = self.mine.der

    async def look(self) -> list[Heard]:
        return nodes(self.records, time.time())

    async def start(self, name: str, span: tuple[int, int], decode_ms: float = 1.0) -> Node:
        identity = Identity(os.urandom(32))
        certified = certify(identity, time.time())
        held = Span(start=span[0], end=span[1])
        node = Node(self.checkpoint, Offer(identity.node, self.model, held))
        port = await node.listen(
            "127.0.0.1:0", serving(certified, lambda: trusted(self.records, time.time()))
        )
        now = time.time()
        word = Announcement(
            node=identity.node, generation=1, seq=1, address=f"127.0.0.1:{port}",
            certificate=certified.digest, model=self.model, num_blocks=LAYERS, span=held,
            profile=Profile(dtype="float32"), features=Features(decode_ms_per_block=decode_ms),
            issued_s=now, valid_until_s=now + 300,
        )  # fmt: skip
        self.records[f"{NODES}{identity.node}"] = seal(identity, word, certified.der)
        self.nodes[name], self.people[name] = node, (identity, certified, word.address)
        return node

    def terms(self, **told: Any) -> Terms:
        return Terms("text", self.model, **{"open_s": 5.0, "step_s": 5.0, **told})

    def session(self, **told: Any) -> Session:
        return Session(Ends(self.checkpoint), self.look, self.mine, self.terms(**told))

    def id(self, name: str) -> str:
        return self.people[name][0].node

    def name_of(self, node: str) -> str:
        return next(name for name, (who, _, _) in self.people.items() if who.node == node)


@asynccontextmanager
async def place(folder: Path) -> AsyncIterator[Place]:
    made = Place(folder)
    try:
        yield made
    finally:
        for node in made.nodes.values():
            await node.stop(0)


class Lying:
    """Makes a running node lie: `lie` bends what its blocks give. Everything else stays a real node."""

    def __init__(self, node: Node, lie: str, seed: int = 0) -> None:
        self.node, self.lie, self.rng = node, lie, np.random.default_rng(seed)
        self.kept: list[Any] = []
        self.step = node._step
        if lie == "int8 weights":
            for blocks in node.parts.values():
                cheapened(blocks)
        elif lie == "a skipped layer":
            for blocks in node.parts.values():
                skip_a_layer(blocks)
        else:
            node._step = self._bent  # type: ignore[method-assign]

    async def _bent(self, *told: Any) -> tuple[Any, float]:
        made, took = await self.step(*told)
        return BENT[self.lie](self, made), took

    def noise(self, made: Any) -> Any:
        size = made.pow(2).mean(dim=-1, keepdim=True).sqrt()
        return made + 0.05 * size * torch.from_numpy(self.rng.normal(size=made.shape)).to(made.dtype)

    def stale(self, made: Any) -> Any:
        """The answer to an earlier step of the same shape, right at its time."""
        self.kept.append(made)
        earlier = [each for each in self.kept[:-1] if each.shape == made.shape]
        return earlier[0] if earlier else made

    def drawn(self, made: Any) -> Any:
        values = torch.from_numpy(self.rng.normal(size=made.shape)).to(made.dtype)
        return values * made.std() + made.mean()


BENT: dict[str, Callable[[Lying, Any], Any]] = {
    "5 % noise": Lying.noise,
    "stale replay": Lying.stale,
    "random": Lying.drawn,
    "not a number": lambda _, made: made * float("nan"),
    "a wrong shape": lambda _, made: made[..., :-1],
}
PLAUSIBLE = ("int8 weights", "a skipped layer", "5 % noise", "stale replay", "random")
IMPOSSIBLE = ("not a number", "a wrong shape")


def skip_a_layer(blocks: Blocks) -> None:
    """The last layer's contributions become nothing, as if it were not calculated."""
    layer = blocks.layers[-1]
    with torch.no_grad():
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
