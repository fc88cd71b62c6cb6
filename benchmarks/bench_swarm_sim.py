"""Simulated swarms under churn, one placement rule a row; writes docs/swarm_sim.md.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_sim.py [PAGE]
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from metainf.catalog.models import models
from metainf.swarm.plan.fleet import Fleet, fleet, usable
from metainf.swarm.plan.placement import Floats
from metainf.swarm.plan.rules import PLACINGS, Picture, pipelines
from metainf.swarm.plan.simulating import Scene, Simulation, Told, beginning
from metainf.swarm.words import Capacity, Span

MODEL = "meta-llama/Llama-3.1-70B-Instruct"
SEED, MOST_GIB = 11, 48.0
LARGE = Scene(num_blocks=80, seconds=180.0, requests_per_s=10.0, mean_life_s=1800.0, view=300)
STORM = dataclasses.replace(LARGE, mean_life_s=168.0, seconds=120.0)
"""A mean life of 168 s is 30 % of the nodes leaving each minute."""
LOADED = dataclasses.replace(LARGE, requests_per_s=12.0, view=200)
SCENES = (
    ("10,000 nodes, a mean life of 30 minutes, 10 requests/s", 10_000, LARGE),
    ("10,000 nodes, 30 % of which leave each minute, 10 requests/s", 10_000, STORM),
    ("200 nodes under load: a mean life of 30 minutes, 12 requests/s", 200, LOADED),
)
PLAN = "parallax (pipelines first)"
ABOUT = """# A simulated swarm

Written by `python benchmarks/bench_swarm_sim.py`. {model} in 16 bits, {blocks} blocks. Nodes are drawn
evenly from the {devices} GPUs and APUs of the catalogue that hold at least one block and have at most
{gib} GiB, so that none holds the model alone; their speeds are arithmetic from bandwidth and compute,
their places (six cities) are invented. Requests have about 245 tokens in and 90 out (medians). All rows
route with MetaInf's own routing, over a random part of the swarm that each client knows; only placement
differs. Petals' and parallax's rules are written from their descriptions. Nobody rebalances. A node
that has left stays listed for 15 s and costs 1 s to be found out; a broken session is replayed on a new
route. `tokens/s` counts requests that finished before the end, `failed` those without a route after
five tries.

This shows how the rules compare under these assumptions. It is no measurement of a network.
"""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "swarm_sim.md"


def planned(nodes: Fleet, count: int, picture: Picture) -> list[Span | None]:
    """Parallax's plan for those who are there from the start; nodes left over hold nothing."""
    crew = [
        Capacity(
            node=f"node-{row}",
            blocks_per_s=float(nodes.blocks_per_s[row]),
            memory_blocks=int(nodes.memory_blocks[row]),
        )
        for row in range(count)
    ]
    held = {each.capacity.node: each for each in pipelines(crew, len(picture.strength))}
    for each in held.values():
        picture.add(each.capacity, each.span)
    return [held[node.node].span if node.node in held else None for node in crew]


def play(rule: str, count: int, scene: Scene) -> tuple[Told, Floats, float]:
    """One run: what came of it, how strong the blocks were at the start, the seconds that it took here."""
    begun = time.process_time()
    joins = int(count * scene.seconds / scene.mean_life_s * 1.3) + 100
    nodes = fleet(models()[MODEL], count + joins, np.random.default_rng(SEED), MOST_GIB)
    rng = np.random.default_rng(SEED + 1)
    picture = Picture.of([], scene.num_blocks)
    spans: list[Span | None]
    if rule == PLAN:
        placing, spans = PLACINGS["parallax"], planned(nodes, count, picture)
    else:
        placing = PLACINGS[rule]
        spans = [*beginning(nodes, count, placing, picture, rng)]
    told = Simulation(nodes, spans, placing, scene).run(rng)
    return told, picture.strength, time.process_time() - begun


def table_of(title: str, count: int, scene: Scene) -> list[str]:
    lines = [
        f"## {title}",
        "",
        "| placement | weakest block at the start, of the mean | asked | failed | routes broken | tokens/s "
        "| latency p50 s | p95 s | tok/s of a session | stages |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for rule in (*PLACINGS, PLAN):
        told, strength, took = play(rule, count, scene)
        share = float(strength.min() / strength.mean())
        lines.append(
            f"| {rule} | {share:.2f} | {told.asked:,} | {told.failed:,} | {told.reroutes:,} "
            f"| {told.tokens_per_s:,.0f} | {told.latency_p50_s:.1f} | {told.latency_p95_s:.1f} "
            f"| {told.session_tokens_per_s:.2f} | {told.stages:.1f} |"
        )
        print(lines[-1], f"({took:.0f} s of processor)", flush=True)
    return [*lines, ""]


def page() -> str:
    devices = len(usable(models()[MODEL], MOST_GIB))
    lines = [ABOUT.format(model=MODEL, blocks=LARGE.num_blocks, devices=devices, gib=f"{MOST_GIB:.0f}")]
    for title, count, scene in SCENES:
        print(title, flush=True)
        lines += table_of(title, count, scene)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
