"""The page of a machine's own study is written from any store, here one with a known structure."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from planned_runs import candidates, record

from metainf.domain import Failed, Provenance

pytest.importorskip("sklearn")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from bench_local import label, machines, own, page, scores
from tuning import tuned


def runs() -> list:  # type: ignore[type-arg]
    rng = np.random.default_rng(0)
    found = []
    for one in candidates():
        for trial in range(2):
            made = record(one, math.exp(0.03 * rng.standard_normal()))
            found.append(made.model_copy(update={"provenance": Provenance(source="metainf", trial=trial)}))
    failed = {"outcome": Failed(reason="crashed"), "provenance": Provenance(source="metainf", trial=9)}
    return [*found, found[0].model_copy(update=failed), record(candidates()[0])]


def test_only_own_runs_count() -> None:
    assert len(own(runs(), None)) == len(runs()) - 1


def test_the_study_is_what_was_measured() -> None:
    (study,) = machines(own(runs(), None))
    assert study.tasks == 12 and len(study.where) == 120
    assert all(len(found) == 2 for found in study.runs)
    regret, hit = scores(study, study.truth, np.arange(study.tasks))
    assert regret.max() == 0 and hit.min() == 1


def test_tune_chooses_well_and_beats_each_single_method() -> None:
    (study,) = machines(own(runs(), None))
    found = tuned(replace(study, prior=np.full(len(study.where), np.nan)), True, 0)
    assert found.regret.mean() <= 0.05 and found.least <= found.share < 1
    for method in {pair[1].id for pair in study.pairs}:
        rows = [i for i, pair in enumerate(study.pairs) if pair[1].id == method]
        assert np.mean(found.log_value[study.where.task[rows]] - study.truth[rows]) > -0.05


def test_the_page_holds_its_tables() -> None:
    kept = own(runs(), None)
    text = page(machines(kept), kept, 2, None)
    assert "(1 failed)" in text and "| planner | 10% |" in text and "| whole tasks | 50% |" in text
    assert label(candidates()[1].method) in text
