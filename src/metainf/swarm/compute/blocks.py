"""Blocks of a model, run with PyTorch: some layers on a node, the two ends (embedding, head) at the client.

A span is the library's own layers, called one after another; only their tensors are read. One pass takes
the steps of many sessions: their tokens stand behind one another, each session has a cache of its own.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metainf.domain import BadInput
from metainf.swarm.compute import quantized
from metainf.swarm.compute.caches import (
    MOST_SESSIONS,
    Cache,
    Layout,
    NoRoom,
    Room,
    budget,
    free_bytes,
    is_out_of_memory,
)
from metainf.swarm.compute.ends import Ends as Ends
from metainf.swarm.compute.positions import Learnt, Rotary, nothing
from metainf.swarm.compute.ragged import Row, Rows
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.skeleton import (
    LAYERS,
    POSITIONS,
    config_of,
    fill,
    needed_torch,
    part,
    rotary,
    skeleton,
)
from metainf.swarm.words import Span


class WrongPosition(BadInput):
    """A step that does not follow the one before; `expected` is the position that would."""

    def __init__(self, expected: int, found: int) -> None:
        self.expected = expected
        super().__init__(f"expected the step at position {expected}, found {found}: send the history again")


@dataclass(frozen=True)
class Step:
    """[1, tokens, width] activations of one session, which begin at `position`."""

    session: str
    position: int
    hidden: Any


class Blocks:
    """Layers [start, end) of a checkpoint, with the caches of the sessions that go through them. For one
    thread at a time."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        span: Span,
        dtype: str = "float32",
        quantization: str = "none",
        cache_bytes: int | None = None,
    ) -> None:
        """Read the span's weights; with "int8", those of linear layers are held so. `cache_bytes` bounds all
        caches; without it they may take half of the memory that is free once the weights are loaded.

        Raises BadInput for blocks that the model lacks and for an unknown quantization, MissingExtra.
        """
        torch = needed_torch()
        quantized.check(quantization)
        if span.end > checkpoint.num_blocks:
            raise BadInput(f"expected blocks within [0, {checkpoint.num_blocks}), found {span}")
        self.span, self.torch = span, torch
        self.config = config_of(checkpoint, span)
        self.dtype = getattr(torch, dtype)
        whole, base = skeleton(self.config)
        base.eval()
        prefix, name = whole.base_model_prefix, part(base, LAYERS)
        self.layers = list(getattr(base, name))
        self.bytes = sum(
            self._load(checkpoint, layer, f"{prefix}.{name}.{span.start + number}", prefix, quantization)
            for number, layer in enumerate(self.layers)
        )
        self.placed = self._places(checkpoint, base, prefix)
        self.room = Room(budget(free_bytes()) if cache_bytes is None else cache_bytes)
        self.sessions: dict[str, Cache] = {}
        self._first = 0

    def _load(self, checkpoint: Checkpoint, layer: Any, far: str, prefix: str, quantization: str) -> int:
        """One layer at a time, so that no second copy of the whole span is ever held."""
        names = list(layer.state_dict())
        read = checkpoint.tensors([f"{far}.{name}" for name in names], prefix)
        tensors = {name: read[f"{far}.{name}"] for name in names}
        if quantization == "int8":
            quantized.replaced(layer)
        return fill(layer, quantized.quantized(layer, tensors, self.dtype))

    def _places(self, checkpoint: Checkpoint, base: Any, prefix: str) -> Any:
        if not hasattr(base, POSITIONS):
            return Rotary(rotary(base, self.config), self.config)
        if self.span.start:
            return nothing
        name, positions = f"{prefix}.{POSITIONS}.weight", getattr(base, POSITIONS)
        self.bytes += fill(positions, {"weight": checkpoint.tensors([name], prefix)[name].to(self.dtype)})
        return Learnt(positions)

    def view(self, span: Span) -> "Blocks":
        """Some of these blocks: the same weights and the same room, sessions of their own.

        Raises BadInput where they are not among these.
        """
        if not self.span.start <= span.start < span.end <= self.span.end:
            raise BadInput(f"expected blocks within {self.span}, found {span}")
        begin = span.start - self.span.start
        same = copy.copy(self)
        same.span, same.sessions = span, {}
        same.layers = self.layers[begin : begin + len(span)]
        same._first = self._first + begin
        if isinstance(self.placed, Learnt) and span.start:
            same.placed = nothing
        return same

    @property
    def hidden_size(self) -> int:
        """Width of an activation."""
        return int(self.config.hidden_size)

    @property
    def tokens(self) -> int:
        """Positions in all caches."""
        return sum(cache.length for cache in self.sessions.values())

    @property
    def layout(self) -> Layout:
        config = self.config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return Layout(len(self.layers), int(heads), int(width), self.dtype, self.dtype.itemsize)

    @property
    def most_tokens(self) -> int:
        """Positions for which the caches have room in all."""
        return self.room.limit // self.layout.token_bytes

    @property
    def tokens_left(self) -> int:
        """Positions that would still fit into the caches."""
        return max(0, self.room.limit - self.room.held) // self.layout.token_bytes

    def step(self, session: str, position: int, hidden: Any) -> Any:
        """One session's step, alone. Raises what `steps` gives back."""
        (made,) = self.steps([Step(session, position, hidden)])
        if isinstance(made, Exception):
            raise made
        return made

    def steps(self, asked: Sequence[Step]) -> list[Any]:
        """Run the steps of several sessions, each named once, in one pass. Gives for each the activations
        after the span, in the same shape, or what went wrong with it, which harms no other: WrongPosition,
        NoRoom, BadInput for another shape or numbers that are not finite. A session begins at position 0.
        """
        made: list[Any] = [None] * len(asked)
        ready: list[int] = []
        for number, step in enumerate(asked):
            try:
                self._prepare(step)
                ready.append(number)
            except BadInput as error:
                made[number] = error
        for number, result in zip(ready, self._passed([asked[number] for number in ready]), strict=True):
            made[number] = result
        return made

    def close(self, session: str) -> None:
        """Forget a session; unknown ones are no error."""
        cache = self.sessions.pop(session, None)
        if cache is not None:
            cache.drop()
            self.room.sessions -= 1

    def _prepare(self, step: Step) -> None:
        """Check a step and make room for its tokens."""
        self.check(step.hidden)
        self._check_numbers(step.hidden)
        cache = self.sessions.get(step.session)
        expected = cache.length if cache is not None else 0
        if step.position == 0 and cache is not None:
            self.close(step.session)
            cache, expected = None, 0
        if step.position != expected:
            raise WrongPosition(expected, step.position)
        count = int(step.hidden.shape[1])
        most = getattr(self.placed, "most", None)
        if most is not None and expected + count > most:
            raise BadInput(f"expected at most {most} positions, as the model has learnt")
        if cache is None:
            if self.room.sessions >= MOST_SESSIONS:
                raise NoRoom(f"expected at most {MOST_SESSIONS} sessions")
            cache = Cache(self.layout, self.room)
            cache.reserve(count)
            self.sessions[step.session] = cache
            self.room.sessions += 1
        else:
            cache.reserve(count)

    def _passed(self, steps: Sequence[Step]) -> list[Any]:
        """What a pass gives, or why not. One that breaks is made again for each session alone: caches count
        only what a whole pass has written, so nothing is lost but time. Who breaks it alone is dropped."""
        if not steps:
            return []
        try:
            return self._pass(steps)
        except Exception as error:
            if len(steps) > 1:
                return [self._passed([step])[0] for step in steps]
            self.close(steps[0].session)
            if is_out_of_memory(error):
                return [NoRoom("out of memory: the session is dropped")]
            return [error]

    def _pass(self, steps: Sequence[Step]) -> list[Any]:
        torch, rows, begin = self.torch, [], 0
        for step in steps:
            count = int(step.hidden.shape[1])
            rows.append(Row(self.sessions[step.session], begin, count, step.position))
            begin += count
        with torch.inference_mode():
            parts = [step.hidden.to(self.dtype) for step in steps]
            hidden = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
            hidden, words = self.placed(hidden, rows)
            words["rows"] = Rows(rows, self._first)
            for layer in self.layers:
                hidden = layer(hidden, **words)
                hidden = hidden[0] if isinstance(hidden, tuple) else hidden
        for row in rows:
            row.cache.length = row.position + row.count
        return [hidden[:, row.begin : row.begin + row.count] for row in rows]

    def check(self, hidden: Any) -> None:
        """Raises BadInput for activations that are not [1, tokens, width]."""
        shape = tuple(hidden.shape)
        if len(shape) != 3 or shape[0] != 1 or shape[1] < 1 or shape[2] != self.hidden_size:
            raise BadInput(f"expected activations of [1, tokens, {self.hidden_size}], found {list(shape)}")

    def _check_numbers(self, hidden: Any) -> None:
        try:
            least, largest = self.torch.aminmax(hidden)
            finite = math.isfinite(float(least)) and math.isfinite(float(largest))
        except (MemoryError, RuntimeError) as error:
            raise (NoRoom("out of memory") if is_out_of_memory(error) else error) from None
        if not finite:
            raise BadInput("expected finite activations, found NaN or infinity")
