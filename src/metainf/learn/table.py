"""Records as one columnar table, with the keys by which learners are split and judged.

Two rows stand in the same *cell* when they differ only in method and number of devices: same source,
model, workload, load and device type. In the *free* cell the load is part of the choice too (the
budget view).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import BadInput, Flags, Method, Metrics, Record, Workload
from metainf.embed.columns import Columns, columns, encode_method

METRICS = tuple(name for name in Metrics.model_fields if name != "quality_metric")
_VARIANT = re.compile(
    r"-(instruct|chat|hf|it|fp8|fp8-dynamic|nvfp4|fp4|bf16|awq|gptq|int8|int4|w8a8|w4a16|dynamic|gguf)$"
)


@dataclass(frozen=True)
class Table:
    """n rows. `metrics[name]` is NaN where not measured; `ok` is False for failures.

    keys: source, campaign, date, model, model_group, device, workload, cell, free_cell, method,
    family — string arrays of length n.
    """

    columns: Columns
    metrics: dict[str, NDArray[np.float64]]
    ok: NDArray[np.bool_]
    keys: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ok)

    def take(self, index: NDArray[Any]) -> "Table":
        """The rows of an index or mask."""
        return Table(
            {name: values[index] for name, values in self.columns.items()},
            {name: values[index] for name, values in self.metrics.items()},
            self.ok[index],
            {name: values[index] for name, values in self.keys.items()},
        )


def table(records: Iterable[Record]) -> Table:
    """Build the table. Repeats stay rows of their own."""
    rows = list(records)
    settings = [row.setting for row in rows]
    found = columns(
        [s.model for s in settings] or _no_rows(),
        [s.workload for s in settings],
        [s.hardware for s in settings],
        [row.method for row in rows],
    )
    metrics = {name: np.full(len(rows), np.nan) for name in METRICS}
    for place, row in enumerate(rows):
        if row.metrics is not None:
            for name, value in row.metrics:
                if value is not None and name in metrics:
                    metrics[name][place] = value
    ok = np.array([row.metrics is not None for row in rows])
    return Table(found, metrics, ok, _keys(rows))


def _no_rows() -> list[Any]:
    raise BadInput(
        "expected records to learn from, found none: import some (metainf import) or loosen the filter"
    )


def _keys(rows: Sequence[Record]) -> dict[str, NDArray[Any]]:
    names: dict[str, list[str]] = {
        key: []
        for key in (
            "source", "campaign", "date", "model", "model_group", "device",
            "workload", "cell", "free_cell", "method", "family", "quality_group",
        )
    }  # fmt: skip
    methods: dict[int, tuple[str, str, str]] = {}
    loads: dict[int, tuple[str, str]] = {}
    bases: dict[str, tuple[str, str]] = {}
    for row in rows:
        setting, source = row.setting, row.provenance.source
        model = setting.model.name
        if model not in bases:
            bases[model] = (model_base(model), catalog.model_group(model))
        base, group = bases[model]
        key = id(row.method)
        if key not in methods:
            methods[key] = (row.method.id, family(row.method), quality_group(row.method))
        if id(setting.workload) not in loads:
            loads[id(setting.workload)] = (
                work_key(setting.workload, True),
                work_key(setting.workload, False),
            )
        load, work = loads[id(setting.workload)]
        device = setting.hardware.device.name
        place = device + (f" {setting.hardware.platform}" if setting.hardware.platform else "")
        values = {
            "source": source,
            "campaign": f"{source}|{row.provenance.campaign or ''}",
            "date": row.provenance.date or "",
            "model": base,
            "model_group": group,
            "device": device,
            "workload": work,
            "cell": f"{source}|{base}|{load}|{place}",
            "free_cell": f"{source}|{base}|{work}|{place}",
            "method": methods[key][0],
            "family": methods[key][1],
            "quality_group": methods[key][2],
        }
        for name, value in values.items():
            names[name].append(value)
    return {name: np.asarray(values, dtype=np.str_) for name, values in names.items()}


def model_base(name: str) -> str:
    """Name without organisation, precision and tuning suffixes, lower case."""
    base = name.rsplit("/", 1)[-1].lower()
    while (shorter := _VARIANT.sub("", base)) != base:
        base = shorter
    return base


def work_key(workload: Workload, with_load: bool) -> str:
    """Readable key of the work asked for, with or without the load."""
    parts = [workload.name or ""]
    for side in (workload.input_tokens, workload.output_tokens):
        parts.append("" if side is None else f"{side.mean:g}")
    for size in (workload.width_px, workload.height_px, workload.steps, workload.frames):
        parts.append("" if size is None else str(size))
    if with_load:
        for load in (workload.concurrency, workload.batch_size, workload.request_rate_per_s):
            parts.append("" if load is None else f"{load:g}")
    return ",".join(parts)


def quality_group(method: Method) -> str:
    """Methods whose outputs are of one quality: the number formats of weights and cache."""
    row = encode_method(method)
    return f"{row['dtype']}|{row['weight_format']}|{row['kv_format']}"


def family(method: Method) -> str:
    """Coarse name of a method: engine, format, layout and the techniques it switches on."""
    row = encode_method(method)
    weights = row["weight_format"] or ("fp32" if row["dtype"] == "fp32" else "16bit")
    parts = [method.engine, str(weights)]
    if row["disaggregated"]:
        parts.append("disagg")
    for short, name in (("tp", "tensor"), ("pp", "pipeline"), ("dp", "data")):
        degree = float(row[name])
        if degree > 1 and not row["disaggregated"]:
            parts.append(f"{short}{degree:g}")
    if float(row["expert"]) > 1 and not row["disaggregated"]:
        parts.append("ep")
    for name in ("sequence", "attention_backend", "memory_mode", "speculative", "kv_format"):
        if row[name]:
            parts.append(str(row[name]))
    for name in ("chunked_prefill", "prefix_cache", "compile", "fused_qkv"):
        if row[name] == 1:
            parts.append(name)
    flags = method.get(Flags)
    return "|".join(parts + (list(flags.values) if flags else []))
