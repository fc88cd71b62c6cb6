"""Which published models were distilled from another one and can draw in its place."""

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from metainf.domain import Autoencoder, DistilledModel, Method, Model, Schedule, Technique


@dataclass(frozen=True)
class Student:
    """One of them. `of`: the catalogue's names of what it stands in for. `steps`, `schedule`: how few steps
    it needs, without guidance, and by which solver where not by its own. `whole`: its repository is a
    pipeline, else the denoiser alone."""

    model: str
    of: tuple[str, ...]
    whole: bool
    source: str
    steps: int | None = None
    schedule: str | None = None

    @property
    def techniques(self) -> tuple[Technique, ...]:
        """What a method needs to draw with it."""
        student = DistilledModel(model=self.model)
        if self.steps is None:
            return (student,)
        return student, Schedule(name=self.schedule, steps=self.steps, guided=False)


@cache
def students() -> tuple[Student, ...]:
    """All of them."""
    raw = tomllib.loads(resources.files("metainf.engines").joinpath("data/students.toml").read_text("utf-8"))
    return tuple(Student(**row | {"of": tuple(row["of"])}) for row in raw["student"])


def student(name: str) -> Student | None:
    """The one of that name, None for any other model."""
    return next((each for each in students() if each.model == name), None)


def students_of(model: Model) -> tuple[Student, ...]:
    """Those that stand in for a model."""
    return tuple(each for each in students() if model.name in each.of)


def another_model(method: Method) -> bool:
    """Whether a method draws other pictures than the model that was asked for."""
    return any(method.get(kind) is not None for kind in (DistilledModel, Schedule, Autoencoder))
