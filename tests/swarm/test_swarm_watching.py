"""Audits and reputations beside the texts of a swarm, real nodes that lie and hand on, and profiles."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from audit_place import PLAUSIBLE, Lying  # noqa: E402
from small_swarm import Place, place, small_model  # noqa: E402

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.compute.codec import packed, unpacked  # noqa: E402
from metainf.swarm.host import looking  # noqa: E402
from metainf.swarm.host.believing import Manner, Verdicts, Watch, Watching  # noqa: E402
from metainf.swarm.host.caller import Caller, NotServed  # noqa: E402
from metainf.swarm.host.generating import Course, Joined, Swarm  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.auditing import promised_s  # noqa: E402
from metainf.swarm.net.node import Node  # noqa: E402
from metainf.swarm.trust.reputation import Event  # noqa: E402
from metainf.swarm.trust.reputation_store import Reputations  # noqa: E402
from metainf.swarm.words import Demand, Features  # noqa: E402

COUNT = 16
CHAIN = {"front": (0, 1), "liar": (1, 3), "back": (3, 4)}
HERE = Watching(share=1.0, here=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@asynccontextmanager
async def watched(here: Place, folder: Path, told: Watching, **manner: Any) -> AsyncIterator[Swarm]:
    how = Manner(watching=told, **manner)
    async with Joined(Caller(here.directory), folder, "small", manner=how) as swarm:
        yield swarm


async def text(swarm: Swarm, prompt: str = "Grüße", course: Course | None = None) -> str:
    return (await swarm.generate(swarm.asked(prompt, max_tokens=COUNT, ignore_eos=True), course)).text


async def verdicts(swarm: Swarm) -> Verdicts:
    assert swarm.watch is not None
    return await swarm.watch.done(30.0)


def id_of(here: Place, name: str) -> str:
    return here.people[name][0].node


@pytest.mark.parametrize("lie", PLAUSIBLE)
def test_a_liar_that_hands_on_is_found_and_left(folder: Path, tmp_path: Path, lie: str) -> None:
    """Activations go from node to node; the liar alone is blamed, the next text goes around it, and so does
    that of another client with the same file."""

    async def story() -> None:
        async with place(folder) as here:
            for name, span in CHAIN.items():
                await here.start(name, span)
            Lying(here.nodes["liar"], lie)
            await here.start("honest", (1, 3), decode_ms=40.0)
            told = Watching(share=1.0, here=True, reputation=str(tmp_path / "reputation.sqlite"))
            async with watched(here, folder, told) as swarm:
                wrong = await text(swarm)
                found = await verdicts(swarm)
                assert [each.split()[0] for each in found.lied] == [id_of(here, "liar")], found
                assert found.passed == 2 and found.undecided == 0
                course = Course()
                right = await text(swarm, course=course)
                assert not any(id_of(here, "liar")[:11] in route for route in course.routes)
                assert (await verdicts(swarm)).passed == 5
                assert lie == "int8 weights" or right != wrong
            course = Course()
            async with watched(here, folder, told) as other:
                assert await text(other, course=course) == right
                assert not any(id_of(here, "liar")[:11] in route for route in course.routes)
            state = await looking.state(
                here.directory, Demand(), Reputations(tmp_path / "reputation.sqlite", time.time).believed
            )
            (model,) = state.models
            standings = {here.name_of(node.node): node.standing for node in model.nodes}
            assert standings["liar"] == "quarantine" and standings["front"] != "quarantine"
            assert model.route is not None
            assert id_of(here, "liar") not in [stage.node for stage in model.route.stages]

    asyncio.run(story())


def two_faced(node: Node, towards: str) -> None:
    """Makes a node that hands on tell its client, or its neighbour, something that is 1 % off."""
    run = node._visited

    def bent(step: Any) -> None:
        step.data = packed(unpacked(step.shape, step.codec, step.data) * 1.01)[1]

    async def lying(told: Any, peer: str, context: Any, timer: Any) -> None:
        class Two:
            read = staticmethod(context.read)
            invocation_metadata = staticmethod(context.invocation_metadata)

            @staticmethod
            async def write(message: bytes) -> None:
                said = wire.FromNode.FromString(message)
                if said.WhichOneof("kind") == "step":
                    bent(said.step)
                await context.write(said.SerializeToString())

        await run(told, peer, Two() if towards == "client" else context, timer)

    def link(visit: Any, told: Any) -> None:
        linked(visit, told)
        if visit.next is None:
            return
        post = visit.next.post

        def other(message: bytes) -> bool:
            said = wire.ToNode.FromString(message)
            bent(said.step)
            return bool(post(said.SerializeToString()))

        visit.next.post = other

    linked = node._link
    node._visited = lying  # type: ignore[method-assign]
    if towards == "neighbour":
        node._link = link  # type: ignore[method-assign]


@pytest.mark.parametrize("towards", ["client", "neighbour"])
def test_a_node_with_two_faces(folder: Path, towards: str) -> None:
    """Who lies to the client is caught by an audit. Who lies to its neighbour is believed by nobody: the
    neighbour begins anew from what the client was told, the text is right, and no honest node is blamed."""

    async def story() -> None:
        async with place(folder) as here:
            for name, span in CHAIN.items():
                await here.start(name, span)
            async with watched(here, folder, HERE) as swarm:
                right = await text(swarm)
                two_faced(here.nodes["liar"], towards)
                course = Course()
                made = await text(swarm, course=course)
                found = await verdicts(swarm)
                assert any("another input" in each.why for each in course.recoveries)
                events = {here.name_of(node): swarm.watch.kept.standing(node)  # type: ignore[union-attr]
                          for node in swarm.watch.reputation}  # type: ignore[union-attr]  # fmt: skip
        assert all(each is not None and each.failed == 0 for each in events.values()), events
        if towards == "client":
            assert [each.split()[0] for each in found.lied] == [id_of(here, "liar")]
        else:
            assert made == right and found.lied == () and found.passed == 6

    asyncio.run(story())


def test_other_nodes_audit_and_newcomers_are_tried(folder: Path, tmp_path: Path) -> None:
    """Three who agree pass one another's audits; a newcomer that calculates rightly passes five trials, one
    that lies is in quarantine before it got any work."""

    async def story() -> None:
        async with place(folder) as here:
            for name in ("a", "b", "c"):
                await here.start(name, (0, 4))
            told = Watching(share=1.0, trials=True, reputation=str(tmp_path / "r.sqlite"))
            async with watched(here, folder, told) as swarm:
                watch = swarm.watch
                assert isinstance(watch, Watch)
                for number in range(40):
                    await text(swarm, f"text {number}")
                    found = await verdicts(swarm)
                    if not watch.doubted:
                        break
                assert found.passed >= 5 and found.lied == ()
                assert not watch.doubted, "all three have answered the same questions"
                await here.start("new", (0, 4), decode_ms=0.01)
                Lying(await here.start("false", (0, 4), decode_ms=0.01), "a skipped layer")
                new, false = id_of(here, "new"), id_of(here, "false")
                course = Course()
                await text(swarm, "again", course)
                assert not any(each[:11] in route for route in course.routes for each in (new, false))
                end = time.monotonic() + 60
                while time.monotonic() < end and not (false in watch.avoid and new not in watch.doubted):
                    watch._tried_s = 0.0  # no pause between trials
                    watch._wake.set()
                    await asyncio.sleep(0.05)
                assert false in watch.avoid and new in watch.reputation and new not in watch.doubted
                assert watch.counts["trials"] >= 1

    asyncio.run(story())


def test_what_nodes_did_is_written_even_without_audits(folder: Path, tmp_path: Path) -> None:
    async def story() -> None:
        file = tmp_path / "r.sqlite"
        async with place(folder) as here:
            await here.start("a", (0, 4))
            await here.start("spare", (0, 4), decode_ms=5000.0)
            async with watched(here, folder, Watching(reputation=str(file))) as swarm:
                await text(swarm)
                ask = swarm.asked("b", max_tokens=COUNT, ignore_eos=True)
                async for piece in swarm.stream(ask):
                    if piece.output_tokens == 5:
                        await here.kill("a")
                assert (await verdicts(swarm)).passed == 0
        kept = Reputations(file, time.time)
        first, second = (kept.standing(id_of(here, name)) for name in ("a", "spare"))
        assert first is not None and second is not None
        told = (first.served, first.failed, second.served)
        assert round(first.served) == round(second.served) == 1 and first.failed > 0.9, told
        assert first.kept + first.late > 0.9 and first.passed == 0

    asyncio.run(story())


def test_the_line_is_bounded_and_counted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metainf.swarm.host.believing.MOST_WAITING", 2)

    async def story() -> None:
        async with place(folder) as here:
            for name, span in CHAIN.items():
                await here.start(name, span)
            async with watched(here, folder, HERE) as swarm:
                assert swarm.watch is not None and swarm.watch._working is not None
                swarm.watch._working.cancel()  # nobody works
                await text(swarm)
                assert swarm.watch.verdicts().dropped == 1 + 2

    asyncio.run(story())


def test_a_promise_counts_prompts_by_their_own_pace() -> None:
    said = Features(decode_ms_per_block=10.0, prefill_ms_per_token_block=1.0)
    assert promised_s(said, 2, [100, 1, 1]) == pytest.approx(2 * (100 + 20) / 1000)
    assert promised_s(Features(decode_ms_per_block=10.0), 1, [4]) == pytest.approx(0.04)


@pytest.mark.parametrize("codec", ["f32", "f16", "bf16", "int8"])
def test_profiles_are_kept_apart(folder: Path, codec: str) -> None:
    """A caller that wants int8 weights gets nodes that hold them, whatever is sent on the wire, and one that
    wants none does not; each audit knows the profile."""

    async def story() -> None:
        async with place(folder) as here:
            await here.start("small", (0, 4), quantization="int8")
            async with watched(here, folder, HERE, quantization="int8", codec=codec) as swarm:
                assert len(await text(swarm)) > 0
                found = await verdicts(swarm)
                assert found.passed + found.undecided == 1 and found.lied == (), found
                assert bool(found.passed) == (codec == "f32") or found.passed, found
            async with Joined(Caller(here.directory), folder, "small") as swarm:
                with pytest.raises(
                    NotServed, match=r"in float32, found none: .* in float32\+int8 \(4 blocks"
                ):
                    await text(swarm)
            await here.start("whole", (0, 4))
            async with Joined(Caller(here.directory), folder, "small", manner=Manner(codec=codec)) as swarm:
                course = Course()
                await text(swarm, course=course)
                assert course.routes[0].startswith(id_of(here, "whole")[:11])

    asyncio.run(story())


def test_status_expects_the_route_that_a_session_takes(folder: Path) -> None:
    """Also where the client's own round trips decide: the same measured times lead to the same route."""

    async def story() -> None:
        async with place(folder) as here:
            for name, span in {**CHAIN, "half": (0, 2), "other": (2, 4), "all": (0, 4)}.items():
                await here.start(name, span, decode_ms=5.0 if name == "all" else 1.0)
            async with Joined(Caller(here.directory), folder, "small") as swarm:
                ask = swarm.asked("Grüße", max_tokens=COUNT, ignore_eos=True)
                course = Course()
                await swarm.generate(ask, course)
                known = swarm.caller.rtt_ms
                assert set(known) <= {who.node for who, _ in here.people.values()}
                taken = [word.split()[0] for word in course.routes[0].split(" > ")]
                assert taken[0] in [node[:11] for node in known]
                demand = Demand(prompt_tokens=len(swarm.prompt(ask)), new_tokens=COUNT)
                state = await looking.state(here.directory, demand)
                assert state.models[0].route is not None
                assert [stage.node[:11] for stage in state.models[0].route.stages] == taken
                far = dict.fromkeys(known, 10_000.0)
                swarm.caller.rtt_ms.update(far)
                swarm.caller.rtt_ms[id_of(here, "half")] = swarm.caller.rtt_ms[id_of(here, "other")] = 0.1
                course = Course()
                await swarm.generate(ask, course)
                names = [here.name_of(word.split()[0]) for word in course.routes[0].split(" > ")]
                assert names == ["half", "other"], "measured times decide"

    asyncio.run(story())


def test_a_file_that_is_something_else(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "r.sqlite").write_text("not a database, though long enough to be one" * 40)

    async def story() -> None:
        async with place(folder) as here:
            await here.start("a", (0, 4))
            told = Watching(reputation=str(tmp_path / "r.sqlite"))
            with pytest.raises(BadInput, match="expected a file of reputations"):
                async with watched(here, folder, told):
                    pass

    asyncio.run(story())


def test_another_client_is_heeded(folder: Path, tmp_path: Path) -> None:
    """What another process writes into the file counts within a moment."""

    async def story() -> None:
        async with place(folder) as here:
            await here.start("a", (0, 4))
            await here.start("b", (0, 4), decode_ms=50.0)
            told = Watching(reputation=str(tmp_path / "r.sqlite"))
            async with watched(here, folder, told) as swarm:
                await text(swarm)
                other = Reputations(tmp_path / "r.sqlite", time.time)
                other.record([Event(node=id_of(here, "a"), at_s=time.time(), kind="lied")])
                for _ in range(100):
                    if swarm.watch is not None and swarm.watch.avoid:
                        break
                    await asyncio.sleep(0.1)
                course = Course()
                await text(swarm, course=course)
                assert course.routes[0].startswith(id_of(here, "b")[:11])

    asyncio.run(story())
