"""Time of one selection: in process over about 1,000 pairs, and as a whole process from a cold shell.

    python benchmarks/bench_select.py

Prints JSON: medians in seconds over the repeats. Compare on one machine only.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from metainf import api
from metainf.api import catalogue, choosing
from metainf.domain import Method, Objective, Workload
from metainf.domain.method import Batching
from metainf.selection import select

QUESTION = [
    "select",
    "-m",
    "Llama-3.1-8B-Instruct",
    "-w",
    "sharegpt",
    "-c",
    "32",
    "-H",
    "1-4xL4",
    "-H",
    "H100",
]


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time of the repeats, after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Measure and print."""
    model, work = (
        api.model("Llama-3.1-8B-Instruct"),
        Workload.of({"input_tokens": {"mean": 1000}, "output_tokens": {"mean": 200}, "concurrency": 32}),
    )
    predictor = choosing.load_predictor()
    machines = [
        (catalogue.hardware_of([f"{n}x{name}"])[0]) for n in (1, 2, 4, 8) for name in ("L4", "H100", "A100")
    ]
    methods = [Method(engine="vllm", techniques=(Batching(max_sequences=32 + n),)) for n in range(84)]
    pairs = [(machine, method) for machine, _ in machines for method in methods]
    wanted = Objective(max_usd_per_hour=50.0)
    whole = [sys.executable, "-c", "from metainf.cli import main; main()"]
    print(json.dumps({
        "pairs": len(pairs),
        "forecast_s": median(lambda: predictor.forecast(model, work, pairs), 20),
        "select_s": median(lambda: select(model, work, wanted, machines, predictor, lambda _: methods), 20),
        "process_s": median(lambda: subprocess.run([*whole, *QUESTION], capture_output=True, check=True), 5),
        "help_s": median(lambda: subprocess.run([*whole, "--help"], capture_output=True, check=True), 5),
    }, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
