"""What a swarm serves: its nodes, how many hold each block, what is missing, the expected route."""

import itertools
from collections.abc import Collection, Sequence
from typing import Literal

from pydantic import NonNegativeFloat, NonNegativeInt

from metainf.domain import NoFeasible
from metainf.domain.base import Frozen
from metainf.swarm.plan.replicas import best_replica, writes
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.table import SKEW_S, current, missing, table
from metainf.swarm.words import Announcement, Demand, Features, Ping, Profile, Route, Span, Stage, State

BAR_WIDTH = 60
NONE, MANY = "·", "+"


class NodeState(Frozen):
    """A node as it last announced itself. `age_s` since then, `rtt_ms` as measured by who asks; one that is
    not `reached` counts for nothing. `target` is where it is about to move, `pings` what it measured.
    `reputation` and `standing` are those of who asks, who may have none: a node in quarantine is not used,
    one on trial only where the others do not hold all blocks."""

    node: str
    address: str
    span: Span
    state: State
    target: Span | None = None
    features: Features
    pings: tuple[Ping, ...] = ()
    age_s: NonNegativeFloat
    rtt_ms: NonNegativeFloat | None = None
    reached: bool = True
    reputation: NonNegativeFloat | None = None
    standing: Literal["tried", "on trial", "quarantine"] | None = None


class ModelState(Frozen):
    """The nodes that serve the same weights and calculate alike: only they can work together.

    `copies[b]` counts the nodes that hold block b, are online and are reached. `why_no_route` tells why there
    is no `route`.
    """

    model: str
    num_blocks: int
    profile: Profile
    nodes: tuple[NodeState, ...]
    copies: tuple[NonNegativeInt, ...]
    holes: tuple[Span, ...]
    route: Route | None = None
    why_no_route: str | None = None

    replicas: bool = False
    """Each of the nodes is a whole model behind an engine, and writes texts alone."""

    @property
    def complete(self) -> bool:
        """Whether a text can be written."""
        return not self.holes and self.route is not None


class SwarmState(Frozen):
    """A directory at one moment. `refused` records were not to be believed."""

    at_s: float
    demand: Demand
    models: tuple[ModelState, ...]
    guests: NonNegativeInt = 0
    refused: NonNegativeInt = 0

    def complete(self, model: str | None = None) -> bool:
        """Whether each model that is served, or the one whose digest begins so, is complete in one way of
        calculating at least. False where nothing is served."""
        found: dict[str, bool] = {}
        for each in self.models:
            if model is None or each.model.startswith(model):
                found[each.model] = found.get(each.model, False) or each.complete
        return bool(found) and all(found.values())


def swarm_state(
    words: Sequence[Announcement],
    demand: Demand,
    now_s: float,
    client: Client | None = None,
    gone: Collection[str] = (),
) -> SwarmState:
    """The state of all models, those with the most nodes first, for a client that does not reach those who
    are `gone`. Routes are those that its sessions would take."""
    alive = [word for word in _latest(words) if word.valid_until_s + SKEW_S > now_s]
    groups: dict[tuple[str, str], list[Announcement]] = {}
    for word in alive:
        groups.setdefault((word.model, word.profile.canonical()), []).append(word)
    models = [_model(group, demand, (client or Client(), gone), now_s) for group in groups.values()]
    models.sort(key=lambda each: (-len(each.nodes), each.model))
    return SwarmState(at_s=now_s, demand=demand, models=tuple(models))


def _latest(words: Sequence[Announcement]) -> list[Announcement]:
    last: dict[str, Announcement] = {}
    for word in words:
        known = last.get(word.node)
        if known is None or (word.generation, word.seq) > (known.generation, known.seq):
            last[word.node] = word
    return list(last.values())


def _model(
    group: list[Announcement], demand: Demand, here: tuple[Client, Collection[str]], now_s: float
) -> ModelState:
    first, (client, gone) = group[0], here
    online = [word for word in current(group, first.model, now_s) if word.node not in gone]
    copies = [sum(word.span.start <= at < word.span.end for word in online) for at in range(first.num_blocks)]
    route, why = None, None
    try:
        route = _route(online, demand, client) if online else None
    except NoFeasible as error:
        why = str(error)
    return ModelState(
        model=first.model,
        num_blocks=first.num_blocks,
        profile=first.profile,
        nodes=tuple(sorted((_node(word, here, now_s) for word in group), key=_place)),
        copies=tuple(copies),
        replicas=all(writes(word) for word in group),
        holes=missing([(word.span.start, word.span.end) for word in online], first.num_blocks),
        route=route,
        why_no_route=why if online else "no node is online and reached",
    )


def _route(online: list[Announcement], demand: Demand, client: Client) -> Route:
    """One replica of those that write whole texts, or a path."""
    replica = best_replica(online, demand, client) if all(writes(word) for word in online) else None
    if replica is None:
        return best_route(table(online), demand, client)
    stage = Stage(node=replica.node, span=Span(start=0, end=online[0].num_blocks))
    return Route(stages=(stage,), expected_ms=replica.expected_ms)


def _node(word: Announcement, here: tuple[Client, Collection[str]], now_s: float) -> NodeState:
    client, gone = here
    return NodeState(
        node=word.node,
        address=word.address,
        span=word.span,
        state=word.state,
        target=word.target,
        pings=word.pings,
        features=word.features,
        age_s=max(0.0, now_s - word.issued_s),
        rtt_ms=client.rtt_ms.get(word.node),
        reached=word.node not in gone,
        reputation=client.reputation.get(word.node),
        standing=_standing(word.node, client),
    )


def _standing(node: str, client: Client) -> Literal["tried", "on trial", "quarantine"] | None:
    if node not in client.reputation:
        return None
    return "quarantine" if node in client.avoid else "on trial" if node in client.doubted else "tried"


def _place(node: NodeState) -> tuple[int, int, str]:
    return node.span.start, node.span.end, node.node


def bar(copies: Sequence[int], width: int = BAR_WIDTH) -> str:
    """Copies of each block as a line of digits: a dot for none, a plus for ten and more. Where there are more
    blocks than columns, each column shows the scarcest of its blocks."""
    columns = min(width, len(copies))
    edges = [at * len(copies) // columns for at in range(columns + 1)]
    least = [min(copies[here:there]) for here, there in itertools.pairwise(edges)]
    return "".join(NONE if count == 0 else str(count) if count < 10 else MANY for count in least)
