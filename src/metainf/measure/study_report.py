"""The page of the study, written from its records and never by hand."""

from collections.abc import Mapping, Sequence

from metainf.domain import Record
from metainf.learn.report import table
from metainf.measure.study_choice import always, joint_races, races, single_best, wins
from metainf.measure.study_claims import (
    BAR_CONTINUOUS,
    BAR_IN_FLIGHT,
    BAR_PREFIX,
    BAR_WORKLOAD,
    HOLDS,
    Bar,
    continuous_bars,
    findings,
    in_words,
    prefix_bars,
)
from metainf.measure.study_grid import LEAST_AGREEMENT, Bench, benches, labels
from metainf.measure.study_tables import GATED, engine_section, number, share, times
from metainf.measure.study_told import provenance

THRESHOLDS = (0.0, 0.25, 0.5, 0.75, 0.9)
HEAD = """# The study: which method wins where

This page is written by `metainf study --report` from the study's records; none of its numbers is typed by
hand.

## How to read it

* A *cell* is one workload with a number of requests in flight. `baseline` is one request at a time. A method
  that is not named here is what `metainf measure` calls by that word; its batches hold all that are in
  flight.
* Throughput is output tokens per second, the median of repeats. Numbers in brackets are 95 % bounds that the
  spread between repeats leaves; nothing is called clear that this spread could explain. They say nothing of
  other machines, models or texts.
* *Agreement* is the share of greedy answers to eight short prompts, from their beginning on, that equals
  those of the baseline on the same engine. It is not merit: one other token ends it, and so may rounding.
  A method is *admitted* with an agreement of at least {least:g}, and without one only where no method of that
  engine has any. `{gated}` marks methods that are not admitted.
* The best of several noisy numbers is a little too high, so what choosing is worth is a little too high too.
"""
CHOOSING = """The fastest admitted method of each cell against one method for all cells: how many times as fast it is,
as a geometric mean. A method that failed in a cell counts as the baseline there. Methods that were tried in more
cells come first.
"""


def page(
    records: Sequence[Record],
    figures: Mapping[str, str] | None = None,
    least_agreement: float = LEAST_AGREEMENT,
) -> str:
    """Markdown of the study's records. `figures`: paths by the labels of `metainf.measure.study_grid.labels`.

    Raises BadInput where no record is of a named workload at a number of requests in flight.
    """
    held = benches(records, least_agreement)
    named = list(zip(labels(held), held, strict=True))
    parts = [HEAD.format(least=least_agreement, gated=GATED), "## In short\n", _short(named)]
    parts += ["## What the paper says, and what is seen here\n", _claims(named)]
    parts += ["## What was asked for\n", _bars(named)]
    parts += [
        "## What choosing is worth\n",
        CHOOSING,
        *(_choice(name, bench) for name, bench in named),
        _joint(named),
    ]
    parts += [_thresholds(records, named)]
    parts += [engine_section(name, bench, (figures or {}).get(name)) for name, bench in named]
    parts += ["## How it was measured\n", provenance(records, named)]
    return "\n".join(part for part in parts if part)


def _short(named: Sequence[tuple[str, Bench]]) -> str:
    lines = []
    for name, bench in named:
        won, held = wins(bench), races(bench)
        if not held:
            lines.append(f"* {name}: no cell has two admitted methods to choose from.")
            continue
        said = f"* {name}: {_count(len(held), 'cell')}; "
        said += f"{_count(len(won), 'method')} of {len(bench.methods)} the fastest admitted one somewhere"
        best = single_best(held)
        if best is not None:
            said += (
                f"; the best of each cell is {times(best.loss)} as fast as always `{best.option}`, the best "
                "single choice (geometric mean)"
            )
        lines.append(f"{said}.")
    return "\n".join(lines) + "\n"


def _claims(named: Sequence[tuple[str, Bench]]) -> str:
    rows = [
        (found.claim, name, found.measured, f"**{found.verdict}**")
        for found_of in zip(
            *([(name, each) for each in findings(bench)] for name, bench in named), strict=True
        )
        for name, found in found_of
    ]
    intro = (
        "The paper's numbers (its section 2.3 and Figure 2) are of Llama 3.1 8B and others on L4 GPUs with "
        "outputs of at most 10 tokens. Its *all* is continuous batching, prefix caching and chunked prefill; "
        "here it also guesses tokens by lookup where the engine can, is compared with the other methods where "
        "both are admitted, and "
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
        reached = f"Clearly reached in {count} of {_count(len(rows), 'cell')}" if rows else "Not measured"
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


def _choice(name: str, bench: Bench) -> str:
    held = races(bench)
    if not held:
        return ""
    won = {each.option: each for each in wins(bench)}
    rows = [
        (
            each.option,
            f"{won[each.option].wins} ({won[each.option].clear})" if each.option in won else "0",
            times(each.loss),
            f"{each.cells} of {len(held)}",
            str(each.failed),
        )
        for each in always(held)
    ]
    head = (
        "always",
        "fastest in (clearly)",
        "best of each cell is",
        "tried in cells",
        "failed in",
    )
    return f"### {name}\n\n{table(head, rows)}\n{_ungated(bench)}"


def _ungated(bench: Bench) -> str:
    """What the gate costs: the fastest without it."""
    rows = []
    for cell in bench.cells:
        gated, free = bench.best(cell), bench.best(cell, gate=False)
        if gated is not None and free is not None and gated != free:
            more = cell.rates[free] / cell.rates[gated]
            rows.append(
                (cell.workload, str(cell.in_flight), gated, free, times(more), share(bench.agreement[free]))
            )
    if not bench.judged:
        return "No answers were compared on this engine, so nothing is held back for its quality.\n"
    if not rows:
        return "Without the quality gate the fastest method of every cell is the same.\n"
    head = ("workload", "in flight", "fastest admitted", "fastest of all", "faster by", "its agreement")
    return (
        f"Without the quality gate the fastest differs in {_count(len(rows), 'cell')}:\n\n{table(head, rows)}"
    )


def _joint(named: Sequence[tuple[str, Bench]]) -> str:
    """Engine and method chosen together, where engines ran the same model on the same machine."""
    parts = []
    groups: dict[tuple[str, str], list[tuple[str, Bench]]] = {}
    for name, bench in named:
        groups.setdefault((bench.model, bench.hardware), []).append((name, bench))
    for (model, hardware), together in groups.items():
        shared = joint_races(together)
        if not shared:
            continue
        rows = [
            (
                each.option,
                str(each.wins),
                times(each.loss),
                f"{each.cells} of {len(shared)}",
                str(each.failed),
            )
            for each in always(shared)
        ]
        head = ("always", "fastest in", "best of each cell is", "tried in cells", "failed in")
        engines = ", ".join(name for name, _ in together)
        said = (
            "Cells that were measured on more than one of them; agreement is with each engine's own baseline."
        )
        parts.append(f"### Engine and method together: {engines} ({model}, {hardware})\n\n{said}\n\n")
        parts.append(table(head, rows))
    return "".join(parts)


def _thresholds(records: Sequence[Record], named: Sequence[tuple[str, Bench]]) -> str:
    """How the answer depends on the quality gate."""
    rows = []
    for least in THRESHOLDS:
        for (name, _), bench in zip(named, benches(records, least), strict=True):
            best = single_best(races(bench))
            out = [f"`{method}`" for method in bench.methods if not bench.admitted(method)]
            loss = None if best is None else times(best.loss)
            rows.append((number(least), name, ", ".join(out) or "none", best and f"`{best.option}`", loss))
    head = (
        "least agreement",
        "engine",
        "not admitted",
        "best single choice",
        "best of each cell is",
    )
    return f"### How much hangs on the quality gate\n\n{table(head, rows)}"


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
