"""Which node a request goes to. Pure: state, forecasts, what was learnt, chance in; a choice out.

Of two aims, requests within their limits and dollars, the ratio is to be large. It is largest where each
choice maximises `chance to meet the limits - worth * dollars`, with `worth` the ratio itself (Dinkelbach),
which the caller follows as it goes.
"""

import math
from dataclasses import dataclass

import numpy as np

from metainf.domain import NoFeasible
from metainf.swarm.schedule.chances import below, spread_of
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.words import Ask, Choice, Floats, Rates, Swarm

EXPLORES = 0.1
"""How much of what is not known is drawn by chance, instead of its mean (Thompson sampling)."""
FAILING = 0.5
"""A node of which more than this share fails is left alone, as long as there are others."""
LOOKS_BACK = 4.0
"""How often prompts hold up a text is judged by what came in so many times the seconds that it takes."""
DOUBT = 1.0
HARM = 1.0
"""What a limit that is missed by those who run already counts beside one's own."""


class TooDear(NoFeasible):
    """No node serves the request within its budget."""


@dataclass(frozen=True)
class Outlook:
    """What is expected of each node for one request: arrays of seconds, chances and dollars. `harm` is how
    many of those who run there would miss their limits for it, `work_s` what its prompt takes, `held_up` the
    share of a node's time that prompts take from its steps."""

    ttft_s: Floats
    tpot_s: Floats
    p_meets: Floats
    harm: Floats
    usd: Floats
    work_s: Floats
    held_up: Floats


def outlook(
    swarm: Swarm,
    rates: Rates,
    learned: Learned,
    request: tuple[Ask, Floats, float],
    chance: Floats | None = None,
    load: Floats | None = None,
) -> Outlook:
    """What to expect of every node. `request` is the ask, the tokens of its prompt that each node holds, and
    the instant. `chance` (standard normal numbers [2, nodes]) draws what is not known; without it the mean
    counts. `load` is how many sequences each node is planned to have (`planning`), between whom it shares
    the cost of its steps; without a plan these are those that it has now."""
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
    held_up = swarm.held_up(now_s, LOOKS_BACK * ask.output_tokens * step)
    tpot = step / (1 - held_up)
    queue_s = np.where(swarm.running >= most, ask.output_tokens * tpot / most, 0.0)
    wait_s = swarm.waiting_tokens * per_token + np.maximum(swarm.open_from_s - now_s, 0.0) + queue_s
    ttft = swarm.away_s + wait_s + alone_s + tpot
    together = np.minimum(np.maximum(load, 1.0), most) if load is not None else beside
    base = rates.step_s[at] * slower / together
    usd = swarm.usd_per_s * (alone_s + ask.output_tokens * (per_sequence + base))
    spread = spread_of(rates, at)
    p_meets = below(ttft, ask.max_ttft_s, spread) * below(tpot, ask.max_tpot_s, spread)
    p_meets = p_meets * below(ttft + ask.output_tokens * tpot, ask.max_e2e_s, spread)
    half = max(ask.output_tokens / 2, 1.0)
    stalled = tpot + swarm.waiting_tokens * per_token / half  # prompts that wait hold up who runs, too
    harm = below(stalled, ask.max_tpot_s, spread)
    harm = harm - below(stalled + per_sequence + alone_s / half, ask.max_tpot_s, spread)
    harm = np.minimum(swarm.running, most) * harm
    return Outlook(ttft, tpot, p_meets * (1 - learned.failing), harm, usd, alone_s, held_up)


def choose(
    swarm: Swarm,
    rates: Rates,
    learned: Learned,
    request: tuple[Ask, Floats, float],
    worth: float,
    chance: Floats | None = None,
    load: Floats | None = None,
) -> Choice:
    """The node to ask. `worth` is the requests within limits that a dollar buys; the rest as in `outlook`.

    Where nothing is forecast of any node that may serve, the one with the least to do is taken (`fallback`).
    Raises NoFeasible where no node may serve the request at all, TooDear where none does within its budget.
    """
    ask, cached, _ = request
    may = _may(swarm, ask)
    if not may.any():
        raise NoFeasible("expected a node with the asked labels and reputation, found none")
    seen = outlook(swarm, rates, learned, request, chance, load)
    known = may & np.isfinite(seen.ttft_s) & np.isfinite(seen.tpot_s)
    if not known.any():
        node = int(np.where(may, swarm.running + swarm.waiting_tokens / 1000, np.inf).argmin())
        return Choice(node, math.nan, math.nan, math.nan, math.nan, int(cached[node]), 0.0, fallback=True)
    within = known & (seen.usd <= ask.max_usd)
    if not within.any():
        cheapest = np.where(known, seen.usd, np.inf).min()
        raise TooDear(f"expected a node within {ask.max_usd:g} USD, the cheapest costs {cheapest:.2g}")
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
