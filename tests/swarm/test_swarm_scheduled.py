"""Texts that the scheduler sends to real nodes, whose engines take their time on the test's clock."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra swarm")
for name in ("transformers", "grpc", "google.protobuf", "cryptography", "aiohttp"):
    pytest.importorskip(name, reason="needs the extra swarm")

import aiohttp  # noqa: E402
from aiohttp import web  # noqa: E402
from clockwork import Made, made  # noqa: E402
from small_swarm import small_model  # noqa: E402

from metainf.domain import BadInput, NoFeasible  # noqa: E402
from metainf.swarm.host.limits import Limits  # noqa: E402
from metainf.swarm.host.serving import Serving, application  # noqa: E402
from metainf.swarm.privacy.guarding import Guard  # noqa: E402
from metainf.swarm.privacy.words import Required  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_model(tmp_path_factory.mktemp("small"))


def test_a_replica_that_gets_slow_is_left_within_twenty_texts(folder: Path) -> None:
    async def story() -> None:
        async with made(folder) as here:
            quick = await here.add("quick", 0.05)
            await here.add("other", 0.12)
            before = [await here.ask() for _ in range(12)]
            quick.token_s *= 10
            later = [await here.ask() for _ in range(30)]
            assert before.count("quick") >= 10, before
            assert later.count("quick") <= 20 and later[-8:] == ["other"] * 8, later
            told = {each.node: each for each in here.scheduler.told().nodes}
            slow = told[here.nodes["quick"].offer.node]
            assert slow.step_times > 2 and slow.chosen == [*before, *later].count("quick")

    asyncio.run(story())


def test_limits_a_budget_and_a_class_bind(folder: Path) -> None:
    async def story() -> None:
        async with made(folder) as here:
            await here.add("dear", 0.05, usd_per_hour=36.0, region="iad")
            await here.add("cheap", 0.5, usd_per_hour=0.36, region="fra")
            assert await here.ask(limits=Limits(tpot_s=0.1)) == "dear"
            assert await here.ask(limits=Limits(tpot_s=5.0, ttft_s=9.0)) == "cheap"
            assert await here.ask(limits=Limits(deadline_s=1.0)) == "dear"
            assert await here.ask(limits=Limits(most_usd=0.001)) == "cheap"
            with pytest.raises(BadInput, match="the cheapest costs"):
                await here.ask(limits=Limits(most_usd=1e-9))
            assert await here.ask(limits=Limits(tpot_s=0.1, trust=("region:fra",))) == "cheap"
            assert await here.ask(limits=Limits(tpot_s=5.0, trust=(here.nodes["dear"].offer.node,))) == "dear"

    asyncio.run(story())


def test_the_callers_class_and_that_of_a_text_both_bind(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metainf.swarm.host.generating.PATIENCE_S", 0.1)

    async def story() -> None:
        guard = Guard(Required(privacy="trusted", trust=("tee", "region:fra")))
        async with made(folder, guard=guard) as here:
            await here.add("slow", 0.5, region="fra")
            await here.add("quick", 0.05, labels=("endpoint=openai", "tee"))
            assert await here.ask() == "quick"
            assert await here.ask(limits=Limits(trust=("region:fra",))) == "slow"
            with pytest.raises(NoFeasible):
                await here.ask(limits=Limits(trust=("region:moon",)))

    asyncio.run(story())


def test_the_same_beginning_goes_where_it_was_read(folder: Path) -> None:
    async def story() -> None:
        async with made(folder) as here:
            await here.add("first", 0.05, remembers=True)
            assert await here.ask("b" * 256 + "?") == "first"
            await here.add("second", 0.03, remembers=True)
            assert [await here.ask("b" * 256 + "!" * at) for at in range(1, 6)] == ["first"] * 5
            others = [await here.ask(f"{at}" + "c" * 256) for at in range(6)]
            assert others.count("second") >= 5, others

    asyncio.run(story())


def test_where_a_replica_dies_the_scheduler_finds_another(folder: Path) -> None:
    async def story() -> None:
        async with made(folder) as here:
            quick = await here.add("quick", 0.05)
            await here.add("other", 0.12)
            assert await here.ask() == "quick"
            quick.dies = True
            told = await here.told("the", 6)
            assert told.output_tokens == 6 and told.recoveries == 1 and "whole" in told.routes[-1]
            failed = {each.node: each.failed for each in here.scheduler.told().nodes}
            assert failed[here.nodes["quick"].offer.node] == 1
            assert all(own.texts == 0 for own in here.scheduler.roster.own.values())

    asyncio.run(story())


def test_a_fault_of_the_scheduler_costs_no_text(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        async with made(folder) as here:
            await here.add("quick", 0.05)
            await here.add("other", 0.12)

            def broken(*_: object) -> None:
                raise ZeroDivisionError("made by a test")

            monkeypatch.setattr(here.scheduler.roster, "take", broken)
            assert [await here.ask() for _ in range(3)] == ["quick"] * 3
            assert here.scheduler.told().counts == {"errors": 3, "fallbacks": 3}
            here.swarm.caller.scheduler = None
            assert await here.ask() == "quick"

    asyncio.run(story())


@asynccontextmanager
async def behind_http(here: Made) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    app, writer = application(here.swarm, Serving())
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=5.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    try:
        async with aiohttp.ClientSession() as plain:
            yield plain, f"http://127.0.0.1:{port}"
    finally:
        writer.close()
        await runner.cleanup()


def test_limits_come_with_requests_and_the_scheduler_tells_what_it_did(folder: Path) -> None:
    async def story() -> None:
        async with made(folder) as here, behind_http(here) as (plain, url):
            dear = await here.add("dear", 0.05, usd_per_hour=36.0)
            cheap = await here.add("cheap", 0.5, usd_per_hour=0.36)

            async def asked(own: Any) -> tuple[int, dict[str, Any]]:
                body = {"prompt": "the", "max_tokens": 4, "ignore_eos": True, "stream": True, "metainf": own}
                async with plain.post(f"{url}/v1/completions", json=body) as answer:
                    if answer.status != 200:
                        return answer.status, (await answer.json())["error"]
                    async for line in answer.content:
                        if b'"text":"a"' in line:
                            here.clock.hear()
                return answer.status, {}

            assert await asked({"tpot_s": 0.1}) == (200, {}) and len(dear.asked) == 1
            assert await asked({"max_tpot_s": 5.0}) == (200, {}) and len(cheap.asked) == 1
            for wrong, why in [
                ({"most_usd": 1e-9}, "the cheapest costs"),
                ({"ttft": 3}, "ttft"),
                ("soon", "expected an object of limits"),
                ({"tpot_s": -1}, "tpot_s"),
            ]:
                status, error = await asked(wrong)
                assert status == 400 and why in error["message"], error
            async with plain.get(f"{url}/v1/scheduler") as answer:
                told = await answer.json()
            assert told["counts"] == {"choices": 2, "too_dear": 1} and len(told["nodes"]) == 2
            assert sum(told["decided"]["counts"]) == 3
            async with plain.get(f"{url}/metrics") as answer:
                text = await answer.text()
            assert "metainf_swarm:scheduler_choices_total 2\n" in text
            assert 'decision_seconds_bucket{le="+Inf"} 3\n' in text
            here.swarm.caller.scheduler = None
            async with plain.get(f"{url}/v1/scheduler") as answer:
                assert answer.status == 404

    asyncio.run(story())
