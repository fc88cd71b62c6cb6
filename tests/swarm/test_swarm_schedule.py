"""The meta-scheduler: what it decides and learns, and the nodes on which it is played."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, NoFeasible
from metainf.swarm.schedule.caching import Prefixes
from metainf.swarm.schedule.clairvoyant import knowing
from metainf.swarm.schedule.deciding import choose, outlook
from metainf.swarm.schedule.learning import Learned
from metainf.swarm.schedule.node import Node, Sequence
from metainf.swarm.schedule.planning import FADES_S, Flow, Following, beginning, planned, switch
from metainf.swarm.schedule.policies import HOW, Fixed, Ours
from metainf.swarm.schedule.simulating import Coming, Scene, Simulation, Slowed
from metainf.swarm.schedule.words import BLOCK_TOKENS, Ask, Outcome, Rates, Swarm

METHODS = ("plain", "quantized")
NOW = 1000.0


def rates(**other: object) -> Rates:
    """Two kinds of hardware, the second twice as fast; the second method is half as slow again."""
    told = {
        "methods": METHODS,
        "prefill_s_per_token": np.array([[2e-4, 1e-4], [1e-4, 5e-5]]),
        "step_s": np.array([[0.02, 0.01], [0.01, 0.005]]),
        "step_per_sequence_s": np.array([[1e-3, 5e-4], [5e-4, 2.5e-4]]),
        "most_sequences": np.full((2, 2), 16),
        "cached_blocks": np.full((2, 2), 100),
        "spread": np.full((2, 2), 0.2),
    }
    return Rates(**(told | other))  # type: ignore[arg-type]


def swarm(*kinds: int, usd_per_hour: float = 3.6, method: int = 0) -> Swarm:
    count = len(kinds)
    return Swarm(
        kind=np.array(kinds),
        method=np.full(count, method),
        usd_per_s=np.full(count, usd_per_hour / 3600),
        reputation=np.ones(count),
        labels=tuple(frozenset() for _ in kinds),
    )


def learned(count: int) -> Learned:
    return Learned(count, 2, len(METHODS))


def ask(**other: object) -> Ask:
    told = {"input_tokens": 1000, "output_tokens": 100.0, "max_ttft_s": 1.0, "max_tpot_s": 0.05}
    return Ask(**(told | other))  # type: ignore[arg-type]


def request(count: int, **other: object) -> tuple[Ask, np.ndarray, float]:
    return ask(**other), np.zeros(count), NOW


def test_the_faster_node_is_taken_at_the_same_price_and_the_cheaper_at_the_same_speed() -> None:
    assert choose(swarm(0, 1), rates(), learned(2), request(2), 100.0).node == 1
    cheap = swarm(1, 1)
    cheap.usd_per_s[1] /= 4
    assert choose(cheap, rates(), learned(2), request(2), 100.0).node == 1


def test_a_node_that_holds_the_prefix_is_taken() -> None:
    told = (ask(), np.array([0.0, 900.0]), NOW)
    made = choose(swarm(0, 0), rates(), learned(2), told, 100.0)
    assert (made.node, made.cached_tokens) == (1, 900)
    assert made.ttft_s == pytest.approx(100 * 2e-4 + 0.021)


def test_limits_labels_reputation_and_money_bind() -> None:
    here = swarm(1, 0, 1)
    here.labels = (frozenset(), frozenset({"tee"}), frozenset({"tee"}))
    here.reputation[2] = 0.4
    assert choose(here, rates(), learned(3), request(3, labels=frozenset({"tee"})), 1.0).node == 2
    both = {"labels": frozenset({"tee"}), "least_reputation": 0.5}
    assert choose(here, rates(), learned(3), request(3, **both), 1.0).node == 1
    with pytest.raises(NoFeasible, match="labels and reputation"):
        choose(here, rates(), learned(3), request(3, labels=frozenset({"moon"})), 1.0)
    with pytest.raises(NoFeasible, match="within 1e-09 USD"):
        choose(here, rates(), learned(3), request(3, max_usd=1e-9), 1.0)


def test_without_a_forecast_the_least_loaded_is_asked() -> None:
    here = swarm(0, 0)
    here.running[0] = 3
    made = choose(here, rates(step_s=np.full((2, 2), np.nan)), learned(2), request(2), 1.0)
    assert (made.node, made.fallback) == (1, True)
    assert math.isnan(made.p_meets)


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(BadInput, match="expected arrays"):
        rates(step_s=np.zeros((2, 3)))


@given(st.floats(0.01, 10), st.floats(0.001, 0.2), st.floats(1.0, 5.0))
def test_wider_limits_are_met_more_likely(ttft_s: float, tpot_s: float, times: float) -> None:
    here = swarm(0, 1)
    narrow = outlook(here, rates(), learned(2), request(2, max_ttft_s=ttft_s, max_tpot_s=tpot_s))
    limits = {"max_ttft_s": ttft_s * times, "max_tpot_s": tpot_s * times}
    wide = outlook(here, rates(), learned(2), request(2, **limits))
    assert (wide.p_meets >= narrow.p_meets - 1e-12).all()
    assert ((wide.p_meets >= 0) & (wide.p_meets <= 1)).all()


@given(st.integers(0, 30), st.floats(0, 50_000))
def test_more_load_is_never_quicker(running: int, waiting: float) -> None:
    idle, busy = swarm(0), swarm(0)
    busy.running[:], busy.waiting_tokens[:] = running, waiting
    before = outlook(idle, rates(), learned(1), request(1))
    after = outlook(busy, rates(), learned(1), request(1))
    assert after.ttft_s[0] >= before.ttft_s[0]
    assert after.tpot_s[0] >= before.tpot_s[0]


def test_what_is_seen_of_a_node_is_learnt_and_its_kind_hears_of_it() -> None:
    here, known = swarm(0, 0, 1), learned(3)
    for _ in range(20):
        known.saw(here, Outcome(0, 0, 3.0, 3.0))
    shift, unsure = known.shift(here, 1)
    assert shift[0] == pytest.approx(math.log(3.0), abs=0.15)
    assert 0.1 < shift[1] < shift[0]
    assert shift[2] == 0
    assert unsure[0] < unsure[1] < unsure[2]


def test_a_node_that_changes_is_believed_within_a_few_requests() -> None:
    here, known = swarm(0, 0), learned(2)
    for _ in range(200):
        known.saw(here, Outcome(0, 0, 1.0, 1.0))
    for _ in range(6):
        known.saw(here, Outcome(0, 0, 5.0, 5.0))
    assert known.shift(here, 1)[0][0] > math.log(3.0)


@given(st.sampled_from([0.0, -1.0, math.nan, math.inf, None]))
def test_outcomes_that_say_nothing_change_nothing(ratio: float | None) -> None:
    here, known = swarm(0), learned(1)
    known.saw(here, Outcome(0, 0, ratio, ratio))
    assert known.shift(here, 0)[0][0] == known.shift(here, 1)[0][0] == 0


def test_a_node_that_fails_is_left_alone() -> None:
    here, known = swarm(1, 0), learned(2)
    for _ in range(10):
        known.saw(here, Outcome(0, 0, None, None, failed=True))
    assert choose(here, rates(), known, request(2), 1.0).node == 1


def flow(rate_per_s: float) -> Flow:
    return Flow(rate_per_s, 1000.0, 100.0, 1.0, 0.05)


def test_a_node_changes_its_method_where_that_pays() -> None:
    here = swarm(0, 1)
    found = switch(here, rates(), learned(2), flow(2.0), (30.0, 900.0))
    assert found is not None
    assert found[1] == 1
    assert switch(here, rates(), learned(2), flow(2.0), (30.0, 1.0)) is None
    assert switch(swarm(0, 1, method=1), rates(), learned(2), flow(2.0), (30.0, 900.0)) is None
    here.running[:] = 1
    assert switch(here, rates(), learned(2), flow(2.0), (30.0, 900.0)) is None


def test_which_method_is_best_follows_the_traffic() -> None:
    """The first method reads quickly, the second writes quickly: long documents and short chats differ."""
    other = rates(prefill_s_per_token=np.array([[1e-4, 8e-4], [1e-4, 8e-4]]))
    chat, documents = Flow(2.0, 100.0, 400.0, 5.0, 0.05), Flow(1.0, 6000.0, 20.0, 8.0, 0.2)
    times = (30.0, 900.0)
    night = switch(swarm(0, 0, method=0), other, learned(2), chat, times)
    day = switch(swarm(0, 0, method=1), other, learned(2), documents, times)
    assert night is not None and night[1] == 1
    assert day is not None and day[1] == 0
    assert switch(swarm(0, 0, method=1), other, learned(2), chat, times) is None
    little = dataclasses.replace(chat, rate_per_s=1.0)
    assert switch(swarm(0, 0, method=0), other, learned(2), little, times) is None, (
        "one node is enough as it is"
    )


def test_each_node_begins_with_what_a_dollar_of_it_buys_most_with() -> None:
    """The first kind reads eight times as quickly with the first method, the second with the second."""
    other = rates(prefill_s_per_token=np.array([[1e-4, 8e-4], [8e-4, 1e-4]]))
    documents = Flow(1.0, 6000.0, 20.0, 8.0, 0.2)
    assert beginning(swarm(0, 1, 0), other, learned(3), documents).tolist() == [0, 1, 0]
    nothing = rates(step_s=np.full((2, 2), np.nan))
    assert beginning(swarm(0, 1), nothing, learned(2), documents).tolist() == [0, 0]


@given(st.floats(0.0, 100.0))
def test_a_change_is_judged_at_no_less_than_the_mean_of_the_traffic(burst_per_s: float) -> None:
    """Requests that come regularly see few beside them, and yet load the nodes."""
    steady = dataclasses.replace(flow(2.0), burst_per_s=min(burst_per_s, 2.0))
    assert switch(swarm(0, 1), rates(), learned(2), steady, (30.0, 900.0)) == switch(
        swarm(0, 1), rates(), learned(2), flow(2.0), (30.0, 900.0)
    )


def test_requests_in_bursts_see_more_of_each_other_than_the_mean() -> None:
    together, apart = Following(), Following()
    for number in range(100):
        together.came(ask(), 0.0, 10.0 * (number // 10) + 0.01 * (number % 10))
        apart.came(ask(), 0.0, float(number))
    bursts, steady = together.flow(), apart.flow()
    assert bursts is not None and steady is not None
    assert bursts.rate_per_s == pytest.approx(steady.rate_per_s, rel=0.2)
    assert bursts.burst_per_s > 1.2 * steady.rate_per_s
    assert steady.burst_per_s == pytest.approx(1.0, rel=0.2)


def test_what_a_kind_shows_with_one_method_is_half_believed_of_the_others() -> None:
    here, known = swarm(0, 0), learned(2)
    before = known.doubt(here, 1, np.array([1, 1]))
    for _ in range(50):
        known.saw(here, Outcome(0, 0, None, 2.0))
    shown, other = (float(known.shift(here, 1, np.full(2, method))[0][1]) for method in (0, 1))
    assert math.log(2.0) > shown > other > 0.25 * shown, "on a node that was never asked"
    assert (known.doubt(here, 1, np.array([0, 1])) > 0).tolist() == [False, True]
    assert known.doubt(here, 1, np.array([1, 1])) == pytest.approx(before), (
        "the other has no outcome of its own"
    )


@given(st.floats(0.01, 50.0), st.floats(1.0, 4.0))
def test_more_traffic_never_needs_fewer_nodes(rate_per_s: float, times: float) -> None:
    here = swarm(0, 0, 0, 0, 0)
    few = planned(here, rates(), learned(5), flow(rate_per_s))
    many = planned(here, rates(), learned(5), flow(rate_per_s * times))
    assert (few.load > 0).sum() <= (many.load > 0).sum()
    assert few.good_per_usd > 0


def test_little_traffic_stays_on_the_node_that_gives_most_for_a_dollar() -> None:
    here = swarm(0, 1, 0)
    here.usd_per_s[0] /= 10
    assert np.flatnonzero(planned(here, rates(), learned(3), flow(0.2)).load).tolist() == [0]
    nothing = rates(step_s=np.full((2, 2), np.nan))
    assert planned(here, nothing, learned(3), flow(0.2)).load.sum() == 0


def test_a_planned_node_shares_its_cost_between_those_that_will_come() -> None:
    alone = outlook(swarm(0, 0), rates(), learned(2), request(2), load=np.array([0.0, 8.0]))
    assert alone.usd[1] < 0.5 * alone.usd[0]


def test_the_traffic_of_late_is_followed() -> None:
    following = Following()
    assert following.flow() is None
    for number in range(400):
        following.came(ask(), 400.0, number * 0.5)
    seen = following.flow()
    assert seen is not None
    assert seen.rate_per_s == pytest.approx(2.0, rel=0.05)
    assert (seen.input_tokens, seen.max_ttft_s) == (pytest.approx(600.0), pytest.approx(1.0))
    following.came(ask(), 0.0, 199.5 + 5 * FADES_S)
    assert following.flow().rate_per_s < 0.1  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.integers(0, 2), st.lists(st.integers(0, 9), max_size=6)), max_size=40))
def test_prefixes_know_what_each_node_holds(sent: list[tuple[int, list[int]]]) -> None:
    prefixes = Prefixes([3, 0, 8])
    for node, blocks in sent:
        prefixes.sent(node, blocks)
    for node, room in enumerate((3, 0, 8)):
        assert len(prefixes.held[node]) <= room
        for block in range(10):
            assert (node in prefixes.where.get(block, ())) == (block in prefixes.held[node])
            assert prefixes.tokens([block])[node] == BLOCK_TOKENS * (block in prefixes.held[node])
    prefixes.emptied(2, 8)
    assert prefixes.tokens([blocks[0] for _, blocks in sent if blocks][:1])[2] == 0


def test_a_prefix_counts_from_its_beginning() -> None:
    prefixes = Prefixes([9, 9])
    prefixes.sent(0, [1, 2, 3])
    prefixes.sent(1, [2, 3])
    assert prefixes.tokens([1, 2, 7]).tolist() == [2 * BLOCK_TOKENS, 0]


def finish(node: Node, *sequences: Sequence) -> list[Sequence]:
    for each in sequences:
        node.advance(each.asked_s)
        node.add(each)
    return node.advance(1e6)


def test_a_simulated_node_keeps_time() -> None:
    alone = Sequence(0, 0.5, 101, 0.0)
    node = Node(0.02, 0.001, 8)
    assert finish(node, alone) == [alone]
    assert alone.first_s == pytest.approx(0.5)
    assert node.busy_s == pytest.approx(0.5 + 100 * 0.021)
    first, second = Sequence(0, 0.5, 101, 0.0), Sequence(1, 0.5, 101, 0.0)
    both = Node(0.02, 0.001, 8)
    assert finish(both, first, second) == [first, second]
    assert second.first_s == pytest.approx(1.0)
    assert both.busy_s == pytest.approx(1.0 + 100 * 0.022)
    full = Node(0.02, 0.001, 1)
    third, fourth = Sequence(0, 0.5, 101, 0.0), Sequence(1, 0.5, 101, 0.0)
    finish(full, third, fourth)
    assert fourth.first_s == pytest.approx(0.5 + 100 * 0.021 + 0.5)


def scene(count: int, slowed: tuple[Slowed, ...] = ()) -> Scene:
    zero = np.zeros((count, 2))
    return Scene(rates(), np.arange(count) % 2, np.full(count, 3.6), zero, zero, slowed)


def trace(count: int, rate_per_s: float, seed: int = 1) -> list[Coming]:
    """Made up, with a fifth of the prompts sharing their beginning."""
    rng = np.random.default_rng(seed)
    at_s = np.cumsum(rng.exponential(1 / rate_per_s, count))
    return [
        Coming(
            float(when), ask(blocks=(1, 2) if number % 5 == 0 else (number + 9,)), int(rng.integers(20, 200))
        )
        for number, when in enumerate(at_s)
    ]


def ours(made: Scene, seed: int = 2) -> Ours:
    known = Learned(len(made.kind), *made.rates.step_s.shape)
    return Ours(made.rates, known, np.random.default_rng(seed), worth=500.0)


@pytest.mark.parametrize("how", [*HOW, "ours"])
def test_every_request_is_served_once_and_money_is_time(how: str) -> None:
    made, coming = scene(4), trace(300, 4.0)
    even = np.full(4, 0.25)
    policy = ours(made) if how == "ours" else Fixed(how, even, np.random.default_rng(2))
    simulation = Simulation(made, policy, 0)
    told = simulation.run(coming)
    assert len(told.chosen) == told.asked == 300
    assert not simulation.sent
    assert len(simulation.ttft) == 300
    busy_usd = sum(node.busy_s for node in simulation.nodes) * 0.001
    assert told.usd == pytest.approx(busy_usd + told.switches * 30 * 0.001)
    assert min(simulation.ttft) > 0
    again = Simulation(made, ours(made) if how == "ours" else Fixed(how, even, np.random.default_rng(2)), 0)
    assert again.run(coming).chosen == told.chosen


def test_who_knows_the_truth_does_no_worse_where_the_forecast_is_far_off() -> None:
    rng = np.random.default_rng(5)
    off = rng.normal(0, 0.6, (2, 6, 2))
    made = Scene(rates(), np.arange(6) % 2, np.full(6, 3.6), off[0], off[1])
    coming = trace(400, 4.0)
    blind = ours(made)
    blind.switches = False
    told = Simulation(made, blind, 0).run(coming)
    truth = Simulation(made, knowing(made, coming, 500.0), 0).run(coming)
    assert truth.good_per_usd > told.good_per_usd


def test_a_node_that_gets_slow_is_left_within_twenty_requests() -> None:
    made = scene(4, (Slowed(1, 60.0, 10.0),))
    policy = ours(made)
    policy.switches = False
    coming = trace(900, 6.0)
    told = Simulation(made, policy, 0).run(coming)
    later = [node for node, each in zip(told.chosen, coming, strict=True) if each.at_s >= 60.0]
    before = [node for node, each in zip(told.chosen, coming, strict=True) if each.at_s < 60.0]
    assert before.count(1) > 0.2 * len(before)
    assert later.count(1) <= 20
