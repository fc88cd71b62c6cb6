"""Time to train the predictor: `python benchmarks/bench_train.py [RECORDS]` (default 34,000).

The records are made up: models, devices and loads of the catalogue, with the shipped predictor's numbers
and noise of 25 % on them. As in the public history, a sixth measures both times of a served model, 6 %
failed, and the rest measures throughput alone. Training reads a SQLite store, as `metainf train` does.
"""

import itertools
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import once, peak_rss_gib, tell

from metainf import api
from metainf.api import catalogue, choosing
from metainf.domain import (
    Failed,
    Measured,
    Method,
    Metrics,
    Parallelism,
    Prediction,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.domain import WeightQuantization as Weights
from metainf.store import open_store

MODELS = (
    "Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct", "Qwen/Qwen3-32B", "Qwen/Qwen3-235B-A22B",
    "gpt-oss-120b", "DeepSeek-R1", "Mistral-7B-Instruct-v0.3", "Qwen/Qwen3-8B",
)  # fmt: skip
DEVICES = ("H100", "H200", "A100", "L4", "L40S", "B200", "MI300X", "GB200")
FORMATS = (None, "fp8", "awq", "nvfp4")


def generate(count: int, rng: random.Random) -> Iterator[Record]:
    """Runs of every model on every device under random methods and loads."""
    predictor = choosing.load_predictor()
    machines = [
        h for name in DEVICES for n in (1, 2, 4, 8) for h, _ in catalogue.hardware_of([f"{n}x{name}"])
    ]
    methods = [
        (machine, Method(engine=engine, techniques=(Parallelism(tensor=machine.count), *formats)))
        for machine, engine, name in itertools.product(machines, ("vllm", "sglang", "tensorrt-llm"), FORMATS)
        for formats in [() if name is None else (Weights(format=name),)]
    ]
    for trial in itertools.count():
        model, few = api.model(MODELS[trial % len(MODELS)]), rng.sample(methods, 16)
        work = Workload.of({
            "input_tokens": {"mean": rng.choice((128, 512, 1024, 4096))},
            "output_tokens": {"mean": rng.choice((128, 512, 1024))}, "concurrency": 2 ** rng.randrange(9),
        })  # fmt: skip
        for (machine, method), told in zip(few, predictor.predict(model, work, few), strict=True):
            if count == 0:
                return
            count -= 1
            yield Record(
                setting=Setting(model=model, workload=work, hardware=machine),
                method=method,
                outcome=outcome(told, rng),
                provenance=Provenance(source="made-up", licence="CC0-1.0", trial=trial),
            )


def outcome(told: Prediction, rng: random.Random) -> Measured | Failed:
    """What a run showed: both times, throughput alone, or a failure."""
    lot = rng.random()
    if lot < 0.06:
        return Failed(reason="out_of_memory")
    names = ("tpot_s", "ttft_s") if lot < 0.22 else ("output_tokens_per_s",)
    return Measured(
        metrics=Metrics.of({n: told.metrics[n].value * rng.lognormvariate(0, 0.25) for n in names})
    )


def main(records: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "store.sqlite") as store:
        store.add(generate(records, random.Random(0)))
        seconds = once(lambda: api.train(store, Path(folder) / "made-up.metainf"))
    tell({"records": records, "train_s": round(seconds, 1), "peak_rss_gib": peak_rss_gib()})


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 34_000)
