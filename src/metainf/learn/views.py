"""Two views of a history as a choice: at a fixed load, and with load and devices free under a budget.

A *case* is one choice: a cell and, in the budget view, one budget. Its options are the distinct
configurations measured there, repeats merged by their median. Regret is 1 − value/best; a pick that
breaks the budget has value 0. *Told* means that the chooser is shown only what meets the budget. Options
with equal scores are picked with equal chance, and what is reported is the expectation.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metainf.learn.table import Table

Floats = NDArray[np.float64]
Value = Literal[
    "tokens_per_s_per_device", "speed", "energy", "images_per_s", "steps_per_s", "prefill", "speedup"
]
PEER = ("peer.ttft_s", "peer.tpot_s")
"""Keys of a table that hold what another tool predicts (seconds)."""
QUANTILES = (0.25, 0.5, 0.75)
NOISE = 0.02


@dataclass(frozen=True)
class View:
    """What is chosen for: `value` to maximise (a name below), `limit` to stay under (None: fixed load).

    options: what makes two options one: the exact method, the method whatever its version
    ("configuration"), or its coarse family. quality "same" compares only number formats of one quality
    group; "any" trades quality for speed. devices "fixed" takes their number out of the choice.
    work: only rows that make text, or only rows that make pictures. rows "peer": only what a peer predicts.
    """

    value: Value
    limit: Literal["tpot_s", "e2e_s", "energy_j_per_token"] | None = None
    options: Literal["family", "configuration", "method"] = "configuration"
    quality: Literal["any", "same"] = "any"
    devices: Literal["free", "fixed"] = "free"
    work: Literal["text", "pictures"] | None = None
    rows: Literal["all", "peer"] = "all"

    @property
    def name(self) -> str:
        """Readable name of the view."""
        parts = [f"{self.work} {self.value}" if self.work else self.value]
        parts.append(f"under {self.limit}" if self.limit else "at fixed load")
        if self.devices == "fixed":
            parts.append("and devices")
        more = [", one quality"] if self.quality == "same" else []
        return " ".join(parts) + "".join([*more, ", rows of the peer"] if self.rows == "peer" else more)


@dataclass(frozen=True)
class Options:
    """m options in g cells. `members[i]` are the table rows merged into option i."""

    cell: NDArray[np.intp]
    members: tuple[NDArray[np.intp], ...]
    name: NDArray[Any]
    value: Floats
    limit: Floats

    @property
    def rows(self) -> NDArray[np.intp]:
        """One row of the table for each option."""
        return np.array([member[0] for member in self.members], dtype=np.intp)

    @property
    def cells(self) -> list[NDArray[np.intp]]:
        """Option numbers of each cell."""
        order = np.argsort(self.cell, kind="stable")
        return np.split(order, np.flatnonzero(np.diff(self.cell[order])) + 1) if len(order) else []

    def merged(self, values: Floats) -> Floats:
        """A number per option from a number per row: the median over the option's rows."""
        return np.array([np.median(values[member]) for member in self.members])


def value_of(table: Table, view: View) -> Floats:
    """The value to maximise, per row; NaN where the row does not measure it."""
    metrics, devices = table.metrics, table.columns["num_devices"]
    if view.value == "tokens_per_s_per_device":
        return np.asarray(metrics["output_tokens_per_s"] / devices)
    if view.value == "energy":
        tokens, requests = metrics["energy_j_per_token"], metrics["energy_j_per_request"]
        return np.asarray(1 / np.where(np.isfinite(tokens), tokens, requests))
    if view.value == "speed":
        return np.asarray(1 / metrics["tpot_s"])
    column = {"prefill": "prefill_tokens_per_s"}.get(view.value, view.value)
    return np.asarray(metrics[column])


def load_of(table: Table) -> Floats:
    """Requests in flight: the concurrency, else the batch size."""
    concurrency = table.columns["concurrency"]
    return np.where(np.isfinite(concurrency), concurrency, table.columns["batch_size"])


def options(table: Table, view: View, least: int | None = None) -> Options:
    """The choices that a table holds under a view. Cells with fewer options than `least` are left out: by
    default those with nothing to choose (below two, below four where load and devices are free)."""
    value = value_of(table, view)
    limit = table.metrics[view.limit] if view.limit else np.zeros(len(table))
    rows = np.flatnonzero(np.isfinite(value) & np.isfinite(limit) & table.ok & _wanted(table, view))
    places = [table.keys["free_cell" if view.limit else "cell"]]
    parts = [table.keys[view.options]]
    (places if view.devices == "fixed" else parts).append(table.columns["num_devices"].astype(str))
    if view.quality == "same":
        places.append(table.keys["quality_group"])
    if view.limit:
        parts.append(load_of(table).astype(str))
    cells, names = (
        np.array(["|".join(str(part[row]) for part in side) for row in rows], dtype=np.str_)
        for side in (places, parts)
    )
    members: dict[tuple[str, str], list[int]] = {}
    for row, cell, name in zip(rows.tolist(), cells.tolist(), names.tolist(), strict=True):
        members.setdefault((cell, name), []).append(row)
    sizes: dict[str, int] = {}
    for cell, _ in members:
        sizes[cell] = sizes.get(cell, 0) + 1
    least = least or (4 if view.limit else 2)
    kept = sorted(key for key in members if sizes[key[0]] >= least)
    number = {cell: place for place, cell in enumerate(dict.fromkeys(cell for cell, _ in kept))}
    groups = tuple(np.array(members[key], dtype=np.intp) for key in kept)
    return Options(
        np.array([number[cell] for cell, _ in kept], dtype=np.intp),
        groups,
        np.array([name for _, name in kept], dtype=np.str_),
        np.array([np.median(value[group]) for group in groups]),
        np.array([np.median(limit[group]) for group in groups]),
    )


def _wanted(table: Table, view: View) -> NDArray[np.bool_]:
    wanted = np.ones(len(table), dtype=bool)
    if view.work is not None:
        pictures = np.isin(table.columns["modality"], ("image", "video"))
        wanted &= pictures if view.work == "pictures" else ~pictures
    if view.rows == "peer":
        for key in PEER:
            wanted &= np.isfinite(table.keys[key])
    return wanted


def budgets(found: Options, view: View) -> Floats:
    """Budgets (m options, k): the quartiles of the limits measured in the option's own cell."""
    result = np.full((len(found.value), len(QUANTILES) if view.limit else 1), np.inf)
    if view.limit:
        for cell in found.cells:
            result[cell] = np.quantile(found.limit[cell], QUANTILES)
    return result


@dataclass(frozen=True)
class Rules:
    """What a judgement needs beside the options: `rank` (m) of each option as the engine's default, least
    first, and the share by which two values must differ to be more than noise."""

    rank: NDArray[Any] | None = None
    noise: float = NOISE


@dataclass(frozen=True)
class Score:
    """Outcome of a chooser over all cases (cell × budget), one entry each.

    Shares (regret, hit, infeasible) are expectations over options of equal score; `pick` is one of them.
    gain: expected ln(value of the pick / value of the default), NaN where a pick may be worth nothing.
    """

    regret: Floats
    hit: Floats
    infeasible: Floats
    gain: Floats
    clear: NDArray[np.bool_]
    cell: NDArray[np.intp]
    best: NDArray[np.intp]
    pick: NDArray[np.intp]


def judge(found: Options, allowed: Floats, scores: Floats, told: bool, rules: Rules | None = None) -> Score:
    """Judge the picks that maximise `scores` (m, k). `clear` marks cases whose best two options differ
    by more than the noise, where accuracy means something."""
    rules, rng = rules or Rules(), np.random.default_rng(0)
    out: dict[str, list[Any]] = {name: [] for name in Score.__dataclass_fields__}
    for number, cell in enumerate(found.cells):
        for budget in range(scores.shape[1]):
            within = found.limit[cell] <= allowed[cell, budget]
            value = np.where(within, found.value[cell], 0.0)
            wanted = np.where(within, scores[cell, budget], -np.inf) if told else scores[cell, budget]
            picks = np.flatnonzero(wanted == wanted.max())
            best, top = int(np.argmax(value)), np.sort(value)[-2:]
            out["regret"].append(float(np.mean(1 - value[picks] / value[best])))
            out["hit"].append(float(np.mean(value[picks] >= value[best] * (1 - 1e-9))))
            out["infeasible"].append(float(np.mean(~within[picks])))
            plain = np.nan if rules.rank is None else _plain_log_value(value, within, rules.rank[cell])
            safe = bool(within[picks].all())
            out["gain"].append(float(np.mean(np.log(value[picks]))) - plain if safe else np.nan)
            out["clear"].append(bool(top[0] < top[1] * (1 - rules.noise)))
            out["cell"].append(number)
            out["best"].append(cell[best])
            out["pick"].append(cell[picks[0] if len(picks) == 1 else rng.choice(picks)])
    kinds: dict[str, Any] = {"clear": bool, "cell": np.intp, "best": np.intp, "pick": np.intp}
    return Score(**{name: np.array(values, dtype=kinds.get(name, float)) for name, values in out.items()})


def _plain_log_value(value: Floats, within: NDArray[np.bool_], rank: NDArray[Any]) -> float:
    """Mean log value of the feasible options that are nearest to what the engine does by default."""
    plain = within & (rank == rank[within].min())
    return float(np.mean(np.log(value[plain])))


def default_rank(table: Table, found: Options, every: Table) -> NDArray[Any]:
    """Rank (m) of each option as a default: fewest techniques first, then the family most frequent in
    `every`, the whole history of the source."""
    names, counts = np.unique(every.keys["family"], return_counts=True)
    frequent = dict(zip(names.tolist(), counts.tolist(), strict=True))
    rows = found.rows
    rarity = np.array([1 - frequent.get(name, 0) / (len(every) + 1) for name in table.keys["family"][rows]])
    return np.asarray(table.keys["techniques"][rows] + rarity)


def repeat_noise(table: Table, view: View) -> float:
    """Median coefficient of variation of repeated runs of one option, at least NOISE."""
    found, value = options(table, view), value_of(table, view)
    repeats = [value[member] for member in found.members if len(member) > 1]
    return (
        max(NOISE, float(np.median([np.std(r, ddof=1) / np.mean(r) for r in repeats]))) if repeats else NOISE
    )


def macro_f1(true: NDArray[Any], guess: NDArray[Any]) -> float:
    """Macro-averaged F1 over the options that were ever best."""
    scores = []
    for label in np.unique(true):
        hits = np.sum((true == label) & (guess == label))
        scores.append(2 * hits / (np.sum(true == label) + np.sum(guess == label)))
    return float(np.mean(scores)) if scores else float("nan")
