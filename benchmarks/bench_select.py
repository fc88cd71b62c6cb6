"""Time of one selection: in process over 1,000 pairs, and as a whole process from a cold shell.

    python benchmarks/bench_select.py [REPEATS]

The pairs are the first 1,000 that the engines propose for Llama-3.1-8B-Instruct on eight kinds of GPU.
`select_s` is choosing among them once the predictor is loaded and the pairs are there, as a service that is
asked about the same pairs again and again: every question has another load, and what follows from the pairs
or the model alone is known from the question before. `select_new_pairs_s` is the same with pairs that were
never asked about. `answer_s` is the whole of `api.select` in process: proposing, checking, predicting,
ranking, commands and reasons.
"""

import sys
from itertools import count

from measuring import median, process, tell

from metainf import api
from metainf.api import catalogue, choosing
from metainf.domain import Hardware, Method, Objective
from metainf.engines import engine
from metainf.selection import select

PAIRS = 1000
FLEET = ("1-8xL4", "1-8xH100", "1-8xA100", "1-8xH200", "1-4xL40S", "1-4xRTX4090", "1-8xMI300X", "1-8xB200")
MODEL, WORKLOAD, LOAD = "Llama-3.1-8B-Instruct", "sharegpt", 32
Fleet = list[tuple[Hardware, float | None]]
QUESTION = ("select", "-m", MODEL, "-w", WORKLOAD, "-c", str(LOAD), "-H", "1-4xL4", "-H", "H100")


def copied(machines: Fleet, offers: dict[int, list[Method]]) -> tuple[Fleet, dict[int, list[Method]]]:
    """Equal machines and methods that are new objects, as if they had just been proposed."""
    fleet = [(machine.model_copy(), price) for machine, price in machines]
    methods = [[method.model_copy() for method in offers[id(machine)]] for machine, _ in machines]
    return fleet, {id(machine): own for (machine, _), own in zip(fleet, methods, strict=True)}


def main(repeats: int) -> None:
    """Measure and print."""
    model, work = api.model(MODEL), catalogue.workload_of(WORKLOAD, {"concurrency": LOAD})
    predictor = choosing.load_predictor()
    offers: dict[int, list[Method]] = {}
    machines: Fleet = []
    left = PAIRS
    for machine, price in catalogue.hardware_of(FLEET):
        methods = [m for name in choosing.ENGINES for m in engine(name).methods(model, machine, work)][:left]
        if methods:
            machines.append((machine, price))
            offers[id(machine)] = methods
            left -= len(methods)
    pairs = [(machine, method) for machine, _ in machines for method in offers[id(machine)]]
    loads = (work.model_copy(update={"concurrency": float(load)}) for load in count(LOAD))
    wanted = Objective(max_usd_per_hour=50.0, max_ttft_s=0.5)
    asked = api.Question(MODEL, FLEET[:3], WORKLOAD, {"concurrency": LOAD}, wanted)

    def choose(priced: Fleet, methods: dict[int, list[Method]]) -> object:
        return select(model, next(loads), wanted, priced, predictor, lambda machine: methods[id(machine)])

    copies = iter([copied(machines, offers) for _ in range(repeats * 4 + 1)])
    tell({
        "repeats": repeats,
        "pairs": len(pairs),
        "forecast_s": median(lambda: predictor.forecast(model, next(loads), pairs), repeats * 4),
        "select_s": median(lambda: choose(machines, offers), repeats * 4),
        "select_new_pairs_s": median(lambda: choose(*next(copies)), repeats * 4),
        "answer_s": median(lambda: api.select(asked), repeats),
        "select_process_s": median(process(*QUESTION), repeats),
        "help_process_s": median(process("--help"), repeats),
    })  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 9)
