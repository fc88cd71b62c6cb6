"""The life of nodes: they come, cover a model, fill gaps, move where the swarm gains by it, drain, and
outlive their directory. Most run in this process over real sockets; those that are killed are processes."""

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

for name in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from metainf.domain import BadInput, MissingExtra  # noqa: E402
from metainf.swarm.compute.blocks import Ends  # noqa: E402
from metainf.swarm.compute.shards import Checkpoint  # noqa: E402
from metainf.swarm.host import moving, placing, running  # noqa: E402
from metainf.swarm.host.book import signed_word  # noqa: E402
from metainf.swarm.host.demo import one_process  # noqa: E402
from metainf.swarm.host.nats import Server, program, started  # noqa: E402
from metainf.swarm.host.running import Book, Overtaken, Said, Told, guest, serve  # noqa: E402
from metainf.swarm.net.client import Session  # noqa: E402
from metainf.swarm.net.directory import NODES, joined  # noqa: E402
from metainf.swarm.net.stream import Terms  # noqa: E402
from metainf.swarm.plan import sight  # noqa: E402
from metainf.swarm.plan.routing import MissingBlocks  # noqa: E402
from metainf.swarm.plan.table import missing  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity, kept  # noqa: E402
from metainf.swarm.trust.signing import seal  # noqa: E402
from metainf.swarm.words import Announcement, Features, Profile, Span  # noqa: E402
from metainf.testing.random_models import random_model  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)

LAYERS, PROMPT, WITHIN_S = 6, [5, 17, 3, 88, 41], 120.0
pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("llama"), seed=5, num_hidden_layers=LAYERS)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = started(tmp_path / "nats")
    yield made
    made.stop()


class Lived:
    """A node in this process, and all that it said."""

    def __init__(self, told: Told) -> None:
        self.said: list[Said] = []
        self.stop = asyncio.Event()
        self.task = asyncio.create_task(serve(told, self.said.append, self.stop))

    def events(self, event: str) -> list[Said]:
        return [each for each in self.said if each.event == event]

    @property
    def node(self) -> str:
        return self.said[0].node

    async def until(self, event: str, count: int = 1) -> Said:
        await until(lambda: self.task.done() or len(self.events(event)) >= count)
        if self.task.done() and len(self.events(event)) < count:
            self.task.result()
        assert len(self.events(event)) >= count, f"expected {event}, heard {self.said}"
        return self.events(event)[-1]


async def until(true: Callable[[], object], within_s: float = WITHIN_S) -> None:
    end = time.monotonic() + within_s
    while not true() and time.monotonic() < end:
        await asyncio.sleep(0.05)
    assert true(), f"did not happen within {within_s:.0f} s"


class Place:
    """A directory, nodes of this process, and a guest that may use them."""

    def __init__(self, folder: Path, url: str, scratch: Path) -> None:
        self.checkpoint, self.url, self.scratch = Checkpoint(folder), url, scratch
        self.lived: list[Lived] = []
        self.processes: list[asyncio.subprocess.Process] = []
        self.me = Identity(os.urandom(32))
        self.mine = certify(self.me, time.time())

    def told(self, **more: Any) -> Told:
        plain = {"checkpoint": str(self.checkpoint.folder), "join": self.url, "grace_s": 1.0}
        return Told.model_validate({**plain, "cache": str(self.scratch / "speeds"), **more})

    async def start(self, **more: Any) -> Lived:
        lived = Lived(self.told(**more))
        self.lived.append(lived)
        await lived.until("ready")
        return lived

    async def command(self, *words: str) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
        """`metainf node` as a process, and what it says when it is ready."""
        line = [sys.executable, "-m", "metainf", "node", "--join", self.url, "--threads", "1", "--json"]
        process = await asyncio.create_subprocess_exec(
            *line, "--model", str(self.checkpoint.folder), *words,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "XDG_CACHE_HOME": str(self.scratch)},
        )  # fmt: skip
        self.processes.append(process)
        return process, await heard(process, "ready")

    async def words(self) -> dict[str, Announcement]:
        """The records of nodes by node."""
        records = await self.book.directory.records()
        found = {key: signed_word(record) for key, record in records.items() if key.startswith(NODES)}
        return {word.node: word for word in found.values() if word is not None}

    async def until_told(self, node: str, state: str) -> None:
        """News of the directory reach a member a moment after they were written."""
        end = time.monotonic() + WITHIN_S
        while (await self.words())[node].state != state:
            assert time.monotonic() < end
            await asyncio.sleep(0.05)

    async def until_covered(self, count: int) -> None:
        """Until so many nodes are online that hold all blocks."""
        end = time.monotonic() + WITHIN_S
        while True:
            spans = [word.span for word in (await self.words()).values() if word.state == "online"]
            lacking = missing([(span.start, span.end) for span in spans], LAYERS)
            if not lacking and len(spans) == count:
                return
            assert time.monotonic() < end, f"{count} nodes, {lacking} lacking: {spans}"
            await asyncio.sleep(0.05)

    def session(self) -> Session:
        terms = Terms("t", self.checkpoint.digest(), step_s=5.0)
        return Session(Ends(self.checkpoint), self.book.look, self.mine, terms)

    async def let_in(self) -> None:
        """Wait until the nodes have read of this guest in the directory."""
        end = time.monotonic() + WITHIN_S
        while True:
            try:
                async with self.session() as session:
                    return [token async for token in session.generate(PROMPT, 1)].clear()
            except MissingBlocks:
                assert time.monotonic() < end
                await asyncio.sleep(0.3)


async def heard(process: asyncio.subprocess.Process, event: str) -> dict[str, Any]:
    assert process.stdout is not None and process.stderr is not None
    while line := await asyncio.wait_for(process.stdout.readline(), WITHIN_S):
        told: dict[str, Any] = json.loads(line)
        if told["event"] == event:
            return told
    raise AssertionError((await process.stderr.read()).decode())


@asynccontextmanager
async def place(folder: Path, url: str, scratch: Path) -> AsyncIterator[Place]:
    made = Place(folder, url, scratch)
    made.book, stop = Book(await joined(url)), asyncio.Event()  # type: ignore[attr-defined]
    present = asyncio.create_task(guest(made.book, made.mine, made.me, stop))
    try:
        yield made
    finally:
        for lived in made.lived:
            lived.stop.set()
        await asyncio.gather(*(lived.task for lived in made.lived), return_exceptions=True)
        for process in made.processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        stop.set()
        await present
        await made.book.directory.close()


def test_small_nodes_cover_a_model_and_the_gap_of_a_dead_one_is_filled(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    """Three nodes with room for a third each cover the model, a fourth stands beside the slowest; the one
    that is killed is the only holder of its blocks."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            await here.start(memory_blocks=2, slowness=10.0)
            key = str(tmp_path / "key")
            process, ready = await here.command("--memory-gib", "0.0022", "--identity", key)
            await here.start(memory_blocks=2)
            await here.start(memory_blocks=2)
            await here.until_covered(4)
            died = Span.model_validate(ready["span"])
            held = [each.events("ready")[0].span for each in here.lived]
            assert missing([(s.start, s.end) for s in held if s is not None], LAYERS) == (died,)
            await here.let_in()
            made = await a_text_during_which(here, process.kill, died)
            assert made == one_process(here.checkpoint, Ends(here.checkpoint), PROMPT, 40)[: len(made)]
            await until(lambda: any(each.events("moved") for each in here.lived))
            assert [s.span for each in here.lived for s in each.events("moved")] == [died]
            assert sum(len(each.events("moving")) for each in here.lived) == 1
            back = await here.start(identity=key, memory_blocks=2)
            await here.until_told(back.node, "online")
            words = await here.words()
            assert back.node == ready["node"] and len(words) == 4
            assert words[back.node].address == back.events("ready")[0].address != ready["address"]
            await here.let_in()
            assert (await a_text_during_which(here)) == one_process(
                here.checkpoint, Ends(here.checkpoint), PROMPT, 40
            )

    asyncio.run(story())


async def a_text_during_which(
    here: Place, do: Callable[[], object] = lambda: None, lost: Span | None = None
) -> list[int]:
    """Tokens that came; where a way is lost the error names the blocks."""
    made: list[int] = []
    async with here.session() as session:
        try:
            async for token in session.generate(PROMPT, 40):
                made.append(token)
                if len(made) == 5:
                    do()
        except MissingBlocks as error:
            assert error.missing == (lost,)
    return made


def test_a_newcomer_goes_where_routes_get_quicker(server: Server, folder: Path, tmp_path: Path) -> None:
    """Three very slow nodes hold the first half, together a little stronger than the slow one that holds the
    second: that is the weakest, but the first is what every route waits for."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            for _ in range(3):
                await here.start(span=Span(start=0, end=3), slowness=30.0)
            await here.start(span=Span(start=3, end=6), slowness=11.0)
            weakest = await here.start(memory_blocks=3, place="weakest")
            assert weakest.events("ready")[0].span == Span(start=3, end=6)
            weakest.stop.set()
            await weakest.task
            quick = await here.start(memory_blocks=3)
            assert quick.events("ready")[0].span == Span(start=0, end=3)
            word = (await here.words())[quick.node]
            assert len(word.pings) == 4, "it measured them before it chose"

    asyncio.run(story())


@pytest.mark.parametrize("how", [{"place": "weakest"}, {"memory_blocks": 3}], ids=["weakest", "routes"])
def test_a_stronger_arrangement_causes_one_move(
    how: dict[str, object], server: Server, folder: Path, tmp_path: Path
) -> None:
    """Two stand on the first half when the quick holder of the second half leaves it to a slow one; both
    judge every half second, and one of them moves, while a text goes on. By the weakest block there is room
    for the new blocks beside the old ones; by routes it drains first."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            quick = await here.start(span=Span(start=3, end=6))
            await here.start(span=Span(start=3, end=6), slowness=20.0)
            soon = {"stay_s": 5.0, "judge_s": 0.5, "slowness": 3.0, **how}
            first, second = await here.start(**soon), await here.start(**soon)
            assert {str(each.events("ready")[0].span) for each in (first, second)} == {"[0, 3)"}
            await here.let_in()
            made = []
            async with here.session() as session:
                async for token in session.generate(PROMPT, 300):
                    made.append(token)
                    quick.stop.set()
                    await asyncio.sleep(0.1)
                    if first.events("moved") or second.events("moved"):
                        break
            assert made == one_process(here.checkpoint, Ends(here.checkpoint), PROMPT, len(made))
            await asyncio.sleep(3)
            moves = [*first.events("moved"), *second.events("moved")]
            assert len(moves) == 1 and moves[0].span is not None
            assert moves[0].span.start <= 3 and moves[0].span.end == 6
            assert sum(len(each.events("moving")) for each in (first, second)) == 1
            assert [each.address for each in moves] != [first.events("ready")[0].address]
            await here.until_covered(3)
            assert not any(word.target for word in (await here.words()).values())

    asyncio.run(story())


def test_rules_that_fail_end_no_node(
    server: Server,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A newcomer takes the weakest blocks instead, one that judges stays where it is; the log has why."""

    def fails(*_: object) -> None:
        raise IndexError("no such place")

    monkeypatch.setattr(placing, "first_by_routes", fails)
    monkeypatch.setattr(placing, "decide_by_routes", fails)

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            await here.start(span=Span(start=0, end=3))
            node = await here.start(memory_blocks=3, stay_s=0.0, judge_s=0.1)
            assert node.events("ready")[0].span == Span(start=3, end=6)
            await until(lambda: sum("judging whether to move" in text for text in caplog.messages) > 1)
            assert not node.task.done() and not node.events("moving")
            await here.let_in()

    with caplog.at_level(logging.ERROR, "metainf.swarm"):
        asyncio.run(story())
    assert "an error of MetaInf's own while choosing blocks by routes" in caplog.messages
    assert "no such place" in caplog.text


def test_numbers_that_no_sum_holds_stop_nobody(server: Server, folder: Path, tmp_path: Path) -> None:
    """What was signed in the form of before, without limits, is not believed: the others come and judge."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            for number, said in enumerate(
                [{"prefill_ms_per_token_block": 1e308}, {"decode_ms_per_block": 5e-324}]
            ):
                await a_liar(here, bytes([number]) * 32, said, span=Span(start=0, end=6))
            first = await here.start(memory_blocks=3, stay_s=0.0, judge_s=0.1)
            second = await here.start(memory_blocks=3, stay_s=0.0, judge_s=0.1)
            spans = {str(each.events("ready")[0].span) for each in (first, second)}
            assert spans == {"[0, 3)", "[3, 6)"}
            await asyncio.sleep(3)
            assert not first.task.done() and not second.task.done()
            await here.let_in()

    asyncio.run(story())


async def a_liar(here: Place, seed: bytes, said: dict[str, float], **told: Any) -> None:
    """A record of one that serves nobody, whatever it says of its speed."""
    other, now_s = Identity(seed), time.time()
    certified = certify(other, now_s)
    plain = {
        "node": other.node, "generation": 1, "seq": 1, "address": "127.0.0.1:1", "num_blocks": LAYERS,
        "certificate": certified.digest, "model": here.checkpoint.digest(), "issued_s": now_s,
        "valid_until_s": now_s + 300, "profile": Profile(dtype="float32"),
        "features": Features(decode_ms_per_block=1.0),
    }  # fmt: skip
    word = Announcement.model_validate({**plain, **told})
    word = word.model_copy(update={"features": word.features.model_copy(update=said)})
    await here.book.directory.put(f"{NODES}{other.node}", seal(other, word, certified.der))


def test_one_that_never_arrives_is_not_waited_for_long(
    server: Server, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quick holder of the second half leaves it to a slow one. The newcomer stays in the first half as
    long as it waits for another that says that it is about to move."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            with socket.socket() as listens:
                listens.bind(("127.0.0.1", 0))
                listens.listen(64)
                await here.start(span=Span(start=0, end=3), slowness=3.0)
                await here.start(span=Span(start=3, end=6), slowness=20.0)
                quick = await here.start(span=Span(start=3, end=6))
                node = await here.start(memory_blocks=3, stay_s=5.0, judge_s=0.3)
                assert node.events("ready")[0].span == Span(start=0, end=3)
                spans = {"span": Span(start=0, end=1), "target": Span(start=1, end=2)}
                address = f"127.0.0.1:{listens.getsockname()[1]}"
                await a_liar(here, b"a" * 32, {"decode_ms_per_block": 9.0}, address=address, **spans)
                quick.stop.set()
                await quick.task
                await asyncio.sleep(8)
                assert not node.events("moving")
                monkeypatch.setattr(sight, "MOVING_S", 1.0)
                assert (await node.until("moved")).span == Span(start=3, end=6)

    asyncio.run(story())


def test_a_node_judges_by_one_reading_of_the_directory(
    server: Server, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While it judges, in a thread, another says that its model has more blocks."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            other = await here.start(span=Span(start=0, end=6))
            member = await running._prepared(here.told(memory_blocks=3), lambda said: None)
            try:
                chosen = await placing.entering(member)

                def pick(others: placing.Others, words: placing.Words) -> Span:
                    more = {"num_blocks": LAYERS + 1}
                    member.book.heard = [
                        replace(each, word=each.word.model_copy(update=more)) for each in member.book.heard
                    ]
                    assert [each.num_blocks for each in words] == [LAYERS] != [member.words()[0].num_blocks]
                    return chosen(others, words)

                assert await moving._settled(member, pick) is not None
                assert [each.word.node for each in member.book.heard if each.word.node == other.node]
            finally:
                await member.forgotten()
                await member.book.directory.close()

    with caplog.at_level(logging.ERROR, "metainf.swarm"):
        asyncio.run(story())
    assert not caplog.records


def test_a_node_drains_while_a_text_is_written_and_comes_back_under_its_name(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    """SIGTERM in the middle of a text: it is finished within the grace, the exit code is 0, the record gone.
    Told to stop without a grace, it leaves the text to another node."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            expected = one_process(here.checkpoint, Ends(here.checkpoint), PROMPT, 40)
            key = str(tmp_path / "key")
            process, ready = await here.command("--identity", key, "--price", "0.5", "--label", "mine")
            await here.let_in()
            async with here.session() as session:
                made = []
                async for token in session.generate(PROMPT, 40):
                    made.append(token)
                    if len(made) == 5:
                        process.send_signal(signal.SIGTERM)
                        await heard(process, "draining")
                        await here.until_told(ready["node"], "draining")
                assert made == expected and not session.recoveries
            assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
            assert await here.words() == {}

            first = await here.start(identity=key, grace_s=0.0)
            assert first.node == ready["node"]
            await here.start()
            await here.let_in()
            async with here.session() as session:
                made = []
                async for token in session.generate(PROMPT, 40):
                    made.append(token)
                    if len(made) == 5 and session.route[0].node == first.node:
                        first.stop.set()
                        await first.task
                assert made == expected
            if first.task.done():
                assert len(await here.words()) == 1 and len(session.recoveries) == 1

    asyncio.run(story())


def test_a_node_outlives_its_directory(folder: Path, tmp_path: Path) -> None:
    """The server is killed, another starts at the same port with nothing in it; a text goes on meanwhile."""

    async def story() -> None:
        first = started(tmp_path / "one")
        second = None
        try:
            async with place(folder, first.url, tmp_path) as here:
                node = await here.start()
                await here.let_in()
                async with here.session() as session:
                    made = []
                    async for token in session.generate(PROMPT, 12):
                        made.append(token)
                        if len(made) == 5:
                            first.kill()
                            await node.until("lost")
                    assert made == one_process(here.checkpoint, Ends(here.checkpoint), PROMPT, 12)
                second = started(tmp_path / "two", first.port)
                await node.until("found")
                assert list(await here.words()) == [node.node]
                assert not node.task.done()
        finally:
            first.stop()
            if second is not None:
                second.stop()

    asyncio.run(story())


def test_a_node_warns_where_its_directory_is_spoken_to_in_the_open(
    server: Server, folder: Path, tmp_path: Path
) -> None:
    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            quiet = await here.start(span=Span(start=0, end=1))
            loud = await here.start(span=Span(start=0, end=1), join=f"nats://0.0.0.0:{server.port}")
            assert not quiet.events("warning")
            assert ["NATS at 0.0.0.0 is spoken to without TLS" in e.text for e in loud.events("warning")] == [
                True
            ]

    asyncio.run(story())


def test_what_a_node_cannot_do_is_said(server: Server, folder: Path, tmp_path: Path) -> None:
    """A taken port, too little memory, a key that others may read, another process of the same identity, a
    clock that is wrong."""

    async def story() -> None:
        async with place(folder, server.url, tmp_path) as here:
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                port = taken.getsockname()[1]
                with pytest.raises(BadInput, match=f"expected port {port} .* to be free"):
                    await here.start(port=port)
            with pytest.raises(BadInput, match="memory for one block"):
                await here.start(memory_gib=0.0001)
            with pytest.raises(BadInput, match=r"memory for the 6 blocks .* room for 2"):
                await here.start(memory_gib=0.0022, span=Span(start=0, end=6))
            with pytest.raises(BadInput, match=r"within \[0, 6\)"):
                await here.start(span=Span(start=4, end=7))
            key = tmp_path / "key"
            kept(key)
            key.chmod(0o644)
            with pytest.raises(BadInput, match="chmod 600"):
                await here.start(identity=str(key))
            key.chmod(0o600)
            one = await here.start(identity=str(key))
            two = await here.start(identity=str(key))
            with pytest.raises(Overtaken, match="identity of its own"):
                await asyncio.wait_for(one.task, WITHIN_S)
            assert "the same identity" in one.events("warning")[0].text
            words = await here.words()
            assert [word.address for word in words.values()] == [two.events("ready")[0].address]
            assert words[two.node].features.hardware and words[two.node].features.cache_tokens_left > 0
            await a_wrong_clock(here, two)

    async def a_wrong_clock(here: Place, node: Lived) -> None:
        """To the node it seems that the other's clock is five minutes ahead."""
        other, now_s = Identity(os.urandom(32)), time.time() + 300
        certified = certify(other, time.time())
        word = Announcement(
            node=other.node, generation=1, seq=1, address="127.0.0.1:1", certificate=certified.digest,
            model=here.checkpoint.digest(), num_blocks=LAYERS, span=Span(start=0, end=1), issued_s=now_s,
            valid_until_s=now_s + 15, profile=Profile(dtype="float32"),
            features=Features(decode_ms_per_block=1.0),
        )  # fmt: skip
        await here.book.directory.put(f"{NODES}{other.node}", seal(other, word, certified.der))
        said = await node.until("warning")
        assert "behind that of the one other node" in said.text and "set the clocks" in said.text

    asyncio.run(story())


def test_a_folder_that_lacks_blocks_is_named(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    from metainf.swarm.host.sizing import need

    tensors = load_file(folder / "model.safetensors")
    shutil.copy(folder / "config.json", tmp_path / "config.json")
    kept_ = {name: each for name, each in tensors.items() if ".layers.3." not in name}
    save_file(kept_, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match=r"weights of all 6 blocks .* none of \[3, 4\)"):
        need(Checkpoint(tmp_path))
    one = need(Checkpoint(folder))
    held = sum(each.numel() * 4 for name, each in tensors.items() if ".layers.3." in name)
    assert one.weights == held and one.cache == 2 * 2 * 8 * 4 * 8192
