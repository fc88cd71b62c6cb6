"""What is wanted: an aim, and the limits it must respect."""

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat

from metainf.domain.base import Frozen
from metainf.domain.method import Method
from metainf.domain.privacy import Guarded, Privacy
from metainf.domain.record import Estimate
from metainf.domain.setting import Hardware, Model, Workload
from metainf.domain.shown import (
    data_frame,
    prediction_html,
    prediction_rows,
    selection_html,
    selection_rows,
)

Aim = Literal["throughput", "throughput_per_dollar", "cost", "latency", "ttft", "tpot", "energy"]


class Objective(Frozen):
    """Aim and limits. Latencies are means in seconds; prices in US dollars.

    `max_usd` bounds the whole job (hardware price × predicted runtime, paper equation 3) and needs
    a workload with `num_requests`.
    """

    aim: Aim = "throughput_per_dollar"
    max_usd_per_hour: PositiveFloat | None = None
    max_usd: PositiveFloat | None = None
    max_ttft_s: PositiveFloat | None = None
    max_tpot_s: PositiveFloat | None = None
    max_e2e_s: PositiveFloat | None = None
    min_requests_per_s: PositiveFloat | None = None
    min_quality_recovery: Annotated[float, Field(gt=0, le=1)] | None = None
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.5


class Prediction(Frozen):
    """What is expected of one method on one piece of hardware.

    `p_ok` is the probability that it runs at all; `metrics` maps Metrics field names to estimates;
    `reasons` are feature contributions in words, strongest first; `nearest` are record ids.
    """

    p_ok: Annotated[float, Field(ge=0, le=1)]
    metrics: dict[str, Estimate] = Field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    nearest: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each metric: its median, the bounds of its interval, and `p_ok`."""
        return prediction_rows(self)

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        return prediction_html(self)


class Candidate(Frozen):
    """A hardware and method pair with its prediction, price and launch command."""

    hardware: Hardware
    method: Method
    prediction: Prediction
    usd_per_hour: PositiveFloat | None = None
    usd_per_million_tokens: Estimate | None = None
    p_feasible: Annotated[float, Field(ge=0, le=1)]
    score: float
    command: str | None = None
    notes: tuple[str, ...] = ()
    privacy: Guarded | None = None


ExcludedBy = Literal[
    "budget",
    "memory",
    "unsupported",
    "unlikely",
    "slo",
    "conflict",
    "no_effect",
    "quality",
    "unknown",
    "privacy",
]
"""What puts a candidate out."""


class Excluded(Frozen):
    """A candidate that was not ranked, and which limit or rule put it out.

    `unlikely` runs, but with too low a chance; `unsupported` is what an engine cannot start at all.
    """

    hardware: Hardware
    method: Method
    limit: ExcludedBy
    reason: str


class Selection(Frozen):
    """The answer: ranked candidates, what was left out, and the winner first."""

    model: Model
    workload: Workload
    objective: Objective
    ranked: tuple[Candidate, ...]
    excluded: tuple[Excluded, ...] = ()
    privacy: Privacy | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One flat row for each ranked candidate; `pandas.DataFrame(found.rows())` works as it is."""
        return selection_rows(self)

    def to_pandas(self) -> Any:
        """The rows as a pandas data frame. Raises MissingExtra where pandas is not installed."""
        return data_frame(self.rows())

    def _repr_html_(self) -> str:
        return selection_html(self)
