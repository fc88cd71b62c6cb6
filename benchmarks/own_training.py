"""What `metainf train` gives by a machine's own runs: the predictor before and after, a workload left out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from own_study import Own

from metainf import catalog
from metainf.api.choosing import load_predictor
from metainf.domain import Hardware, Method, NotSupported, Record, Workload
from metainf.learn.own_history import merged
from metainf.learn.own_runs import OwnRuns
from metainf.learn.predictor import TrainedPredictor
from metainf.learn.views import Floats

METRIC = "output_tokens_per_s"
BEFORE, AFTER = "the shipped predictor", "with own runs of the other workloads"
CLEAR = 0.02
MODELS = ("Llama-3.1-8B-Instruct", "Qwen/Qwen3-32B", "gpt-oss-120b")
DEVICES = ("l4", "a100-80-sxm", "h100-sxm", "mi300x")


@dataclass(frozen=True)
class Judged:
    """Predictions of the places of one group. regret, top: one number for each task; error: |log| of the
    predicted rate against the measured one; inside: whether the 90 % interval holds it."""

    group: str
    by: str
    regret: Floats
    top: Floats
    error: Floats
    inside: Floats


def judged(group: str, given: Own, records: Sequence[Record]) -> list[Judged]:
    """Both predictors on every task; own runs are those of all workloads but the judged one. None where the
    model cannot be predicted."""
    given, base = given.only(given.works), load_predictor(None)
    try:
        for setting, _ in given.pairs:
            base.require(setting.model, setting.workload)
    except NotSupported:
        return []
    after = {
        name: OwnRuns(base, merged([r for r in records if r.setting.workload.name != name]))
        for name, _ in given.cells
    }
    return [
        _judged(group, given, BEFORE, {name: base for name, _ in given.cells}),
        _judged(group, given, AFTER, after),
    ]


def _judged(
    group: str, given: Own, by: str, asked: "dict[str, TrainedPredictor] | dict[str, OwnRuns]"
) -> Judged:
    regret, error, inside = [], [], []
    for task, (name, _) in enumerate(given.cells):
        rows = np.flatnonzero(given.where.task == task)
        setting = given.pairs[rows[0]][0]
        pairs = [(given.pairs[row][0].hardware, given.pairs[row][1]) for row in rows]
        said = asked[name].forecast(setting.model, setting.workload, pairs)
        middle, low, high = said.log_bounds(METRIC)
        true = given.truth[rows]
        regret.append(float(-np.expm1(true[int(np.argmax(middle))] - true.max())))
        error += np.abs(middle - true).tolist()
        inside += ((true >= low) & (true <= high)).tolist()
    lost = np.array(regret)
    return Judged(
        group,
        by,
        lost,
        np.where(lost <= CLEAR, 1.0, 0.0),
        np.array(error),
        np.array(inside, dtype=np.float64),
    )


def others_move(records: Sequence[Record]) -> tuple[int, float]:
    """Predictions on other devices: how many were compared, and how far the own runs moved the farthest."""
    base = load_predictor(None)
    own = OwnRuns(base, merged(records))
    compared, most = 0, 0.0
    for name in MODELS:
        model = catalog.find_model(name)
        pairs = [
            (Hardware(device=catalog.find_device(device), count=1), Method(engine=engine))
            for device in DEVICES
            for engine in ("vllm", "sglang", "llama.cpp")
        ]
        for work in _workloads():
            one, other = (each.forecast(model, work, pairs) for each in (base, own))
            for metric, said in one.log_median.items():
                compared += len(said)
                most = max(most, float(np.nanmax(np.abs(said - other.log_median[metric]), initial=0.0)))
    return compared, most


def _workloads() -> list[Workload]:
    named = catalog.workloads()
    return [
        named[name][0].model_copy(update={"concurrency": 16.0, "request_rate_per_s": None})
        for name in sorted(named)
        if named[name][0].input_tokens is not None and named[name][0].output_tokens is not None
    ]
