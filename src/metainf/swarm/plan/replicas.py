"""Whole models beside paths of blocks: which of the two should write a text. Pure.

A node that runs blocks gives activations; a replica, a whole model behind an engine, gives text. A text is
therefore asked of one replica, or of nodes that calculate alike, never of both at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import NonNegativeFloat

from metainf.domain import NoFeasible
from metainf.domain.base import Frozen
from metainf.swarm.plan.routing import Client, Costs, MissingBlocks, best_route
from metainf.swarm.plan.table import table
from metainf.swarm.words import Announcement, Demand, NodeId, Route, Span

ENDPOINT = "endpoint=openai"
"""The label by which a node says that it writes whole texts, in the words of OpenAI's completions."""
BLOCKS_ENGINE = "torch"
"""The engine of nodes that give activations."""


class Replica(Frozen):
    """A node that is to write a whole text, and the milliseconds that this should take."""

    node: NodeId
    expected_ms: NonNegativeFloat


@dataclass(frozen=True)
class Wanted:
    """What a caller takes: nodes whose activations have these `numbers`, and `replicas` or none. Where
    `path_first`, a replica is taken only where no path is left."""

    numbers: str = "float32"
    replicas: bool = True
    path_first: bool = False


def writes(word: Announcement) -> bool:
    """Whether the node is a replica: another engine, with its endpoint, before all blocks."""
    whole = word.span == Span(start=0, end=word.num_blocks)
    return word.profile.engine != BLOCKS_ENGINE and ENDPOINT in word.features.labels and whole


def runs_blocks(word: Announcement, numbers: str | None = None) -> bool:
    """Whether the node gives activations; with `numbers`, such ones."""
    mine = word.profile.engine == BLOCKS_ENGINE and ENDPOINT not in word.features.labels
    return mine and numbers in (None, word.profile.numbers)


def replica_ms(word: Announcement, demand: Demand, client: Client, costs: Costs | None = None) -> float:
    """Milliseconds that a replica should take for the demand, by the charges of `routing.price`: its speed
    times all blocks and passes, and once (text flows back while it is written) the round trip, its queue and
    the overhead. Doubt and too little room are charged as there."""
    costs, said = costs or Costs(), word.features
    doubt = 1.0 + costs.doubt * max(0.0, 1.0 - client.reputation.get(word.node, 1.0))
    decode = said.decode_ms_per_block * demand.passes
    prefill = said.prefill_ms_per_token_block * demand.prompt_tokens
    crowded = costs.crowded_ms if said.cache_tokens_left < demand.cache_tokens else 0.0
    own = word.num_blocks * (decode + prefill) + said.queue_ms + costs.overhead_ms
    return own * doubt + crowded + client.rtt_ms.get(word.node, costs.unknown_rtt_ms)


def best_replica(
    words: Sequence[Announcement], demand: Demand, client: Client, costs: Costs | None = None
) -> Replica | None:
    """The quickest replica; of equals the lower name. None where there is none."""
    avoided = set(client.avoid)
    priced = [
        (replica_ms(word, demand, client, costs), word.node)
        for word in words
        if writes(word) and word.node not in avoided
    ]
    if not priced:
        return None
    expected_ms, node = min(priced)
    return Replica(node=node, expected_ms=expected_ms)


def best_way(
    words: Sequence[Announcement], demand: Demand, client: Client, wanted: Wanted, costs: Costs | None = None
) -> Route | Replica:
    """The cheaper of the best path and the best replica, of one model's current `words`; of equals the path.

    Raises as `best_route` does where there is neither.
    """
    replica = best_replica(words, demand, client, costs) if wanted.replicas else None
    blocks = [word for word in words if runs_blocks(word, wanted.numbers)]
    try:
        route = best_route(table(blocks), demand, client, costs)
    except NoFeasible as error:
        if replica is not None:
            return replica
        if isinstance(error, MissingBlocks) and not blocks and words:
            whole = Span(start=0, end=words[0].num_blocks)
            raise MissingBlocks((whole,), words[0].num_blocks) from None
        raise
    if replica is None or wanted.path_first or route.expected_ms <= replica.expected_ms:
        return route
    return replica
