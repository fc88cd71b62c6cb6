"""A predictor corrected by this machine's own runs.

Each metric is learnt alone: a Gaussian process (`local`) over what the predictor left of the logs of the
runs on the same device. Without such runs the predictor's word stands; where the predictor is silent, what
the runs show is all there is. Fitted anew for each question, in milliseconds for some hundred runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Hardware, MetaInfError, Method, Model, Record, Setting, Workload
from metainf.learn.forecast import Forecast
from metainf.learn.local import TRUST, Sizes, chances, posterior
from metainf.learn.own_history import METRICS, OwnRun, merged
from metainf.learn.places import Places, places
from metainf.learn.views import Floats

Pairs = Sequence[tuple[Hardware, Method]]
_LEAST_SCALE, _LEAST_CHANCE = 0.05, 0.01
_NONE = np.array([np.nan])


class Predicts(Protocol):
    """What is corrected."""

    def forecast(self, model: Model, workload: Workload, pairs: Pairs) -> Forecast:
        """Forecasts of all pairs."""


@dataclass(frozen=True)
class _Question:
    """Own runs and what is asked about, as places: the runs first. `pairs` of `total` are asked about."""

    where: Places
    runs: list[int]
    pairs: NDArray[np.intp]
    total: int


class OwnRuns:
    """`base` corrected by own runs; a base of None predicts from the runs alone."""

    def __init__(self, base: Predicts | None, runs: Sequence[OwnRun]) -> None:
        self.base, self.runs = base, list(runs)
        self.engines: dict[str, set[str]] = {}
        for run in self.runs:
            self.engines.setdefault(run.device, set()).add(run.method.engine)
        self._told: list[Forecast | None] | None = None
        self._sizes: dict[tuple[str, str], Sizes] = {}

    @classmethod
    def of(cls, base: Predicts | None, records: Sequence[Record]) -> "OwnRuns":
        """From records; their repeats are merged."""
        return cls(base, merged(records))

    def forecast(self, model: Model, workload: Workload, pairs: Pairs) -> Forecast:
        """Forecasts of all pairs. Pairs on other devices are left as the base says.

        Raises what the base raises for a question that it cannot answer.
        """
        said = self.base.forecast(model, workload, pairs) if self.base is not None else None
        devices = np.array([hardware.device.name for hardware, _ in pairs])
        median = {name: values.copy() for name, values in said.log_median.items()} if said else {}
        scale = {name: values.copy() for name, values in said.log_scale.items()} if said else {}
        p_ok = said.p_ok.copy() if said else np.ones(len(pairs))
        for device in np.unique(devices).tolist():
            rows = [i for i, one in enumerate(self.runs) if one.device == device]
            if rows:
                here = np.flatnonzero(devices == device)
                asked = self._asked(rows, model, workload, pairs, here)
                p_ok[here] = self._chances(asked, p_ok[here], pairs)
                for metric in METRICS:
                    self._correct(asked, metric, median, scale)
        return Forecast(median, scale, p_ok, said.basis if said else {})

    @property
    def _said(self) -> list[Forecast | None]:
        """What the base says of each own run, asked when it is needed first; None where it cannot tell."""
        if self._told is None:
            self._told = self._of_runs()
        return self._told

    def _of_runs(self) -> list[Forecast | None]:
        found: list[Forecast | None] = [None] * len(self.runs)
        if self.base is None:
            return found
        groups: dict[tuple[str, str], list[int]] = {}
        for i, one in enumerate(self.runs):
            groups.setdefault((one.setting.model.id, one.setting.workload.id), []).append(i)
        for rows in groups.values():
            first = self.runs[rows[0]].setting
            pairs = [(self.runs[i].setting.hardware, self.runs[i].method) for i in rows]
            try:
                said = self.base.forecast(first.model, first.workload, pairs)
            except MetaInfError:
                continue
            for place, i in enumerate(rows):
                found[i] = said.take([place])
        return found

    def _asked(
        self, rows: list[int], model: Model, workload: Workload, pairs: Pairs, here: NDArray[np.intp]
    ) -> _Question:
        few = [pairs[i] for i in here.tolist()]
        every = [self.runs[i].setting for i in rows]
        every += [Setting(model=model, workload=workload, hardware=hardware) for hardware, _ in few]
        used = [self.runs[i].method for i in rows] + [method for _, method in few]
        names = {id(part): part.id for one in every for part in (one.model, one.workload)}
        tasks = [f"{names[id(setting.model)]} {names[id(setting.workload)]}" for setting in every]
        return _Question(places(every, used, tasks), rows, here, len(pairs))

    def _chances(self, asked: _Question, p_ok: Floats, pairs: Pairs) -> Floats:
        """Chances of the asked pairs: scaled by how the runs of their engine fared against what the base said
        of them, then moved by how the runs most like them fared."""
        ran = np.arange(len(asked.runs))
        worked = np.array([self.runs[i].worked for i in asked.runs])
        said = [self._said[i] for i in asked.runs]
        before = np.array([1.0 if one is None else float(one.p_ok[0]) for one in said])
        engine = np.array([self.runs[i].method.engine for i in asked.runs])
        chance = p_ok.copy()
        for place, i in enumerate(asked.pairs.tolist()):
            mine = engine == pairs[i][1].engine
            if mine.any():
                expected = max(float(before[mine].mean()), _LEAST_CHANCE)
                found = (TRUST * expected + worked[mine].sum()) / (TRUST + mine.sum())
                chance[place] = min(1.0, float(p_ok[place] * found / expected))
        return chances(asked.where, np.concatenate([before, chance]), ran, worked)[len(ran) :]

    def _correct(
        self, asked: _Question, metric: str, median: dict[str, Floats], scale: dict[str, Floats]
    ) -> None:
        """Lay one metric's correction on the medians and scales of the asked pairs, in place."""
        shown = np.array([self.runs[i].logs.get(metric, np.nan) for i in asked.runs])
        rows = np.flatnonzero(np.isfinite(shown))
        if not len(rows):
            return
        if metric not in median:
            median[metric], scale[metric] = np.full(asked.total, np.nan), np.full(asked.total, np.nan)
        said = [self._said[i] for i in asked.runs]
        before = [np.nan if one is None else float(one.log_median.get(metric, _NONE)[0]) for one in said]
        prior = np.concatenate([before, median[metric][asked.pairs]])
        wide = scale[metric][asked.pairs]
        wide = wide[np.isfinite(wide)]
        known = max(float(np.median(wide)), _LEAST_SCALE) if len(wide) else None
        believed = Sizes() if known is None else Sizes(level=known, effect=0.5 * known)
        key = self.runs[asked.runs[0]].device, metric
        found = posterior(asked.where, prior, rows, shown[rows], believed, sizes=self._sizes.get(key))
        self._sizes[key] = found.sizes
        place = np.arange(len(asked.runs), len(asked.where))
        median[metric][asked.pairs] = found.mean[place]
        variance = np.maximum(np.diag(found.covariance)[place], 0.0) + found.noise**2
        scale[metric][asked.pairs] = np.sqrt(variance)
