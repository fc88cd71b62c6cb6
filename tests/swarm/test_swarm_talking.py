"""A process under test says far more than its pipe holds while nobody waits for it: it neither stands still
nor keeps the one that ends it waiting."""

import asyncio
import sys

import pytest

from metainf.testing.talking import Talking

MORE = "import sys\nprint('ready')\nfor _ in range(20): print('x' * 50_000, flush=True)\n"


def test_what_nobody_waits_for_is_heard_all_the_same() -> None:
    async def story() -> None:
        talking = await Talking.of(sys.executable, "-c", MORE + "print('said', sys.stdin.readline())")
        try:
            assert await talking.until("ready", 20.0) == "ready"
            talking.tell("a word")
            assert await talking.until("said", 20.0) == "said a word"
            assert sum(map(len, talking.lines)) > 1_000_000
        finally:
            await talking.end()

    asyncio.run(story())


def test_one_that_said_too_much_can_be_ended() -> None:
    async def story() -> None:
        talking = await Talking.of(sys.executable, "-c", MORE + "sys.stdin.readline()")
        await talking.until("ready", 20.0)
        await asyncio.sleep(0.2)  # it says more than the buffers on both sides hold
        await talking.end()
        assert talking.process.returncode == -9

    asyncio.run(story())


def test_one_that_ends_or_errs_is_told_of() -> None:
    async def story() -> None:
        for code, found in (("print('one')", "the end"), ("print('error: no')", "error: no")):
            talking = await Talking.of(sys.executable, "-c", code)
            with pytest.raises(AssertionError, match=f"'ready', found {found}"):
                await talking.until("ready", 20.0)
            await talking.end()

    asyncio.run(story())
