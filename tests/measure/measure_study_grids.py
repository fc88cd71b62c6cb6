"""Records of small studies whose winners are known."""

from collections.abc import Mapping, Sequence

from metainf.domain import (
    Conditions,
    Device,
    Failed,
    Hardware,
    Measured,
    Metrics,
    Model,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.engines import engine
from metainf.measure.asked import AGREEMENT
from metainf.measure.batches import sized
from metainf.measure.recipes import recipe
from metainf.measure.serving import serving_engine

DEVICE = Device(name="cpu-x", title="Some CPU", kind="cpu")
Outcome = float | str


def record(
    method: str, cell: tuple[str, int], outcome: Outcome, *, trial: int = 0, on: str = "openvino",
    quality: float | None = 1.0, model: str = "M",
) -> Record:  # fmt: skip
    """One run: a throughput, or the reason of a failure."""
    workload, in_flight = cell
    told: Measured | Failed
    if isinstance(outcome, str):
        told = Failed.of({"reason": outcome, "detail": "a secret place: /x/y"})
    else:
        told = Measured(
            metrics=Metrics(
                output_tokens_per_s=outcome, ttft_p50_s=0.125, ttft_p99_s=0.25, tpot_p50_s=0.01,
                tpot_p99_s=0.02, memory_gib=0.5, prefix_hit_share=0.9 if method == "prefix" else None,
                quality=quality, quality_metric=None if quality is None else AGREEMENT,
            )
        )  # fmt: skip
    made = sized(recipe(method, serving_engine(engine(on))), in_flight)
    return Record(
        setting=Setting(
            model=Model(name=model, quantization="F16"),
            workload=Workload(name=workload, concurrency=float(in_flight)),
            hardware=Hardware(device=DEVICE),
        ),
        method=made.model_copy(update={"engine_version": "1.2"}),
        outcome=told,
        provenance=Provenance(
            source="metainf", campaign="study-1", tool="metainf 0", trial=trial, date="2026-01-02T03:04:05Z",
            conditions=Conditions(cores=2, other_load=0.5, other_cpu_share=0.03),
        ),
    )  # fmt: skip


def grid(
    cells: Mapping[tuple[str, int], Mapping[str, Outcome]], *, spread: float = 0.01, repeats: int = 2,
    on: str = "openvino", agreement: Mapping[str, float | None] | None = None,
) -> list[Record]:  # fmt: skip
    """Records of all cells; repeats lie `spread` above and below their number in turn."""
    told = agreement or {}
    return [
        record(
            method, cell, outcome if isinstance(outcome, str) else outcome * factor, trial=trial, on=on,
            quality=told.get(method, 1.0),
        )
        for trial, factor in enumerate(_factors(spread, repeats))
        for cell, methods in cells.items()
        for method, outcome in methods.items()
    ]  # fmt: skip


def _factors(spread: float, repeats: int) -> Sequence[float]:
    return [1.0] if repeats == 1 else [1 + spread * (-1) ** place for place in range(repeats)]
