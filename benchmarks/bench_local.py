"""A study of this machine's own runs: what choosing on it costs with none, a tenth and half of them known.

    python benchmarks/bench_local.py --store OWN.sqlite --write docs/closing_the_loop.md

The records of source "metainf" in the store; the forecast is the shipped predictor's, which never saw them.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from local_page import PAGE
from planning import OURS, PICKERS, beliefs, curve
from planning_page import interval, lines
from studies import Study, study
from tuning import Tuned, tuned

from metainf.api import choosing
from metainf.domain import Hardware, MetaInfError, Method, Model, Record, Workload
from metainf.embed.columns import encode_method
from metainf.learn.table import Table, table
from metainf.learn.views import Floats, Options, View
from metainf.store import open_store

SOURCE = "metainf"
VIEW = View("tokens_per_s_per_device")
SHARES = (0.0, 0.1, 0.5)
FORECAST, NOTHING = "MetaInf's forecast", "nothing"
CLEAR = 0.02
"""Values that differ by less are as good as each other for top-1."""


def own(records: Sequence[Record], quality: float | None) -> list[Record]:
    """The machine's own runs; those that measured a quality below the floor are left out."""
    kept = [record for record in records if record.provenance.source == SOURCE]
    if quality is not None:
        kept = [
            r for r in kept if r.metrics is None or r.metrics.quality is None or r.metrics.quality >= quality
        ]
    return kept


def forecast(_: Table, found: Options, records: Sequence[Record]) -> Floats:
    """What the shipped predictor says of each option: log tokens per second; NaN where it is silent."""
    predictor = choosing.load_predictor(None)
    said = np.full(len(records), np.nan)
    groups: dict[tuple[str, str], list[int]] = {}
    for i, record in enumerate(records):
        groups.setdefault((record.setting.model.id, record.setting.workload.id), []).append(i)
    for rows in groups.values():
        model: Model = records[rows[0]].setting.model
        work: Workload = records[rows[0]].setting.workload
        pairs: list[tuple[Hardware, Method]] = [
            (records[i].setting.hardware, records[i].method) for i in rows
        ]
        try:
            told = predictor.forecast(model, work, pairs)
        except MetaInfError:
            continue
        if "output_tokens_per_s" in told.log_median:
            said[rows] = told.log_median["output_tokens_per_s"]
    return said


def machines(records: Sequence[Record]) -> list[Study]:
    """One study for each device that has tasks with a choice."""
    found = []
    for device in sorted({record.setting.hardware.device.name for record in records}):
        here = [record for record in records if record.setting.hardware.device.name == device]
        rows = table(here)
        one = np.where(np.isfinite(rows.columns["num_devices"]), rows.columns["num_devices"], 1.0)
        rows = replace(rows, columns=rows.columns | {"num_devices": one})
        found.append(study(rows, here, VIEW, device, forecast))
    return found


def scores(given: Study, mean: Floats, tasks: Floats) -> tuple[Floats, Floats]:
    """Regret and top-1 of the choice in each of the tasks."""
    regret, hit = [], []
    for task in tasks.tolist():
        rows = np.flatnonzero(given.where.task == task)
        pick = rows[int(np.argmax(mean[rows]))]
        lost = float(-np.expm1(given.truth[pick] - given.truth[rows].max()))
        regret.append(lost)
        hit.append(float(lost <= CLEAR))
    return np.array(regret), np.array(hit)


def known_rows(given: Study, tell: str, seeds: int) -> list[list[str]]:
    """Top-1 and regret by how the known runs were picked and how many they are."""
    rows = []
    every = np.arange(given.tasks)
    for way in ("none", "random runs", "whole tasks", "planner"):
        for share in SHARES[:1] if way == "none" else SHARES[1:]:
            regret, hit = [], []
            for seed in range(seeds):
                rng = np.random.default_rng(seed)
                runs, tasks = picked(given, way, share, rng)
                shown = [float(rng.choice(given.runs[row])) for row in runs]
                lost, best = scores(given, beliefs(given, runs, shown).mean, tasks if len(tasks) else every)
                regret.append(lost.mean())
                hit.append(best.mean())
            low, high = interval(np.array(regret))
            rows.append([
                given.machine, tell, way, f"{share:.0%}", f"{np.mean(hit):.0%}",
                f"{np.mean(regret):.3f} ({low:.3f} to {high:.3f})",
            ])  # fmt: skip
    return rows


def picked(given: Study, way: str, share: float, rng: np.random.Generator) -> tuple[list[int], Any]:
    """The known runs, and the tasks to judge (empty: all of them)."""
    n = len(given.where)
    if way == "none":
        return [], np.zeros(0, dtype=np.intp)
    if way == "random runs":
        return rng.choice(n, max(1, round(share * n)), replace=False).tolist(), np.zeros(0, dtype=np.intp)
    if way == "whole tasks":
        order = rng.permutation(given.tasks)
        cut = max(1, round(share * given.tasks))
        return np.flatnonzero(np.isin(given.where.task, order[:cut])).tolist(), order[cut:]
    seed = int(rng.integers(1 << 30))
    return planned(given, share, seed), np.zeros(0, dtype=np.intp)


def planned(given: Study, share: float, seed: int) -> list[int]:
    """The runs that the planner makes, one after the other."""
    rows: list[int] = []
    pick = PICKERS[OURS]

    def kept(seen: Any, rng: np.random.Generator) -> int:
        rows.append(pick(seen, rng))
        return rows[-1]

    curve(given, kept, share, seed)
    return rows


def label(method: Method) -> str:
    """A method in a few words."""
    row = encode_method(method)
    parts = [method.engine, str(row["batching"])]
    for name in ("max_sequences", "chunk_tokens"):
        if np.isfinite(float(row[name])):
            parts.append(f"{name} {float(row[name]):g}")
    parts += [name for name in ("prefix_cache", "chunked_prefill") if float(row[name]) == 1]
    parts += [str(row[name]) for name in ("speculative", "weight_format", "kv_format", "dtype", "flags")]
    return " ".join(part for part in parts if part)


def fixed_rows(given: Study, tunes: Sequence[Tuned]) -> list[list[str]]:
    """Geometric mean of tune's choice over each single method, on the tasks where both were measured."""
    methods: dict[str, list[int]] = {}
    for row, (_, method) in enumerate(given.pairs):
        methods.setdefault(method.id, []).append(row)
    chosen = np.mean([tune.log_value for tune in tunes], axis=0)
    rows = []
    for places in methods.values():
        tasks = given.where.task[places]
        if len(np.unique(tasks)) < max(2, given.tasks // 2):
            continue
        ratio = float(np.exp(np.mean(chosen[tasks] - given.truth[places])))
        rows.append(
            (ratio, [given.machine, label(given.pairs[places[0]][1]), str(len(tasks)), f"{ratio:.2f}"])
        )
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def tune_row(given: Study, tell: str, way: str, tunes: Sequence[Tuned]) -> list[str]:
    """Regret and share of runs of `tune`."""
    regret = np.concatenate([tune.regret for tune in tunes])
    low, high = interval(regret)
    share = float(np.mean([tune.share for tune in tunes]))
    goal = "yes" if regret.mean() <= 0.03 and share <= 0.15 else "no"
    told = f"{regret.mean():.3f} ({low:.3f} to {high:.3f})"
    return [given.machine, tell, way, told, f"{share:.0%}", f"{np.mean([t.least for t in tunes]):.0%}", goal]


def page(every: Sequence[Study], records: Sequence[Record], seeds: int, quality: float | None) -> str:
    """The page, from its studies."""
    known: list[list[str]] = []
    tunes: list[list[str]] = []
    fixed: list[list[str]] = []
    for given in every:
        priors = {FORECAST: given, NOTHING: replace(given, prior=np.full(len(given.where), np.nan))}
        if not np.isfinite(given.prior).any():
            del priors[FORECAST]
        for tell, one in priors.items():
            known += known_rows(one, tell, seeds)
            for way in ("alone", "one after the other"):
                found = [tuned(one, way != "alone", seed) for seed in range(seeds)]
                tunes.append(tune_row(one, tell, way, found))
            if one is priors[next(iter(priors))]:
                fixed += fixed_rows(one, found)
    failed = sum(record.metrics is None for record in records)
    facts = [
        [s.machine, str(len(s.where)), str(s.tasks), f"{len(s.where) / s.tasks:.1f}",
         ", ".join(sorted({method.engine for _, method in s.pairs}))]
        for s in every
    ]  # fmt: skip
    return PAGE.format(
        records=len(records), failed=failed, seeds=seeds,
        quality="No floor on quality was set." if quality is None else f"Quality floor: {quality:g}.",
        facts=lines(("machine", "runs", "tasks", "methods of a task", "engines"), facts),
        known=lines(("machine", "known before", "runs known", "share", "top-1", "regret"), known),
        tune=lines(
            ("machine", "known before", "tasks", "regret", "share of runs", "one run of each", "goal"), tunes
        ),
        fixed=lines(("machine", "always", "tasks", "tune is faster by"), fixed),
    )  # fmt: skip


def main() -> None:
    """Measure, and write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="a store with the machine's own records")
    parser.add_argument("--seeds", type=int, default=8, help="splits and orders")
    parser.add_argument("--quality", type=float, help="leave out runs whose measured quality is lower")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args()
    records = own(list(open_store(options.store, create=False).query()), options.quality)
    if not records:
        raise SystemExit(
            f'expected records of source "{SOURCE}" in {options.store}, found none: metainf measure'
        )
    text = page(machines(records), records, options.seeds, options.quality)
    if options.write is None:
        print(text)
    else:
        options.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
