"""A step of the only session runs in the thread that asks, and never beside a pass."""

import threading
from pathlib import Path
from typing import Any

import pytest
from families import LAYERS, config_of

torch = pytest.importorskip("torch", reason="needs the extra swarm")
pytest.importorskip("transformers", reason="needs the extra swarm")

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.compute.batching import Batcher  # noqa: E402
from metainf.swarm.compute.blocks import Blocks, Step  # noqa: E402
from metainf.swarm.compute.ends import Ends  # noqa: E402
from metainf.swarm.compute.shards import Checkpoint  # noqa: E402
from metainf.swarm.compute.weights import random_checkpoint  # noqa: E402
from metainf.swarm.words import Span  # noqa: E402


def test_one_step_at_a_time(tmp_path: Path) -> None:
    checkpoint = Checkpoint(random_checkpoint(config_of("llama"), tmp_path / "model"))
    whole = Span(start=0, end=LAYERS)
    blocks, alone, ends = Blocks(checkpoint, whole), Blocks(checkpoint, whole), Ends(checkpoint)
    batcher, free, forward = Batcher(), threading.Event(), blocks.layers[0].forward
    embedded = [ends.embed([token]) for token in range(3, 9)]
    try:
        for at, hidden in enumerate(embedded):
            future = batcher.at_once(blocks, Step("a", at, hidden))
            assert future is not None
            assert (future.result()[0] - alone.step("a", at, hidden)).abs().max() <= 1e-5
        with pytest.raises(BadInput):
            batcher.at_once(blocks, Step("a", 6, torch.zeros(1, 0, 32)))

        def held(*given: Any, **words: Any) -> Any:
            free.wait(10)
            return forward(*given, **words)

        blocks.layers[0].forward = held
        running = batcher.submit(blocks, Step("b", 0, embedded[0]))
        assert batcher.at_once(blocks, Step("a", 6, embedded[0])) is None
        free.set()
        running.result(10)
        blocks.layers[0].forward = forward
        for name in "ab":
            batcher.close(blocks, name)
        batcher.submit(blocks, Step("c", 0, embedded[0])).result(10)
        assert set(blocks.sessions) == {"c"}
    finally:
        free.set()
        batcher.stop()
    batcher._thread.join(10)
    assert batcher.at_once(blocks, Step("d", 0, embedded[0])) is None
