"""metainf swarm top: who works hardest in a swarm, and what waits at its queue."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metainf.cli.names import one_of
from metainf.cli.options import Json
from metainf.cli.show import cell, console, print_json
from metainf.cli.swarm_options import Join
from metainf.cli.swarm_showing import swarming_of

if TYPE_CHECKING:
    from metainf.swarm.plan.coverage import ModelState, NodeState
    from metainf.swarm.plan.overview import Belief, Overview

HEAD = (
    "node", "model", "blocks", "state", "method", "queue ms", "ms/token", "cache tokens left", "$/h",
    "age s", "reputation", "hardware",
)  # fmt: skip
ORDERS = ("busy", "slow", "full", "dear")
"""Longest queue first; most milliseconds a token; least cache left; most US dollars an hour."""


def ordered(overview: "Overview", by: str) -> list[tuple["ModelState", "NodeState"]]:
    """All nodes of all models, the one to look at first on top. Raises BadInput."""
    from metainf.domain import BadInput

    ranks: dict[str, Callable[[NodeState], float]] = {
        "busy": lambda node: -node.features.queue_ms,
        "slow": lambda node: -node.features.decode_ms_per_block * len(node.span),
        "full": lambda node: node.features.cache_tokens_left,
        "dear": lambda node: -(node.features.usd_per_hour or 0.0),
    }
    if by not in ranks:
        raise BadInput(f"expected one of {', '.join(ORDERS)}, found {by!r}")
    found = [(model, node) for model in overview.state.models for node in model.nodes]
    return sorted(found, key=lambda pair: (ranks[by](pair[1]), pair[1].node))


def lines(overview: "Overview", by: str, most: int) -> Iterator[str]:
    """What is shown, line by line."""
    nodes = ordered(overview, by)
    whole = sum(model.complete for model in overview.state.models)
    yield (
        f"{datetime.fromtimestamp(overview.state.at_s, UTC):%H:%M:%S UTC}  {overview.directory}  "
        f"{len(nodes)} nodes, {whole} of {len(overview.state.models)} models whole"
    )
    yield from _queue(overview)
    believed = {each.node: each for each in overview.believed or ()}
    rows = [HEAD, *(_row(model, node, believed.get(node.node)) for model, node in nodes[:most])]
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEAD))]
    for row in rows:
        yield "  ".join(item.ljust(width) for item, width in zip(row, widths, strict=True)).rstrip()
    if len(nodes) > most:
        yield f"and {len(nodes) - most} more: --most shows them"


def _queue(overview: "Overview") -> Iterator[str]:
    queue = overview.queue
    if queue is None:
        return
    if queue.lost is not None:
        yield f"queue  {queue.lost}"
        return
    told = [
        f"{each.group} class {each.priority}: {each.jobs} of {each.tenants} tenants" for each in queue.waiting
    ]
    yield f"queue  {'; '.join(told) or 'nothing waits'}; {queue.dead} dead letters"


def _row(model: "ModelState", node: "NodeState", belief: "Belief | None") -> tuple[str, ...]:
    said, alike = node.features, f"{model.profile.engine} {model.profile.numbers}"
    shown = (
        node.node[:11], model.model[:8], str(node.span), node.state if node.reached else "no answer",
        alike if said.writing is None else said.writing.method,
        said.queue_ms, said.decode_ms_per_block * len(node.span), said.cache_tokens_left, said.usd_per_hour,
        node.age_s, None if belief is None else belief.reputation, said.hardware,
    )  # fmt: skip
    return tuple(map(cell, shown))


def swarm_top(
    join: Join,
    queue: Annotated[str | None, typer.Option(help="A broker's address: shows what waits there.")] = None,
    reputation: Annotated[Path | None, typer.Option(help="A file of reputations to show.")] = None,
    by: Annotated[
        str, typer.Option(help="Which nodes come first: " + ", ".join(ORDERS), autocompletion=one_of(*ORDERS))
    ] = "busy",
    most: Annotated[int, typer.Option(min=1, help="Nodes to show.")] = 20,
    once: Annotated[
        bool, typer.Option("--once", help="Show it once instead of each second, until ^C.")
    ] = False,
    json: Json = False,
) -> None:
    """Show who works hardest in a swarm and what waits at its queue, each second."""
    import asyncio

    from metainf.domain import BadInput

    swarming_of()
    from metainf.api.watching import Demand, watch

    if by not in ORDERS:
        raise BadInput(f"expected one of {', '.join(ORDERS)}, found {by!r}")

    async def looks() -> None:
        from rich.live import Live
        from rich.text import Text

        watched = watch(join, None if reputation is None else str(reputation), queue)
        try:
            if once or json:
                seen = await watched.overview(Demand())
                if json:
                    print_json(seen)
                else:
                    typer.echo("\n".join(lines(seen, by, most)))
                return
            with Live(console=console(), auto_refresh=False) as live:
                while True:
                    seen = await watched.overview(Demand())
                    live.update(Text("\n".join(lines(seen, by, most))), refresh=True)
                    await asyncio.sleep(1.0)
        finally:
            await watched.close()

    asyncio.run(looks())
