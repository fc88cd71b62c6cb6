"""How the state of a swarm looks on a terminal."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from metainf.cli.show import cell, console

if TYPE_CHECKING:
    from metainf.swarm.plan.coverage import ModelState, NodeState, SwarmState

HEAD = ("node", "blocks", "state", "ms/block", "ms/token", "queue ms", "rtt ms", "hardware", "region", "$/h")
"""Milliseconds of a block for one token; of the node's whole span for one token."""
STANDINGS = ("reputation", "standing")


def only(state: "SwarmState", model: str | None) -> "SwarmState":
    """The same with only the models whose digest begins so."""
    kept = tuple(each for each in state.models if model is None or each.model.startswith(model))
    return state.model_copy(update={"models": kept})


def lines(state: "SwarmState") -> Iterator[str]:
    """The state, line by line."""
    if not state.models:
        yield "no node serves any model here"
    for each in state.models:
        yield from _model(each, state)
    if state.refused:
        yield f"{state.refused} records were not to be believed"


def _model(each: "ModelState", state: "SwarmState") -> Iterator[str]:
    from metainf.swarm.plan.coverage import bar

    alike = " ".join((each.profile.dtype, each.profile.quantization, each.profile.engine))
    word = "complete" if each.complete else "NOT complete"
    kind = "replicas" if each.replicas else "nodes"
    yield f"{each.model}  {each.num_blocks} blocks, {len(each.nodes)} {kind}, {alike}: {word}"
    yield f"  copies  {bar(each.copies)}"
    if each.holes:
        yield f"  missing {', '.join(str(span) for span in each.holes)}"
    if each.route is not None:
        way = " > ".join(f"{stage.node[:11]} {stage.span}" for stage in each.route.stages)
        yield f"  route   {way}"
        per_s = state.demand.new_tokens / each.route.expected_ms * 1000
        yield (
            f"  expected {each.route.expected_ms:,.0f} ms for {state.demand.prompt_tokens} tokens in and "
            f"{state.demand.new_tokens} out, {per_s:.1f} tokens/s"
        )
    elif each.why_no_route and not each.holes:
        yield f"  no route: {each.why_no_route}"
    for node in each.nodes:
        if (said := node.features.writing) is not None:
            told = f"{node.node[:11]} by {said.method}: {said.texts} texts in {said.places} places"
            others = ", ".join(other.method for other in said.methods if other.method != said.method)
            yield f"  method  {told}{f'; may run {others}' if others else ''}"
    judged = any(node.standing is not None for node in each.nodes)
    head = (*HEAD, *STANDINGS) if judged else HEAD
    rows = [head, *(tuple(cell(item) for item in _row(node)[: len(head)]) for node in each.nodes)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    for row in rows:
        yield "  " + "  ".join(item.ljust(width) for item, width in zip(row, widths, strict=True)).rstrip()


def _row(node: "NodeState") -> tuple[object, ...]:
    said = node.features
    return (
        node.node[:11], str(node.span), node.state if node.reached else "no answer", said.decode_ms_per_block,
        said.decode_ms_per_block * len(node.span), said.queue_ms, node.rtt_ms, said.hardware, said.region,
        said.usd_per_hour, node.reputation, node.standing,
    )  # fmt: skip


async def draw(states: "AsyncIterator[SwarmState]", model: str | None) -> None:
    """Show each state in the place of the one before."""
    from rich.live import Live
    from rich.text import Text

    with Live(console=console(), auto_refresh=False) as live:
        async for state in states:
            when = datetime.fromtimestamp(state.at_s, UTC).strftime("%H:%M:%S UTC")
            live.update(Text("\n".join([when, *lines(only(state, model))])), refresh=True)
