"""A swarm in one process whose model writes bytes, for tests, and a caller that has joined it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import in_process
from in_process import InMemory, Place

from metainf.swarm.host.caller import Caller
from metainf.swarm.host.generating import Joined, Swarm
from metainf.testing.random_models import LAYERS, random_byte_model
from metainf.testing.random_models import likeliest as whole_text

__all__ = ["LAYERS", "InMemory", "Place", "place", "small_model", "swarm_of", "whole_text"]


def small_model(folder: Path, seed: int = 3, positions: int = 512) -> Path:
    """A random Llama of 4 blocks whose tokens are bytes, saved with its tokenizer."""
    return random_byte_model(folder, seed, max_position_embeddings=positions)


def place(folder: Path) -> AbstractAsyncContextManager[Place]:
    """Nodes, and nobody else in their directory."""
    return in_process.place(folder, known=False)


@asynccontextmanager
async def swarm_of(folder: Path, spans: Mapping[str, tuple[int, int]]) -> AsyncIterator[tuple[Place, Swarm]]:
    """Nodes, and a swarm that a caller has joined."""
    async with place(folder) as made:
        for at, (name, span) in enumerate(spans.items()):
            await made.start(name, span, decode_ms=1.0 + at)
        async with Joined(Caller(made.directory), folder, "small") as swarm:
            yield made, swarm
