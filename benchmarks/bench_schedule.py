"""The meta-scheduler on real traces and nodes of the catalogue, in simulation.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule.py TRACES [--write docs/scheduler.md]

TRACES is a folder with azure2023/AzureLLMInferenceTrace_{conv,code}.csv and
mooncake/conversation_trace.jsonl.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np
from measuring import machine, written

from metainf import api
from metainf.api.catalogue import hardware_of, methods
from metainf.api.scheduling import rates
from metainf.domain import Speculative, WeightQuantization
from metainf.importers.traces import trace_rows
from metainf.swarm.schedule.clairvoyant import Clairvoyant
from metainf.swarm.schedule.deciding import choose
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.policies import HOW, Fixed, Ours
from metainf.swarm.schedule.simulating import Coming, Scene, Simulation, Told
from metainf.swarm.schedule.words import Ask, Floats, Rates, Swarm

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
MACHINES = ("L4", "A10G", "L40S", "RTX-4090", "A100-40GB", "A100-80GB", "H100", "H200", "RTX-3090", "MI300X",
            "A6000", "B200", "RTX-5090", "GH200")  # fmt: skip
SEEDS = (1, 2, 3)
TTFT_S, TOKENS_PER_S, TPOT_S = 1.0, 4000.0, 0.05
KEPT = 0.9
ALIKE, NODE, PRICE = 0.7, 0.15, 0.2
"""Scales of what is drawn: the share that a kind's error has in common, a node's own, its price."""
CASES = (
    ("Azure 2023 conversation", "azure2023/AzureLLMInferenceTrace_conv.csv", 3000, 16, 0.3),
    ("the same, six times as fast", "azure2023/AzureLLMInferenceTrace_conv.csv", 3000, 16, 0.05),
    ("Azure 2023 code", "azure2023/AzureLLMInferenceTrace_code.csv", 3000, 16, 0.2),
    ("Mooncake conversation", "mooncake/conversation_trace.jsonl", 2000, 32, 0.5),
)


def forecasts() -> tuple[Rates, Floats]:
    """Rates of the machines with each method, and their prices (USD an hour)."""
    found = [hardware_of([name])[0] for name in MACHINES]
    priced = [(machine_, usd) for machine_, usd in found if usd is not None]
    offered = [method for method, _ in methods("vllm", MODEL, "L4", True)]
    named = {"bf16": offered[0]}
    for method in offered:
        weights, drafts = method.get(WeightQuantization), method.get(Speculative)
        if weights is not None:
            named.setdefault(weights.format, method)
        if drafts is not None:
            named.setdefault(drafts.algorithm, method)
    settings = [(name, [method] * len(priced)) for name, method in named.items()]
    told = rates(api.model(MODEL, True), [each for each, _ in priced], settings, 1500.0)
    known = [row for row, name in enumerate(told.methods) if np.isfinite(told.step_s[:, row]).all()]
    cut = {
        field.name: getattr(told, field.name)[:, known]
        for field in dataclasses.fields(told)
        if field.name != "methods"
    }
    return Rates(tuple(told.methods[row] for row in known), **cut), np.array([usd for _, usd in priced])


def coming(path: Path, count: int, faster: float) -> list[Coming]:
    """The first requests of a trace; limits follow the length of the prompt."""
    rows = trace_rows(path)[:count]
    mean = float(np.mean([row.output_tokens or 1.0 for row in rows]))
    start_s = rows[0].at_s or 0.0
    made = []
    for row in rows:
        tokens = max(1, int(row.input_tokens or 1))
        limit_s = TTFT_S + tokens / TOKENS_PER_S
        blocks = tuple(int(block) for block in row.blocks or ())
        asked = Ask(tokens, mean, max_ttft_s=limit_s, max_tpot_s=TPOT_S, blocks=blocks)
        made.append(
            Coming(((row.at_s or 0.0) - start_s) * faster, asked, max(1, int(row.output_tokens or 1)))
        )
    return made


def scene(told: Rates, usd_per_hour: Floats, count: int, seed: int) -> Scene:
    """Nodes drawn evenly; the forecast's errors at the size that it says of itself."""
    rng = np.random.default_rng(seed)
    kind = rng.integers(0, len(usd_per_hour), count)
    common = rng.normal(0, 1, (len(usd_per_hour), 1))
    off = [
        (told.spread * (ALIKE * common + (1 - ALIKE**2) ** 0.5 * rng.normal(0, 1, told.step_s.shape)))[kind]
        + rng.normal(0, NODE, count)[:, None]
        for _ in range(2)
    ]
    return Scene(told, kind, usd_per_hour[kind] * np.exp(rng.normal(0, PRICE, count)), off[0], off[1])


def fixed(made: Scene, trace: list[Coming]) -> dict[str, list[Told]]:
    """Every fixed method with every fixed way to choose; static ones with the best few nodes by forecast."""
    count, found = len(made.kind), {how: [] for how in HOW}  # type: ignore[var-annotated]
    for method in range(len(made.rates.methods)):
        at = (made.kind, method)
        capacity = 1 / (made.rates.step_s[at] / 16 + made.rates.step_per_sequence_s[at])
        order = np.argsort(-capacity / made.usd_per_hour)
        for kept in (count // 4, count // 3, count // 2, 3 * count // 4, count):
            weights = np.zeros(count)
            weights[order[:kept]] = capacity[order[:kept]]
            policy = Fixed("static", weights / weights.sum(), np.random.default_rng(1))
            found["static"].append(Simulation(made, policy, method).run(trace))
        for how in HOW[1:]:
            found[how].append(
                Simulation(made, Fixed(how, capacity, np.random.default_rng(1)), method).run(trace)
            )
    return found


def best(runs: list[Told], least_good: float) -> Told | None:
    """The most for a dollar among those that keep so many within their limits."""
    kept = [told for told in runs if told.good >= least_good * told.asked]
    return max(kept, key=lambda told: told.good_per_usd) if kept else None


def case(told: Rates, usd: Floats, trace: list[Coming], count: int) -> list[dict[str, float]]:
    """One trace over all seeds."""
    found = []
    for seed in SEEDS:
        made = scene(told, usd, count, seed)
        others = fixed(made, trace)
        start = told.methods.index("fp8")
        worth = max(each.good_per_usd for runs in others.values() for each in runs)
        learned = Learned(count, *told.step_s.shape)
        policy = Ours(told, learned, np.random.default_rng(seed), worth)
        ours = Simulation(made, policy, start).run(trace)
        knowing = Clairvoyant(trace, worth)
        truth = knowing.watch(Simulation(made, knowing, start)).run(trace)
        row = {
            "good": ours.good / ours.asked,
            "usd": ours.usd,
            "per_usd": ours.good_per_usd,
            "truth": ours.good_per_usd / truth.good_per_usd,
            "truth_good": truth.good / truth.asked,
        }
        for how, runs in others.items():
            for name, least in ((how, 0.0), (f"{how}, kept", KEPT)):
                rival = best(runs, least)
                row[name] = ours.good_per_usd / rival.good_per_usd if rival is not None else np.nan
        found.append(row)
        print({name: round(value, 3) for name, value in row.items()}, flush=True)
    return found


def decision_ms(told: Rates, usd: Floats, count: int = 1000) -> float:
    """The median of one decision among so many nodes, milliseconds of processor time."""
    rng = np.random.default_rng(1)
    made = scene(told, usd, count, 1)
    swarm: Swarm = made.swarm(0)
    swarm.running[:] = rng.integers(0, 20, count)
    learned = Learned(count, *told.step_s.shape)
    asked, cached = Ask(1000, 200.0, max_ttft_s=2.0, max_tpot_s=0.05), np.zeros(count)
    times = []
    for _ in range(300):
        begun = time.process_time()
        choose(swarm, told, learned, (asked, cached, 0.0), 1000.0, rng.standard_normal((2, count)))
        times.append(time.process_time() - begun)
    return float(np.median(times)) * 1000


def page(folder: Path) -> str:
    """The lines of docs/scheduler.md."""
    told, usd = forecasts()
    about = machine()
    lines = [
        f"`python benchmarks/bench_schedule.py TRACES --write docs/scheduler.md` with {MODEL} on vLLM, "
        f"methods {', '.join(told.methods)}; {len(SEEDS)} swarms each, geometric means. A decision among "
        f"1,000 nodes takes {decision_ms(told, usd):.2f} ms of one core ({about['processor']}).",
        "",
        "| trace | within limits | of static | … that keeps 90 % | of least loaded "
        "| of round robin with affinity | of the clairvoyant |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, path, count, nodes, faster in CASES:
        print(name, flush=True)
        rows = case(told, usd, coming(folder / path, count, faster), nodes)
        columns = ("static", "static, kept", "least loaded", "round robin with affinity", "truth")
        ratios = [float(np.exp(np.nanmean(np.log([row[column] for row in rows])))) for column in columns]
        good = np.mean([row["good"] for row in rows])
        lines.append(f"| {name} | {good:.1%} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    made_ = page(Path(sys.argv[1]))
    print(made_)
    if sys.argv[2:3] == ["--write"]:
        written(Path(sys.argv[3]), "benchmarks/bench_schedule.py", made_)
