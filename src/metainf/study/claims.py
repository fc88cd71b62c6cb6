"""What the paper says, and what this project asked for, against the study's numbers. Pure.

A verdict is told only where the 95 % bounds that the spread between repeats leaves are on one side of the
bar. The paper's claims are those of its section 2.3 and Figure 2 (Llama 3.1 8B on L4 GPUs, 10 tokens out).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metainf.measure.recipes import CHUNK_TOKENS, PLAIN
from metainf.study.bench import Bench, Cell, Ratio, geometric_mean, is_all

Verdict = Literal["holds here", "does not hold here", "cannot be told"]
HOLDS: Verdict = "holds here"
FAILS: Verdict = "does not hold here"
OPEN: Verdict = "cannot be told"
CONTINUOUS_TIMES, PREFIX_TIMES = 13.0, 20.0
NOTICEABLE = 1.02
NO_CHUNKS = f"no cell with prompts of more than {CHUNK_TOKENS} tokens"
BAR_CONTINUOUS, BAR_IN_FLIGHT = 4.0, 16
BAR_PREFIX, BAR_WORKLOAD = 2.0, "shared_prefix_warm"


@dataclass(frozen=True)
class Finding:
    """A claim on one bench: what was measured, in words, and what follows."""

    claim: str
    bench: Bench
    measured: str
    verdict: Verdict


@dataclass(frozen=True)
class Bar:
    """A ratio that was asked for, in one cell."""

    bench: Bench
    cell: Cell
    ratio: Ratio | None
    verdict: Verdict


@dataclass(frozen=True)
class Tally:
    """Cells of one load in which everything together clearly beats every other method, clearly loses to one,
    or neither."""

    in_flight: int
    won: int
    lost: int
    level: int

    @property
    def cells(self) -> int:
        return self.won + self.lost + self.level


def findings(bench: Bench) -> list[Finding]:
    """The paper's four claims on one bench."""
    return [
        _all_wins_small(bench),
        _up_to(bench, "continuous", CONTINUOUS_TIMES, "continuous batching up to {:g}× over the baseline"),
        _up_to(bench, "prefix", PREFIX_TIMES, "prefix caching up to {:g}× over the baseline"),
        _chunks_help(bench),
    ]


def continuous_bars(bench: Bench, in_flight: int = BAR_IN_FLIGHT) -> list[Bar]:
    """Continuous batching over one at a time, for each workload with so many requests in flight."""
    cells = [cell for cell in bench.cells if cell.in_flight == in_flight]
    return [_bar(bench, cell, PLAIN, BAR_CONTINUOUS) for cell in cells]


def prefix_bars(bench: Bench) -> list[Bar]:
    """A warm prefix cache over the same batching without, on a beginning of 512 tokens, for each load."""
    cells = [cell for cell in bench.cells if cell.workload == BAR_WORKLOAD]
    return [_bar(bench, cell, "continuous", BAR_PREFIX, "prefix") for cell in cells]


def against(ratio: Ratio | None, bar: float) -> Verdict:
    """Whether a ratio reaches a bar, as far as its bounds tell."""
    if ratio is None or ratio.low < bar <= ratio.high:
        return OPEN
    return HOLDS if ratio.low >= bar else FAILS


def tally(bench: Bench, in_flight: int) -> Tally:
    """Admitted methods that switch everything on against the best of all other admitted ones."""
    won = lost = level = 0
    for cell in bench.cells:
        options = bench.options(cell)
        every = [name for name in options if is_all(name)]
        others = [name for name in options if not is_all(name)]
        if cell.in_flight != in_flight or not every or not others:
            continue
        pair = (max(names, key=lambda name: options[name]) for names in (every, others))
        found = bench.ratio(cell, *pair)
        assert found is not None
        won, lost = won + (found.low > 1), lost + (found.high < 1)
        level += found.low <= 1 <= found.high
    return Tally(in_flight, won, lost, level)


def in_words(ratio: Ratio) -> str:
    """2.31× (2.1–2.5)."""
    return f"{ratio.value:.2f}× ({ratio.low:.2f}–{ratio.high:.2f})"


def _bar(bench: Bench, cell: Cell, under: str, bar: float, method: str = "continuous") -> Bar:
    ratio = bench.ratio(cell, method, under)
    return Bar(bench, cell, ratio, against(ratio, bar))


def _all_wins_small(bench: Bench) -> Finding:
    claim = "everything together wins at small batches, single methods at large ones"
    tallies = [each for level in bench.levels if (each := tally(bench, level)).cells]
    most = max((each.cells for each in tallies), default=0)
    tallies = [each for each in tallies if 2 * each.cells >= most]
    if len(tallies) < 2:
        found = (
            "an admitted method with everything on was measured at " + ("one load", "no load")[not tallies]
        )
        return Finding(claim, bench, f"{found}, and two are needed", OPEN)
    small, large = tallies[0], tallies[-1]
    measured = "; ".join(
        f"with {each.in_flight} in flight it clearly wins {each.won} of {each.cells} workloads and clearly "
        f"loses {each.lost}"
        for each in (small, large)
    )
    if 2 * small.won > small.cells and 2 * large.lost > large.cells:
        return Finding(claim, bench, measured, HOLDS)
    fails = 2 * small.lost >= small.cells or 2 * large.won >= large.cells
    return Finding(claim, bench, measured, FAILS if fails else OPEN)


def _up_to(bench: Bench, method: str, times: float, claim: str) -> Finding:
    found = [(ratio, cell) for cell in bench.cells if (ratio := bench.ratio(cell, method, PLAIN)) is not None]
    said = claim.format(times)
    if not found:
        return Finding(said, bench, f"no cell has both {method} and {PLAIN}", OPEN)
    best, cell = max(found, key=lambda each: each[0].value)
    measured = f"at most {in_words(best)}, on {cell.workload} with {cell.in_flight} in flight"
    if method == "prefix" and (alone := bench.ratio(cell, method, "continuous")) is not None:
        measured += f"; there {in_words(alone)} over the same batching without the cache"
    if not bench.admitted(method):
        measured += f"; {method} is not admitted here"
    return Finding(said, bench, measured, against(best, times))


def _chunks_help(bench: Bench) -> Finding:
    """Where prompts are longer than a chunk: noticeable, and less than batching and prefix caching gain."""
    claim = "chunked prefill helps noticeably, less than batching and prefix caching"
    pairs = (("chunked", "continuous"), ("continuous", PLAIN), ("prefix", "continuous"))
    cells = [
        cell
        for cell in bench.cells
        if bench.ratio(cell, "chunked", "continuous") is not None
        and (cell.longest_prompt is None or cell.longest_prompt > CHUNK_TOKENS)
    ]
    mean, *rivals = (_mean(bench, cells, *pair) for pair in pairs)
    if mean is None:
        return Finding(claim, bench, f"{NO_CHUNKS} has both chunked and continuous", OPEN)
    count = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
    measured = f"{in_words(mean)} over the same batching in whole prompts, mean of {count}"
    if all(cell.longest_prompt is not None for cell in cells):
        measured += f" with prompts of more than {CHUNK_TOKENS} tokens"
    named = zip(("batching", "the prefix cache"), rivals, strict=True)
    beside = [f"{name} {in_words(ratio)}" for name, ratio in named if ratio is not None]
    if beside:
        measured += f"; in the same cells {', '.join(beside)}"
    if mean.high < NOTICEABLE or any(ratio is not None and ratio.high < mean.low for ratio in rivals):
        return Finding(claim, bench, measured, FAILS)
    clear = mean.low > 1 and mean.value >= NOTICEABLE
    less = all(ratio is not None and ratio.low > mean.high for ratio in rivals)
    return Finding(claim, bench, measured, HOLDS if clear and less else OPEN)


def _mean(bench: Bench, cells: Sequence[Cell], method: str, other: str) -> Ratio | None:
    return geometric_mean([r for cell in cells if (r := bench.ratio(cell, method, other)) is not None])
