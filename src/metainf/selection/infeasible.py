"""What to say when nothing meets the limits: which one binds, and the cheapest way out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metainf.selection.exclusion import Group, reasons
from metainf.selection.judging import Judged, judge


def way_out(judged: Judged, excluded: Sequence[Group]) -> str:
    """The text of NoFeasible: counts per limit, then per limit what lifting it alone would open.

    The cheapest feasible choice is told first, with its price and the number the limit would have to be.
    """
    counts: Counter[str] = Counter()
    for group in excluded:
        counts[group.excluded.limit] += group.count
    put_out = ", ".join(f"{count} by {limit}" for limit, count in counts.most_common())
    exits = [text for text in (_without(judged, limit.label) for limit in judged.limits) if text is not None]
    exits.sort()
    if exits:
        ways = "; ".join(text for _, text in exits[:3])
        return f"no candidate meets the limits ({put_out}). Cheapest way out: {ways}"
    if len(judged.limits) > 1 and (whole := _without_any(judged)) is not None:
        return f"no candidate meets the limits ({put_out}); more than one limit binds. {whole}"
    told = f"no candidate meets the limits ({put_out}); no change of the limits helps"
    return f"{told}. Nearest: {reasons(excluded, 3)}"


def _without_any(judged: Judged) -> str | None:
    """The cheapest candidate that would be feasible without limits, and what it is of each."""
    relaxed = judge(judged.pool, ())
    found = _cheapest(relaxed)
    if found is None:
        return None
    i, paid = found
    machine, method = judged.pool.pairs[i]
    told = "; ".join(limit.text(i) if limit.known[i] else f"{limit.label} unknown" for limit in judged.limits)
    where = f"{method.engine} on {machine.count or '?'} × {machine.device.name}"
    return f"Without any limit the cheapest is {where} at {paid[1]}: {told}"


def _without(judged: Judged, label: str) -> tuple[float, str] | None:
    """Price and words of the cheapest candidate that only `label` keeps out."""
    found = _cheapest(judged.without(label))
    if found is None:
        return None
    i, (price, paid) = found
    machine, method = judged.pool.pairs[i]
    bound = next(limit for limit in judged.limits if limit.label == label)
    where = f"{method.engine} on {machine.count or '?'} × {machine.device.name}"
    told = bound.text(i) if bound.known[i] else "not known"
    return price, f"{label} binds; without it {where} at {paid} ({told})"


def _cheapest(judged: Judged) -> tuple[int, tuple[float, str]] | None:
    """Place, price (infinite where unknown) and price in words of the cheapest feasible candidate."""
    open_ = np.flatnonzero(judged.feasible)
    if not len(open_):
        return None
    price = np.nan_to_num(judged.pool.usd_per_hour[open_], nan=np.inf)
    best = min(range(len(open_)), key=lambda k: (price[k], -judged.score[open_[k]]))
    usd = float(price[best])
    return int(open_[best]), (usd, f"{usd:.2f} $/h" if np.isfinite(usd) else "an unknown price")
