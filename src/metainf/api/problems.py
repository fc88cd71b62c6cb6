"""Errors as they travel (RFC 9457): the product's own sentence, its kind, and the near misses of a name."""

from typing import Final

from pydantic import Field

from metainf.domain import (
    ArtifactError,
    BadInput,
    Frozen,
    MetaInfError,
    MissingExtra,
    NoFeasible,
    NotSupported,
    StoreError,
    UnknownName,
)

KIND: Final = "urn:metainf:problem:"
KINDS: tuple[tuple[type[MetaInfError], str, int, str], ...] = (
    (UnknownName, "unknown-name", 422, "A name that is not known"),
    (BadInput, "bad-input", 422, "A question that cannot be understood"),
    (NotSupported, "not-supported", 422, "A question that cannot be answered"),
    (NoFeasible, "no-feasible", 422, "Nothing meets the limits"),
    (MissingExtra, "missing-extra", 501, "A part that is not installed"),
    (StoreError, "store", 503, "The store refuses"),
    (ArtifactError, "predictor", 503, "The predictor cannot be read"),
)
"""Error, its kind, its HTTP status and a title; the first that fits counts."""


class Problem(Frozen):
    """What went wrong. `near` are known names close to the one that was asked for."""

    type: str
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    near: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The last part of the type."""
        return self.type.removeprefix(KIND)


class Refused(MetaInfError):
    """What a service answered that is no error of the house: no key, too fast, too large, not there."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(f"{problem.title}: {problem.detail}")


def problem_of(error: MetaInfError) -> Problem:
    """An error of the house as a problem."""
    if isinstance(error, Refused):
        return error.problem
    for kind, name, status, title in KINDS:
        if isinstance(error, kind):
            near = tuple(error.near) if isinstance(error, UnknownName) else ()
            return Problem(type=f"{KIND}{name}", title=title, status=status, detail=str(error), near=near)
    return Problem(type=f"{KIND}refused", title="Refused", status=422, detail=str(error))


def refusal(kind: str, status: int, title: str, detail: str) -> Refused:
    """An answer that is no error of the house."""
    return Refused(Problem(type=f"{KIND}{kind}", title=title, status=status, detail=detail))


def error_of(problem: Problem) -> MetaInfError:
    """The error that a problem tells of, as it would have been raised here."""
    found = next((kind for kind, name, _, _ in KINDS if name == problem.kind), None)
    if found is None:
        return Refused(problem)
    error = found.__new__(found)
    error.args = (problem.detail,)
    if isinstance(error, UnknownName):
        error.kind, error.name, error.near = "name", "", list(problem.near)
    return error
