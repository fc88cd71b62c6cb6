"""Texts through a swarm: what is written, what happens when nodes fail, and what is refused."""

import asyncio
import functools
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from small_swarm import InMemory, Place, place, small_model, swarm_of, whole_text  # noqa: E402

from metainf.domain import BadInput  # noqa: E402
from metainf.swarm.host import believing, generating  # noqa: E402
from metainf.swarm.host.caller import Caller, NotLetIn, NotServed  # noqa: E402
from metainf.swarm.host.generating import Course, Joined, Swarm, Written  # noqa: E402
from metainf.swarm.host.knocking import served  # noqa: E402
from metainf.swarm.plan.routing import MissingBlocks  # noqa: E402
from metainf.swarm.trust.signing import Heard  # noqa: E402
from metainf.swarm.words import Announcement, Features, Profile, Span  # noqa: E402

HALVES = {"a": (0, 2), "b": (2, 4)}
SPARE = {**HALVES, "c": (0, 4)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("other"), seed=5)


def test_who_is_not_online_is_counted_rightly() -> None:
    profile, one = Profile(dtype="float32"), Features(decode_ms_per_block=1.0)

    def heard(count: int, joining: int) -> str:
        words = [
            Announcement(
                node=f"node-{at}", generation=1, seq=1, address="127.0.0.1:1", model="b2:" + "0" * 32,
                certificate="sha256:" + "0" * 64, num_blocks=4, span=Span(start=0, end=4), profile=profile,
                features=one, state="joining" if at < joining else "online", issued_s=0.0, valid_until_s=9.0,
            )
            for at in range(count)
        ]  # fmt: skip
        return served([Heard(word, b"") for word in words]).partition("(")[2]

    assert heard(1, 0) == "4 blocks, 1 node)"
    assert heard(1, 1) == "4 blocks, 1 node, not online)"
    assert heard(3, 0) == "4 blocks, 3 nodes)"
    assert heard(3, 1) == "4 blocks, 3 nodes, of which 1 is not online)"
    assert heard(3, 2) == "4 blocks, 3 nodes, of which 2 are not online)"


def test_the_text_is_the_models(folder: Path) -> None:
    async def story() -> tuple[Written, list[int], list[str]]:
        async with swarm_of(folder, HALVES) as (_, swarm):
            ask = swarm.asked("Grüße", plain=True, max_tokens=40, ignore_eos=True)
            course = Course()
            pieces = [piece async for piece in swarm.stream(ask, course)]
            return generating.written(pieces, course, "small"), swarm.prompt(ask), swarm.tokens.ends

    shown, prompt, ends = asyncio.run(story())
    tokens = whole_text(folder, prompt, 40)
    assert ends == {256}
    from transformers import AutoTokenizer

    said = AutoTokenizer.from_pretrained(folder).decode(
        tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    assert shown.text == said
    assert (shown.output_tokens, shown.finished) == (40, "length")
    assert shown.input_tokens == len("Grüße".encode())
    assert len(shown.routes) == 1 and shown.recoveries == 0
    assert shown.ttft_s is not None and shown.tokens_per_s is not None and shown.ttft_s <= shown.seconds


async def drawn(swarm: Swarm, place: Place | None, seed: int | None) -> tuple[str, Written]:
    """A drawn text; the node that does the work is killed at the tenth token, where a place is given."""
    ask = swarm.asked("once", max_tokens=40, temperature=1.0, top_p=0.9, seed=seed, ignore_eos=True)
    course, pieces = Course(), []
    async for piece in swarm.stream(ask, course):
        pieces.append(piece)
        if place is not None and piece.output_tokens == 10:
            await place.kill(place.name_of(course.routes[-1].split()[0]))
    shown = generating.written(pieces, course, "small")
    return shown.text, shown


def test_a_drawn_text_survives_a_kill(folder: Path) -> None:
    """The same seed draws the same text, also where a node dies in between; another seed another text."""

    async def story() -> None:
        async with swarm_of(folder, SPARE) as (here, swarm):
            first, _ = await drawn(swarm, None, 7)
            again, _ = await drawn(swarm, None, 7)
            other, _ = await drawn(swarm, None, 8)
            loose, told = await drawn(swarm, None, None)
            broken, shown = await drawn(swarm, here, 7)
            assert first == again == broken
            assert other != first and loose != first
            assert told.seed is not None and (await drawn(swarm, None, told.seed))[0] == loose
            assert shown.recoveries == 1 and len(shown.routes) == 2 and shown.replayed_tokens > 0

    asyncio.run(story())


@pytest.mark.parametrize("patience_s", [0.2, 30.0])
def test_a_text_waits_for_a_node_and_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch, patience_s: float
) -> None:
    """The only holder of two blocks dies and nobody takes its place for a second: then somebody does. A
    session that has no patience is followed by another."""
    monkeypatch.setattr(believing, "Terms", functools.partial(believing.Terms, patience_s=patience_s))

    async def story() -> None:
        async with swarm_of(folder, HALVES) as (here, swarm):
            ask = swarm.asked("the", plain=True, max_tokens=30, ignore_eos=True)
            unharmed = await swarm.generate(ask)
            course, pieces = Course(), []
            async for piece in swarm.stream(ask, course):
                pieces.append(piece)
                if piece.output_tokens == 8:
                    await here.kill("b")
                    await here.directory.remove(f"node.{here.people['b'][0].node}")
                    asyncio.get_running_loop().call_later(
                        1.0, lambda: asyncio.ensure_future(here.start("d", (2, 4)))
                    )
            shown = generating.written(pieces, course, "small")
            assert shown.text == unharmed.text
            assert (shown.restarts, shown.recoveries) == ((0, 1) if patience_s > 1 else (1, 0))

    asyncio.run(story())


def test_several_texts_at_once_share_what_is_open(folder: Path) -> None:
    async def story() -> None:
        async with swarm_of(folder, HALVES) as (here, swarm):
            asks = [swarm.asked(f"text {n}", max_tokens=12, ignore_eos=True) for n in range(6)]
            alone = [await swarm.generate(ask) for ask in asks]
            together = await asyncio.gather(*(swarm.generate(ask) for ask in asks))
            assert [each.text for each in alone] == [each.text for each in together]
            assert len(swarm.caller.channels) == 2
            await emptied(here)

    asyncio.run(story())


async def emptied(here: Place) -> None:
    for _ in range(100):
        if here.streams() == 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"expected no open stream, found {here.streams()}")


def test_who_leaves_frees_the_nodes(folder: Path) -> None:
    async def story() -> None:
        async with swarm_of(folder, HALVES) as (here, swarm):
            stream = swarm.stream(swarm.asked("long", max_tokens=400, ignore_eos=True))
            async for piece in stream:
                if piece.output_tokens == 3:
                    assert here.streams() in (2, 3)
                    break
            await stream.aclose()
            await emptied(here)

    asyncio.run(story())


def test_a_stop_text_ends_it(folder: Path) -> None:
    async def story() -> None:
        async with swarm_of(folder, HALVES) as (_, swarm):
            whole = await swarm.generate(swarm.asked("x", max_tokens=60, ignore_eos=True))
            word = whole.text[9:12]
            shown = await swarm.generate(
                swarm.asked("x", max_tokens=60, stop=("never said at all", word), ignore_eos=True)
            )
            assert shown.text == whole.text[: whole.text.index(word)]
            assert shown.finished == "stop" and shown.output_tokens < 60

    asyncio.run(story())


@pytest.mark.parametrize(
    ("text", "terms", "words"),
    [
        ("x", {"max_tokens": 600}, "at most 512 tokens"),
        ("x" * 600, {}, "at most 512 tokens"),
        ("x", {"system": "be kind", "plain": True}, "chat template"),
    ],
)
def test_what_does_not_fit_is_refused(folder: Path, text: str, terms: dict[str, object], words: str) -> None:
    async def story() -> None:
        async with swarm_of(folder, HALVES) as (_, swarm):
            await swarm.generate(swarm.asked(text, **terms))

    with pytest.raises(BadInput, match=words):
        asyncio.run(story())


def test_other_weights_are_told_apart(folder: Path, other: Path) -> None:
    async def story() -> None:
        async with place(folder) as here:
            for name, span in HALVES.items():
                await here.start(name, span)
            async with Joined(Caller(here.directory), other) as swarm:
                with pytest.raises(NotServed, match=f"serves {here.model} in float32 .4 blocks, 2 nodes"):
                    await swarm.generate(swarm.asked("x"))

    asyncio.run(story())


def test_missing_blocks_and_empty_swarms_are_named(folder: Path) -> None:
    async def story() -> None:
        async with place(folder) as here:
            async with Joined(Caller(here.directory), folder) as swarm:
                with pytest.raises(NotServed, match="no nodes: start one"):
                    await swarm.generate(swarm.asked("x"))
            await here.start("a", (0, 3))
            async with Joined(Caller(here.directory), folder) as swarm:
                with pytest.raises(MissingBlocks, match=r"found none for \[3, 4\)"):
                    await swarm.generate(swarm.asked("x"))

    asyncio.run(story())


def test_a_guest_waits_until_nodes_know_it(folder: Path) -> None:
    """Nodes read the directory late: the caller knocks until then, and is not sent away."""

    async def story() -> None:
        async with place(folder) as here:
            for name, span in HALVES.items():
                await here.start(name, span, reads=False)
            async with Caller(here.directory) as caller:
                with pytest.raises(NotLetIn, match="found 2 that do not"):
                    await caller.let_in(here.model, within_s=0.5)
                assert await caller.look() == []
            async with Joined(Caller(here.directory), folder) as swarm:
                asyncio.get_running_loop().call_later(1.0, here.read)
                shown = await swarm.generate(swarm.asked("x", max_tokens=5))
                assert shown.output_tokens <= 5 and shown.recoveries == 0 and shown.restarts == 0

    asyncio.run(story())


def test_a_dead_node_in_the_directory_does_not_delay(folder: Path) -> None:
    async def story() -> None:
        async with place(folder) as here:
            for name, span in SPARE.items():
                await here.start(name, span)
            await here.kill("c")
            async with Joined(Caller(here.directory), folder) as swarm:
                shown = await swarm.generate(swarm.asked("x", max_tokens=5))
                assert shown.recoveries == 0 and len(await swarm.caller.look()) == 2

    asyncio.run(story())


def test_a_directory_that_is_lost_does_not_end_what_runs(folder: Path) -> None:
    from metainf.swarm.net.directory import DirectoryLost

    class Flaky(InMemory):
        broken = False

        async def records(self) -> dict[str, bytes]:
            if self.broken:
                raise DirectoryLost("gone")
            return dict(self.kept)

    async def story() -> None:
        async with place(folder) as here:
            here.directory = Flaky()
            for name, span in SPARE.items():
                await here.start(name, span)
            async with Joined(Caller(here.directory), folder) as swarm:
                await swarm.generate(swarm.asked("x", max_tokens=5))
                here.directory.broken = True
                begun = time.monotonic()
                shown = await swarm.generate(swarm.asked("x", max_tokens=50, ignore_eos=True))
                assert shown.output_tokens == 50 and time.monotonic() - begun < 30

    asyncio.run(story())
