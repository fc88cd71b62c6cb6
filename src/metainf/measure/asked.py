"""The workload that a run's traffic and answers show: lengths as the server counted them. Pure."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from metainf.domain import Batching, Lengths, Method, Model, NotSupported, Workload
from metainf.engines.launch import known_context_tokens
from metainf.importers.traces import moments
from metainf.measure.traffic import workload_of
from metainf.measure.words import ClosedLoop, Drawing, OpenLoop, Pacing, Timing, Traffic, Waves, Work


def asked_workload(traffic: Work, timings: Sequence[Timing] = ()) -> Workload:
    """What was asked: the traffic's workload, with lengths as the server counted them where it did. The load
    is the traffic's, however a method's batching paces it, so that methods can be compared."""
    if isinstance(traffic, Drawing):
        return Workload(
            name=traffic.name, width_px=traffic.width_px, height_px=traffic.height_px, steps=traffic.steps,
            batch_size=traffic.batch, num_requests=traffic.pictures,
        )  # fmt: skip
    counted = {
        "input_tokens": [each.input_tokens for each in timings],
        "output_tokens": [each.output_tokens for each in timings],
    }
    told = {
        name: moments([float(count) for count in counts if count is not None])
        for name, counts in counted.items()
        if counts and None not in counts
    }
    return workload_of(traffic).model_copy(update=told)


def bound_of(traffic: Traffic, most_input_tokens: int) -> Workload:
    """The workload as a launch needs it before anything was asked: the longest request."""
    told = workload_of(traffic)
    return told.model_copy(update={"input_tokens": Lengths(mean=most_input_tokens, max=most_input_tokens)})


def roomy(work: Workload, step: int, model: Model) -> Workload:
    """A bound whose longest request is a multiple of `step` tokens, as far as the model's context goes:
    traffics that differ by less start an engine with the same words. As it is for an unknown context."""
    longest, most = known_context_tokens(work), model.max_position_embeddings
    if step == 1 or longest is None or most is None or work.input_tokens is None:
        return work
    more = max(longest, min(-(-longest // step) * step, most)) - longest
    held = work.input_tokens
    wider = held.model_copy(update={"mean": held.mean + more, "max": (held.max or held.mean) + more})
    return work.model_copy(update={"input_tokens": wider})


def concurrency(pacing: Pacing) -> int | None:
    """Requests in flight; None for an open loop, where arrivals decide."""
    if isinstance(pacing, ClosedLoop):
        return pacing.concurrency
    return pacing.size if isinstance(pacing, Waves) else None


def paced(traffic: Traffic, method: Method) -> Traffic:
    """The traffic as a method's batching takes it: one request at a time without batching, in waves for
    static batches, as it is otherwise. NotSupported for static batches of an open loop."""
    batching = method.get(Batching)
    if batching is None or batching.mode not in ("none", "static"):
        return traffic
    if isinstance(traffic.pacing, OpenLoop):
        if batching.mode == "static":
            raise NotSupported(
                f"static batches wait until they are full, and the requests of {traffic.name} arrive when "
                "they do: ask for continuous batching, or for a concurrency instead of a rate"
            )
        return traffic
    size = batching.max_sequences or concurrency(traffic.pacing) or 1
    return replace(traffic, pacing=ClosedLoop(1) if batching.mode == "none" else Waves(size))


def as_asked(timings: Sequence[Timing], traffic: Traffic) -> list[Timing]:
    """Timings with the wait before a request was sent, for methods that take fewer at a time than there are
    in flight: the n-th request was there as soon as the closed loop had room for it."""
    in_flight = concurrency(traffic.pacing)
    ordered = sorted(timings, key=lambda each: each.sent_s)
    if in_flight is None or not ordered:
        return ordered
    ends = sorted(each.ended_s for each in ordered)
    starts = [ordered[0].sent_s] * min(in_flight, len(ordered)) + ends[: max(0, len(ordered) - in_flight)]
    return [replace(each, sent_s=min(each.sent_s, at)) for each, at in zip(ordered, starts, strict=True)]


AGREEMENT = "continuation_agreement"
"""What the quality figure of a run is called in its record."""
LEAST_AGREEMENT = 0.75
"""Agreement below which a method is not recommended: where each token agrees with a chance of nine in ten,
four in a row agree by 0.77 on average. Set before anything was measured by it."""


def agreement(answers: Sequence[str], plain: Sequence[str]) -> float | None:
    """Mean share of the leading characters in which greedy answers equal those of the plain method."""
    pairs = [(one, other) for one, other in zip(answers, plain, strict=False) if other]
    return fmean(_common(one, other) / len(other) for one, other in pairs) if pairs else None


def _common(one: str, other: str) -> int:
    """Length of the common beginning."""
    if one.startswith(other):
        return len(other)
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low
