"""Judge choosers and learners on settings they have never seen.

Every fold leaves out a whole group (an architecture with all its aliases, a device type, a workload, or
everything after a date). Each number comes with a bootstrap interval over cells, since the options of one
cell are not independent.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np

from metainf.domain import BadInput
from metainf.embed.joint import Kind
from metainf.learn.baselines import (
    BestPerHardware,
    Chooser,
    NearestSetting,
    Oracle,
    Portfolio,
    Random,
    SingleBest,
)
from metainf.learn.classics import Alors, Isac
from metainf.learn.forecast import Learner
from metainf.learn.learnt import Learnt, Remembered
from metainf.learn.regression import Fitter, Regression, boosted, forest, gradient
from metainf.learn.relative import MethodChooser
from metainf.learn.splits import By, Fold, folds
from metainf.learn.table import Table
from metainf.learn.views import Floats, Score, View, budgets, judge, macro_f1, options, value_of

Progress = Callable[[str], None]
VIEWS: dict[str, tuple[View, ...]] = {
    "aic_silicon": (View("tokens_per_s_per_device"), View("tokens_per_s_per_device", "tpot_s", "family")),
    "argonne": (View("tokens_per_s_per_device", "e2e_s"),),
    "gpustack": (View("speed"),),
    "mlenergy_v3": (View("energy", "tpot_s"), View("energy", "e2e_s")),
    "sdwebui": (View("steps_per_s"),),
    "lhl_strix_halo": (View("prefill"), View("speed")),
    "spec_bench": (View("speedup"),),
    "diffusers_torchao": (View("images_per_s"),),
}
DEFAULT_VIEWS = (View("tokens_per_s_per_device"), View("images_per_s"), View("steps_per_s"))
ERROR_METRICS = ("tpot_s", "ttft_s", "output_tokens_per_s")
LEAST_CELLS = 5


def choosers(source: str, by: By) -> dict[str, Callable[[], Chooser]]:
    """Every chooser that is judged, by name. The serving learner needs time-per-token rows."""
    found: dict[str, Callable[[], Chooser]] = {
        "random": Random,
        "single best": SingleBest,
        "best per hardware": BestPerHardware,
        "nearest setting": NearestSetting,
        "greedy portfolio": Portfolio,
        "ISAC": Isac,
        "ALORS": Alors,
        "random forest": lambda: Learnt(partial(_regression, forest, "classical")),
        "gradient boosting": lambda: Learnt(partial(_regression, gradient, "classical")),
        "XGBoost (paper)": lambda: Learnt(partial(_regression, boosted, "classical")),
        "XGBoost, one-hot": lambda: Learnt(partial(_regression, boosted, "onehot")),
        "oracle": Oracle,
    }
    if source == "aic_silicon":
        found["calibrated roofline alone"] = lambda: Learnt(lambda _: Remembered(side_of(by), residual=False))
        found["MetaInf"] = lambda: Learnt(lambda _: Remembered(side_of(by)))
    else:
        found["MetaInf"] = lambda: MethodChooser("device" if by == "hardware" else "model_group")
    return found


def evaluate_table(
    table: Table, sources: Sequence[str] | None, by: Iterable[str], tell: Progress = lambda _: None
) -> dict[str, Any]:
    """All views of all sources under all splits: {"views": [...], "errors": [...]}. JSON-able."""
    present = sorted(set(table.keys["source"].tolist()))
    wanted = list(sources) if sources else [name for name in present if name in VIEWS]
    if missing := [name for name in wanted if name not in present]:
        raise BadInput(f"no records of source {', '.join(missing)}; the store has {', '.join(present)}")
    result: dict[str, Any] = {"views": [], "errors": []}
    for source in wanted:
        rows = table.take(table.keys["source"] == source)
        for split in by:
            by_ = split_of(split)
            held = list(folds(rows, by_))
            for view in VIEWS.get(source, DEFAULT_VIEWS):
                section = _view(rows, view, held, choosers(source, by_), partial(_prefixed, tell, source))
                if section is not None:
                    result["views"].append({"source": source, "by": split, "view": view.name, **section})
            result["errors"] += [
                {"source": source, "by": split, **e} for e in errors(rows, held, source, by_)
            ]
    return result


def _regression(fitter: Fitter, kind: Kind, only: tuple[str, ...]) -> Learner:
    return Regression(fitter, kind, only)


def side_of(by: By) -> Literal["model", "hardware"]:
    """The side of a setting that a split never shows."""
    return "hardware" if by == "hardware" else "model"


def _prefixed(tell: Progress, source: str, text: str) -> None:
    tell(f"{source}: {text}")


def split_of(text: str) -> By:
    """The split of a name. Raises BadInput for any other."""
    if text not in ("model", "hardware", "workload", "time"):
        raise BadInput(f"expected model, hardware, workload or time to hold out, found {text!r}")
    return text  # type: ignore[return-value]


def _view(
    table: Table, view: View, held: list[Fold], made: dict[str, Callable[[], Chooser]], tell: Progress
) -> dict[str, Any] | None:
    tests = [(fold, table.take(fold.test)) for fold in held]
    cases = [(fold, test, options(test, view)) for fold, test in tests]
    cases = [
        case for case in cases if len(case[2].value) and len(options(table.take(case[0].train), view).value)
    ]
    if sum(len(found.cells) for _, _, found in cases) < LEAST_CELLS:
        return None
    scores: dict[str, tuple[Score, Score, list[Any]]] = {}
    for name, make in made.items():
        started = time.perf_counter()
        scores[name] = _run(table, view, cases, make())
        tell(f"{view.name}: {name} in {time.perf_counter() - started:.0f} s")
    single = float(np.mean(scores["single best"][0].regret))
    return {
        "cells": sum(len(found.cells) for _, _, found in cases),
        "choosers": [
            _summary(name, untold, told, names, single) for name, (untold, told, names) in scores.items()
        ],
    }


def _run(table: Table, view: View, cases: Sequence[Any], chooser: Chooser) -> tuple[Score, Score, list[Any]]:
    untold: list[Score] = []
    told: list[Score] = []
    names: list[Any] = []
    shift = 0
    for fold, test, found in cases:
        chooser.fit(table.take(fold.train), view)
        allowed = budgets(found, view)
        for into, knows in ((untold, False), (told, True)):
            score = judge(found, allowed, chooser.score(test, found, knows), knows)
            into.append(Score(**{**score.__dict__, "cell": score.cell + shift}))
        names.append((found.name[untold[-1].best], found.name[untold[-1].pick]))
        shift += len(found.cells)
    return _joined(untold), _joined(told), names


def _joined(scores: list[Score]) -> Score:
    return Score(
        **{name: np.concatenate([getattr(s, name) for s in scores]) for name in Score.__dataclass_fields__}
    )


def _summary(name: str, untold: Score, told: Score, names: list[Any], single: float) -> dict[str, Any]:
    best, pick = (np.concatenate([pair[side] for pair in names]) for side in (0, 1))
    regret, clear = float(untold.regret.mean()), untold.clear
    low, high = bootstrap(untold.regret, untold.cell)
    return {
        "name": name,
        "regret": round(regret, 4),
        "interval": f"{low:.3f}–{high:.3f}",
        "regret_told": round(float(told.regret.mean()), 4),
        "top1": round(float(untold.hit.mean()), 4),
        "top1_clear": round(float(untold.hit[clear].mean()), 4) if clear.any() else None,
        "f1": round(macro_f1(best, pick), 4),
        "gap": round(1 - regret / single, 4) if single > 0 else None,
        "infeasible": round(float(untold.infeasible.mean()), 4),
    }


def bootstrap(values: Floats, groups: Any, draws: int = 400) -> tuple[float, float]:
    """95 % interval of a mean by resampling whole groups, with a fixed seed."""
    rng = np.random.default_rng(0)
    sums, sizes = np.bincount(groups, weights=values), np.bincount(groups)
    picks = rng.integers(0, len(sums), (draws, len(sums)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def errors(table: Table, held: list[Fold], source: str, by: By) -> list[dict[str, Any]]:
    """Error and coverage of each predicted metric over all held-out rows, for the learner that ships
    where it applies and for the paper's regression."""
    made: dict[str, Callable[[], Learner]] = {"XGBoost (paper)": partial(Regression, only=ERROR_METRICS)}
    if source == "aic_silicon":
        made["MetaInf"] = lambda: Remembered(side_of(by))
    found = []
    for name, make in made.items():
        seen: dict[str, list[Floats]] = {}
        for fold in held:
            forecast = make().fit(table.take(fold.train)).forecast(table.take(fold.test).columns)
            for metric in ERROR_METRICS:
                if metric in forecast.log_median:
                    true = np.log(table.metrics[metric][fold.test])
                    part = np.stack([true, forecast.log_median[metric], forecast.log_scale[metric]])
                    seen.setdefault(metric, []).append(part[:, np.isfinite(part).all(axis=0)])
        for metric, parts in seen.items():
            true, middle, scale = np.concatenate(parts, axis=1)
            if len(true):
                found.append({"learner": name, "metric": metric, **_error(true, middle, scale)})
    return found


def _error(true: Floats, middle: Floats, scale: Floats) -> dict[str, Any]:
    share = np.abs(np.expm1(middle - true))
    half = 1.6448536269514722 * scale
    return {
        "rows": len(true),
        "median_ape": round(float(np.median(share)), 4),
        "mean_ape": round(float(share.mean()), 4),
        "coverage": round(float((np.abs(middle - true) <= half).mean()), 4),
        "width": round(float(np.median(np.exp(2 * half))), 3),
    }


__all__ = ["VIEWS", "Learnt", "bootstrap", "choosers", "errors", "evaluate_table", "value_of"]
