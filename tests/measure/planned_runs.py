"""A made-up machine whose best methods follow a rule that can be worked out on paper.

Log value = level of the task + effect of the engine + effect of the technique, which is good on some
workloads and bad on others.
"""

import math

from metainf.domain import (
    Batching,
    ChunkedPrefill,
    Device,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    Model,
    PrefixCache,
    Provenance,
    Record,
    Setting,
    Speculative,
    Workload,
)
from metainf.measure.plan import Candidate

HARDWARE = Hardware(device=Device(name="a-cpu", kind="cpu", memory_gib=16.0), count=1)
MODEL = Model(name="tiny", params_b=0.1, num_layers=8, hidden_size=256)
TECHNIQUES = {
    "plain": (),
    "continuous": (Batching(mode="continuous", max_sequences=16),),
    "prefix": (PrefixCache(),),
    "lookup": (Speculative(algorithm="ngram", tokens=4),),
    "chunks": (ChunkedPrefill(tokens=128),),
}
METHODS = {
    f"{engine} {name}": Method(engine=engine, techniques=techniques)
    for engine in ("one", "two")
    for name, techniques in TECHNIQUES.items()
}
WORKLOADS = {"chat": 0.0, "shared": 0.9, "long": 0.0, "half": 0.5}
"""Share of the prompt that requests have in common."""
LOADS = (1, 4, 16)


def workload(name: str, load: int) -> Workload:
    tokens = {"chat": 30.0, "shared": 500.0, "long": 700.0, "half": 300.0}[name]
    return Workload(
        name=name, input_tokens=Lengths(mean=tokens), output_tokens=Lengths(mean=32.0),
        concurrency=load, prefix_share=WORKLOADS[name],
    )  # fmt: skip


def log_value(work: Workload, method: Method) -> float:
    """The truth."""
    assert work.concurrency is not None and work.prefix_share is not None
    value = 4.0 + (0.2 if method.engine == "two" else 0.0)
    if method.get(Batching):
        value += 0.4 * math.log2(work.concurrency)
    if method.get(PrefixCache):
        value += 1.5 * work.prefix_share - 0.1
    if method.get(Speculative):
        value += 0.3 - 0.2 * math.log2(work.concurrency)
    return value


def candidates(names: tuple[str, ...] = tuple(WORKLOADS), prior: bool = False) -> list[Candidate]:
    """Every method for every workload and load; a prior, if asked for, knows nothing of prefix caches."""
    found = []
    for name in names:
        for load in LOADS:
            work = workload(name, load)
            setting = Setting(model=MODEL, workload=work, hardware=HARDWARE)
            for method in METHODS.values():
                said = log_value(work, method) - (
                    1.5 * (work.prefix_share or 0) if method.get(PrefixCache) else 0
                )
                found.append(Candidate(setting, method, f"{name} {load}", 60.0, said if prior else None))
    return found


def truth(one: Candidate) -> float:
    return log_value(one.setting.workload, one.method)


def record(one: Candidate, factor: float = 1.0) -> Record:
    """A run of a candidate."""
    value = factor * math.exp(truth(one))
    return Record(
        setting=one.setting, method=one.method, outcome=Measured(metrics=Metrics(output_tokens_per_s=value)),
        provenance=Provenance(source="made-up"),
    )  # fmt: skip
