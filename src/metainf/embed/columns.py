"""Settings and methods as columns of numbers and names: the plain meta-features (paper 4.2.1).

A `Columns` maps a name to an array of length n. Numbers are float64 with NaN for "the source does not
say"; names are string arrays with "" for absent. Physics and text embeddings build on these.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import (
    AttentionBackend,
    Autoencoder,
    Batching,
    ChunkedPrefill,
    Compile,
    Device,
    Disaggregation,
    DistilledModel,
    Flags,
    FusedQkv,
    Hardware,
    KvQuantization,
    MemoryFormat,
    MemoryMode,
    Method,
    Model,
    Parallelism,
    Precision,
    PrefixCache,
    Schedule,
    Speculative,
    WeightQuantization,
    Workload,
)

Columns = dict[str, NDArray[Any]]
P = TypeVar("P")
NAN = float("nan")
Encoder = Callable[[P], dict[str, float | str]]
Encoded = tuple[NDArray[np.float64], NDArray[np.intp]]

_NAMES_OF_MODEL = {"name": "model", "modality": "modality", "attention": "attention", "denoiser": "denoiser"}
_NAMES_OF_DEVICE = {"name": "device", "vendor": "vendor", "kind": "device_kind", "arch": "arch"}
_NOT_FEATURES = {"family", "source", "dtype", "quantization", "title", "release", "compute_capability"}
_DTYPE_BITS = {"fp32": 32.0, "tf32": 32.0, "fp16": 16.0, "bf16": 16.0}
_MOST_REMEMBERED = 65_536


def number(value: float | int | bool | None) -> float:
    """A float, NaN for None."""
    return NAN if value is None else float(value)


def encode_model(model: Model) -> dict[str, float | str]:
    """Architecture facts under the names of `Model`."""
    return _plain(model, _NAMES_OF_MODEL)


def encode_device(device: Device) -> dict[str, float | str]:
    """Data-sheet facts under the names of `Device`; compute capability as a number."""
    row = _plain(device, _NAMES_OF_DEVICE)
    try:
        row["compute_capability"] = float(device.compute_capability or "nan")
    except ValueError:
        row["compute_capability"] = NAN
    return row


def encode_hardware(hardware: Hardware) -> dict[str, float | str]:
    """The device, and how many of them."""
    row = encode_device(hardware.device)
    row["num_devices"], row["nodes"] = number(hardware.count), number(hardware.nodes)
    row["platform"] = hardware.platform or ""
    return row


def encode_workload(workload: Workload) -> dict[str, float | str]:
    """Mean lengths in tokens, their spread as a coefficient of variation, load and picture size."""
    row: dict[str, float | str] = {"workload": workload.name or ""}
    for side in ("input", "output"):
        lengths = getattr(workload, f"{side}_tokens")
        mean, std = (NAN, NAN) if lengths is None else (lengths.mean, number(lengths.std))
        row[f"{side}_tokens"] = mean
        row[f"{side}_cv"] = std / mean if mean and mean > 0 else NAN
    for field in ("concurrency", "request_rate_per_s", "batch_size", "num_requests", "prefix_share"):
        row[field] = number(getattr(workload, field))
    for field in ("interarrival_cv", "width_px", "height_px", "steps", "frames"):
        row[field] = number(getattr(workload, field))
    return row


def encode_method(method: Method) -> dict[str, float | str]:
    """Engine and techniques; an absent technique is NaN or "", never a guessed default."""
    row: dict[str, float | str] = {"engine": method.engine, "engine_version": method.engine_version or ""}
    _add_formats(row, method)
    _add_layout(row, method)
    _add_scheduling(row, method)
    backend, memory, flags = method.get(AttentionBackend), method.get(MemoryMode), method.get(Flags)
    row["attention_backend"] = backend.name if backend else ""
    row["memory_mode"] = memory.name if memory else ""
    row["flags"] = " ".join(flags.values) if flags else ""
    compiled, fused = method.get(Compile), method.get(FusedQkv)
    row["compile"] = number(compiled.enabled if compiled else None)
    row["fused_qkv"] = number(fused.enabled if fused else None)
    _add_drawing(row, method)
    return row


def _add_drawing(row: dict[str, float | str], method: Method) -> None:
    student, schedule = method.get(DistilledModel), method.get(Schedule)
    decoder, layout = method.get(Autoencoder), method.get(MemoryFormat)
    row["distilled_model"] = student.model if student else ""
    row["schedule"] = (schedule.name or "") if schedule else ""
    row["schedule_steps"] = number(schedule.steps) if schedule else NAN
    row["guided"] = number(schedule.guided) if schedule else NAN
    row["autoencoder"] = decoder.name if decoder else ""
    row["memory_format"] = layout.name if layout else ""


def _add_formats(row: dict[str, float | str], method: Method) -> None:
    weights, kv, precision = method.get(WeightQuantization), method.get(KvQuantization), method.get(Precision)
    dtype = precision.dtype if precision else ""
    arithmetic = _DTYPE_BITS.get(dtype, NAN)
    row["weight_format"] = weights.format if weights else ""
    row["dtype"] = dtype
    row["kv_format"] = kv.format if kv else ""
    row["weight_bits"] = arithmetic
    row["activation_bits"] = arithmetic
    if weights:
        row["weight_bits"] = number(weights.bits or catalog.weight_bits(weights.format))
        row["activation_bits"] = number(weights.activation_bits or catalog.activation_bits(weights.format))
    row["kv_bits"] = number(catalog.weight_bits(kv.format)) if kv else NAN


def _add_layout(row: dict[str, float | str], method: Method) -> None:
    layout, split = method.get(Parallelism), method.get(Disaggregation)
    for field in ("tensor", "pipeline", "expert", "data", "attention_data"):
        row[field] = number(getattr(layout, field)) if layout else NAN
    row["sequence"] = (layout.sequence or "") if layout else ""
    row["disaggregated"] = float(split is not None)
    for role in ("prefill", "decode"):
        pool = getattr(split, role) if split else None
        for field in ("workers", "tensor", "expert", "attention_data"):
            row[f"{role}_{field}"] = number(getattr(pool, field)) if pool else NAN


def _add_scheduling(row: dict[str, float | str], method: Method) -> None:
    batching, chunks = method.get(Batching), method.get(ChunkedPrefill)
    cache, speculative = method.get(PrefixCache), method.get(Speculative)
    row["batching"] = batching.mode if batching else ""
    row["max_sequences"] = number(batching.max_sequences) if batching else NAN
    row["max_step_tokens"] = number(batching.max_tokens) if batching else NAN
    row["chunked_prefill"] = number(chunks.enabled) if chunks else NAN
    row["chunk_tokens"] = number(chunks.tokens) if chunks else NAN
    row["prefix_cache"] = number(cache.enabled) if cache else NAN
    row["speculative"] = speculative.algorithm if speculative else ""
    row["speculative_tokens"] = number(speculative.tokens) if speculative else NAN


def columns(
    models: Sequence[Model],
    workloads: Sequence[Workload],
    hardware: Sequence[Hardware],
    methods: Sequence[Method],
) -> Columns:
    """Columns of n settings and methods given as four sequences of length n (or 1, then repeated)."""
    length = max(len(models), len(workloads), len(hardware), len(methods))
    found: Columns = {}
    for parts, encoder in (
        (models, encode_model),
        (workloads, encode_workload),
        (hardware, encode_hardware),
        (methods, encode_method),
    ):
        found |= gather(parts, encoder, length)  # type: ignore[arg-type]
    return found


def gather(parts: Sequence[P], encoder: Encoder[P], length: int) -> Columns:
    """Columns of n parts of one sort (or of 1, then repeated)."""
    if len(parts) not in (1, length):
        raise ValueError(f"expected 1 or {length} parts, found {len(parts)}")
    memory = _memory_of(encoder)
    places: dict[int, int] = {}
    rows: list[Encoded] = []
    index = []
    for part in parts:
        row = places.get(id(part))
        if row is None:
            row = places[id(part)] = len(rows)
            rows.append(memory.of(part))
        index.append(row)
    where = np.array(index if len(parts) == length else index * length, dtype=np.intp)
    numbers = np.concatenate([row[0] for row in rows]).reshape(len(rows), -1).T[:, where]
    found: Columns = dict(zip(memory.number_fields, numbers, strict=True))
    codes = np.concatenate([row[1] for row in rows]).reshape(len(rows), -1).T
    for (field, words), own in zip(memory.words.items(), codes, strict=True):
        used, place = np.unique(own, return_inverse=True)
        known = list(words)
        found[field] = np.array([known[word] for word in used], dtype=np.str_)[place.ravel()[where]]
    return {field: found[field] for field in memory.fields}


class _Memory:
    """What one encoder said of each part, by identity (parts are frozen): its numbers, and its names as
    numbers of `words`."""

    def __init__(self, encoder: Encoder[Any]) -> None:
        self._encoder = encoder
        self._seen: dict[int, tuple[object, Encoded]] = {}
        self.fields: tuple[str, ...] = ()
        self.number_fields: tuple[str, ...] = ()
        self.words: dict[str, dict[str, int]] = {}

    def of(self, part: object) -> Encoded:
        """The encoding of a part, made when it is first asked for."""
        hit = self._seen.get(id(part))
        if hit is not None and hit[0] is part:
            return hit[1]
        if len(self._seen) >= _MOST_REMEMBERED:
            self._seen.clear()
        row = self._encoder(part)
        if not self.fields:
            self.fields = tuple(row)
            self.number_fields = tuple(field for field in row if isinstance(row[field], float))
            self.words = {field: {} for field in row if isinstance(row[field], str)}
        numbers = np.array([row[field] for field in self.number_fields], dtype=np.float64)
        codes = [known.setdefault(str(row[field]), len(known)) for field, known in self.words.items()]
        found = numbers, np.array(codes, dtype=np.intp)
        self._seen[id(part)] = part, found
        return found


_memories: dict[str, _Memory] = {}


def _memory_of(encoder: Encoder[Any]) -> _Memory:
    return _memories.setdefault(encoder.__name__, _Memory(encoder))


def _plain(part: Model | Device, names: dict[str, str]) -> dict[str, float | str]:
    row: dict[str, float | str] = {}
    for field in type(part).model_fields:
        value = getattr(part, field)
        if field in names:
            row[names[field]] = value or ""
        elif field not in _NOT_FEATURES:
            row[field] = number(value)
    return row
