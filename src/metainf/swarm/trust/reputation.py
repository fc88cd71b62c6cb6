"""How far a node is believed, from what it did: pure, the clock passed in.

Four things are kept apart. **Availability**: whether requests succeed, a Beta posterior with a lower credible
bound, so that few observations count for little. **Promptness**: whether promised times are kept.
**Correctness**: audits that were passed, likewise a lower bound; a failed one is a strike, which no number of
served requests outweighs. **Age**: for how long the identity is known. Counts fade by half in
`half_life_s`, so that a node can mend, and evidence comes in any order: every event carries its instant.

One who returns under a new name begins at the bottom, is given no work before it passed trials, and is
audited almost always at first: names are cheap, and none is worth anything.
"""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from scipy.special import betaincinv

from metainf.domain import BadInput
from metainf.domain.base import Frozen
from metainf.swarm.words import LEAST_REPUTATION, MOST_REPUTATION, NodeId

MOST_STRIKES, MOST_ESCALATIONS = 64, 8
Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["served", "failed", "passed", "lied", "nonsense"]


class Policy(Frozen):
    """The numbers of the rule; the defaults are explained in docs/swarm.md.

    `horizon` requests in a row must succeed with a chance of one half for a neutral node (34: a node that
    fails 2 % of them). A new node's availability is taken as if it had served `prior_served` requests and
    failed `prior_failed`; failures cost little, so that a mild quantile of the posterior will do. Correctness
    begins with nothing, and counts by a strict one. A strike quarantines for `quarantine_s`,
    each further one `escalation` times longer, and costs `struck` of the standing for as long as it is
    remembered. Audits: `audit_share` of all answers of a tried node, all of a new one.
    """

    half_life_s: PositiveFloat = 7 * 86_400.0
    horizon: PositiveFloat = 34.0
    prior_served: PositiveFloat = 49.0
    prior_failed: PositiveFloat = 1.0
    availability_quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.25
    correctness_quantile: Annotated[float, Field(gt=0, lt=0.5)] = 0.05
    quarantine_s: PositiveFloat = 3600.0
    escalation: PositiveFloat = 4.0
    struck: Share = 0.25
    strike_life_s: PositiveFloat = 90 * 86_400.0
    nonsense_strike: Share = 1 / 3
    trials: PositiveInt = 5
    young_s: NonNegativeFloat = 600.0
    young_share: Share = 0.5
    audit_share: Share = 0.05
    audits_fade: PositiveFloat = 8.0


class Event(Frozen):
    """What one node did at one instant (seconds since the epoch).

    `served` and `failed` are requests; `seconds` against `promised_s` tell whether it was as quick as it
    said. `passed` and `lied` are audits; `nonsense` is an answer that cannot be right (another shape, no
    number), which a broken node gives as well as a lying one: a failure and part of a strike.
    """

    node: NodeId
    at_s: NonNegativeFloat
    kind: Kind
    seconds: NonNegativeFloat | None = None
    promised_s: PositiveFloat | None = None


class Strike(Frozen):
    """One audit failed, or a part of it."""

    at_s: NonNegativeFloat
    weight: Annotated[float, Field(gt=0, le=1)] = 1.0


class Standing(Frozen):
    """What is remembered of one node; counts are as of `as_of_s`."""

    node: NodeId
    first_s: NonNegativeFloat
    as_of_s: NonNegativeFloat
    served: NonNegativeFloat = 0.0
    failed: NonNegativeFloat = 0.0
    kept: NonNegativeFloat = 0.0
    late: NonNegativeFloat = 0.0
    passed: NonNegativeFloat = 0.0
    strikes: tuple[Strike, ...] = Field(default=(), max_length=MOST_STRIKES)


LATE = 1.5
"""A promise is broken by taking this many times as long."""
_COUNTS = ("served", "failed", "kept", "late", "passed")


def after(standing: Standing | None, event: Event, policy: Policy) -> Standing:
    """The standing with one more event; None for a node of which nothing is known. Order does not matter."""
    known = standing or Standing(node=event.node, first_s=event.at_s, as_of_s=event.at_s)
    if known.node != event.node:
        raise BadInput(f"expected an event of {known.node}, found one of {event.node}")
    now = max(known.as_of_s, event.at_s)
    counts = {
        name: getattr(known, name) * _faded(now - known.as_of_s, policy.half_life_s) for name in _COUNTS
    }
    weight = _faded(now - event.at_s, policy.half_life_s)
    for name in _touched(event):
        counts[name] += weight
    strikes = known.strikes
    if event.kind in ("lied", "nonsense"):
        fresh = Strike(at_s=event.at_s, weight=1.0 if event.kind == "lied" else policy.nonsense_strike)
        strikes = tuple(sorted((*strikes, fresh), key=lambda each: (each.at_s, each.weight))[-MOST_STRIKES:])
    return Standing(
        node=known.node, first_s=min(known.first_s, event.at_s), as_of_s=now, strikes=strikes, **counts
    )


def told(events: Iterable[Event], policy: Policy) -> dict[str, Standing]:
    """The standings that events lead to."""
    found: dict[str, Standing] = {}
    for event in events:
        found[event.node] = after(found.get(event.node), event, policy)
    return found


def _touched(event: Event) -> list[str]:
    match event.kind:
        case "served":
            if event.seconds is None or event.promised_s is None:
                return ["served"]
            return ["served", "kept" if event.seconds <= LATE * event.promised_s else "late"]
        case "passed":
            return ["passed"]
        case "failed" | "nonsense":
            return ["failed"]
        case "lied":
            return []


def _faded(seconds: float, half_life_s: float) -> float:
    return float(0.5 ** (max(0.0, seconds) / half_life_s))


def availability(standing: Standing, now_s: float, policy: Policy) -> float:
    """Lower credible bound on the share of requests that succeed."""
    fade = _faded(now_s - standing.as_of_s, policy.half_life_s)
    served, failed = (
        policy.prior_served + standing.served * fade,
        policy.prior_failed + standing.failed * fade,
    )
    return float(betaincinv(served, failed, policy.availability_quantile))


def correctness(standing: Standing, now_s: float, policy: Policy) -> float:
    """Lower credible bound on the share of answers that are right, from audits that were passed."""
    fade = _faded(now_s - standing.as_of_s, policy.half_life_s)
    return float(betaincinv(1 + standing.passed * fade, 1.0, policy.correctness_quantile))


def promptness(standing: Standing, now_s: float, policy: Policy) -> float:
    """Share of kept promises; 1 where none was given."""
    fade = _faded(now_s - standing.as_of_s, policy.half_life_s)
    return (1 + standing.kept * fade) / (1 + (standing.kept + standing.late) * fade)


def struck(standing: Standing, now_s: float, policy: Policy) -> float:
    """Strikes that still count, each fading by half in `strike_life_s`."""
    return math.fsum(
        each.weight * _faded(now_s - each.at_s, policy.strike_life_s) for each in standing.strikes
    )


def quarantined_until_s(standing: Standing, policy: Policy) -> float:
    """The instant from which the node may be used again; 0 for one that was never struck.

    Parts of strikes add up: the quarantine begins with the one that makes the sum whole, and each further
    whole is `escalation` times longer.
    """
    until, total, wholes = 0.0, 0.0, 0
    for each in standing.strikes:
        total += each.weight
        while total >= wholes + 1 - 1e-9:
            until = max(
                until, each.at_s + policy.quarantine_s * policy.escalation ** min(wholes, MOST_ESCALATIONS)
            )
            wholes += 1
    return until


def on_trial(standing: Standing | None, now_s: float, policy: Policy) -> bool:
    """Whether a node must still show that it calculates rightly before it is given work."""
    if standing is None:
        return True
    fade = _faded(now_s - standing.as_of_s, policy.half_life_s)
    return standing.passed * fade + 0.5 < policy.trials


def reputation(standing: Standing | None, now_s: float, policy: Policy) -> float:
    """From LEAST_REPUTATION to MOST_REPUTATION; 1 is neutral for the router.

    The chance that the next `horizon` requests succeed, times promptness, half of it for being there and half
    for being right, on a logarithmic scale. A node in quarantine has the least, as has an unknown one; an
    unaudited one cannot rise above neutral, nor a young one above `young_share` of the way.
    """
    if standing is None or quarantined_until_s(standing, policy) > now_s:
        return LEAST_REPUTATION
    able = availability(standing, now_s, policy) ** policy.horizon * promptness(standing, now_s, policy)
    merit = able * (0.5 + 0.5 * correctness(standing, now_s, policy))
    merit *= policy.struck ** struck(standing, now_s, policy)
    if now_s - standing.first_s < policy.young_s:
        merit *= policy.young_share
    return float(LEAST_REPUTATION * (MOST_REPUTATION / LEAST_REPUTATION) ** merit)


def audit_share(standing: Standing | None, now_s: float, policy: Policy) -> float:
    """Which share of a node's answers is audited: all of a new one, `audit_share` in the end, more again of
    one that was struck."""
    if standing is None:
        return 1.0
    fade = _faded(now_s - standing.as_of_s, policy.half_life_s)
    untried = math.exp(-standing.passed * fade / policy.audits_fade)
    doubted = 1 - policy.struck ** struck(standing, now_s, policy)
    return float(policy.audit_share + (1 - policy.audit_share) * max(untried, doubted))


def nesa(value: float, failed: bool, penalty: float = 0.8, reward: float = 1.01) -> float:
    """Nesa's published rule, as a baseline: R' = R x 0.8 after an error or time-out, else R x 1.01, between
    the bounds; it begins at 1. A node that fails 4 % of its requests climbs to the top, since
    ln 1.01 / (ln 1.01 - ln 0.8) = 4.27 %."""
    return min(MOST_REPUTATION, max(LEAST_REPUTATION, value * (penalty if failed else reward)))
