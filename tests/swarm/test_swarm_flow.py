"""The whole flow on hosts of their own: a wallet, an agent, the queue, workers, paid nodes and the ledger,
while things are killed and cut off, and one node lies."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

pytest.importorskip("nats", reason="needs the extra swarm")
for name in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extras swarm and measure")

from small_swarm import small_model, whole_text  # noqa: E402

from metainf.domain import MissingExtra  # noqa: E402
from metainf.swarm.host.nats import program  # noqa: E402
from metainf.testing.networks import unusable  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from flow_chaos import Came, Flow, Plan, questions_of  # noqa: E402
from flow_place import place  # noqa: E402

if why := unusable():
    pytest.skip(why, allow_module_level=True)
pytestmark = pytest.mark.engine

SHORT = Plan(requests=60, tokens=4, faults=4, odd=1)
MOST_S, QUESTIONS = 600.0, 6


async def played(folder: Path, plan: Plan) -> Came:
    model = small_model(folder / "small")
    questions = questions_of(model, QUESTIONS, plan.tokens, whole_text)
    async with place(folder, model) as here:
        return await Flow(here, plan, questions).play()


def test_every_answer_is_right_or_refused_and_all_money_is_somewhere(tmp_path: Path) -> None:
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))
    slow = bool(os.environ.get("METAINF_SLOW"))
    plan = Plan() if slow else SHORT
    came = asyncio.run(asyncio.wait_for(played(tmp_path, plan), 2000.0 if slow else MOST_S))
    honest = plan.requests - plan.odd * 4
    assert came.answered + came.refused.total() == honest, came
    assert (came.wrong, came.forged, came.twice, came.unlike, came.unsettled) == (0, 0, 0, 0, 0), came
    assert came.answered >= honest * 0.95, came
    assert 0 < came.own < came.answered, came
    assert came.faults.total() == plan.faults
    assert came.settlements == came.answered - came.unsigned, came
    assert came.paid == came.settled == came.shown > 0, came
    assert came.deposited == came.paid + came.left, came
    assert (came.held, came.liar) == (0, 0), came
