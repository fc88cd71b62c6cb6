"""Verdicts, intervals, the page and its figures, from acts and errors made by hand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metainf.domain import BadInput
from metainf.learn.accuracy import summary
from metainf.learn.contest import OURS, SINGLE, Role
from metainf.learn.figures import draw
from metainf.learn.report import overview, page, table
from metainf.learn.summary import accuracy_verdict, compare, section, verdict

CASES = 40
ROLES: dict[str, Role] = {SINGLE: "baseline", "XGBoost, classical": "paper", OURS: "ours", "oracle": "bound"}


def acts(regret: float, told: float, hits: float = 0.5) -> dict[str, list[Any]]:
    """One chooser over forty cells with two options, a (best) and b; `hits` of the picks are a."""
    right = [place < hits * CASES for place in range(CASES)]
    picks = ["a" if hit else "b" for hit in right]
    wiggle = 1 + 0.01 * np.cos(np.arange(CASES))
    return {
        "cell": list(range(CASES)),
        "regret": (regret * wiggle).tolist(), "regret_told": (told * wiggle).tolist(),
        "hit": [float(hit) for hit in right], "hit_told": [float(hit) for hit in right],
        "infeasible": [0.25] * CASES, "gain": [float(np.log(2.0)), None] * (CASES // 2),
        "clear": [True] * CASES, "best": ["a"] * CASES, "pick": picks, "pick_told": picks,
    }  # fmt: skip


def view(limited: bool = False, **regrets: float) -> dict[str, Any]:
    made = {SINGLE: 0.4, "XGBoost, classical": 0.3, OURS: 0.1, "oracle": 0.0} | regrets
    choosers = {name: acts(value, value / 2) for name, value in made.items()}
    facts = {
        "source": "made-up", "by": "model", "view": "speed at fixed load", "cells": CASES, "folds": 4,
        "options": 80, "noise": 0.02, "limited": limited, "quality": "any", "choice": "family",
    }  # fmt: skip
    return {**facts, **section(choosers, ROLES, limited)}


def error(learner: str = OURS) -> dict[str, Any]:
    true = np.linspace(-3, 2, 50)
    found = summary(true, true + 0.1, np.full(50, 0.2))
    return {"source": "made-up", "by": "model", "learner": learner, "metric": "tpot_s", "on": "all", **found}


def result(*views: dict[str, Any]) -> dict[str, Any]:
    plan = {"most_folds": 10}
    return {"plan": plan, "views": list(views), "errors": [error()], "notes": []}


def test_a_line_says_what_the_acts_say() -> None:
    found = {line["name"]: line for line in view()["choosers"]}[OURS]
    assert found["regret"] == pytest.approx(0.1, abs=1e-3) and found["regret_told"] == pytest.approx(
        0.05, abs=1e-3
    )
    assert found["regret_low"] <= found["regret"] <= found["regret_high"]
    assert found["gap"] == pytest.approx(0.75, abs=1e-3) and found["gap_told"] == pytest.approx(
        0.75, abs=1e-3
    )
    assert (found["top1"], found["infeasible"], found["acceleration"]) == (0.5, 0.25, 2.0)
    assert found["f1_clear"] == pytest.approx(2 * 20 / (40 + 20), abs=1e-4), "b was never best"


def test_the_difference_is_paired() -> None:
    ours, other = acts(0.1, 0.1), acts(0.1, 0.1)
    other["regret"] = [value + 0.05 for value in ours["regret"]]
    assert compare(ours, other, "regret") == {"difference": -0.05, "low": -0.05, "high": -0.05}


@pytest.mark.parametrize(
    ("low", "gap", "high", "said"),
    [
        (-0.3, -0.2, -0.1, "better than the best rival, X"),
        (0.1, 0.2, 0.3, "worse than X"),
        (-0.1, 0.001, 0.1, "equals the best rival, X"),
        (-0.2, -0.1, 0.1, "ahead of the best rival, X, within the noise"),
        (-0.1, 0.1, 0.2, "behind the best rival, X, within the noise"),
    ],
)
def test_verdicts_follow_the_interval(low: float, gap: float, high: float, said: str) -> None:
    text = verdict({"name": "X", "difference": gap, "low": low, "high": high})
    assert said in text and f"{gap:+.3f}" in text


def test_accuracy_is_set_beside_the_paper() -> None:
    line = {"top1_clear": 0.95, "f1_clear": 0.5, "top1_told_clear": None, "f1_told_clear": None}
    assert "0.950 is above and macro-F1 0.500 is below the 0.898" in accuracy_verdict(line, "")
    assert accuracy_verdict(line, "_told") == "no case is clear"


def test_the_best_rival_is_the_best_of_baselines_and_paper() -> None:
    found = view(limited=True)
    assert found["paired"]["regret"]["rival"]["name"] == "XGBoost, classical"
    assert found["paired"]["regret"]["baseline"]["name"] == SINGLE
    assert [line.split(" (")[-1] for line in found["verdict"][:2]] == [
        "not told what is feasible)", "told what is feasible)"
    ]  # fmt: skip


def test_the_page_shows_every_chooser_and_where_metainf_loses() -> None:
    text = page(result(view(), view(**{OURS: 0.9})), {"A figure": "figures/a.svg"})
    assert text.startswith("# ") and "![A figure](figures/a.svg)" in text
    for name in ROLES:
        assert f"| {name} |" in text
    assert "* made-up: speed at fixed load, unseen model: MetaInf is worse than XGBoost, classical" in text
    assert "better -0.200" in overview(result(view())["views"])
    assert "10.5 %" in text and "| made-up | model | MetaInf | tpot_s | all | 50 |" in text


def test_without_metainf_the_page_claims_nothing_of_it() -> None:
    made = view()
    made["choosers"] = [line for line in made["choosers"] if line["name"] != OURS]
    text = page(result(made))
    assert "MetaInf was not run." in text and "Nowhere on this page" not in text


def test_tables_are_whole() -> None:
    lines = table(("a", "b"), [(1, None), (0.12345, "x")]).splitlines()
    assert lines == ["| a | b |", "| --- | --- |", "| 1 | – |", "| 0.123 | x |"]
    for line in page(result(view(limited=True))).splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_calibration_counts_what_is_inside() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.3, 20_000)
    found = summary(noise, np.zeros(20_000), np.full(20_000, 0.3))
    assert all(abs(level - actual) < 0.01 for level, actual in found["calibration"])
    assert found["coverage"] == pytest.approx(0.9, abs=0.01)
    assert found["width"] == pytest.approx(np.exp(2 * 1.6449 * 0.3), abs=0.01)
    wrong = summary(np.log([1.0, 2.0]), np.log([2.0, 2.0]), np.array([0.1, 0.1]))
    assert (wrong["median_ape"], wrong["mean_ape"], wrong["coverage"]) == (0.5, 0.5, 0.5)


def test_figures_are_small_and_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made = result(view(limited=True), view())
    first, second = (draw(made, tmp_path / name) for name in ("one", "two"))
    assert [path.name for path in first.values()] == [
        "regret-made-up.svg",
        "calibration.svg",
        "predicted.svg",
    ]
    for title, path in first.items():
        drawn = path.read_bytes()
        assert drawn == second[title].read_bytes() and len(drawn) < 100_000
        assert re.search(rb"<svg", drawn) and b"<dc:date>" not in drawn


def test_the_evaluation_is_data() -> None:
    assert json.loads(json.dumps(result(view(limited=True))))["views"][0]["verdict"]


def test_nothing_to_join_is_refused() -> None:
    from learn_tables import fixed

    from metainf.learn.peers import attach

    with pytest.raises(BadInput, match="found no input_len"):
        attach(fixed(), [])
