"""The scheduler of one caller: which replica, or the path through blocks, writes a text.

The deciding is `metainf.swarm.schedule`'s. Here is kept what it decides by: what nodes announce, what one has
at each, what became of it. Where it errs, or nothing is forecast, the choice of `plan.replicas` stands.
"""

import copy
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from metainf.domain import BadInput, NoFeasible
from metainf.swarm.host.flights import Buckets, Flight, NodeTold, Plan, Scheduling
from metainf.swarm.host.limits import Limits
from metainf.swarm.plan.replicas import Replica, Wanted, runs_blocks, writes
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.table import table
from metainf.swarm.schedule.candidates import PATH, Forecast, of_path, of_replica
from metainf.swarm.schedule.deciding import TooDear, outlook
from metainf.swarm.schedule.planning import FADES_S, switch
from metainf.swarm.schedule.policies import HORIZON_S, SWITCH_S, Ours
from metainf.swarm.schedule.roster import Candidate, Own, Roster
from metainf.swarm.schedule.words import Ask, Floats
from metainf.swarm.words import Announcement, Demand, Route

LOG = logging.getLogger("metainf.swarm")
SLACK, LOST = 1.5, 0.1
"""A text without limits, or whose limits nobody keeps with more than this chance, is to take at most so many
times what the quickest takes now."""
PATH_S = 1.0
"""For so long the best path is not sought anew."""
LENGTHS, MOST_GONE = 0.1, 256
UNWILLING_S = 3600.0
NOMINAL_USD_PER_S = 1e-4
"""What nodes without a price count as where methods are compared."""
Way = Route | Replica
Foretell = Callable[[Announcement], Forecast]


@dataclass(frozen=True)
class Asking:
    """A text as it is to go on: all tokens before it, the most that may come, its limits."""

    prompt: Sequence[int]
    new_tokens: int
    limits: Limits = field(default_factory=Limits)

    @property
    def demand(self) -> Demand:
        return Demand(prompt_tokens=len(self.prompt), new_tokens=self.new_tokens)


@dataclass(frozen=True)
class Circle:
    """The nodes of a model that may be asked, what is known of them, and what the caller takes."""

    words: Sequence[Announcement]
    client: Client
    wanted: Wanted


def _mark(circle: Circle, path: Candidate | None) -> tuple[object, ...]:
    """What candidates are made of: equal where these would be, as long as somebody keeps the words."""
    client, which = circle.client, tuple(map(id, circle.words))
    return which, dict(client.rtt_ms), dict(client.reputation), frozenset(client.avoid), path


class Scheduler:
    """Use `way` for each text, and the flight that comes with it while the text is written."""

    def __init__(
        self,
        foretell: Foretell = lambda _: {},
        clock: Callable[[], float] = time.monotonic,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.foretell, self.clock = foretell, clock
        self.roster = Roster()
        rng = rng if rng is not None else np.random.default_rng()
        self.policy = Ours(self.roster.rates, self.roster.learned, rng, worth=1.0, switches=False)
        self.counts: Counter[str] = Counter()
        self.chosen: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.decided = Buckets()
        self.unwilling: dict[str, float] = {}
        self._said: dict[str, tuple[tuple[int, int], Own]] = {}
        self._path: tuple[float, object, Candidate | None, Route | None] = (-PATH_S, None, None, None)
        self._mark: tuple[object, ...] | None = None
        self._words: Sequence[Announcement] = ()
        self._made_s = -np.inf
        self._written, self._priced = 1.0, False

    def way(self, circle: Circle, asking: Asking, present: Way) -> tuple[Way, Flight]:
        """Where to ask for a text, instead of the `present` choice. Raises BadInput where that is beyond the
        request's budget."""
        begun = self.clock()
        try:
            found = self._way(circle, asking)
        except TooDear as error:
            self.counts["too_dear"] += 1
            raise BadInput(str(error)) from None
        except NoFeasible:
            found = None
        except Exception:  # a fault of ours must not end a text
            LOG.exception("an error of MetaInf's own while choosing a node")
            self.counts["errors"] += 1
            found = None
        finally:
            self.decided.add((self.clock() - begun) * 1000)
        if found is None:
            self.counts["fallbacks"] += 1
            return present, Flight()
        self.counts["choices"] += 1
        return found

    def _way(self, circle: Circle, asking: Asking) -> tuple[Way, Flight] | None:
        now_s, roster = self.clock(), self.roster
        route = self._seen(circle, asking, now_s)
        ask = self._ask(asking)
        cached = roster.cached(ask)
        self._renew(ask)
        ask = self._within_reach(ask, asking.limits, cached, now_s)
        plain = outlook(roster.swarm, roster.rates, roster.nothing, (ask, cached, now_s))
        made = self.policy.decide(roster.swarm, ask, cached, now_s)
        if made.fallback:
            return None
        name = roster.name(made.node)
        candidate = roster.known[name]
        plan = Plan(
            name=name,
            candidate=candidate,
            tokens=max(0, int(ask.input_tokens - made.cached_tokens)),
            learns_prefill=2 * made.cached_tokens <= ask.input_tokens,
            ttft_s=float(plain.ttft_s[made.node]),
            held_up=float(plain.held_up[made.node]),
            limits=(ask.max_ttft_s, ask.max_tpot_s),
            new_tokens=asking.new_tokens,
        )
        roster.prefixes.sent(made.node, ask.blocks)
        self.chosen[name] += 1
        way: Way | None = route
        if name != PATH:
            total_ms = 1000 * (made.ttft_s + ask.output_tokens * made.tpot_s)
            way = Replica(node=name, expected_ms=total_ms)
        return None if way is None else (way, Flight(self, plan))

    def _renew(self, ask: Ask) -> None:
        """The policy works with the rows as they are now. A dollar counts for so little that keeping the
        limits comes first, between nodes whose prices are not worlds apart."""
        policy, roster = self.policy, self.roster
        if policy.load is not None and len(policy.load) != len(roster.swarm):
            policy.load, policy.replan_s = None, 0.0
        policy.rates, policy.learned = roster.rates, roster.learned
        usual_usd = roster.usual_usd(ask)
        if usual_usd and not self._priced:
            self._priced, policy.worth, policy.usd = True, 1 / usual_usd, policy.good * usual_usd
        if usual_usd:
            policy.worth = min(policy.worth, 1 / usual_usd)

    def _ask(self, asking: Asking) -> Ask:
        limits = asking.limits
        return Ask(
            len(asking.prompt),
            max(1.0, asking.new_tokens * self._written),
            max_ttft_s=limits.ttft_s or np.inf,
            max_tpot_s=limits.tpot_s or np.inf,
            max_e2e_s=limits.deadline_s or np.inf,
            max_usd=limits.most_usd or np.inf,
            blocks=self.roster.blocks(asking.prompt),
        )

    def _within_reach(self, ask: Ask, limits: Limits, cached: Floats, now_s: float) -> Ask:
        """The same where its limits may be kept by anybody; else, and without limits, it is to be written
        about as soon as anybody can now."""
        roster = self.roster
        seen = outlook(roster.swarm, roster.rates, roster.learned, (ask, cached, now_s))
        total = seen.ttft_s + ask.output_tokens * seen.tpot_s
        here = (roster.swarm.reputation >= 0) & np.isfinite(total) & (seen.usd <= ask.max_usd)
        given = limits.ttft_s or limits.tpot_s or limits.deadline_s
        if not here.any() or (given and seen.p_meets[here].max() >= LOST):
            return ask
        soon_s = SLACK * float(total[here].min())
        return replace(ask, max_ttft_s=np.inf, max_tpot_s=np.inf, max_e2e_s=soon_s)

    def _seen(self, circle: Circle, asking: Asking, now_s: float) -> Route | None:
        """Have the roster know the nodes as they are, and give the best path. Candidates are made anew where
        something was said since, or a second has passed."""
        path, route = self._best_path(circle, asking, now_s)
        tokens = asking.demand.cache_tokens
        mark = _mark(circle, path)
        if mark == self._mark and now_s - self._made_s < PATH_S:
            self.roster.at(now_s, tokens)
            return route
        self._mark, self._words, self._made_s = mark, circle.words, now_s
        found = self._replicas(circle, now_s)
        self.roster.take(found if path is None else [*found, path], now_s, tokens)
        return route

    def _replicas(self, circle: Circle, now_s: float) -> list[Candidate]:
        client, found = circle.client, list[Candidate]()
        for word in circle.words:
            if writes(word) and word.node not in client.avoid:
                willing = self.unwilling.get(word.node, -np.inf) < now_s
                found.append(of_replica(word, client, self.foretell(word), self._then(word), willing))
        if len(self._said) > 2 * len(circle.words) + MOST_GONE:
            self._forget({word.node for word in circle.words})
        return found

    def _forget(self, here: set[str]) -> None:
        """Those that left long ago."""
        kept = here | self.roster.row.keys()
        for mapping in (self._said, self.unwilling, self.chosen, self.failed):
            for name in [name for name in mapping if name not in kept]:
                del mapping[name]

    def _then(self, word: Announcement) -> Own:
        """What one had at a node when it said this."""
        mark, kept = (word.generation, word.seq), self._said.get(word.node)
        if kept is None or kept[0] != mark:
            own = self.roster.own.get(word.node, Own())
            kept = self._said[word.node] = (mark, Own(own.texts, own.waiting_tokens))
        return kept[1]

    def _best_path(
        self, circle: Circle, asking: Asking, now_s: float
    ) -> tuple[Candidate | None, Route | None]:
        numbers, client = circle.wanted.numbers, circle.client
        mark = (numbers, frozenset(client.avoid), asking.limits.trust, len(circle.words))
        at_s, kept, candidate, route = self._path
        if mark == kept and now_s - at_s < PATH_S:
            return candidate, route
        blocks = [word for word in circle.words if runs_blocks(word, numbers)]
        try:
            route = best_route(table(blocks), asking.demand, client)
            candidate = of_path(blocks, route, client)
        except NoFeasible:
            candidate, route = None, None
        self._path = (now_s, mark, candidate, route)
        return candidate, route

    def ended(self, plan: Plan, flight: Flight, failed: bool) -> None:
        """Learn from a text that is over."""
        node = self.roster.own.get(plan.name)
        self.failed[plan.name] += failed
        beside = (flight.beside + (node.texts if node is not None else 0) + 1) / 2
        self.roster.saw(plan.name, plan.candidate.method, flight.ratios(beside), failed)
        self.policy.good += flight.good and not failed
        if flight.complete:
            self._written += LENGTHS * (min(1.0, flight.tokens / plan.new_tokens) - self._written)

    def wish(self) -> tuple[str, str] | None:
        """An idle replica that should change its method, and to which one; None where no change pays."""
        now_s, following = self.clock(), self.policy.following
        flow = following.flow()
        if flow is None or following.begun_s is None or now_s - following.last_s > FADES_S:
            return None
        roster, swarm = self.roster, copy.copy(self.roster.swarm)
        swarm.running = roster.running()
        free = (swarm.reputation >= 0) & (swarm.usd_per_s == 0)
        swarm.usd_per_s = np.where(free, NOMINAL_USD_PER_S, swarm.usd_per_s)
        horizon_s = min(HORIZON_S, now_s - following.begun_s)
        found = switch(swarm, roster.rates, roster.learned, flow, (SWITCH_S, horizon_s))
        return None if found is None else (roster.name(found[0]), roster.names[found[0]][found[1]])

    def refused(self, node: str) -> None:
        """A node does not change its method for us: it is not asked again for an hour."""
        self.unwilling[node] = self.clock() + UNWILLING_S
        self._mark = None

    def told(self) -> Scheduling:
        """What it did, and what it learnt of each node that is there."""
        roster, kinds = self.roster, ("prefill", "steps")
        shifts = [np.exp(roster.learned.shift(roster.swarm, what)[0]) for what, _ in enumerate(kinds)]
        nodes = [
            NodeTold(
                node=name,
                method=roster.known[name].method,
                here=bool(roster.swarm.reputation[row] >= 0),
                texts=roster.own[name].texts,
                chosen=self.chosen[name],
                failed=self.failed[name],
                prefill_times=float(shifts[0][row]),
                step_times=float(shifts[1][row]),
                failing=float(roster.learned.failing[row]),
            )
            for name, row in sorted(roster.row.items())
        ]
        return Scheduling(nodes=tuple(nodes), counts=dict(self.counts), decided=self.decided.told())
