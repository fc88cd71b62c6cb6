"""What a swarm serves, as told from announcements, and as it is drawn."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.cli.swarm_state import lines, only
from metainf.cli.swarm_top import ORDERS, ordered
from metainf.cli.swarm_top import lines as top_lines
from metainf.domain import BadInput
from metainf.swarm.plan.coverage import MANY, NONE, SwarmState, bar, swarm_state
from metainf.swarm.plan.overview import Belief, Overview, Queue, Waiting
from metainf.swarm.plan.routing import Client
from metainf.swarm.words import Announcement, Demand, Profile, Span

MODEL, OTHER = f"b2:{'a' * 32}", f"b2:{'c' * 32}"
NOW = 1000.0


def word(name: str, span: tuple[int, int], **told: Any) -> Announcement:
    features = {"decode_ms_per_block": 2.0, **told.pop("features", {})}
    return Announcement.of(
        {
            "node": name, "generation": 1, "seq": 1, "address": "127.0.0.1:1", "certificate": MODEL,
            "model": MODEL, "num_blocks": 6, "span": {"start": span[0], "end": span[1]},
            "profile": {"dtype": "float32"}, "features": features, "issued_s": NOW - 3,
            "valid_until_s": NOW + 12, **told,
        }
    )  # fmt: skip


def seen(*words: Announcement, client: Client | None = None, gone: tuple[str, ...] = ()) -> SwarmState:
    return swarm_state(words, Demand(prompt_tokens=10, new_tokens=5), NOW, client, gone)


def test_a_whole_model() -> None:
    found = seen(word("one", (0, 4)), word("two", (3, 6)), word("three", (4, 6), state="draining"))
    (model,) = found.models
    assert model.copies == (1, 1, 1, 2, 1, 1) and model.holes == () and model.complete
    assert [stage.node for stage in model.route.stages] == ["one", "two"] if model.route else False
    assert [node.node for node in model.nodes] == ["one", "two", "three"], "draining nodes are shown"
    assert found.complete() and found.complete("b2:aa") and not found.complete("b2:c")


def test_holes_and_unreachable_nodes() -> None:
    found = seen(word("one", (0, 2)), word("two", (3, 5)), word("four", (2, 6)), gone=("four",))
    (model,) = found.models
    assert model.copies == (1, 1, 0, 1, 1, 0)
    assert model.holes == (Span(start=2, end=3), Span(start=5, end=6))
    assert not model.complete and not found.complete()
    assert not next(node for node in model.nodes if node.node == "four").reached


def test_those_who_calculate_otherwise_do_not_complete_each_other() -> None:
    found = seen(word("one", (0, 3)), word("two", (3, 6), profile={"dtype": "float32", "codec": "f16"}))
    assert len(found.models) == 2 and not found.complete()
    both = seen(
        word("one", (0, 6)), word("two", (3, 6), profile=Profile(dtype="bfloat16").model_dump()),
        word("her", (0, 6), model=OTHER),
    )  # fmt: skip
    assert both.complete(), "one way to calculate is enough"
    assert not seen(word("one", (0, 6)), word("her", (0, 5), model=OTHER)).complete()


def test_old_and_superseded_words_count_for_nothing() -> None:
    found = seen(
        word("one", (0, 6), generation=1, seq=9), word("one", (0, 3), generation=2),
        word("two", (0, 6), issued_s=1.0, valid_until_s=2.0),
    )  # fmt: skip
    (model,) = found.models
    assert [node.span for node in model.nodes] == [Span(start=0, end=3)]
    assert seen().models == () and not seen().complete()


@given(st.lists(st.integers(0, 30), min_size=1, max_size=300), st.integers(1, 80))
def test_the_bar_never_hides_a_hole(copies: list[int], width: int) -> None:
    drawn = bar(copies, width)
    assert len(drawn) == min(width, len(copies))
    assert (NONE in drawn) == (0 in copies)
    if len(copies) <= width:
        assert [10 if c == MANY else 0 if c == NONE else int(c) for c in drawn] == [
            min(c, 10) for c in copies
        ]


def test_the_route_costs_what_the_round_trips_say() -> None:
    near = seen(word("one", (0, 6)), client=Client({"one": 1.0})).models[0].route
    far = seen(word("one", (0, 6)), client=Client({"one": 101.0})).models[0].route
    assert near is not None and far is not None
    assert far.expected_ms - near.expected_ms == pytest.approx(100 * 5)


def test_standings_are_shown_and_heeded() -> None:
    """Who is in quarantine is in no route, who is on trial only where the others do not hold all blocks."""
    words = [word("one", (0, 6)), word("two", (0, 6)), word("three", (0, 6))]
    known = {"one": 0.1, "two": 2.0, "three": 0.1}
    strict = Client({}, known, avoid={"one"}, doubted={"three"})
    (model,) = seen(*words, client=strict).models
    assert model.route is not None and [stage.node for stage in model.route.stages] == ["two"]
    assert {node.node: node.standing for node in model.nodes} == {
        "one": "quarantine", "two": "tried", "three": "on trial"
    }  # fmt: skip
    said = "\n".join(lines(seen(*words, client=strict)))
    assert (
        "reputation" in said and "quarantine" in said and "reputation" not in "\n".join(lines(seen(*words)))
    )
    (model,) = seen(words[0], words[2], client=strict).models
    assert model.route is not None and [stage.node for stage in model.route.stages] == ["three"]
    (model,) = seen(words[0], client=strict).models
    assert model.route is None and not model.complete


def test_what_is_drawn() -> None:
    told: dict[str, Any] = {"hardware": "L4", "region": "eu", "usd_per_hour": 0.5, "queue_ms": 3.0}
    found = seen(
        word("one", (0, 4), features=told), word("two", (3, 5)), word("her", (0, 6), model=OTHER),
        client=Client({"one": 7.0}), gone=("two",),
    )  # fmt: skip
    said = "\n".join(lines(found))
    assert f"{MODEL}  6 blocks, 2 nodes, float32 none torch: NOT complete" in said
    assert "copies  1111··" in said and "missing [4, 6)" in said
    assert f"{OTHER}  6 blocks, 1 nodes, float32 none torch: complete" in said
    assert "route   her [0, 6)" in said and "for 10 tokens in and 5 out" in said
    (row,) = [line.split() for line in said.splitlines() if line.startswith("  one")]
    assert row == ["one", "[0,", "4)", "online", "2", "8", "3", "7", "L4", "eu", "0.5"]
    assert "no answer" in said
    assert [each.model for each in only(found, "b2:c").models] == [OTHER]
    assert list(lines(seen())) == ["no node serves any model here"]


def looked(*words: Announcement, **told: Any) -> Overview:
    state = seen(*words)
    return Overview(directory="nats://here:4222", complete=state.complete(), state=state, **told)


def test_who_works_hardest_stands_on_top() -> None:
    there = looked(
        word("idle", (0, 6), features={"queue_ms": 1.0, "usd_per_hour": 3.0}),
        word("busy", (0, 3), features={"queue_ms": 90.0, "cache_tokens_left": 7}),
        word("slow", (3, 6), features={"queue_ms": 20.0, "decode_ms_per_block": 50.0}),
        queue=Queue(waiting=(Waiting(group="g", priority=0, jobs=12, tenants=3),), dead=2),
        believed=(Belief(node="busy", reputation=0.25),),
    )
    tops = {by: ordered(there, by)[0][1].node for by in ORDERS}
    assert tops == {"busy": "busy", "slow": "slow", "full": "busy", "dear": "idle"}
    head, queue, _, first, *rest = top_lines(there, "busy", 2)
    assert "3 nodes, 1 of 1 models whole" in head
    assert queue == "queue  g class 0: 12 of 3 tenants; 2 dead letters"
    assert first.startswith("busy") and "90" in first and "0.25" in first
    assert len(rest) == 2 and rest[-1] == "and 1 more: --most shows them"
    writing = {"method": "q8_0", "methods": [{"method": "q8_0"}, {"method": "q4_0"}], "places": 4}
    replica = word(
        "whole", (0, 6), profile={"dtype": "q8_0", "engine": "llamacpp"}, features={"writing": writing}
    )
    _, names, *rows = top_lines(looked(word("half", (0, 3)), replica), "busy", 5)
    at = names.index("method")
    assert {row.split()[0]: row[at:].split("  ")[0] for row in rows} == {
        "half": "torch float32",
        "whole": "q8_0",
    }
    lost = looked(queue=Queue(lost="the queue does not answer"))
    assert list(top_lines(lost, "busy", 5))[1] == "queue  the queue does not answer"
    with pytest.raises(BadInput, match="expected one of busy, slow, full, dear, found 'loud'"):
        ordered(there, "loud")
