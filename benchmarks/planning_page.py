"""The words, tables and figure of docs/planning.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from planning import GRID, OURS, RANDOM
from tuning import Tuned

from metainf.learn.views import Floats

Curves = Mapping[tuple[str, str, str, str], Floats]
TENTH, HALF = GRID.tolist().index(0.1), GRID.tolist().index(0.5)
PRIORS = {"forecast": "MetaInf's forecast", "nothing": "nothing"}
COLOURS = {OURS: "#c1272d", RANDOM: "#5b6770"}


def interval(values: Floats) -> tuple[float, float]:
    """95 % bootstrap interval of a mean."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (2000, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    table = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*table, *("| " + " | ".join(row) + " |" for row in rows)])


def pooled(curves: Curves, prior: str, rule: str, source: str = "") -> Floats:
    """Curves of all seeds and machines of a source (n, shares); of all sources each source counts the same:
    their means."""
    if source:
        return np.concatenate([v for k, v in curves.items() if (k[0], k[2], k[3]) == (source, prior, rule)])
    names = dict.fromkeys(key[0] for key in curves if key[2] == prior)
    return np.array([pooled(curves, prior, rule, name).mean(axis=0) for name in names])


def goal_rows(curves: Curves, facts: Sequence[Mapping[str, Any]]) -> str:
    """For each source and prior: what the planner reaches with a tenth of the runs, random with half."""
    rows = []
    for prior, told in PRIORS.items():
        for source in dict.fromkeys(key[0] for key in curves if key[2] == prior):
            ours, other = (pooled(curves, prior, rule, source) for rule in (OURS, RANDOM))
            apart = ours[:, TENTH] - other[:, HALF]
            low, high = interval(apart)
            reached = np.flatnonzero(ours.mean(axis=0) <= other[:, HALF].mean())
            verdict = "reached" if apart.mean() <= 0 else "open" if low <= 0 else "**missed**"
            mine = [fact for fact in facts if fact["source"] == source]
            methods = float(np.mean([fact["methods"] for fact in mine]))
            rows.append([
                source, told, str(len(mine)), f"{methods:.1f}", f"{methods / 10:.2f}",
                *(f"{value:.3f}" for value in (ours[:, 0].mean(), other[:, TENTH].mean())),
                f"**{ours[:, TENTH].mean():.3f}**", f"{other[:, HALF].mean():.3f}",
                f"{apart.mean():+.3f} ({low:+.3f} to {high:+.3f})",
                f"{GRID[reached[0]]:.1%}" if len(reached) else "> 50 %", verdict,
            ])  # fmt: skip
    head = (
        "source", "known before", "studies", "methods of a task", "runs for each task at a tenth",
        "no run", "random, 10 %", "planner, 10 %", "random, 50 %", "planner 10 % − random 50 %",
        "planner needs", "goal",
    )  # fmt: skip
    return lines(head, rows)


def rule_rows(curves: Curves) -> str:
    """Every rule, means over sources."""
    rows = []
    shares = [GRID.tolist().index(share) for share in (0.02, 0.05, 0.1, 0.2, 0.5)]
    for prior, told in PRIORS.items():
        for rule in dict.fromkeys(key[3] for key in curves):
            mean = pooled(curves, prior, rule).mean(axis=0)
            rows.append(
                [
                    told,
                    f"**{rule}**" if rule == OURS else rule,
                    *(f"{mean[i]:.4f}" if np.isfinite(mean[i]) else "–" for i in shares),
                ]
            )
    return lines(("known before", "rule", *(f"{GRID[i]:.0%} of runs" for i in shares)), rows)


def tune_rows(found: Mapping[tuple[str, str, str], Sequence[Tuned]]) -> str:
    """Regret and share of runs of `tune`."""
    rows = []
    for (source, prior, history), parts in found.items():
        regret = np.concatenate([part.regret for part in parts])
        low, high = interval(regret)
        share = float(np.mean([part.share for part in parts]))
        met = "yes" if regret.mean() <= 0.03 and share <= 0.15 else "no"
        rows.append([
            source, PRIORS[prior], history, f"{regret.mean():.3f} ({low:.3f} to {high:.3f})", f"{share:.0%}",
            f"{np.mean([part.least for part in parts]):.0%}", met,
        ])  # fmt: skip
    head = ("source", "known before", "tasks", "regret", "share of runs", "one run of each", "goal")
    return lines(head, rows)


def figure(curves: Curves, path: Path) -> None:
    """Mean regret against the share of runs known, with and without a forecast."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.hashsalt": "metainf", "svg.fonttype": "none", "font.size": 8})
    from matplotlib import pyplot

    pictured, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, (prior, told) in zip(axes, PRIORS.items(), strict=True):
        for rule in dict.fromkeys(key[3] for key in curves):
            every = pooled(curves, prior, rule)
            strong = rule in COLOURS
            colour = {"color": COLOURS[rule]} if strong else {}
            line = axis.plot(
                100 * GRID, every.mean(axis=0), label=rule, linewidth=2 if strong else 0.9,
                linestyle="-" if strong else "--", **colour,
            )[0]  # fmt: skip
            if strong:
                low, high = band(curves, prior, rule)
                axis.fill_between(100 * GRID, low, high, alpha=0.15, color=line.get_color(), linewidth=0)
        half = pooled(curves, prior, RANDOM).mean(axis=0)[HALF]
        axis.axhline(half, color=COLOURS[RANDOM], linewidth=0.6, linestyle=":")
        axis.axvline(10, color="#b0b4ba", linewidth=0.6, linestyle=":")
        axis.set(title=f"before any run: {told}", xlabel="runs known, % of all", xscale="symlog")
        axis.set_xticks([0, 1, 2, 5, 10, 20, 50], ["0", "1", "2", "5", "10", "20", "50"])
        axis.set_ylim(bottom=0)
    axes[0].set_ylabel("mean regret of the choices")
    axes[1].legend(fontsize=7)
    pictured.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(pictured)


def band(curves: Curves, prior: str, rule: str) -> tuple[Floats, Floats]:
    """95 % bootstrap band of the mean over sources; machines and seeds are drawn inside each source."""
    rng = np.random.default_rng(0)
    drawn = []
    for source in dict.fromkeys(key[0] for key in curves if key[2] == prior):
        rows = pooled(curves, prior, rule, source)
        drawn.append(rows[rng.integers(0, len(rows), (1000, len(rows)))].mean(axis=1))
    low, high = np.quantile(np.mean(drawn, axis=0), (0.025, 0.975), axis=0)
    return low, high


PAGE = """# Which runs to measure next

Written by `python benchmarks/bench_plan.py --store HISTORY --write docs/planning.md`; no number is typed by
hand. HISTORY holds the public records.

`metainf measure --plan N` and `metainf tune` decide what to run by what the result could change. A Gaussian
process over methods in tasks (`learn/local.py`) starts from the forecast, or from nothing, and learns from
this machine's own runs. A run is worth what the choices of all tasks are expected to gain by it (the
knowledge gradient, `measure/beliefs.py`), times the chance that it works, per second.

## A tenth of the runs

One machine of the public history at a time is "this machine". The forecast is trained on the other machines
of its source (no row of the machine, nor one that repeats its values; lhl_strix_halo is a machine alone, so
it has none). Tasks have at least three methods. Each study is sampled {seeds} times: at most {tasks} tasks by
chance; a run shows one of the measured repeats, the truth is their median; every run costs the same. After
each run the process is asked for the best method of every task. All rules share that process: what differs is
only which run comes next. Regret is 1 − value/best. The goal is that the planner with 10 % of the runs is no
worse than random picking with 50 %: *reached* where its mean is no higher, *open* where it is higher but the
95 % bootstrap interval of the difference (over machines and samples) holds 0, else *missed*. *Planner needs*
is the first share at which its mean is as low as that of random picking with half of the runs. Random picking
has the same process: what it knows after half of the runs is already much, so this is the strict reading.

{goal}

![Mean regret against the share of runs known](figures/plan_curve.svg)

The figure and the next table are means over sources, each counting the same.

{rules}

What bounds it: a tenth of the runs is mostly fewer than one run for each task (*runs for each task at a
tenth*), while half of them are two to four. Where the forecast is good, what is left are single tasks whose
best method breaks the pattern of the others, and such a task is found only by running it. Where nothing is
known before and a study is small (gpustack: 43 runs), the first runs go into learning which settings matter
at all. No rule is best everywhere: the expected improvement is good where a forecast exists and bad without
one; settling what is at stake is good early. The length scales of the process were set on four of the sources
(argonne, mlenergy_v3, sdwebui, spec_bench); the rule was chosen with all of them in view, so small
differences between rules prove nothing.

## Tune

`tune` searches the tasks of the same studies, against measuring every method of each: *alone*, knowing
nothing but the forecast; or *one after the other*, knowing the runs of the tasks before. A winner was always
really run, so one run of each task is the least; where tasks have few methods that alone is more than 15 %.
The goal is at most 3 % regret with at most 15 % of the runs.

{tune}

## When to stop

The rule to stop by, against truly different ones: each at several bars (natural logs of the value, but for
the methods that are counted), on the first {machines} machines of each source and {few} tasks of each. All go
on with the same runs. Cells are regret and share of the runs, means over sources; *slanted* is more than 3 %
regret. The row that counts one method is what one run of each task gives: no rule can do with less.

{stops}

The rule of `tune` and its bar were chosen by this table, and so was how much a forecast is trusted before any
run (a standard deviation of 0.1 of the effects that it leaves, where 0.3 is believed without one). So the
numbers of this table are those of a chosen rule, not of one held out. What was decided after a study of this
project had been seen is told in [closing_the_loop.md](closing_the_loop.md).
"""
