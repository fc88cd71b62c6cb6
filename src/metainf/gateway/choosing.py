"""Which endpoint a request goes to. Pure: contenders, limits, time and chance in, a ranking out.

Whoever meets the limits comes first, the best by the aim before the others; then those that do not, the
likeliest first. A limit of money is never passed. Endpoints that differ little take turns by chance, and now
and then one that meets the limits is tried before the best, for what is never asked is never learnt.
"""

import math
from collections.abc import Callable, Sequence

from metainf.gateway.learning import FAILURES, corrected, works
from metainf.gateway.words import Aim, Contender, Option, Ranking, Size, Spread, Standing, Wanted

ALIKE = 0.1
"""Scores closer than this share are told apart by chance."""
SLOW = 2.3263478740408408
"""Standard deviations above the median of a time to first token that 1 in 100 takes."""
HOUR_S = 3600.0
MILLION = 1e6


def rank(
    contenders: Sequence[Contender],
    size: Size,
    wanted: Wanted,
    now_s: float,
    chance: Callable[[], float],
    explore: float = 0.0,
) -> Ranking:
    """The order in which to try them. `chance` gives numbers of [0, 1); `explore` is the share of requests
    for which another that meets the limits comes before the best."""
    left_out: dict[str, str] = {}
    scored: list[tuple[bool, float, Option]] = []
    for one in contenders:
        name = one.endpoint.name
        why = closed(one.standing, now_s)
        if why is not None:
            left_out[name] = why
            continue
        option = outlook(one, size, wanted, now_s)
        meets = option.p_meets >= wanted.confidence
        why = _refused(option, wanted, meets)
        if why is not None:
            left_out[name] = why
            continue
        score = _score(option, _aim(wanted)) if meets else -math.log(max(option.p_meets, 1e-12))
        scored.append((not meets, score * (1 + ALIKE * chance()), option))
    scored.sort(key=lambda each: each[:2])
    good = sum(not misses for misses, _, _ in scored)
    if good > 1 and explore > 0 and chance() < explore:
        scored.insert(0, scored.pop(1 + int(chance() * (good - 1))))
    options = tuple(option for _, _, option in scored)
    return Ranking(options, left_out, None if options else _wait_s(contenders, now_s))


def closed(standing: Standing, now_s: float) -> str | None:
    """Why an endpoint may not be asked now, None where it may."""
    if standing.closed_until_s > now_s:
        return f"left alone for {standing.closed_until_s - now_s:.1f} s more"
    if standing.broken >= FAILURES and standing.trying:
        return "a request is trying it out"
    return None if standing.up else "its probe fails"


def outlook(one: Contender, size: Size, wanted: Wanted, now_s: float) -> Option:
    """What is expected of one endpoint for this request."""
    ttft = corrected(one.expected.ttft, one.standing.ttft, now_s)
    tpot = corrected(one.expected.tpot, one.standing.tpot, now_s)
    ttft_s, tpot_s = _exp(ttft.log_median), _exp(tpot.log_median)
    e2e_s = ttft_s + tpot_s * max(size.output_tokens - 1, 0)
    whole = Spread(math.log(e2e_s), max(ttft.log_scale, tpot.log_scale))
    p_meets = works(one.standing, now_s)
    for spread, limit in (
        (ttft, wanted.max_ttft_s),
        (tpot, wanted.max_tpot_s),
        (whole, wanted.max_e2e_s),
    ):
        p_meets *= 1.0 if limit is None else _below(spread, limit)
    slow_s = _exp(ttft.log_median + SLOW * ttft.log_scale)
    return Option(one.endpoint.name, p_meets, ttft_s, tpot_s, e2e_s, _usd(one, size, tpot_s, e2e_s), slow_s)


def _usd(one: Contender, size: Size, tpot_s: float, e2e_s: float) -> float | None:
    """What the request costs: by its tokens where that is the price, else its share of the machine's time."""
    price = one.endpoint
    if price.usd_per_million_output_tokens is not None:
        read = (price.usd_per_million_input_tokens or 0.0) * size.input_tokens
        return (read + price.usd_per_million_output_tokens * size.output_tokens) / MILLION
    if price.usd_per_hour is None:
        return None
    share_s = e2e_s / (one.standing.in_flight + 1)
    if one.expected.tokens_per_s is not None:
        slower = tpot_s / _exp(one.expected.tpot.log_median)
        share_s = size.output_tokens / one.expected.tokens_per_s * slower
    return price.usd_per_hour / HOUR_S * share_s


def _refused(option: Option, wanted: Wanted, meets: bool) -> str | None:
    if wanted.max_usd is not None:
        if option.usd is None:
            return "its price is not known"
        if option.usd > wanted.max_usd:
            return f"costs about {option.usd:.2g} $, beyond {wanted.max_usd:g} $"
    if wanted.strict and wanted.timed and not meets:
        return f"meets the limits with a chance of {option.p_meets:.0%} only"
    return None


def _aim(wanted: Wanted) -> Aim:
    """The cheapest where a limit says what is fast enough, else the fastest."""
    return wanted.aim or ("cost" if wanted.timed else "latency")


def _score(option: Option, aim: Aim) -> float:
    """Less is better; what has no price comes last where cost is the aim, the faster before the slower."""
    if aim == "ttft":
        return option.ttft_s
    if aim == "tpot":
        return option.tpot_s
    if aim == "cost":
        return option.usd if option.usd is not None else 1e9 * (1 + option.e2e_s)
    return option.e2e_s


def _wait_s(contenders: Sequence[Contender], now_s: float) -> float | None:
    waits = [one.standing.closed_until_s - now_s for one in contenders if one.standing.up]
    return min((each for each in waits if each > 0), default=None)


def _below(spread: Spread, limit: float) -> float:
    if not limit > 0:
        return 0.0
    return 0.5 * (1 + math.erf((math.log(limit) - spread.log_median) / (spread.log_scale * math.sqrt(2))))


def _exp(log: float) -> float:
    """Within what a clock can tell: a nanosecond to a year or so."""
    return math.exp(min(max(log, -20.0), 17.0))
