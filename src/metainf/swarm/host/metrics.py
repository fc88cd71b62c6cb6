"""What a node tells Prometheus: read from the node when somebody asks, at a port of its own.

Times are seconds, sizes bytes or tokens, and names say so. The port has neither a key nor TLS, so it listens
on this machine unless it is told otherwise.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from metainf.domain import BadInput, MissingExtra

if TYPE_CHECKING:
    from metainf.swarm.host.member import Member

PREFIX = "metainf_node"
STATES = ("joining", "online", "draining")


@dataclass
class Tally:
    """What a node has done since it started, through all its moves."""

    steps: int = 0
    tokens: int = 0
    wait_s: float = 0.0
    pass_s: float = 0.0
    moves: int = 0
    losses: int = 0
    failures: int = 0
    announced_s: float = 0.0
    sessions: Counter[str] = field(default_factory=Counter)
    """`opened` ones, and `refused` ones by reason under `refused REASON`."""

    def step(self, tokens: int, wait_s: float, pass_s: float) -> None:
        """A step is over."""
        self.steps += 1
        self.tokens += tokens
        self.wait_s += max(0.0, wait_s)
        self.pass_s += pass_s


def levels(member: "Member") -> Iterator[tuple[str, str, float]]:
    """Gauges of this moment: name, what it means, value."""
    from metainf.swarm.net.replica import ReplicaNode

    span, node = member.span, member.nodes[-1] if member.nodes else None
    yield "span_start_block", "First block that it holds.", span.start if span else 0
    yield "span_end_block", "The block behind its last one.", span.end if span else 0
    yield "room_blocks", "Blocks that fit into its memory.", member.most
    yield "sessions", "Sessions that run.", sum(each.streams for each in member.nodes)
    yield "decode_seconds_per_block", "Of one token, lately.", member.load.decode_ms / 1000
    yield "cache_tokens_left", "Room for keys and values.", node.cache_tokens_left if node else 0
    if isinstance(node, ReplicaNode):
        yield "engine_up", "1 while the engine answers.", float(node.door is not None)
        yield "texts", "Texts that are written.", node.places.taken
        yield "texts_in_line", "Texts that wait for a place.", node.places.in_line
        yield "places", "Texts that are written at once.", node.places.places
    else:
        yield "queue_steps", "Steps that wait or run.", member.load.waiting
        yield "queue_seconds", "How long steps lately waited.", node.batcher.queue_s if node else 0.0
        yield "cache_bytes", "Keys and values held.", node.blocks.room.held if node else 0
        limit = node.blocks.room.limit if node else 0
        yield "cache_limit_bytes", "Keys and values that may be held.", limit
    yield "directory_lost", "1 while the directory does not answer.", float(member.lost)
    yield "peers", "Other nodes in the directory, as last read.", len(member.words())
    yield "peers_unreachable", "Nodes that refused connections.", len(member.pings.gone)


def sums(tally: Tally) -> Iterator[tuple[str, str, float]]:
    """Counters since the start: name without _total, what it means, value."""
    yield "steps", "Steps that were asked for and ended.", tally.steps
    yield "tokens", "Tokens of these steps.", tally.tokens
    yield "step_wait_seconds", "Time that steps waited.", tally.wait_s
    yield "step_pass_seconds", "Time of the passes they were part of.", tally.pass_s
    yield "sessions_opened", "Sessions that were let in.", tally.sessions["opened"]
    yield "failures", "Steps that failed by an error of the node.", tally.failures
    yield "moves", "Times it took other blocks.", tally.moves
    yield "directory_losses", "Times the directory stopped answering.", tally.losses


class OfNode:
    """The member as a collector of prometheus_client."""

    def __init__(self, member: "Member") -> None:
        self.member = member

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        member, tally = self.member, self.member.load.tally
        who = member.who
        yield InfoMetricFamily(
            PREFIX,
            "Who it is.",
            {
                "node": who.node, "model": who.subject.model, "numbers": who.subject.profile.numbers,
                "hardware": who.hardware, "region": member.told.region or "",
            },
        )  # fmt: skip
        for name, meaning, value in levels(member):
            yield GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value)
        state = GaugeMetricFamily(f"{PREFIX}_state", "1 for the state it is in.", labels=["state"])
        for each in STATES:
            state.add_metric([each], float(member.state == each))
        yield state
        yield GaugeMetricFamily(
            f"{PREFIX}_announced_timestamp_seconds",
            "When the directory last took its word.",
            tally.announced_s,
        )
        for name, meaning, value in sums(tally):
            yield CounterMetricFamily(f"{PREFIX}_{name}", meaning, value)
        refused = CounterMetricFamily(f"{PREFIX}_refusals", "Refusals by reason.", labels=["reason"])
        for key, count in sorted(tally.sessions.copy().items()):
            if key.startswith("refused "):
                refused.add_metric([key.removeprefix("refused ").lower()], count)
        yield refused


def listening(collector: Any, host: str, port: int) -> Callable[[], None]:
    """Answer Prometheus at `host:port`, with what has `collect()`, until the function that is given back is
    called.

    Raises MissingExtra without prometheus_client, BadInput for a port that is taken."""
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise MissingExtra("metrics of a swarm", "swarm") from None
    registry = CollectorRegistry()
    registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInput(
            f"expected port {port} of {host} to be free for metrics: {error.strerror or error}"
        ) from None

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop
