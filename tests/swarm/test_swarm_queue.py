"""The queue in use, on a real NATS server: workers announce themselves, agents ask them in OpenAI's words."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("nats", reason="needs the extra swarm")
for name in (
    "torch",
    "transformers",
    "grpc",
    "google.protobuf",
    "cryptography",
    "aiohttp",
    "prometheus_client",
):
    pytest.importorskip(name, reason="needs the extras swarm and measure")

from orders import OPERATOR, PAYER, Clock, deposit  # noqa: E402
from prometheus_client.parser import text_string_to_metric_families  # noqa: E402
from small_swarm import Place, place, small_model, swarm_of  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from metainf.api import queueing  # noqa: E402
from metainf.cli.app import app  # noqa: E402
from metainf.cli.queue_options import INSTEAD  # noqa: E402
from metainf.domain import BadInput, MissingExtra, NoFeasible  # noqa: E402
from metainf.hosts.asked import Ask, Piece, Refusal, error_of  # noqa: E402
from metainf.hosts.openai import Door  # noqa: E402
from metainf.swarm.broker import consumer as consuming  # noqa: E402
from metainf.swarm.broker import deciding, streams  # noqa: E402
from metainf.swarm.broker.agent import Agent, waiting  # noqa: E402
from metainf.swarm.broker.consumer import Consumer, TryAgain  # noqa: E402
from metainf.swarm.broker.deciding import group_name, groups_of  # noqa: E402
from metainf.swarm.broker.members import announcing, bucket, key, members  # noqa: E402
from metainf.swarm.broker.streams import BrokerLost, hidden, replicas_of  # noqa: E402
from metainf.swarm.broker.words import Job, Member  # noqa: E402
from metainf.swarm.host import generating  # noqa: E402
from metainf.swarm.host.caller import Caller  # noqa: E402
from metainf.swarm.host.generating import Course, Joined  # noqa: E402
from metainf.swarm.host.nats import Server, free_ports, program, started  # noqa: E402
from metainf.swarm.host.ordering import Weights, signed, taken  # noqa: E402
from metainf.swarm.host.paying import Purse  # noqa: E402
from metainf.swarm.host.queue_metrics import OfWorker  # noqa: E402
from metainf.swarm.host.queued import WANTED, Desk  # noqa: E402
from metainf.swarm.host.tokens import Tokens  # noqa: E402
from metainf.swarm.host.working import OWN, Worker, answering  # noqa: E402
from metainf.swarm.ledger.book import Book  # noqa: E402
from metainf.swarm.ledger.evidence import Evidence, check  # noqa: E402
from metainf.swarm.net.hiring import NOT_PAID, ORDER_USED  # noqa: E402
from metainf.swarm.net.paid import Till  # noqa: E402
from metainf.swarm.privacy.guarding import Guard  # noqa: E402
from metainf.swarm.privacy.words import Required  # noqa: E402

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from broker_parts import GROUP, answer, job  # noqa: E402

NOBODY: ContextVar[Course | None] = ContextVar("nobody", default=None)
CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture(scope="module", autouse=True)
def _program() -> None:
    try:
        program()
    except MissingExtra as error:
        pytest.skip(str(error))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = started(tmp_path / "nats")
    yield made
    made.stop()


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))


class Echo:
    """A writer without a model: it says the prompt again, after as many refusals as it is told."""

    model = "echo"

    def __init__(self, refusals: int = 0) -> None:
        self.refusals, self.asked = refusals, 0

    def begin(self, events: asyncio.AbstractEventLoop) -> None: ...

    def close(self) -> None: ...

    def metrics(self) -> str:
        return ""

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        return messages[-1]["content"]

    async def submit(self, ask: Ask) -> AsyncIterator[Piece]:
        self.asked += 1
        if self.asked <= self.refusals:
            raise Refusal(503, "api_error", "no_route", "not now")
        yield Piece(str(ask.prompt), 1, 1)
        yield Piece("!", 1, 2, None, "stop")


def echoing(server: Server, writer: Echo, name: str = "one", **more: Any) -> Worker:
    region = more.get("region")
    told = {"name": name, "group": group_name("echo", None, region), "model": "echo", "slots": 2}
    word = Member.of({**told, "request_s": 1.0, **more})
    return Worker(server.url, word, answering(Door(writer).answered, NOBODY))


@asynccontextmanager
async def desk(server: Server) -> AsyncIterator[Desk]:
    async with Agent(server.url, "agent") as agent:
        yield Desk(agent)


def samples(text: str) -> dict[str, float]:
    """By name and labels, after Prometheus' own parser."""
    found = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {" ".join([each.name, *map(str, each.labels.values())]): each.value for each in found}


async def known(desk: Desk, count: int) -> None:
    while sum(group.slots > 0 for group in await desk.groups()) != count:
        desk._read_s = 0.0
        await asyncio.sleep(0.02)


def test_workers_announce_themselves_and_answer_in_openais_words(server: Server) -> None:
    async def test() -> None:
        async with desk(server) as front:
            with pytest.raises(NoFeasible, match="no group is there"):
                await front.answer(dict(CHAT))
            async with echoing(server, Echo(), region="fra") as near, echoing(server, Echo(), region="nyc"):
                await known(front, 2)
                made = await front.answer({**CHAT, OWN: {"regions": ["fra"]}}, 5.0)
                assert made["object"] == "chat.completion"
                assert made["choices"][0]["message"] == {"role": "assistant", "content": "hello!"}
                assert made["usage"]["completion_tokens"] == 2
                assert near.consumer.done == 1 and near.word.request_s < 1.0
                with pytest.raises(NoFeasible, match="stands in"):
                    await front.answer({**CHAT, OWN: {"regions": ["sin"]}})
                wrong = await front.answer({"model": "echo", "prompt": "x", "max_tokens": -1})
                assert wrong["error"]["type"] == "invalid_request_error"
                assert {each.reputation for each in await front.groups()} == {1.0}, "that was the caller's"
            front._read_s = 0.0
            assert await front.groups() == []  # who leaves takes its word back

    run(test)


def test_a_worker_that_cannot_now_gives_the_request_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consuming, "IDLE_S", 1000.0)  # nothing but the waking finds it again
    writer = Echo(refusals=2)

    async def test() -> None:
        async with desk(server) as front, echoing(server, writer):
            await known(front, 1)
            assert (await front.answer(dict(CHAT)))["choices"][0]["message"]["content"] == "hello!"
        assert writer.asked == 3

    run(test)


def test_the_queue_behind_http(server: Server) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    async def test() -> None:
        async with desk(server) as front, TestClient(TestServer(front.application([]))) as client:
            async with client.post("/v1/chat/completions", json=CHAT) as response:
                assert response.status == 503 and (await response.json())["error"]["code"] == "no_group"
            async with echoing(server, Echo()):
                await known(front, 1)
                async with client.get("/v1/models") as response:
                    assert [each["id"] for each in (await response.json())["data"]] == ["echo"]
                told = {"model": "echo", "prompt": "once", "max_tokens": 4}
                async with client.post("/v1/completions", json=told, headers={WANTED: "0.5"}) as response:
                    assert (await response.json())["choices"][0]["text"] == "once!"
                async with client.post("/v1/chat/completions", json={**CHAT, "stream": True}) as response:
                    lines = [line for line in (await response.text()).split("\n\n") if line]
                    first = json.loads(lines[0].removeprefix("data: "))
                    assert first["choices"][0]["delta"]["content"] == "hello!"
                    assert first["object"] == "chat.completion.chunk" and lines[-1] == "data: [DONE]"
                for bad in ({**CHAT, OWN: {"wanted_s": -1}}, {"model": "echo"}, {**CHAT, "max_tokens": "x"}):
                    async with client.post("/v1/chat/completions", json=bad) as response:
                        assert response.status == 400
                async with client.post(
                    "/v1/chat/completions", json=CHAT, headers={WANTED: "nan"}
                ) as response:
                    assert response.status == 400

    run(test)


def test_who_announces_itself_does_so_again_where_a_server_has_forgotten_it(server: Server) -> None:
    """And until then the desk goes on with whom it knew."""
    word = Member.of({"name": "one", "group": "g", "model": "echo", "slots": 1, "request_s": 1.0})

    async def test() -> None:
        async with desk(server) as front:

            def opened() -> Awaitable[Any]:
                return bucket(front.agent.stream)

            async def forgotten() -> None:
                """The server starts anew, and somebody has made the bucket again."""
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
                kept = None
                while kept is None:
                    with contextlib.suppress(BrokerLost):
                        kept = await opened()

            kept = await opened()
            await kept.put(key(word), word.canonical().encode())
            await known(front, 1)
            await forgotten()
            front._read_s -= 2.0  # look again
            assert [group.name for group in await front.groups()] == ["g"]
            doing = asyncio.create_task(announcing(await opened(), opened, lambda: word, 0.2))
            while await members(await opened()) != [word]:
                await asyncio.sleep(0.02)
            await forgotten()
            while await members(await opened()) != [word]:
                await asyncio.sleep(0.02)
            doing.cancel()

    run(test)


def test_an_order_that_another_worker_has_shown_is_followed_by_a_new_one(
    server: Server, tmp_path: Path
) -> None:
    """One that pays too little is not. What was not settled is refunded in the end."""
    from aiohttp.test_utils import TestClient, TestServer

    clock = Clock(time.time())
    book = Book(tmp_path / "ledger.sqlite", OPERATOR.node, clock)
    book.add("deposit", deposit(10**9))
    told = {"name": "one", "group": "g", "model": "echo", "slots": 1, "request_s": 1.0}
    word, orders = Member.of({**told, "digest": "b2:" + "0" * 32, "num_blocks": 4}), list[str]()
    codes: list[str | None] = [ORDER_USED, None, NOT_PAID, *[ORDER_USED] * 3]

    async def handled(asked: Job, attempt: int) -> str:
        orders.append(json.loads(asked.body)[OWN]["order"])
        code = codes.pop(0)
        return json.dumps({"choices": []} if code is None else error_of("no", "invalid_request_error", code))

    async def test() -> None:
        async with desk(server) as front, Worker(server.url, word, handled):
            front.purse = Purse(PAYER, 3, book)
            await known(front, 1)
            assert (await front.answer(dict(CHAT)))["choices"] == []
            assert len(set(orders)) == 2
            async with TestClient(TestServer(front.application([]))) as client:
                for count, code in ((3, NOT_PAID), (6, ORDER_USED)):
                    async with client.post("/v1/chat/completions", json=CHAT) as response:
                        assert (response.status, (await response.json())["error"]["code"]) == (402, code)
                    assert len(set(orders)) == count
        escrows = book.accounts.escrows
        assert len(escrows) == 6 and all(each.state == "open" for each in escrows.values())
        assert all(each.order.deadline_s > clock.now_s + 600 for each in escrows.values())
        clock.now_s += 1000
        for transaction in list(escrows):
            book.add("refund", order=transaction)
        assert (book.accounts.held, book.accounts.balances[PAYER.node]) == (0, 10**9)

    run(test)


def test_members_make_groups() -> None:
    def member(name: str, **more: Any) -> Member:
        told = {"name": name, "group": "g", "model": "m", "slots": 1, "request_s": 1.0}
        return Member.of({**told, **more})

    one, two = (
        member("a", labels=["x", "y"], usd_per_hour=1.0),
        member("b", slots=3, request_s=5.0, labels=["x"]),
    )
    (found,) = groups_of([two, one], {"g": 7})
    assert (found.slots, found.request_s, found.labels) == (4, 4.0, ("x",))
    assert (found.waiting, found.usd_per_hour) == (7, 1.0)
    assert groups_of([], {"g": 7}) == []


def test_dead_letters_are_shown_and_sent_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deciding, "FIRST_S", 0.01)

    async def failing(asked: Job, attempt: int) -> str:
        raise TryAgain("never")

    async def turned(asked: Job, attempt: int) -> str:
        return answer(asked.body)

    async def test() -> None:
        assert await queueing.dead(server.url) == []
        async with Agent(server.url, "agent") as agent, Consumer(server.url, GROUP, failing):
            assert "worn out" in ((await agent.ask(job(1, "agent"))).error or "")
            await agent.stream.publish(f"dead.{GROUP}", b"no request")
        letters = await queueing.dead(server.url)
        assert [(letter.group, letter.job is None) for letter in letters] == [(GROUP, False), (GROUP, True)]
        assert "failed 5 times: never" in letters[0].why
        with pytest.raises(Exception, match="is no request"):
            await queueing.send_again(server.url, letters[1].seq)
        with pytest.raises(Exception, match="the number of a dead letter"):
            await queueing.send_again(server.url, 99)
        async with Consumer(server.url, GROUP, turned):
            reply = await queueing.send_again(server.url, letters[0].seq)
        assert reply.body == answer("request 1")
        assert [letter.seq for letter in await queueing.dead(server.url)] == [letters[1].seq]

    run(test)


def test_who_leaves_gives_back_what_it_has_not_begun(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server waits a minute for an acknowledgement: only giving back brings it to another at once."""
    monkeypatch.setattr(consuming, "ACK_S", 60.0)
    whole, leaving = consuming.pull, asyncio.Event()
    done: list[str] = []

    async def turned(asked: Job, attempt: int) -> str:
        done.append(asked.body)
        return answer(asked.body)

    async def test() -> None:
        async with Agent(server.url, "agent") as agent:
            first = Consumer(server.url, GROUP, turned)

            async def pulled(*told: Any, **more: Any) -> list[Any]:
                found = await whole(*told, **more)
                if found and not leaving.is_set():
                    first.closing = True
                    leaving.set()
                return found

            monkeypatch.setattr(consuming, "pull", pulled)
            async with first:
                asked = asyncio.create_task(agent.ask(job(1, "agent")))
                await leaving.wait()
            assert done == []
            async with Consumer(server.url, GROUP, turned):
                reply = await asyncio.wait_for(asked, 30)
            assert (reply.body, reply.attempt) == (answer("request 1"), 2)

    run(test)


def test_a_server_with_a_password(tmp_path: Path) -> None:
    server = Server(tmp_path, options=("--user", "who", "--pass", "secret")).start()
    try:

        async def test() -> None:
            async with Agent(f"nats://who:secret@127.0.0.1:{server.port}", "agent") as agent:
                assert agent.replicas == 1
            with pytest.raises(BrokerLost) as told:
                async with Agent(f"nats://who:wrong@127.0.0.1:{server.port}", "agent"):
                    pass
            assert "wrong" not in str(told.value)

        run(test)
    finally:
        server.stop()


def test_three_servers_keep_three_copies() -> None:
    assert replicas_of("nats://a:1,nats://b:1,nats://c:1") == 3
    assert replicas_of("nats://a:1,nats://b:1") == replicas_of("a:1") == 1
    assert hidden("nats://me:secret@a:1,nats://b:1") == "nats://***@a:1,nats://b:1"


def test_a_swarm_behind_the_queue_is_paid(server: Server, tmp_path: Path) -> None:
    """An agent orders, a worker's swarm writes, its nodes sign, the agent settles and has the evidence."""
    folder = small_model(tmp_path / "model")
    book = Book(tmp_path / "ledger.sqlite", OPERATOR.node, time.time)
    book.add("deposit", deposit(10**9))

    async def told(here: Place, front: Desk) -> None:
        body = {"model": "small", "prompt": "the rivers", "max_tokens": 6, "ignore_eos": True}
        free = await front.answer(dict(body))
        front.purse = Purse(PAYER, 3, book, operator=OPERATOR)
        for name, node in here.nodes.items():
            node.till = Till(here.people[name][0], True, 3, book.holds)
        made = await front.answer(dict(body))
        assert made["choices"] == free["choices"]
        found = check(Evidence.of(made[OWN]["evidence"]))
        assert found.tokens == len(b"the rivers") + 5
        assert found.paid_nanousd == found.tokens * 4 * 3
        assert made[OWN]["transaction"] == found.transaction
        assert {here.name_of(share.node) for share in found.shares} == {"a", "b"}
        assert book.accounts.held == 0

    run(lambda: behind(server, folder, told))


def test_options_that_cannot_act_with_a_queue_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "CONNECT_S", 0.3)
    values = {"choose": "speed", "sessions": "3", "waiting": "3", "codec": "int8", "quantization": "int8"}
    values |= {"audit": "0.5", "join": "nats://b:1"}
    for name in INSTEAD:
        flag = f"--{name.replace('_', '-')}"
        told = [] if name in ("only_blocks", "change_methods", "audit_here", "trials") else ["some"]
        told = [values[name]] if name in values else told
        ran = CliRunner().invoke(app, ["swarm", "serve", "--queue", "nats://a:1", flag, *told])
        assert isinstance(ran.exception, BadInput) and f"{flag}: {INSTEAD[name]}" in str(ran.exception), name
    asked = [
        "swarm",
        "serve",
        "--queue",
        "nats://127.0.0.1:9",
        "--privacy",
        "split",
        "--keep",
        "1",
        "--port",
        "0",
    ]
    ran = CliRunner().invoke(app, asked, env={"METAINF_SWARM": "nats://b:1"})
    assert isinstance(ran.exception, BrokerLost), "these act, and --join was said to all commands"


def test_a_class_of_privacy_binds_through_the_queue(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request's own trust, the agent's class beside it, and a worker that is not of the class."""
    monkeypatch.setattr(deciding, "FIRST_S", 0.01)
    monkeypatch.setattr(generating, "PATIENCE_S", 0.1)  # for a way through nodes that are trusted
    folder = small_model(tmp_path / "model")
    body = {"model": "small", "prompt": "the rivers", "max_tokens": 3, "ignore_eos": True}

    async def told(here: Place, front: Desk, worker: Worker) -> None:
        node = {name: here.people[name][0].node for name in here.nodes}

        async def who(**own: Any) -> set[str]:
            before = {name: each.steps for name, each in here.nodes.items()}
            made = await front.answer({**body, OWN: own})
            assert made["usage"]["completion_tokens"] == 3, made
            return {name for name, each in here.nodes.items() if each.steps > before[name]}

        assert await who(max_ttft_s=50.0, tpot_s=9.0, most_usd=1.0) <= set(node)
        for name in node:
            assert await who(trust=[node[name]]) == {name}
        front.required = Required.asking("trusted", [node["b"], node["c"]])
        assert await who() <= {"b", "c"}
        assert await who(trust=[node["a"], node["c"]]) == {"c"}
        with pytest.raises(Refusal, match="worn out"):
            await who(trust=[node["a"]])
        front.required = Required.asking("split", keep=2)
        with pytest.raises(NoFeasible, match="keeps 0 blocks with split, not 2"):
            await who()
        worker.word = word = worker.word.model_copy(update={"keep": 4})  # it says so, and does not
        await (await bucket(front.agent.stream)).put(key(word), word.canonical().encode())
        await announced(front, 4)
        refused = await front.answer(dict(body))
        assert refused["error"]["code"] == "privacy" and "split with 2 blocks" in refused["error"]["message"]

    async def announced(front: Desk, keep: int) -> None:
        kept = await bucket(front.agent.stream)
        while keep not in {each.keep for each in await members(kept)}:
            await asyncio.sleep(0.05)
        front._read_s = 0.0

    async def test() -> None:
        async with place(folder) as here, desk(server) as front:
            for name in "abc":
                await here.start(name, (0, 4))
            async with Joined(Caller(here.directory), folder, "small") as swarm:
                made = await queueing.worker(server.url, swarm, queueing.Offered())
                async with made:
                    await known(front, 1)
                    await told(here, front, made)
            guard = Guard(Required.asking("split", keep=3))
            async with Joined(Caller(here.directory, guard=guard), folder, "small") as swarm:
                other = await queueing.worker(server.url, swarm, queueing.Offered())
                assert other.word.group != made.word.group and other.word.keep == 3
                async with other:
                    await announced(front, 3)
                    assert (await front.answer(dict(body)))["usage"]["completion_tokens"] == 3

    run(test)


def test_of_two_that_want_their_answer_as_soon_the_longer_one_is_the_more_urgent(server: Server) -> None:
    """And who names no time is ordinary, however much it asks for."""
    seen: dict[str, int] = {}

    async def handled(asked: Job, attempt: int) -> str:
        body = json.loads(asked.body)
        seen[body["prompt"]] = asked.priority
        return json.dumps({"choices": []})

    told = {"name": "one", "group": "g", "model": "echo", "slots": 1, "request_s": 2.0}

    async def test() -> None:
        async with desk(server) as front, Worker(server.url, Member.of(told), handled):
            await known(front, 1)
            for prompt, tokens, wanted_s in (
                ("short", 1, 30.0),
                ("long", 4000, 30.0),
                ("untold", 4000, None),
            ):
                await front.answer({"model": "echo", "prompt": prompt, "max_tokens": tokens}, wanted_s)

    run(test)
    assert seen == {"short": 2, "long": 0, "untold": 1}


def test_the_embedded_server_as_a_command(tmp_path: Path) -> None:
    """Killed, it is started again in its folder, with what waited there; a second one there is refused."""
    folder = tmp_path / "queue"

    def begun(*more: str) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
        asked = [sys.executable, "-m", "metainf", "swarm", "queue", "--folder", str(folder), *more]
        process = subprocess.Popen([*asked, "--json"], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    async def sent(url: str) -> None:
        async with Agent(url, "agent") as agent:
            asked = asyncio.create_task(agent.ask(job(1, "agent")))
            while not await waiting(agent.stream, GROUP):
                await asyncio.sleep(0.02)
            asked.cancel()

    async def done(url: str) -> str | None:
        async def turned(asked: Job, attempt: int) -> str:
            return answer(asked.body)

        async with Agent(url, "agent") as agent, Consumer(url, GROUP, turned):
            return (await agent.ask(job(1, "agent"))).body

    first, told = begun("--port", "0")
    asyncio.run(sent(told["url"]))
    ran = CliRunner().invoke(app, ["swarm", "queue", "--folder", str(folder), "--port", "0"])
    assert isinstance(ran.exception, BadInput) and "that no server uses" in str(ran.exception)
    os.kill(told["process"], signal.SIGKILL)
    assert first.wait(20) == 1, "it ends with its server"
    second, told = begun("--port", "0")
    assert asyncio.run(done(told["url"])) == answer("request 1")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    with pytest.raises(ProcessLookupError):
        os.kill(told["process"], 0)


def test_prometheus_reads_what_waits_and_what_came_of_requests(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aiohttp.test_utils import TestClient, TestServer

    monkeypatch.setattr(deciding, "FIRST_S", 0.01)
    group, writer = group_name("echo", None, None), Echo(refusals=deciding.MOST_ATTEMPTS)

    async def test() -> None:
        async with desk(server) as front, TestClient(TestServer(front.application([]))) as client:

            async def read() -> dict[str, float]:
                async with client.get("/metrics") as response:
                    assert response.status == 200
                    return samples(await response.text())

            async with client.post("/v1/chat/completions", json=CHAT) as response:
                assert response.status == 503
            stream = front.agent.stream
            await stream.publish("req.elsewhere.0.tenant", b"?")
            await stream.publish(f"req.{group}.urgent.tenant", b"?")
            async with echoing(server, writer) as worker:
                await known(front, 1)
                for status in (502, 200):
                    async with client.post("/v1/chat/completions", json=CHAT) as response:
                        assert response.status == status
                found = await read()
                while found[f"metainf_queue_waiting {group} 1"]:  # the worker takes it off a little later
                    found = await read()
                told = {each.name: each for each in OfWorker(worker).collect()}
                done = {
                    name: told[f"metainf_worker_{name}"].samples[0].value for name in ("answered", "refused")
                }
                assert done == {"answered": 1, "refused": 1}
                assert told["metainf_worker_given_back"].samples[0].value == deciding.MOST_ATTEMPTS
            assert found["metainf_queue_waiting other 0"] == 1, "nobody announces that group"
            assert (found["metainf_queue_dead"], found["metainf_queue_strange"]) == (1, 1)
            assert (found["metainf_queue_asked_total"], found["metainf_queue_answered_total"]) == (3, 1)
            reasons = {name.split()[1]: n for name, n in found.items() if "refused_total" in name}
            assert reasons == {"no_group": 1, "not_served": 1}
            front.agent.stream = front.agent._connection.jetstream(timeout=0.5)
            await asyncio.to_thread(server.kill)
            front._read_s = 0.0
            found = await read()
            assert found["metainf_queue_lost"] == 1 and "metainf_queue_dead" not in found
            await asyncio.to_thread(server.start)

    run(test)


def test_a_worker_answers_prometheus_at_a_port_of_its_own(server: Server, tmp_path: Path) -> None:
    folder, (port,) = small_model(tmp_path / "small"), free_ports(1)
    offered = queueing.Offered(slots=3, region="fra", metrics_port=port)

    def read() -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answered:
            return samples(answered.read().decode())

    async def test() -> None:
        said: list[str] = []
        work = asyncio.create_task(queueing.work(server.url, server.url, str(folder), offered, said.append))
        while not said:
            await asyncio.sleep(0.02)
            if work.done():
                await work
        found = await asyncio.to_thread(read)
        with pytest.raises(BadInput, match="to be free for metrics"):
            await queueing.work(server.url, server.url, str(folder), offered, said.append)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert found["metainf_worker_slots"] == 3 and found["metainf_worker_requests_running"] == 0
        assert any(name.startswith("metainf_worker_info") and "fra" in name for name in found)
        with pytest.raises(OSError):
            await asyncio.to_thread(read)

    run(test)


async def behind(server: Server, folder: Path, told: Callable[[Place, Desk], Awaitable[None]]) -> None:
    """A story of a desk, and a worker whose swarm has two nodes."""
    async with swarm_of(folder, {"a": (0, 2), "b": (2, 4)}) as (here, swarm):
        made = await queueing.worker(server.url, swarm, queueing.Offered())
        async with made, desk(server) as front:
            await known(front, 1)
            await told(here, front)


def test_a_caller_pays_with_its_own_key_and_the_agent_has_none(server: Server, tmp_path: Path) -> None:
    """It learns which weights are there, signs an order for them, gets the claim and settles it. The order is
    good for its own request only."""
    from aiohttp.test_utils import TestClient, TestServer

    folder = small_model(tmp_path / "model")
    book = Book(tmp_path / "ledger.sqlite", OPERATOR.node, time.time)
    book.add("deposit", deposit(10**9))
    purse = Purse(PAYER, 3, book, operator=OPERATOR)
    body: dict[str, Any] = {"model": "small", "prompt": "the rivers", "max_tokens": 6, "ignore_eos": True}

    async def told(here: Place, front: Desk) -> None:
        for name, node in here.nodes.items():
            node.till = Till(here.people[name][0], True, 3, book.holds)
        async with TestClient(TestServer(front.application([]))) as client:

            async def asked(body: Any) -> tuple[int, Any]:
                async with client.post("/v1/completions", json=body) as response:
                    return response.status, await response.json()

            async with client.get("/v1/models") as response:
                (model,) = (await response.json())["data"]
            weights = Weights.of(model[OWN]["weights"][0])
            front.purse = Purse(OPERATOR, 3, book)  # it has no money: what it paid for would be refused
            sent, bill = signed(purse, body | {OWN: {"wanted_s": 30.0}}, weights)
            assert sent[OWN]["wanted_s"] == 30.0 and book.holds(bill.transaction)
            status, made = await asked(sent)
            assert status == 200 and book.holds(bill.transaction), "nobody but the caller settles"
            assert made[OWN]["transaction"] == bill.transaction and "evidence" not in made[OWN]
            forged = made | {OWN: made[OWN] | {"tokens": [1, 2, 3]}}
            taken(purse, bill, forged)
            assert bill.evidence is None and "another answer" in bill.problem
            taken(purse, bill, made)
            assert bill.evidence is not None
            found = check(bill.evidence, made[OWN]["tokens"])
            assert (found.answer, found.signed_by, found.recorded_by) == (True, PAYER.node, OPERATOR.node)
            assert Tokens(folder).said(found.output or ()) == made["choices"][0]["text"]
            assert {here.name_of(share.node) for share in found.shares} == {"a", "b"}
            assert book.accounts.held == 0
            assert await asked(sent) == (status, made), "the same request is the same job"
            other = sent | {"prompt": "other rivers"}
            assert (await asked(other))[0] == 402, "the order was for another one"
            for wrong, status in ((sent[OWN]["order"].replace("1", "2", 1), 400), ("x", 400)):
                assert (await asked(body | {OWN: {"order": wrong}}))[0] == status
            unlike, _ = signed(purse, body, weights.model_copy(update={"num_blocks": 9}))
            assert (await asked(unlike))[0] == 503, "nobody runs these weights"

    run(lambda: behind(server, folder, told))
