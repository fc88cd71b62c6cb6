"""How fast the record store adds, filters and streams: `python benchmarks/bench_store.py [RECORDS] [URL]`.

Generates RECORDS (default 100,000) records, adds them to a fresh store (a SQLite file in a temporary
folder, or an empty PostgreSQL schema at URL), then streams training columns out of it as numpy arrays.
Prints one JSON object: seconds of each step, file size in MiB, peak resident memory in GiB.
"""

import argparse
import itertools
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measuring import peak_rss_gib, tell

from metainf.domain import (
    Batching,
    Device,
    Failed,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    Outcome,
    Parallelism,
    Provenance,
    Record,
    Setting,
    WeightQuantization,
    Workload,
)
from metainf.store import Filter, Store, open_store

COLUMNS = ("output_tokens_per_s", "ttft_s", "tpot_s", "e2e_s")
FAILED_SHARE = 0.05


def generate(count: int, rng: random.Random) -> Iterator[Record]:
    """Records of 40 models, 500 workloads, 60 hardware and 72 methods, 5 % of them failed."""
    models = [Model(name=f"model-{i}", params_b=1.0 + i, num_layers=32, num_heads=32) for i in range(40)]
    workloads = [
        Workload(
            name=f"workload-{i}",
            input_tokens=Lengths(mean=100.0 + i, std=10.0, p99=900.0),
            output_tokens=Lengths(mean=50.0 + i, std=5.0),
            concurrency=float(1 + i % 64),
        )
        for i in range(500)
    ]
    hardware = [
        Hardware(device=Device(name=f"gpu-{i}", memory_gib=80.0), count=n)
        for i in range(15)
        for n in (1, 2, 4, 8)
    ]
    methods = [
        Method(
            engine=engine,
            techniques=(Batching(max_sequences=n), Parallelism(tensor=t), WeightQuantization(format=f)),
        )
        for engine, n, t, f in itertools.product(
            ("vllm", "sglang", "trtllm"), (64, 256), (1, 2, 4), ("fp8", "awq", "nvfp4", "int8dq")
        )
    ]
    for trial in range(count):
        yield Record(
            setting=Setting(
                model=rng.choice(models), workload=rng.choice(workloads), hardware=rng.choice(hardware)
            ),
            method=rng.choice(methods),
            outcome=outcome(rng),
            provenance=Provenance(
                source=f"source-{trial % 10}",
                campaign=f"campaign-{trial % 100}",
                date=f"2025-{1 + trial % 12:02d}-15",
                location=f"results/file-{trial % 1000}.json:{trial}",
                trial=trial,
            ),
        )


def outcome(rng: random.Random) -> Outcome:
    """A failure, or eight metrics."""
    if rng.random() < FAILED_SHARE:
        return Failed(reason="out_of_memory", detail="CUDA out of memory")
    tpot_s = rng.uniform(0.005, 0.1)
    return Measured(
        metrics=Metrics(
            output_tokens_per_s=64 / tpot_s,
            requests_per_s=rng.uniform(1, 50),
            ttft_s=rng.uniform(0.02, 2),
            ttft_p99_s=rng.uniform(2, 4),
            tpot_s=tpot_s,
            tpot_p99_s=2 * tpot_s,
            e2e_s=300 * tpot_s,
            memory_gib=rng.uniform(10, 80),
        )
    )


def columns(store: Store, where: Filter | None) -> dict[str, Any]:
    """What a learner needs: an index into each kind of part, and one array for each metric."""
    numbers: dict[str, dict[str, int]] = {
        kind: {part: i for i, part in enumerate(store.parts(kind))}
        for kind in ("model", "workload", "hardware", "method")
    }
    indexes: dict[str, list[Any]] = {kind: [] for kind in numbers}
    metrics: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for batch in store.rows(where):
        for kind, index in numbers.items():
            indexes[kind].append(np.array([index[getattr(row, kind)] for row in batch], dtype=np.int32))
        measured = [row.outcome.get("metrics", {}) for row in batch]
        for name, chunks in metrics.items():
            chunks.append(np.array([one.get(name, np.nan) for one in measured], dtype=np.float32))
    return {name: np.concatenate(chunks) for name, chunks in {**indexes, **metrics}.items()}


def timed(step: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a step took, and its result."""
    start = time.perf_counter()
    result = step()
    return round(time.perf_counter() - start, 2), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=100_000)
    parser.add_argument("url", nargs="?", help="PostgreSQL URL (default: a temporary SQLite file)")
    options = parser.parse_args()
    report: dict[str, Any] = {"records": options.records}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "bench.sqlite"
        with open_store(options.url or file) as store:
            report["database"] = "postgresql" if options.url else "sqlite"
            records = generate(options.records, random.Random(0))
            report["generate_and_add_s"], added = timed(lambda: store.add(records))
            assert added.new == options.records, added
            report["count_filtered_s"], report["filtered"] = timed(
                lambda: store.count(Filter(since="2025-06", status="measured"))
            )
            report["columns_filtered_s"], table = timed(
                lambda: columns(store, Filter(since="2025-06", status="measured"))
            )
            assert len(table["model"]) == report["filtered"]
            report["columns_all_s"], table = timed(lambda: columns(store, None))
            assert len(table["model"]) == options.records
            report["columns_mib"] = round(sum(array.nbytes for array in table.values()) / 2**20, 1)
            report["peak_rss_gib_columns"] = peak_rss_gib()
            report["query_model_s"], _ = timed(lambda: sum(1 for _ in store.query(Filter(model="model-7"))))
            report["query_all_s"], _ = timed(lambda: sum(1 for _ in store.query()))
            report["sources_s"], _ = timed(store.sources)
        if not options.url:
            report["file_mib"] = round(file.stat().st_size / 2**20, 1)
    report["peak_rss_gib"] = peak_rss_gib()
    tell(report)


if __name__ == "__main__":
    main()
