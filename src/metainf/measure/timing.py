"""Timings of single requests -> metrics of a run, with the definitions of `vllm bench serve`.

| metric | of one request or piece |
|--------|-------------------------|
| TTFT   | first piece - sent |
| E2E    | last piece - sent |
| TPOT   | (E2E - TTFT) / (output tokens - 1), for answers of two tokens or more |
| ITL    | one piece - the piece before; a piece may hold several tokens |

Sent is when a request of an open loop was due, and the first sending of one that was sent again. Means and
linear percentiles run over requests, ITL's over all gaps of all requests. Only whole answers count. Rates are
over the duration of the run: the first sending to the last end, start and drain included. Token counts are
the server's; a rate of tokens is None where the server left one out.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from metainf.domain import BadInput, Metrics
from metainf.measure.words import Limits, Timing

PERCENTILES = (50, 90, 99)
NO_LIMITS = Limits()


def metrics_of(
    timings: Sequence[Timing], limits: Limits = NO_LIMITS, duration_s: float | None = None
) -> Metrics:
    """Latencies in seconds, rates per second; empty where nothing succeeded.

    `goodput_per_s` counts answers within all `limits` (an answer of one token has no TPOT and passes that
    limit), None without limits. A latency of zero (pieces that came in one read) is told as None. Prefill
    speed cannot be seen from a client and stays None. BadInput for a duration that is not above zero.
    """
    good = [timing for timing in timings if timing.error is None and timing.chunk_s]
    if not good:
        return Metrics()
    span = duration_of(timings) if duration_s is None else duration_s
    if not span > 0 or not np.isfinite(span):
        raise BadInput(f"duration: expected seconds above zero, found {span}")
    outputs = _total(timing.output_tokens for timing in good)
    inputs = _total(timing.input_tokens for timing in good)
    cached = _total(timing.cached_tokens for timing in good)
    everything = None if outputs is None or inputs is None else outputs + inputs
    met = None if limits == NO_LIMITS else sum(_meets(timing, limits) for timing in good)
    found = {
        "requests_per_s": len(good) / span,
        "goodput_per_s": None if met is None else met / span,
        "output_tokens_per_s": outputs / span if outputs else None,
        "total_tokens_per_s": everything / span if everything else None,
        "prefix_hit_share": min(cached / inputs, 1.0) if inputs and cached is not None else None,
        **_latencies("ttft", [ttft_s(timing) for timing in good]),
        **_latencies("tpot", [value for timing in good if (value := tpot_s(timing)) is not None]),
        **_latencies("itl", _gaps(good)),
        **_latencies("e2e", [e2e_s(timing) for timing in good]),
    }
    return Metrics.model_validate(found)


def duration_of(timings: Sequence[Timing]) -> float:
    """Seconds from the first sending to the last end, failed requests included; 0 without any."""
    if not timings:
        return 0.0
    return max(timing.ended_s for timing in timings) - min(timing.sent_s for timing in timings)


def errors_of(timings: Iterable[Timing]) -> Counter[str]:
    """How often each error occurred."""
    return Counter(timing.error for timing in timings if timing.error is not None)


def ttft_s(timing: Timing) -> float:
    """Seconds from sending to the first piece of text."""
    return timing.chunk_s[0] - timing.sent_s


def e2e_s(timing: Timing) -> float:
    """Seconds from sending to the last piece of text."""
    return timing.chunk_s[-1] - timing.sent_s


def tpot_s(timing: Timing) -> float | None:
    """Seconds for each token after the first; None where there is none, or the server did not count."""
    if timing.output_tokens is None or timing.output_tokens < 2:
        return None
    return (timing.chunk_s[-1] - timing.chunk_s[0]) / (timing.output_tokens - 1)


def _gaps(timings: Iterable[Timing]) -> list[float]:
    parts = [np.diff(timing.chunk_s) for timing in timings]
    return list(np.concatenate(parts)) if parts else []


def _meets(timing: Timing, limits: Limits) -> bool:
    tpot = tpot_s(timing)
    if tpot is None and timing.output_tokens is None and limits.tpot_s is not None:
        return False
    pairs = ((ttft_s(timing), limits.ttft_s), (tpot or 0.0, limits.tpot_s), (e2e_s(timing), limits.e2e_s))
    return all(limit is None or value <= limit for value, limit in pairs)


def _total(counts: Iterable[int | None]) -> int | None:
    """The sum, or None where one is not known."""
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _latencies(name: str, values: Sequence[float]) -> dict[str, float | None]:
    if not len(values):
        return {}
    array = np.asarray(values, dtype=np.float64)
    found = {f"{name}_s": float(array.mean())}
    ups = np.percentile(array, PERCENTILES)
    found |= {f"{name}_p{p}_s": float(value) for p, value in zip(PERCENTILES, ups, strict=True)}
    return {key: value if value > 0 else None for key, value in found.items()}
