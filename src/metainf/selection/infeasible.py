"""What to say when nothing meets the limits: which one binds, and the cheapest way out."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from metainf.selection.exclusion import Group
from metainf.selection.judging import Judged


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
    nearest = "; ".join(f"{g.excluded.limit}: {g.excluded.reason}" for g in excluded[:3])
    lead = "more than one limit binds" if len(judged.limits) > 1 else "no single change helps"
    return f"no candidate meets the limits ({put_out}); {lead}. Nearest: {nearest}"


def _without(judged: Judged, label: str) -> tuple[float, str] | None:
    """Price and words of the cheapest candidate that only `label` keeps out."""
    relaxed = judged.without(label)
    open_ = np.flatnonzero(relaxed.feasible)
    if not len(open_):
        return None
    pool = judged.pool
    price = np.nan_to_num(pool.usd_per_hour[open_], nan=np.inf)
    order = sorted(range(len(open_)), key=lambda k: (price[k], -relaxed.score[open_[k]]))
    i = int(open_[order[0]])
    machine, method = pool.pairs[i]
    bound = next(limit for limit in judged.limits if limit.label == label)
    paid = f"{price[order[0]]:.2f} $/h" if np.isfinite(price[order[0]]) else "an unknown price"
    where = f"{method.engine} on {machine.count or '?'} × {machine.device.name}"
    told = bound.text(i) if bound.known[i] else "not known"
    return float(price[order[0]]), f"{label} binds; without it {where} at {paid} ({told})"
