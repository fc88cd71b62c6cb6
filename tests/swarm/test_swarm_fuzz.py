"""Hostile input to every format of the swarm: nothing ends a node, and a good call works afterwards.

METAINF_FUZZ tells how many messages there are in all; the documentation was written with 20,000.
"""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metainf.domain import BadInput
from metainf.swarm.compute.codec import unpacked

for needed in ("torch", "transformers", "grpc", "google.protobuf", "cryptography", "psutil"):
    pytest.importorskip(needed, reason="needs the extra swarm")

import grpc  # noqa: E402
import psutil  # noqa: E402
from audit_place import PROMPT, Place, place, small_model  # noqa: E402
from fuzzing import hand_made, last_answer, mutants, opening, step  # noqa: E402

from metainf.swarm.ledger.words import Order  # noqa: E402
from metainf.swarm.net import node as paying  # noqa: E402
from metainf.swarm.net import wire_pb2 as wire  # noqa: E402
from metainf.swarm.net.directory import GUESTS, NODES, nodes, trusted  # noqa: E402
from metainf.swarm.net.forwarding import Links  # noqa: E402
from metainf.swarm.net.node import METHOD  # noqa: E402
from metainf.swarm.net.paid import Till, believed  # noqa: E402
from metainf.swarm.net.stream import StageFailed, Stream  # noqa: E402
from metainf.swarm.trust.certificates import certify, owner_of, pem_of  # noqa: E402
from metainf.swarm.trust.identity import Identity  # noqa: E402
from metainf.swarm.trust.sealed import digest, sealed  # noqa: E402
from metainf.swarm.trust.signing import MOST_BYTES, Refused, Replayed, Seen, digest_of, seal, unseal  # noqa: E402
from metainf.swarm.trust.tls import channel, serving  # noqa: E402
from metainf.swarm.words import Announcement, Features, Profile, Span, Stage  # noqa: E402

COUNT = int(os.environ.get("METAINF_FUZZ", "2000"))
NOW = 1_000_000.0
ANSWERS = {"opened", "step", "refusal"}
MOST_GROWTH = 64 * 2**20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("llama"))


def envelope(seed: int, seq: int = 1, other: bytes = b"") -> bytes:
    """A sealed announcement, rightly signed; with `other` as what it calls its certificate."""
    identity = Identity(seed.to_bytes(32, "big"))
    der = other or certify(identity, NOW).der
    word = Announcement(
        node=identity.node, generation=1, seq=seq, address="127.0.0.1:1", certificate=digest_of(der),
        model="b2:" + "0" * 32, num_blocks=4, span=Span(start=0, end=4), profile=Profile(dtype="float32"),
        features=Features(decode_ms_per_block=1.0), issued_s=NOW, valid_until_s=NOW + 60,
    )  # fmt: skip
    return seal(identity, word, der)


def resident_bytes() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


# Formats that are read without a connection


def test_broken_announcements_are_refused() -> None:
    """Nothing but Refused ever leaves `unseal`, and what it believes is what was signed."""
    good = [envelope(1), envelope(2)]
    words = {unseal(each, NOW).word.canonical() for each in good}
    believed = 0
    for message in mutants(good, COUNT // 4, seed=1):
        try:
            heard = unseal(message, NOW, Seen())
        except Refused:
            continue
        believed += 1
        assert heard.word.canonical() in words, "a changed announcement was believed"
    assert believed < COUNT // 40, "changes that change nothing, such as a bit of padding, are few"


def test_replayed_oversized_and_wrongly_signed_announcements_are_refused() -> None:
    seen, good = Seen(), envelope(1, seq=5)
    unseal(good, NOW, seen)
    for again in (good, envelope(1, seq=4)):
        with pytest.raises(Replayed):
            unseal(again, NOW, seen)
    with pytest.raises(Refused, match="at most"):
        unseal(good + b" " * MOST_BYTES, NOW)
    other = envelope(2).split(b'"signature"')
    with pytest.raises(Refused, match="signature"):
        unseal(b'"signature"'.join([good.split(b'"signature"')[0], other[1]]), NOW)


@given(st.dictionaries(st.text(max_size=80), st.binary(max_size=300), max_size=8))
@settings(max_examples=100)
def test_a_directory_of_anything_is_read(records: dict[str, bytes]) -> None:
    records |= {f"{NODES}{key[:50]}": value for key, value in records.items()}
    records |= {f"{GUESTS}{key[:50]}": value for key, value in records.items()}
    assert nodes(records, NOW) == [] and trusted(records, NOW) == b""


def test_broken_records_hide_no_good_one() -> None:
    """Good records are found among broken ones; none is believed under another's key."""
    one, guest = envelope(1), Identity(b"g" * 32)
    card, name = certify(guest, NOW), unseal(one, NOW).word.node
    records = {f"{NODES}{name}": one, f"{NODES}stolen": one, f"{GUESTS}{guest.node}": card.der}
    broken = list(mutants([one, card.der], COUNT // 20, seed=2))
    records |= {f"{NODES}n{at}": each for at, each in enumerate(broken)}
    records |= {f"{GUESTS}g{at}": each for at, each in enumerate(broken)}
    assert [each.word.node for each in nodes(records, NOW)] == [name]
    assert trusted(records, NOW).count(b"BEGIN CERTIFICATE") == 2


def test_a_member_with_a_broken_certificate_locks_nobody_out() -> None:
    """Whoever may write can seal anything as a certificate: a broken one, or that of another node."""
    card = certify(Identity(b"c" * 32), NOW).der
    version = bytearray(card)
    version[card.index(b"\xa0\x03\x02\x01\x02") + 4] = 93
    bad = [envelope(5, other=b"nothing"), envelope(6, other=bytes(version)), envelope(7, other=card)]
    records = {f"{NODES}{unseal(each, NOW).word.node}": each for each in [envelope(1), *bad]}
    assert trusted(records, NOW).count(b"BEGIN CERTIFICATE") == 1
    assert len(nodes(records, NOW)) == 1, "nor is a client led to one whose certificate it cannot use"


def test_broken_certificates_are_refused() -> None:
    """A changed certificate has no owner, or the same as before where what was changed is not vouched for."""
    identity = Identity(b"c" * 32)
    card = certify(identity, NOW)
    for message in mutants([card.der], COUNT // 4, seed=3):
        with contextlib.suppress(Refused):
            assert owner_of(message) == identity.node
        with contextlib.suppress(Refused):
            pem_of(message)


@given(
    st.lists(st.integers(0, 2**32 - 1), max_size=6),
    st.sampled_from(["f32", "f16", "f64", "", "int8"]),
    st.binary(max_size=64),
)
def test_activations_of_any_shape_and_length_are_checked(shape: list[int], codec: str, data: bytes) -> None:
    try:
        made = unpacked(shape, codec, data)
    except BadInput:
        return
    assert list(made.shape) == shape and made.size > 0


# A node


Hostile = Callable[[Place, grpc.aio.Channel], Awaitable[None]]


def against_a_node(folder: Path, hostile: Hostile) -> None:
    """A node suffers something, and writes the same text afterwards as before; no stream or cache stays."""

    async def story() -> None:
        async with place(folder) as swarm:
            node = await swarm.start("a", (0, 4))
            identity, certified, address = swarm.people["a"]
            way = channel(address, identity.node, certified.der, swarm.mine)
            async with swarm.session() as session:
                before = [token async for token in session.generate(PROMPT, 8)]
            await hostile(swarm, way)
            async with swarm.session() as session:
                assert [token async for token in session.generate(PROMPT, 8)] == before
            await way.close()
            for _ in range(200):
                if not node.streams and not any(part.sessions for part in node.parts.values()):
                    return
                await asyncio.sleep(0.02)
            pytest.fail(f"{node.streams} streams stay open")

    asyncio.run(story())


def test_broken_messages_end_no_node_and_cost_no_memory(folder: Path) -> None:
    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        good, kinds = opening(swarm.model), set()

        async def send(number: int, message: bytes) -> None:
            sent = [message] if number // 16 % 2 else [good, message]
            answer = await last_answer(way, METHOD, sent)
            kind = answer if isinstance(answer, grpc.StatusCode) else answer.WhichOneof("kind")
            assert kind in ANSWERS, f"{kind} for {sent[-1][:60]!r}"
            kinds.add(kind)

        broken = list(mutants([good, step()], COUNT // 2, seed=4))
        warm = len(broken) // 5
        for number, message in enumerate(broken[:warm]):
            await send(number, message)
        before = resident_bytes()
        for number, message in enumerate(broken[warm:]):
            await send(number, message)
        grown = resident_bytes() - before
        assert grown < MOST_GROWTH, f"{grown / 2**20:.0f} MiB more after {len(broken) - warm} messages"
        assert "refusal" in kinds and kinds & {"opened", "step"}

    against_a_node(folder, hostile)


def test_broken_orders_links_and_wishes_for_receipts_end_no_node(folder: Path) -> None:
    """A paid node that hands on; a session that is open all the while goes on afterwards."""

    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        identity, certified, _ = swarm.people["a"]
        node, following = swarm.nodes["a"], await swarm.start("b", (0, 4))
        node.till = Till(identity)
        node.links = Links(certified, lambda: trusted(swarm.records, time.time()))
        other, card, address = swarm.people["b"]
        paid = order_for(swarm.model)
        ticket, good = b"t" * 16, opening(swarm.model, order=paid)
        kept = way.stream_stream(METHOD)()
        await kept.write(opening(swarm.model, ticket=ticket))
        await asyncio.wait_for(kept.read(), 20)
        told = {"address": address, "node": other.node, "certificate": card.der, "ticket": ticket}
        link = bytes(wire.ToNode(link=wire.Link(**told)).SerializeToString())
        sign = bytes(wire.ToNode(sign=wire.Sign(previous=digest(paid))).SerializeToString())
        join = bytes(wire.ToNode(join=wire.Join(version=1, ticket=ticket)).SerializeToString())
        assert (await last_answer(way, METHOD, [good, step(), sign])).WhichOneof("kind") == "signed"
        assert (await last_answer(way, METHOD, [good, link, step()], [1])).WhichOneof("kind") == "step"
        assert (await last_answer(way, METHOD, [join])).WhichOneof("kind") == "joined"
        kinds, few = set(), COUNT // 20

        async def send(messages: list[bytes], unanswered: tuple[int, ...] = ()) -> None:
            answer = await last_answer(way, METHOD, messages, unanswered)
            kind = answer if isinstance(answer, grpc.StatusCode) else answer.WhichOneof("kind")
            lost = {grpc.StatusCode.CANCELLED} if unanswered else set()
            assert kind in ANSWERS | lost | {"signed", "joined"}, f"{kind} for {messages[-1][:60]!r}"
            kinds.add(kind)

        for message in mutants([sign], few, seed=11):
            await send([good, step(), message])
        for message in mutants([link], few, seed=12):
            await send([good, message, step()], (1,))
        for message in mutants([join], few, seed=13):
            await send([message])
        for message in mutants([paid.encode()], few, seed=14):
            await send([opening(swarm.model, order=message.decode("utf-8", "replace"))])
        assert {"refusal", "signed", "step"} <= kinds
        await kept.write(step())
        assert wire.FromNode.FromString(await asyncio.wait_for(kept.read(), 20)).step.position == 0
        kept.cancel()
        await following.stop(0)
        del swarm.records[f"{NODES}{other.node}"]

    against_a_node(folder, hostile)


def order_for(model: str) -> str:
    """A sealed order that pays for all of it."""
    payer, now = Identity(b"p" * 32), time.time()
    told = {
        "payer": payer.node, "nonce": 1, "model": model, "num_blocks": 4, "request": digest(b"salt"),
        "nanousd_per_pass": 1, "most_passes": 10**8, "issued_s": now, "deadline_s": now + 600,
    }  # fmt: skip
    return sealed(payer, Order.of(told))


def test_whole_messages_that_nobody_sends_are_refused_with_a_reason(folder: Path) -> None:
    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        for messages in hand_made(swarm.model):
            answer = await last_answer(way, METHOD, messages)
            assert not isinstance(answer, grpc.StatusCode), (answer, messages[-1][:60])
            assert answer.WhichOneof("kind") == "refusal", (answer, messages[-1][:60])
            assert answer.refusal.why and len(answer.refusal.why) <= 500

    against_a_node(folder, hostile)


def test_a_message_beyond_the_limit_ends_its_stream_only(folder: Path) -> None:
    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        identity, certified, address = swarm.people["a"]
        from metainf.swarm.trust import tls

        lib = tls.grpc()
        credentials = lib.ssl_channel_credentials(pem_of(certified.der), swarm.mine.key_pem, swarm.mine.pem)
        options = [("grpc.max_send_message_length", -1), ("grpc.ssl_target_name_override", identity.node)]
        wide = lib.aio.secure_channel(address, credentials, options=options)
        huge = step(data=b"\x00" * (66 * 2**20))
        assert await last_answer(wide, METHOD, [opening(swarm.model), huge]) in (
            grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED
        )  # fmt: skip
        await wide.close()

    against_a_node(folder, hostile)


def test_garbage_and_silence_on_the_socket_are_borne(folder: Path) -> None:
    """Bytes that are no TLS, connections that say nothing, and such as break off, 150 in all."""

    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        host, port = swarm.people["a"][2].split(":")
        rng = np.random.default_rng(5)
        silent = [socket.create_connection((host, int(port)), timeout=5) for _ in range(100)]
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
        for number in range(50):
            with socket.create_connection((host, int(port)), timeout=5) as each:
                each.sendall((hello if number % 2 else b"") + rng.bytes(int(rng.integers(1, 5000))))
        assert (await last_answer(way, METHOD, [opening(swarm.model)])).WhichOneof("kind") == "opened"
        for each in silent:
            each.close()

    against_a_node(folder, hostile)


def test_certificates_are_not_laid_out_anew_at_each_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC replaces them without a lock: done at every handshake, many connections at once ended the
    process."""
    asked = []
    monkeypatch.setattr(grpc, "dynamic_ssl_server_credentials", lambda first, now, **_: asked.append(now))
    one, other = certify(Identity(b"1" * 32), NOW), certify(Identity(b"2" * 32), NOW)
    known = [b""]
    serving(one, lambda: known[0])
    assert asked[0]() is None
    known[0] = other.pem
    assert asked[0]() is not None and asked[0]() is None


def test_streams_that_say_nothing_do_not_keep_others_out(folder: Path) -> None:
    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        idle = [way.stream_stream(METHOD)() for _ in range(60)]
        for call in idle[:30]:
            await call.write(opening(swarm.model))
            await asyncio.wait_for(call.read(), 20)
        assert (await last_answer(way, METHOD, [opening(swarm.model)])).WhichOneof("kind") == "opened"
        for call in idle:
            call.cancel()

    against_a_node(folder, hostile)


def test_an_unknown_method_is_refused(folder: Path) -> None:
    async def hostile(swarm: Place, way: grpc.aio.Channel) -> None:
        answer = await last_answer(way, "/metainf.swarm.v1.Node/Stop", [opening(swarm.model)])
        assert answer == grpc.StatusCode.UNIMPLEMENTED

    against_a_node(folder, hostile)


# A client


def test_a_client_survives_a_node_that_answers_garbage(folder: Path) -> None:
    """Whatever a node answers, opened stream or not, is a StageFailed to the client, or a right answer."""

    async def story() -> None:
        async with place(folder) as swarm:
            node = await swarm.start("a", (0, 4))
            identity, certified, address = swarm.people["a"]
            opened = wire.FromNode(opened=wire.Opened(version=1, node=identity.node)).SerializeToString()
            answer = wire.FromNode.FromString(step()[:0])
            answer.step.CopyFrom(wire.ToNode.FromString(step()).step)
            broken = mutants([answer.SerializeToString(), opened], COUNT // 8, seed=6)
            current = b""

            async def run(messages: object, context: object) -> object:
                number = 0
                async for _ in messages:  # type: ignore[attr-defined]
                    yield opened if number == 0 and late else current
                    number += 1

            late = True
            node._run = run  # type: ignore[method-assign,assignment]
            await node._server.stop(0)
            port = await node.listen("127.0.0.1:0", serving(certified, lambda: swarm.mine.pem))
            way = channel(f"{address.split(':')[0]}:{port}", identity.node, certified.der, swarm.mine)
            stage, given, failed = (
                Stage(node=identity.node, span=Span(start=0, end=4)),
                np.ones((1, 2, 64)),
                0,
            )
            for number, current in enumerate(broken):  # noqa: B007
                late = number % 3 > 0
                stream = Stream(stage, swarm.terms(), way)
                try:
                    await stream.open()
                    made = await stream.step(given.astype(np.float32))
                    assert made.shape == given.shape and np.isfinite(made).all()
                except StageFailed:
                    failed += 1
                finally:
                    stream.cancel()
            assert failed > COUNT // 16
            await way.close()

    began = time.monotonic()
    asyncio.run(story())
    assert time.monotonic() - began < 300, "no answer may keep a client waiting"


def test_a_client_takes_no_broken_receipt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a node signs, the client fails the stage, or has a receipt of what it saw."""

    async def story() -> None:
        async with place(folder) as swarm:
            node = await swarm.start("a", (0, 4))
            identity, certified, address = swarm.people["a"]
            node.till = Till(identity)
            way = channel(address, identity.node, certified.der, swarm.mine)
            paid = order_for(swarm.model)
            stage = Stage(node=identity.node, span=Span(start=0, end=4))
            given = np.ones((1, 2, 64), dtype=np.float32)
            real, signing, taken = paying.signed, list[bytes](), 0

            async def signed(*told: object) -> bytes:
                good = await real(*told)  # type: ignore[arg-type]
                text = wire.FromNode.FromString(good).signed.receipt
                number = len(signing)
                signing.append(good)
                if number == 0:
                    return good
                if number % 2:
                    return list(mutants([good], 1 + number // 2 % 8, seed=number))[-1]
                broken = list(mutants([text.encode()], 1 + number // 2 % 8, seed=number))[-1]
                told_so = wire.Signed(receipt=broken.decode("utf-8", "replace"))
                return bytes(wire.FromNode(signed=told_so).SerializeToString())

            monkeypatch.setattr(paying, "signed", signed)
            for _ in range(COUNT // 16):
                stream = Stream(stage, swarm.terms(order=paid), way)
                await stream.open()
                await stream.step(given)
                with contextlib.suppress(StageFailed):
                    receipt = await stream.receipt(digest(paid))
                    assert receipt is not None and stream.tally is not None
                    believed(receipt, paid, digest(paid), stage, stream.tally)
                    taken += 1
                stream.cancel()
            assert len(signing) == COUNT // 16 and 1 <= taken < COUNT // 64
            await way.close()

    asyncio.run(story())
