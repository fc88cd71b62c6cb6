"""The grid of the study, and the records that ship."""

import pytest

from metainf.domain import BadInput
from metainf.measure.recipes import NAMES
from metainf.measure.study_traffic import STUDY
from metainf.study.bench import of_study
from metainf.study.parts import IN_FLIGHT, METHODS, WORKLOADS, Grid, parts, shipped


def test_every_engine_meets_every_load() -> None:
    found = parts(Grid(engines=("a", "b"), in_flight=(1, 4, 16)))
    assert [(part.in_flight, part.engine) for part in found] == [
        (1, "a"), (4, "a"), (16, "a"), (1, "b"), (4, "b"), (16, "b"),
    ]  # fmt: skip
    assert all(part.workloads == WORKLOADS for part in found)
    assert len({part.campaign for part in found}) == len(found)
    assert [part.requests for part in found if part.engine == "a"] == [4, 8, 24]


def test_one_request_is_not_batched_in_two_ways() -> None:
    alone, together = parts(Grid(engines=("a",), in_flight=(1, 2)))
    assert set(METHODS) - set(alone.methods) == {"static", "continuous"}
    assert together.methods == METHODS and together.requests > together.in_flight
    (burst,) = parts(Grid(engines=("a",), in_flight=(16,), requests=16))
    assert burst.requests == 16 and set(METHODS) - set(burst.methods) == {"static"}


def test_the_widest_load_runs_the_cheap_workloads() -> None:
    (wide,) = parts(Grid(engines=("a",), in_flight=(64,)))
    assert set(wide.workloads) < set(WORKLOADS) and wide.requests == 96
    assert parts(Grid(engines=("a",), in_flight=(64,), workloads=("mixed",))) == []


@pytest.mark.parametrize("wrong", [{"engines": ()}, {"in_flight": (0,)}, {"methods": ()}])
def test_an_empty_grid_is_refused(wrong: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(BadInput, match="expected"):
        parts(Grid(**wrong))  # type: ignore[arg-type]


def test_its_words_are_known() -> None:
    assert set(WORKLOADS) <= set(STUDY)
    words = {name.split("-")[0] for name in NAMES}
    assert all(part in words or part.startswith("q") for name in METHODS for part in name.split("+"))


def test_the_shipped_study_holds_every_load_and_engine() -> None:
    records = shipped()
    assert len(records) >= 200 and len({record.id for record in records}) == len(records)
    assert len(of_study(records)) == len(records)
    told = {(r.method.engine, r.setting.workload.concurrency) for r in records}
    assert {("openvino", 16), ("llama.cpp", 16)} <= told
    assert {count for _, count in told} <= set(IN_FLIGHT)
    for record in records:
        assert record.provenance.source == "metainf" and record.provenance.conditions is not None
        assert record.method.engine_version or record.outcome.kind == "failed"
