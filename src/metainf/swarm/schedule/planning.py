"""Which nodes should carry the present traffic, and how full: a plan by flow, made every few seconds. Pure.

A node costs the same while it works, full or not. A choice that looks at one request alone either opens a
node for each or crowds the one that is open; how many to keep busy depends on who will come. The plan takes
the most gainful node at its most gainful load, then the next, until the traffic is carried.
"""

from dataclasses import dataclass, field, replace

import numpy as np

from metainf.swarm.schedule.chances import below, spread_of
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.words import Ask, Floats, Ints, Rates, Swarm

LOADS = np.array([1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256])
"""Sequences at once for which a node is judged."""
FINE = np.concatenate([[0.1, 0.2, 0.35, 0.5, 0.7], LOADS])
"""The same with less than one on the mean: a node on which a method is judged is at rest at times."""
HEADROOM = 2.0
"""Room for so many times the mean of the traffic, for it comes in bursts."""
FADES_S, BURST_S = 30.0, 4.0
LEAST_FREE = 0.02
BETTER, DOUBT, PAYS = 1.1, 0.5, 2.0
"""A change of method must promise so many times as much for a dollar, even if the new method is slower than
expected by so many times what is not known of it, and save so many times what it costs."""
TRIED = 32
"""Changes of one method that are looked at closely."""


@dataclass(frozen=True)
class Flow:
    """Traffic: requests a second; tokens that must be read and written; limits (s), all as means.
    `burst_per_s` are the requests a second that a request sees come beside it, where these are more."""

    rate_per_s: float
    input_tokens: float
    output_tokens: float
    max_ttft_s: float
    max_tpot_s: float
    burst_per_s: float = 0.0


@dataclass
class Following:
    """The traffic of late, of which what is older than FADES_S counts little."""

    sums: Floats = field(default_factory=lambda: np.zeros(6))
    begun_s: float | None = None
    last_s: float = 0.0
    near_per_s: float = 0.0

    def came(self, ask: Ask, cached_tokens: float, now_s: float) -> None:
        """A request, of whose prompt so many tokens are held by the node that holds most."""
        if self.begun_s is None:
            self.begun_s = self.last_s = now_s
        self.sums *= np.exp((self.last_s - now_s) / FADES_S)
        self.near_per_s *= float(np.exp((self.last_s - now_s) / BURST_S))
        self.last_s = max(self.last_s, now_s)
        limits = min(ask.max_ttft_s, 1e6), min(ask.max_tpot_s, 1e6)
        self.sums += (1.0, ask.input_tokens - cached_tokens, ask.output_tokens, *limits, self.near_per_s)
        self.near_per_s += 1 / BURST_S

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
    swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, method: Ints, loads: Floats = LOADS
) -> tuple[Floats, Floats, Floats]:
    """For each load and node: requests a second, those within limits, dollars a second. Methods that a node
    does not run are doubted."""
    at = (swarm.kind, method)
    prefill, steps = (
        learned.shift(swarm, what, method)[0] + DOUBT * learned.doubt(swarm, what, method) for what in (0, 1)
    )
    prefill_s = rates.prefill_s_per_token[at] * np.exp(prefill) * flow.input_tokens
    sequences = loads[:, None]
    step = rates.step_s[at] + sequences * rates.step_per_sequence_s[at]
    step = step * np.exp(steps)
    each_s = prefill_s + flow.output_tokens * step / sequences  # of the machine's time
    free = np.maximum(1 - prefill_s / each_s, LEAST_FREE)
    ttft = prefill_s + prefill_s * (1 - free) / free + step
    spread = spread_of(rates, at)
    meets = below(step / free, flow.max_tpot_s, spread) * below(ttft, flow.max_ttft_s, spread)
    meets = meets * (sequences <= np.maximum(rates.most_sequences[at], 1)) * (1 - learned.failing)
    return 1 / each_s, meets / each_s, np.broadcast_to(swarm.usd_per_s, each_s.shape)


def beginning(swarm: Swarm, rates: Rates, learned: Learned, flow: Flow) -> Ints:
    """For each node the method with which a dollar buys most, as far as is known, before any of them has
    begun; 0 where nothing is forecast."""
    count = len(swarm)
    gains = []
    for method in range(len(rates.methods)):
        running = replace(swarm, method=np.full(count, method))
        gains.append(_alone(running, rates, learned, flow, running.method)[0])
    found: Ints = np.array(gains).argmax(axis=0)
    return found


def switch(
    swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, times: tuple[float, float]
) -> tuple[int, int] | None:
    """The idle node, and its new method, whose change saves most; None where none pays.

    Each node is judged by itself: what a dollar of it buys where the traffic loads it best, with its method
    and with others, and whose share of the traffic it would carry for less. `times` are for how long a change
    closes a node, and within what time it must earn that back (s).
    """
    cost_s, horizon_s = times
    gain, rate = _alone(swarm, rates, learned, flow, swarm.method)
    share = _shared(gain, rate, flow.rate_per_s)
    if not share.any():
        return None
    usual = np.where(share > 0, gain, gain[share > 0].min())
    best, found = 0.0, None
    for method in range(len(rates.methods)):
        hoped, most = _alone(swarm, rates, learned, flow, np.full(len(swarm), method))
        may = (swarm.method != method) & (swarm.running == 0) & (hoped >= BETTER * usual)
        for node in np.argsort(np.where(may, -hoped, np.inf))[: min(TRIED, int(may.sum()))].tolist():
            saves = _saved(node, float(hoped[node]), float(most[node]), gain, share)
            worth = saves * horizon_s - PAYS * float(swarm.usd_per_s[node]) * cost_s
            if worth > best:
                best, found = worth, (node, method)
    return found


def _alone(swarm: Swarm, rates: Rates, learned: Learned, flow: Flow, method: Ints) -> tuple[Floats, Floats]:
    """For each node what a dollar buys at its best load that bursts of the traffic give it (-1: nothing is
    forecast), and the requests a second that it then takes."""
    rate, good, usd = _curves(swarm, rates, learned, flow, method, FINE)
    works = usd * (1 - np.exp(-FINE[:, None]))  # texts come by chance, so that at times there is none
    most, node = max(flow.burst_per_s, flow.rate_per_s), np.arange(len(swarm))
    above = np.clip((rate <= most).sum(axis=0), 1, len(FINE) - 1)
    low, high = rate[above - 1, node], rate[above, node]
    part = np.clip((most - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)

    def full(curve: Floats) -> Floats:
        """With the last row where the node carries all of the traffic, or all that it can."""
        last = (1 - part) * curve[above - 1, node] + part * curve[above, node]
        return np.vstack([np.where(rate <= most, curve, np.nan), last])

    carried, works, good = full(rate), full(works), full(good)
    may = np.isfinite(carried) & (works > 0)
    gain = np.where(may, good / np.where(may, works, 1.0), -1.0)
    row = gain.argmax(axis=0)
    return gain[row, node], np.where(gain[row, node] > 0, np.nan_to_num(carried[row, node]), 0.0)


def _shared(gain: Floats, rate: Floats, rate_per_s: float) -> Floats:
    """Requests a second for each node: the one that gives most for a dollar first."""
    order = np.argsort(-gain)
    before = np.cumsum(rate[order]) - rate[order]
    share = np.zeros(len(gain))
    share[order] = np.clip(rate_per_s - before, 0.0, rate[order])
    return share


def _saved(node: int, hoped: float, most: float, gain: Floats, share: Floats) -> float:
    """Dollars a second that are saved where a node buys `hoped` for each, up to `most` requests a second: it
    goes on with its own share, and takes over from those who give less, the dearest first."""
    own, own_gain = min(float(share[node]), most), float(gain[node])
    saved = own * (1 / own_gain - 1 / hoped) if own else 0.0
    others = np.flatnonzero((share > 0) & (gain < hoped) & (np.arange(len(gain)) != node))
    others = others[np.argsort(gain[others])]
    before = np.cumsum(share[others]) - share[others]
    taken = np.clip(most - own - before, 0.0, share[others])
    return saved + float((taken * (1 / gain[others] - 1 / hoped)).sum())
