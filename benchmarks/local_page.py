"""The words and tables of docs/closing_the_loop.md; `bench_local` measures what they hold."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from planning_page import interval, lines

BAR = 1.3
GOAL_REGRET, GOAL_SHARE = 0.03, 0.15


def known_lines(found: Sequence[Any]) -> str:
    """Top-1 and regret of `Learnt`s."""
    rows = []
    for one in found:
        low, high = interval(one.regret)
        told = f"{one.regret.mean():.3f}" + (f" ({low:.3f} to {high:.3f})" if len(one.regret) > 1 else "")
        rows.append([one.group, one.before, one.way, f"{one.share:.0%}", f"{one.top.mean():.0%}", told])
    return lines(("choice of", "known before", "runs known", "share", "top-1", "regret"), rows)


def tune_lines(found: Sequence[Any]) -> str:
    """Regret and share of runs of `Searched`s."""
    rows = []
    for one in found:
        regret = np.mean([tune.regret for tune in one.tunes], axis=0)
        low, high = interval(regret)
        share = float(np.mean([tune.share for tune in one.tunes]))
        goal = "yes" if regret.mean() <= GOAL_REGRET and share <= GOAL_SHARE else "no"
        told = f"{regret.mean():.3f} ({low:.3f} to {high:.3f})"
        least = f"{np.mean([tune.least for tune in one.tunes]):.0%}"
        rows.append([one.group, one.before, one.way, told, f"{share:.0%}", least, goal])
    head = ("choice of", "known before", "tasks", "regret", "share of runs", "one run of each", "goal")
    return lines(head, rows)


def trained_lines(found: Sequence[Any]) -> str:
    """Choices and numbers of `Judged`s."""
    rows = []
    for one in found:
        low, high = interval(one.regret)
        regret = f"{one.regret.mean():.3f} ({low:.3f} to {high:.3f})"
        factor = f"{np.exp(np.median(one.error)):.2f}"
        rows.append([one.group, one.by, f"{one.top.mean():.0%}", regret, factor, f"{one.inside.mean():.0%}"])
    head = ("choice of", "predicted by", "top-1", "regret", "median error, as a factor", "within 90 %")
    return lines(head, rows)


def fixed_lines(group: str, given: Any, every: Sequence[Any], found: Sequence[Any]) -> str:
    """Every method as the only one against what `tune` chose, and whether the bar is reached."""
    best = np.array([given.truth[(given.where.task == t) & given.works].max() for t in range(given.tasks)])
    rows, least = [], [np.inf] * len(found)
    for one in every:
        there = np.isfinite(one.log_value)
        told = []
        for i, search in enumerate(found):
            gains = np.mean([tune.log_value for tune in search.tunes], axis=0) - one.log_value
            low, high = np.exp(interval(gains[there]))
            ratio = float(np.exp(gains[there].mean()))
            told.append(f"{ratio:.2f} ({low:.2f} to {high:.2f})")
            if one.admitted and there.all():
                least[i] = min(least[i], ratio)
        name = one.name[1] if len(given.engines) == 1 else f"{one.name[0]}: {one.name[1]}"
        most = float(np.exp(np.mean(best[there] - one.log_value[there])))
        mark = "" if one.admitted else " †"
        rows.append((most, [f"{name}{mark}", f"{one.ran} of {int(there.sum())}", f"{most:.2f}", *told]))
    head = ("always", "ran in tasks", "best of each task", *(f"tune, {o.before}, {o.way}" for o in found))
    body = lines(head, [row for _, row in sorted(rows, key=lambda pair: pair[0])])
    verdicts = "; ".join(
        f"{o.before}, {o.way}: {ratio:.2f}, {'reached' if ratio >= BAR else 'missed'}"
        for o, ratio in zip(found, least, strict=True)
    )
    return f"### {group}\n\n{body}\n\nThe least of them, for the bar of {BAR}: {verdicts}.\n"


PAGE = """# The loop closes: choosing better from one machine's own runs

Written by `python benchmarks/bench_local.py --write docs/closing_the_loop.md` from the study that ships; no
number is typed by hand. It holds {records} runs ({failed} failed) on {machines}. A task is a model, a
workload and a number of requests in flight; its value is output tokens per second; repeats are merged by
their median. Methods go by the recipes of [study.md](study.md), and what may win is what that page admits:
a quality of at least {least}.

{facts}

## What own runs teach

Choices with none, a tenth and half of the runs known. *The forecast* is the shipped predictor's number, which
never saw this machine; it knows neither the engine's history on such a device nor the device's bandwidth, so
`metainf select` does not show it, and `tune` takes of it only how methods compare. *Nothing* starts without.
*The other workloads* is what all runs of all other workloads of the study teach when they are taken for
another machine's. *Random runs* are any runs; *whole tasks* are all runs of some tasks, judged on the others
alone; *planner* picks one after the other, as [planning.md](planning.md) tells. Top-1 counts a choice within
2 % of the best. Means over {seeds} splits (planner: {planner}); intervals are 95 % bootstrap over them.

{known}

## Training on own runs

`metainf train` keeps the runs of a store that this project's own measuring made, and corrects with them what
is predicted on their device. Without, `select` refuses these engines here. The table holds what is predicted
of a workload by the shipped predictor, and by the same with the runs of all *other* workloads. Median error
is that of the tokens per second: 2.00 means twice or half as much. On other devices {compared} predictions
were compared with and without own runs; they moved {moved}.

{trained}

## Tune

`tune` against measuring every method of every task. *Alone*: each task knows nothing but what is known
before. *One after the other*: the runs of earlier tasks are known. What does not keep the gate is a candidate
like the rest: a run of it counts and cannot win. The goal is at most 3 % regret with at most 15 % of the
runs; a winner was always run, so one run of each task is the least.

`metainf tune` knows *the forecast* before it runs anything, and where that is silent, the study (*the
other workloads*). On the study's own tasks the study would be the answer itself, so a judged workload is left
out of it, at every load. What is left is of the same machine and model, though it is taken for another
machine's; on another machine, or with another model, it will teach less. The stopping rule was chosen on the
public history ([planning.md](planning.md)), not here. Decided after an earlier study of this machine had been
seen: that a forecast speaks at all of engines and devices that its history does not know; that it is silent
of an engine that its history knows on GPUs alone (vLLM on a processor, where it misled); that the study is
not asked beside it (*both* ended searches early, on the wrong engine); that this machine's runs alone settle
how large effects are. Means over {tunes} orders; intervals are 95 % bootstrap over tasks.

{tune}

## Against always using one method

What `tune` chose over always using one method: geometric mean over the tasks, with 95 % bootstrap intervals
over them. A method that failed or was not run in a task counts as the baseline of its engine there. *Best of
each task* is the same for the best measured method of each task, which no choice can beat. † is not admitted,
and counts as the baseline wherever it ran. The bar is that `tune` is at least 1.3 times as fast as every
single method.

{fixed}
"""
