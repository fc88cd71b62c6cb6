"""What every importer of a result file shares: run by run, kept or rejected, repeats told apart."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import ValidationError

from metainf.domain import (
    BadInput,
    Failed,
    Measured,
    Method,
    Metrics,
    Outcome,
    Provenance,
    Record,
    Rejected,
    Setting,
    Technique,
    Workload,
)
from metainf.domain.base import describe
from metainf.domain.setting import Modality
from metainf.importers.context import Context
from metainf.importers.sample import Sample, json_values, yaml_document


@dataclass(frozen=True)
class Run:
    """What one run in a file says; None where it does not. `outcome` or `metrics` is given."""

    metrics: Metrics | None = None
    outcome: Outcome | None = None
    workload: Workload = field(default_factory=Workload)
    model: str | None = None
    modality: Modality = "text"
    params_b: float | None = None
    hardware: str | None = None
    count: int | None = None
    engine: str | None = None
    engine_version: str | None = None
    techniques: tuple[Technique, ...] = ()
    derived: tuple[str, ...] | None = None
    date: str | None = None
    tool: str | None = None


class RunImporter(ABC):
    """One tool's result file. Subclasses say how to recognise it, split it into runs and read one run."""

    name: ClassVar[str]
    """The tool, written into the provenance."""

    @abstractmethod
    def matches(self, sample: Sample) -> bool:
        """Whether the file looks like this tool's."""

    def runs(self, path: Path) -> Iterator[Any]:
        """The raw runs of a file; by default its JSON values, lists taken apart."""
        for value in json_values(path):
            yield from value if isinstance(value, list) else [value]

    @abstractmethod
    def run(self, raw: Any) -> Run:
        """One raw run. BadInput says why it cannot become a record."""

    def read(self, path: Path, context: Context) -> Iterator[Record | Rejected]:
        """Every run as a Record or Rejected, in order. BadInput when the file is not this tool's."""
        if not self.matches(Sample(path)):
            raise BadInput(f"{path}: expected a {self.name} result file, found something else")
        seen: dict[str, int] = {}
        for row, raw in enumerate(list(self.runs(path))):
            try:
                if not self.understands(raw):
                    raise BadInput(f"expected a {self.name} run, found {raw!r:.60}")
                found = record(self.run(raw), context, tool=self.name, location=path.name)
            except BadInput as error:
                yield Rejected(row=row, reason=str(error))
                continue
            except ValidationError as error:
                yield Rejected(row=row, reason=describe(error))
                continue
            trial = seen[found.id] = seen.get(found.id, -1) + 1
            if trial:
                provenance = found.provenance.model_copy(update={"trial": trial})
                found = found.model_copy(update={"provenance": provenance})
            yield found

    def understands(self, raw: Any) -> bool:
        """Whether one raw run has the form of this tool's; by default: it is an object."""
        return isinstance(raw, dict)


class YamlImporter(RunImporter):
    """One tool's report, a YAML or a JSON document."""

    def runs(self, path: Path) -> Iterator[Any]:
        if Sample(path).objects:
            yield from super().runs(path)
        else:
            yield yaml_document(path)


def record(run: Run, context: Context, *, tool: str, location: str) -> Record:
    """A record from what the file and the context say. BadInput names the flag that supplies a gap."""
    if context.method is not None:
        method = context.method
    else:
        engine = context.engine or run.engine
        if not engine:
            raise BadInput("the file does not name the engine: give --engine NAME")
        version = context.engine_version or run.engine_version
        method = Method(engine=engine, engine_version=version, techniques=run.techniques)
    if run.outcome is not None:
        outcome = run.outcome
    elif run.metrics is not None:
        outcome = Measured(metrics=run.metrics, derived=run.derived)
    else:
        raise BadInput("the run has no measured number")
    return Record(
        setting=Setting(
            model=context.model_of(run.model, run.modality, run.params_b),
            workload=merged(run.workload, context.workload),
            hardware=context.hardware_of(run.hardware, run.count),
        ),
        method=method,
        outcome=outcome,
        provenance=Provenance(
            source=context.source or tool,
            campaign=context.campaign,
            licence=context.licence,
            location=location,
            date=context.date or run.date,
            tool=run.tool or tool,
        ),
    )


def merged(found: Workload, given: Workload | None) -> Workload:
    """The file's workload with every field that the context names replaced."""
    if given is None:
        return found
    said = {name: value for name in Workload.model_fields if (value := getattr(given, name)) is not None}
    kept = {name: getattr(found, name) for name in Workload.model_fields}
    return Workload(**{**kept, **said})


def all_failed(completed: float | None, attempted: float | None) -> Failed | None:
    """The outcome of a run in which no request succeeded, else None."""
    if completed or not attempted:
        return None
    return Failed(reason="unknown", detail=f"0 of {attempted:g} requests completed")
