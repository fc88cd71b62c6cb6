"""One machine's own runs as a predictor keeps them: repeats merged, each distinct part written once."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from metainf.domain import Hardware, Method, Model, Record, Setting, Workload
from metainf.domain.base import Frozen

SOURCE = "metainf"
"""The source of records that `metainf measure`, `study` and `tune` made."""
METRICS = (
    "output_tokens_per_s", "total_tokens_per_s", "requests_per_s", "ttft_s", "tpot_s", "itl_s", "e2e_s",
    "energy_j_per_token", "energy_j_per_request", "memory_gib", "images_per_s",
)  # fmt: skip
MOST = 800
"""Own runs that are kept, the newest; more would cost time for little."""
_PARTS: dict[str, Any] = {"models": Model, "workloads": Workload, "hardware": Hardware, "methods": Method}


@dataclass(frozen=True)
class OwnRun:
    """A method in a setting. Of its repeats the mean log of each metric, and the share that worked."""

    setting: Setting
    method: Method
    logs: dict[str, float]
    worked: float

    @property
    def device(self) -> str:
        """Where it ran."""
        return self.setting.hardware.device.name


def is_own(record: Record) -> bool:
    """Whether a record is of a machine that this project's own measuring ran on."""
    return record.provenance.source == SOURCE


def merged(records: Iterable[Record]) -> list[OwnRun]:
    """The newest runs, oldest first, with their repeats merged; the engine's version tells none apart."""
    groups: dict[tuple[str, str], list[Record]] = {}
    newest = sorted(records, key=lambda record: record.provenance.date or "")[-MOST:]
    for record in newest:
        method = record.method.model_copy(update={"engine_version": None})
        groups.setdefault((record.setting.id, method.id), []).append(record)
    return [_merged(repeats) for repeats in groups.values()]


def _merged(repeats: Sequence[Record]) -> OwnRun:
    first, logs = repeats[0], dict[str, float]()
    for name in METRICS:
        values = [getattr(each.metrics, name) for each in repeats if each.metrics is not None]
        told = [math.log(value) for value in values if value]
        if told:
            logs[name] = fmean(told)
    method = first.method.model_copy(update={"engine_version": None})
    return OwnRun(first.setting, method, logs, fmean(each.metrics is not None for each in repeats))


def dump(runs: Sequence[OwnRun]) -> dict[str, Any]:
    """Plain data, without what stands in it twice."""
    shelves: dict[str, _Shelf] = {name: _Shelf() for name in _PARTS}
    rows = []
    for run in runs:
        parts = (run.setting.model, run.setting.workload, run.setting.hardware, run.method)
        places = [shelf.place(part) for shelf, part in zip(shelves.values(), parts, strict=True)]
        rows.append([*places, round(run.worked, 6), {k: round(v, 6) for k, v in run.logs.items()}])
    return {name: shelf.items for name, shelf in shelves.items()} | {"runs": rows}


def load(state: dict[str, Any]) -> list[OwnRun]:
    """What `dump` wrote. Raises KeyError and BadInput for anything else."""
    shelves = {name: [kind.of(each) for each in state[name]] for name, kind in _PARTS.items()}
    found = []
    for model, workload, hardware, method, worked, logs in state["runs"]:
        setting = Setting(
            model=shelves["models"][model],
            workload=shelves["workloads"][workload],
            hardware=shelves["hardware"][hardware],
        )
        found.append(OwnRun(setting, shelves["methods"][method], dict(logs), float(worked)))
    return found


class _Shelf:
    """Distinct values in the order in which they came."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self._place: dict[str, int] = {}

    def place(self, value: Frozen) -> int:
        """Where a value stands."""
        if value.id not in self._place:
            self._place[value.id] = len(self.items)
            self.items.append(value.model_dump(mode="json", exclude_none=True))
        return self._place[value.id]
