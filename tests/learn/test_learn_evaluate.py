"""The whole evaluation on a made-up history whose regrets are known, killed and resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learn_tables import fixed, many, record

from metainf.domain import BadInput, Metrics
from metainf.learn import runner
from metainf.learn.asked import views_of
from metainf.learn.contest import NAMES, OURS, Entry, entries
from metainf.learn.evaluate import Plan, evaluate_table, plan_of, plan_tasks
from metainf.learn.runner import Ledger, Task, run, run_all
from metainf.learn.table import Table, table

RULES = ("random", "single best", "single best, shrunk", "oracle")


def history() -> Table:
    """Six models; engine x is best for four, y for two; z is always worst."""
    best = {"alpha": "x", "beta": "x", "gamma": "x", "delta": "x", "epsilon": "y", "zeta": "y"}
    rows = []
    for place, (model, winner) in enumerate(best.items()):
        for engine in "xyz":
            speed = {"z": 20.0}.get(engine, 100.0 if engine == winner else 80.0) * (1 + place / 10)
            rows.append(record(model, engine, Metrics(output_tokens_per_s=speed)))
    return table(rows)


def judged(plan: Plan, rows: Table | None = None, **more: Any) -> dict[str, Any]:
    return evaluate_table(history() if rows is None else rows, plan, **more)


def lines(result: dict[str, Any], place: int = 0) -> dict[str, Any]:
    return {line["name"]: line for line in result["views"][place]["choosers"]}


def test_known_regrets() -> None:
    result = judged(Plan(by=("model",), choosers=RULES))
    (view,) = result["views"]
    assert (view["cells"], view["cases"], view["folds"], view["options"]) == (6, 6, 6, 18)
    found = lines(result)
    assert found["oracle"]["regret"] == 0.0 and found["oracle"]["f1"] == 1.0 == found["oracle"]["gap"]
    assert found["single best"]["regret"] == pytest.approx(2 * 0.2 / 6, abs=1e-4)
    assert found["single best"]["top1"] == pytest.approx(4 / 6, abs=1e-4)
    assert found["single best"]["f1"] == pytest.approx((2 * 4 / (4 + 6) + 0) / 2, abs=1e-4)
    assert found["random"]["regret"] == pytest.approx((0 + 0.2 + 0.8) / 3, abs=1e-4)
    assert found["single best"]["gap"] == 0.0
    assert all(line["infeasible"] == 0 and line["regret_low"] <= line["regret"] for line in found.values())
    assert view["verdict"] == ["MetaInf was not run here."] and result["notes"] == []


def test_every_fold_is_judged_by_choosers_that_never_saw_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Spy:
        def fit(self, train: Table, view: Any) -> None:
            self.train = train

        def score(self, test: Table, found: Any, told: bool) -> Any:
            seen.append((set(self.train.keys["model_group"]), set(test.keys["model_group"])))
            return np.zeros((len(found.value), 1))

    task = Task(
        many(), "made-up", "model", 3, views_of("none", "listed"), (Entry("spy", "baseline", Spy, "spy"),)
    )
    run(task)
    assert len(seen) == 0, "one engine a cell is no choice"
    run(replace(task, rows=history()))
    assert len(seen) == 3 and not any(train & test for train, test in seen)


def test_metainf_and_its_rivals_are_compared_on_the_same_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metainf.learn.contrast.ROUNDS", 2)
    result = judged(Plan(by=("model",), choosers=("random", "MetaInf", "XGBoost, classical")))
    (view,) = result["views"]
    pair = view["paired"]["regret"]["rival"]
    found = lines(result)
    assert pair["difference"] == pytest.approx(
        found[OURS]["regret"] - found[pair["name"]]["regret"], abs=2e-4
    )
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert view["paired"]["regret"]["baseline"]["name"] in ("single best", "random")


def test_what_cannot_be_run_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    result = judged(Plan(by=("model",), choosers=("XGBoost, classical",)))
    assert "XGBoost, classical" not in lines(result)
    (note,) = [note for note in result["notes"] if note["chooser"] == "XGBoost, classical"]
    assert note["why"] and note["source"] == "made-up"


def test_quality_same_makes_every_view_strict() -> None:
    assert all(view.quality == "same" for view in views_of("aic_silicon", "same"))
    assert all(view.quality == "any" for view in views_of("aic_silicon", "any"))
    assert {view.quality for view in views_of("aic_silicon", "listed")} == {"any", "same"}


def test_finished_parts_are_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(by=("model",), choosers=RULES, resume=tmp_path / "done.jsonl")
    first = judged(plan)
    monkeypatch.setattr(runner, "run", lambda task: pytest.fail("ran again"))
    told: list[str] = []
    assert judged(plan, tell=told.append) == first
    assert any("finished before" in line for line in told)


def test_a_killed_run_loses_only_its_last_line(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    Ledger(path).add("a", {"views": {}})
    with path.open("a") as file:
        file.write('{"key": "b", "resu')
    ledger = Ledger(path)
    assert set(ledger.done) == {"a"}
    ledger.add("c", {"views": {}})
    assert set(Ledger(path).done) == {"a", "c"}


def test_other_records_are_other_parts() -> None:
    (task, *_) = plan_tasks(history(), Plan(by=("model",), choosers=RULES), None)
    less = history().take(np.arange(15))
    assert task.key == replace(task).key
    assert task.key != replace(task, rows=less).key != replace(task, most_folds=3).key


def test_two_processes_find_what_one_finds() -> None:
    tasks = [
        Task(
            history(),
            "made-up",
            "model",
            most,
            views_of("none", "listed"),
            tuple(entries("none", "model", only=RULES)),
        )
        for most in (3, 6)
    ]
    one = run_all(tasks, 1, Ledger(None), lambda _: None)
    assert run_all(tasks, 2, Ledger(None), lambda _: None) == one


def test_names_that_are_none_are_refused() -> None:
    with pytest.raises(BadInput, match="no chooser witch"):
        judged(Plan(choosers=("witch",)))
    with pytest.raises(BadInput, match="no records of source elsewhere"):
        judged(Plan(sources=("elsewhere",)))
    with pytest.raises(BadInput, match="model, hardware, workload, time or rolling"):
        plan_of(by=("colour",))
    with pytest.raises(BadInput, match="quality"):
        plan_of(quality="best")
    assert "MetaInf" in NAMES and "AIConfigurator 0.12" in NAMES


def test_too_few_cells_are_no_section() -> None:
    assert judged(Plan(by=("model",), choosers=RULES), fixed().take(np.arange(6)))["views"] == []
