"""What nodes announce, and what is forecast of them, as candidates of the scheduler. Pure."""

from collections.abc import Mapping, Sequence

from metainf.swarm.plan.routing import Client, Costs, price
from metainf.swarm.plan.table import UNKNOWN_RTT_MS, table
from metainf.swarm.schedule.roster import Candidate, Own, Speed
from metainf.swarm.words import Announcement, Demand, Offered, Route, Writing

PATH = "through blocks"
"""The name of the best path as a candidate. No node can have it."""
UNNAMED, ADDS = "unnamed", 0.25
"""What is said of a method that is not announced, and the part of a lone step that each text adds to it where
that is not forecast."""
PATH_PLACES = 8
MEASURED_SPREAD = 0.1
HOUR_S = 3600.0
Forecast = Mapping[str, Speed]
"""By the names of methods."""


def of_replica(
    word: Announcement, client: Client, forecast: Forecast, then: Own, changes: bool = True
) -> Candidate:
    """A replica. `then` is what the caller had there when the word was said; without `changes` it runs its
    present method only."""
    said, blocks = word.features, word.num_blocks
    alone = Offered(
        method=UNNAMED,
        decode_ms_per_block=said.decode_ms_per_block,
        prefill_ms_per_token_block=said.prefill_ms_per_token_block,
    )
    writing = said.writing or Writing(method=UNNAMED, methods=(alone,), places=1)
    present = next(each for each in writing.methods if each.method == writing.method)
    offered = [each for each in writing.methods if changes or each is present]
    times = _times(present, forecast, blocks)
    speeds = {
        each.method: speed
        for each in offered
        if (speed := _speed(each, forecast.get(each.method), times, blocks)) is not None
    }
    queue_ms = said.queue_ms if said.writing is None else 0.0
    rtt_ms = client.rtt_ms.get(word.node, UNKNOWN_RTT_MS)
    return Candidate(
        name=word.node,
        method=writing.method,
        speeds=speeds,
        places=writing.places,
        usd_per_s=(said.usd_per_hour or 0.0) / HOUR_S,
        away_s=(rtt_ms + queue_ms + Costs().overhead_ms) / 1000,
        reputation=client.reputation.get(word.node, 1.0),
        texts=max(0, writing.texts - then.texts),
        waiting_tokens=max(0, writing.waiting_tokens - then.waiting_tokens),
        room_tokens=said.cache_tokens_left,
    )


def of_path(words: Sequence[Announcement], route: Route, client: Client) -> Candidate:
    """The best path through blocks, by what routing charges for it."""
    laid, costs = table(words), Costs()
    first = price(laid, route.stages, Demand(), client, costs)
    token = price(laid, route.stages, Demand(prompt_tokens=1), client, costs) - first
    by_name = {word.node: word for word in words}
    nodes = [by_name[stage.node] for stage in route.stages]
    step = max(first, 1e-3) / 1000
    return Candidate(
        name=PATH,
        method=UNNAMED,
        speeds={UNNAMED: Speed(token / 1000, step * (1 - ADDS), step * ADDS)},
        places=PATH_PLACES,
        usd_per_s=sum((word.features.usd_per_hour or 0.0) for word in nodes) / HOUR_S,
        reputation=min(client.reputation.get(word.node, 1.0) for word in nodes),
    )


def _speed(each: Offered, foretold: Speed | None, times: float, blocks: int) -> Speed | None:
    """Of a method: as it was measured, else as it is forecast and the present one is `times` as slow."""
    if each.decode_ms_per_block is None:
        if foretold is None:
            return None
        step, every, prefill = foretold.step_s, foretold.each_s, foretold.prefill_s
        return Speed(prefill * times, step * times, every * times, foretold.spread, each.prefix_tokens)
    alone = each.decode_ms_per_block * blocks / 1000
    share = ADDS if foretold is None else foretold.each_s / (foretold.step_s + foretold.each_s)
    prefill = (each.prefill_ms_per_token_block or 0.0) * blocks / 1000
    return Speed(max(prefill, 1e-9), alone * (1 - share), alone * share, MEASURED_SPREAD, each.prefix_tokens)


def _times(present: Offered, forecast: Forecast, blocks: int) -> float:
    """As how many times the forecast the present method was measured."""
    foretold = forecast.get(present.method)
    if foretold is None or present.decode_ms_per_block is None:
        return 1.0
    return present.decode_ms_per_block * blocks / 1000 / (foretold.step_s + foretold.each_s)
