"""Many sessions in one pass: each gets the numbers that it gets alone, whoever joins, leaves or breaks."""

import asyncio
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest
from families import LAYERS, config_of, one_thread
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.compute.batching import PASS_TOKENS, PROMPT_TOKENS, Ask, Batcher, shared
from metainf.swarm.compute.blocks import Blocks, Step, WrongPosition
from metainf.swarm.compute.caches import NoRoom
from metainf.swarm.compute.ends import Ends
from metainf.swarm.compute.shards import FAMILIES, Checkpoint
from metainf.swarm.compute.weights import random_checkpoint
from metainf.swarm.words import Span

torch = pytest.importorskip("torch", reason="needs the extra swarm")
pytest.importorskip("transformers", reason="needs the extra swarm")

__all__ = ["one_thread"]
MOST_DIFFERENCE = 1e-4
WHOLE = Span(start=0, end=LAYERS)
ROPES: dict[str, dict[str, Any]] = {
    "dynamic": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0},
    "longrope": {
        "rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, "original_max_position_embeddings": 8,
        "short_factor": [1.0] * 4, "long_factor": [2.0] * 4,
    },
}  # fmt: skip
MODELS = (*FAMILIES, *ROPES)
asks = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("pqrst"), st.integers(1, 600)), max_size=40)


class Model:
    """All blocks twice: one that many share, one for a session alone."""

    def __init__(self, folder: Path) -> None:
        checkpoint = Checkpoint(folder)
        self.ends = Ends(checkpoint)
        self.many, self.one = Blocks(checkpoint, WHOLE), Blocks(checkpoint, WHOLE)

    def alone(self, tokens: list[int], pieces: list[int]) -> Any:
        made, at = [], 0
        for count in pieces:
            made.append(self.one.step("alone", at, self.ends.embed(tokens[at : at + count])))
            at += count
        self.one.close("alone")
        return torch.cat(made, dim=1)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    made = {}
    for name in MODELS:
        config = config_of("llama") | {"max_position_embeddings": 16, "rope_parameters": ROPES.get(name)}
        told = config if name in ROPES else config_of(name)
        made[name] = Model(random_checkpoint(told, tmp_path_factory.mktemp(name), seed=5))
    return made


texts = st.lists(
    st.tuples(st.lists(st.integers(3, 96), min_size=1, max_size=20), st.integers(0, 6), st.randoms()),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(told=texts)
def test_a_session_gets_the_numbers_it_gets_alone(models: dict[str, Model], name: str, told: Any) -> None:
    """Sessions of random texts, cut into random pieces, each of which joins in a round of its own."""
    model = models[name]
    plans = []
    for tokens, joins, chance in told:
        pieces = []
        while sum(pieces) < len(tokens):
            pieces.append(min(chance.choice((1, 1, 1, 2, 5, 9)), len(tokens) - sum(pieces)))
        plans.append((tokens, joins, pieces))
    made: list[list[Any]] = [[] for _ in plans]
    for now in range(max(joins + len(pieces) for _, joins, pieces in plans)):
        going = [n for n, (_, joins, pieces) in enumerate(plans) if 0 <= now - joins < len(pieces)]
        steps = []
        for number in going:
            tokens, joins, pieces = plans[number]
            at, count = sum(pieces[: now - joins]), pieces[now - joins]
            steps.append(Step(str(number), at, model.ends.embed(tokens[at : at + count])))
        for number, result in zip(going, model.many.steps(steps), strict=True):
            made[number].append(result)
            if len(made[number]) == len(plans[number][2]):
                model.many.close(str(number))
    assert model.many.room.held == model.many.room.sessions == model.many.tokens == 0
    for (tokens, _, pieces), results in zip(plans, made, strict=True):
        expected, found = model.alone(tokens, pieces), torch.cat(results, dim=1)
        assert (found - expected).abs().max() <= MOST_DIFFERENCE
        logits, alone = model.ends.logits(found), model.ends.logits(expected)
        assert (logits - alone).abs().max() <= MOST_DIFFERENCE * 10
        top = alone.topk(2, dim=-1).values
        clear = top[..., 0] - top[..., 1] > 1e-3
        assert torch.equal(logits.argmax(-1)[clear], alone.argmax(-1)[clear])


@pytest.mark.parametrize("family", FAMILIES)
def test_views_share_weights_and_room(models: dict[str, Model], family: str) -> None:
    model, tokens = models[family], [5, 6, 7, 8]
    expected = model.alone(tokens, [3, 1])
    views = [model.many.view(Span(start=a, end=b)) for a, b in ((0, 1), (1, 3), (3, 4))]
    made = []
    for at, count in ((0, 3), (3, 1)):
        hidden = model.ends.embed(tokens[at : at + count])
        for view in views:
            hidden = view.step("s", at, hidden)
        made.append(hidden)
    assert (torch.cat(made, dim=1) - expected).abs().max() <= MOST_DIFFERENCE
    assert model.many.room.sessions == 3 and not model.many.sessions
    assert views[1].layers[0] is model.many.layers[1]
    with pytest.raises(BadInput, match=r"within \[1, 3\)"):
        views[1].view(Span(start=0, end=2))
    for view in views:
        view.close("s")
    assert model.many.room.held == 0


def test_who_breaks_harms_no_other(models: dict[str, Model]) -> None:
    model = models["llama"]
    many, embed = model.many, model.ends.embed
    expected = model.alone([5, 6, 7], [2, 1])[:, 2:]
    many.steps([Step(name, 0, embed([5, 6])) for name in ("good", "late", "full", "nan")])
    nan = embed([7]) * float("nan")
    limit, many.room.limit = many.room.limit, many.room.held
    try:
        made = many.steps([
            Step("late", 3, embed([7])), Step("nan", 2, nan), Step("good", 2, embed([7])),
            Step("full", 2, embed([7] * 300)), Step("wide", 0, torch.zeros(1, 1, 31)),
        ])  # fmt: skip
    finally:
        many.room.limit = limit
    late, bad, good, full, wide = made
    assert isinstance(late, WrongPosition) and late.expected == 2
    assert isinstance(full, NoRoom) and isinstance(bad, BadInput) and isinstance(wide, BadInput)
    assert (good - expected).abs().max() <= MOST_DIFFERENCE
    for name in ("late", "full", "nan"):
        assert (many.step(name, 2, embed([7])) - expected).abs().max() <= MOST_DIFFERENCE
    for name in ("good", "late", "full", "nan"):
        many.close(name)


def test_a_pass_that_breaks_in_the_middle_is_made_again_without_the_one_that_breaks_it(
    models: dict[str, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = models["qwen3"]
    expected = model.alone([5, 6, 7], [2, 1])[:, 2:]
    model.many.steps([Step(name, 0, model.ends.embed([5, 6])) for name in ("good", "other", "bad")])
    last, broken = model.many.layers[2], model.many.sessions["bad"]
    forward = last.forward

    def failing(hidden: Any, **words: Any) -> Any:
        if any(row.cache is broken for row in words["rows"].rows):
            raise MemoryError
        return forward(hidden, **words)

    monkeypatch.setattr(last, "forward", failing)
    good, bad, other = model.many.steps(
        [Step(name, 2, model.ends.embed([7])) for name in ("good", "bad", "other")]
    )
    assert isinstance(bad, NoRoom) and "bad" not in model.many.sessions
    for made in (good, other):
        assert (made - expected).abs().max() <= MOST_DIFFERENCE
    model.many.close("good")
    model.many.close("other")
    assert model.many.room.held == 0


@given(told=asks)
def test_a_pass_is_shared_fairly(told: list[tuple[str, str, int]]) -> None:
    waiting = [Ask(*each) for each in told]
    chosen = shared(waiting)
    taken = [waiting[number] for number, _ in chosen]
    assert sum(tokens for _, tokens in chosen) <= PASS_TOKENS
    assert len({ask.session for ask in taken}) == len(taken), "a session is twice in a pass"
    assert {ask.part for ask in taken} <= {waiting[0].part} if waiting else not chosen
    assert not waiting or 0 in dict(chosen), "the oldest waits on"
    assert all(0 < tokens <= waiting[number].tokens for number, tokens in chosen)
    if any(ask.tokens == 1 for ask in taken):
        assert sum(tokens for number, tokens in chosen if waiting[number].tokens > 1) <= PROMPT_TOKENS
    for number, ask in enumerate(waiting):  # no one-token step waits for a prompt
        first = not any(ask.session == w.session for w in waiting[:number] if w.part == ask.part)
        if ask.tokens == 1 and ask.part == waiting[0].part and first:
            assert number in dict(chosen)


def test_heads_of_several_sessions_are_calculated_together(models: dict[str, Model]) -> None:
    """Whoever leaves does not keep the others, and a loop that ended leaves nothing behind."""
    ends = models["qwen2"].ends
    hidden = [ends.embed([number, number + 1]) * 3 for number in range(3, 20)]
    expected = [ends.greedy(each) for each in hidden]
    calls: list[int] = []
    logits = ends.logits

    def counted(many: Any) -> Any:
        calls.append(many.shape[1])
        return logits(many)

    async def story() -> None:
        leaving = asyncio.create_task(ends.greedy_together(hidden[0]))
        asked = [asyncio.create_task(ends.greedy_together(each)) for each in hidden]
        asyncio.get_running_loop().call_soon(leaving.cancel)
        assert await asyncio.gather(*asked) == expected
        assert calls in ([17], [18])
        assert await ends.greedy_together(hidden[0]) == expected[0] and calls[-1] == 1
        wrong = [asyncio.create_task(ends.greedy_together(torch.zeros(1, 1, 31))) for _ in range(2)]
        assert all(isinstance(e, RuntimeError) for e in await asyncio.gather(*wrong, return_exceptions=True))

    async def left() -> None:
        asyncio.create_task(ends.greedy_together(hidden[0]))  # noqa: RUF006
        await asyncio.sleep(0)

    ends.logits = counted  # type: ignore[method-assign]
    try:
        for _ in range(2):
            calls.clear()
            asyncio.run(story())
            asyncio.run(left())
    finally:
        ends.logits = logits  # type: ignore[method-assign]


def test_a_node_serves_its_sessions_together(tmp_path: Path) -> None:
    """Twelve sessions, a thirteenth whose steps are wrong, and one that leaves while its step is awaited."""
    pytest.importorskip("grpc", reason="needs the extra swarm")
    from metainf.swarm.net.node import Node, Offer

    checkpoint = Checkpoint(random_checkpoint(config_of("llama"), tmp_path, seed=5))
    ends, blocks = Ends(checkpoint), Blocks(checkpoint, WHOLE)

    def alone(first: int, count: int) -> list[int]:
        hidden, made = blocks.step("alone", 0, ends.embed([first, 7])), []
        for position in range(2, 2 + count):
            made.append(ends.greedy(hidden))
            hidden = blocks.step("alone", position, ends.embed(made[-1:]))
        return made

    async def story() -> None:
        node = Node(checkpoint, Offer("ed-node", "b2:" + "0" * 32, WHOLE, slowness=3.0))
        part = node.blocks

        async def text(first: int, count: int) -> list[int]:
            hidden, made = (await node._step(part, str(first), 0, ends.embed([first, 7])))[0], []
            for position in range(2, 2 + count):
                made.append(ends.greedy(hidden))
                hidden = (await node._step(part, str(first), position, ends.embed(made[-1:])))[0]
            return made

        async def wrong() -> None:
            await node._step(part, "wrong", 0, ends.embed([5]))
            for step in range(10):
                with pytest.raises(BadInput):
                    await node._step(part, "wrong", 5 + step, ends.embed([5]) * float("nan"))

        leaving = asyncio.create_task(node._step(part, "leaving", 0, ends.embed([5] * 200)))
        await asyncio.sleep(0)
        leaving.cancel()
        node.batcher.close(part, "leaving")
        *made, _ = await asyncio.gather(*(text(first, 10) for first in range(10, 22)), wrong())
        assert made == [alone(first, 10) for first in range(10, 22)]
        assert set(part.sessions) == {*map(str, range(10, 22)), "wrong"}
        assert node.batcher.passes < node.steps / 3
        await node.stop(0)

    asyncio.run(story())


def test_what_waits_while_a_pass_runs_goes_together(models: dict[str, Model]) -> None:
    model, batcher = models["mistral"], Batcher()
    many, embed = model.many, model.ends.embed
    free, forward = threading.Event(), many.layers[0].forward

    def held(*given: Any, **words: Any) -> Any:
        free.wait(10)
        return forward(*given, **words)

    many.layers[0].forward = held
    try:
        tokens = list(range(3, 53))
        futures = [batcher.submit(many, Step("first", 0, embed([5])))]
        while not batcher._inbox.empty():
            time.sleep(0.001)
        futures += [batcher.submit(many, Step(str(n), 0, embed([5]))) for n in range(8)]
        long = batcher.submit(many, Step("long", 0, embed(tokens * 3)))
        gone = batcher.submit(many, Step("gone", 0, embed([5])))
        gone.cancel()
        batcher.close(many, "gone")
        free.set()
        made = [future.result(10)[0] for future in futures]
        assert all((each - made[0]).abs().max() <= MOST_DIFFERENCE for each in made)
        whole, seconds = long.result(10)
        assert (whole - model.alone(tokens * 3, [150])).abs().max() <= MOST_DIFFERENCE and seconds > 0
        assert batcher.passes == 3, "one; eight and a piece of the prompt; its rest"
        assert "gone" not in many.sessions
        with pytest.raises(WrongPosition):
            batcher.submit(many, Step("first", 5, embed([5]))).result(10)
        with pytest.raises(BadInput):
            batcher.submit(many, Step("first", 1, torch.zeros(1, 0, 32)))
    finally:
        many.layers[0].forward = forward
        for name in (*map(str, range(8)), "first", "long"):
            batcher.close(many, name)
        last = batcher.submit(many, Step("last", 0, embed([5])))
        last.result(10)
        batcher.close(many, "last")
        batcher.stop()
        batcher._thread.join(10)
    assert not many.sessions and many.room.held == 0
    late = batcher.submit(many, Step("late", 0, embed([5])))
    with pytest.raises(CancelledError):
        late.result(10)
