"""What an endpoint's standing becomes by what is seen of it. Pure: standing and time in, standing out.

A failure in a row closes the endpoint for a time that doubles; then one request tries it, and an answer opens
it again. Latencies are kept as logs of seen over expected that fade, so that a forecast which is wrong for
this endpoint is corrected, and a bad hour is forgotten.
"""

import math
from dataclasses import replace

from metainf.gateway.words import Expected, Lately, Seen, Spread, Standing

HALF_LIFE_S = 120.0
"""Seconds after which what was seen counts half."""
FAILURES = 3
"""Failures in a row that close an endpoint."""
FIRST_S, LONGEST_S = 1.0, 60.0
"""How long it is closed at first and at most."""
BUSY_S = 1.0
"""How long one that is busy and does not say is left alone."""
SPREAD, SPREAD_WEIGHT = 0.35, 4.0
"""Scale of the log of one request's latency around its mean, before any was seen, and what that counts."""
ELSEWHERE = 0.5
"""Scale of the log of what no forecast knows of an endpoint: its network, versions and neighbours."""
WHOLE = 0.25
"""What an answer that came in one piece counts towards the time to a first token."""
GOOD, BAD = 9.5, 0.5
"""Answers and failures that an endpoint begins with: one that is registered and answers its probe works."""


def begun(standing: Standing, now_s: float) -> Standing:
    """A request goes there."""
    tries = standing.broken >= FAILURES
    return replace(standing, in_flight=standing.in_flight + 1, trying=standing.trying or tries)


def ended(standing: Standing, seen: Seen, now_s: float) -> Standing:
    """A request there is over."""
    after = replace(standing, in_flight=max(0, standing.in_flight - 1), trying=False)
    if seen.result in ("refused", "left"):
        return _timed(after, seen, now_s)
    if seen.result == "busy":
        wait_s = min(max(seen.wait_s or BUSY_S, 0.0), LONGEST_S)
        return replace(after, closed_until_s=max(after.closed_until_s, now_s + wait_s))
    after = _counted(after, seen.result == "ok", now_s)
    if seen.result == "ok":
        return _timed(replace(after, broken=0, cooling_s=0.0), seen, now_s)
    if seen.ttft_s is not None:  # it stalled: a first token takes at least so long
        after = _timed(after, seen, now_s)
    broken = after.broken + 1
    if broken < FAILURES:
        return replace(after, broken=broken)
    cooling_s = min(max(FIRST_S, 2 * after.cooling_s), LONGEST_S)
    return replace(after, broken=broken, cooling_s=cooling_s, closed_until_s=now_s + cooling_s)


def probed(standing: Standing, up: bool, now_s: float) -> Standing:
    """Its health was asked for. One that comes back may be tried at once."""
    if standing.up == up:
        return standing
    if not up:
        return replace(standing, up=False)
    return replace(standing, up=True, cooling_s=0.0, closed_until_s=min(standing.closed_until_s, now_s))


def works(standing: Standing, now_s: float) -> float:
    """The chance that an answer comes."""
    left = _left(now_s - standing.at_s)
    good, bad = GOOD + left * standing.good, BAD + left * standing.bad
    return good / (good + bad)


def corrected(said: Spread, lately: Lately, now_s: float) -> Spread:
    """What is expected of the next request: a forecast, and what was seen against it.

    The forecast's error is normal with its own scale and that of what it cannot know, each request's with the
    spread that was seen; the more was seen lately, the less the forecast counts.
    """
    weight = lately.weight * _left(now_s - lately.at_s)
    seen = max(0.0, lately.square - lately.mean**2)
    spread = (SPREAD_WEIGHT * SPREAD**2 + weight * seen) / (SPREAD_WEIGHT + weight)
    trust, doubt = weight / spread, 1 / (said.log_scale**2 + ELSEWHERE**2)
    shift = trust * lately.mean / (trust + doubt)
    return Spread(said.log_median + shift, math.sqrt(1 / (trust + doubt) + spread))


def _counted(standing: Standing, good: bool, now_s: float) -> Standing:
    left = _left(now_s - standing.at_s)
    return replace(
        standing, good=standing.good * left + good, bad=standing.bad * left + (not good), at_s=now_s
    )


def _timed(standing: Standing, seen: Seen, now_s: float) -> Standing:
    """Latencies against what was expected; of an answer that came at once only the whole is known."""
    ttft, tpot = standing.ttft, standing.tpot
    if seen.ttft_s is not None:
        ttft = _with(ttft, seen.expected.ttft, seen.ttft_s, now_s)
    if seen.tpot_s is not None:
        tpot = _with(tpot, seen.expected.tpot, seen.tpot_s, now_s)
    elif seen.ttft_s is None and seen.e2e_s is not None and seen.output_tokens:
        whole = _whole(seen.expected, seen.output_tokens)
        ttft = _with(ttft, whole, seen.e2e_s, now_s, WHOLE)
        tpot = _with(tpot, whole, seen.e2e_s, now_s)
    return replace(standing, ttft=ttft, tpot=tpot)


def _whole(expected: Expected, tokens: int) -> Spread:
    whole_s = math.exp(expected.ttft.log_median) + (tokens - 1) * math.exp(expected.tpot.log_median)
    return Spread(math.log(whole_s), expected.tpot.log_scale)


def _with(lately: Lately, said: Spread, seen_s: float, now_s: float, counts: float = 1.0) -> Lately:
    if not seen_s > 0:
        return lately
    log = math.log(seen_s) - said.log_median
    left = lately.weight * _left(now_s - lately.at_s)
    weight = left + counts
    mean = (left * lately.mean + counts * log) / weight
    return Lately(mean, (left * lately.square + counts * log * log) / weight, weight, now_s)


def _left(seconds: float) -> float:
    return float(0.5 ** (max(0.0, seconds) / HALF_LIFE_S))
