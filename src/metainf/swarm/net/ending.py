"""Ending tasks for certain."""

import asyncio
from typing import Any

AGAIN_S = 1.0
"""Seconds that a cancelled task has for what it does last, before it is cancelled again."""


async def ended(*tasks: "asyncio.Task[Any] | None") -> list[BaseException]:
    """Cancel tasks (None is passed over), wait until all have ended, and tell what they failed with.

    Cancelled again and again: `asyncio.wait_for` of Python 3.11 loses a cancellation that comes in the very
    moment in which what it waits for is done (CPython issue 86296), and the task would go on for ever.
    """
    left = {task for task in tasks if task is not None}
    failures = []
    while left:
        for task in left:
            task.cancel()
        done, left = await asyncio.wait(left, timeout=AGAIN_S)
        failures += [error for task in done if not task.cancelled() and (error := task.exception())]
    return failures
