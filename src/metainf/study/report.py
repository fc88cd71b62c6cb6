"""The page of the study, written from its records and never by hand."""

from collections.abc import Mapping, Sequence

from metainf.domain import Record
from metainf.learn.report import table
from metainf.measure.asked import LEAST_AGREEMENT
from metainf.measure.reference import ANSWER_TOKENS, REFERENCE
from metainf.study.bench import Bench, labels
from metainf.study.benches import benches
from metainf.study.choice import races, single_best, wins
from metainf.study.claims import (
    BAR_CONTINUOUS,
    BAR_IN_FLIGHT,
    BAR_PREFIX,
    BAR_WORKLOAD,
    HOLDS,
    Bar,
    Finding,
    continuous_bars,
    findings,
    in_words,
    prefix_bars,
)
from metainf.study.tables import GATED, counted, engine_section, times
from metainf.study.told import provenance
from metainf.study.worth import worth

HEAD = """# The study: which method wins where

This page is written by `metainf study show --report` from the study's records; none of its numbers is typed
by hand.

## How to read it

* A *cell* is one workload with a number of requests in flight. `baseline` is one request at a time. A method
  that is not named here is what `metainf measure` calls by that word; its batches hold all that are in
  flight.
* Throughput is output tokens per second, the median of repeats. Numbers in brackets are 95 % bounds that the
  spread between repeats leaves; nothing is called clear that this spread could explain. They say nothing of
  other machines, models or texts.
* *Agreement*: eight plain passages are broken off at {cuts} places in all, each is gone on with greedily by
  {tokens} tokens, and the share of these, from their beginning on, that equals the baseline's on the same
  engine is counted; where a machine has no such figure, that of the same engine and weights on another
  counts. It is not merit: where two tokens are nearly as good, rounding may decide between them. A
  method is *admitted* with an agreement of at least {least:g}, and without one only where no method of that
  engine has any. `{gated}` marks methods that are not admitted.
* The best of several noisy numbers is a little too high, so what choosing is worth is a little too high too.
"""


def page(
    records: Sequence[Record],
    figures: Mapping[str, str] | None = None,
    least_agreement: float = LEAST_AGREEMENT,
) -> str:
    """Markdown of the study's records. `figures`: paths by the labels of `metainf.study.bench.labels`.

    Raises BadInput where no record is of a named workload at a number of requests in flight.
    """
    held = benches(records, least_agreement)
    named = list(zip(labels(held), held, strict=True))
    parts = [_head(least_agreement), "## In short\n", _short(named)]
    parts += ["## What the paper says, and what is seen here\n", _claims(named)]
    parts += ["## What was asked for\n", _bars(named)]
    parts += ["## What choosing is worth\n", worth(records, named)]
    parts += [engine_section(name, bench, (figures or {}).get(name)) for name, bench in named]
    parts += ["## How it was measured\n", provenance(records, named)]
    return "\n".join(part for part in parts if part)


def _head(least: float) -> str:
    return HEAD.format(least=least, gated=GATED, cuts=len(REFERENCE), tokens=ANSWER_TOKENS)


def _short(named: Sequence[tuple[str, Bench]]) -> str:
    lines = []
    for name, bench in named:
        won, held = wins(bench), races(bench)
        if not held:
            lines.append(f"* {name}: no cell has two admitted methods to choose from.")
            continue
        said = f"* {name}: {counted(len(held), 'cell')}; "
        said += f"{counted(len(won), 'method')} of {len(bench.methods)} the fastest admitted one somewhere"
        best = single_best(held)
        if best is not None:
            said += (
                f"; the best of each cell is {times(best.loss)} as fast as always `{best.option}`, the best "
                "single choice (geometric mean)"
            )
        lines.append(f"{said}.")
    for made in _by_claim(named):
        verdicts: dict[str, list[str]] = {}
        for name, found in made:
            verdicts.setdefault(found.verdict, []).append(name)
        said = "; ".join(f"{verdict} ({', '.join(names)})" for verdict, names in verdicts.items())
        lines.append(f"* The paper: {made[0][1].claim}: {said}.")
    return "\n".join(lines) + "\n"


def _by_claim(named: Sequence[tuple[str, Bench]]) -> list[tuple[tuple[str, Finding], ...]]:
    """For each claim what was found on every bench."""
    return list(zip(*([(name, each) for each in findings(bench)] for name, bench in named), strict=True))


def _claims(named: Sequence[tuple[str, Bench]]) -> str:
    rows = [
        (found.claim, name, found.measured, f"**{found.verdict}**")
        for made in _by_claim(named)
        for name, found in made
    ]
    intro = (
        "The paper's numbers (its section 2.3 and Figure 2) are of Llama 3.1 8B and others on L4 GPUs with "
        "outputs of at most 10 tokens. Its *all* is continuous batching, prefix caching and chunked prefill; "
        "here it also guesses tokens by lookup where the engine can, is compared with the other methods "
        "where both are admitted, and "
        f"{_variants(named)}. Chunks and the prefix cache run on top of continuous batching.\n\n"
    )
    return intro + table(("the paper", "engine", "measured here", "verdict"), rows)


def _variants(named: Sequence[tuple[str, Bench]]) -> str:
    found = sorted({name for _, bench in named for name in bench.methods if name.partition("+")[0] == "all"})
    return f"was run as {', '.join(f'`{name}`' for name in found)}" if found else "was not run"


def _bars(named: Sequence[tuple[str, Bench]]) -> str:
    parts = []
    for title, bar, made in (
        (
            f"Continuous batching over one request at a time, {BAR_IN_FLIGHT} in flight: at least "
            f"{BAR_CONTINUOUS:g}×",
            BAR_CONTINUOUS,
            [(name, continuous_bars(bench)) for name, bench in named],
        ),
        (
            f"A warm prefix cache over the same batching without, on a beginning of 512 tokens "
            f"(`{BAR_WORKLOAD}`): at least {BAR_PREFIX:g}×",
            BAR_PREFIX,
            [(name, prefix_bars(bench)) for name, bench in named],
        ),
    ):
        rows = [row for name, bars in made for row in _bar_rows(name, bars)]
        count = sum(each.verdict == HOLDS for _, bars in made for each in bars)
        reached = f"Clearly reached in {count} of {counted(len(rows), 'cell')}" if rows else "Not measured"
        parts.append(f"**{title}.** {reached}.\n")
        if rows:
            parts.append(table(("engine", "workload", "in flight", "measured", f"reaches {bar:g}×"), rows))
    return "\n".join(parts)


def _bar_rows(name: str, bars: Sequence[Bar]) -> list[tuple[str, ...]]:
    words = {HOLDS: "yes", "does not hold here": "no"}
    return [
        (
            name,
            bar.cell.workload,
            str(bar.cell.in_flight),
            "not measured" if bar.ratio is None else in_words(bar.ratio),
            words.get(bar.verdict, bar.verdict),
        )
        for bar in bars
    ]
