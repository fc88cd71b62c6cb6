"""A Ray cluster of two nodes: two raylets with their own workers and resources, on this machine."""

import os
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cluster_work
import pytest
from test_cluster import history, shape_of

from metainf import api
from metainf.api.measuring import Measuring
from metainf.cluster import ALONE, MACHINE, Needs, spread

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")
NODE = {"num_cpus": 1, "resources": {MACHINE: 1}, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """The cluster, joined as `--ray` joins one: by its address."""
    import ray
    from ray.cluster_utils import Cluster

    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    if ray.is_initialized():
        ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    made.add_node(**NODE)
    made.wait_for_nodes()
    yield made
    ray.shutdown()
    made.shutdown()


def test_both_nodes_work_and_each_alone(nodes: Any, tmp_path: Path) -> None:
    found = list(spread(nodes.address, cluster_work.where, {str(n): str(tmp_path) for n in range(2)}, ALONE))
    assert len({node for _, (node, _) in found}) == 2
    assert max(together for _, (_, together) in found) == 2


def test_an_evaluation_on_two_nodes_is_that_of_one_process(nodes: Any) -> None:
    from metainf.learn.evaluate import evaluate_table, plan_of

    rows = history()
    here = evaluate_table(rows, plan_of(by=("model",)), None, lambda _: None)
    there = evaluate_table(rows, plan_of(by=("model",), ray=nodes.address), None, lambda _: None)
    assert there == here and here["views"]


def test_a_sweep_on_two_nodes_has_the_runs_of_one_process(nodes: Any, tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
    from metainf.measure.weights import MissingWeights, bundled, draft_of

    try:
        small = draft_of(bundled(), 2, tmp_path)
    except MissingWeights as missing:
        pytest.skip(str(missing))
    asked = Measuring(str(small), methods=("baseline", "continuous"), in_flight=(2,), requests=2, repeats=2)
    with api.store(tmp_path / "here.sqlite") as here, api.store(tmp_path / "there.sqlite") as there:
        one = api.measure(api.prepare_measuring(asked, here), here)
        other = api.measure_spread(asked, api.prepare_measuring(asked, there), nodes.address, there)
        assert here.count() == there.count() == 4
    assert shape_of(other) == shape_of(one)


def test_a_node_that_goes_away_leaves_its_work_to_another(nodes: Any, tmp_path: Path) -> None:
    """The node is ended with all its processes while it works; the other does the work."""
    place = tmp_path / "first"

    def take_away() -> None:
        while not place.exists() or not place.read_text():
            time.sleep(0.05)
        first = place.read_text()
        gone = next(node for node in nodes.list_all_nodes() if node.node_id == first)
        nodes.remove_node(gone, allow_graceful=False)

    for _ in range(2):  # the head of a cluster cannot go, so the work wants what only these offer
        nodes.add_node(**NODE | {"resources": {"may leave": 1}})
    nodes.wait_for_nodes()
    taker = threading.Thread(target=take_away, daemon=True)
    taker.start()
    needs = Needs(resources={"may leave": 1.0})
    [(key, second)] = spread(nodes.address, cluster_work.outlive, {"a": str(place)}, needs)
    taker.join(30)
    assert not taker.is_alive() and key == "a" and second != place.read_text()
