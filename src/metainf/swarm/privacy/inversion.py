"""Reading a prompt back from activations: matching over the vocabulary, as in arXiv 2505.18332.

The attacker is the node after the client's first k blocks. It knows the public weights and how the client
hides activations (but not the noise drawn, nor the order of permuted channels). It recovers one token after
another: candidates go, likeliest first by the same model's own forecast, through the k blocks behind the
prefix that was recovered already, and the one whose activation lies nearest wins.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.compute.codec import CODECS, MOST_TOKENS, packed, unpacked
from metainf.swarm.compute.skeleton import cache_word

BATCH, MOST_BATCH = 512, 2048
"""Candidates in one pass; each further pass takes twice as many, up to the most."""
EXACT = 1e-3
"""Relative distance up to which two calculations of the same activation may lie apart."""
SURE_SIGMAS, SURE_NATS = 5.0, 12.0
"""A noisy match ends the search where it is as near as the noise allows and leads by so much."""


@dataclass(frozen=True)
class Hiding:
    """What the client does to activations before they leave. `noise` is the standard deviation of Gaussian
    noise as a share of a token's RMS activation; `permuted` reorders channels by a secret of the session."""

    codec: str = "f32"
    noise: float = 0.0
    permuted: bool = False

    def __post_init__(self) -> None:
        if self.codec not in CODECS or not 0 <= self.noise < 1e6:
            raise BadInput(f"expected a codec of {', '.join(CODECS)} and a noise of 0 or more, found {self}")

    def __str__(self) -> str:
        told = [self.codec] if self.codec != "f32" or not (self.noise or self.permuted) else []
        told += [f"noise {self.noise:g}"] if self.noise else []
        return " + ".join([*told, *(["permuted"] if self.permuted else [])])


@dataclass(frozen=True)
class Recovered:
    """What the attack found. `tried` counts candidates that went through the blocks."""

    tokens: tuple[int, ...]
    found: tuple[int, ...]
    tried: int

    @property
    def right(self) -> int:
        """Tokens that are right at their place."""
        return sum(a == b for a, b in zip(self.tokens, self.found, strict=True))


@dataclass(frozen=True)
class Attack:
    """On whom: a client that runs `blocks` blocks itself. `known`: tokens of a public chat template before
    the secret ones. `most` bounds the candidates tried for a token; by default it is the whole vocabulary."""

    blocks: int
    hiding: Hiding = Hiding()
    known: int = 0
    most: int | None = None
    seed: int = 0


class Attacker:
    """The public model, whole and cut behind its first blocks."""

    def __init__(self, folder: Path) -> None:
        """Raises MissingExtra."""
        try:
            import torch
            from transformers import AutoModelForCausalLM
        except ImportError:
            raise MissingExtra("the inversion attack", "swarm") from None
        self.torch = torch
        self.model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.base = self.model.base_model
        self.word = cache_word(self.model)
        if not hasattr(self.base, "layers"):
            raise BadInput("expected a model whose blocks are `layers`, as Llama's")
        self.num_blocks = len(self.base.layers)
        self.vocabulary = int(self.base.embed_tokens.weight.shape[0])

    def first(self, blocks: int) -> Any:
        """The model up to there, without a norm behind it; the weights are shared. Raises BadInput."""
        if not 0 <= blocks <= self.num_blocks:
            raise BadInput(f"expected 0 to {self.num_blocks} blocks, found {blocks}")
        cut = copy.copy(self.base)
        cut._modules = dict(self.base._modules)
        cut.config = copy.copy(self.base.config)
        cut.config.num_hidden_layers = blocks
        cut.layers = self.torch.nn.ModuleList(list(self.base.layers)[:blocks])
        cut.norm = self.torch.nn.Identity()
        return cut

    def seen(self, tokens: Sequence[int], blocks: int, hiding: Hiding, seed: int = 0) -> Any:
        """[tokens, width]: what the attacker gets."""
        with self.torch.inference_mode():
            sent = self.first(blocks)(self.torch.tensor([list(tokens)]), use_cache=False).last_hidden_state[0]
        return self.torch.from_numpy(hidden_as(sent.numpy(), hiding, seed))

    def recovered(self, tokens: Sequence[int], attack: "Attack") -> Recovered:
        """Attack the activations of `tokens`, which serve only to make what is attacked, and to count. Those
        that the attacker knows already are not counted."""
        seen = self.seen(tokens, attack.blocks, attack.hiding, attack.seed)
        search = _Search(self, self.first(attack.blocks), attack.hiding, attack.most or self.vocabulary)
        for token in tokens[: attack.known]:
            search.take(token)
        found = [search.next(seen[at]) for at in range(attack.known, len(tokens))]
        return Recovered(tuple(tokens[attack.known :]), tuple(found), search.tried)


def hidden_as(sent: Any, hiding: Hiding, seed: int) -> Any:
    """[tokens, width] float32 as they leave the client."""
    rng = np.random.default_rng(seed)
    made = np.array(sent, dtype=np.float32)
    if hiding.noise:
        rms = np.sqrt((made**2).mean(axis=1, keepdims=True))
        made += hiding.noise * rms * rng.standard_normal(made.shape, dtype=np.float32)
    if hiding.permuted:
        made = made[:, rng.permutation(made.shape[1])]
    return _rounded(made, hiding.codec)


def _rounded(values: Any, codec: str) -> Any:
    """[tokens, width] as the other side of the wire reads them."""
    parts = []
    for at in range(0, len(values), MOST_TOKENS):
        shape, data = packed(values[None, at : at + MOST_TOKENS], codec)
        parts.append(unpacked(shape, codec, data)[0])
    return np.concatenate(parts)


class _Search:
    """Token by token, with the caches of what was found so far."""

    def __init__(self, attacker: Attacker, cut: Any, hiding: Hiding, most: int) -> None:
        self.attacker, self.cut, self.hiding, self.most = attacker, cut, hiding, most
        self.torch = attacker.torch
        self.near: Any = None
        self.far: Any = None
        self.prior = self.torch.zeros(attacker.vocabulary)
        self.tried = 0

    def next(self, seen: Any) -> int:
        """The token whose activation is the nearest."""
        with self.torch.inference_mode():
            token = self._best(seen)
        self.take(token)
        return token

    def take(self, token: int) -> None:
        """Go on behind this one."""
        word, one = self.attacker.word, self.torch.tensor([[token]])
        with self.torch.inference_mode():
            if self.cut.layers:
                self.near = getattr(self.cut(one, use_cache=True, **{word: self.near}), word)
            told = self.attacker.model(one, use_cache=True, **{word: self.far})
            self.prior = self.torch.log_softmax(told.logits[0, -1].float(), dim=-1)
        self.far = getattr(told, word)

    def _best(self, seen: Any) -> int:
        """By distance alone where activations are exact; with noise, the likeliest by noise and forecast."""
        order = self.prior.argsort(descending=True, stable=True)[: self.most]
        ids, scores, apart = [], [], []
        for batch in _batches(order):
            distance, noise = self._distances(batch, seen)
            ids.append(batch)
            apart.append(distance)
            scores.append(
                self.prior[batch] - distance**2 / (2 * noise**2) if self.hiding.noise else -distance
            )
            if self._sure(self.torch.cat(scores), self.torch.cat(apart), noise, len(seen)):
                break
        found = self.torch.cat(ids)
        self.tried += len(found)
        return int(found[self.torch.cat(scores).argmax()])

    def _sure(self, scores: Any, apart: Any, noise: Any, width: int) -> bool:
        best = int(scores.argmax())
        if not self.hiding.noise:
            return float(apart[best]) <= float(noise)
        near = float(noise) * (width**0.5 + SURE_SIGMAS / 2**0.5)
        second = scores.topk(min(2, len(scores))).values[-1]
        return float(apart[best]) <= near and float(scores[best] - second) >= SURE_NATS

    def _distances(self, batch: Any, seen: Any) -> tuple[Any, Any]:
        """To each candidate; and the noise of a channel, or how far equal ones may lie apart."""
        made = self._through(batch)
        if self.hiding.codec != "f32" and not (self.hiding.noise or self.hiding.permuted):
            made = self.torch.from_numpy(_rounded(made.numpy(), self.hiding.codec))
        if self.hiding.permuted:
            made, seen = made.sort(dim=1).values, seen.sort().values
        distance = (made - seen).norm(dim=1)
        if self.hiding.noise:
            power = float((seen**2).mean()) / (1 + self.hiding.noise**2)
            return distance, self.torch.tensor(self.hiding.noise * power**0.5)
        return distance, EXACT * seen.norm()

    def _through(self, batch: Any) -> Any:
        """[candidates, width] behind the recovered prefix."""
        count = len(batch)
        if not self.cut.layers:
            return self.cut.embed_tokens(batch)
        past = None
        if self.near is not None:
            past = copy.deepcopy(self.near)
            past.batch_repeat_interleave(count)
        told = self.cut(batch[:, None], use_cache=past is not None, **{self.attacker.word: past})
        return told.last_hidden_state[:, -1]


def _batches(order: Any) -> Iterator[Any]:
    at, size = 0, BATCH
    while at < len(order):
        yield order[at : at + size]
        at, size = at + size, min(size * 2, MOST_BATCH)
