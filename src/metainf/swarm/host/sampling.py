"""Which token comes next. A seed and the number of a token decide, so that a text can be written again."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED_BITS = 64


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen: the likeliest at temperature 0, else drawn from the likeliest whose chances make
    `top_p` together. Token number n of a seed is drawn with a random number of its own, so that what happened
    to other tokens, or to the route, changes nothing."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def chosen(logits: NDArray[np.float32], sampling: Sampling, number: int) -> int:
    """The token, from logits [vocabulary]. Ties go to the lower id."""
    if sampling.temperature <= 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    order = np.argsort(-scaled, kind="stable")
    chances = np.exp(scaled[order] - scaled[order[0]])
    chances /= chances.sum()
    below = np.cumsum(chances)
    kept = min(int(np.searchsorted(below, sampling.top_p)) + 1, len(below))
    drawn = np.random.default_rng([sampling.seed % 2**SEED_BITS, number]).random()
    place = int(np.searchsorted(below[:kept] / below[kept - 1], drawn, side="right"))
    return int(order[min(place, kept - 1)])


class Choosing:
    """The ends of a model for one text, whose next token is drawn. The head, which takes as long as many
    blocks, works in the `thread` that all texts share, so that the event loop stays free."""

    def __init__(self, ends: Any, sampling: Sampling, thread: Executor | None = None) -> None:
        self.ends, self.sampling, self.thread = ends, sampling, thread
        self.torch = ends.torch
        self.embed, self.logits = ends.embed, ends.logits
        self.number = 0

    def greedy(self, hidden: Any) -> int:
        """The token after the last of the activations."""
        if self.sampling.temperature <= 0:
            return int(self.ends.greedy(hidden))
        logits = self.ends.logits(hidden[:, -1:])[0, -1].float().numpy()
        self.number += 1
        return chosen(logits, self.sampling, self.number)

    async def greedy_beside(self, hidden: Any) -> int:
        """The same, beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self.greedy, hidden)
