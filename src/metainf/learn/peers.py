"""Another tool's predictions beside ours: joined to the history, judged as a chooser, never a feature.

A peer's table has, for runs of the history, its predicted `aic_ttft_s` and `aic_tpot_s` (seconds, null where
it gave none) beside what identifies a run: lengths, concurrency and the measured times.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metainf.domain import BadInput
from metainf.learn.table import Table
from metainf.learn.views import PEER, Floats, Options, View, budgets, load_of

NAME = "AIConfigurator 0.12"
NEEDED = ("input_len", "output_len", "concurrency", "ttft_s", "tpot_s", "aic_ttft_s", "aic_tpot_s")
NEVER = -1e6
"""Score of an option that the peer says nothing about."""


def attach(table: Table, rows: Sequence[Mapping[str, Any]]) -> Table:
    """The table with the peer's seconds in the keys PEER, NaN where it has none.

    Raises BadInput where columns are missing or no row of the table is among the peer's.
    """
    if missing := [name for name in NEEDED if not rows or name not in rows[0]]:
        raise BadInput(f"expected the peer's columns {', '.join(NEEDED)}, found no {', '.join(missing)}")
    said = {_key(*(row[name] for name in NEEDED[:5])): (row["aic_ttft_s"], row["aic_tpot_s"]) for row in rows}
    c, m = table.columns, table.metrics
    parts = (c["input_tokens"], c["output_tokens"], load_of(table), m["ttft_s"], m["tpot_s"])
    found, joined = np.full((len(table), 2), np.nan), 0
    for place, values in enumerate(zip(*(part.tolist() for part in parts), strict=True)):
        pair = said.get(_key(*values))
        if pair is not None:
            joined += 1
            found[place] = [np.nan if value is None else value for value in pair]
    if not joined:
        raise BadInput("no run of the history is in the peer's table: is it for other records?")
    return Table(c, m, table.ok, table.keys | dict(zip(PEER, found.T, strict=True)))


def _key(*values: float | None) -> tuple[str, ...]:
    return tuple("" if value is None or value != value else f"{value:.9g}" for value in values)


class PeerChooser:
    """Picks what the peer's own numbers say is best; where it says nothing, last."""

    def fit(self, train: Table, view: View) -> None:
        self.view = view

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        first, each = (found.merged(test.keys[name]) for name in PEER)
        allowed = budgets(found, self.view)
        if self.view.value == "speed":
            value = -np.log(each)
        else:
            tokens = found.merged(test.columns["output_tokens"])
            per_s = found.merged(load_of(test)) * tokens / (first + each * (tokens - 1))
            value = np.log(per_s / found.merged(test.columns["num_devices"]))
        scores = np.repeat(np.where(np.isfinite(value), value, NEVER)[:, None], allowed.shape[1], axis=1)
        if self.view.limit == "tpot_s" and not told:
            over = np.log(each)[:, None] - np.log(allowed)
            scores = np.where(over > 0, NEVER / 2 - over, scores)
        return scores


def errors(table: Table) -> list[dict[str, Any]]:
    """Absolute percentage errors of the peer's times on the rows that it covers."""
    found = []
    for key, metric in zip(PEER, ("ttft_s", "tpot_s"), strict=True):
        said, true = table.keys[key], table.metrics[metric]
        both = np.isfinite(said) & np.isfinite(true)
        if both.any():
            share = np.abs(said[both] / true[both] - 1)
            found.append({
                "learner": NAME, "metric": metric, "on": "peer", "rows": int(both.sum()),
                "median_ape": round(float(np.median(share)), 4), "mean_ape": round(float(share.mean()), 4),
                "coverage": None, "width": None, "calibration": [], "points": [],
            })  # fmt: skip
    return found
