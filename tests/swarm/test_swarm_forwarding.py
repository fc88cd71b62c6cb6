"""Activations that go from node to node: the same tokens whatever fails on the way, and whoever lies."""

import asyncio
import random
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from in_process import LAYERS, PROMPT, Place, alone, place, tiny, written  # noqa: E402
from traps import Trap  # noqa: E402

from metainf.swarm.compute.codec import packed, unpacked  # noqa: E402
from metainf.swarm.net.client import Session  # noqa: E402
from metainf.swarm.net.forwarding import MOST_WAITING  # noqa: E402
from metainf.swarm.net.node import Node  # noqa: E402

RANDOM, COUNT = random.Random(1), 24
LONG = [RANDOM.randrange(97) for _ in range(300)]
CHAIN = {"a": (0, 1), "b": (1, 3), "c": (3, 4)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def expected(folder: Path) -> list[int]:
    return alone(folder, PROMPT, COUNT)


@pytest.fixture(scope="module")
def expected_long(folder: Path) -> list[int]:
    return alone(folder, LONG, 16)


async def chain(swarm: Place, spares: int = 0) -> None:
    for name, span in CHAIN.items():
        await swarm.start(name, span)
    for number in range(spares):
        await swarm.start(f"spare-{number}", (0, LAYERS), decode_ms=50.0 * (number + 1))


def direct(session: Session) -> list[int]:
    """Steps that each stage was given by the node before."""
    return [part.stream.direct_steps for part in session.parts]


def test_a_chain_hands_on_and_the_client_has_all_it_needs(folder: Path, expected: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm)
            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                assert await written(session, COUNT) == expected
                first, second, third = direct(session)
                assert first == 0 and second > COUNT // 2 and third > COUNT // 2
                for part in session.parts:
                    assert sum(each.shape[1] for each in part.history) == len(PROMPT) + COUNT - 1
            async with swarm.session(step_s=3.0, direct=False) as session:
                assert await written(session, COUNT) == expected
                assert direct(session) == [0, 0, 0]

    asyncio.run(story())


@pytest.mark.parametrize("moment", ["before", "after", "handed on"])
@pytest.mark.parametrize("victim", sorted(CHAIN))
@pytest.mark.parametrize("position", [0, len(PROMPT) + 4])
def test_a_kill_of_any_stage_at_any_moment(
    folder: Path, expected: list[int], victim: str, moment: str, position: int
) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm, 1)
            trap = Trap(swarm, victim, position, moment)
            async with swarm.session(step_s=0.6) as session:
                assert await written(session, COUNT) == expected
                assert trap.sprung
                assert victim in [swarm.name_of(each.stage.node) for each in session.recoveries]
                assert max(each.seconds for each in session.recoveries) < 30

    asyncio.run(story())


def test_a_kill_in_the_middle_of_a_long_prompt(folder: Path, expected_long: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm, 1)
            traps = [Trap(swarm, "b", 256, "before"), Trap(swarm, "c", 256, "before")]
            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                assert await written(session, 16, prompt=LONG) == expected_long
                assert all(trap.sprung for trap in traps[:1]) and session.recoveries[0].replayed_tokens == 256

    asyncio.run(story())


def test_two_at_once_and_the_spare_while_it_is_brought_up(folder: Path, expected: list[int]) -> None:
    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm, 2)
            trap = Trap(swarm, "spare-0", 0, "before")

            async def both() -> None:
                await asyncio.gather(swarm.kill("a"), swarm.kill("b"))

            async with swarm.session() as session:
                assert await written(session, COUNT, 10, both) == expected
                assert trap.sprung
                names = [swarm.name_of(stage.node) for stage in session.route]
                assert names == ["spare-1", "spare-1", "c"]

    asyncio.run(story())


def test_the_last_node_that_hung_is_tried_again(folder: Path, expected: list[int]) -> None:
    """A node that was judged hung and is the only one left goes on, with more patience."""

    async def story() -> None:
        async with place(folder) as swarm:
            slept = []
            node = await swarm.start("a", (0, LAYERS))
            answer = node._answer

            async def slow(part: Any, name: str, step: Any) -> Any:
                if step.position == len(PROMPT) + 5 and not slept:
                    await asyncio.sleep(1.5)
                    slept.append(step.position)
                return await answer(part, name, step)

            node._answer = slow  # type: ignore[method-assign]
            async with swarm.session(step_s=0.5) as session:
                assert await written(session, COUNT) == expected
                assert ["no answer" in each.why for each in session.recoveries] == [True, True]

    asyncio.run(story())


def test_a_way_on_which_nothing_comes_is_carried_by_the_client(folder: Path, expected: list[int]) -> None:
    """The link between two nodes is cut without a word; both reach the client."""

    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm)

            async def cut() -> None:
                (visit,) = swarm.nodes["a"].visits.values()
                assert visit.next is not None and visit.next.ready
                visit.next.post = lambda message: True  # type: ignore[method-assign]

            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                begun = time.perf_counter()
                assert await written(session, COUNT, 8, cut) == expected
                assert time.perf_counter() - begun < 30
                assert session.recoveries == [] and not session.parts[1].stream.fed
                assert session.parts[2].stream.fed

    asyncio.run(story())


def _changed(node: Node, towards: str) -> None:
    """A node that tells the client one thing and its neighbour another."""
    run = node._visited

    async def lying(told: Any, peer: str, context: Any, timer: Any) -> None:
        write = context.write

        class Two:
            read = staticmethod(context.read)
            invocation_metadata = staticmethod(context.invocation_metadata)

            @staticmethod
            async def write(message: bytes) -> None:
                from metainf.swarm.net import wire_pb2 as wire

                said = wire.FromNode.FromString(message)
                if said.WhichOneof("kind") == "step" and said.step.position > len(PROMPT) + 6:
                    values = unpacked(said.step.shape, said.step.codec, said.step.data)
                    said.step.data = packed(values * 1.0001)[1]
                    message = said.SerializeToString()
                await write(message)

        await run(told, peer, Two(), timer)

    node._visited = lying  # type: ignore[method-assign]


def test_who_says_two_things_is_noticed(folder: Path) -> None:
    """The client goes by what it was told: the stage after the liar begins anew and is not blamed."""

    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm)
            _changed(swarm.nodes["a"], "client")
            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                assert len(await written(session, COUNT)) == COUNT
                assert "another input" in session.recoveries[0].why
                assert swarm.name_of(session.recoveries[0].stage.node) == "b"
                assert not session.banned
                assert [swarm.name_of(stage.node) for stage in session.route] == ["a", "b", "c"]
                blocks = next(iter(swarm.nodes["b"].parts.values()))
                told = torch.cat([torch.from_numpy(each) for each in session.parts[1].history], dim=1)
                again = blocks.step("audit", 0, told)
                heard = torch.cat([torch.from_numpy(each) for each in session.parts[2].history], dim=1)
                assert float((again - heard).abs().max()) < 1e-4, "its kept input explains what b answered"

    asyncio.run(story())


def test_a_zombie_changes_nothing(folder: Path, expected: list[int]) -> None:
    """A stage that stands still, is replaced, and then goes on: its late answer is dropped."""

    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm, 1)
            node, woken = swarm.nodes["b"], asyncio.Event()
            answer = node._answer

            async def standing(part: Any, name: str, step: Any) -> Any:
                if step.position >= len(PROMPT) + 5 and not woken.is_set():
                    await woken.wait()
                return await answer(part, name, step)

            node._answer = standing  # type: ignore[method-assign]

            async def awake() -> None:
                woken.set()

            async with swarm.session(step_s=0.5) as session:
                assert await written(session, COUNT, 15, awake) == expected
                assert [swarm.name_of(each.stage.node) for each in session.recoveries] == ["b"]
            assert await forgotten(swarm)

    asyncio.run(story())


async def forgotten(swarm: Place) -> bool:
    for _ in range(100):
        if not any(part.sessions for node in swarm.nodes.values() for part in node.parts.values()):
            return not any(node.visits for node in swarm.nodes.values())
        await asyncio.sleep(0.02)
    return False


def test_a_next_node_that_takes_nothing_is_not_sent_without_end(folder: Path, expected: list[int]) -> None:
    """Four answers may wait for it; with the next the link is given up, and the client carries."""

    async def story() -> None:
        async with place(folder) as swarm:
            await chain(swarm)

            async def stuck() -> None:
                [visit] = swarm.nodes["a"].visits.values()
                link = visit.next
                assert link is not None and link.ready

                async def never() -> None:
                    await asyncio.sleep(3600)

                link._sent = never  # type: ignore[method-assign]
                assert [link.post(b"x") for _ in range(MOST_WAITING + 2)] == [True] * MOST_WAITING + [
                    False
                ] * 2
                assert not link.ready

            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                assert await written(session, COUNT, 10, stuck) == expected
                assert session.recoveries == [] and direct(session)[1] < COUNT - 10

    asyncio.run(story())


@pytest.mark.hastens
def test_a_slow_node_is_left_for_a_quicker_one(folder: Path) -> None:
    async def story() -> None:
        count = 60
        async with place(folder) as swarm:
            await chain(swarm)
            await swarm.start("quick", (1, 3), decode_ms=1.5)
            node = swarm.nodes["b"]
            answer = node._answer

            async def slower(part: Any, name: str, step: Any) -> Any:
                await asyncio.sleep(0.04 if step.position > len(PROMPT) + 8 else 0)
                return await answer(part, name, step)

            node._answer = slower  # type: ignore[method-assign]
            async with swarm.session(step_s=3.0, floor_s=3.0) as session:
                assert await written(session, count) == alone(folder, PROMPT, count)
                assert [swarm.name_of(stage.node) for stage in session.route] == ["a", "quick", "c"]
                assert session.recoveries == []

    asyncio.run(story())
