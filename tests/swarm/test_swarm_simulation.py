"""The simulator: nothing is lost from its books, chance repeats, and churn does what churn must."""

import dataclasses

import numpy as np
import pytest

from metainf.catalog.models import models
from metainf.domain import BadInput, Model
from metainf.swarm.plan.fleet import Fleet, fleet, usable
from metainf.swarm.plan.rules import PLACINGS, Picture
from metainf.swarm.plan.scenes import Scene, Told, fate
from metainf.swarm.plan.simulating import Simulation, beginning

MODEL = Model(name="seventy", params_b=70.6, num_layers=80)
SCENE = Scene(num_blocks=80, seconds=60.0, requests_per_s=1.0, mean_life_s=200.0, view=150)


def played(rule: str, scene: Scene, count: int = 150, most: int = 80) -> tuple[Simulation, Told]:
    seed = 1
    nodes = fleet(MODEL, count * 3, np.random.default_rng(seed))
    nodes = dataclasses.replace(nodes, memory_blocks=np.minimum(nodes.memory_blocks, most))
    rng = np.random.default_rng(seed)
    picture = Picture.of([], scene.num_blocks)
    spans = beginning(nodes, count, PLACINGS[rule], picture, rng)
    simulation = Simulation(nodes, spans, PLACINGS[rule], scene, fate(scene, len(nodes), seed))
    return simulation, simulation.run()


@pytest.fixture(scope="module")
def churned() -> tuple[Simulation, Told]:
    return played("ours", SCENE)


def test_every_request_is_in_the_books(churned: tuple[Simulation, Told]) -> None:
    simulation, told = churned
    assert told.asked == told.finished + told.failed + len(simulation.sessions)
    assert told.finished > 0 and told.reroutes > 0
    assert told.latency_p50_s <= told.latency_p95_s


def test_load_and_picture_are_those_of_who_is_there(churned: tuple[Simulation, Told]) -> None:
    simulation, _ = churned
    carried = np.zeros(len(simulation.fleet))
    for session in simulation.sessions.values():
        for row, share in zip(session.rows, session.loads, strict=True):
            carried[row] += share
    assert np.allclose(simulation.load, carried, atol=1e-9)
    holders = np.zeros(80)
    for row in np.flatnonzero(simulation.alive):
        holders[simulation.start[row] : simulation.end[row]] += 1
    assert np.array_equal(simulation.picture.holders, holders)


def test_the_same_chance_gives_the_same_run(churned: tuple[Simulation, Told]) -> None:
    assert played("ours", SCENE)[1] == churned[1]


def test_without_churn_nothing_breaks() -> None:
    still = dataclasses.replace(SCENE, mean_life_s=1e9)
    told = played("ours", still)[1]
    assert told.failed == told.reroutes == 0


def test_too_few_nodes_fail_every_request() -> None:
    told = played("ours", SCENE, count=3, most=20)[1]
    assert told.failed > 0 and told.finished == 0


def test_nodes_are_real_devices() -> None:
    llama = models()["meta-llama/Llama-3.1-70B-Instruct"]
    found: Fleet = fleet(llama, 200, np.random.default_rng(0))
    assert set(found.names) <= {device.name for device in usable(llama)}
    assert (found.memory_blocks >= 1).all() and np.isfinite(found.decode_ms).all()
    assert np.isfinite(found.prefill_ms).all()
    with pytest.raises(BadInput, match="known parameters"):
        fleet(Model(name="unknown"), 1, np.random.default_rng(0))
