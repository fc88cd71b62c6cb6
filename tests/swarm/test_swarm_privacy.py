"""Classes of privacy: what they say, when they may say private, and which nodes they leave out."""

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some
from typer.testing import CliRunner

from metainf.cli.app import app
from metainf.domain import BadInput, NotSupported
from metainf.swarm.privacy.attestation import Refusing
from metainf.swarm.privacy.measured import attacks, refusal, table, what
from metainf.swarm.privacy.words import CLASSES, MOST_RECOVERED, Attacked, Required, is_private, upper
from metainf.swarm.words import Announcement, Features, Profile, Span


def row(recovered: int, tokens: int, most: int | None = None) -> Attacked:
    return Attacked(
        model="m", blocks=1, codec="f32", tokens=tokens, recovered=recovered, most=most,
        tried_per_token=1, seconds_per_token=1,
    )  # fmt: skip


def word(node: str = "ed-abc", labels: tuple[str, ...] = (), region: str | None = None) -> Announcement:
    return Announcement(
        node=node, generation=1, seq=1, address="a:1", certificate="b2:" + "0" * 32, model="b2:" + "1" * 32,
        num_blocks=4, span=Span(start=0, end=4), profile=Profile(dtype="float32"),
        features=Features(decode_ms_per_block=1, labels=labels, region=region), issued_s=1, valid_until_s=2,
    )  # fmt: skip


def test_private_is_only_what_was_attacked_in_full_and_gave_less_than_five_percent() -> None:
    assert not is_private([])
    assert is_private([row(0, 100)])
    assert not is_private([row(0, 20)]), "twenty tokens show too little"
    assert not is_private([row(0, 100, most=4096)]), "an attacker may try more"
    assert not is_private([row(0, 100), row(90, 100)]), "the best attack counts"
    assert not is_private([row(4, 100)])


@given(some.integers(1, 400), some.data())
def test_the_bound_lies_above_what_was_measured(tokens: int, data: some.DataObject) -> None:
    found = data.draw(some.integers(0, tokens))
    bound = upper(found, tokens)
    assert found / tokens < bound <= 1 or found == tokens
    assert is_private([row(found, tokens)]) == (bound < MOST_RECOVERED)


def test_no_class_of_this_swarm_is_called_private() -> None:
    """The shipped measurements decide; where one changes this, the page must change too."""
    told = [what(name) for name in CLASSES]
    assert [each.name for each in told if each.private] == []
    assert what("transport").recovery == 1.0
    for keep in {each.blocks for each in attacks() if each.blocks}:
        split = what("split", keep)
        assert not split.private and split.recovery is not None
    assert what("split", 3).recovery is None or any(each.blocks == 3 for each in attacks())
    assert "not secrecy" in what("split").protects
    with pytest.raises(BadInput, match="transport, trusted"):
        what("secret")


def test_shipped_tables_name_their_source() -> None:
    for name in ("recovery", "split", "encrypted"):
        told = table(name)
        assert told["source"].startswith("python benchmarks/bench_swarm_privacy.py") and told["rows"]


def test_the_command_tells_all_classes_and_no_class_too_well() -> None:
    ran = CliRunner().invoke(app, ["swarm", "privacy", "--json"])
    told = json.loads(ran.stdout)
    assert [each["name"] for each in told] == list(CLASSES)
    lines = CliRunner().invoke(app, ["swarm", "privacy"]).stdout.splitlines()
    assert len(lines) == 4 * len(CLASSES) and "100%" in lines[0] and "not to be called private" in lines[0]


def test_requirements_that_make_no_sense_are_refused() -> None:
    for told, why in (
        ({"privacy": "trusted"}, "whom to trust"),
        ({"privacy": "split"}, "how many blocks"),
        ({"privacy": "transport", "keep": 2}, "only with split"),
        ({"privacy": "private"}, "transport"),
    ):
        with pytest.raises(BadInput, match=why):
            Required.asking(**told)  # type: ignore[arg-type]


def test_a_node_needs_one_of_the_marks() -> None:
    required = Required.asking("trusted", ["lab", "region:fra", "ed-friend"])
    assert required.admits(word(labels=("x", "lab")))
    assert required.admits(word(region="fra"))
    assert required.admits(word(node="ed-friend"))
    assert not required.admits(word(labels=("region",), region="ams"))
    assert Required.asking("transport").admits(word())


def test_nobody_counts_as_attested_without_a_verifier() -> None:
    with pytest.raises(NotSupported, match="verifier"):
        Refusing().verify(word(), b"")


def test_a_language_model_under_encryption_is_refused_with_the_arithmetic() -> None:
    head = max(table("encrypted")["rows"], key=lambda each: each["inputs"] * each["outputs"])
    assert f"{head['server_s']:.1f} s" in refusal() and "softmax" in refusal()


pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from in_process import LAYERS, PROMPT, alone, tiny, written  # noqa: E402
from in_process import place as nodes_of  # noqa: E402
from small_swarm import place, small_model, whole_text  # noqa: E402

from metainf.swarm.host.caller import Caller, NotServed  # noqa: E402
from metainf.swarm.host.generating import Course, Joined  # noqa: E402
from metainf.swarm.host.passing import Passage  # noqa: E402
from metainf.swarm.net.directory import NODES  # noqa: E402
from metainf.swarm.plan.routing import MissingBlocks  # noqa: E402
from metainf.swarm.privacy.guarding import Guard  # noqa: E402
from metainf.swarm.privacy.splitting import KeptEnds, first_blocks  # noqa: E402
from metainf.swarm.trust.signing import seal  # noqa: E402

COUNT = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.parametrize("direct", [True, False])
def test_split_tokens_are_the_models_although_a_node_dies(folder: Path, keep: int, direct: bool) -> None:
    async def story() -> tuple[list[int], int, list[Span]]:
        async with nodes_of(folder) as here:
            await here.start("a", (0, 3), decode_ms=1)
            await here.start("spare", (keep, 3), decode_ms=9)
            await here.start("b", (3, LAYERS))
            session = here.session(direct=direct)
            session.ends = KeptEnds(session.ends, first_blocks(here.checkpoint, keep))  # type: ignore[assignment]
            session.first_block = keep
            async with session:
                made = await written(session, COUNT, 7, lambda: here.kill("a"))
                return made, len(session.recoveries), [stage.span for stage in session.route]

    made, recoveries, spans = asyncio.run(story())
    assert made == alone(folder, PROMPT, COUNT)
    assert recoveries == 1 and spans[0].start == keep and spans[-1].end == LAYERS


def test_the_first_blocks_need_no_node(folder: Path, model: Path) -> None:
    async def story(keep: int) -> tuple[list[int], list[int], int]:
        async with place(model) as here:
            await here.start("a", (2, 4))
            guard = Guard(Required.asking("split", keep=keep))
            async with Joined(Caller(here.directory, guard=guard), model) as swarm:
                ask = swarm.asked("Grüße", plain=True, max_tokens=COUNT, ignore_eos=True)
                prompt = swarm.prompt(ask)
                passage = Passage(swarm, prompt, ask, Course(), 20.0)
                async for _ in passage.bits():
                    pass
                one = passage.made
                assert swarm.kept is not None
                return one, prompt, swarm.kept.room.sessions

    made, prompt, left = asyncio.run(story(2))
    assert made == whole_text(model, prompt, COUNT) and left == 0
    with pytest.raises(MissingBlocks, match="1, 2"):
        asyncio.run(story(1))
    with pytest.raises(BadInput, match="at the client"):
        asyncio.run(story(4))


def test_only_trusted_nodes_are_asked_also_after_a_failure(model: Path) -> None:
    async def story(trust: str) -> tuple[set[str], set[str], list[str]]:
        async with place(model) as here:
            for name, span in (("a", (0, 4)), ("b", (0, 4)), ("fast", (0, 4))):
                await here.start(name, span, decode_ms=0.1 if name == "fast" else 5)
                identity, certified = here.people[name]
                held = (await Caller(here.directory).book.look())[-1].word
                label = () if name == "fast" else ("lab",)
                told = held.model_copy(
                    update={"seq": 2, "features": held.features.model_copy(update={"labels": label})}
                )
                await here.directory.put(f"{NODES}{identity.node}", seal(identity, told, certified.der))
            asked = here.people["a"][0].node if trust == "a" else trust
            guard = Guard(Required.asking("trusted", [asked]))
            async with Joined(Caller(here.directory, guard=guard), model) as swarm:
                ask = swarm.asked("Hello", plain=True, max_tokens=12, ignore_eos=True)
                course, count = Course(), 0
                async for _ in swarm.stream(ask, course):
                    count += 1
                    if count == 4 and trust == "lab":
                        for name in ("a", "b"):
                            if here.people[name][0].node.startswith(course.routes[0].split()[0]):
                                await here.kill(name)
                used = {here.name_of(each.split()[0]) for each in course.routes}
                return used, {here.name_of(node) for node in swarm.caller._doors}, course.routes

    used, knocked, routes = asyncio.run(story("lab"))
    assert used == {"a", "b"} and len(routes) == 2, routes
    assert knocked == {"a", "b"}, "a node that is left out is not even knocked at"
    assert asyncio.run(story("a"))[0] == {"a"}
    with pytest.raises(NotServed, match="3 nodes are left out"):
        asyncio.run(story("elsewhere"))


class Believing:
    """A verifier for tests: evidence is right for one node."""

    def __init__(self, node: str) -> None:
        self.node = node

    def verify(self, word: Announcement, certificate: bytes) -> None:
        if word.node != self.node or not certificate:
            raise NotSupported("no evidence")


def test_the_seam_for_attestation_leaves_out_who_shows_nothing(model: Path) -> None:
    for name in ("attested", "encrypted-head"):
        with pytest.raises(NotSupported):
            Guard(Required.asking(name))

    async def story() -> tuple[set[str], str]:
        async with place(model) as here:
            await here.start("a", (0, 4))
            await here.start("b", (0, 4))
            me = here.people["b"][0].node
            guard = Guard(Required.asking("attested"), Believing(me))
            async with Caller(here.directory, guard=guard) as caller:
                return {each.word.node for each in caller.heard}, me

    found, me = asyncio.run(story())
    assert found == {me}
