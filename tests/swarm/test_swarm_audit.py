"""Replay audits: the pure decisions, and real nodes that lie over real gRPC."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import NotSupported
from metainf.swarm.trust.audit import (
    Evidence,
    drawn,
    errors,
    judge,
    settle,
    spread,
    undetected,
)
from metainf.swarm.trust.audit_limits import shipped
from metainf.swarm.words import Profile, Span, Stage

for needed in ("torch", "transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(needed, reason="needs the extra swarm")

from audit_place import IMPOSSIBLE, PLAUSIBLE, PROMPT, Lying, Place, place, small_model  # noqa: E402

from metainf.swarm.net.auditing import Auditor, Finding, OwnBlocks, profile_of  # noqa: E402
from metainf.swarm.net.client import Session  # noqa: E402
from metainf.swarm.trust.audit_calibrating import Plan, Workshop, honest, lying  # noqa: E402

F32 = Profile(dtype="float32", codec="f32")
LIMIT = shipped().under(F32)
STAGE = Stage(node="node-a", span=Span(start=0, end=2))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("llama"))


def values(seed: int, tokens: int = 10, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, tokens, width)).astype(np.float32)


# Deciding


def test_the_limits_that_are_shipped_were_measured() -> None:
    assert LIMIT.honest_worst < LIMIT.worst < LIMIT.lie_worst
    assert LIMIT.honest_typical < LIMIT.typical < LIMIT.lie_typical
    assert LIMIT.audits > 0 and LIMIT.source
    with pytest.raises(NotSupported, match="expected a profile whose limit was measured"):
        shipped().under(Profile(dtype="float8"))


def test_a_profile_that_separates_nothing_is_refused() -> None:
    for limit in shipped().limits:
        if not limit.separates:
            with pytest.raises(NotSupported, match="cannot tell int8 weights from rounding"):
                shipped().under(limit.profile)


@given(st.integers(0, 10**6), st.integers(1, 40), st.floats(-9, 1))
@settings(max_examples=60, deadline=None)
def test_a_verdict_follows_the_error(seed: int, tokens: int, power: float) -> None:
    """Equal answers are honest; a verdict never turns from guilty to honest as the error grows."""
    right, noise = values(seed, tokens), values(seed + 1, tokens)
    small = judge(right + 10**power * noise, right, LIMIT)
    large = judge(right + 10 ** (power + 1) * noise, right, LIMIT)
    assert judge(right, right, LIMIT).honest
    assert small.honest or not large.honest
    assert large.worst >= small.worst
    assert small.honest == bool(small.why == "")


def test_one_bad_token_among_many_is_found() -> None:
    right = values(1, 200)
    wrong = right.copy()
    wrong[0, 137] *= 1.01
    verdict = judge(wrong, right, LIMIT)
    assert not verdict.honest and verdict.token == 137


def test_a_lie_beside_channels_of_great_size_is_found() -> None:
    """Language models give some tokens a few channels thousands of times larger than the others."""
    right = values(2, 1)
    right[0, 0, 3] = 1e4
    wrong = right + np.float32(0.01) * values(3, 1)
    wrong[0, 0, 3] = right[0, 0, 3]
    assert np.linalg.norm(wrong - right) / np.linalg.norm(right) < LIMIT.worst
    assert errors(wrong, right)[0] > 1e-3
    assert not judge(wrong, right, LIMIT).honest
    right[0, 0, 3] *= 1.001
    assert not judge(wrong, right, LIMIT).honest, "nor is a lie in the great channel itself overlooked"


@pytest.mark.parametrize(
    "claim",
    [values(1, 9), values(1, 10, 63), values(1) * np.nan, np.full((1, 10, 64), np.inf, np.float32),
     np.zeros((10, 64), np.float32)],
    ids=["fewer tokens", "narrower", "NaN", "infinity", "another rank"],
)  # fmt: skip
def test_what_cannot_be_right_is_guilty(claim: np.ndarray) -> None:
    verdict = judge(claim, values(1), LIMIT)
    assert not verdict.honest and verdict.worst == float("inf")


def test_where_two_disagree_a_third_decides() -> None:
    right, wrong = values(1), values(2)
    rounded = right * np.float32(1 + 1e-6)
    two = {"node-a": wrong, "node-b": right}
    assert not settle(two, LIMIT).decided and not settle(two, LIMIT).guilty
    three = settle({**two, "node-c": rounded}, LIMIT, lead=1)
    assert three.guilty.keys() == {"node-a"} and three.cleared == {"node-b", "node-c"}
    assert not settle({**two, "node-c": rounded}, LIMIT).decided, "by default two votes must lie between"
    four = settle({**two, "node-c": rounded, "node-d": right}, LIMIT)
    assert four.decided and four.guilty.keys() == {"node-a"}
    assert settle({"node-a": right, "node-b": rounded}, LIMIT).cleared == {"node-a", "node-b"}


def test_a_replay_of_ones_own_decides_against_any_majority() -> None:
    right, wrong = values(1), values(2)
    told = settle({"node-a": wrong, "node-b": wrong, "node-c": right}, LIMIT, own=right)
    assert told.decided and told.guilty.keys() == {"node-a", "node-b"} and told.cleared == {"node-c"}


def test_no_number_is_guilty_even_where_nobody_is_believed() -> None:
    told = settle({"node-a": values(1) * np.nan, "node-b": values(1)}, LIMIT)
    assert not told.decided and told.guilty.keys() == {"node-a"}


def test_colluders_who_are_asked_more_often_win_and_the_docs_say_so() -> None:
    wrong = values(2)
    told = settle({"node-a": values(1), "node-b": wrong, "node-c": wrong, "node-d": wrong}, LIMIT)
    assert told.guilty.keys() == {"node-a"}


@given(st.permutations(["node-a", "node-b", "node-c", "node-d"]))
def test_who_is_guilty_does_not_depend_on_the_order_of_answers(order: list[str]) -> None:
    answers = {"node-a": values(1), "node-b": values(1), "node-c": values(2), "node-d": values(1)}
    assert settle({name: answers[name] for name in order}, LIMIT).guilty.keys() == {"node-c"}


def test_the_lot_falls_as_often_as_it_should_and_on_the_same() -> None:
    fallen = [drawn(b"secret", f"session {n}", STAGE, 0.05) for n in range(20_000)]
    assert abs(np.mean(fallen) - 0.05) < 0.006  # four standard deviations
    assert fallen == [drawn(b"secret", f"session {n}", STAGE, 0.05) for n in range(20_000)]
    assert fallen != [drawn(b"another", f"session {n}", STAGE, 0.05) for n in range(20_000)]
    assert all(drawn(b"s", "x", STAGE, 1.0) for _ in range(9)) and not drawn(b"s", "x", STAGE, 0.0)


def test_how_long_a_liar_stays_unseen() -> None:
    assert undetected(149, 0.02) < 0.05 < undetected(147, 0.02)
    assert undetected(59, 0.05) < 0.05 < undetected(57, 0.05)


def test_a_limit_lies_between_rounding_and_lies() -> None:
    limit, apart = spread([1e-7, 1e-6], [1e-2, 1e-1])
    assert apart and limit == pytest.approx(1e-4)
    limit, apart = spread([1e-3], [2e-3])
    assert not apart and limit == pytest.approx(1e-2)


# Real calculations


def test_honest_answers_are_never_flagged_and_int8_weights_always(folder: Path) -> None:
    """Batches, lengths and threads of all kinds on a small model; the benchmark does 10,000."""
    shop = Workshop(folder, F32)
    plan = Plan(audits=80, most_tokens=12, lies=16)
    flags = [judge(*pair, LIMIT).honest for pair in honest(shop, "f32", plan, np.random.default_rng(1))]
    assert len(flags) == 80 and all(flags)
    caught = [judge(*pair, LIMIT).honest for pair in lying(shop, "f32", plan, np.random.default_rng(2))]
    assert len(caught) == 16 and not any(caught)


async def text(session: Session, count: int = 12) -> list[int]:
    return [token async for token in session.generate(PROMPT, count)]


async def audited(swarm: Place, session: Session, own: bool) -> dict[str, Finding]:
    holding = OwnBlocks(swarm.checkpoint) if own else None
    async with Auditor(swarm.look, swarm.mine, session.terms, holding) as auditor:
        return {swarm.name_of(each.stage.node): await auditor.audit(each) for each in session.evidence()}


@pytest.mark.parametrize("lie", PLAUSIBLE)
@pytest.mark.parametrize("codec", ["f32", "f16"])
def test_a_lie_is_found_by_ones_own_blocks(folder: Path, lie: str, codec: str) -> None:
    """Nobody but the liar is blamed: not the node behind it, which was given wrong inputs."""

    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("front", (0, 1))
            Lying(await swarm.start("liar", (1, 3)), lie)
            await swarm.start("back", (3, 4))
            async with swarm.session(codec=codec) as session:
                await text(session)
                found = await audited(swarm, session, own=True)
        assert all(each.settled.decided for each in found.values()), found
        assert found["liar"].settled.guilty.keys() == {swarm.id("liar")}
        for name in ("front", "back"):
            assert found[name].settled.cleared == {swarm.id(name)}, found[name]

    asyncio.run(story())


@pytest.mark.parametrize("lie", IMPOSSIBLE)
def test_what_cannot_be_right_is_left_at_once(folder: Path, lie: str) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            Lying(await swarm.start("liar", (0, 4)), lie)
            await swarm.start("spare", (0, 4), decode_ms=50.0)
            async with swarm.session() as session:
                await text(session)
                assert [swarm.name_of(each.stage.node) for each in session.recoveries] == ["liar"]
                found = await audited(swarm, session, own=True)
        assert found["spare"].settled.cleared == {swarm.id("spare")}

    asyncio.run(story())


def test_other_nodes_find_the_liar_among_them(folder: Path) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            Lying(await swarm.start("liar", (0, 4)), "int8 weights")
            for name in ("a", "b", "c"):
                await swarm.start(name, (0, 4), decode_ms=50.0)
            async with swarm.session() as session:
                await text(session)
                finding = (await audited(swarm, session, own=False))["liar"]
        assert finding.settled.decided and finding.settled.guilty.keys() == {swarm.id("liar")}
        assert len(finding.asked) == 4, "one against one, two against one, three against one"

    asyncio.run(story())


def test_too_few_witnesses_blame_nobody(folder: Path) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            Lying(await swarm.start("liar", (0, 4)), "random")
            async with swarm.session() as session:
                await text(session)
                alone = (await audited(swarm, session, own=False))["liar"]
                await swarm.start("other", (0, 4), decode_ms=50.0)
                two = (await audited(swarm, session, own=False))["liar"]
        assert not alone.settled.decided and "no other node" in alone.why
        assert not two.settled.decided and not two.settled.guilty and "disagree" in two.why

    asyncio.run(story())


def test_the_evidence_is_of_the_node_that_gave_it(folder: Path) -> None:
    """After a node was replaced, what its successor is blamed for is the successor's own."""

    async def story() -> None:
        async with place(folder) as swarm:
            liar = await swarm.start("liar", (0, 2))
            Lying(liar, "random")
            await swarm.start("back", (2, 4))
            await swarm.start("spare", (0, 3), decode_ms=50.0)
            async with swarm.session() as session:
                made = 0
                async for _ in session.generate(PROMPT, 12):
                    made += 1
                    if made == 5:
                        await liar.stop(0)
                names = [swarm.name_of(stage.node) for stage in session.route]
                found = await audited(swarm, session, own=True)
        assert names == ["spare", "back"]
        assert {name: each.settled.decided for name, each in found.items()} == {"spare": True, "back": True}
        assert not any(each.settled.guilty for each in found.values())

    asyncio.run(story())


@pytest.fixture
def known(folder: Path) -> Iterator[Evidence]:
    """Inputs whose right answer is known, as an audited session leaves them."""
    given = OwnBlocks(Place(folder).checkpoint)
    blank = Evidence(Stage(node="node-a", span=Span(start=0, end=4)), values(5, 20), values(5, 20))
    yield Evidence(blank.stage, blank.inputs, given.replay(blank, "f32"))


def test_a_newcomer_is_tried_with_what_is_known(folder: Path, known: Evidence) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("honest", (0, 4))
            Lying(await swarm.start("liar", (0, 4)), "a skipped layer")
            async with Auditor(swarm.look, swarm.mine, swarm.terms()) as auditor:
                good = await auditor.trial(swarm.id("honest"), known)
                bad = await auditor.trial(swarm.id("liar"), known)
                gone = await auditor.trial("ed-gone", known)
        assert good.settled.cleared == {swarm.id("honest")}
        assert bad.settled.guilty.keys() == {swarm.id("liar")}
        assert not gone.settled.decided and "not announced" in gone.why

    asyncio.run(story())


def test_a_profile_that_nobody_measured_blames_nobody(folder: Path, known: Evidence) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await swarm.start("a", (0, 4))
            evidence = Evidence(
                Stage(node=swarm.id("a"), span=Span(start=0, end=4)), known.inputs, known.inputs
            )
            terms = swarm.terms(codec="f99")
            async with Auditor(swarm.look, swarm.mine, terms, OwnBlocks(swarm.checkpoint)) as auditor:
                return await auditor.audit(evidence)

    finding = asyncio.run(story())
    assert not finding.settled.decided and "expected a profile" in finding.why
    assert profile_of(Profile(dtype="float32"), "f32") == F32
