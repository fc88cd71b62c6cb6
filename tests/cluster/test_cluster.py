"""A Ray cluster of one node, started here: the same results as in one process, errors that say something."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cluster_work
import pytest
from typer.testing import CliRunner

from metainf import api
from metainf.api.measuring import Measuring
from metainf.api.spreading import mark_of, parts_of
from metainf.cli.app import app
from metainf.cluster import ALONE, MACHINE, Needs, WorkerLost, spread
from metainf.domain import (
    BadInput,
    Device,
    Hardware,
    Lengths,
    Measured,
    Method,
    Metrics,
    MissingExtra,
    Model,
    NotSupported,
    Provenance,
    Record,
    Setting,
    Workload,
)
from metainf.learn.table import Table, table

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs the extra ray")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Its address; stopped at the end."""
    import ray

    here = str(Path(__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    joined = ray.init(
        num_cpus=2, resources={MACHINE: 1}, include_dashboard=False, log_to_driver=False,
        object_store_memory=100 * 2**20,
    )  # fmt: skip
    yield str(joined.address_info["gcs_address"])
    ray.shutdown()


def records() -> list[Record]:
    """Six models, three engines on one device: something to choose."""
    work = Workload(input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=100), concurrency=1)
    rows = []
    for place, model in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta")):
        for engine, speed in (("x", 100.0), ("y", 80.0), ("z", 20.0)):
            setting = Setting(
                model=Model(name=model, family=model), workload=work,
                hardware=Hardware(device=Device(name="a100-80-sxm"), count=1),
            )  # fmt: skip
            outcome = Measured(metrics=Metrics(output_tokens_per_s=speed * (1 + place / 10)))
            rows.append(
                Record(
                    setting=setting, method=Method(engine=engine), outcome=outcome,
                    provenance=Provenance(source="made-up", date="2025-01-01"),
                )
            )  # fmt: skip
    return rows


def history() -> Table:
    """The same as a table."""
    return table(records())


def said(*words: str) -> dict[str, Any]:
    """What a command prints with --json."""
    ran = CliRunner().invoke(app, [*words, "--json"])
    assert ran.exit_code == 0, (ran.output, ran.exception)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def shape_of(found: api.Measurement) -> list[tuple[object, ...]]:
    """What is the same of two sweeps: all but the times."""
    return [
        (name, r.provenance.location, r.setting.id, r.method.id, r.outcome.kind, r.provenance.trial)
        for name, r in found.swept.records
    ]


def test_without_ray_the_pip_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"pip install 'metainf\[ray\]'"):
        list(spread("auto", cluster_work.square, {"a": 1}))


def test_a_sweep_is_dealt_by_workload_and_repeat() -> None:
    """All methods of one repeat go to one machine, so that methods are never compared across two."""
    asked = Measuring(workloads=("short_chat", "copy_edit"), in_flight=(1, 2), repeats=2)
    runs = api.prepare_measuring(asked).layout.runs
    parts = parts_of(asked, runs, False)
    assert len(parts) == 8 and all(len(part.marks) == 2 for part in parts.values())
    dealt = [mark for part in parts.values() for mark in part.marks]
    assert sorted(dealt) == sorted(mark_of(each) for each in runs)


@pytest.mark.parametrize("more", [{"url": "http://127.0.0.1:9"}, {"time_limit_s": 5.0}])
def test_what_belongs_to_one_machine_is_refused(more: dict[str, object]) -> None:
    asked = Measuring()
    prepared = api.prepare_measuring(asked)
    with pytest.raises(BadInput, match="belongs to one machine"):
        api.measure_spread(replace(asked, **more), prepared, "auto", None)  # type: ignore[arg-type]


@needs_ray
class TestOnACluster:
    def test_results_come_under_their_keys(self, cluster: str) -> None:
        found = dict(spread(cluster, cluster_work.square, {str(n): n for n in range(5)}))
        assert found == {str(n): n * n for n in range(5)}

    def test_what_is_raised_on_purpose_is_raised_here(self, cluster: str) -> None:
        with pytest.raises(NotSupported, match="3 is not for us"):
            list(spread(cluster, cluster_work.refuse, {"a": 3}))

    def test_another_error_says_where(self, cluster: str) -> None:
        with pytest.raises(WorkerLost, match=r"a failed on the cluster.*ZeroDivisionError"):
            list(spread(cluster, cluster_work.stumble, {"a": 3}))

    def test_a_worker_that_dies_is_tried_again(self, cluster: str, tmp_path: Path) -> None:
        place = str(tmp_path / "mark")
        assert list(spread(cluster, cluster_work.die_once, {"a": place})) == [("a", "was here")]

    def test_one_that_keeps_dying_becomes_an_error(self, cluster: str) -> None:
        with pytest.raises(WorkerLost, match="its worker died 2 times"):
            list(spread(cluster, cluster_work.die, {"a": 1}, Needs(tries=2)))

    def test_a_machine_is_never_shared(self, cluster: str, tmp_path: Path) -> None:
        found = dict(spread(cluster, cluster_work.alone, {str(n): str(tmp_path) for n in range(3)}, ALONE))
        assert found == {"0": 1, "1": 1, "2": 1}

    def test_what_no_node_offers_is_told_at_once(self, cluster: str) -> None:
        with pytest.raises(BadInput, match=r"1 of 'unobtainium', found 0.*--resources"):
            list(spread(cluster, cluster_work.square, {"a": 1}, Needs(resources={"unobtainium": 1.0})))

    def test_an_evaluation_is_the_same_as_in_one_process(self, cluster: str) -> None:
        from metainf.learn.evaluate import evaluate_table, plan_of

        rows = history()
        here = evaluate_table(rows, plan_of(by=("model",)), None, lambda _: None)
        there = evaluate_table(rows, plan_of(by=("model",), ray=cluster), None, lambda _: None)
        assert there == here and here["views"]

    def test_the_command_evaluates_on_a_cluster(self, cluster: str, tmp_path: Path) -> None:
        store = tmp_path / "records.sqlite"
        with api.store(store) as opened:
            opened.add(records())
        words = ("evaluate", "--store", str(store), "--by", "model", "--chooser", "random")
        there = said(*words, "--ray", cluster)
        assert there["views"] and there == said(*words)

    def test_a_sweep_has_the_runs_of_one_process(self, cluster: str, tmp_path: Path) -> None:
        """The same keys, methods and answers; times are of other runs."""
        pytest.importorskip("xllamacpp", reason="needs the extra llamacpp")
        from metainf.measure.weights import MissingWeights, bundled, draft_of

        try:
            small = draft_of(bundled(), 2, tmp_path)  # two layers of SmolLM2: nonsense, but fast
        except MissingWeights as missing:
            pytest.skip(str(missing))
        store = tmp_path / "commanded.sqlite"
        told = said(
            *("measure", "--ray", cluster, "--model", str(small), "--method", "continuous", "--batch", "2"),
            *("--requests", "2", "--repeats", "1", "--store", str(store)),
        )
        (kept,) = map(Record.of, told["records"])
        with api.store(store) as held:
            assert [record.id for record in held.query()] == [kept.id] and kept.outcome.kind == "measured"
        asked = Measuring(
            str(small), methods=("baseline", "continuous"), in_flight=(2,), requests=2, repeats=2
        )
        with api.store(tmp_path / "here.sqlite") as here, api.store(tmp_path / "there.sqlite") as there:
            one = api.measure(api.prepare_measuring(asked, here), here)
            other = api.measure_spread(asked, api.prepare_measuring(asked, there), cluster, there)
            assert here.count() == there.count() == 4

        assert shape_of(other) == shape_of(one)
        assert [line.quality for line in other.lines] == [line.quality for line in one.lines]
        with api.store(tmp_path / "there.sqlite") as kept:
            again = api.prepare_measuring(replace(asked, resume=True), kept)
        assert not again.layout.runs and len(again.layout.done) == 4


@needs_ray
def test_where_no_cluster_answers_the_way_to_start_one_is_told() -> None:
    code = (
        "from metainf.cluster import spread\nfrom metainf.domain import BadInput\n"
        "try:\n list(spread('127.0.0.1:9', len, {'a': []}))\nexcept BadInput as e:\n print(e)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "expected a Ray cluster at 127.0.0.1:9" in ran.stdout and "ray start --head" in ran.stdout, (
        ran.stderr
    )
