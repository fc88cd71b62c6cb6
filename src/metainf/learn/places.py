"""Places of one machine: methods in tasks, and how alike two of them are.

Tasks are alike as far as their sizes, lengths, load, shared prefixes and copied text are near, and more so
under one name of model or workload. Methods are alike as far as they have the same engine and settings of
techniques; numbers are compared on a logarithmic scale. No measured value is read.
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
    "params": 2.0, "active": 2.0, "input": 3.0, "output": 3.0, "load": 4.0, "rate": 4.0, "pixels": 2.0,
    "steps": 2.0, "frames": 2.0,
}  # fmt: skip
"""Length scales in powers of two."""
_SHARE_AXES = {"prefix": 0.4, "copied": 0.4, "repeated": 0.4}
_WORDS = (
    "engine", "engine_version", "batching", "speculative", "weight_format", "dtype", "kv_format", "sequence",
    "attention_backend", "memory_mode", "flags", "platform",
)  # fmt: skip
_NUMBERS = (
    "max_sequences", "max_step_tokens", "chunked_prefill", "chunk_tokens", "prefix_cache",
    "speculative_tokens", "weight_bits", "tensor", "pipeline", "expert", "data", "attention_data",
    "disaggregated",
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
