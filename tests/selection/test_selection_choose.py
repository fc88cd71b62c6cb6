"""Selection: what wins, what is left out and why, and what no change of order or limit may do."""

import math
from collections.abc import Sequence

import pytest
from selection_fakes import MODEL, WORK, FakePredictor, around, ask, limit, machine, method, prediction

from metainf.domain import (
    BadInput,
    Batching,
    Device,
    Excluded,
    Hardware,
    Method,
    Model,
    NoFeasible,
    Objective,
    Prediction,
    Workload,
)
from metainf.selection import MethodsFor, Pair, Rules, pareto, select


def test_throughput_per_dollar_prefers_the_cheaper_of_equals() -> None:
    found = ask(
        {("a", 1): prediction(100), ("b", 1): prediction(100)},
        Objective(aim="throughput_per_dollar"),
        {"a": 4.0, "b": 2.0},
    )
    assert [c.hardware.device.name for c in found.ranked] == ["b", "a"]
    assert found.ranked[0].score == pytest.approx(2 * found.ranked[1].score)


def test_a_fast_method_that_probably_fails_loses() -> None:
    answers = {("a", 1): prediction(180, p_ok=0.55), ("a", 2): prediction(110, p_ok=0.99)}
    found = ask(answers, Objective(aim="throughput"), {"a": 1.0})
    assert limit(found.ranked[0].method) == 2


def test_never_running_never_wins_and_is_told_as_unlikely() -> None:
    answers = {("a", 1): prediction(1e9, p_ok=0.0), ("a", 2): prediction(1)}
    found = ask(answers, Objective(aim="throughput", confidence=0.01), {"a": 1.0})
    assert [limit(c.method) for c in found.ranked] == [2]
    (out,) = found.excluded
    assert out.limit == "unlikely" and "0%" in out.reason and "history" in out.reason


def test_a_low_chance_says_memory_only_where_memory_is_tight() -> None:
    model = Model(name="m", params_b=8.0, num_layers=32, num_heads=32, num_kv_heads=8, hidden_size=4096)
    plain = Method(engine="vllm", techniques=(Batching(max_sequences=1),))
    answers = FakePredictor({("a", 1): prediction(p_ok=0.3)})
    told = {}
    for gib in (20.0, 80.0):
        card = Hardware(device=Device(name="a", memory_gib=gib), count=1)
        with pytest.raises(NoFeasible) as error:
            select(model, WORK, Objective(aim="throughput"), [(card, 1.0)], answers, lambda _: [plain])
        told[gib] = str(error.value)
    assert "memory is tight: needs" in told[20.0]
    assert "failed in the history" in told[80.0] and "memory" not in told[80.0]


def test_chance_of_meeting_a_bound_follows_the_interval() -> None:
    answers = {("a", 1): prediction(ttft=0.2, factor=1.5, p_ok=1.0)}
    exact = ask(answers, Objective(aim="throughput", max_ttft_s=0.2), {"a": 1.0}).ranked[0]
    upper = ask(answers, Objective(aim="throughput", max_ttft_s=0.3), {"a": 1.0}).ranked[0]
    assert exact.p_feasible == pytest.approx(0.5)
    assert upper.p_feasible == pytest.approx(0.95)


def test_score_is_chance_times_throughput_that_spread_does_not_reward() -> None:
    found = ask({("a", 1): prediction(100, p_ok=0.8)}, Objective(aim="throughput"), {"a": 1.0}).ranked[0]
    sigma = math.log(1.3) / 1.6448536
    assert found.score == pytest.approx(0.8 * 100 * math.exp(-(sigma**2) / 2))


def test_job_budget_is_price_times_runtime() -> None:
    # 3,600 requests of 100 tokens at 100 tokens/s are one hour.
    answers = {("a", 1): prediction(100, factor=1.000001)}
    assert ask(answers, Objective(max_usd=2.01), {"a": 2.0}).ranked
    with pytest.raises(NoFeasible, match=r"max_usd binds; without it vllm on 1 × a at 2\.00 \$/h"):
        ask(answers, Objective(max_usd=1.99), {"a": 2.0})


def test_job_budget_without_a_number_of_requests_is_refused() -> None:
    with pytest.raises(BadInput, match="num_requests"):
        ask({("a", 1): prediction()}, Objective(max_usd=2), {"a": 2.0}, workload=Workload())


def test_price_per_million_tokens_turns_the_interval_round() -> None:
    found = ask({("a", 1): prediction(100, factor=2)}, Objective(aim="throughput"), {"a": 3.6}).ranked[0]
    cost = found.usd_per_million_tokens
    assert cost is not None
    assert (cost.low, cost.value, cost.high) == (pytest.approx(5), pytest.approx(10), pytest.approx(20))


def test_unknown_price_is_unknown_not_free() -> None:
    answers = {("a", 1): prediction(1), ("b", 1): prediction(1000)}
    found = ask(answers, Objective(aim="throughput_per_dollar"), {"a": 1.0, "b": None})
    assert [c.hardware.device.name for c in found.ranked] == ["a"]
    assert [(out.limit, "price" in out.reason) for out in found.excluded] == [("unknown", True)]


def test_a_bound_on_an_unpredicted_metric_is_unknown() -> None:
    bare = Prediction(p_ok=1.0, metrics={"output_tokens_per_s": around(10)})
    answers = {("a", 1): bare, ("a", 2): prediction()}
    found = ask(answers, Objective(aim="throughput", max_ttft_s=1), {"a": 1.0})
    assert [out.limit for out in found.excluded] == ["unknown"]
    assert "max_ttft_s" in found.excluded[0].reason


def test_quality_floor_uses_the_recovery_given() -> None:
    answers = {("a", k): prediction(100 * k) for k in (1, 2, 3, 4)}
    rules = Rules(recovery={"bf16": 1.0, "FP8": 0.998, "awq": 0.97})
    found = ask(answers, Objective(aim="throughput", min_quality_recovery=0.99), {"a": 1.0}, rules)
    assert [limit(c.method) for c in found.ranked] == [2, 1]
    assert {out.limit for out in found.excluded} == {"quality"}


def test_latency_aim_adds_up_where_end_to_end_is_not_predicted() -> None:
    answers = {("a", 1): prediction(ttft=0.1, tpot=0.05), ("a", 2): prediction(ttft=1.0, tpot=0.01)}
    found = ask(answers, Objective(aim="latency", max_e2e_s=4), {"a": 1.0})
    assert [limit(c.method) for c in found.ranked] == [2]  # 1 + 99 × 0.01 s beats 0.1 + 99 × 0.05 s


def test_an_uncertain_latency_is_not_rewarded() -> None:
    answers = {("a", 1): prediction(ttft=0.2, factor=3), ("a", 2): prediction(ttft=0.2, factor=1.1)}
    found = ask(answers, Objective(aim="ttft"), {"a": 1.0})
    assert limit(found.ranked[0].method) == 2


def test_checks_put_out_before_prediction() -> None:
    seen: list[Pair] = []

    class Watching(FakePredictor):
        def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]:
            seen.extend(pairs)
            return super().predict(model, workload, pairs)

    def check(hardware: Hardware, found: Method) -> Excluded | None:
        if limit(found) == 1:
            return Excluded(hardware=hardware, method=found, limit="conflict", reason="bad pair")
        return None

    answers = {("a", 1): prediction(), ("a", 2): prediction()}
    methods_for: MethodsFor = lambda _: [method(0), method(1)]  # noqa: E731
    priced = [(machine("a"), 1.0)]
    found = select(MODEL, WORK, Objective(), priced, Watching(answers), methods_for, Rules(check=check))
    assert [limit(pair[1]) for pair in seen] == [2]
    assert [(out.limit, out.reason) for out in found.excluded] == [("conflict", "bad pair")]


def test_commands_and_notes_come_with_the_candidates() -> None:
    rules = Rules(command=lambda h, m: f"run {m.engine}", notes=lambda h, m: ("careful",))
    found = ask({("a", 1): prediction()}, Objective(), {"a": 1.0}, rules).ranked[0]
    assert (found.command, found.notes) == ("run vllm", ("careful",))


def test_infeasible_tells_the_binding_limit_and_the_cheapest_way_out() -> None:
    answers = {("cheap", 1): prediction(10, ttft=5.0), ("dear", 1): prediction(100, ttft=0.1)}
    objective = Objective(aim="throughput", max_ttft_s=0.5, max_usd_per_hour=3)
    with pytest.raises(NoFeasible) as caught:
        ask(answers, objective, {"cheap": 1.0, "dear": 8.0})
    text = str(caught.value)
    assert "1 by budget" in text and "1 by slo" in text
    assert "max_ttft_s binds; without it vllm on 1 × cheap at 1.00 $/h (ttft_s 5 expected, limit 0.5" in text
    assert "max_usd_per_hour binds; without it vllm on 1 × dear at 8.00 $/h" in text
    assert text.index("cheap") < text.index("dear")


def test_infeasible_when_two_limits_bind_together() -> None:
    objective = Objective(aim="throughput", max_ttft_s=0.01, max_usd_per_hour=0.5)
    with pytest.raises(NoFeasible, match="more than one limit binds"):
        ask({("a", 1): prediction()}, objective, {"a": 1.0})


def test_nothing_proposed_is_said_plainly() -> None:
    with pytest.raises(NoFeasible, match="no engine proposes a method for m on a"):
        select(MODEL, WORK, Objective(), [(machine("a"), 1.0)], FakePredictor({}), lambda _: [])


def test_excluded_are_grouped_with_the_nearest_miss() -> None:
    answers = {("a", k): prediction(ttft=float(k)) for k in (1, 2, 3)} | {("b", 1): prediction()}
    found = ask(answers, Objective(aim="throughput", max_ttft_s=0.5), {"a": 1.0, "b": 1.0})
    (out,) = found.excluded
    assert limit(out.method) == 1
    assert out.reason.endswith("(2 more like it)")


def test_a_predictor_of_the_wrong_length_is_refused() -> None:
    class Short:
        def predict(self, model: Model, workload: Workload, pairs: Sequence[Pair]) -> list[Prediction]:
            return []

    with pytest.raises(BadInput, match="expected 1 predictions, found 0"):
        select(MODEL, WORK, Objective(), [(machine("a"), 1.0)], Short(), lambda _: [method(0)])


def test_ties_are_settled_by_content() -> None:
    answers = {("a", k): prediction() for k in range(1, 31)}
    found = ask(answers, Objective(), {"a": 1.0}, Rules(top=5))
    expected = sorted(method(k - 1).id for k in range(1, 31))[:5]
    assert [c.method.id for c in found.ranked] == expected


def test_pareto_front_holds_no_dominated_choice() -> None:
    answers = {
        ("a", 1): prediction(100, tpot=0.01),
        ("a", 2): prediction(400, tpot=0.04),
        ("a", 3): prediction(90, tpot=0.02),
        ("a", 4): prediction(200, tpot=0.02),
    }
    found = ask(answers, Objective(), {"a": 1.0})
    assert [limit(c.method) for c in pareto(found.ranked)] == [1, 4, 2]
    assert pareto([]) == ()
