"""Records as one columnar table, with the keys by which learners are split and judged.

Two rows stand in the same *cell* when they differ only in method and number of devices: same source,
model, workload, load and device type. In the *free* cell the load is part of the choice too (the
budget view). Token counts that are an outcome of the run, not a part of what was asked (the answers to
the prompts of a data set), tell no workloads apart: see `realised_lengths`.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.domain import BadInput, Flags, Method, Metrics, Parallelism, Record, Workload
from metainf.embed.columns import Columns, columns, encode_method
from metainf.embed.describe import describe_hardware, describe_method, describe_model, describe_workload

METRICS = tuple(name for name in Metrics.model_fields if name != "quality_metric")
_VARIANT = re.compile(
    r"-(instruct|chat|hf|it|fp8|fp8-dynamic|nvfp4|fp4|bf16|awq|gptq|int8|int4|w8a8|w4a16|dynamic|gguf)$"
)
_SYNTHETIC = re.compile("random|synthetic|fixed-length|llama-bench")
MANY_RUNS, MANY_LENGTHS = 10, 0.4
TEXTS = ("text.model", "text.workload", "text.hardware", "text.method")


@dataclass(frozen=True)
class Table:
    """n rows. `metrics[name]` is NaN where not measured; `ok` is False for failures.

    keys: source, campaign, date, model, model_group, device, workload, cell, free_cell, method,
    configuration, family, quality_group — string arrays of length n; techniques — how many each method
    switches on. A configuration is a method whatever the engine's version.
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


def table(records: Iterable[Record], texts: bool = False) -> Table:
    """Build the table. Repeats stay rows of their own.

    texts: also keep, in the keys TEXTS, how model, workload, hardware and method are described in words.
    """
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
    return Table(found, metrics, ok, _keys(rows) | (_texts(rows) if texts else {}))


def _texts(rows: Sequence[Record]) -> dict[str, NDArray[Any]]:
    tellers: dict[str, Any] = {"model": describe_model, "workload": describe_workload}
    tellers |= {"hardware": describe_hardware, "method": describe_method}
    found: dict[str, NDArray[Any]] = {}
    for key in TEXTS:
        part, told = key.removeprefix("text."), {}
        values = np.empty(len(rows), dtype=object)
        for place, row in enumerate(rows):
            thing = row.method if part == "method" else getattr(row.setting, part)
            if id(thing) not in told:
                told[id(thing)] = tellers[part](thing)
            values[place] = told[id(thing)]
        found[key] = values
    return found


def _no_rows() -> list[Any]:
    raise BadInput(
        "expected records to learn from, found none: import some (metainf import) or loosen the filter"
    )


def _keys(rows: Sequence[Record]) -> dict[str, NDArray[Any]]:
    names: dict[str, list[Any]] = {
        key: []
        for key in (
            "source", "campaign", "date", "model", "model_group", "device", "workload", "cell",
            "free_cell", "method", "configuration", "family", "quality_group", "techniques",
        )
    }  # fmt: skip
    methods: dict[int, dict[str, Any]] = {}
    loads: dict[tuple[int, str], tuple[str, str]] = {}
    realised = realised_lengths(rows)
    bases: dict[str, tuple[str, str]] = {}
    for row in rows:
        setting, source = row.setting, row.provenance.source
        model = setting.model.name
        if model not in bases:
            bases[model] = (model_base(model), catalog.model_group(model))
        base, group = bases[model]
        key = id(row.method)
        if key not in methods:
            methods[key] = _method_keys(row.method)
        work_of = (id(setting.workload), source)
        if work_of not in loads:
            asked = setting.workload
            if (source, asked.name) in realised:
                asked = asked.model_copy(update={"input_tokens": None, "output_tokens": None})
            loads[work_of] = (work_key(asked, True), work_key(asked, False))
        load, work = loads[work_of]
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
            **methods[key],
        }
        for name, value in values.items():
            names[name].append(value)
    return {
        name: np.asarray(values, dtype=np.intp if name == "techniques" else np.str_)
        for name, values in names.items()
    }


def _method_keys(method: Method) -> dict[str, Any]:
    return {
        "method": method.id,
        "configuration": method.model_copy(update={"engine_version": None}).id,
        "family": family(method),
        "quality_group": quality_group(method),
        "techniques": techniques_on(method),
    }


def realised_lengths(rows: Sequence[Record]) -> set[tuple[str, str | None]]:
    """(source, workload name) whose token counts are what came out, not what was asked for.

    So it is where some mean is no whole number, or where at least ten runs have nearly as many different
    lengths (0.4 or more for each run). Work named random or synthetic is defined by its lengths.
    """
    seen: dict[tuple[str, str | None], list[tuple[float, ...]]] = {}
    for row in rows:
        work = row.setting.workload
        sides = tuple(side.mean for side in (work.input_tokens, work.output_tokens) if side is not None)
        if sides and work.name and not _SYNTHETIC.search(work.name.lower()):
            seen.setdefault((row.provenance.source, work.name), []).append(sides)
    return {
        name
        for name, found in seen.items()
        if any(mean % 1 for sides in found for mean in sides)
        or (len(found) >= MANY_RUNS and len(set(found)) >= MANY_LENGTHS * len(found))
    }


def techniques_on(method: Method) -> int:
    """How many techniques a method switches on: the fewest is what an engine does by default.

    Number formats of 16 and 32 bits, degrees of 1, plain batching and what is switched off do not count.
    """
    count = 0
    for technique in method.techniques:
        facts = technique.model_dump(exclude_none=True)
        if technique.kind in ("precision", "batching") or facts.get("enabled") is False:
            continue
        if isinstance(technique, Parallelism):
            degrees = (technique.tensor, technique.pipeline, technique.expert, technique.data)
            count += any((degree or 1) > 1 for degree in degrees) or technique.sequence is not None
        elif isinstance(technique, Flags):
            count += len(technique.values)
        else:
            count += 1
    return count


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
    bits = f"{row['weight_bits']:g}" if row["weight_format"] else ""
    drawn = [str(row[name]) for name in ("distilled_model", "schedule", "autoencoder") if row[name]]
    return "|".join([str(row["dtype"]), str(row["weight_format"]), bits, str(row["kv_format"]), *drawn])


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
    for name in (
        "sequence",
        "attention_backend",
        "memory_mode",
        "speculative",
        "kv_format",
        "distilled_model",
        "schedule",
        "autoencoder",
        "memory_format",
    ):
        if row[name]:
            parts.append(str(row[name]))
    for name in ("chunked_prefill", "prefix_cache", "compile", "fused_qkv"):
        if row[name] == 1:
            parts.append(name)
    flags = method.get(Flags)
    told = [flag for flag in flags.values if not flag.startswith(("prefill.", "decode."))] if flags else []
    return "|".join(parts + told)
