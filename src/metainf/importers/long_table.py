"""The long Parquet table: one measured run per row, whatever the source.

Columns: source, subsource, licence, source_path, date, domain; model, model_base, model_params_b (1e9),
active_params_b, dataset, input_len, output_len (tokens), concurrency, batch_size, request_rate (1/s), width,
height (px), steps, frames; hardware, num_devices; the technique columns of `long_table_method`; and the
metrics of METRICS. `source`, `model`, `hardware`, `engine` and `status` must be there; a column that is
absent says nothing. Missing cells are null; NaN, infinity and negative numbers reject the row. Rows of the
InferenceX campaign get lost facts back (`inferencex_restore`); their location tells which and from where.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from metainf.domain import (
    BadInput,
    Failed,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Outcome,
    Provenance,
    Record,
    Rejected,
    Setting,
    Workload,
)
from metainf.domain.base import describe
from metainf.domain.setting import Modality
from metainf.importers.context import Context, known_device, known_model, split_count
from metainf.importers.inferencex_restore import restorer_of
from metainf.importers.long_table_method import COLUMNS as METHOD_COLUMNS
from metainf.importers.long_table_method import Row, count, method_of, text
from metainf.importers.sample import Sample

NEEDED = ("source", "model", "hardware", "engine", "status")
METRICS = {
    "throughput_tok_s": "output_tokens_per_s",
    "throughput_total_tok_s": "total_tokens_per_s",
    "prefill_tok_s": "prefill_tokens_per_s",
    "ttft_s": "ttft_s",
    "tpot_s": "tpot_s",
    "itl_p99_s": "itl_p99_s",
    "latency_s": "e2e_s",
    "power_w": "power_w",
    "energy_j": "energy_j_per_request",
    "energy_j_per_tok": "energy_j_per_token",
    "memory_gb": "memory_gib",
    "images_per_s": "images_per_s",
    "its_per_s": "steps_per_s",
    "speedup": "speedup",
    "accept_len": "accepted_tokens",
    "quality": "quality",
}
"""Column -> Metrics field. Units agree; memory_gb of all known sources is bytes / 2**30."""
WORK = (
    *("dataset", "input_len", "output_len", "concurrency", "batch_size", "request_rate"),
    *("width", "height", "steps", "frames"),
)
NAMED = ("model", "domain", "model_params_b", "active_params_b")
ORIGIN = ("source", "subsource", "licence", "source_path", "date")
MODALITY: dict[str, Modality] = {
    "llm": "text",
    "mllm": "multimodal",
    "t2i": "image",
    "t2v": "video",
    "i2v": "video",
    "asr": "audio",
}
REASONS: dict[str, Any] = {
    "oom": "out_of_memory",
    "unsupported": "unsupported",
    "crashed": "crashed",
    "timeout": "timed_out",
    "failed": "unknown",
    "na": "unknown",
}
NAMELESS = re.compile(r"n/?a|unknown|none|(\d+gb\s*)+|error:.*", re.IGNORECASE)
DERIVED = {
    "throughput": ("output_tokens_per_s", "total_tokens_per_s"),
    "throughput_tok_s": ("output_tokens_per_s",),
    "latency": ("e2e_s",),
}
BATCH_ROWS = 4096


class LongTable:
    """Reads the long table in batches; equal models, devices, workloads and methods are built once."""

    def matches(self, sample: Sample) -> bool:
        """A Parquet file."""
        return sample.head.startswith(b"PAR1")

    def read(self, path: Path, context: Context) -> Iterator[Record | Rejected]:
        """Every row as a Record or Rejected, in order. BadInput when it is no such table.

        Methods and workloads stand in the table itself: a context that names them is refused.
        """
        beside = [
            name
            for name in ("engine", "engine_version", "method", "workload")
            if getattr(context, name) is not None
        ]
        if beside:
            raise BadInput(f"the long table names its own {', '.join(beside)}: leave that flag out")
        import pyarrow
        import pyarrow.parquet as parquet

        try:
            table = parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise BadInput(f"{path}: expected a Parquet file, found {error}") from None
        names = set(table.schema_arrow.names)
        missing = [name for name in NEEDED if name not in names]
        if missing:
            raise BadInput(f"{path}: expected the long table, found no column {', '.join(missing)}")
        wanted = {*ORIGIN, *WORK, *METHOD_COLUMNS, *METRICS, "quality_metric", "derived", *NEEDED}
        wanted |= {"domain", "model_base", "model_params_b", "active_params_b", "num_devices"}
        reader = Reader(context, restorer_of(table, names))
        row = 0
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=sorted(wanted & names)):
            for values in batch.to_pylist():
                yield reader.record(row, values)
                row += 1


class Reader:
    """Turns rows into records, with one cache per kind of part."""

    def __init__(self, context: Context, restore: Callable[[Row], Row] | None = None) -> None:
        self.context = context
        self.restore = restore
        self.parts: dict[tuple[object, ...], Any] = {}
        self.rejections: dict[tuple[object, ...], str] = {}
        self.seen: dict[tuple[object, ...], int] = {}

    def record(self, row: int, values: Row) -> Record | Rejected:
        """One row; the trial counts earlier rows that say exactly the same."""
        values = values if self.restore is None else self.restore(values)
        try:
            setting = Setting(
                model=self._part("model", NAMED, values, self._model),
                workload=self._part("workload", (*WORK, "model"), values, workload_of),
                hardware=self._part("hardware", ("hardware", "num_devices"), values, self._hardware),
            )
            method: Method = self._part("method", METHOD_COLUMNS, values, method_of)
            origin: Provenance = self._part("origin", ORIGIN, values, self._origin)
            outcome = outcome_of(values)
        except BadInput as error:
            return Rejected(row=row, reason=str(error))
        except ValidationError as error:
            return Rejected(row=row, reason=describe(error))
        parts = (setting.model, setting.workload, setting.hardware, method, origin)
        same = (*map(id, parts), outcome.canonical())
        trial = self.seen[same] = self.seen.get(same, -1) + 1
        if trial:
            origin = origin.model_copy(update={"trial": trial})
        return Record(setting=setting, method=method, outcome=outcome, provenance=origin)

    def _part(self, kind: str, columns: tuple[str, ...], values: Row, build: Any) -> Any:
        """The part built from these columns, once per distinct content; a failure is remembered too."""
        key = (kind, *[values.get(column) for column in columns])
        if key in self.rejections:
            raise BadInput(self.rejections[key])
        if key not in self.parts:
            try:
                part = build(values)
            except ValidationError as error:
                self.rejections[key] = describe(error)
                raise BadInput(self.rejections[key]) from None
            except BadInput as error:
                self.rejections[key] = str(error)
                raise
            self.parts[key] = self.parts.setdefault((kind, part.canonical()), part)
        return self.parts[key]

    def _model(self, values: Row) -> Model:
        if self.context.model is not None:
            return self.context.model_of(None)
        name = text(values, "model")
        if name is None:
            raise BadInput("model: expected a name, found nothing")
        domain = text(values, "domain") or "llm"
        if domain not in MODALITY:
            raise BadInput(f"domain: expected one of {', '.join(MODALITY)}, found {domain!r}")
        return known_model(
            name,
            modality=MODALITY[domain],
            params_b=number(values, "model_params_b"),
            active_params_b=number(values, "active_params_b"),
        )

    def _hardware(self, values: Row) -> Hardware:
        devices = count(values, "num_devices")
        if self.context.hardware is not None:
            return self.context.hardware_of(None, devices)
        name = text(values, "hardware")
        if name is None or NAMELESS.fullmatch(name):
            raise BadInput(f"hardware: expected a device name, found {name!r}")
        bare, inside = split_count(name)
        if inside is not None:  # "2xA6000": the source's own words outweigh a normalised count
            name, devices = bare, inside
        return Hardware(device=known_device(name), count=self.context.count or devices)

    def _origin(self, values: Row) -> Provenance:
        given, source = self.context, text(values, "source")
        if given.source is None and source is None:
            raise BadInput("source: expected a name, found nothing")
        return Provenance(
            source=given.source or source or "",
            campaign=given.campaign or text(values, "subsource"),
            licence=given.licence or text(values, "licence"),
            location=text(values, "source_path"),
            date=given.date or text(values, "date"),
        )


def number(values: Row, column: str, *, zero: bool = False) -> float | None:
    """A finite number above 0 (from 0 where `zero`); None where nothing is said."""
    value = values.get(column)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(f"{column}: expected a number, found {value!r}")
    if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
        raise BadInput(f"{column}: expected a finite number above 0, found {value!r}")
    return float(value)


def workload_of(values: Row) -> Workload:
    """Request shape and load; `|n=1000` inside the data set's name is the number of requests.

    MLPerf writes its accuracy target (percent of the reference) behind the model's name; it is part of what
    is asked, so it goes behind the workload's: "mlperf:Server@99.9".
    """
    tokens = {column: number(values, column, zero=True) for column in ("input_len", "output_len")}
    lengths = {column: None if mean is None else Lengths(mean=mean) for column, mean in tokens.items()}
    name = text(values, "dataset")
    requests = re.search(r"\|n=(\d+)", name or "")
    accuracy = re.search(r"-(99(?:\.9)?)$", text(values, "model") or "")
    if accuracy and name and name.startswith("mlperf:"):
        name = f"{name}@{accuracy[1]}"
    return Workload(
        name=name,
        input_tokens=lengths["input_len"],
        output_tokens=lengths["output_len"],
        concurrency=number(values, "concurrency"),
        request_rate_per_s=number(values, "request_rate"),
        batch_size=count(values, "batch_size"),
        num_requests=int(requests[1]) if requests else None,
        width_px=count(values, "width"),
        height_px=count(values, "height"),
        steps=count(values, "steps"),
        frames=count(values, "frames"),
    )


def outcome_of(values: Row) -> Outcome:
    """Measured for status ok, else Failed; numbers of a failed run stay in its detail."""
    status = text(values, "status") or "ok"
    metrics = _metrics(values)
    if status == "ok":
        if not metrics:
            raise BadInput("status is ok but no metric column has a number")
        quality = text(values, "quality_metric") if "quality" in metrics else None
        found = Metrics(**metrics, quality_metric=quality)
        return Measured(metrics=found, derived=_derived(text(values, "derived"), metrics))
    if status not in REASONS:
        raise BadInput(f"status: expected ok or one of {', '.join(REASONS)}, found {status!r}")
    seen = "".join(f"; {field}={value:g}" for field, value in metrics.items())
    return Failed(reason=REASONS[status], detail=f"status {status}{seen}")


def _metrics(values: Row) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for column, field in METRICS.items():
        value = number(values, column, zero=field == "quality")
        if value is not None:
            found[field] = value
    return found


def _derived(said: str | None, metrics: Mapping[str, object]) -> tuple[str, ...] | None:
    """Names of the computed metrics, then the source's own note where it says more than a name."""
    if said is None:
        return None
    names: list[str] = []
    for word in [said.partition("=")[0]] if "=" in said else said.split(","):
        names += [field for field in DERIVED.get(word.strip(), (word.strip(),)) if field in metrics]
    if "=" in said or not names:
        names.append(said)
    return tuple(dict.fromkeys(names))
