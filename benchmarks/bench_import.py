"""Time to import a result file: `python benchmarks/bench_import.py [ROWS]` (default 100,000).

Writes a Parquet long table of made-up runs (30 models, 12 devices, 6 engines' methods, 5 % failures) to a
temporary folder and imports it into a fresh SQLite store.
"""

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from measuring import once, peak_rss_gib, tell

from metainf import api
from metainf.store import open_store

DEVICES = ("H100", "H200", "A100", "L4", "L40S", "B200", "MI300X", "RTX4090", "A10G", "T4", "V100", "B300")
ENGINES = ("vllm", "sglang", "tensorrt-llm", "llama.cpp", "tgi", "lmdeploy")


def row(number: int, rng: random.Random) -> dict[str, Any]:
    """One made-up run."""
    failed = rng.random() < 0.05
    tpot = rng.uniform(0.005, 0.1)
    metrics = {"throughput_tok_s": 64 / tpot, "ttft_s": rng.uniform(0.02, 2), "tpot_s": tpot}
    return {
        "source": "made_up", "licence": "CC0-1.0", "source_path": f"runs/{number}.json",
        "date": f"2026-{1 + number % 12:02d}-15", "domain": "llm",
        "model": f"example/model-{number % 30}b", "model_params_b": 1.0 + number % 30,
        "dataset": "random", "input_len": float(rng.choice((128, 512, 2048))),
        "output_len": float(rng.choice((128, 1024))), "concurrency": float(2 ** rng.randrange(9)),
        "hardware": rng.choice(DEVICES), "num_devices": float(2 ** rng.randrange(4)),
        "engine": rng.choice(ENGINES), "precision": rng.choice(("bf16", "fp8")), "tp": 1.0,
        "status": "oom" if failed else "ok",
        **(dict.fromkeys(metrics) if failed else metrics),
    }  # fmt: skip


def main(rows: int) -> None:
    """Measure and print."""
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "runs.parquet"
        pq.write_table(pa.Table.from_pylist([row(number, rng) for number in range(rows)]), file)
        with open_store(Path(folder) / "store.sqlite") as store:
            seconds = once(lambda: api.import_file(file, None, {}, store))
            kept = store.count()
    if kept != rows:
        raise SystemExit(f"expected {rows} records, found {kept}")
    tell({"rows": rows, "import_s": round(seconds, 2), "peak_rss_gib": peak_rss_gib()})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
