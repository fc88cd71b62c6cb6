"""The choices worth looking at: nothing else is both cheaper per token and faster."""

from collections.abc import Iterable, Sequence

from metainf.domain import Candidate

LATENCIES = ("e2e_s", "tpot_s", "ttft_s")
RATES = ("output_tokens_per_s", "images_per_s", "requests_per_s")


def pareto(candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
    """The front of throughput per dollar against latency (medians), fastest first.

    Throughput per dollar where every candidate has a price, plain throughput otherwise; latency is the
    one of end-to-end, per-token and first-token time that most candidates have. Candidates without
    either number are left out. Of equal points one stays, the one with the smaller content id.
    """
    pool = list(candidates)
    rate, latency = _shared(pool, RATES), _shared(pool, LATENCIES)
    if rate is None or latency is None:
        return ()
    pool = [c for c in pool if rate in c.prediction.metrics and latency in c.prediction.metrics]
    priced = all(c.usd_per_hour is not None for c in pool)

    def gain(candidate: Candidate) -> float:
        speed = candidate.prediction.metrics[rate].value
        return speed / candidate.usd_per_hour if priced and candidate.usd_per_hour is not None else speed

    ordered = sorted(pool, key=lambda c: (c.prediction.metrics[latency].value, -gain(c), c.id))
    front: list[Candidate] = []
    best = -1.0
    for candidate in ordered:
        if gain(candidate) > best:
            front.append(candidate)
            best = gain(candidate)
    return tuple(front)


def _shared(pool: Sequence[Candidate], names: Sequence[str]) -> str | None:
    """The metric most candidates have; the earlier name on a tie; None where none has any."""
    counts = [sum(name in c.prediction.metrics for c in pool) for name in names]
    most = max(counts, default=0)
    return names[counts.index(most)] if most else None
