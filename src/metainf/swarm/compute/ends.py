"""The two ends of a model: what the client holds."""

import asyncio
from typing import Any

from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.skeleton import EMBEDDING, NORM, config_of, fill, needed_torch, part, skeleton
from metainf.swarm.words import Span


class Ends:
    """What the client holds: tokens to activations before the first block, activations to logits after the
    last."""

    def __init__(self, checkpoint: Checkpoint, dtype: str = "float32") -> None:
        torch = needed_torch()
        self.torch = torch
        config = config_of(checkpoint, Span(start=0, end=1))
        whole, base = skeleton(config)
        prefix = whole.base_model_prefix
        embedding, norm = part(base, EMBEDDING), part(base, NORM)
        names = [n for n in base.state_dict() if n.startswith((f"{embedding}.", f"{norm}."))]
        read = checkpoint.tensors([f"{prefix}.{name}" for name in names], prefix)
        wanted = getattr(torch, dtype)
        tensors = {name: read[f"{prefix}.{name}"].to(wanted) for name in names}
        self.embedding, self.norm = getattr(base, embedding), getattr(base, norm)
        for kind, module in ((embedding, self.embedding), (norm, self.norm)):
            fill(
                module,
                {n.removeprefix(f"{kind}."): t for n, t in tensors.items() if n.startswith(f"{kind}.")},
            )
        self.head = whole.lm_head
        head = {"weight": tensors[f"{embedding}.weight"]}
        if checkpoint.holds("lm_head.weight"):
            head = {"weight": checkpoint.tensors(["lm_head.weight"], "")["lm_head.weight"].to(wanted)}
        fill(self.head, head)
        self._asked: list[tuple[Any, asyncio.Future[int]]] = []

    def embed(self, tokens: list[int]) -> Any:
        """[1, tokens, width] activations."""
        with self.torch.inference_mode():
            return self.embedding(self.torch.tensor([tokens], dtype=self.torch.long))

    def logits(self, hidden: Any) -> Any:
        """[1, tokens, vocabulary] from the last block's activations."""
        with self.torch.inference_mode():
            return self.head(self.norm(hidden.to(self.head.weight.dtype)))

    def greedy(self, hidden: Any) -> int:
        """The likeliest token after the last of the activations."""
        return int(self.logits(hidden[:, -1:])[0, -1].argmax())

    async def greedy_together(self, hidden: Any) -> int:
        """The same; what several sessions ask while the event loop is busy is calculated in one go, so that
        the head's weights are read once for all. Nobody waits for company."""
        loop = asyncio.get_running_loop()
        self._asked = [asked for asked in self._asked if asked[1].get_loop() is loop]
        future: asyncio.Future[int] = loop.create_future()
        self._asked.append((hidden[:, -1:], future))
        if len(self._asked) == 1:
            loop.call_soon(self._answer)
        return await future

    def _answer(self) -> None:
        asked, self._asked = [each for each in self._asked if not each[1].done()], []
        if not asked:
            return
        try:
            tokens = (
                self.logits(self.torch.cat([hidden for hidden, _ in asked], dim=1))[0].argmax(-1).tolist()
            )
        except Exception as error:
            for _, future in asked:
                future.set_exception(error)
            return
        for (_, future), token in zip(asked, tokens, strict=True):
            future.set_result(int(token))
