"""Records for the dashboard's tests: the shipped study of a CPU, and runs that failed."""

from pathlib import Path

from metainf import api
from metainf.domain import Device, Failed, Hardware, Method, Model, Provenance, Record, Setting, Workload


def failure(trial: int) -> Record:
    """A run that ran out of memory."""
    return Record(
        setting=Setting(
            model=Model(name="too-large-for-it"),
            workload=Workload(name="chat", concurrency=4.0),
            hardware=Hardware(device=Device(name="small-gpu", memory_gib=8.0), count=1),
        ),
        method=Method(engine="vllm"),
        outcome=Failed(reason="out_of_memory", detail="CUDA out of memory"),
        provenance=Provenance(source="failures", date="2026-01-02", trial=trial),
    )


def fill(path: Path) -> int:
    """Make a store; how many records it holds."""
    records = [*api.study_records(), *(failure(trial) for trial in range(3))]
    with api.store(str(path)) as opened:
        opened.add(records)
        return opened.count()
