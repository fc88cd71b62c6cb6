"""The methods that a replica may run: which it runs, how quick each was, how it changes to another.

A change drains first: the node says that it leaves, texts may finish, the engine is started anew and
measured, and only then the node says that it is there again. What does not start is not offered any more.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from metainf.domain import MetaInfError
from metainf.swarm.host.engine import Child, Start, WholeLoad, measured
from metainf.swarm.host.measuring import Speed
from metainf.swarm.words import LEAST_BLOCK_MS, MOST_METHODS, Offered, Writing, sayable_ms

if TYPE_CHECKING:
    from metainf.swarm.host.member import Member
    from metainf.swarm.net.replica import ReplicaNode

STREAM_S = 0.05


class Repertoire:
    """How a replica may run, by the names of methods; the first is how it begins."""

    def __init__(self, starts: Sequence[Start], speed: Speed, node: "ReplicaNode") -> None:
        self.starts = {each.method: each for each in starts[:MOST_METHODS]}
        self.present, self.node = starts[0].method, node
        self.speeds = {self.present: speed}
        self.wanted: str | None = None

    def wish(self, method: str) -> None:
        """Change as soon as the node sees to it."""
        self.wanted = method

    def writing(self) -> Writing:
        """What the node says of it."""
        methods = []
        for name, start in self.starts.items():
            decode_ms, prefill_ms = _said(self.speeds.get(name))
            methods.append(
                Offered(
                    method=name,
                    decode_ms_per_block=decode_ms,
                    prefill_ms_per_token_block=prefill_ms,
                    prefix_tokens=start.prefix_tokens,
                )
            )
        room = self.node.places
        return Writing(
            method=self.present,
            methods=tuple(methods),
            places=room.places,
            texts=room.taken + room.in_line,
            waiting_tokens=self.node.waiting_tokens,
        )

    async def changed(self, member: "Member", child: Child) -> None:
        """Run the wanted method from now on, or go on with the present one where that does not start."""
        method, before, self.wanted = self.wanted, self.present, None
        if method is None or method == before or method not in self.starts:
            return
        member.say("changing", f"changing from {before} to {method}: {self.node.streams} texts may finish")
        await self._drained(member, method)
        if member.stop.is_set():
            return
        await child.stop()
        for name in (method, before):
            try:
                await self._started(member, child, name)
                break
            except MetaInfError as error:
                member.say("warning", f"{name} did not start: {error}")
                await child.stop()
                if name != before:
                    del self.starts[name]
        self.node.closed, member.state = "", "joining" if child.ended else "online"
        await member.announce()
        if not child.ended:
            member.say("changed", f"runs {self.present} at {member.address}")

    async def _drained(self, member: "Member", method: str) -> None:
        node, end_s = self.node, time.monotonic() + member.told.grace_s
        node.closed, member.state = f"its engine changes to {method}", "draining"
        await member.announce()
        while node.streams > 0 and time.monotonic() < end_s and not member.stop.is_set():
            await asyncio.sleep(STREAM_S)
        node.door = None

    async def _started(self, member: "Member", child: Child, method: str) -> None:
        start, count = self.starts[method], member.who.subject.num_blocks
        child.start_as = start
        door = await child.start()
        assert child.served is not None
        speed = self.speeds.get(method) or await measured(child.served.endpoint, count)
        self.speeds[method], self.present = speed, method
        load = member.load
        load.decode_ms, load.prefill_ms = speed.decode_ms_per_block, speed.prefill_ms_per_token_block
        if isinstance(load, WholeLoad):
            load.text_ms = 0.0
        subject = replace(member.who.subject, profile=start.profile)
        member.who = replace(member.who, subject=subject)
        self.node.door = door


def _said(speed: Speed | None) -> tuple[float | None, float | None]:
    """Milliseconds of a block for a token that is written and for one that is read."""
    if speed is None:
        return None, None
    decode_ms = sayable_ms(speed.decode_ms_per_block, LEAST_BLOCK_MS)
    return decode_ms, sayable_ms(speed.prefill_ms_per_token_block)
