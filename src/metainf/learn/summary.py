"""From what choosers did in each case to regret, accuracy, acceleration, intervals and a verdict in words."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.learn.contest import OURS, SINGLE, Role
from metainf.learn.views import Floats, macro_f1

PAPER = 0.898
"""Top-1 accuracy that the MetaInf paper reports for its own learner."""
DRAWS = 1000
RIVALS: tuple[Role, ...] = ("baseline", "paper")
KINDS: dict[str, tuple[Role, ...]] = {
    "rival": RIVALS, "paper": ("paper",), "baseline": ("baseline",), "peer": ("peer",),
}  # fmt: skip
TIED = 0.005
"""Regrets closer than this are called equal where the bootstrap cannot tell them apart either."""
Acts = Mapping[str, list[Any]]


def bootstrap(values: Floats, groups: Any, draws: int = DRAWS) -> tuple[float, float]:
    """95 % interval of a mean by resampling whole groups, with a fixed seed."""
    rng = np.random.default_rng(0)
    _, groups = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(groups.ravel(), weights=values), np.bincount(groups.ravel())
    picks = rng.integers(0, len(sums), (draws, len(sums)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def summarise(name: str, role: Role, acts: Acts, single: Acts) -> dict[str, Any]:
    """The line of one chooser. `gap` is the share of the way from the single best to the oracle."""
    regret, told = np.array(acts["regret"]), np.array(acts["regret_told"])
    cell, clear = np.array(acts["cell"]), np.array(acts["clear"], dtype=bool)
    best, pick = np.array(acts["best"]), np.array(acts["pick"])
    gain = np.array([g for g in acts["gain"] if g is not None])
    result: dict[str, Any] = {"name": name, "role": role}
    for key, values, start in (("regret", regret, single["regret"]), ("told", told, single["regret_told"])):
        mark = "regret_told" if key == "told" else "regret"
        low, high = bootstrap(values, cell)
        result |= {mark: _round(values.mean()), f"{mark}_low": _round(low), f"{mark}_high": _round(high)}
        result["gap_told" if key == "told" else "gap"] = _gap(values, np.array(start))
    hit, hit_told = np.array(acts["hit"]), np.array(acts["hit_told"])
    result |= {"top1": _round(hit.mean()), "top1_told": _round(hit_told.mean())}
    result |= {"top1_clear": _mean(hit[clear]), "top1_told_clear": _mean(hit_told[clear])}
    told_pick = np.array(acts["pick_told"])
    result |= {"f1": _round(macro_f1(best, pick)), "f1_told": _round(macro_f1(best, told_pick))}
    result["f1_clear"] = _round(macro_f1(best[clear], pick[clear])) if clear.any() else None
    result["f1_told_clear"] = _round(macro_f1(best[clear], told_pick[clear])) if clear.any() else None
    result["infeasible"] = _round(np.mean(acts["infeasible"]))
    result["acceleration"] = _round(np.exp(gain.mean())) if len(gain) else None
    return result


def compare(ours: Acts, other: Acts, key: str) -> dict[str, float]:
    """Mean regret of ours less that of another chooser on the same cases, with a paired bootstrap."""
    gap = np.array(ours[key]) - np.array(other[key])
    low, high = bootstrap(gap, np.array(ours["cell"]))
    return {"difference": _round(gap.mean()), "low": _round(low), "high": _round(high)}


def section(choosers: Mapping[str, Acts], roles: Mapping[str, Role], limited: bool) -> dict[str, Any]:
    """Lines of all choosers, the paired comparisons of MetaInf, and the verdict.

    limited: the view has a budget, so that "told" is another question than "untold".
    """
    lines = [summarise(name, roles[name], acts, choosers[SINGLE]) for name, acts in choosers.items()]
    by_name = {line["name"]: line for line in lines}
    result: dict[str, Any] = {"cases": len(choosers[SINGLE]["cell"]), "choosers": lines, "paired": {}}
    result["clear_share"] = _round(np.mean(choosers[SINGLE]["clear"]))
    if OURS not in choosers:
        return {**result, "verdict": ["MetaInf was not run here."]}
    verdicts = []
    for mark in ("regret", "regret_told") if limited else ("regret",):
        pairs = {}
        for label, wanted in KINDS.items():
            names = [name for name in by_name if roles[name] in wanted]
            if names:
                name = min(names, key=lambda each: by_name[each][mark])
                pairs[label] = {"name": name, **compare(choosers[OURS], choosers[name], mark)}
        result["paired"][mark] = pairs
        if "rival" in pairs:
            told = {"regret": "not told what is feasible", "regret_told": "told what is feasible"}[mark]
            verdicts.append(verdict(pairs["rival"]) + (f" ({told})" if limited else ""))
    worth = by_name[OURS]
    return {**result, "verdict": [*verdicts, accuracy_verdict(worth, "_told" if limited else "")]}


def verdict(pair: Mapping[str, Any]) -> str:
    """One sentence on MetaInf against the best rival, by rule from the paired bootstrap."""
    gap, low, high, name = pair["difference"], pair["low"], pair["high"], pair["name"]
    span = f"{gap:+.3f} regret, 95 % interval {low:+.3f} to {high:+.3f}"
    if high < 0:
        return f"MetaInf is better than the best rival, {name}: {span}"
    if low > 0:
        return f"MetaInf is worse than {name}: {span}"
    if abs(gap) < TIED:
        return f"MetaInf equals the best rival, {name}: {span}"
    side = "ahead of" if gap < 0 else "behind"
    return f"MetaInf is {side} the best rival, {name}, within the noise of the cells: {span}"


def accuracy_verdict(line: Mapping[str, Any], suffix: str) -> str:
    """Where the paper's accuracy is reached, on cases whose best two differ by more than noise."""
    top1, f1 = line[f"top1{suffix}_clear"], line[f"f1{suffix}_clear"]
    if top1 is None:
        return "no case is clear"
    words = {True: "above", False: "below"}
    return (
        f"on clear cases top-1 {top1:.3f} is {words[top1 > PAPER]} and macro-F1 {f1:.3f} is "
        f"{words[f1 > PAPER]} the {PAPER} of the paper"
    )


def _gap(values: Floats, single: Floats) -> float | None:
    return _round(1 - values.mean() / single.mean()) if single.mean() > 0 else None


def _mean(values: NDArray[Any]) -> float | None:
    return _round(values.mean()) if len(values) else None


def _round(value: Any) -> float:
    return round(float(value), 4)


def best_of(lines: Sequence[Mapping[str, Any]], roles: Sequence[str], mark: str) -> Mapping[str, Any] | None:
    """The line of least regret among choosers of some roles."""
    found = [line for line in lines if line["role"] in roles]
    return min(found, key=lambda line: line[mark]) if found else None
