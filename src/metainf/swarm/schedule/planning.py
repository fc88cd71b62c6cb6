"""Which nodes should carry the present traffic, and how full: a plan by flow, made every few seconds. Pure.

A node costs the same while it works, full or not. A choice that looks at one request alone either opens a
node for each or crowds the one that is open; how many to keep busy depends on who will come. The plan takes
the most gainful node at its most gainful load, then the next, until the traffic is carried.
"""

from dataclasses import dataclass, field

import numpy as np

from metainf.swarm.schedule.chances import below, spread_of
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.words import Ask, Floats, Ints, Rates, Swarm

LOADS = np.array([1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
"""Sequences at once for which a node is judged."""
HEADROOM = 2.0
"""Room for so many times the mean of the traffic, for it comes in bursts."""
FADES_S = 30.0
LEAST_FREE = 0.02
BETTER = 1.1
"""A change of method must promise so many times as much for a dollar: what was never tried is uncertain."""


@dataclass(frozen=True)
class Flow:
    """Traffic: requests a second; tokens that must be read and written; limits (s), all as means."""

    rate_per_s: float
    input_tokens: float
    output_tokens: float
    max_ttft_s: float
    max_tpot_s: float


@dataclass
class Following:
    """The traffic of late, of which what is older than FADES_S counts little."""

    sums: Floats = field(default_factory=lambda: np.zeros(5))
    begun_s: float | None = None
    last_s: float = 0.0

    def came(self, ask: Ask, cached_tokens: float, now_s: float) -> None:
        """A request, of whose prompt so many tokens are held by the node that holds most."""
        if self.begun_s is None:
            self.begun_s = self.last_s = now_s
        self.sums *= np.exp((self.last_s - now_s) / FADES_S)
        self.last_s = max(self.last_s, now_s)
        limits = min(ask.max_ttft_s, 1e6), min(ask.max_tpot_s, 1e6)
        self.sums += (1.0, ask.input_tokens - cached_tokens, ask.output_tokens, *limits)

    def flow(self) -> Flow | None:
        """None before the first request."""
        if self.begun_s is None:
            return None
        seen_s = FADES_S * (1 - np.exp(-max(self.last_s - self.begun_s, 1.0) / FADES_S))
        means = self.sums[1:] / self.sums[0]
        return Flow(float(self.sums[0] / seen_s), *(float(each) for each in means))


@dataclass(frozen=True)
class Plan:
    """Sequences at once for each node, 0 where it should rest; what a dollar of it buys (requests within
    limits)."""

    load: Floats
    good_per_usd: float


def planned(swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, method: Ints | None = None) -> Plan:
    """The nodes for a flow, as they run or with other methods. Nodes of which nothing is forecast rest."""
    rate, good, usd = _curves(swarm, rates, learned, flow, swarm.method if method is None else method)
    gain = np.where(np.isfinite(rate) & (usd > 0), good / np.where(usd > 0, usd, 1.0), -1.0)
    load = np.zeros(len(swarm))
    left, bought, spent = flow.rate_per_s * HEADROOM, 0.0, 0.0
    while left > 0:
        gains = np.where(rate <= np.maximum(left, rate[0]), gain, -1.0)
        row, node = np.unravel_index(int(gains.argmax()), gains.shape)
        if gains[row, node] <= 0:
            break
        part = min(1.0, left / float(rate[row, node]))
        bought, spent = bought + part * float(good[row, node]), spent + part * float(usd[row, node])
        load[node], left = LOADS[row], left - float(rate[row, node])
        gain[:, node] = -1.0
    return Plan(load, bought / spent if spent else 0.0)


def _curves(
    swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, method: Ints
) -> tuple[Floats, Floats, Floats]:
    """For each load and node: requests a second, those within limits, dollars a second."""
    at = (swarm.kind, method)
    prefill_s = rates.prefill_s_per_token[at] * np.exp(learned.shift(swarm, 0, method)[0]) * flow.input_tokens
    sequences = LOADS[:, None]
    step = rates.step_s[at] + sequences * rates.step_per_sequence_s[at]
    step = step * np.exp(learned.shift(swarm, 1, method)[0])
    each_s = prefill_s + flow.output_tokens * step / sequences  # of the machine's time
    free = np.maximum(1 - prefill_s / each_s, LEAST_FREE)
    ttft = prefill_s + prefill_s * (1 - free) / free + step
    spread = spread_of(rates, at)
    meets = below(step / free, flow.max_tpot_s, spread) * below(ttft, flow.max_ttft_s, spread)
    meets = meets * (sequences <= np.maximum(rates.most_sequences[at], 1)) * (1 - learned.failing)
    return 1 / each_s, meets / each_s, np.broadcast_to(swarm.usd_per_s, each_s.shape)


def switch(
    swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, times: tuple[float, float]
) -> tuple[int, int] | None:
    """The idle node, and its new method, whose change makes the plan better by most; None where none pays.

    `times` are for how long a change closes a node, and within what time it must earn that back (s).
    """
    cost_s, horizon_s = times
    now = planned(swarm, rates, learned, flow)
    best, found = 0.0, None
    for method in range(len(rates.methods)):
        would = np.where(swarm.running > 0, swarm.method, method)
        hoped = planned(swarm, rates, learned, flow, would)
        for node in np.flatnonzero((hoped.load > 0) & (would != swarm.method)).tolist():
            one = swarm.method.copy()
            one[node] = method
            then = planned(swarm, rates, learned, flow, one)
            if then.good_per_usd < BETTER * now.good_per_usd or not then.good_per_usd:
                continue
            saves = flow.rate_per_s * (1 / max(now.good_per_usd, 1e-12) - 1 / then.good_per_usd)
            gain = saves * horizon_s - float(swarm.usd_per_s[node]) * cost_s
            if gain > best:
                best, found = gain, (node, method)
    return found
