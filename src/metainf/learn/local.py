"""What the runs of one machine teach: an exact Gaussian process over what a prior left of log values.

A *place* is a method in a task (a model and a workload). Two places are alike as far as their tasks are
(sizes, lengths, load, shared prefixes, copied text, the same model or workload) and as far as their
methods are (the same engine and settings of techniques; numbers on a logarithmic scale). The covariance
is a sum of parts: the level of the machine, of like tasks and of the task; the effect of like methods,
everywhere and in like tasks; an error of the prior that grows with what it said; and what is left of the
place alone. How large the parts are is settled by the runs themselves, by marginal likelihood against a
weak prior, on a small grid. Nothing is trained elsewhere, so an engine that no history knows is learnt
like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Method, Setting, Workload
from metainf.embed.columns import encode_hardware, encode_method
from metainf.embed.moments import content_features
from metainf.learn.views import Floats

Numbers = NDArray[np.intp]
_LOG_AXES = {
    "params": 1.5, "active": 1.5, "input": 2.0, "output": 2.0, "load": 3.0, "rate": 3.0, "pixels": 1.5,
    "steps": 1.5, "frames": 1.5,
}  # fmt: skip
"""Length scales in powers of two."""
_SHARE_AXES = {"prefix": 0.3, "copied": 0.3, "repeated": 0.3}
_WORDS = (
    "engine", "engine_version", "batching", "speculative", "weight_format", "dtype", "kv_format", "sequence",
    "attention_backend", "memory_mode", "flags", "platform",
)  # fmt: skip
_NUMBERS = (
    "max_sequences", "max_step_tokens", "chunked_prefill", "chunk_tokens", "prefix_cache",
    "speculative_tokens", "weight_bits", "tensor", "pipeline", "expert", "data", "attention_data", "disaggregated",
    "prefill_workers", "prefill_tensor", "prefill_expert", "decode_workers", "decode_tensor", "decode_expert",
    "decode_attention_data", "compile", "fused_qkv", "num_devices",
)  # fmt: skip
_DOUBLINGS = 2.0
"""Length scale of the numbers of a method, in powers of two."""
_FIELDS_APART = 2.0
"""Settings in which two methods differ before their joint effects are little alike."""


@dataclass(frozen=True)
class Places:
    """n places. `task`: codes of the choices they belong to; `work` (t, t) and `method` (m, m) hold how
    alike the distinct tasks and methods are, `additive` (m, m) the share of settings in common."""

    task: Numbers
    setting: Numbers
    kind: Numbers
    work: Floats
    method: Floats
    additive: Floats

    def __len__(self) -> int:
        return len(self.task)

    def take(self, rows: Numbers) -> "Places":
        """The given places."""
        task = np.unique(self.task[rows], return_inverse=True)[1].ravel()
        return replace(self, task=task, setting=self.setting[rows], kind=self.kind[rows])


def places(settings: Sequence[Setting], methods: Sequence[Method], tasks: Sequence[Any]) -> Places:
    """The places of n (setting, method) pairs; `tasks` names the choice that each belongs to."""
    task = np.unique(np.array([str(name) for name in tasks]), return_inverse=True)[1].ravel()
    asked, setting = _distinct([(s.model.id, s.workload.id) for s in settings])
    used, kind = _distinct([(m.id, s.hardware.id) for m, s in zip(methods, settings, strict=True)])
    rows = [encode_method(methods[i]) | encode_hardware(settings[i].hardware) for i in used]
    apart = _fields_apart(rows)
    additive = np.exp(-apart).mean(axis=0) if len(apart) else np.ones((len(used), len(used)))
    return Places(
        task.astype(np.intp),
        setting,
        kind,
        _alike([settings[i] for i in asked]),
        np.exp(-apart.sum(axis=0) / _FIELDS_APART),
        additive,
    )


def _distinct(keys: Sequence[Any]) -> tuple[list[int], Numbers]:
    """The place of the first of each distinct key, and the number of each key."""
    first: dict[Any, int] = {}
    number: dict[Any, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
        number.setdefault(key, len(number))
    return list(first.values()), np.array([number[key] for key in keys], dtype=np.intp)


def _alike(settings: Sequence[Setting]) -> Floats:
    """How alike tasks are (t, t): near in every axis, and more so under one name."""
    content: dict[str, dict[str, float]] = {}
    rows = [_axes(setting, content) for setting in settings]
    raw = np.array([list(row.values()) for row in rows], dtype=np.float64)
    known = np.isfinite(raw)
    middle = np.where(known, raw, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    points = np.where(known, raw, middle)
    near = np.exp(-0.5 * ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2))
    model = np.array([setting.model.name for setting in settings])
    name = np.array([setting.workload.name or "" for setting in settings])
    same_model, same_name = model[:, None] == model, name[:, None] == name
    return np.asarray(near * (0.5 + 0.5 * same_model) * (0.5 + 0.5 * same_name))


def _axes(setting: Setting, content: dict[str, dict[str, float]]) -> dict[str, float]:
    """Coordinates of a task in units of a length scale; NaN for what is not stated."""
    model, work = setting.model, setting.workload
    if work.id not in content:
        content[work.id] = content_features(work.content or ())
    pixels = (work.width_px or 0) * (work.height_px or 0)
    sizes = {
        "params": model.params_b or model.denoiser_params_b,
        "active": model.active_params_b or model.params_b,
        "input": work.input_tokens.mean + 1 if work.input_tokens else None,
        "output": work.output_tokens.mean + 1 if work.output_tokens else None,
        "load": requests_at_once(work),
        "rate": work.request_rate_per_s,
        "pixels": pixels or None,
        "steps": work.steps,
        "frames": work.frames,
    }
    shares = {
        "prefix": work.prefix_share,
        "copied": content[work.id]["copied"],
        "repeated": content[work.id]["repeated"],
    }
    found = {name: np.log2(value) / _LOG_AXES[name] if value else np.nan for name, value in sizes.items()}
    return found | {name: np.nan if v is None else v / _SHARE_AXES[name] for name, v in shares.items()}


def requests_at_once(work: Workload) -> float | None:
    """Concurrency, else batch size, else all requests at once; None where none is stated."""
    return work.concurrency or work.batch_size or work.num_requests


def _fields_apart(rows: Sequence[dict[str, float | str]]) -> Floats:
    """Distances (fields, m, m), 0 to 1, of the settings in which methods differ."""
    found = []
    for name in _WORDS:
        words = np.array([str(row[name]) for row in rows])
        if len(np.unique(words)) > 1:
            found.append((words[:, None] != words).astype(np.float64))
    for name in _NUMBERS:
        values = np.array([float(row[name]) for row in rows])
        told = np.isfinite(values)
        logs = np.log2(np.where(told, values, 0.0) + 1.0)
        gap = np.minimum(np.abs(logs[:, None] - logs) / _DOUBLINGS, 1.0)
        gap = np.where(told[:, None] & told, gap, (told[:, None] != told) * 1.0)
        if gap.any():
            found.append(gap)
    return np.array(found) if found else np.zeros((0, len(rows), len(rows)))


@dataclass(frozen=True)
class Sizes:
    """Standard deviations in natural-log units: of levels, of the effects of methods, of one run; the share
    of an effect that varies with the task."""

    level: float = 1.0
    effect: float = 0.3
    noise: float = 0.03
    varying: float = 0.5


_GRID: dict[str, tuple[float, ...]] = {
    "effect": (0.05, 0.1, 0.2, 0.4, 0.8),
    "varying": (0.2, 0.5, 0.8),
    "noise": (0.01, 0.03, 0.08),
    "level": (0.3, 1.0, 3.0),
}
_BELIEF = {"effect": (0.3, 0.7), "noise": (0.03, 0.7), "level": (1.0, 1.0), "varying": (0.5, 1.0)}
"""Median and log-scale of the weak prior on each size."""
_SLOPE = 0.3
"""How far, in standard deviations, the contrasts of a prior may be too strong or too weak."""
_ALONE = 0.1
"""Share of an effect's variance that nothing else shares."""
FEWEST = 4
"""Runs below which the sizes stay as believed."""


class Kernel:
    """Covariances between places under a prior (n,), NaN where it says nothing."""

    def __init__(self, where: Places, prior: Floats) -> None:
        self.where, self.prior = where, centred(prior, where.task)

    def parts(self, left: Numbers, right: Numbers) -> dict[str, Floats]:
        """Unscaled parts (a, b): level, effects everywhere and in like tasks, slope."""
        where = self.where
        work = where.work[np.ix_(where.setting[left], where.setting[right])]
        pairs = np.ix_(where.kind[left], where.kind[right])
        same = where.task[left][:, None] == where.task[right]
        effect = 0.5 * where.additive[pairs] + 0.5 * where.method[pairs]
        alone = (left[:, None] == right) * 1.0
        return {
            "level": 0.4 + 0.3 * work + 0.3 * same,
            "shared": (1 - _ALONE) * effect + _ALONE * alone,
            "varying": (1 - _ALONE) * where.method[pairs] * (0.7 * work + 0.3 * same) + _ALONE * alone,
            "slope": _SLOPE**2 * np.outer(self.prior[left], self.prior[right]),
        }

    @staticmethod
    def joined(parts: dict[str, Floats], sizes: Sizes) -> Floats:
        """Their sum under the sizes."""
        effect = (1 - sizes.varying) * parts["shared"] + sizes.varying * parts["varying"]
        return np.asarray(sizes.level**2 * parts["level"] + sizes.effect**2 * effect + parts["slope"])


def centred(values: Floats, task: Numbers) -> Floats:
    """Values less the mean of the known ones of their task; 0 where nothing is known."""
    known = np.isfinite(values)
    count = np.maximum(np.bincount(task[known], minlength=int(task.max(initial=0)) + 1), 1)
    total = np.bincount(task[known], weights=values[known], minlength=len(count))
    return np.where(known, values - (total / count)[task], 0.0)


@dataclass(frozen=True)
class Posterior:
    """What is believed of n log values: mean (n,), covariance (n, n), the error of one more run."""

    mean: Floats
    covariance: Floats
    noise: float
    sizes: Sizes

    def seen(self, place: int, log_value: float) -> "Posterior":
        """After one more run of a place (sizes stay)."""
        pull = self.covariance[:, place] / (self.covariance[place, place] + self.noise**2)
        return replace(
            self,
            mean=self.mean + pull * (log_value - self.mean[place]),
            covariance=self.covariance - np.outer(pull, self.covariance[place]),
        )


def posterior(
    where: Places, prior: Floats, rows: Numbers, log_values: Floats, sizes: Sizes | None = None
) -> Posterior:
    """Beliefs about every place after runs of `rows` (which may repeat) measured `log_values`.

    prior: natural logs (n,), NaN where nothing is said: such places stand at the mean of their task, or of
    all. `sizes` given are not settled anew.
    """
    from scipy.linalg import cho_solve, solve_triangular

    kernel, every = Kernel(where, prior), np.arange(len(where))
    start = filled(prior, where.task)
    sizes = sizes or settled(kernel, rows, log_values - start[rows])
    full = kernel.joined(kernel.parts(every, every), sizes)
    if not len(rows):
        return Posterior(start, full, sizes.noise, sizes)
    cross = full[:, rows]
    lower = np.linalg.cholesky(cross[rows] + sizes.noise**2 * np.eye(len(rows)))
    mean = start + cross @ cho_solve((lower, True), log_values - start[rows])
    half = solve_triangular(lower, cross.T, lower=True)
    return Posterior(mean, full - half.T @ half, sizes.noise, sizes)


def filled(prior: Floats, task: Numbers) -> Floats:
    """A prior without gaps: unknown places at the mean of their task's known ones, else at that of all."""
    known = np.isfinite(prior)
    overall = float(prior[known].mean()) if known.any() else 0.0
    count = np.bincount(task[known], minlength=int(task.max(initial=0)) + 1)
    total = np.bincount(task[known], weights=prior[known], minlength=len(count))
    middle = np.where(count > 0, total / np.maximum(count, 1), overall)
    return np.where(known, prior, middle[task])


def settled(kernel: Kernel, rows: Numbers, left: Floats) -> Sizes:
    """The sizes of the grid under which the residuals of the runs are likeliest, found one at a time."""
    sizes = Sizes()
    if len(rows) < FEWEST:
        return sizes
    parts = kernel.parts(rows, rows)
    best = _evidence(parts, sizes, left)
    for _ in range(2):
        before = sizes
        for name, options in _GRID.items():
            for value in options:
                tried = replace(sizes, **{name: value})
                if tried != sizes and (found := _evidence(parts, tried, left)) > best:
                    best, sizes = found, tried
        if sizes == before:
            break
    return sizes


def _evidence(parts: dict[str, Floats], sizes: Sizes, left: Floats) -> float:
    """Log marginal likelihood of residuals, and the log of the belief in the sizes."""
    from scipy.linalg import solve_triangular

    covariance = Kernel.joined(parts, sizes) + sizes.noise**2 * np.eye(len(left))
    lower = np.linalg.cholesky(covariance)
    half = solve_triangular(lower, left, lower=True, check_finite=False)
    belief = sum(
        ((np.log(getattr(sizes, name)) - np.log(middle)) / scale) ** 2
        for name, (middle, scale) in _BELIEF.items()
    )
    return float(-0.5 * half @ half - np.log(np.diag(lower)).sum() - 0.5 * belief)
