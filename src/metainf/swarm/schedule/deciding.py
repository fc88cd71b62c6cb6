"""Which node a request goes to. Pure: state, forecasts, what was learnt, chance in; a choice out.

Of two aims, requests within their limits and dollars, the ratio is to be large. It is largest where each
choice maximises `chance to meet the limits - worth * dollars`, with `worth` the ratio itself (Dinkelbach),
which the caller follows as it goes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metainf.domain import NoFeasible
from metainf.swarm.schedule.learning import NOISE, Learned
from metainf.swarm.schedule.words import Ask, Choice, Floats, Rates, Swarm

EXPLORES = 0.5
"""How much of what is not known is drawn by chance, instead of its mean (Thompson sampling)."""
FAILING = 0.5
"""A node of which more than this share fails is left alone, as long as there are others."""
DOUBT = 1.0
HARM = 1.0
"""What a limit that is missed by those who run already counts beside one's own."""
LOADS = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of its sequences at which a node is judged."""


@dataclass(frozen=True)
class Outlook:
    """What is expected of each node for one request: arrays of seconds, chances and dollars. `harm` is how
    many of those who run there would miss their limits for it, `work_s` what its prompt takes."""

    ttft_s: Floats
    tpot_s: Floats
    p_meets: Floats
    harm: Floats
    usd: Floats
    work_s: Floats


def outlook(
    swarm: Swarm,
    rates: Rates,
    learned: Learned,
    request: tuple[Ask, Floats, float],
    chance: Floats | None = None,
) -> Outlook:
    """What to expect of every node. `request` is the ask, the tokens of its prompt that each node holds, and
    the instant. `chance` (standard normal numbers [2, nodes]) draws what is not known; without it the mean
    counts."""
    ask, cached, now_s = request
    at = (swarm.kind, swarm.method)
    prefill, unsure_prefill = learned.shift(swarm, 0)
    steps, unsure_steps = learned.shift(swarm, 1)
    if chance is not None:
        prefill = prefill + EXPLORES * chance[0] * unsure_prefill
        steps = steps + EXPLORES * chance[1] * unsure_steps
    per_token = rates.prefill_s_per_token[at] * np.exp(prefill)
    slower = np.exp(steps)
    alone_s = np.maximum(ask.input_tokens - cached, 1) * per_token
    most = np.maximum(rates.most_sequences[at], 1)
    beside = np.minimum(swarm.running + 1, most)
    per_sequence = rates.step_per_sequence_s[at] * slower
    step = rates.step_s[at] * slower + beside * per_sequence
    tpot = step / (1 - swarm.held_up(now_s))
    queue_s = np.where(swarm.running >= most, ask.output_tokens * tpot / most, 0.0)
    wait_s = swarm.waiting_tokens * per_token + np.maximum(swarm.open_from_s - now_s, 0.0) + queue_s
    ttft = wait_s + alone_s + tpot
    whole_s = ttft + ask.output_tokens * tpot
    slowed_s = np.where(swarm.running > 0, alone_s + ask.output_tokens * per_sequence, 0.0)
    longer_s = np.maximum(now_s + whole_s - np.maximum(swarm.until_s, now_s), 0.0)
    usd = swarm.usd_per_s * np.minimum(slowed_s + longer_s, whole_s)
    spread = np.hypot(NOISE, 0.5 * rates.spread[at])
    p_meets = _below(ttft, ask.max_ttft_s, spread) * _below(tpot, ask.max_tpot_s, spread)
    after = tpot + per_sequence + alone_s / max(ask.output_tokens / 2, 1.0)
    harm = _below(tpot, ask.max_tpot_s, spread) - _below(after, ask.max_tpot_s, spread)
    harm = np.minimum(swarm.running, most) * harm
    return Outlook(ttft, tpot, p_meets * (1 - learned.failing), harm, usd, alone_s)


def choose(
    swarm: Swarm,
    rates: Rates,
    learned: Learned,
    request: tuple[Ask, Floats, float],
    worth: float,
    chance: Floats | None = None,
) -> Choice:
    """The node to ask. `worth` is the requests within limits that a dollar buys.

    Where nothing is forecast of any node that may serve, the one with the least to do is taken (`fallback`).
    Raises NoFeasible where no node may serve the request at all, or within its budget.
    """
    ask, cached, _ = request
    may = _may(swarm, ask)
    if not may.any():
        raise NoFeasible("expected a node with the asked labels and reputation, found none")
    seen = outlook(swarm, rates, learned, request, chance)
    known = may & np.isfinite(seen.ttft_s) & np.isfinite(seen.tpot_s)
    if not known.any():
        node = int(np.where(may, swarm.running + swarm.waiting_tokens / 1000, np.inf).argmin())
        return Choice(node, math.nan, math.nan, math.nan, math.nan, int(cached[node]), 0.0, fallback=True)
    within = known & (seen.usd <= ask.max_usd)
    if not within.any():
        raise NoFeasible(
            f"expected a node within {ask.max_usd:g} USD, the cheapest costs {np.nanmin(seen.usd):.2g}"
        )
    well = within & (learned.failing < FAILING)
    score = (
        seen.p_meets
        - HARM * seen.harm
        - worth * seen.usd * (1 + DOUBT * np.maximum(0.0, 1 - swarm.reputation))
    )
    score = score - 1e-3 * seen.ttft_s / (1 + seen.ttft_s)
    score = np.where(well if well.any() else within, score, -np.inf)
    node = int(score.argmax())
    return Choice(
        node,
        float(seen.ttft_s[node]),
        float(seen.tpot_s[node]),
        float(seen.p_meets[node]),
        float(seen.usd[node]),
        int(cached[node]),
        float(seen.work_s[node]),
    )


def _may(swarm: Swarm, ask: Ask) -> np.ndarray:
    may: np.ndarray = swarm.reputation >= ask.least_reputation
    if ask.labels:
        may = may & np.array([ask.labels <= labels for labels in swarm.labels], dtype=bool)
    return may


def _below(expected: Floats, limit: float, spread: Floats) -> Floats:
    """The chance that a lognormal number of that median stays below the limit (logistic, for speed)."""
    if not math.isfinite(limit):
        return np.ones_like(expected)
    z = (math.log(max(limit, 1e-9)) - np.log(np.maximum(expected, 1e-9))) / spread
    chance: Floats = 1.0 / (1.0 + np.exp(-1.702 * z))
    return chance


@dataclass(frozen=True)
class Prospect:
    """What each node would give with each method [nodes, methods] if it were well used: requests a second at
    the load where most still meet their limits, and how many of those a dollar buys."""

    rate_per_s: Floats
    good_per_usd: Floats


def prospects(swarm: Swarm, rates: Rates, learned: Learned, traffic: Sequence[Ask]) -> Prospect:
    """For requests like the present ones, by the same forecasts and corrections as choices are made by."""
    sizes = [(ask.input_tokens, ask.output_tokens) for ask in traffic]
    tokens_in, tokens_out = np.array(sizes, dtype=float).mean(axis=0)
    limits = np.median([(ask.max_ttft_s, ask.max_tpot_s) for ask in traffic], axis=0)
    shape = (len(swarm), len(rates.methods))
    rate, worth = np.zeros(shape), np.zeros(shape)
    for method in range(len(rates.methods)):
        would = np.full(len(swarm), method)
        at = (swarm.kind, would)
        prefill_s = rates.prefill_s_per_token[at] * np.exp(learned.shift(swarm, 0, would)[0]) * tokens_in
        slower = np.exp(learned.shift(swarm, 1, would)[0])
        for share in LOADS:
            beside = np.maximum(1.0, share * rates.most_sequences[at])
            step = (rates.step_s[at] + beside * rates.step_per_sequence_s[at]) * slower
            each_s = prefill_s + tokens_out * step / beside  # of the machine's time
            busy = prefill_s / each_s
            spread = np.hypot(NOISE, 0.5 * rates.spread[at])
            good = _below(step / (1 - busy), float(limits[1]), spread)
            good = good * _below(prefill_s * (1 + busy), float(limits[0]), spread)
            gives = np.nan_to_num(good / (each_s * swarm.usd_per_s))
            better = gives > worth[:, method]
            worth[better, method], rate[better, method] = gives[better], (good / each_s)[better]
    return Prospect(rate, worth)


def switch(
    swarm: Swarm, hopes: Prospect, now: tuple[float, float], cost_s: float, horizon_s: float
) -> tuple[int, int] | None:
    """The one node, and its new method, whose change is most worth what it costs; None where none is.

    `now` is the present requests a second and how many good ones a dollar buys at present. A node that
    changes is closed, and paid, for `cost_s`; it must earn that back within `horizon_s`.
    """
    rate_per_s, worth = now
    served = np.minimum(hopes.rate_per_s, rate_per_s)
    saves = served * (1 / max(worth, 1e-12) - 1 / np.maximum(hopes.good_per_usd, 1e-300))
    rows = np.arange(len(swarm))
    gains = np.where(np.isfinite(saves), saves, -np.inf)
    gains = gains - np.maximum(gains[rows, swarm.method], 0.0)[:, None]
    gains = gains * horizon_s - (swarm.usd_per_s * cost_s)[:, None]
    gains[rows, swarm.method] = -np.inf
    node, method = np.unravel_index(int(gains.argmax()), gains.shape)
    return (int(node), int(method)) if gains[node, method] > 0 else None
