"""What is predicted beside measured serving times, held against what little was measured.

    python benchmarks/bench_gaps.py --store HISTORY.sqlite --write docs/gaps.md

Energy and images are judged on models and devices that the fit never saw; speculation and chunks against
the few pairs of runs that differ in them; monotone relations on random settings. Takes some minutes.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from campaigns import HEAD, campaign_rows
from gaps_page import PAGE
from monotone import monotone_rows

from metainf.api import choosing
from metainf.embed import drawing, roofline
from metainf.embed.columns import Columns
from metainf.embed.physics import terms
from metainf.learn import effects, energy, image_runs, images
from metainf.learn.predictor import TrainedPredictor
from metainf.learn.speculation import known
from metainf.learn.table import Table, table
from metainf.learn.views import Floats
from metainf.store import open_store

METHOD = (
    "engine", "engine_version", "weight_format", "dtype", "kv_format", "attention_backend", "tensor",
    "pipeline", "expert", "attention_data", "num_devices", "disaggregated", "prefill_workers",
    "prefill_tensor", "decode_workers", "decode_tensor",
)  # fmt: skip
Rows = list[list[str]]


def lines(head: Sequence[str], rows: Rows) -> list[str]:
    """A Markdown table."""
    return ["", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)] + [
        "| " + " | ".join(row) + " |" for row in rows
    ]


def judged(left: Floats, width: float | Floats) -> list[str]:
    """Mean and median absolute error in percent, and the share of rows inside the interval."""
    error = np.abs(np.expm1(left))
    inside = np.mean(np.abs(left) <= width)
    return [f"{error.mean():.1%}", f"{np.median(error):.1%}", f"{inside:.1%}"]


def energy_rows(history: Table, predictor: TrainedPredictor) -> Rows:
    """Power given the measured rate, then energy per token from predicted rates."""
    rows = history.take(energy.measured(history))
    learner, data = energy.EnergyLearner().fit(rows), energy.Measurements.of(rows)
    found = []
    for side, key in energy.SIDES.items():
        groups = rows.keys[key]
        left = data.held_out(energy.folds_of(groups))
        said = judged(left, learner.quantile[side])
        found.append(
            [f"power, rate measured, {side} left out", str(len(rows)), str(len(np.unique(groups))), *said]
        )
    for source in ("argonne", "lhl_strix_halo"):
        found.append(unused_powers(history, learner, source))
    new = ~np.isin(rows.keys["model_group"], sorted(predictor.known["model"]))
    left, width = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    folds = energy.folds_of(rows.keys["model_group"])
    for fold in np.unique(folds[new]):
        test = np.flatnonzero((folds == fold) & new)
        columns = rows.take(test).columns
        ask, rest = predictor.learners["model"].forecast, rows.take(np.flatnonzero(folds != fold))
        fitted = energy.EnergyLearner().fit(rest).calibrate(rest, ask, predictor.known["model"])
        told = fitted.add(columns, ask(columns))
        measured = np.log(rows.metrics["energy_j_per_token"][test])
        left[test] = told.log_median["energy_j_per_token"] - measured
        width[test] = 1.645 * told.log_scale["energy_j_per_token"]
    groups = rows.keys["model_group"][new]
    label = "J per token, rate predicted, model left out"
    found.append([label, str(new.sum()), str(len(np.unique(groups))), *judged(left[new], width[new])])
    return found


def unused_powers(history: Table, learner: energy.EnergyLearner, source: str) -> list[str]:
    """The power model on a source whose powers taught it nothing."""
    metrics = history.metrics
    seen = np.isfinite(metrics["power_w"]) & np.isfinite(metrics["output_tokens_per_s"]) & history.ok
    rows = history.take(np.flatnonzero(seen & (history.keys["source"] == source)))
    t = terms(rows.columns)
    devices = energy.devices_of(rows.columns, t)
    rate = rows.metrics["output_tokens_per_s"] / devices
    watts = energy.share_of_tdp(learner.theta, energy.work(t), rate) * devices * rows.columns["tdp_w"]
    left = np.log(watts / rows.metrics["power_w"])
    groups = str(len(np.unique(rows.keys["device"])))
    label = f"power, rate measured, {source} (not used, {np.median(np.exp(left)):.2f} times the measured)"
    return [label, str(len(rows)), groups, *judged(left, learner.quantile["hardware"])]


def image_rows(history: Table) -> Rows:
    """Time of an image on models, devices and pairs that the fit never saw."""
    learner = images.DrawingLearner().fit(history)
    data = image_runs.merged(history.take(image_runs.measured(history)))
    p = drawing.picture(data.columns)
    x = learner.inputs(data.columns, p)
    y = data.metrics["log_s"] - drawing.prior(p, data.metrics["whole"] > 0)
    found = []
    for side, groups in image_runs.groups_by_side(data).items():
        left = -images.held_out(x, y, data.metrics["weight"], groups)
        for source in ["", *np.unique(data.keys["source"]).tolist()]:
            few = (data.keys["source"] == source) | (source == "")
            apart = inside_cells(left[few], data.keys["cell"][few])
            within = f"{np.median(np.abs(apart)):.1%}" if len(apart) else "–"
            count = str(len(np.unique(groups[few])))
            label = [side, source or "all", str(few.sum()), count]
            found.append([*label, *judged(left[few], learner.quantile[side])[1:], within])
    return found


def inside_cells(left: Floats, cells: np.ndarray) -> Floats:
    """Errors against the median error of their cell, of cells with two rows or more."""
    found = [left[cells == cell] - np.median(left[cells == cell]) for cell in np.unique(cells)]
    return np.concatenate([part for part in found if len(part) > 1] or [np.zeros(0)])


def load_of(plain: Table) -> Floats:
    """Requests in flight: by Little's law from the run without the setting, else as stated."""
    seen = plain.metrics["output_tokens_per_s"] * plain.metrics["tpot_s"]
    return np.where(np.isfinite(seen), np.maximum(seen, 1.0), roofline.load(plain.columns))


def ratio(
    predictor: TrainedPredictor, with_it: Columns, without: Columns, load: Floats, metric: str
) -> tuple[Floats, Floats]:
    """Predicted log ratio of a metric with and without a setting, and its log scale."""
    ask = predictor.learners["hardware"].forecast
    first, second = (effects.forecast(c | {"concurrency": load}, ask) for c in (with_it, without))
    change = first.log_median[metric] - second.log_median[metric]
    wider = first.log_scale[metric] ** 2 - second.log_scale[metric] ** 2
    return change, np.sqrt(np.maximum(wider, 0))


def spoken(measured: Floats, predicted: Floats, scale: Floats) -> list[str]:
    """Medians of measured and predicted speed-ups, and how many measured ones lie in the interval."""
    inside = np.sum(np.abs(measured - predicted) <= 1.645 * scale)
    sure = bool(np.median(scale) < 1e-3)
    span = f"{np.exp(measured.min()):.2f} to {np.exp(measured.max()):.2f}"
    return [
        str(len(measured)), f"{np.exp(np.median(measured)):.2f}", span, f"{np.exp(np.median(predicted)):.2f}",
        "none" if sure else f"± {np.expm1(1.645 * np.median(scale)):.0%}",
        "–" if sure else f"{inside} of {len(measured)}",
    ]  # fmt: skip


def speculation_rows(history: Table, predictor: TrainedPredictor) -> Rows:
    """Speed-ups of speculation: Spec-Bench states them, other sources have runs with and without."""
    found = []
    stated = np.isfinite(history.metrics["speedup"])
    for name in np.unique(history.columns["speculative"][stated]).tolist():
        rows = history.take(np.flatnonzero(stated & (history.columns["speculative"] == name)))
        if not known(name):
            continue
        plain = rows.columns | {"speculative": np.full(len(rows), "")}
        change, scale = ratio(predictor, rows.columns, plain, load_of(rows), "tpot_s")
        found.append(["spec_bench", name, *spoken(np.log(rows.metrics["speedup"]), -change, scale)])
    names = history.columns["speculative"]
    for source in np.unique(history.keys["source"][~stated & (names != "")]).tolist():
        pairs = paired(history, (history.keys["source"] == source) & (names != "") & (names != "none"))
        if not pairs:
            continue
        first, second = (history.take(np.array(side)) for side in zip(*pairs, strict=True))
        metric = "tpot_s" if np.isfinite(first.metrics["tpot_s"]).all() else "e2e_s"
        change, scale = ratio(predictor, first.columns, second.columns, load_of(second), metric)
        measured = np.log(second.metrics[metric] / first.metrics[metric])
        what = ", ".join(np.unique(first.columns["speculative"]).tolist())
        found.append([source, what, *spoken(measured, -change, scale)])
    return found


def chunk_rows(history: Table, predictor: TrainedPredictor) -> Rows:
    """Time to first token and per output token with a stated chunk, against runs without."""
    pairs = paired(history, np.isfinite(history.columns["chunk_tokens"]))
    if not pairs:
        return []
    first, second = (history.take(np.array(side)) for side in zip(*pairs, strict=True))
    found = []
    for metric in ("ttft_s", "tpot_s"):
        change, scale = ratio(predictor, first.columns, second.columns, load_of(second), metric)
        measured = np.log(first.metrics[metric] / second.metrics[metric])
        good = np.isfinite(measured)
        sources = ", ".join(np.unique(first.keys["source"]).tolist())
        found.append([sources, f"chunk, {metric}", *spoken(measured[good], change[good], scale[good])])
    return found


def paired(history: Table, chosen: np.ndarray) -> list[tuple[int, int]]:
    """Each chosen row with a run of the same cell, engine, formats and layout that is not chosen."""
    c, cells = history.columns, history.keys["cell"]
    plain = (c["speculative"] == "") | (c["speculative"] == "none")
    plain &= ~np.isfinite(c["chunk_tokens"]) & ~chosen & history.ok
    plain &= np.isin(cells, cells[chosen])
    off = plain & (np.char.find(c["flags"].astype(np.str_), "spec_decode=none") >= 0)
    others: dict[str, list[int]] = {}
    for row in np.flatnonzero(off if off.any() else plain).tolist():
        others.setdefault(cells[row], []).append(row)

    def method(row: int) -> tuple[str, ...]:
        return tuple(str(c[name][row]) for name in METHOD)

    found = []
    for row in np.flatnonzero(chosen & history.ok).tolist():
        same = [other for other in others.get(cells[row], []) if method(other) == method(row)]
        found += [(row, other) for other in same[:1]]
    return found


def main() -> None:
    """Measure, and write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", required=True, help="records with the public history")
    parser.add_argument("--predictor", type=Path, help="a trained predictor; the shipped one by default")
    parser.add_argument("--settings", type=int, default=60, help="random settings for each relation")
    parser.add_argument("--write", type=Path, help="the page to write")
    options = parser.parse_args()
    predictor = choosing.load_predictor(options.predictor)
    history = table(open_store(options.store, create=False).query())
    spans = ("runs", "measured", "from ... to", "predicted", "width", "inside")
    parts = {
        "campaigns": lines(HEAD, campaign_rows(history, predictor)),
        "energy": lines(
            ("what", "runs", "groups", "mean APE", "median APE", "90 % covers"),
            energy_rows(history, predictor),
        ),
        "speculation": lines(("source", "algorithm", *spans), speculation_rows(history, predictor)),
        "chunks": lines(("source", "ratio", *spans), chunk_rows(history, predictor)),
        "monotone": lines(
            ("relation", "steps", "wrong", "by > 5 %", "worst"), monotone_rows(predictor, options.settings)
        ),
        "images": lines(
            ("left out", "source", "runs", "groups", "median APE", "90 % covers", "within a cell"),
            image_rows(history),
        ),
    }
    page = PAGE.format(**{name: "\n".join(part) for name, part in parts.items()})
    if options.write is None:
        print(page)
    else:
        options.write.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
