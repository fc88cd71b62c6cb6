"""One run of a model that draws: warmed up and looked at, then timed batch by batch.

A run like any other (`measure.trial`): the same process, evidence, failures and record. The warm-up draws two
batches in one step each, the second with the running kernels listed; compiling falls into the first. Seconds
of a batch are the host's own, from the prompts to the pictures, without their way through HTTP.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

import numpy as np

from metainf.catalog.architectures import is_synthetic
from metainf.catalog.detect import cpu_name
from metainf.catalog.digits import digits
from metainf.domain import (
    Autoencoder,
    DistilledModel,
    Failed,
    Measured,
    Method,
    Metrics,
    MissingExtra,
    Model,
    Schedule,
)
from metainf.engines.evidence import contradictions, unproven
from metainf.hosts.pictures import Sketch
from metainf.measure import failures
from metainf.measure.asked import asked_workload
from metainf.measure.likeness import PSNR, picture_of, psnr_db
from metainf.measure.monitor import Observation, watching
from metainf.measure.resembling import METRIC, resemblance
from metainf.measure.run import Answers, Made, Rules, Run, Unanswered, record_of, wait_for_death, watched
from metainf.measure.serving import LEAST_S, Garbage, Served
from metainf.measure.words import Drawing

if TYPE_CHECKING:
    import aiohttp

TOLD_CHARACTERS = 300
NOT_COMPARABLE = (DistilledModel, Schedule, Autoencoder)
"""What makes other pictures of random weights, whose likeness would say nothing of trained ones."""


class Refused(Exception):
    """The host refused a batch, or could not draw it."""


@dataclass(frozen=True)
class Batch:
    """One drawn batch. Seconds of all, of each step, of what came after the last; pictures as texts."""

    count: int
    draw_s: float
    step_s: tuple[float, ...]
    decode_s: float
    pictures: tuple[str, ...] = ()


async def ask(served: Served, sketch: Sketch, form: str) -> Batch:
    """Draw one batch at a host. Raises Refused, and Garbage for an answer that is none."""
    try:
        import aiohttp
    except ImportError:
        raise MissingExtra("asking for pictures", "measure") from None
    body = {
        "prompt": list(sketch.prompts), "seeds": list(sketch.seeds), "steps": sketch.steps,
        "size": f"{sketch.width_px}x{sketch.height_px}", "response_format": form, "look": sketch.looked_at,
    }  # fmt: skip
    url = f"{served.endpoint.base_url}/v1/images/generations"
    timeout = aiohttp.ClientTimeout(total=None)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.post(url, json=body) as answer:
            return await _read(answer, form)
    except (aiohttp.ClientError, OSError) as error:
        raise Refused(f"the connection broke: {type(error).__name__} {error}".strip()) from error


async def _read(answer: "aiohttp.ClientResponse", form: str) -> Batch:
    try:
        found: Any = await answer.json()
        if answer.status != 200:
            raise Refused(f"HTTP {answer.status}: {str(found['error']['message'])[:2000]}")
        timing, data = found["timing"], found["data"]
        return Batch(
            len(data),
            float(timing["draw_s"]),
            tuple(map(float, timing["step_s"])),
            float(timing["decode_s"]),
            tuple(each[form] for each in data) if form != "none" else (),
        )
    except (ValueError, KeyError, TypeError) as error:
        text = (await answer.text())[:TOLD_CHARACTERS]
        raise Garbage(f"expected pictures as OpenAI's API gives them, found {text!r} ({error})") from error


def drawn(run: Run, drawing: Drawing, served: Served, known: Answers, rules: Rules) -> Made:
    """The run on a ready host. Raises EngineEnded, TooSlow, Unanswered and Garbage."""
    until_s = time.monotonic() + rules.patience.within(rules.patience.run_s)
    begun_s = time.monotonic()
    _asked(served, [replace(drawing.requests[0], looked_at=True)], "none", until_s)
    warm_up_s = time.monotonic() - begun_s
    before = served.mark()
    with watching(served.pid) as seen:
        compared = len(drawing.reference)
        batches = _asked(served, drawing.reference, "npy", until_s)
        batches += _asked(served, drawing.requests[compared:], "none", until_s)
    evidence = served.evidence(before)
    answers = tuple(text for batch in batches for text in batch.pictures)
    method = run.method
    if evidence is not None and evidence.version and method.engine_version is None:
        method = method.model_copy(update={"engine_version": evidence.version})
    on_gpu = run.subject.hardware.device.kind == "gpu"
    conditions = seen.conditions(cpu_name(), on_gpu).model_copy(update={"warm_up_s": warm_up_s})
    wrong = contradictions(run.launched, evidence) if evidence is not None else ()
    if wrong:
        why = f"what is seen of the pipeline contradicts the method: {'; '.join(wrong)}"
        outcome: Measured | Failed = failures.told("unsupported", why, served.log())
    else:
        quality = quality_of(run.subject.model, run.method, drawing, answers, known.plain)
        outcome = outcome_of(metrics_of(batches, seen, on_gpu), quality)
    silent = () if evidence is None else unproven(run.launched, evidence)
    return Made(record_of(run, method, asked_workload(drawing), outcome, conditions, rules), answers, silent)


def drawn_reference(served: Served, drawing: Drawing, within_s: float) -> tuple[str, ...]:
    """The compared pictures alone, as texts. Raises as a run does."""
    batches = _asked(served, drawing.reference, "npy", time.monotonic() + within_s)
    return tuple(text for batch in batches for text in batch.pictures)


def _asked(served: Served, sketches: Sequence[Sketch], form: str, until_s: float) -> list[Batch]:
    """Batches one after another. A refusal for which the host did not die is Unanswered."""

    async def all_of() -> list[Batch]:
        return [await ask(served, sketch, form) for sketch in sketches]

    left_s = max(LEAST_S, until_s - time.monotonic())
    try:
        return asyncio.run(watched(all_of(), served, left_s))
    except Refused as error:
        wait_for_death(served)
        raise Unanswered({str(error): 1}, len(sketches)) from error


def quality_of(
    model: Model, method: Method, drawing: Drawing, pictures: Sequence[str], plain: Sequence[str] | None
) -> tuple[float, str] | None:
    """The quality figure and its name: how like real ones digits are, else likeness to the plain pictures.
    None without those, of the plain ones themselves, of too few digits, and where random weights make
    likeness meaningless."""
    if model.name in digits():
        asked = [int(text) for sketch in drawing.reference for text in sketch.prompts]
        alike = resemblance(np.stack([picture_of(text) for text in pictures]), asked)
        return None if alike is None else (alike.f1, METRIC)
    if plain is None or (is_synthetic(model) and any(method.get(kind) for kind in NOT_COMPARABLE)):
        return None
    found = psnr_db([picture_of(t) for t in pictures], [picture_of(t) for t in plain])
    return None if found is None else (found, PSNR)


def metrics_of(batches: Sequence[Batch], seen: Observation, on_gpu: bool) -> Metrics:
    """Images per second, seconds of a batch, steps per second, memory and energy of one image."""
    pictures, total_s = sum(batch.count for batch in batches), sum(batch.draw_s for batch in batches)
    times = sorted(batch.draw_s for batch in batches)
    step_s = median(step for batch in batches for step in (batch.step_s[1:] or batch.step_s))
    found: dict[str, Any] = {
        "images_per_s": pictures / total_s,
        "requests_per_s": pictures / total_s,
        "steps_per_s": 1 / step_s,
        "e2e_s": fmean(times),
        "e2e_p50_s": median(times),
        "memory_gib": seen.device_memory_gib if on_gpu else seen.memory_gib,
    }
    joules, seconds = seen.energy_j(on_gpu), seen.duration_s
    if joules and seconds:
        found |= {"power_w": joules / seconds, "energy_j_per_request": joules / pictures}
    return Metrics.of({name: value for name, value in found.items() if value is not None})


def outcome_of(metrics: Metrics, quality: tuple[float, str] | None) -> Measured:
    """With the quality figure where there is one."""
    if quality is None:
        return Measured(metrics=metrics)
    told = {"quality": quality[0], "quality_metric": quality[1]}
    return Measured(metrics=metrics.model_copy(update=told))
