"""Small tables whose best choices can be worked out on paper."""

from metainf.domain import (
    Device,
    Failed,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.learn.table import Table, table

PARAMS_B = {"alpha": 1.0, "beta": 7.0, "gamma": 70.0, "delta": 13.0, "epsilon": 32.0, "zeta": 3.0}
MEMORY_GIB = {"small": 24.0, "large": 80.0}


def record(
    model: str,
    engine: str,
    metrics: Metrics | None,
    *,
    device: str = "small",
    concurrency: float = 1.0,
    tokens: float = 100.0,
    origin: Provenance | None = None,
) -> Record:
    """One run of a made-up model on one made-up device; no metrics means that it failed."""
    setting = Setting(
        model=Model(name=model, params_b=PARAMS_B.get(model), num_layers=32),
        workload=Workload(
            input_tokens=Lengths(mean=tokens), output_tokens=Lengths(mean=tokens), concurrency=concurrency
        ),
        hardware=Hardware(device=Device(name=device, memory_gib=MEMORY_GIB.get(device)), count=1),
    )
    outcome = Failed(reason="out_of_memory") if metrics is None else Measured(metrics=metrics)
    origin = origin or Provenance(source="made-up")
    return Record(setting=setting, method=Method(engine=engine), outcome=outcome, provenance=origin)


THROUGHPUT = {
    ("alpha", "small"): {"x": 100.0, "y": 50.0, "z": 25.0},
    ("beta", "small"): {"x": 80.0, "y": 100.0, "z": 20.0},
    ("gamma", "small"): {"x": 90.0, "y": 60.0, "z": 30.0},
    ("alpha", "large"): {"x": 100.0, "y": 40.0, "z": 200.0},
    ("beta", "large"): {"x": 100.0, "y": 40.0, "z": 125.0},
}
"""Tokens per second by (model, device) and engine, all at one load."""


def fixed() -> Table:
    """One cell for each key of THROUGHPUT, three engines in each."""
    return table(
        record(model, engine, Metrics(output_tokens_per_s=value), device=device)
        for (model, device), row in THROUGHPUT.items()
        for engine, value in row.items()
    )


def loads(models: tuple[str, ...] = ("alpha", "beta")) -> Table:
    """One free cell for each model: five loads, tokens/s 10 to 50 at 1 to 5 s per token (slow, but round)."""
    return table(
        record(model, "x", Metrics(output_tokens_per_s=10.0 * load, tpot_s=1.0 * load), concurrency=load)
        for model in models
        for load in (1, 2, 3, 4, 5)
    )


def many() -> Table:
    """48 rows: six models, two devices, four loads; smooth in all three, with two failures on top."""
    rows = []
    for model, size in PARAMS_B.items():
        for device, memory in MEMORY_GIB.items():
            for load in (1.0, 4.0, 16.0, 64.0):
                tpot = size / memory * (1 + load / 32)
                found = Metrics(output_tokens_per_s=load / tpot, tpot_s=tpot)
                rows.append(record(model, "x", found, device=device, concurrency=load))
    rows += [record("gamma", "y", None, concurrency=load) for load in (1.0, 4.0)]
    return table(rows)
