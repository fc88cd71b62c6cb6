"""How long a route through 1,000 nodes and a placement of 1,000 nodes take, and how good placements are.

    OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm.py

Times are processor time of this process (wall-clock time beside it shows how busy the machine was).
"""

import time
from collections.abc import Callable

import numpy as np

from metainf.swarm.plan.placement import arrange, throughput
from metainf.swarm.plan.routing import Client, best_route
from metainf.swarm.plan.rules import PLACINGS, Picture, pipelines
from metainf.swarm.plan.table import table
from metainf.swarm.words import Announcement, Capacity, Demand, Features, Ping, Profile, Span

NODES, BLOCKS, REPEATS = 1000, 80, 9


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
    """Median milliseconds of processor and of the clock on the wall."""
    spent = []
    for _ in range(REPEATS):
        begun, wall = time.process_time(), time.perf_counter()
        work()
        spent.append((time.process_time() - begun, time.perf_counter() - wall))
    cpu, clock = np.median(np.array(spent), axis=0) * 1000
    return f"{cpu:.1f} ms of processor, {clock:.1f} ms of clock"


def routes(rng: np.random.Generator) -> None:
    demand = Demand(prompt_tokens=100, new_tokens=100)
    for widest in (24, BLOCKS):
        said = crowd(NODES, BLOCKS, rng, widest)
        laid = table(said)
        who = f"{NODES} nodes x {BLOCKS} blocks, up to {widest} held"
        print(f"{who}: table {timed(lambda said=said: table(said))}")  # type: ignore[misc]
        print(f"{who}: route {timed(lambda laid=laid: best_route(laid, demand, Client()))}")  # type: ignore[misc]


def capacities(count: int, blocks: int, rng: np.random.Generator) -> list[Capacity]:
    return [
        Capacity(
            node=f"node-{index}",
            blocks_per_s=float(np.exp(rng.normal(3, 1))),
            memory_blocks=int(rng.integers(2, max(3, blocks // 2))),
        )
        for index in range(count)
    ]


def placements(rng: np.random.Generator) -> None:
    nodes = capacities(NODES, BLOCKS, rng)
    print(f"{NODES} nodes x {BLOCKS} blocks: placement {timed(lambda: arrange(nodes, BLOCKS))}")
    for count, blocks in ((8, 12), (16, 24), (32, 32), (100, 80), (NODES, BLOCKS)):
        nodes = capacities(count, blocks, rng)
        bound = sum(node.blocks_per_s for node in nodes) / blocks
        shares = {"arranged at once": throughput(arrange(nodes, blocks), blocks) / bound}
        shares["parallax's pipelines"] = throughput(pipelines(nodes, blocks), blocks) / bound
        for name, rule in PLACINGS.items():
            picture = Picture.of([], blocks)
            for node in nodes:
                picture.add(node, rule(node, picture, rng))
            shares[f"{name}, one by one"] = float(picture.strength.min()) / bound
        told = ", ".join(f"{name} {share:.3f}" for name, share in shares.items())
        print(f"{count} nodes x {blocks} blocks, of the bound (all speeds / blocks): {told}")


if __name__ == "__main__":
    generator = np.random.default_rng(1)
    routes(generator)
    placements(generator)
