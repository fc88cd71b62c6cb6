"""The directory's contract on a dictionary and on a real NATS server; NATS that goes away."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metainf.domain import BadInput, MissingExtra

for name in ("cryptography", "nats"):
    pytest.importorskip(name, reason="needs the extra swarm")

from metainf.swarm.broker import streams  # noqa: E402
from metainf.swarm.broker.streams import BrokerLost, connected  # noqa: E402
from metainf.swarm.host.nats import Server, program, started  # noqa: E402
from metainf.swarm.net.bucket import Copy, NatsDirectory, wait_s  # noqa: E402
from metainf.swarm.net.directory import DirectoryLost, joined  # noqa: E402
from metainf.swarm.net.memory import MemoryDirectory  # noqa: E402
from metainf.swarm.net.servers import Servers, in_the_open, opened, shown  # noqa: E402
from metainf.testing.directory_suite import DirectorySuite, Place, seen  # noqa: E402
from metainf.testing.light_members import Crowd, exactly  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)


class TestMemory(DirectorySuite):
    lifetime_s, seen_s = 1.0, 0.5

    async def open_place(self, folder: Path) -> Place:
        first = MemoryDirectory(self.lifetime_s)
        place: Place

        async def join() -> MemoryDirectory:
            return first.member()

        async def lose() -> None:
            for each in place.members:
                await each.close()

        place = Place(join, lose, first.close)
        return place


class TestNats(DirectorySuite):
    async def open_place(self, folder: Path) -> Place:
        server = started(folder)

        async def lose() -> None:
            server.kill()

        async def close() -> None:
            server.stop()

        return Place(lambda: NatsDirectory.join(server.url, self.lifetime_s), lose, close)


def test_a_server_that_restarts_empty_is_found_again(tmp_path: Path) -> None:
    """SIGKILL and a new server with nothing in memory: members keep what they knew, come back by themselves,
    and what they put then is seen."""

    async def story() -> None:
        server = started(tmp_path)
        a, b = await asyncio.gather(*(NatsDirectory.join(server.url, 10.0) for _ in "ab"))
        for _ in range(20):
            await a.put("node.old", b"1")
        await seen((a, b), lambda held: "node.old" in held, 10.0)
        server.kill()
        with pytest.raises(DirectoryLost):
            await a.put("node.new", b"2")
        assert dict(await b.records()) == {"node.old": b"1"}
        server.start()
        begun = time.monotonic()
        while True:
            try:
                await a.put("node.new", b"2")
                break
            except DirectoryLost:
                assert time.monotonic() - begun < 30
                await asyncio.sleep(0.2)
        await seen((a, b), lambda held: held.get("node.new") == b"2", 30.0)
        await a.remove("node.new")
        await seen((a, b), lambda held: "node.new" not in held, 30.0)
        await asyncio.gather(a.close(), b.close())
        server.stop()

    asyncio.run(story())


def test_a_hung_server_is_lost_and_found(tmp_path: Path) -> None:
    async def story() -> None:
        server = started(tmp_path)
        member = await NatsDirectory.join(server.url, 30.0)
        server.process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.3)
        with pytest.raises(DirectoryLost):
            await member.put("node.abc", b"1")
        server.process.send_signal(signal.SIGCONT)
        await member.put("node.abc", b"2")
        await seen((member,), lambda held: held.get("node.abc") == b"2", 30.0)
        await member.close()
        server.stop()

    asyncio.run(story())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make certificates")
def test_tls_and_a_password_in_the_url(tmp_path: Path) -> None:
    """A server that wants both lets in only who has both; messages never show the password."""
    pair = (str(tmp_path / "key.pem"), str(tmp_path / "cert.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", pair[0], "-out", pair[1], "-days", "1", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    more = ("--tls", "--tlscert", pair[1], "--tlskey", pair[0], "--user", "me", "--pass", "open")
    server = Server(tmp_path, options=more).start()

    async def story() -> None:
        member = await joined(f"tls://me:open@127.0.0.1:{server.port}?ca={pair[1]}")
        await member.put("node.abc", b"1")
        assert await member.records() == {"node.abc": b"1"}
        await member.close()
        for url in (
            f"tls://me:wrong@127.0.0.1:{server.port}?ca={pair[1]}",
            f"tls://me:wrong@127.0.0.1:{server.port}",
        ):
            with pytest.raises(DirectoryLost) as lost:
                await joined(url)
            assert "wrong" not in str(lost.value)

    try:
        asyncio.run(story())
    finally:
        server.stop()


def test_where_tls_is_asked_for_a_server_without_it_hears_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is on the way may say that there is no TLS: nobody's password is told then."""
    heard = bytearray()
    monkeypatch.setattr(streams, "CONNECT_S", 0.5)

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.11.0","max_payload":1000,"headers":true}\r\n')
        with contextlib.suppress(ConnectionError):
            heard.extend(await reader.read(1000))
        writer.close()

    async def story() -> None:
        async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(DirectoryLost, match="expected TLS, found a server that offers none"):
                await joined(f"tls://me:secret@127.0.0.1:{port}")
            with pytest.raises(BrokerLost):
                await connected(f"tls://me:secret@127.0.0.1:{port}", "agent")
            assert not heard
            asking = asyncio.create_task(opened(Servers.parse(f"nats://me:secret@127.0.0.1:{port}")))
            async with asyncio.timeout(10):
                while b"secret" not in heard:  # who asks for no TLS tells it
                    await asyncio.sleep(0.01)
            asking.cancel()
            await asyncio.wait({asking})

    asyncio.run(story())


def test_a_hundred_exits_and_rejoins_leave_no_ghost(tmp_path: Path) -> None:
    """Processes that announce themselves leave or are killed, and come back under old names and new ones."""
    lifetime_s, server = 4.0, started(tmp_path)
    crowd = Crowd.of(server.url, lifetime_s, random.Random(6))

    async def story() -> None:
        reader = await NatsDirectory.join(server.url, lifetime_s)
        for _ in range(10):
            crowd.comes()
        await exactly(reader, lambda: set(crowd.alive), 60.0)
        await asyncio.to_thread(crowd.churn, 100, 5)
        await exactly(reader, lambda: set(crowd.alive), lifetime_s + 20.0)
        assert crowd.exits == 100 and len(crowd.alive) == 10
        await reader.close()

    try:
        asyncio.run(story())
    finally:
        crowd.end()
        server.stop()


def test_addresses() -> None:
    two = Servers.parse("nats://a:p@one:1,nats://two:2?bucket=other&creds=x.creds")
    assert two.urls == ("nats://a:p@one:1", "nats://two:2")
    assert two.bucket == "other" and two.options() == {"user_credentials": "x.creds"}
    for bad in ("nats://", "http://a:1", "nats://a:1?size=3"):
        with pytest.raises(BadInput, match="expected"):
            Servers.parse(bad)
    with pytest.raises(BadInput, match="cannot be read"):
        Servers.parse("tls://a:1?ca=/no/such/file").options()
    assert shown("nats://me:secret@host:1") == "nats://***@host:1" and shown("nats://host") == "nats://host"
    with pytest.raises(BadInput, match="expected nats://, tls:// or dht://"):
        asyncio.run(joined("redis://a:1"))


def test_servers_elsewhere_without_tls_are_warned_of() -> None:
    for told in ("nats://10.0.0.1:4222", "10.0.0.1", "nats://me:secret@10.0.0.1,nats://127.0.0.1"):
        word = in_the_open(told)
        assert word is not None and "NATS at 10.0.0.1 is spoken to without TLS" in word
        assert "secret" not in word
    assert "a.example, b.example" in str(in_the_open("nats://b.example", None, "nats://a.example:4222"))
    for fine in (
        "tls://10.0.0.1", "nats://10.0.0.1?ca=ca.crt", "nats://127.0.0.1:4222", "nats://localhost",
        "nats://[::1]:4222", "127.0.0.9:4222", "dht://10.0.0.1:31337", "/ip4/10.0.0.1/tcp/1", "http://a",
        None,
    ):  # fmt: skip
        assert in_the_open(fine) is None, fine


@given(tries=st.integers(0, 10_000), chance=st.floats(0, 1))
def test_waits_grow_and_end(tries: int, chance: float) -> None:
    assert 0.1 <= wait_s(tries, chance) <= 8.0
    assert wait_s(tries + 1, chance) >= wait_s(tries, chance)


@given(st.permutations(range(1, 9)), st.sets(st.integers(1, 8)))
def test_news_in_any_order_give_the_newest(order: list[int], removals: set[int]) -> None:
    copy = Copy(5.0)
    for revision in order:
        copy.heard("node.a", revision, None if revision in removals else b"%d" % revision, 1.0)
    assert copy.records(5.9) == ({} if 8 in removals else {"node.a": b"8"})
    assert copy.records(6.0) == {} and copy.revision == 8


def test_ones_own_word_is_no_news() -> None:
    """Else a member that hears nobody would take itself for one that is up to date."""
    copy = Copy(5.0)
    copy.heard("node.a", 3, b"1", 1.0)
    copy.put("node.b", 7, b"2", 1.0)
    copy.removed("node.a", 1.0)
    assert copy.revision == 3 and copy.records(2.0) == {"node.b": b"2"}
    copy.caught_up(9)
    copy.caught_up(8)
    assert copy.revision == 9


def test_os_random_is_not_a_directory(tmp_path: Path) -> None:
    """A server that speaks something else is named."""

    async def story() -> None:
        async def speak(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(os.urandom(2000) + b"\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(speak, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(DirectoryLost, match=f":{port}"):
            await joined(f"nats://127.0.0.1:{port}")
        server.close()

    asyncio.run(story())
