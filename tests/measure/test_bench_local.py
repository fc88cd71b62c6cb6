"""The page of a machine's own study is written from any study, here one whose winners are known."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from measure_study_grids import Outcome, grid

pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_local import groups, page, scores
from own_study import Own, fixed, own_studies
from tuning import tuned

RATES: dict[str, tuple[float, float]] = {
    "baseline": (50.0, 50.0), "static": (55.0, 200.0), "continuous": (50.0, 300.0), "prefix": (60.0, 280.0),
    "lookup": (90.0, 200.0), "q8_0": (70.0, 320.0), "q4_0": (200.0, 900.0),
}  # fmt: skip
"""Tokens per second with 1 and with 16 in flight; four-bit weights are fast, and answer something else."""
SHARE = {"openvino": 1.0, "llama.cpp": 0.5}


def cells(share: float) -> dict[tuple[str, int], dict[str, Outcome]]:
    found: dict[tuple[str, int], dict[str, Outcome]] = {}
    for number, workload in enumerate(("short_chat", "copy_edit", "long_prompt")):
        for place, load in enumerate((1, 16)):
            rates = {name: share * (1 + number) * rate[place] for name, rate in RATES.items()}
            found[workload, load] = {**rates, "lookup": rates["lookup"] * (1 + (workload == "copy_edit"))}
    del found["short_chat", 1]["static"]
    return found | {("copy_edit", 1): {**found["copy_edit", 1], "prefix": "crashed"}}


def study() -> Own:
    records = [
        record
        for on, share in SHARE.items()
        for record in grid(cells(share), on=on, agreement={"q4_0": 0.05})
    ]
    (found,) = own_studies(records)
    return found


def silent(given: Own) -> Own:
    return replace(given, prior=np.full(len(given.where), np.nan))


def test_a_method_is_one_whatever_its_batch_and_a_failure_is_kept() -> None:
    found = study()
    assert found.tasks == 6 and len(found.where) == 2 * (6 * 7 - 1)
    assert {name for _, name in found.names} == set(RATES)
    assert sum(not len(runs) for runs in found.runs) == 2
    assert {name for (_, name), kept in zip(found.names, found.gate, strict=True) if not kept} == {"q4_0"}
    assert found.works.sum() == len(found.where) - 2 - 12
    regret, top = scores(found.only(found.works), found.truth[found.works], range(found.tasks))
    assert regret == 0 and top == 1


def test_what_a_task_is_taught_leaves_its_workload_out() -> None:
    found = study()
    for task, (workload, _) in enumerate(found.cells):
        lessons = found.lessons(task)
        assert {known.candidate.setting.workload.name for known in lessons} == {
            "short_chat", "copy_edit", "long_prompt"
        } - {workload}  # fmt: skip
        assert all(known.candidate.machine for known in lessons)
        assert any(not known.meets for known in lessons)


def test_every_fixed_method_is_compared_and_what_was_not_run_counts_as_the_baseline() -> None:
    every = {one.name: one for one in fixed(study())}
    assert len(every) == 2 * len(RATES)
    chat = study().cells.index(("short_chat", 1))
    edit = study().cells.index(("copy_edit", 1))
    for engine, share in SHARE.items():
        static, prefix, held = (every[engine, name] for name in ("static", "prefix", "q4_0"))
        assert static.ran == 5 and static.log_value[chat] == pytest.approx(np.log(share * 50.0), abs=0.02)
        assert prefix.ran == 5 and prefix.log_value[edit] == pytest.approx(np.log(share * 100.0), abs=0.02)
        assert not held.admitted and np.allclose(held.log_value, every[engine, "baseline"].log_value)


def test_tune_beats_each_single_method_and_never_takes_what_is_held_back() -> None:
    found = silent(study())
    taught = tuned(found, False, 0, taught=found.lessons)
    best = max(np.mean(taught.log_value - one.log_value) for one in fixed(found) if one.admitted)
    worst = min(np.mean(taught.log_value - one.log_value) for one in fixed(found) if one.admitted)
    assert taught.regret.mean() < 0.1 and taught.least < taught.share < 0.7
    assert best > np.log(2) and worst > 0


def test_engines_stand_alone_and_together() -> None:
    parts = groups(study())
    assert list(parts) == ["llama.cpp", "openvino", "engine and method together"]
    assert parts["openvino"].engines == ["openvino"] and parts["openvino"].tasks == 6
    assert len(parts["engine and method together"].where) == len(study().where)


def test_the_page_holds_its_tables() -> None:
    records = [record for on, share in SHARE.items() for record in grid(cells(share), on=on)]
    text = page(own_studies(records), records, 2, 1, 0.25)
    assert "(4 failed)" in text and "| planner | 10% |" in text and "| whole tasks | 50% |" in text
    for heading in ("### llama.cpp", "### openvino", "### engine and method together"):
        assert heading in text
    assert "| openvino: static | 5 of 6 |" in text and "the other workloads, alone" in text
