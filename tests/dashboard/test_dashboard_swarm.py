"""The swarm's page before a real, small swarm; and the call behind it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from dashboard_waiting import until

for name in ("nats", "cryptography", "httpx2", "fastapi"):
    pytest.importorskip(name, reason="needs the extras swarm and serve")

from light_swarm import BLOCKS, MODEL, LightSwarm  # noqa: E402

from metainf.domain import BadInput, MissingExtra  # noqa: E402
from metainf.swarm.broker.agent import Agent  # noqa: E402
from metainf.swarm.broker.streams import connected  # noqa: E402
from metainf.swarm.broker.words import Job  # noqa: E402
from metainf.swarm.host.nats import program  # noqa: E402
from metainf.swarm.trust.reputation import Event  # noqa: E402
from metainf.swarm.trust.reputation_store import Reputations  # noqa: E402

try:
    program()
except MissingExtra:
    pytest.skip("needs nats-server of the extra swarm", allow_module_level=True)

if TYPE_CHECKING:
    from service_process import Served

Open = Callable[..., Any]
SPANS = {"first": (0, 4), "middle": (2, 6), "last": (4, 8), "slow": (0, 8)}


class Watched:
    """A swarm, and a service that watches it."""

    def __init__(self, swarm: LightSwarm, served: "Served", members: dict[str, Any]) -> None:
        self.swarm, self.served, self.members, self.url = swarm, served, members, served.url


async def queued(url: str) -> None:
    """Two requests of two tenants wait, and one message under a name that no agent uses."""
    async with Agent(url, "tester") as agent:
        now = time.time()
        for number, tenant in enumerate(("ann", "bob")):
            job = Job(
                transaction=f"b2:{number:032x}", agent="tester", tenant=tenant, group="small-fra",
                priority=0, issued_s=now, deadline_s=now + 600, body="{}",
            )  # fmt: skip
            await agent._send(job)
    connection = await connected(url, "stranger")
    await connection.jetstream().publish("req.small-fra.urgent.x.y", b"?")
    await connection.close()


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    from service_process import served

    folder: Path = tmp_path_factory.mktemp("watched")
    swarm = LightSwarm(folder / "nats")
    try:
        told = {
            "slow": {"features": {"decode_ms_per_block": 40.0, "queue_ms": 700.0, "region": "nyc"}},
            "middle": {"state": "draining"},
        }
        members = {name: swarm.add(span, **told.get(name, {})) for name, span in SPANS.items()}
        file = folder / "reputations.sqlite"
        kept = Reputations(file, time.time)
        kept.record([Event(node=members["slow"].node, at_s=time.time(), kind="lied")])
        kept.record([Event(node=members["first"].node, at_s=time.time(), kind="served")] * 3)
        asyncio.run(queued(swarm.url))
        options = ("--swarm", swarm.url, "--reputation", str(file), "--queue", swarm.url)
        with served(folder / "records.sqlite", "--rate", "none", *options, log=folder / "log") as one:
            yield Watched(swarm, one, members)
            assert not [line for line in one.logged() if line["level"] == "error"]
    finally:
        swarm.close()


def test_the_call_tells_all_of_it(watched: Watched) -> None:
    from metainf.client import Client

    with Client(watched.url) as client:
        found = client.swarm(prompt_tokens=10, new_tokens=5)
    (model,) = found.state.models
    assert (model.model, model.num_blocks, found.complete) == (MODEL, BLOCKS, True)
    assert model.copies == (2,) * 8, "a node that leaves does not count"
    nodes = {each.node: each for each in model.nodes}
    assert {name: nodes[each.node].span for name, each in watched.members.items()}.keys() == SPANS.keys()
    assert all(each.reached and each.rtt_ms is not None for each in nodes.values())
    assert model.route is not None
    assert [stage.node for stage in model.route.stages] == [
        watched.members["first"].node,
        watched.members["last"].node,
    ]
    assert found.state.demand.prompt_tokens == 10 and found.state.demand.new_tokens == 5
    assert found.believed is not None and found.queue is not None
    believed = {each.node: each for each in found.believed}
    slow, first = believed[watched.members["slow"].node], believed[watched.members["first"].node]
    assert slow.quarantined and slow.strikes == 1 and first.served == pytest.approx(3, abs=0.01)
    assert not believed[watched.members["last"].node].known
    (line,) = found.queue.waiting
    assert (line.group, line.priority, line.jobs, line.tenants) == ("small-fra", 0, 2, 2)
    assert found.queue.strange == 1 and found.queue.lost is None


def test_the_page_shows_who_is_there(watched: Watched, open_page: Open) -> None:
    opened = open_page(watched.url)
    page = opened.go("#/swarm")
    opened.chart("Blocks per node")
    opened.chart("Holders per block")
    table = page.get_by_role("region", name=f"Nodes of {MODEL[:11]}")
    assert table.locator("tbody tr").count() == 4
    page.get_by_text("Every model can be used.").wait_for()
    row = table.get_by_role("row", name=watched.members["slow"].node[:11])
    assert "quarantined" in row.inner_text() and "69%" in row.inner_text() and "nyc" in row.inner_text()
    drawn = page.evaluate(
        """() => window.metainfCharts.get("Blocks per node").getOption().series
            .find(({ id }) => id === "nodes").data.map(([start, end]) => [start, end])"""
    )
    assert sorted(map(tuple, drawn)) == sorted(SPANS.values())
    route = page.get_by_role("region", name="Expected route")
    assert route.locator("tbody th").all_inner_texts() == [
        watched.members[name].node[:11] for name in ("first", "last")
    ]
    queue = page.get_by_role("region", name="Requests in the queue")
    assert "small-fra" in queue.inner_text() and "urgent" in queue.inner_text()
    opened.picture("swarm")
    table.get_by_role("button", name=watched.members["first"].node[:11]).press("Enter")
    page.get_by_role("region", name=f"Node {watched.members['first'].node[:11]}").wait_for()
    until(page, "location.hash.includes('node=')")


def test_filters_narrow_the_nodes(watched: Watched, open_page: Open) -> None:
    page = open_page(watched.url).go("#/swarm?state=draining")
    rows = page.get_by_role("region", name=f"Nodes of {MODEL[:11]}").locator("tbody th")
    rows.first.wait_for()
    assert rows.all_inner_texts() == [watched.members["middle"].node[:11]]
    page.get_by_label("State", exact=True).select_option("")
    page.get_by_label("Region", exact=True).select_option("nyc")
    assert rows.all_inner_texts() == [watched.members["slow"].node[:11]]
    page.get_by_label("Name, hardware or label").fill("nothing like it")
    assert rows.count() == 0
    until(page, "location.hash.includes('region=nyc&text=nothing')")


@pytest.mark.parametrize("look", ["light", "dark"])
def test_it_is_accessible_and_fits_a_phone(watched: Watched, open_page: Open, look: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    opened = open_page(watched.url, color_scheme=look, viewport={"width": 390, "height": 844})
    page = opened.go("#/swarm")
    opened.chart("Blocks per node")
    opened.chart("Holders per block")
    page.get_by_label("Ask anew every 2 s").uncheck()
    found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]})
    told = [(each["id"], each["nodes"][0]["html"][:200]) for each in found.response["violations"]]
    assert not told
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.locator(".chart").count() <= page.locator("table").count()


def test_a_node_that_vanishes_is_seen_to_be_gone(watched: Watched, open_page: Open) -> None:
    """At first it gives no answer, and its blocks are missing; then its record expires."""
    page = open_page(watched.url).go("#/swarm")
    table = page.get_by_role("region", name=f"Nodes of {MODEL[:11]}")
    table.wait_for()
    name = watched.swarm.add((3, 4), features={"region": "new"}).node[:11]
    page.get_by_text(f"{name} came with blocks 3–3").first.wait_for()
    for each in ("last", "slow"):
        watched.swarm.kill(watched.members[each])
    gone = watched.members["last"].node[:11]
    table.get_by_role("row", name=gone).get_by_text("no answer").wait_for()
    page.get_by_text("Not every model can be used.").wait_for()
    page.get_by_text("blocks 4–7 are missing").first.wait_for()
    page.get_by_role("main").get_by_text(f"{gone} is gone; it held blocks 4–7").wait_for(timeout=40_000)
    assert table.get_by_role("row", name=gone).count() == 0


def test_the_method_that_a_replica_runs_is_shown_and_followed(tmp_path: Path, open_page: Open) -> None:
    from service_process import served

    def running(method: str) -> dict[str, Any]:
        offered = [{"method": name} for name in ("llamacpp-q8_0", "llamacpp-q4_k_m")]
        return {
            "labels": ["endpoint=openai"],
            "writing": {"method": method, "methods": offered, "places": 4, "texts": 1},
        }

    swarm = LightSwarm(tmp_path / "nats")
    try:
        profile = {"profile": {"dtype": "q8_0", "engine": "llamacpp"}}
        replica = swarm.add((0, BLOCKS), **profile, features=running("llamacpp-q8_0"))
        swarm.add((0, BLOCKS), model=f"b2:{'c' * 32}")
        options = ("--rate", "none", "--swarm", swarm.url)
        with served(tmp_path / "records.sqlite", *options, log=tmp_path / "log") as one:
            page = open_page(one.url).go("#/swarm")
            table = page.get_by_role("table", name=f"Nodes of {MODEL[:11]}")
            shown = table.get_by_role("row", name=replica.node[:11])
            shown.get_by_text("llamacpp-q8_0").wait_for()
            page.get_by_role("heading", name="float32, torch").wait_for()
            assert "Method" not in page.get_by_role("table", name="Nodes of b2:cccc").inner_text()
            shown.get_by_role("button").press("Enter")
            detail = page.get_by_role("region", name=f"Node {replica.node[:11]}")
            detail.get_by_text("1 in 4 places").wait_for()
            assert "llamacpp-q4_k_m" in detail.inner_text()
            replica.told["features"] = running("llamacpp-q4_k_m")
            shown.get_by_text("llamacpp-q4_k_m").wait_for()
            page.get_by_text(f"{replica.node[:11]} runs llamacpp-q4_k_m now").first.wait_for()
    finally:
        swarm.close()


def test_what_cannot_be_watched_is_said_before_it_listens(tmp_path: Path) -> None:
    from metainf.service.running import watched as set_up
    from metainf.service.settings import Settings

    for told, why in (
        ({"swarm": "http://127.0.0.1"}, "expected nats://"),
        ({"swarm": "nats://user:secret@"}, "expected nats://HOST:PORT"),
        ({"swarm": "nats://127.0.0.1", "reputation": str(tmp_path / "none")}, "a file of reputations"),
        ({"swarm": "nats://127.0.0.1", "queue": "http://a"}, "expected nats://HOST:PORT"),
        ({"queue": "nats://127.0.0.1"}, "expected --swarm"),
    ):
        with pytest.raises(BadInput, match=why) as error:
            set_up(Settings(**told))
        assert "secret" not in str(error.value)
    assert set_up(Settings()) is None


def test_a_directory_that_is_away_is_told(tmp_path: Path, open_page: Open) -> None:
    import httpx2
    from service_process import served

    options = ("--swarm", "nats://someone:secret@127.0.0.1:1")
    with served(tmp_path / "records.sqlite", "--rate", "none", *options, log=tmp_path / "log") as one:
        answer = httpx2.get(f"{one.url}/v1/swarm", timeout=30)
        assert answer.status_code == 503 and answer.json()["type"].endswith(":swarm-lost")
        assert "secret" not in answer.text
        page = open_page(one.url).go("#/swarm")
        page.get_by_role("alert").get_by_text("127.0.0.1:1").wait_for()
        page.goto("about:blank")  # it asks again every two seconds, and the service is about to end
