"""Whether it pays that nodes change their methods, in simulation: an hour of code, then of conversation.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_schedule_methods.py TRACES [--write docs/scheduler.md]

TRACES is a folder with azure2023/AzureLLMInferenceTrace_{conv,code}.csv. The nodes begin with an engine's
default or with the best method by forecast; in one run MetaInf may change methods, in the other not.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from bench_schedule import CASES, SEEDS, begun, forecasts, ours_of, scene
from measuring import written
from schedule_traces import coming, usual

from metainf.swarm.schedule.planning import Flow
from metainf.swarm.schedule.simulating import Coming, Simulation, Told
from metainf.swarm.schedule.words import Floats, Rates

NODES = (4, 8)
REQUESTS = {"code": 4000, "conversation": 8000}
BETWEEN_S = 5.0
DEFAULT = "bf16"


def stretch(folder: Path, half: int = 1) -> list[Coming]:
    """Requests for code, then conversation, at the pace at which they came."""
    found: list[Coming] = []
    for name, row in (("code", 2), ("conversation", 0)):
        after_s = found[-1].at_s + BETWEEN_S if found else 0.0
        more = coming(folder / CASES[row][1], REQUESTS[name], 1.0, half)
        found += [dataclasses.replace(each, at_s=each.at_s + after_s) for each in more]
    return found


def compared(
    told: Rates, usd: Floats, trace: list[Coming], nodes: tuple[int, str | None], flow: Flow
) -> list[tuple[Told, Told]]:
    """For each swarm what came without changes and with them.
    `nodes` are how many, and the method at the beginning, None for the best by forecast for such traffic."""
    found, (count, first) = [], nodes
    for seed in SEEDS:
        made = scene(told, usd, count, seed)
        best, worth = begun(made, flow)
        start = best if first is None else np.full(count, told.methods.index(first))
        without, changing = (
            Simulation(made, ours_of(made, seed, worth, may), start).run(trace) for may in (False, True)
        )
        found.append((without, changing))
    return found


def page(folder: Path) -> str:
    """The lines of docs/scheduler.md."""
    told, usd = forecasts()
    trace, flow = stretch(folder), usual(folder / CASES[2][1], 1.0)
    lines = [
        "`python benchmarks/bench_schedule_methods.py TRACES --write docs/scheduler.md`: "
        f"{REQUESTS['code']:,} requests for code, then {REQUESTS['conversation']:,} of conversation, from "
        f"the middle of the traces, in {trace[-1].at_s / 60:.0f} minutes; {len(SEEDS)} swarms each, "
        "geometric means. A change closes a node for 30 s, which is paid for.",
        "",
        "| nodes | begin with | goodput for a dollar, of that without changes | changes | within limits "
        "| without changes |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for count in NODES:
        for first in (DEFAULT, None):
            rows = compared(told, usd, trace, (count, first), flow)
            ratios = [changing.good_per_usd / without.good_per_usd for without, changing in rows]
            shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            kept = [np.mean([pair[which].good / pair[which].asked for pair in rows]) for which in (1, 0)]
            lines.append(
                f"| {count} | {first or 'the best by forecast'} | {np.exp(np.mean(np.log(ratios))):.2f} "
                f"({shown}) | {', '.join(str(changing.switches) for _, changing in rows)} "
                f"| {kept[0]:.1%} | {kept[1]:.1%} |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("traces", type=Path)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    made_ = page(options.traces)
    print(made_)
    if options.write:
        written(options.write, "benchmarks/bench_schedule_methods.py", made_)
