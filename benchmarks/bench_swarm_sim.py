"""Simulated swarms under churn, one placement rule a row, the same chance for all; writes docs/swarm_sim.md.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_sim.py [PAGE]
"""

import dataclasses
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from scipy.stats import t as student

from metainf.catalog.models import models
from metainf.swarm.plan.fleet import Fleet, fleet, usable
from metainf.swarm.plan.rules import PLACINGS, Picture, Placing, pipelines
from metainf.swarm.plan.scenes import Scene, Told, fate
from metainf.swarm.plan.seen import Seen, routes, told_routes
from metainf.swarm.plan.simulating import Simulation, beginning
from metainf.swarm.words import Capacity, Span

MODEL = "meta-llama/Llama-3.1-70B-Instruct"
MOST_GIB = 48.0
LARGE = Scene(num_blocks=80, seconds=60.0, requests_per_s=10.0, mean_life_s=1800.0, view=300)
STORM = dataclasses.replace(LARGE, mean_life_s=168.0)
"""A mean life of 168 s is 30 % of the nodes leaving each minute."""
LOADED = dataclasses.replace(LARGE, requests_per_s=12.0, view=200)
LIGHT = dataclasses.replace(LOADED, requests_per_s=2.0)
SCENES = (
    ("10,000 nodes, a mean life of 30 minutes, 10 requests/s", 10_000, LARGE),
    ("10,000 nodes, 30 % of which leave each minute, 10 requests/s", 10_000, STORM),
    ("200 nodes, a mean life of 30 minutes, 2 requests/s", 200, LIGHT),
    ("200 nodes under load: a mean life of 30 minutes, 12 requests/s", 200, LOADED),
)
SEEDS = {10_000: range(100, 103), 200: range(100, 108)}
"""Others than those for which the rule was tuned."""
AFTER_S = 240.0
"""Enough nodes join for so long after the last request."""
PLAN = "parallax (pipelines first)"
RULES: dict[str, Placing] = {
    "ours, by routes": routes,
    "ours, by routes, own pings only": told_routes,
    "ours, by the weakest block": PLACINGS["ours"],
    "petals": PLACINGS["petals"],
    "parallax": PLACINGS["parallax"],
    PLAN: PLACINGS["parallax"],
    "random": PLACINGS["random"],
}
ABOUT = """# A simulated swarm

Written by `python benchmarks/bench_swarm_sim.py`. {model} in 16 bits, {blocks} blocks. Nodes are drawn
evenly from the {devices} GPUs and APUs of the catalogue that hold at least one block and have at most
{gib} GiB, so that none holds the model alone; their speeds are arithmetic from bandwidth and compute,
their places (six cities) are invented. Requests have about 245 tokens in and 90 out (medians), are asked for
a minute and then finished. All rows route with MetaInf's own routing, over a random part of the swarm that
each client knows; only placement differs. With "own pings only" a node that joins knows what real ones do:
its own round trips to 60 others, between these what one end has measured, the rest by way of a third; the
other row "by routes" knows all. Petals' and parallax's rules are written from their descriptions.
Nobody rebalances. A node that has left stays listed for 15 s and costs 1 s to be found out; a broken session
is replayed on a new route. `failed` are those without a route after five tries.

All rules see the same chance: the same nodes come and go at the same moments, the same requests are asked by
the same clients, who know the same nodes. Numbers are means over seeds that were not looked at when the rule
was tuned; the last two columns are the paired differences to petals' rule, with 95 % intervals over seeds; a
dash stands where some run finished no request. Latencies are of requests that were finished.
Caches are not part of it: beside a block of 1.6 GiB the keys and values of a text of such length take
less than 2 MiB.

This shows how the rules compare under these assumptions. It is no measurement of a network.
"""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "swarm_sim.md"
Played = tuple[Told, float]


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


def play(rule: str, count: int, seed: int) -> dict[str, Played]:
    """The scenes of so many nodes with one rule and one chance: what came of each, and how strong the weakest
    block was at the start (of the mean)."""
    scenes = {title: scene for title, many, scene in SCENES if many == count}
    joins = max(int(count * (each.seconds + AFTER_S) / each.mean_life_s) for each in scenes.values())
    nodes = fleet(models()[MODEL], count + joins + 100, np.random.default_rng(seed), MOST_GIB)
    picture = Seen.nobody(nodes, LARGE.num_blocks)
    spans: list[Span | None]
    if rule == PLAN:
        spans = planned(nodes, count, picture)
    else:
        spans = [*beginning(nodes, count, RULES[rule], picture, np.random.default_rng(seed + 1))]
    share = float(picture.strength.min() / picture.strength.mean())
    made = {}
    for title, scene in scenes.items():
        chance = fate(scene, len(nodes), seed)
        made[title] = Simulation(nodes, spans, RULES[rule], scene, chance).run(), share
    return made


def compared(here: Sequence[Played], there: Sequence[Played], of: Callable[[Told], float]) -> str:
    """The mean of the relative differences, in percent, and how far the mean may be off; a dash where a run
    finished nothing."""
    shares = [of(mine) / of(other) - 1 for (mine, _), (other, _) in zip(here, there, strict=True)]
    if not np.isfinite(shares).all():
        return "–"
    off = float(student.ppf(0.975, len(shares) - 1) * np.std(shares, ddof=1) / len(shares) ** 0.5)
    return f"{np.mean(shares) * 100:+.1f} % ± {off * 100:.1f}"


def row_of(rule: str, made: Sequence[Played], petals: Sequence[Played]) -> str:
    def mean(of: Callable[[Told], float]) -> float:
        return float(np.nanmean([of(told) for told, _ in made]))

    return (
        f"| {rule} | {np.mean([share for _, share in made]):.2f} | {mean(lambda told: told.failed):,.1f} "
        f"| {mean(lambda told: told.reroutes):,.0f} | {mean(lambda told: told.tokens_per_s):,.0f} "
        f"| {mean(lambda told: told.latency_p50_s):.1f} | {mean(lambda told: told.latency_p95_s):.1f} "
        f"| {mean(lambda told: told.session_tokens_per_s):.2f} | {mean(lambda told: told.stages):.1f} "
        f"| {compared(made, petals, lambda told: told.latency_mean_s)} "
        f"| {compared(made, petals, lambda told: told.tokens_per_s)} |"
    )


def table_of(title: str, found: Mapping[str, Sequence[Played]]) -> list[str]:
    asked = np.mean([told.asked for told, _ in found["petals"]])
    return [
        f"## {title}",
        "",
        f"{len(found['petals'])} seeds, {asked:,.0f} requests each.",
        "",
        "| placement | weakest block at the start, of the mean | failed | routes broken | tokens/s "
        "| latency p50 s | p95 s | tok/s of a session | stages | mean latency against petals "
        "| tokens/s against petals |",
        f"| --- |{' ---: |' * 10}",
        *(row_of(rule, found[rule], found["petals"]) for rule in RULES),
        "",
    ]


def page() -> str:
    devices = len(usable(models()[MODEL], MOST_GIB))
    tasks = [(rule, count, seed) for count, seeds in SEEDS.items() for seed in seeds for rule in RULES]
    begun = time.perf_counter()
    found: dict[str, dict[str, list[Played]]] = {title: {} for title, _, _ in SCENES}
    with ProcessPoolExecutor(2) as pool:
        for task, made in zip(tasks, pool.map(play, *zip(*tasks, strict=True)), strict=True):
            print(*task, f"{time.perf_counter() - begun:.0f} s", flush=True)
            for title, played in made.items():
                found[title].setdefault(task[0], []).append(played)
    lines = [ABOUT.format(model=MODEL, blocks=LARGE.num_blocks, devices=devices, gib=f"{MOST_GIB:.0f}")]
    for title, _, _ in SCENES:
        lines += table_of(title, found[title])
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE).write_text(page(), encoding="utf-8")
