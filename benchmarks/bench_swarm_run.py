"""Three stages on this machine against one process: tokens/s, and how soon a lost stage is replaced.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_run.py [--rounds 5] [--model FOLDER]
        [--write docs/swarm.md]

Each of the three nodes is a process with one thread and holds ten blocks of SmolLM2-135M in float32. One
process, three stages that hand activations on, and three stages through the client take turns, so that all
meet the same machine. Then the middle stage is killed while it writes, killed while it reads a long prompt,
stands still (SIGSTOP), and is slowed to a tenth (stopped nine tenths of the time), each time while a fourth
node is there to take over.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch
from swarm_stages import Stages, alone, placed, stages, thirds

from metainf.swarm.compute.blocks import Blocks
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.compute.weights import packaged
from metainf.swarm.host.embedded import Running
from metainf.swarm.net.part import Recovery
from metainf.swarm.words import Span

TOKENS, PROMPT, LOST_AT = 64, list(range(40, 72)), 32
LONG = [*range(40, 1064)]
BEAT_S, TENTH = 0.05, 0.1
BEGIN, END = "<!-- made by benchmarks/bench_swarm_run.py -->", "<!-- end of its figures -->"


@dataclass
class Way:
    """What one way of going through the stages gave, a value a round."""

    share: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    beside_ms: list[float] = field(default_factory=list)
    nodes_ms: list[float] = field(default_factory=list)


async def through(swarm: Stages, direct: bool, tokens: int) -> tuple[list[int], float, float]:
    """Tokens, tokens/s after the first, and milliseconds of a token in which a node calculated."""
    made: list[int] = []
    begun = worked = 0.0
    async with swarm.session(direct=direct) as session:
        async for token in session.generate(PROMPT, tokens):
            if not made:
                begun, worked = time.perf_counter(), sum(part.stream.node_s for part in session.parts)
            made.append(token)
        took = time.perf_counter() - begun
        worked = sum(part.stream.node_s for part in session.parts) - worked
        assert not session.recoveries, f"a node was lost on the way: {session.recoveries}"
    return made, (tokens - 1) / took, worked * 1000 / (tokens - 1)


def of_ends(ends: Ends) -> float:
    """Milliseconds of embedding and head for a token, which both ways need."""
    times = []
    for token in range(9):
        begun = time.perf_counter()
        ends.greedy(ends.embed([token]))
        times.append((time.perf_counter() - begun) * 1000)
    return statistics.median(times)


Compared = tuple[dict[bool, Way], list[float], list[int]]


async def compared(swarm: Stages, rounds: int, tokens: int = TOKENS) -> Compared:
    """Rounds in which all take turns; tokens/s of one process, and its text."""
    whole = Blocks(swarm.checkpoint, Span(start=0, end=swarm.checkpoint.num_blocks))
    ways = {True: Way(), False: Way()}
    single: list[float] = []
    text: list[int] = []
    for number in range(rounds):
        text, rate = alone(whole, swarm.ends, PROMPT, tokens)
        single.append(rate)
        ends_ms = of_ends(swarm.ends)
        for direct in (True, False) if number % 2 else (False, True):
            same, fast, worked_ms = await through(swarm, direct, tokens)
            assert same == text, "the texts differ"
            way = ways[direct]
            way.share.append(fast / rate)
            way.rate.append(fast)
            way.nodes_ms.append(worked_ms)
            way.beside_ms.append(
                (1000 / fast - worked_ms - ends_ms) / len(thirds(swarm.checkpoint.num_blocks))
            )
        shown = ", ".join(f"{'direct' if each else 'client'} {ways[each].rate[-1]:.1f}" for each in ways)
        print(f"one process {rate:.1f} tokens/s, {shown}", flush=True)
    return ways, single, text


async def lost(swarm: Stages, text: list[int], how: signal.Signals) -> str:
    """A row: what a lost middle stage costs."""
    made: list[int] = []
    longest, last, victim = 0.0, 0.0, None
    async with swarm.session() as session:
        async for token in session.generate(PROMPT, TOKENS):
            now = time.perf_counter()
            longest, last = max(longest, now - last if len(made) >= LOST_AT else 0.0), now
            made.append(token)
            if len(made) == LOST_AT:
                victim = swarm.running(session.route[1].node)
                limit_s = session.parts[1].stream.pace.deadline_s(1, 10.0, 0.2, session.terms.floor_s)
                os.kill(victim.process.pid, how)
        (recovery,) = session.recoveries
    assert victim is not None
    await gone(victim)
    told = "killed" if how == signal.SIGKILL else f"stood still, deadline {limit_s:.2f} s"
    return row(told, recovery, longest, made == text)


async def lost_in_a_prompt(swarm: Stages, text: list[int]) -> str:
    """A row: the middle stage is killed when it has read the first part of a long prompt."""
    async with swarm.session() as session:

        async def killing() -> Running:
            while not (len(session.parts) > 1 and session.parts[1].made):
                await asyncio.sleep(0.001)
            victim = swarm.running(session.route[1].node)
            victim.process.kill()
            return victim

        task = asyncio.create_task(killing())
        made = [token async for token in session.generate(LONG, len(text))]
        (recovery,) = session.recoveries
    await gone(await task)
    return row(f"killed in a prompt of {len(LONG)}", recovery, None, made == text)


async def slowed(swarm: Stages, text: list[int]) -> str:
    """A sentence: the middle stage gets a tenth of its time from some token on, and is left."""
    made: list[int] = []
    left_after, begun, took_s = 0, 0.0, 0.0
    async with swarm.session() as session:
        slow: asyncio.Task[None] | None = None
        victim = None
        async for token in session.generate(PROMPT, TOKENS):
            made.append(token)
            if len(made) == LOST_AT:
                victim, begun = swarm.running(session.route[1].node), time.perf_counter()
                slow = asyncio.create_task(slowing(victim))
            elif victim and not left_after and session.route[1].node != victim.node:
                left_after, took_s = len(made) - LOST_AT, time.perf_counter() - begun
    assert slow is not None and victim is not None
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    await gone(victim)
    left = f"was left after {left_after} tokens, {took_s:.2f} s" if left_after else "was not left"
    return f"A middle stage slowed to a tenth {left}; the text was {'' if made == text else 'not '}the same."


async def slowing(node: Running) -> None:
    """A tenth of the time, in short turns."""
    try:
        while True:
            node.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(BEAT_S * (1 - TENTH))
            node.process.send_signal(signal.SIGCONT)
            await asyncio.sleep(BEAT_S * TENTH)
    finally:
        node.process.send_signal(signal.SIGCONT)


async def gone(node: Running) -> None:
    """The process has ended."""
    with contextlib.suppress(ProcessLookupError):
        node.process.kill()
    await node.process.wait()


def row(told: str, recovery: Recovery, longest_s: float | None, same: bool) -> str:
    """A row of the table of losses."""
    pause = "" if longest_s is None else f"{longest_s:.2f}"
    return (
        f"| {told} | {recovery.replayed_tokens} | {recovery.seconds:.2f} | {pause} | "
        f"{'yes' if same else 'no'} |"
    )


def ways_table(name: str, found: Compared, tokens: int = TOKENS) -> list[str]:
    """What three stages are beside one process, as Markdown."""
    ways, single, _ = found
    middle = statistics.median
    lines = [
        f"{len(single)} rounds of {tokens} tokens after a prompt of {len(PROMPT)}, {name} in float32, "
        f"three stages, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end, "
        f"priority {-os.nice(0)}; medians, and the range of the share. All texts were equal.",
        "",
        "| way | tokens/s | of one process | ms/token in nodes | ms a hop beside nodes and head |",
        "|---|---|---|---|---|",
        f"| one process | {middle(single):.1f} | 100 % | {1000 / middle(single):.1f} | |",
    ]
    for direct, way_name in ((True, "from node to node"), (False, "through the client")):
        way = ways[direct]
        shares = [100 * share for share in way.share]
        lines.append(
            f"| {way_name} | {middle(way.rate):.1f} | {middle(shares):.0f} % ({min(shares):.0f} %–"
            f"{max(shares):.0f} %) | {middle(way.nodes_ms):.1f} | {middle(way.beside_ms):.2f} |"
        )
    return lines


def section(name: str, found: Compared, rows: list[str]) -> str:
    """The figures as Markdown."""
    head = [
        "",
        "| the middle stage | tokens replayed | s to recover | longest pause, s | same text |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*ways_table(name, found), *head, *rows])


async def main(rounds: int, folder: Path, page: Path | None) -> None:
    torch.set_num_threads(1)
    spans = thirds(Checkpoint(folder).num_blocks)
    async with stages(folder, spans) as swarm:
        found = await compared(swarm, rounds)
        rows = []
        for how in (signal.SIGKILL, signal.SIGSTOP):
            await swarm.start(spans[1])
            rows.append(await lost(swarm, found[2], how))
        whole = Blocks(swarm.checkpoint, Span(start=0, end=swarm.checkpoint.num_blocks))
        long, _ = alone(whole, swarm.ends, LONG, 8)
        await swarm.start(spans[1])
        rows.append(await lost_in_a_prompt(swarm, long))
        await swarm.start(spans[1])
        rows += ["", await slowed(swarm, found[2])]
    text = section(folder.name, found, rows)
    print(text)
    if page:
        placed(page, BEGIN, END, text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", type=Path, help="a checkpoint's folder; SmolLM2-135M without")
    parser.add_argument("--write", type=Path)
    told = parser.parse_args()
    asyncio.run(main(told.rounds, told.model or packaged(), told.write))
