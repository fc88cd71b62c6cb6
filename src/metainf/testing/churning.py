"""A swarm whose nodes are killed while texts are written: light processes of a tiny model come and go."""

import asyncio
import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from metainf.domain import MetaInfError
from metainf.hosts.asked import Ask
from metainf.swarm.host.caller import Caller
from metainf.swarm.host.generating import Course, Joined, Swarm
from metainf.swarm.host.running import Told, run
from metainf.swarm.net.directory import joined

PRELOADED = ["metainf.testing.churning", "transformers.models.llama.modeling_llama", "nats", "grpc"]


@dataclass(frozen=True)
class Plan:
    """`nodes` at a time, each with room for `blocks`; `texts` at once of `tokens` each, for `seconds`. Of the
    nodes, the share `leaving_per_min` is killed in a minute, and as many come."""

    nodes: int = 8
    blocks: int = 3
    texts: int = 3
    tokens: int = 120
    seconds: float = 40.0
    leaving_per_min: float = 1.5
    seed: int = 7

    @property
    def between_s(self) -> float:
        """Seconds from kill to kill."""
        return 60.0 / (self.nodes * self.leaving_per_min)


@dataclass
class Churned:
    """What came of it. `errors` are those that a user would read; `longest_s` is the longest pause between
    two tokens."""

    kills: int = 0
    joins: int = 0
    texts: int = 0
    same: int = 0
    errors: list[str] = field(default_factory=list)
    recoveries: int = 0
    disturbed: int = 0
    restarts: int = 0
    longest_s: float = 0.0


def live(told: str) -> None:
    """What a node's process runs, until it is killed."""
    run(Told.parse(told), lambda said: None)


class Nodes:
    """Processes of real nodes, which a fork of one that has loaded everything makes light."""

    def __init__(self, told: Told) -> None:
        self.told = told
        self.context: ForkServerContext = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(PRELOADED)
        self.alive: list[ForkServerProcess] = []

    def comes(self) -> None:
        """One more, which takes the blocks that are lacking."""
        process = self.context.Process(target=live, args=(self.told.canonical(),), daemon=True)
        process.start()
        self.alive.append(process)

    def goes(self, rng: random.Random) -> None:
        """One is killed."""
        process = self.alive.pop(rng.randrange(len(self.alive)))
        process.kill()
        process.join(20)

    def end(self) -> None:
        """All are killed."""
        for process in self.alive:
            process.kill()
        for process in self.alive:
            process.join(20)


async def churned(
    folder: Path, url: str, plan: Plan, right: Callable[[Ask], str], cache: Path | None = None
) -> Churned:
    """Play it. `right` gives the text that one process writes. Raises what is no clear error to a user."""
    told = Told(
        checkpoint=str(folder),
        join=url,
        memory_blocks=plan.blocks,
        cache=None if cache is None else str(cache),
    )
    nodes, rng, found = Nodes(told), random.Random(plan.seed), Churned()
    try:
        nodes.comes()  # it measures the speed, which the others then read
        await asyncio.sleep(3.0)
        for _ in range(plan.nodes - 1):
            nodes.comes()
        async with Joined(Caller(await joined(url, stays=False)), folder) as swarm:
            await _ready(swarm, plan.nodes)
            end = time.monotonic() + plan.seconds
            killing = asyncio.create_task(_killing(nodes, plan, rng, found))
            try:
                writers = [_writing(swarm, plan, (number, end), right, found) for number in range(plan.texts)]
                await asyncio.gather(*writers)
            finally:
                killing.cancel()
                await asyncio.gather(killing, return_exceptions=True)
    finally:
        await asyncio.to_thread(nodes.end)
    return found


async def _ready(swarm: Swarm, count: int, within_s: float = 120.0) -> None:
    """Wait for all nodes to be online and to let one in."""
    swarm.caller.expect(swarm.model)
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if sum(each.word.state == "online" for each in await swarm.caller.look()) >= count:
            return
        await asyncio.sleep(0.2)
    raise TimeoutError(f"expected {count} nodes within {within_s:.0f} s")


async def _killing(nodes: Nodes, plan: Plan, rng: random.Random, found: Churned) -> None:
    while True:
        await asyncio.sleep(rng.expovariate(1 / plan.between_s))
        await asyncio.to_thread(nodes.goes, rng)
        found.kills += 1
        nodes.comes()
        found.joins += 1


async def _writing(
    swarm: Swarm, plan: Plan, who: tuple[int, float], right: Callable[[Ask], str], found: Churned
) -> None:
    """One text after another until the time is over."""
    number, end = who
    while time.monotonic() < end:
        ask = swarm.asked(f"text {number} of {plan.texts}", max_tokens=plan.tokens, ignore_eos=True)
        number += plan.texts
        course, pieces, last = Course(), [], None
        found.texts += 1
        try:
            async for piece in swarm.stream(ask, course):
                now = time.monotonic()
                found.longest_s = max(found.longest_s, now - last if last is not None else 0.0)
                last = now
                pieces.append(piece.text)
        except MetaInfError as error:
            found.errors.append(str(error))
            continue
        finally:
            found.recoveries += len(course.recoveries)
            found.restarts += course.restarts
            found.disturbed += bool(course.recoveries or course.restarts)
        found.same += "".join(pieces) == right(ask)


def told(plan: Plan, found: Churned) -> Sequence[str]:
    """In sentences."""
    rate = f"{plan.leaving_per_min * 100:.0f} % of {plan.nodes} nodes"
    lines = [
        f"{rate} killed per minute (one every {plan.between_s:.1f} s in the mean), and as many new ones, for "
        f"{plan.seconds:.0f} s: {found.kills} kills, {found.texts} texts of {plan.tokens} tokens, "
        f"{plan.texts} at a time. {found.same} are what one process writes, {len(found.errors)} ended in an "
        f"error that says why, {found.texts - found.same - len(found.errors)} were wrong. "
        f"{found.disturbed} texts noticed: {found.recoveries} recoveries, {found.restarts} times no way was "
        f"left and one was waited for; longest pause between two tokens {found.longest_s:.1f} s."
    ]
    if found.errors:
        lines.append(f"The last error: {found.errors[-1]}")
    return lines
