"""From what people type to traffics: names of the study, of the catalogue, and traces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metainf.catalog import workloads
from metainf.domain import BadInput, UnknownName
from metainf.measure.lengths import draw_arrivals
from metainf.measure.replay import Replay, of_trace
from metainf.measure.study_traffic import STUDY, of_study
from metainf.measure.traffic import of_workload
from metainf.measure.words import ClosedLoop, OpenLoop, Pacing, Traffic

IN_FLIGHT = 8
LEAST_REQUESTS = 16


@dataclass(frozen=True)
class Load:
    """How much is asked: each of `in_flight` is a traffic of its own; `rate_per_s` instead makes arrivals by
    chance. `requests` None is two for each in flight, at least 16. The same seed asks the same."""

    in_flight: Sequence[int] = ()
    rate_per_s: float | None = None
    requests: int | None = None
    seed: int = 0

    def pacings(self, default: Pacing | None) -> list[Pacing]:
        """One for each traffic. BadInput where both loads are stated or a number is below 1."""
        if self.rate_per_s is not None and self.in_flight:
            raise BadInput("expected requests in flight or a rate of requests, found both: give one of them")
        if self.requests is not None and self.requests < 1:
            raise BadInput(f"expected at least 1 request, found {self.requests}")
        if any(count < 1 for count in self.in_flight):
            raise BadInput(f"expected at least 1 request in flight, found {min(self.in_flight)}")
        if self.rate_per_s is not None:
            return [OpenLoop()]
        if self.in_flight:
            return [ClosedLoop(count) for count in self.in_flight]
        return [default or ClosedLoop(IN_FLIGHT)]

    def count(self, pacing: Pacing) -> int:
        """Requests of a traffic."""
        if self.requests is not None:
            return self.requests
        return max(LEAST_REQUESTS, 2 * pacing.concurrency if isinstance(pacing, ClosedLoop) else 0)


def traffics_of(name: str, load: Load) -> list[Traffic]:
    """The traffics of one workload. UnknownName for a name that nothing has, BadInput for a broken trace."""
    if name in STUDY:
        return [_study(name, pacing, load) for pacing in load.pacings(None)]
    if name in workloads():
        return _catalogued(name, load)
    if Path(name).is_file():
        if load.rate_per_s is not None:
            raise BadInput(f"{name} has its own times: replay them, or give requests in flight instead")
        pacings = load.pacings(OpenLoop())
        return [of_trace(name, _rng(load), Replay(requests=load.requests, pacing=each)) for each in pacings]
    raise UnknownName("workload", name, (*STUDY, *workloads()))


def _study(name: str, pacing: Pacing, load: Load) -> Traffic:
    count = load.count(pacing)
    if not isinstance(pacing, OpenLoop) or load.rate_per_s is None:
        return of_study(name, count, pacing, _rng(load))
    traffic = of_study(name, count, pacing, _rng(load))
    times = draw_arrivals(load.rate_per_s, None, count, np.random.default_rng([load.seed, 1]))
    timed = [replace(request, at_s=at) for request, at in zip(traffic.requests, times, strict=True)]
    return replace(traffic, requests=tuple(timed))


def _catalogued(name: str, load: Load) -> list[Traffic]:
    work = workloads()[name][0]
    if load.rate_per_s is not None:
        work = work.model_copy(update={"request_rate_per_s": load.rate_per_s, "interarrival_cv": None})
    default: Pacing | None = OpenLoop() if work.request_rate_per_s is not None else None
    return [of_workload(work, load.count(pacing), pacing, _rng(load)) for pacing in load.pacings(default)]


def _rng(load: Load) -> np.random.Generator:
    return np.random.default_rng(load.seed)
