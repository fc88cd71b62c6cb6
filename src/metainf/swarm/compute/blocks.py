"""Blocks of a model, run with PyTorch: some layers on a node, the two ends (embedding, head) at the client.

A span is the library's own model made with only that many layers, so that masks, positions and caches are the
library's. Only the tensors of the span are read. Every session has a KV cache of its own.
"""

import copy
import inspect
import math
from dataclasses import dataclass
from typing import Any

from metainf.domain import BadInput, MissingExtra
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.words import Span

EMBEDDING, NORM, LAYERS = ("embed_tokens", "wte"), ("norm", "ln_f"), ("layers", "h")
POSITIONS = "wpe"
MOST_SESSIONS, MOST_TOKENS = 256, 8192


class WrongPosition(BadInput):
    """A step that does not follow the one before; `expected` is the position that would."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        super().__init__(f"expected the step at position {expected}, found {found}: send the history again")


class NoRoom(BadInput):
    """The node holds as many sessions or tokens as it may."""


@dataclass
class _Session:
    cache: Any
    position: int = 0


class Blocks:
    """Layers [start, end) of a checkpoint, with the caches of the sessions that go through them."""

    def __init__(
        self, checkpoint: Checkpoint, span: Span, dtype: str = "float32", most_tokens: int = MOST_TOKENS
    ) -> None:
        """Read the span's weights. Raises BadInput for blocks that the model lacks, MissingExtra."""
        torch = _torch()
        if span.end > checkpoint.num_blocks:
            raise BadInput(f"expected blocks within [0, {checkpoint.num_blocks}), found {span}")
        self.span, self.torch, self.most_tokens = span, torch, most_tokens
        self.config = _config(checkpoint, span)
        self.dtype = getattr(torch, dtype)
        whole, base = _skeleton(self.config)
        layers = _part(base, LAYERS)
        prefix = whole.base_model_prefix
        names = [name for name in base.state_dict() if name.startswith(f"{layers}.")]
        there = {name: f"{prefix}.{_shifted(name, span.start)}" for name in names}
        if hasattr(base, POSITIONS):
            _positions(base, span, there, prefix)
        read = checkpoint.tensors(there.values(), prefix)
        setattr(base, _part(base, EMBEDDING), None)
        setattr(base, _part(base, NORM), torch.nn.Identity())
        self.bytes = _fill(base, {name: read[far].to(self.dtype) for name, far in there.items()})
        _rotary(base, self.config)
        self.base = base.eval()
        self.cache_word = cache_word(base)
        self.sessions: dict[str, _Session] = {}

    @property
    def hidden_size(self) -> int:
        """Width of an activation."""
        return int(self.config.hidden_size)

    @property
    def tokens(self) -> int:
        """Positions in all caches."""
        return sum(session.position for session in self.sessions.values())

    def step(self, session: str, position: int, hidden: Any) -> Any:
        """Run [1, tokens, width] activations of one session, which begin at `position`; the same shape back.

        A session begins at position 0. Raises WrongPosition, NoRoom, and BadInput for another shape or for
        numbers that are not finite.
        """
        self._check(hidden)
        kept = self.sessions.get(session)
        expected = kept.position if kept is not None else 0
        if position == 0 and kept is not None:
            self.close(session)
            kept, expected = None, 0
        if position != expected:
            raise WrongPosition(expected, position)
        count = int(hidden.shape[1])
        if self.tokens + count > self.most_tokens:
            raise NoRoom(
                f"expected at most {self.most_tokens:,} tokens in all caches, {self.tokens:,} are held"
            )
        if kept is None:
            if len(self.sessions) >= MOST_SESSIONS:
                raise NoRoom(f"expected at most {MOST_SESSIONS} sessions")
            kept = _Session(_new_cache(self.config))
        made = self._run(session, kept.cache, hidden)
        kept.position += count
        self.sessions[session] = kept
        return made

    def _run(self, session: str, cache: Any, hidden: Any) -> Any:
        """A pass that breaks in the middle leaves no cache that is half written."""
        word = {self.cache_word: cache}
        try:
            with self.torch.inference_mode():
                return self.base(
                    inputs_embeds=hidden.to(self.dtype), use_cache=True, **word
                ).last_hidden_state
        except Exception as error:
            self.close(session)
            if isinstance(error, MemoryError | self.torch.OutOfMemoryError):
                raise NoRoom("out of memory: the session is dropped") from None
            raise

    def close(self, session: str) -> None:
        """Forget a session; unknown ones are no error."""
        self.sessions.pop(session, None)

    def _check(self, hidden: Any) -> None:
        shape = tuple(hidden.shape)
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != self.hidden_size:
            raise BadInput(f"expected activations of [1, tokens, {self.hidden_size}], found {list(shape)}")
        if not bool(self.torch.isfinite(hidden).all()):
            raise BadInput("expected finite activations, found NaN or infinity")


class Ends:
    """What the client holds: tokens to activations before the first block, activations to logits after the
    last."""

    def __init__(self, checkpoint: Checkpoint, dtype: str = "float32") -> None:
        torch = _torch()
        self.torch = torch
        config = _config(checkpoint, Span(start=0, end=1))
        whole, base = _skeleton(config)
        prefix = whole.base_model_prefix
        embedding, norm = _part(base, EMBEDDING), _part(base, NORM)
        names = [n for n in base.state_dict() if n.startswith((f"{embedding}.", f"{norm}."))]
        read = checkpoint.tensors([f"{prefix}.{name}" for name in names], prefix)
        wanted = getattr(torch, dtype)
        setattr(base, _part(base, LAYERS), torch.nn.ModuleList())
        tensors = {name: read[f"{prefix}.{name}"].to(wanted) for name in names}
        self.embedding, self.norm = getattr(base, embedding), getattr(base, norm)
        for part, module in ((embedding, self.embedding), (norm, self.norm)):
            _fill(
                module,
                {n.removeprefix(f"{part}."): t for n, t in tensors.items() if n.startswith(f"{part}.")},
            )
        self.head = whole.lm_head
        head = {"weight": tensors[f"{embedding}.weight"]}
        if checkpoint.holds("lm_head.weight"):
            head = {"weight": checkpoint.tensors(["lm_head.weight"], "")["lm_head.weight"].to(wanted)}
        _fill(self.head, head)

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


def _torch() -> Any:
    try:
        import torch
        import transformers  # noqa: F401
    except ImportError:
        raise MissingExtra("running blocks of a model", "swarm") from None
    return torch


def _config(checkpoint: Checkpoint, span: Span) -> Any:
    """The model's configuration with only the span's layers."""
    from transformers import AutoConfig

    config = copy.deepcopy(AutoConfig.from_pretrained(checkpoint.folder))
    kinds = getattr(config, "layer_types", None)
    config.num_hidden_layers = len(span)
    if kinds:
        config.layer_types = list(kinds[span.start : span.end])
    return config


def _skeleton(config: Any) -> tuple[Any, Any]:
    """The library's model without memory for its weights, and the part of it that holds the layers."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        whole = AutoModelForCausalLM.from_config(config)
    return whole, getattr(whole, whole.base_model_prefix)


def _part(base: Any, names: tuple[str, ...]) -> str:
    return next(name for name in names if hasattr(base, name))


def _shifted(name: str, start: int) -> str:
    """A layer's tensor name in the whole model: `layers.0.x` of a span from 4 is `layers.4.x`."""
    layers, number, rest = name.split(".", 2)
    return f"{layers}.{int(number) + start}.{rest}"


def _positions(base: Any, span: Span, there: dict[str, str], prefix: str) -> None:
    """Learnt positions are added before the first block only; later spans add zeros."""
    import torch

    class Nothing(torch.nn.Module):  # type: ignore[misc]
        def forward(self, positions: Any) -> Any:
            return torch.zeros(1, dtype=torch.float32)

    if span.start:
        setattr(base, POSITIONS, Nothing())
    else:
        there[f"{POSITIONS}.weight"] = f"{prefix}.{POSITIONS}.weight"


def _fill(module: Any, tensors: dict[str, Any]) -> int:
    """Give a skeleton its weights; returns their bytes. Raises BadInput where one has no memory yet."""
    module.load_state_dict(tensors, strict=False, assign=True)
    empty = [name for name, each in module.named_parameters() if each.is_meta]
    if empty:
        raise BadInput(f"these weights were not found: {', '.join(empty[:3])}")
    return sum(math.prod(each.shape) * each.element_size() for each in tensors.values())


def _rotary(base: Any, config: Any) -> None:
    """Rotary tables are computed, not stored: made anew with memory."""
    if hasattr(base, "rotary_emb"):
        base.rotary_emb = type(base.rotary_emb)(config=config)


def _new_cache(config: Any) -> Any:
    from transformers import DynamicCache

    return DynamicCache(config=config)


def cache_word(base: Any) -> str:
    """What this version of the library calls the cache."""
    names = inspect.signature(base.forward).parameters
    return "cache" if "cache" in names else "past_key_values"
