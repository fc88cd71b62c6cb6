"""How long a route through 1,000 nodes and a placement of 1,000 nodes take, and how good placements are.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm.py [--write docs/swarm.md]

Times are processor time of this process; the clock beside them shows how busy the machine was.
"""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from measuring import machine, written

from metainf.swarm.plan.placement import arrange, throughput
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.rules import PLACINGS, Picture, pipelines
from metainf.swarm.plan.table import Table, _table, table
from metainf.swarm.words import Announcement, Capacity, Demand, Features, Ping, Profile, Span

NODES, BLOCKS, REPEATS = 1000, 80, 9
SWARMS = ((8, 12), (16, 24), (32, 32), (100, 80), (NODES, BLOCKS))


def crowd(count: int, blocks: int, rng: np.random.Generator, widest: int) -> list[Announcement]:
    """Unlike nodes with up to `widest` blocks, each of which has measured 20 others."""
    names = [f"node-{index}" for index in range(count)]
    said = []
    for name in names:
        length = int(rng.integers(min(4, widest), widest + 1))
        start = int(rng.integers(0, blocks - length + 1))
        near = rng.choice(count, min(20, count), replace=False)
        said.append(
            Announcement(
                node=name,
                generation=0,
                seq=0,
                address="localhost:1",
                certificate="sha256:" + "0" * 64,
                model="b2:" + "0" * 32,
                num_blocks=blocks,
                span=Span(start=start, end=start + length),
                profile=Profile(dtype="float32"),
                features=Features(
                    decode_ms_per_block=float(rng.uniform(0.1, 5)), queue_ms=float(rng.uniform(0, 50))
                ),
                pings=tuple(Ping(node=names[j], rtt_ms=float(rng.uniform(1, 100))) for j in near),
                issued_s=0.0,
                valid_until_s=15.0,
            )
        )
    return said


def timed(work: Callable[[], object]) -> str:
    """Median milliseconds of processor and of the clock, as cells of a table."""
    spent = []
    for _ in range(REPEATS):
        begun, wall = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - begun, time.perf_counter() - wall))
    cpu, clock = np.median(np.array(spent), axis=0) * 1000
    return f"{cpu:.1f} | {clock:.1f}"


def anew(said: list[Announcement]) -> Table:
    """The table, as where something was said since."""
    _table.cache_clear()
    return table(said)


def times(rng: np.random.Generator) -> list[str]:
    """Rows: what takes how long."""
    demand, rows = Demand(prompt_tokens=100, new_tokens=100), []
    for widest in (24, BLOCKS):
        said = crowd(NODES, BLOCKS, rng, widest)
        laid = table(said)
        laying = timed(partial(anew, said))
        finding = timed(partial(best_route, laid, demand, Client()))
        rows.append(
            f"| the table, once for each state of the directory; up to {widest} blocks held | {laying} |"
        )
        rows.append(f"| a route through it | {finding} |")
    nodes = capacities(NODES, BLOCKS, rng)
    rows.append(f"| the placement of all nodes | {timed(lambda: arrange(nodes, BLOCKS))} |")
    return rows


def capacities(count: int, blocks: int, rng: np.random.Generator) -> list[Capacity]:
    return [
        Capacity(
            node=f"node-{index}",
            blocks_per_s=float(np.exp(rng.normal(3, 1))),
            memory_blocks=int(rng.integers(2, max(3, blocks // 2))),
        )
        for index in range(count)
    ]


def placements(rng: np.random.Generator) -> list[str]:
    """A table: shares of the bound (all speeds over all blocks) that each rule reaches."""
    rows: dict[str, list[float]] = {}
    for count, blocks in SWARMS:
        nodes = capacities(count, blocks, rng)
        bound = sum(node.blocks_per_s for node in nodes) / blocks
        rows.setdefault("ours, arranged at once", []).append(
            throughput(arrange(nodes, blocks), blocks) / bound
        )
        rows.setdefault("parallax's pipelines", []).append(
            throughput(pipelines(nodes, blocks), blocks) / bound
        )
        for name, rule in PLACINGS.items():
            picture = Picture.of([], blocks)
            for node in nodes:
                picture.add(node, rule(node, picture, rng))
            rows.setdefault(f"{name}, one by one", []).append(float(picture.strength.min()) / bound)
    head = [f"{count:,} nodes, {blocks} blocks" for count, blocks in SWARMS]
    lines = [f"| weakest block, of the bound | {' | '.join(head)} |", f"| --- |{' ---: |' * len(head)}"]
    return lines + [
        f"| {name} | {' | '.join(f'{each:.3f}' for each in shares)} |" for name, shares in rows.items()
    ]


def section() -> str:
    """The figures as Markdown."""
    rng, about = np.random.default_rng(1), machine()
    lines = [
        f"{NODES:,} nodes and {BLOCKS} blocks ({about['processor']}, load {about['load']} at the start):",
        "",
        "| | ms of processor | ms of clock |",
        "| --- | ---: | ---: |",
        *times(rng),
        "",
        *placements(rng),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    made = section()
    print(made)
    if sys.argv[1:2] == ["--write"]:
        written(Path(sys.argv[2]), "benchmarks/bench_swarm.py", made)
