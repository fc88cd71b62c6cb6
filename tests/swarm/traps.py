"""Kills at a chosen moment, for tests."""

import asyncio
from typing import Any

from in_process import Place


class Trap:
    """Does something to a node while it calculates a certain step: before it calculates, after it did, or
    after the next node was sent the answer and the client not yet."""

    def __init__(self, swarm: Place, name: str, position: int, moment: str) -> None:
        self.swarm, self.name, self.position, self.sprung = swarm, name, position, False
        node = swarm.nodes[name]
        answer = node._answer

        async def caught(part: Any, session: str, step: Any) -> Any:
            springs = step.position >= self.position and not self.sprung
            if springs and moment == "before":
                await self.spring()
            made = await answer(part, session, step)
            if springs and moment == "after":
                await self.spring()
            if springs and moment == "handed on":
                visit = next(each for each in node.visits.values() if each.name == session)
                deliver = visit.deliver

                async def half(answer: Any) -> None:
                    write = visit.context.write
                    visit.context = _Mute(write)
                    await deliver(answer)
                    await asyncio.sleep(0.05)
                    await self.spring()

                visit.deliver = half  # type: ignore[method-assign]
            return made

        node._answer = caught  # type: ignore[method-assign]

    async def spring(self) -> None:
        self.sprung = True
        stopping = asyncio.ensure_future(self.swarm.kill(self.name))
        await asyncio.sleep(10)  # never goes on: the server ends this stream
        await stopping


class _Mute:
    """A client's side to which nothing is written any more."""

    def __init__(self, write: Any) -> None:
        self._write = write

    async def write(self, message: bytes) -> None:
        pass
