"""Choices, budgets and regrets, against numbers worked out by hand."""

import numpy as np
import pytest
from learn_tables import THROUGHPUT, fixed, loads, record

from metainf.domain import Compile, Metrics, Precision, Record, Technique, WeightQuantization
from metainf.learn.baselines import (
    UNSEEN,
    BestPerHardware,
    Chooser,
    NearestSetting,
    Oracle,
    Portfolio,
    Random,
    SingleBest,
)
from metainf.learn.table import Table, table
from metainf.learn.views import (
    NOISE,
    Options,
    Rules,
    Score,
    View,
    budgets,
    default_rank,
    judge,
    macro_f1,
    options,
    repeat_noise,
    value_of,
)

FIXED = View("tokens_per_s_per_device", None, "family")
BUDGET = View("tokens_per_s_per_device", "tpot_s", "family")


def judged(chooser: Chooser, train: Table, test: Table, view: View, told: bool = False) -> Score:
    chooser.fit(train, view)
    found = options(test, view)
    return judge(found, budgets(found, view), chooser.score(test, found, told), told)


def of(found: Table, model: str) -> Table:
    return found.take(found.keys["model"] == model)


def best_engines(found: Options) -> list[str]:
    return [found.name[cell[np.argmax(found.value[cell])]].split("|")[0] for cell in found.cells]


def test_every_cell_holds_its_options() -> None:
    found = options(fixed(), FIXED)
    assert [len(cell) for cell in found.cells] == [3] * len(THROUGHPUT)
    assert sorted(found.value) == sorted(v for row in THROUGHPUT.values() for v in row.values())
    assert sorted(best_engines(found)) == ["x", "x", "y", "z", "z"]
    assert np.isinf(budgets(found, FIXED)).all()


def test_repeats_are_merged_by_their_median_and_failures_left_out() -> None:
    values = (10.0, 40.0, 20.0)
    rows = [record("alpha", "x", Metrics(output_tokens_per_s=value)) for value in values]
    rows += [record("alpha", "y", Metrics(output_tokens_per_s=5.0)), record("alpha", "z", None)]
    found = options(table(rows), FIXED)
    assert found.value.tolist() == [20.0, 5.0]
    assert [len(member) for member in found.members] == [3, 1]
    assert found.merged(np.array([1.0, 2.0, 30.0, 4.0, 5.0])).tolist() == [2.0, 4.0]


def test_a_cell_with_one_option_is_no_choice() -> None:
    rows = table([record("alpha", "x", Metrics(output_tokens_per_s=1.0))])
    found = options(rows, FIXED)
    assert len(found.value) == 0 and found.cells == []
    assert len(options(loads().take(np.arange(3)), BUDGET).value) == 0, "a budget needs four options"


def test_values_are_per_device_and_inverse_where_less_is_better() -> None:
    one = table(
        [record("alpha", "x", Metrics(output_tokens_per_s=8.0, tpot_s=0.5, energy_j_per_request=4.0))]
    )
    one.columns["num_devices"][:] = 2.0
    assert value_of(one, View("tokens_per_s_per_device")).tolist() == [4.0]
    assert value_of(one, View("speed")).tolist() == [2.0]
    assert value_of(one, View("energy")).tolist() == [0.25]
    assert np.isnan(value_of(one, View("images_per_s"))).all()


def test_budgets_are_the_quartiles_of_the_cell() -> None:
    found = options(loads(), BUDGET)
    assert budgets(found, BUDGET).tolist() == [[2.0, 3.0, 4.0]] * 10


def test_regret_under_a_budget_by_hand() -> None:
    found = options(loads(("alpha",)), BUDGET)
    allowed = budgets(found, BUDGET)
    greedy = np.repeat(found.value[:, None], 3, axis=1)
    untold, told = judge(found, allowed, greedy, False), judge(found, allowed, greedy, True)
    assert untold.regret.tolist() == [1.0, 1.0, 1.0] and untold.infeasible.all() and not untold.hit.any()
    assert told.regret.tolist() == [0.0, 0.0, 0.0] and told.hit.all() and not told.infeasible.any()
    shy = judge(found, allowed, -greedy, False)
    assert shy.regret.tolist() == pytest.approx([1 - 10 / 20, 1 - 10 / 30, 1 - 10 / 40])
    assert not shy.infeasible.any() and shy.clear.all()


def test_a_tie_within_the_noise_is_not_clear() -> None:
    rows = [record("alpha", e, Metrics(output_tokens_per_s=v)) for e, v in (("x", 100.0), ("y", 99.0))]
    found = options(table(rows), FIXED)
    score = judge(found, budgets(found, FIXED), np.array([[0.0], [1.0]]), False)
    assert score.clear.tolist() == [False] and score.hit.tolist() == [False]
    assert score.regret[0] == pytest.approx(0.01)


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize(("rows", "view"), [(fixed(), FIXED), (loads(), BUDGET)], ids=["fixed", "budget"])
def test_the_oracle_has_no_regret_and_chance_has_some(rows: Table, view: View, told: bool) -> None:
    oracle = judged(Oracle(), rows, rows, view, told)
    assert not oracle.regret.any() and oracle.hit.all() and not oracle.infeasible.any()
    chance = [judged(Random(), rows, rows, view, told).regret.mean() for _ in range(2)]
    assert 0 < np.mean(chance) < 1
    assert chance[0] == chance[1]


def test_the_single_best_picks_the_option_that_was_best_on_average() -> None:
    small = fixed().take(fixed().keys["device"] == "small")
    train = small.take(small.keys["model"] != "beta")
    score = judged(SingleBest(), train, of(small, "beta"), FIXED)
    assert score.regret.tolist() == pytest.approx([1 - 80 / 100])
    others = small.take(small.keys["model"] != "alpha")
    assert judged(SingleBest(), others, of(small, "alpha"), FIXED).regret.tolist() == [0.0]


def test_best_per_hardware_knows_the_device() -> None:
    rows = fixed()
    train, test = of(rows, "alpha"), of(rows, "beta")
    score = judged(BestPerHardware(), train, test, FIXED)
    found = options(test, FIXED)
    picks = {found.name[pick].split("|")[0] for pick in score.pick}
    assert picks == {"x", "z"}
    assert sorted(score.regret) == pytest.approx([0.0, 1 - 80 / 100])


def test_the_nearest_setting_is_asked() -> None:
    rows = fixed().take(fixed().keys["device"] == "small")
    score = judged(NearestSetting(k=1), rows, rows, FIXED)
    assert not score.regret.any(), "each setting is its own nearest"


def test_the_portfolio_begins_with_the_single_best() -> None:
    rows = fixed()
    found = options(rows, FIXED)
    portfolio, single = Portfolio(), SingleBest()
    for chooser in (portfolio, single):
        chooser.fit(rows, FIXED)
    first, best = (np.argmax(c.score(rows, found, False)[:, 0]) for c in (portfolio, single))
    assert found.name[first] == found.name[best]


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("make", [SingleBest, BestPerHardware, NearestSetting, Portfolio])
@pytest.mark.parametrize("view", [FIXED, BUDGET], ids=["fixed", "budget"])
def test_an_option_never_seen_scores_below_every_known_one(
    make: type[Chooser], view: View, told: bool
) -> None:
    train, test = (fixed(), fixed()) if view is FIXED else (loads(("alpha",)), loads(("beta",)))
    chooser, found = make(), options(test, view)
    fresh = Options(found.cell, found.members, found.name.copy(), found.value, found.limit)
    fresh.name[0] = "new"
    chooser.fit(train, view)
    scores = chooser.score(test, fresh, told)
    assert scores.shape == budgets(fresh, view).shape and np.isfinite(scores).all()
    assert (scores[0] <= 0.5 * UNSEEN).all() and (scores[1:] >= scores[0]).all()
    ever = found.limit[:, None] <= budgets(found, view) if told else np.ones(scores.shape, dtype=bool)
    higher = scores[1:] > scores[0]
    assert higher[ever[1:]].all(), "told, what a budget never allowed counts as never seen under it"


def test_macro_f1() -> None:
    true = np.array(["a", "a", "b", "b"])
    assert macro_f1(true, true) == 1.0
    assert macro_f1(true, np.array(["a", "b", "b", "b"])) == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert np.isnan(macro_f1(true[:0], true[:0]))


def with_techniques(row: Record, *techniques: Technique) -> Record:
    return row.model_copy(update={"method": row.method.model_copy(update={"techniques": techniques})})


def three_qualities() -> Table:
    """One cell: plain 100, compiled 150, FP8 300, FP8 compiled 400 tokens/s."""
    eight = WeightQuantization(format="fp8")
    made: list[tuple[float, tuple[Technique, ...]]] = [
        (100.0, ()), (150.0, (Compile(),)), (300.0, (eight,)), (400.0, (Compile(), eight)),
    ]  # fmt: skip
    rows = [
        with_techniques(record("alpha", "x", Metrics(output_tokens_per_s=v)), *techniques)
        for v, techniques in made
    ]
    return table(rows)


def test_one_quality_parts_a_cell() -> None:
    rows = three_qualities()
    assert len(options(rows, FIXED).cells) == 1
    strict = options(rows, View("tokens_per_s_per_device", quality="same"))
    assert sorted(sorted(strict.value[cell]) for cell in strict.cells) == [[100.0, 150.0], [300.0, 400.0]]


def test_devices_may_be_part_of_the_cell_or_of_the_choice() -> None:
    rows = three_qualities()
    rows.columns["num_devices"][:] = [1.0, 1.0, 2.0, 2.0]
    free, held = (options(rows, View("tokens_per_s_per_device", devices=d)) for d in ("free", "fixed"))
    assert [len(cell) for cell in free.cells] == [4] and [len(cell) for cell in held.cells] == [2, 2]


def test_equal_scores_are_judged_by_expectation() -> None:
    found = options(fixed().take(np.arange(3)), FIXED)
    score = judge(found, budgets(found, FIXED), np.zeros((3, 1)), False)
    assert score.regret[0] == pytest.approx(1 - (1 + 0.5 + 0.25) / 3)
    assert score.hit[0] == pytest.approx(1 / 3)


def test_acceleration_is_against_the_option_with_the_fewest_techniques() -> None:
    rows = three_qualities()
    found = options(rows, FIXED)
    rules = Rules(default_rank(rows, found, rows))
    best = judge(found, budgets(found, FIXED), found.value[:, None], False, rules)
    assert np.exp(best.gain).tolist() == pytest.approx([4.0])
    plain = judge(found, budgets(found, FIXED), -found.value[:, None], False, rules)
    assert plain.gain.tolist() == [0.0]


def test_of_equally_plain_options_the_most_frequent_family_is_the_default() -> None:
    rows = [record("alpha", "x", Metrics(output_tokens_per_s=10.0))]
    rows += [record("alpha", "y", Metrics(output_tokens_per_s=20.0)), record("beta", "y", None)]
    made = table(rows)
    found = options(made, FIXED)
    score = judge(
        found, budgets(found, FIXED), -found.value[:, None], False, Rules(default_rank(made, found, made))
    )
    assert np.exp(score.gain).tolist() == pytest.approx([0.5]), "y is more frequent, and twice as fast"


def test_a_pick_that_breaks_the_budget_has_no_acceleration() -> None:
    rows = loads(("alpha",))
    found = options(rows, BUDGET)
    rules = Rules(default_rank(rows, found, rows))
    greedy = np.repeat(found.value[:, None], 3, axis=1)
    assert np.isnan(judge(found, budgets(found, BUDGET), greedy, False, rules).gain).all()
    assert np.isfinite(judge(found, budgets(found, BUDGET), greedy, True, rules).gain).all()


def test_noise_comes_from_repeats_and_is_at_least_the_floor() -> None:
    assert repeat_noise(fixed(), FIXED) == NOISE
    rows = [record("alpha", "x", Metrics(output_tokens_per_s=v)) for v in (80.0, 120.0)]
    rows.append(record("alpha", "y", Metrics(output_tokens_per_s=90.0)))
    assert repeat_noise(table(rows), FIXED) == pytest.approx(np.std([80, 120], ddof=1) / 100)


def test_work_parts_text_from_pictures() -> None:
    rows = three_qualities()
    assert len(options(rows, View("tokens_per_s_per_device", work="text")).cells) == 1
    assert options(rows, View("tokens_per_s_per_device", work="pictures")).cells == []


def test_number_formats_of_sixteen_bits_are_no_technique() -> None:
    row = with_techniques(record("alpha", "x", Metrics(output_tokens_per_s=1.0)), Precision(dtype="bf16"))
    assert table([row]).keys["techniques"].tolist() == [0]
