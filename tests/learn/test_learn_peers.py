"""Another tool's predictions, joined and judged; descriptions in words, embedded and judged."""

from typing import Any

import numpy as np
import pytest
from learn_tables import record

from metainf.domain import BadInput, Metrics
from metainf.learn import peers
from metainf.learn.table import TEXTS, Table, table
from metainf.learn.views import PEER, View, budgets, judge, options
from metainf.learn.worded import Worded

TOKENS = View("tokens_per_s_per_device", options="family")
UNDER = View("tokens_per_s_per_device", "tpot_s", options="family")
TPOT = {"x": 0.1, "y": 0.2, "z": 0.4}


def runs() -> Table:
    """Two models, three engines; x is fastest."""
    return table(
        record(model, engine, Metrics(ttft_s=0.5, tpot_s=tpot, output_tokens_per_s=4 / tpot), concurrency=4.0)
        for model in ("alpha", "beta")
        for engine, tpot in TPOT.items()
    )


def said(engine: str, tpot: float | None) -> dict[str, Any]:
    return {
        "input_len": 100, "output_len": 100, "concurrency": 4.0, "ttft_s": 0.5, "tpot_s": TPOT[engine],
        "aic_ttft_s": None if tpot is None else 0.4, "aic_tpot_s": tpot,
    }  # fmt: skip


def test_predictions_are_joined_by_run_and_are_no_feature() -> None:
    rows = runs()
    joined = peers.attach(rows, [said("x", 0.05), said("y", None)])
    assert joined.columns is rows.columns
    by_engine = dict(zip(rows.columns["engine"].tolist(), joined.keys[PEER[1]].tolist(), strict=True))
    assert by_engine["x"] == 0.05 and np.isnan(by_engine["y"]) and np.isnan(by_engine["z"])
    assert joined.take(np.array([0])).keys[PEER[1]].tolist() == [0.05]
    with pytest.raises(BadInput, match="no run of the history"):
        peers.attach(rows, [said("x", 0.05) | {"concurrency": 5.0}])


def test_the_peer_picks_by_its_own_numbers_and_the_unknown_comes_last() -> None:
    joined = peers.attach(runs(), [said("x", 0.3), said("y", 0.2)])
    chooser = peers.PeerChooser()
    chooser.fit(joined, TOKENS)
    found = options(joined, TOKENS)
    score = judge(found, budgets(found, TOKENS), chooser.score(joined, found, False), False)
    assert [found.name[pick].split("|")[0] for pick in score.pick] == ["y", "y"]
    assert score.regret.tolist() == pytest.approx([0.5, 0.5])


def test_rows_of_the_peer_are_a_view_of_their_own() -> None:
    joined = peers.attach(runs(), [said("x", 0.3), said("y", 0.2)])
    found = options(joined, View("tokens_per_s_per_device", options="family", rows="peer"))
    assert [name.split("|")[0] for name in found.name] == ["x", "y", "x", "y"]


def test_not_told_the_peer_stays_under_the_budget_as_it_sees_it() -> None:
    rows = table(
        record(
            "alpha",
            "x",
            Metrics(ttft_s=0.5, tpot_s=0.1 * n, output_tokens_per_s=100.0 * n),
            concurrency=float(n),
        )
        for n in (1, 2, 3, 4, 5)
    )
    table_of_peer = [
        said("x", 0.1 * n) | {"concurrency": float(n), "tpot_s": 0.1 * n} for n in (1, 2, 3, 4, 5)
    ]  # fmt: skip
    joined = peers.attach(rows, table_of_peer)
    chooser, found = peers.PeerChooser(), options(joined, UNDER)
    chooser.fit(joined, UNDER)
    score = judge(found, budgets(found, UNDER), chooser.score(joined, found, False), False)
    assert not score.infeasible.any() and not score.regret.any()


def test_errors_of_the_peer_by_hand() -> None:
    first, each = peers.errors(peers.attach(runs(), [said("x", 0.05), said("y", 0.2)]))
    assert (first["metric"], first["rows"], first["median_ape"]) == ("ttft_s", 4, 0.2)
    assert (each["metric"], each["mean_ape"]) == ("tpot_s", 0.25)


def test_words_alone_find_the_fastest_engine() -> None:
    rows = table(
        [
            record(model, engine, Metrics(output_tokens_per_s=1 / tpot * (1 + size / 10)))
            for size, model in enumerate(("alpha", "beta", "gamma", "delta", "epsilon", "zeta") * 3)
            for engine, tpot in TPOT.items()
        ],
        texts=True,
    )
    rng = np.random.default_rng(0)
    words = {
        text: rng.normal(size=8).astype(np.float32)
        for text in sorted({line for key in TEXTS for line in rows.keys[key].tolist()})
    }
    test = rows.keys["model"] == "zeta"
    for also in (False, True):
        chooser = Worded(words, also)
        chooser.fit(rows.take(~test), TOKENS)
        found = options(rows.take(test), TOKENS)
        score = judge(found, budgets(found, TOKENS), chooser.score(rows.take(test), found, False), False)
        assert [found.name[pick].split("|")[0] for pick in score.pick] == ["x"]
