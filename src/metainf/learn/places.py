"""Places: methods in tasks on a machine, and how alike two of them are.

Tasks are alike as far as their sizes, lengths, load, shared prefixes and copied text are near, and more so
under one name of model or workload. Methods are alike as far as they have the same engine and settings of
techniques; numbers are compared on a logarithmic scale. No measured value is read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.domain import Batching, Device, Hardware, Method, Model, Setting, Workload
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
_NOT_REACHED = 1 << 20
"""Stands for a bound on batches that no load reaches."""
_ELSEWHERE, _OTHER_DEVICE, _OTHER_KIND = 0.9, 0.9, 0.6
"""How far the effects of methods carry over to another machine: to one of the same device, less to another
device, less still between kinds (CPU, GPU)."""


@dataclass(frozen=True)
class Places:
    """n places. `task`: codes of the choices they belong to; `work` (t, t) and `method` (m, m) hold how
    alike the distinct tasks and methods are, `additive` (m, m) the share of settings in common. `machine`:
    codes of where they run, `kin` (k, k) how far the effects of methods carry over between those."""

    task: Numbers
    setting: Numbers
    kind: Numbers
    work: Floats
    method: Floats
    additive: Floats
    machine: Numbers
    kin: Floats

    def __len__(self) -> int:
        return len(self.task)

    def take(self, rows: Numbers) -> "Places":
        """The given places."""
        task = np.unique(self.task[rows], return_inverse=True)[1].ravel()
        parts = {name: getattr(self, name)[rows] for name in ("setting", "kind", "machine")}
        return replace(self, task=task, **parts)


def places(
    settings: Sequence[Setting],
    methods: Sequence[Method],
    tasks: Sequence[Any],
    machines: Sequence[str] | None = None,
) -> Places:
    """The places of n (setting, method) pairs; `tasks` names the choice that each belongs to, `machines`
    where each runs (None: all on one)."""
    task = np.unique(np.array([str(name) for name in tasks]), return_inverse=True)[1].ravel()
    models, works, hardware = (
        _ids([getattr(one, part) for one in settings]) for part in ("model", "workload", "hardware")
    )
    asked, setting = _distinct(list(zip(models, works, strict=True)))
    pairs = list(zip(_ids(methods), works, strict=True))
    sized = {pair: _as_loaded(m, s.workload) for pair, m, s in zip(pairs, methods, settings, strict=True)}
    methods = [sized[pair] for pair in pairs]
    used, kind = _distinct(list(zip(_ids(methods), hardware, strict=True)))
    rows = [encode_method(methods[i]) | encode_hardware(settings[i].hardware) for i in used]
    apart = _fields_apart(rows)
    additive = np.exp(-apart).mean(axis=0) if len(apart) else np.ones((len(used), len(used)))
    owners, machine = _distinct([""] * len(settings) if machines is None else machines)
    return Places(
        task.astype(np.intp),
        setting,
        kind,
        _alike([settings[i] for i in asked]),
        np.exp(-apart.sum(axis=0) / _FIELDS_APART),
        additive,
        machine,
        _kin([settings[i].hardware.device for i in owners]),
    )


def _kin(devices: Sequence[Device]) -> Floats:
    """How far effects carry over between machines (k, k), by what they are: 1 on the diagonal."""
    kind = np.array([device.kind or "" for device in devices])
    name = np.array([device.name for device in devices])
    found = np.full((len(devices), len(devices)), _ELSEWHERE)
    for words, share in ((kind, _OTHER_KIND), (name, _OTHER_DEVICE)):
        found *= np.where(words[:, None] == words, 1.0, share)
    np.fill_diagonal(found, 1.0)
    return found


def _as_loaded(method: Method, work: Workload) -> Method:
    """The method with every bound of its batches that the load does not reach as one: batches of all that
    are in flight are the same method at every load."""
    batching, load = method.get(Batching), requests_at_once(work)
    if batching is None or load is None or (batching.max_sequences or 0) < load:
        return method
    bare = batching.model_copy(update={"max_sequences": _NOT_REACHED})
    others = tuple(item for item in method.techniques if item is not batching)
    return method.model_copy(update={"techniques": (*others, bare)})


def _ids(values: Sequence[Model | Workload | Hardware | Method]) -> list[str]:
    """The id of each value, found once for each object."""
    known = {id(value): value for value in values}
    found = {place: value.id for place, value in known.items()}
    return [found[id(value)] for value in values]


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
    rows = [_axes(setting) for setting in settings]
    raw = np.array([list(row.values()) for row in rows], dtype=np.float64)
    known = np.isfinite(raw)
    middle = np.where(known, raw, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    points = np.where(known, raw, middle)
    near = np.exp(-0.5 * ((points[:, None, :] - points[None, :, :]) ** 2).sum(axis=2))
    model = np.array([setting.model.name for setting in settings])
    name = np.array([setting.workload.name or "" for setting in settings])
    same_model, same_name = model[:, None] == model, name[:, None] == name
    return np.asarray(near * (0.5 + 0.5 * same_model) * (0.5 + 0.5 * same_name))


@lru_cache(maxsize=256)
def _told(content: tuple[str, ...]) -> dict[str, float]:
    """What texts show of how far they repeat themselves and their prompts."""
    return content_features(content)


def _axes(setting: Setting) -> dict[str, float]:
    """Coordinates of a task in units of a length scale; NaN for what is not stated."""
    model, work = setting.model, setting.workload
    content = _told(tuple(work.content or ()))
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
        "copied": content["copied"],
        "repeated": content["repeated"],
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
