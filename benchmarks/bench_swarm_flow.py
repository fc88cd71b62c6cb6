"""The whole flow with faults: a wallet's requests through agent, queue, workers and paid nodes, each on a
host of its own (network namespaces: needs root), and what the ledger says in the end.

OPENBLAS_NUM_THREADS=1 python benchmarks/bench_swarm_flow.py [--requests 1000] [--write docs/ledger.md]
"""

import argparse
import asyncio
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from flow_chaos import ODD, Came, Flow, Plan, questions_of
from flow_place import place
from measuring import machine, tell, written

from metainf.testing.networks import unusable

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "swarm"))

from small_swarm import small_model, whole_text  # type: ignore[import-not-found]

QUESTIONS = 20


async def measure(plan: Plan) -> Came:
    """One play in a place of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = small_model(folder / "small")
        questions = questions_of(model, QUESTIONS, plan.tokens, whole_text)
        async with place(folder, model) as here:
            return await Flow(here, plan, questions).play()


def section(plan: Plan, came: Came) -> str:
    """The lines of the page."""
    about, faults = machine(), came.faults
    odd = ", ".join(f"{name} {count}" for name, count in sorted(came.odd.items()))
    refused = ", ".join(f"{name} {count}" for name, count in sorted(came.refused.items())) or "none"
    rows = (
        ("requests", plan.requests),
        ("of them such as must be refused", plan.odd * len(ODD)),
        ("answered, as one process writes", came.answered - came.wrong),
        ("of them ordered and settled by the wallet itself", came.own),
        ("answered otherwise", came.wrong),
        ("refused although all was in order, by reason", refused),
        ("refused as they must be, by what was wrong and the reason given", odd),
        ("refused for another reason, or answered", came.unlike),
        ("answers whose evidence does not hold", came.forged),
        ("answers whose receipts leave out a node that lied, or died in the end", came.partly),
        ("answers without any receipt", came.unsigned),
        ("transactions settled twice", came.twice),
        ("nodes / workers / queue servers killed, links cut", _faults(faults)),
        ("seconds, requests a second", f"{came.seconds:.0f}, {plan.requests / came.seconds:.1f}"),
        ("deposits, nanousd", f"{came.deposited:,}"),
        ("paid to nodes", f"{came.paid:,}"),
        ("of it to the node that signs for too much", f"{came.liar:,}"),
        ("orders settled, refunded", f"{came.settlements:,}, {came.refunds:,}"),
        ("refunded after deadlines, nanousd", f"{came.refunded:,}"),
        ("left to payers", f"{came.left:,}"),
        ("held", f"{came.held:,}"),
        ("deposits less paid, left and held", f"{came.deposited - came.paid - came.left - came.held:,}"),
    )
    begin = f"`python benchmarks/bench_swarm_flow.py --requests {plan.requests} --write docs/ledger.md` on "
    where = f"{about['cores']} cores ({about['processor']})"
    head = f"{begin}{where}, which all processes share, load {about['load']}:"
    return "\n".join([head, "", "| | |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def _faults(found: dict[str, int]) -> str:
    return f"{found['node']} / {found['worker']} / {found['queue']}, {found['cut']}"


if __name__ == "__main__":
    reading = argparse.ArgumentParser()
    reading.add_argument("--requests", type=int, default=Plan().requests)
    reading.add_argument("--write", type=Path)
    told = reading.parse_args()
    if why := unusable():
        sys.exit(why)
    chosen = Plan(requests=told.requests)
    found = asyncio.run(measure(chosen))
    tell({"plan": asdict(chosen), "came": vars(found)})
    if told.write is not None:
        written(told.write, "benchmarks/bench_swarm_flow.py", section(chosen, found))
