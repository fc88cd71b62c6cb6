"""A trace of requests -> Traffic: its timestamps, its lengths, its shared beginnings."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metainf.domain import BadInput
from metainf.importers.traces import BLOCK_TOKENS, TraceRow, trace_rows
from metainf.measure.prose import beginning, own_text
from metainf.measure.words import OpenLoop, Pacing, Request, Traffic

AT_ITS_TIMES = OpenLoop()


@dataclass(frozen=True)
class Replay:
    """How a trace is sent again.

    `requests`: the first so many. `speed_up`: 10 makes ten seconds of the trace one. `token_scale`: 0.1 makes
    a tenth of all lengths, blocks included. The longest beginnings are kept where `max_input_tokens` cuts.
    `pacing` other than an open loop ignores the timestamps.
    """

    requests: int | None = None
    speed_up: float = 1.0
    token_scale: float = 1.0
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    pacing: Pacing = AT_ITS_TIMES


ALL = Replay()


def of_trace(path: str | Path, rng: np.random.Generator, replay: Replay = ALL) -> Traffic:
    """The requests of a trace (see `importers.traces` for the formats), in the order of their arrival.

    - Rows out of order are sorted by time, those of one time stay in their order; then the first are taken.
    - The first of them leaves at 0. A pause in the trace stays a pause, divided by `speed_up`.
    - A row with `hash_ids` shares its beginning with all that have the same ones: the same hash is the same
      block of 512 tokens (times `token_scale`); what lies beyond its blocks is its own.
    - Without token counts the row's own text is sent, cut to `max_input_tokens` words.
    - Counts of 0 become 1: no server answers less.

    Raises BadInput for a trace that `trace_rows` refuses, for rows without output tokens, for an open loop
    without a time in every row (naming the first row that lacks one), for blocks in some rows only, and for
    factors or bounds that are not above zero.
    """
    _check(replay)
    rows = trace_rows(path)
    opened = isinstance(replay.pacing, OpenLoop)
    _complete(path, rows, "output tokens", lambda row: row.output_tokens)
    if opened:
        _complete(path, rows, "a time", lambda row: row.at_s)
        rows = sorted(rows, key=lambda row: row.at_s or 0.0)
    if any(row.blocks is not None for row in rows):
        _complete(path, rows, "hash_ids", lambda row: row.blocks)
    rows = rows[: replay.requests]
    start_s = rows[0].at_s or 0.0
    blocks = _Blocks(max(round(BLOCK_TOKENS * replay.token_scale), 1), int(rng.integers(1 << 31)))
    return Traffic(
        name=Path(path).stem,
        requests=tuple(
            Request(
                prompt=_prompt(row, number, replay, blocks, rng),
                output_tokens=_bounded(row.output_tokens or 0, replay.token_scale, replay.max_output_tokens),
                at_s=((row.at_s or 0.0) - start_s) / replay.speed_up if opened else None,
            )
            for number, row in enumerate(rows)
        ),
        pacing=replay.pacing,
        private=True,
    )


class _Blocks:
    """The text of each block: the same for the same hash, other from the first word on for another."""

    def __init__(self, tokens: int, seed: int) -> None:
        self.tokens, self._seed = tokens, seed
        self._texts: dict[int | str, str] = {}

    def text(self, name: int | str, tokens: int) -> str:
        """The block, or its first `tokens` tokens where a prompt ends within it."""
        if name not in self._texts:
            rng = np.random.default_rng((self._seed, zlib.crc32(str(name).encode())))
            self._texts[name] = own_text(rng, self.tokens, len(self._texts))
        whole = self._texts[name]
        return whole if tokens >= self.tokens else beginning(whole, tokens)


def _prompt(row: TraceRow, number: int, replay: Replay, blocks: _Blocks, rng: np.random.Generator) -> str:
    if row.input_tokens is None:
        return " ".join((row.content or "").split()[: replay.max_input_tokens])
    tokens = _bounded(row.input_tokens, replay.token_scale, replay.max_input_tokens)
    if not row.blocks:
        return own_text(rng, tokens, number)
    held, left = [], tokens
    for name in row.blocks:
        if left <= 0:
            break
        held.append(blocks.text(name, min(left, blocks.tokens)))
        left -= blocks.tokens
    if left > 0:
        held.append(own_text(rng, left, number))
    return " ".join(held)


def _bounded(tokens: float, scale: float, most: int | None) -> int:
    scaled = max(round(tokens * scale), 1)
    return scaled if most is None else min(scaled, most)


def _complete(path: str | Path, rows: list[TraceRow], what: str, of: Callable[[TraceRow], object]) -> None:
    missing = [number for number, row in enumerate(rows) if of(row) is None]
    if missing:
        raise BadInput(
            f"{path}: expected {what} in every row, found none in row {missing[0]} ({len(missing)} of "
            f"{len(rows)} rows lack it); fill or leave out such rows"
            + ("; or replay in a closed loop" if what == "a time" else "")
        )


def _check(replay: Replay) -> None:
    told = {
        "requests": replay.requests,
        "speed_up": replay.speed_up,
        "token_scale": replay.token_scale,
        "max_input_tokens": replay.max_input_tokens,
        "max_output_tokens": replay.max_output_tokens,
    }
    for name, value in told.items():
        if value is not None and not (np.isfinite(value) and value > 0):
            raise BadInput(f"{name}: expected a number above zero, found {value}")
