"""What the queue decides, without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import NoFeasible
from metainf.swarm.broker.believing import Believed
from metainf.swarm.broker.deciding import (
    EVERY,
    MOST_ATTEMPTS,
    Turns,
    choose_group,
    expected_s,
    fate,
    group_name,
    groups_of,
    priority_of,
    share,
    wait_s,
    work_s,
)
from metainf.swarm.broker.sizes import CHAT_TOKENS, MOST_TOKENS, USUAL, size_in, size_of
from metainf.swarm.broker.words import PRIORITIES, Group, Job, Member, Wish

MODEL = "org/model-1B"


def group(name: str, **other: object) -> Group:
    return Group.of({"name": name, "model": MODEL, "slots": 2, "request_s": 1.0} | other)


@pytest.mark.parametrize(
    ("wanted_s", "work_s", "priority"), [(3.0, 1.0, 0), (0.5, 0.001, 0), (20.0, 1.0, 1), (600.0, 1.0, 2)]
)
def test_priority_follows_the_slack_that_a_request_leaves(
    wanted_s: float, work_s: float, priority: int
) -> None:
    assert priority_of(Wish(model=MODEL, wanted_s=wanted_s, work_s=work_s)) == priority


@given(st.floats(0.01, 1e4), st.floats(0.0, 1e3), st.floats(1.0, 10.0))
def test_less_time_never_lowers_the_urgency(wanted_s: float, work_s: float, times: float) -> None:
    sooner = priority_of(Wish(model=MODEL, wanted_s=wanted_s, work_s=work_s))
    assert sooner <= priority_of(Wish(model=MODEL, wanted_s=wanted_s * times, work_s=work_s))


def test_the_group_that_answers_soonest_is_chosen() -> None:
    slow, fast, full = group("slow", request_s=3.0), group("fast"), group("full", request_s=0.9, waiting=4)
    assert choose_group(Wish(model=MODEL), [slow, fast, full]).name == "fast"
    doubted = group("doubted", request_s=0.9, reputation=0.5)
    assert choose_group(Wish(model=MODEL), [fast, doubted]).name == "fast"
    assert choose_group(Wish(model=MODEL), [group("dear", usd_per_hour=3.0), group("free")]).name == "free"


def test_a_group_must_have_what_is_asked() -> None:
    groups = [
        group("away", slots=0),
        group("other", model="org/other"),
        group("card", hardware="L4"),
        group("here", hardware="H100", region="eu"),
        group("liar", hardware="H100", region="us", labels=["tee"], reputation=0.2),
        group("dear", hardware="H100", region="us", labels=["tee"], usd_per_hour=9.0),
        group("open", hardware="H100", region="us"),
    ]
    wish = Wish(
        model=MODEL,
        hardware=("H100",),
        regions=("us",),
        labels=("tee",),
        least_reputation=0.5,
        most_usd_per_hour=5.0,
    )
    with pytest.raises(NoFeasible) as told:
        choose_group(wish, groups)
    for why in (
        "no consumer",
        "serves org/other",
        "runs on L4",
        "stands in eu",
        "reputation of 0.2",
        "9.0 USD/h",
        "lacks tee",
    ):
        assert why in str(told.value)
    groups.append(group("right", hardware="H100", region="us", labels=["tee"]))
    assert choose_group(wish, groups).name == "right"
    with pytest.raises(NoFeasible, match="no group is there"):
        choose_group(wish, [])


@given(st.integers(0, 50), st.integers(1, 8), st.floats(0.1, 10))
def test_more_waiting_never_promises_an_earlier_answer(waiting: int, slots: int, reputation: float) -> None:
    few = group("a", waiting=waiting, slots=slots, reputation=reputation)
    more = few.model_copy(update={"waiting": waiting + 1})
    assert expected_s(few) <= expected_s(more)


def test_a_name_is_a_token_and_differs_where_anything_does() -> None:
    names = {group_name(m, h, r) for m in ("a/b c.d", "x/b c.d") for h in (None, "L4") for r in (None, "eu")}
    assert len(names) == 8
    assert all(Group.of({"name": n, "model": MODEL, "slots": 1, "request_s": 1.0}) for n in names)


def test_urgent_queues_come_first_and_patient_ones_are_not_starved() -> None:
    turns, waiting = Turns(), {(0, "a"): 9, (2, "a"): 9, (1, "b"): 9, (1, "c"): 0}
    firsts = [turns.order(waiting)[0][0] for _ in range(EVERY * 4)]
    assert firsts.count(0) == 4 * (EVERY - 1)
    assert firsts.count(2) == 4
    assert turns.order(waiting) == [(0, "a"), (1, "b"), (2, "a")]


@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=6, unique=True), st.sampled_from(PRIORITIES))
def test_tenants_of_a_class_take_turns(tenants: list[str], priority: int) -> None:
    turns, served = Turns(), []
    for _ in range(2 * len(tenants)):
        first = turns.order({(priority, tenant): 5 for tenant in tenants})[0][1]
        turns.served(priority, first)
        served.append(first)
    assert sorted(served) == sorted(2 * tenants)
    assert sorted(served[: len(tenants)]) == sorted(tenants)


@given(st.integers(1, 100), st.integers(0, 50))
def test_free_slots_are_divided(free: int, queues: int) -> None:
    assert 1 <= share(free, queues) <= free


def test_what_becomes_of_a_job() -> None:
    job = Job(
        transaction="sha256:" + "0" * 64,
        agent="a",
        tenant="t",
        group="g",
        issued_s=0.0,
        deadline_s=10.0,
        body="",
    )
    assert fate(job, 1, 9.9) == "run"
    assert fate(job, 1, 10.0) == "expired"
    assert fate(job, MOST_ATTEMPTS, 0.0) == "run"
    assert fate(job, MOST_ATTEMPTS + 1, 0.0) == "worn out"


@given(st.integers(1, 60), st.floats(0, 0.999))
def test_waits_grow_up_to_a_bound(attempt: int, jitter: float) -> None:
    assert 0 < wait_s(attempt, jitter) <= wait_s(attempt + 2, jitter) <= 30.0


@given(st.lists(st.booleans(), max_size=40), st.floats(0, 1e6))
def test_a_group_that_fails_is_believed_less_and_forgiven(fates: list[bool], later_s: float) -> None:
    now = [1000.0]
    believed = Believed(lambda: now[0])
    for failed in fates:
        before = believed.reputation("g.one")
        believed.saw("g.one", failed)
        after = believed.reputation("g.one")
        assert 0.1 <= after <= 1.0 and (after <= before if failed else after >= before)
        now[0] += 1.0
    assert believed.reputation("g.other") == 1.0, "nothing is known of it"
    at_once = believed.reputation("g.one")
    now[0] += later_s
    assert at_once - 1e-9 <= believed.reputation("g.one") <= 1.0


def test_who_failed_often_is_asked_only_where_others_are_much_slower() -> None:
    believed = Believed(lambda: 0.0)
    for _ in range(10):
        believed.saw("bad", failed=True)
    told = {"model": MODEL, "slots": 2, "request_s": 1.0}
    members = [Member.of({"name": f"of-{name}", "group": name, **told}) for name in ("bad", "good")]
    groups = groups_of(members, {}, believed.reputation)
    assert {each.name: each.reputation < 0.5 for each in groups} == {"bad": True, "good": False}
    assert choose_group(Wish(model=MODEL), groups).name == "good"
    busy = groups_of(members, {"good": 8}, believed.reputation)
    assert choose_group(Wish(model=MODEL), busy).name == "bad"
    with pytest.raises(NoFeasible, match="has a reputation of"):
        choose_group(Wish(model=MODEL, least_reputation=0.9), groups[:1])


def test_work_follows_the_size_of_a_request() -> None:
    usual = group("g", request_s=3.0)
    assert work_s(usual, USUAL) == 3.0 and work_s(usual, USUAL / 3) == pytest.approx(1.0)
    assert work_s(group("g", request_s=3.0, request_size=2 * USUAL), USUAL) == 1.5
    short, long = ({"prompt": "x", "max_tokens": tokens} for tokens in (1, 4000))
    assert priority_of(Wish(model=MODEL, wanted_s=30.0, work_s=work_s(usual, size_of(short)))) == 2
    assert priority_of(Wish(model=MODEL, wanted_s=30.0, work_s=work_s(usual, size_of(long)))) == 0
    assert priority_of(Wish(model=MODEL, work_s=work_s(usual, size_of(long)))) == 1, "it names no time"


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 5000))
def test_a_longer_prompt_or_a_longer_answer_is_more(prompt: int, tokens: int, more: int) -> None:
    size = size_of({"prompt": "x" * prompt, "max_tokens": tokens})
    assert size <= size_of({"prompt": "x" * (prompt + more), "max_tokens": tokens})
    assert size <= size_of({"prompt": "x" * prompt, "max_tokens": tokens + more})


def test_sizes_of_requests_of_any_form() -> None:
    assert size_of({"prompt": list(range(100)), "max_tokens": 5}) == 15.0
    assert size_of({"messages": [], "max_tokens": None}) == pytest.approx(CHAT_TOKENS, abs=1)
    assert size_of({"prompt": "", "max_tokens": -4}) == size_of({"prompt": "", "max_tokens": "x"}) > 16
    assert size_of({"prompt": "x", "max_tokens": 10**400}) <= 1.1 * MOST_TOKENS
    assert size_in('{"prompt": "\\ud800"}') is not None
    assert size_in("no") is size_in("[1]") is size_in("[" * 100_000) is None
