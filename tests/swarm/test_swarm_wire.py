"""What a node answers to messages that it must not follow: versions, tickets, links, sizes, silence."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography"):
    pytest.importorskip(name, reason="needs the extra swarm")

from in_process import PROMPT, Place, alone, place, tiny, written  # noqa: E402

from metainf.swarm.compute.codec import MOST_BYTES, packed  # noqa: E402
from metainf.swarm.host.running import Book  # noqa: E402
from metainf.swarm.net import node as serving  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.forwarding import METHOD, TICKET_BYTES, digest  # noqa: E402
from metainf.swarm.trust import tls  # noqa: E402
from metainf.swarm.trust.certificates import certify  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.tls import channel  # noqa: E402

TICKET = bytes(range(TICKET_BYTES))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("llama"))


class Raw:
    """Streams of bytes to one node."""

    def __init__(self, swarm: Place, way: Any) -> None:
        self.swarm, self._way = swarm, way
        self.calls: list[Any] = []

    def call(self) -> Any:
        self.calls.append(self._way.stream_stream(METHOD)())
        return self.calls[-1]

    async def opened(self, **more: Any) -> Any:
        """A stream with a session that has a ticket."""
        call = self.call()
        assert (await said(call, self.opening(**more))).WhichOneof("kind") == "opened"
        return call

    def opening(self, **more: Any) -> Any:
        told = {"version": 1, "session": "s", "model": self.swarm.model, "start": 0, "end": 4}
        return wire.ToNode(open=wire.Open(**{**told, "dtype": "float32", "ticket": TICKET, **more}))


async def said(call: Any, message: Any) -> Any:
    """The next answer on a stream."""
    await call.write(message if isinstance(message, bytes) else message.SerializeToString())
    return wire.FromNode.FromString(await asyncio.wait_for(call.read(), 5))


def step(position: int, tokens: int = 1, scale: float = 1.0) -> Any:
    values = np.random.default_rng(position).normal(size=(1, tokens, 32)).astype(np.float32) * scale
    shape, data = packed(values)
    return wire.ToNode(step=wire.Step(position=position, shape=shape, codec="f32", data=data))


def join(**more: Any) -> Any:
    return wire.ToNode(join=wire.Join(**{"version": 1, "ticket": TICKET, **more}))


@asynccontextmanager
async def raw(folder: Path) -> AsyncIterator[Raw]:
    async with place(folder) as swarm:
        await swarm.start("a", (0, 4))
        identity, certified = swarm.people["a"]
        heard = (await Book(swarm.directory).look())[0]
        way = channel(heard.word.address, identity.node, certified.der, swarm.mine)
        made = Raw(swarm, way)
        try:
            yield made
        finally:
            for call in made.calls:
                call.cancel()
            await way.close()


def test_first_messages_that_are_refused(folder: Path) -> None:
    async def story() -> None:
        async with raw(folder) as to:
            await to.opened()
            refused = {
                "version 1": to.opening(version=2, ticket=b""),
                "new ticket": to.opening(),
                "16 bytes": to.opening(ticket=b"short"),
                "ticket of a session": join(ticket=os.urandom(TICKET_BYTES)),
                "and version 1": join(version=7),
                "session first": step(0),
                "message of this protocol": b"\xff\xff\xff",
                "characters": to.opening(session="x" * 129, ticket=b""),
            }
            for why, message in refused.items():
                answer = await said(to.call(), message)
                assert answer.WhichOneof("kind") == "refusal" and why in answer.refusal.why, why

    asyncio.run(story())


def test_a_feed_brings_steps_and_its_mistakes_are_its_own(folder: Path) -> None:
    """What the node before brings reaches the client with a digest; a feed that errs is refused, the session
    lives; who joins later takes the place of who joined first."""

    async def story() -> None:
        async with raw(folder) as to:
            client, feed = await to.opened(), to.call()
            assert (await said(feed, join())).WhichOneof("kind") == "joined"
            await feed.write(step(0, 3).SerializeToString())
            answer = wire.FromNode.FromString(await asyncio.wait_for(client.read(), 5))
            assert answer.step.direct and answer.step.digest == digest(step(0, 3).step.data)
            await feed.write(step(9).SerializeToString())  # out of turn: dropped
            await client.write(step(0, 3).SerializeToString())  # brought already: dropped
            assert (await said(client, step(3))).step.position == 3
            assert (await said(feed, step(4, scale=float("nan")))).refusal.code == wire.Refusal.MALFORMED
            second = to.call()
            await said(second, join())
            third = to.call()
            await said(third, join())
            assert "another node" in (await said(second, step(4))).refusal.why
            assert not (await said(client, step(4))).step.direct
            assert (await said(client, step(9))).refusal.code == wire.Refusal.WRONG_POSITION

    asyncio.run(story())


def test_a_session_that_is_over_takes_its_ticket_along(folder: Path) -> None:
    async def story() -> None:
        async with raw(folder) as to:
            client, feed = await to.opened(), to.call()
            await said(feed, join())
            client.cancel()
            for _ in range(100):
                if not to.swarm.nodes["a"].visits:
                    break
                await asyncio.sleep(0.02)
            assert "over" in (await said(feed, step(0))).refusal.why
            assert (await said(to.call(), join())).WhichOneof("kind") == "refusal"

    asyncio.run(story())


def test_links_that_cannot_be(folder: Path) -> None:
    """A malformed link ends the session; one to a node that the directory does not list is not followed."""

    async def story() -> None:
        async with raw(folder) as to:
            stranger = Identity(os.urandom(32))
            certified = certify(stranger, 1_700_000_000.0)
            good = {
                "address": "127.0.0.1:9", "node": stranger.node, "certificate": certified.der,
                "ticket": TICKET,
            }  # fmt: skip
            bad = [
                {"certificate": b"no"}, {"node": to.swarm.me.node}, {"address": "unix:/run/x"},
                {"address": ""}, {"ticket": b""},
            ]  # fmt: skip
            for number, each in enumerate(bad):
                call = await to.opened(ticket=bytes([number]) * TICKET_BYTES)
                answer = await said(call, wire.ToNode(link=wire.Link(**{**good, **each})))
                assert answer.refusal.code == wire.Refusal.MALFORMED, each
            call = await to.opened()
            await call.write(wire.ToNode(link=wire.Link(**good)).SerializeToString())
            answer = await said(call, step(0))
            assert answer.WhichOneof("kind") == "step" and not answer.step.forwarded
            (visit,) = to.swarm.nodes["a"].visits.values()
            assert visit.next is None

    asyncio.run(story())


def test_too_large_and_too_silent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message over the limit ends its stream; so does a long silence; others go on."""
    import grpc

    async def story() -> None:
        async with raw(folder) as to:
            monkeypatch.setattr(tls, "OPTIONS", [("grpc.max_send_message_length", -1)])
            heard = (await Book(to.swarm.directory).look())[0]
            free = channel(heard.word.address, heard.word.node, heard.certificate, to.swarm.mine)
            call = await Raw(to.swarm, free).opened()
            large = wire.ToNode(
                step=wire.Step(shape=[1, 1, 1], codec="f32", data=b"\0" * (MOST_BYTES + 2**21))
            )
            with pytest.raises((grpc.aio.AioRpcError, asyncio.InvalidStateError)) as found:
                await said(call, large)
            assert "RESOURCE_EXHAUSTED" in str(found.value)
            await free.close()
            monkeypatch.setattr(serving, "IDLE_S", 0.3)
            silent = await to.opened(ticket=os.urandom(TICKET_BYTES))
            assert not isinstance(await asyncio.wait_for(silent.read(), 5), bytes)
            async with to.swarm.session() as session:
                assert await written(session, 8) == alone(folder, PROMPT, 8)

    asyncio.run(story())
