"""One run: an engine serves a traffic by a method, and a record tells what came of it.

The order: ready, warmed up, the engine's metrics, the timed requests, its metrics again, what it says that it
did, and the reference prompts for the quality figure. A method that does not show in the engine's own words
is not recorded as measured. Whatever ends the engine early is a `Failed` record with its last lines; only
a question that makes no sense (BadInput, MissingExtra) and ^C raise.
"""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from metainf.catalog.detect import cpu_name
from metainf.domain import Conditions, Failed, Measured, Metrics, Workload
from metainf.engines.evidence import Evidence, contradictions, unproven
from metainf.measure import failures
from metainf.measure.asked import AGREEMENT, agreement, as_asked, asked_workload, concurrency, paced
from metainf.measure.drawn import drawn, drawn_reference
from metainf.measure.drive import drive
from metainf.measure.monitor import Observation, oom_kills, watching
from metainf.measure.process import DEATH_PATIENCE_S, EngineEnded, NotReady
from metainf.measure.recipes import is_plain
from metainf.measure.run import (
    SOURCE,
    Answers,
    Made,
    Rules,
    Run,
    TooSlow,
    Unanswered,
    record_of,
    wait_for_death,
    watched,
)
from metainf.measure.salt import salted
from metainf.measure.serving import Garbage, Served
from metainf.measure.timing import duration_of, errors_of, metrics_of
from metainf.measure.words import ClosedLoop, Drawing, Request, Timing, Traffic, Work

__all__ = [
    "SOURCE",
    "Answers",
    "Made",
    "Rules",
    "Run",
    "TooSlow",
    "Unanswered",
    "reference_answers",
    "run_trial",
]

WARM_REQUESTS, WARM_TOKENS = 4, 4
LEAST_PATIENCE_S = 0.5


def run_trial(
    run: Run,
    serve: Callable[[], AbstractContextManager[Served]],
    known: Answers | None = None,
    lengths: Workload | None = None,
    rules: Rules | None = None,
) -> Made:
    """Make one run. `serve` gives a ready server; `known` are answers to the reference prompts; `lengths` the
    workload that an earlier run of this traffic showed, for a record that fails before it can count."""
    rules = rules or Rules()
    killed, log = oom_kills(), ""
    conditions = Conditions(host=cpu_name(), cores=os.cpu_count(), other_load=os.getloadavg()[0])
    served: Served | None = None
    try:
        with serve() as served:
            try:
                if isinstance(run.traffic, Drawing):
                    return drawn(run, run.traffic, served, known or Answers(), rules)
                return _measured(run, run.traffic, served, known or Answers(), rules)
            except Exception:
                log = served.log()
                raise
    except EngineEnded as error:
        later = oom_kills()
        meanwhile = None if killed is None or later is None else later - killed
        outcome = failures.ended(error.status, str(error), error.log, meanwhile)
    except NotReady as error:
        outcome = failures.told("timed_out", str(error), error.log)
    except TooSlow as error:
        outcome = failures.told("timed_out", str(error), log)
    except Garbage as error:
        outcome = failures.told("crashed", str(error), error.log or log)
    except Unanswered as error:
        outcome = failures.unanswered(error.errors, error.asked, log)
    return Made(
        record_of(run, run.method, lengths or asked_workload(run.traffic), outcome, conditions, rules)
    )


def _measured(run: Run, asked_for: Traffic, served: Served, known: Answers, rules: Rules) -> Made:
    """The run on a ready server. Raises the exceptions above."""
    traffic = paced(asked_for, run.method)
    if served.process is None:  # it has seen earlier runs, and may keep their prompts
        traffic = salted(traffic, f"{run.campaign} {run.key}")
    until_s = time.monotonic() + rules.patience.within(rules.patience.run_s)

    def left_s() -> float:
        return max(LEAST_PATIENCE_S, until_s - time.monotonic())

    _drive(served, _warm_up(traffic), left_s())
    if traffic.warming:
        _drive(served, _one_by_one(traffic, traffic.warming), left_s())
    before = served.mark()
    with watching(served.pid) as seen:
        timings = _drive(served, replace(traffic, warming=()), left_s())
    evidence = served.evidence(before)
    answers = tuple(known.own or ())
    if traffic.reference and not answers:
        answers = reference_answers(served, traffic, left_s())
    asked = asked_workload(run.traffic, timings)
    method = run.method
    if evidence is not None and evidence.version and method.engine_version is None:
        method = method.model_copy(update={"engine_version": evidence.version})
    on_gpu = run.subject.hardware.device.kind == "gpu"
    conditions = seen.conditions(cpu_name(), on_gpu)
    wrong = contradictions(run.launched, evidence) if evidence is not None else ()
    if wrong:
        why = f"the engine's own words contradict the method: {'; '.join(wrong)}"
        outcome: Measured | Failed = failures.told("unsupported", why, served.log())
    else:
        metrics = metrics_of(as_asked(timings, asked_for), rules.limits, duration_of(timings))
        others = answers if known.plain is None and is_plain(run.method) else known.plain
        quality = None if others is None else agreement(answers, others)
        outcome = Measured(metrics=_completed(metrics, seen, evidence, quality, timings, on_gpu))
    silent = () if evidence is None else unproven(run.launched, evidence)
    return Made(record_of(run, method, asked, outcome, conditions, rules), answers, silent)


def reference_answers(served: Served, traffic: Work, within_s: float) -> tuple[str, ...]:
    """The greedy answers to the reference prompts, asked one by one, or the compared pictures. Raises as a
    run does."""
    if isinstance(traffic, Drawing):
        return drawn_reference(served, traffic, within_s)
    return tuple(t.text for t in _drive(served, _one_by_one(traffic, traffic.reference), within_s))


def _completed(
    metrics: Metrics, seen: Observation, evidence: Evidence | None, quality: float | None,
    timings: Sequence[Timing], on_gpu: bool,
) -> Metrics:  # fmt: skip
    """With memory, energy, the engine's own counts and the quality figure."""
    found: dict[str, Any] = {
        "memory_gib": seen.device_memory_gib if on_gpu else seen.memory_gib,
        "quality": quality,
        "quality_metric": None if quality is None else AGREEMENT,
    }
    if evidence is not None:
        hits = evidence.hit_rate
        found["prefix_hit_share"] = metrics.prefix_hit_share if hits is None else min(1.0, hits)
        found["accepted_tokens"] = evidence.tokens_per_step
        found["accepted_share"] = None if evidence.acceptance is None else min(1.0, evidence.acceptance)
    joules, seconds = seen.energy_j(on_gpu), seen.duration_s
    if joules and seconds:
        tokens = sum(timing.output_tokens or 0 for timing in timings)
        found |= {
            "power_w": joules / seconds,
            "energy_j_per_request": joules / len(timings),
            "energy_j_per_token": joules / tokens if tokens else None,
        }
    told = {name: value for name, value in found.items() if value is not None}
    return Metrics.of(metrics.model_dump(exclude_none=True) | told)


def _warm_up(traffic: Traffic) -> Traffic:
    """A few requests of no use to the timed ones, as many at a time as these: an engine's first answers are
    slower than all others."""
    count = min(concurrency(traffic.pacing) or WARM_REQUESTS, 2 * WARM_REQUESTS)
    asked = tuple(
        Request(f"{place}: count slowly from {place * 7} on:", WARM_TOKENS) for place in range(count)
    )
    return Traffic(name="warm-up", requests=asked, pacing=ClosedLoop(count))


def _one_by_one(traffic: Traffic, requests: tuple[Request, ...]) -> Traffic:
    return Traffic(name=traffic.name, requests=requests, pacing=ClosedLoop(1))


def _drive(served: Served, traffic: Traffic, within_s: float) -> list[Timing]:
    """Timings of whole answers to all requests. Raises EngineEnded, TooSlow, Unanswered."""
    timings = asyncio.run(
        watched(drive(traffic, served.endpoint, within_s + DEATH_PATIENCE_S), served, within_s)
    )
    if errors := errors_of(timings):
        wait_for_death(served)
        raise Unanswered(errors, len(timings))
    return timings
