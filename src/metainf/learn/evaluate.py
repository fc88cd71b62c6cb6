"""Judge choosers and learners on settings they have never seen.

Every fold leaves out whole groups (an architecture with all its aliases, a device type, a workload,
everything after a date, or what came between two dates). Each number comes with a bootstrap interval over
cells, since the options of one cell are not independent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, get_args

import numpy as np

from metainf.domain import BadInput
from metainf.learn import over_time, peers
from metainf.learn.accuracy import judged_metrics
from metainf.learn.asked import NO_CHOICE, VIEWS, Quality, views_of
from metainf.learn.contest import OURS, PEER_ENTRY, SERVING, Words, entries, side_of
from metainf.learn.forecast import Learner
from metainf.learn.learnt import Remembered
from metainf.learn.regression import Regression, boosted
from metainf.learn.runner import LEAST_CELLS, Ledger, Progress, Result, Task, run_all
from metainf.learn.splits import By
from metainf.learn.summary import bootstrap, section
from metainf.learn.table import TEXTS, Table
from metainf.learn.views import PEER, value_of

FOLDS = 8
"""A split with more groups than this deals whole groups to this many folds."""
PAPER = "XGBoost, classical"


@dataclass(frozen=True)
class Plan:
    """What to judge. No sources or choosers named: all of them.

    quality: views as listed for each source, or all with quality traded ("any") or kept ("same").
    jobs: processes. resume: a file that keeps finished parts, so that a killed run goes on. ray: the address
    of a Ray cluster whose nodes do the work instead.
    """

    sources: tuple[str, ...] = ()
    by: tuple[By, ...] = ("model", "hardware")
    choosers: tuple[str, ...] = ()
    quality: Quality = "listed"
    most_folds: int = FOLDS
    jobs: int = 1
    resume: Path | None = None
    ray: str | None = None


def plan_of(**fields: Any) -> Plan:
    """A plan from names as a person types them. Raises BadInput for a split or quality that is none."""
    for key in ("sources", "choosers"):
        fields[key] = tuple(fields.get(key, ()))
    if "by" in fields:
        fields["by"] = tuple(split_of(name) for name in fields["by"])
    if fields.get("quality", "listed") not in ("listed", "any", "same"):
        raise BadInput(f"expected quality listed, any or same, found {fields['quality']!r}")
    return Plan(**fields)


def split_of(text: str) -> By:
    """The split of a name. Raises BadInput for any other."""
    if text not in get_args(By):
        raise BadInput(f"expected model, hardware, workload, time or rolling to hold out, found {text!r}")
    return text  # type: ignore[return-value]


def evaluate_table(
    table: Table, plan: Plan, words: Words | None = None, tell: Progress = lambda _: None
) -> dict[str, Any]:
    """All views of all sources under all splits: {"plan", "views", "errors", "notes"}. JSON-able.

    words: vectors of the table's descriptions, for the text ablations (the table must hold TEXTS).
    """
    tasks = plan_tasks(table, plan, words)
    results = run_all(tasks, plan.jobs, Ledger(plan.resume), tell, plan.ray)
    found: dict[str, Any] = {
        "plan": {
            "sources": wanted_sources(table, plan.sources), "by": list(plan.by), "quality": plan.quality,
            "most_folds": plan.most_folds, "rows": len(table), "words": words is not None,
        },
        "views": [], "errors": [], "notes": _unjudged(table, plan),
    }  # fmt: skip
    for (source, by), group in groupby(tasks, key=lambda task: (task.source, task.by)):
        some = list(group)
        if PEER[0] in some[0].rows.keys:
            found["errors"] += [{"source": source, "by": by, **row} for row in peers.errors(some[0].rows)]
        _collect(found, some, [results[task.key] for task in some], {"source": source, "by": by})
    return found


def wanted_sources(table: Table, named: Sequence[str]) -> list[str]:
    """The sources to judge. Raises BadInput for one that the table does not have."""
    present = sorted(set(table.keys["source"].tolist()))
    known = [name for name in VIEWS if name in present]
    other = [name for name in present if name not in VIEWS and name not in NO_CHOICE]
    wanted = list(named) or [*known, *other]
    if missing := [name for name in wanted if name not in present]:
        raise BadInput(f"no records of source {', '.join(missing)}; the store has {', '.join(present)}")
    return wanted


def _unjudged(table: Table, plan: Plan) -> list[dict[str, str]]:
    """A note for each source that is there but holds no choice of methods."""
    every = {"by": "every split", "view": "every view", "chooser": "every chooser"}
    present = set(table.keys["source"].tolist()) - set(plan.sources)
    return [
        {"source": name, **every, "why": why}
        for name, why in NO_CHOICE.items()
        if name in present and not plan.sources
    ]


def plan_tasks(table: Table, plan: Plan, words: Words | None) -> list[Task]:
    """The parts of an evaluation, each of which can run alone. A rolling split judges choices alone, and no
    numbers."""
    tasks = []
    for source in wanted_sources(table, plan.sources):
        rows = table.take(table.keys["source"] == source)
        own = None
        if words is not None:
            told = {text for key in TEXTS for text in set(rows.keys[key].tolist())}
            own = {text: words[text] for text in sorted(told)}
        for by in plan.by:
            peer = PEER[0] in rows.keys and bool(np.isfinite(rows.keys[PEER[0]]).any())
            views = views_of(source, plan.quality, peer)
            make = partial(Task, rows, source, by, plan.most_folds, views)
            found = entries(source, by, own, plan.choosers) + ([PEER_ENTRY] if peer else [])
            groups = list(dict.fromkeys(entry.group for entry in found))
            named = by != "rolling" and (not plan.choosers or OURS in plan.choosers)
            judged = _predictors(rows, source, by) if named else []
            for group in groups:
                mine = tuple(entry for entry in found if entry.group == group)
                shared = tuple(judged) if group == OURS and source in SERVING else ()
                tasks.append(make(entries=mine, predictors=shared[1:]))
            rest = judged[:1] if source in SERVING else judged
            tasks += [make(predictors=(one,)) for one in rest]
    return tasks


def _predictors(rows: Table, source: str, by: By) -> list[tuple[str, Callable[[], Learner]]]:
    metrics = judged_metrics(rows)
    found: list[tuple[str, Callable[[], Learner]]] = []
    if metrics:
        found.append((PAPER, partial(Regression, boosted, "classical", metrics)))
    if {"tpot_s", "ttft_s"} <= set(metrics):
        both = np.isfinite(rows.metrics["tpot_s"]) & np.isfinite(rows.metrics["ttft_s"])
        if both.any():
            found.append((OURS, partial(Remembered, side_of(by))))
    return found


def _collect(found: dict[str, Any], tasks: Sequence[Task], results: Sequence[Result], where: Any) -> None:
    roles = {entry.name: entry.role for task in tasks for entry in task.entries}
    for view in tasks[0].views:
        parts = [result["views"][view.name] for result in results if view.name in result["views"]]
        if parts:
            choosers = {name: acts for part in parts for name, acts in part["choosers"].items()}
            facts = {key: parts[0][key] for key in ("cells", "folds", "options", "noise")}
            facts |= {"limited": view.limit is not None, "quality": view.quality, "choice": view.options}
            judged = {**where, "view": view.name, **facts, **section(choosers, roles, facts["limited"])}
            dates = parts[0]["moments"]
            more = {"moments": over_time.moments(choosers, judged, dates)} if dates else {}
            found["views"].append(judged | more)
        elif np.isfinite(value_of(tasks[0].rows, view)).any():
            why = f"fewer than {LEAST_CELLS} cells with a choice on both sides of the split"
            found["notes"].append({**where, "view": view.name, "chooser": "every chooser", "why": why})
    for result in results:
        found["errors"] += [{**where, **row} for row in result["errors"]]
        found["notes"] += [{**where, **row} for row in result["notes"]]


__all__ = ["FOLDS", "Plan", "bootstrap", "evaluate_table", "plan_of", "plan_tasks", "split_of"]
