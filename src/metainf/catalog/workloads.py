"""Named workloads: the moments of public request traces, each with its source."""

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from metainf.domain import UnknownName, Workload


@cache
def workloads() -> Mapping[str, tuple[Workload, str]]:
    """Name -> (workload, source). Lengths in tokens; rates where the trace has real arrival times."""
    rows = json.loads((files("metainf.catalog") / "data" / "workloads.json").read_text(encoding="utf-8"))
    return MappingProxyType(
        {row["workload"]["name"]: (Workload.of(row["workload"]), row["source"]) for row in rows}
    )


def find_workload(name: str) -> Workload:
    """The named workload. UnknownName with near misses for any other."""
    if name not in workloads():
        raise UnknownName("workload", name, workloads())
    return workloads()[name][0]
