"""The meta-scheduler on real traces and nodes of the catalogue, in simulation.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule.py TRACES [--share 1] [--write docs/scheduler.md]

TRACES is a folder with azure2023/AzureLLMInferenceTrace_{conv,code}.csv and
mooncake/conversation_trace.jsonl.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import numpy as np
from measuring import machine, written
from schedule_traces import coming, usual

from metainf import api
from metainf.api.catalogue import hardware_of, methods
from metainf.api.pictures import drawing
from metainf.api.scheduling import rates
from metainf.domain import Speculative, WeightQuantization
from metainf.swarm.schedule.clairvoyant import Truth, knowing
from metainf.swarm.schedule.deciding import choose
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.planning import Flow, beginning, planned
from metainf.swarm.schedule.policies import HOW, Fixed, Ours
from metainf.swarm.schedule.simulating import Coming, Policy, Scene, Simulation, Told
from metainf.swarm.schedule.words import Ask, Floats, Ints, Rates, Swarm

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
MACHINES = ("L4", "A10G", "L40S", "RTX-4090", "A100-40GB", "A100-80GB", "H100", "H200", "RTX-3090", "MI300X",
            "A6000", "B200", "RTX-5090", "GH200")  # fmt: skip
SEEDS = (1, 2, 3)  # 101 to 103, with the first half of each trace, are for trying things out
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


Points = dict[str, list[tuple[float, float]]]


def begun(made: Scene, flow: Flow) -> tuple[Ints, float]:
    """By forecast, for such traffic: the method of each node, and what a dollar buys."""
    learned = Learned(len(made.kind), *made.rates.step_s.shape)
    start = beginning(made.swarm(0), made.rates, learned, flow)
    return start, planned(made.swarm(start), made.rates, learned, flow).good_per_usd


def ours_of(made: Scene, seed: int, worth: float, switches: bool = False) -> Ours:
    """MetaInf's policy, which knows nothing yet."""
    learned = Learned(len(made.kind), *made.rates.step_s.shape)
    return Ours(made.rates, learned, np.random.default_rng(seed), worth, switches=switches)


def case(
    told: Rates, usd: Floats, trace: list[Coming], count: int, flow: Flow
) -> tuple[list[dict[str, float]], list[Points]]:
    """One trace over all seeds: ratios, and for each way its dollars and shares within limits."""
    found, points = [], list[Points]()
    for seed in SEEDS:
        made = scene(told, usd, count, seed)
        others = fixed(made, trace)
        start, worth = begun(made, flow)
        still = np.random.default_rng(0)
        policies: list[Policy] = [
            ours_of(made, seed, worth),
            Ours(told, Truth(made), still, worth, explores=False, switches=False),
            knowing(made, trace, worth),
        ]
        ours, speeds, truth = (Simulation(made, policy, start).run(trace) for policy in policies)
        row = {
            "good": ours.good / ours.asked,
            "speeds": ours.good_per_usd / speeds.good_per_usd,
            "truth": ours.good_per_usd / truth.good_per_usd,
            "truth_good": truth.good / truth.asked,
        }
        runs_of = others | {"MetaInf": [ours], "who knows the truth": [truth]}
        points.append(
            {how: [(each.usd, each.good / each.asked) for each in runs] for how, runs in runs_of.items()}
        )
        for how, runs in others.items():
            for name, least in ((how, 0.0), (f"{how}, kept", KEPT)):
                rival = best(runs, least)
                row[name] = ours.good_per_usd / rival.good_per_usd if rival is not None else np.nan
        row["both, kept"] = np.nanmin([row[f"{how}, kept"] for how in HOW[1:]])
        found.append(row)
        print({name: round(value, 3) for name, value in row.items()}, flush=True)
    return found, points


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


def picture(cases: list[tuple[str, Points]], path: Path) -> None:
    """Share within limits against dollars, the first swarm of each trace."""
    pyplot = drawing()
    figure, axes = pyplot.subplots(1, len(cases), figsize=(10, 2.8), sharey=True)
    marks = {"static": ".", "least loaded": "v", "round robin with affinity": "^", "MetaInf": "*",
             "who knows the truth": "+"}  # fmt: skip
    for axis, (name, points) in zip(axes, cases, strict=True):
        for how, runs in points.items():
            size = 70 if len(runs) == 1 else 18
            axis.scatter(*zip(*runs, strict=True), marker=marks[how], s=size, label=how)
        axis.set(title=name, xlabel="dollars", xscale="log", ylim=(0, 1.03))
        axis.title.set_fontsize(8)
    axes[0].set_ylabel("share within limits")
    axes[0].legend(frameon=False, fontsize=6)
    figure.tight_layout()
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def page(folder: Path, share: float, pictured: Path | None = None) -> str:
    """The lines of docs/scheduler.md."""
    drawn = []
    told, usd = forecasts()
    about = machine()
    lines = [
        f"`python benchmarks/bench_schedule.py TRACES --share {share:g} --write docs/scheduler.md` with "
        f"{MODEL} on vLLM, methods {', '.join(told.methods)}; {len(SEEDS)} swarms each, geometric means; "
        f"from the middle of each trace {', '.join(str(int(share * each[2])) for each in CASES)} requests. "
        f"A decision among "
        f"1,000 nodes takes {decision_ms(told, usd):.2f} ms of one core ({about['processor']}).",
        "",
        "| trace | within limits | of static | … that keeps 90 % | of least loaded "
        "| of round robin with affinity | of both, that keep 90 % | of who knows true costs "
        "| of who knows lengths too |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, path, count, nodes, faster in CASES:
        print(name, flush=True)
        trace = coming(folder / path, int(share * count), faster)
        rows, points = case(told, usd, trace, nodes, usual(folder / path, faster))
        drawn.append((name, points[0]))
        columns = (
            "static",
            "static, kept",
            "least loaded",
            "round robin with affinity",
            "both, kept",
            "speeds",
            "truth",
        )
        ratios = [float(np.exp(np.nanmean(np.log([row[column] for row in rows])))) for column in columns]
        good = np.mean([row["good"] for row in rows])
        lines.append(f"| {name} | {good:.1%} | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    if pictured is not None:
        picture(drawn, pictured)
        lines += ["", f"![Share within limits against dollars](figures/{pictured.name})"]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of each trace's requests")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    target = options.write
    made_ = page(options.traces, options.share, target.parent / "figures/scheduler.svg" if target else None)
    print(made_)
    if target:
        written(target, "benchmarks/bench_schedule.py", made_)
