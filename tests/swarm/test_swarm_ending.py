"""A task that loses a cancellation ends all the same."""

import asyncio

import pytest

from metainf.swarm.net import ending
from metainf.swarm.net.ending import ended


def test_a_task_that_loses_a_cancellation_is_cancelled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)
    lost = []

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if len(lost) == 3:
                    raise
                lost.append(1)

    async def story() -> None:
        task = asyncio.create_task(stubborn())
        await asyncio.sleep(0)
        assert await ended(task, None) == [] and task.cancelled() and len(lost) == 3

    asyncio.run(asyncio.wait_for(story(), 10))


def test_the_race_of_wait_for_does_not_keep_a_task_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer and the cancellation come in one turn of the loop."""
    monkeypatch.setattr(ending, "AGAIN_S", 0.01)

    async def story() -> None:
        loop = asyncio.get_running_loop()
        answers: list[asyncio.Future[None]] = []

        async def asking() -> None:
            while True:
                answers.append(loop.create_future())
                await asyncio.wait_for(answers[-1], 60)

        task = asyncio.create_task(asking())
        while not answers:
            await asyncio.sleep(0)
        answers[-1].set_result(None)
        assert await ended(task) == [] and task.cancelled()

    asyncio.run(asyncio.wait_for(story(), 10))


def test_what_a_task_failed_with_is_told() -> None:
    async def wrong() -> None:
        raise ValueError("so")

    async def late() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            raise KeyError("late")

    async def story() -> None:
        tasks = [asyncio.create_task(wrong()), asyncio.create_task(late())]
        await asyncio.sleep(0)
        assert sorted(map(repr, await ended(*tasks))) == ["KeyError('late')", "ValueError('so')"]

    asyncio.run(story())
