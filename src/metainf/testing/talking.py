"""A process that tests start, listen to and end.

It is read for as long as it runs, whether anybody waits for a line or not. One that nobody reads stands still
at the line for which its pipe has no room; and asyncio, which stops reading at a full buffer, then never sees
the end of the pipe, without which it waits for ever for a process that was ended long ago.
"""

import asyncio
from dataclasses import dataclass, field

MOST_LINE = 16 * 2**20
END_S = 20.0


@dataclass
class Talking:
    """Something that runs and says lines."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list)
    """Those that were waited for, and those before them."""
    _said: asyncio.Queue[str | None] = field(default_factory=asyncio.Queue)
    _reading: asyncio.Task[None] | None = None

    @classmethod
    async def of(cls, *command: str) -> "Talking":
        """Start a command; what it says on both channels is heard."""
        made = cls(
            await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=MOST_LINE,
            )
        )
        made._reading = asyncio.create_task(made._read())
        return made

    async def until(self, start: str, within_s: float = 90.0) -> str:
        """The next line that begins so; the others are kept. Raises AssertionError where it ends or says an
        error, TimeoutError where the line does not come."""
        async with asyncio.timeout(within_s):
            while (line := await self._said.get()) is not None:
                self.lines.append(line)
                if line.startswith(start):
                    return line
                if line.startswith("error"):
                    break
        raise AssertionError(f"expected {start!r}, found {line or 'the end'} after {self.lines[-9:]}")

    def tell(self, line: str) -> None:
        """Write a line to its input."""
        assert self.process.stdin
        self.process.stdin.write(line.encode() + b"\n")

    async def end(self) -> None:
        """Kill it where it still runs, and wait until it is gone. Raises TimeoutError."""
        if self.process.returncode is None:
            self.process.kill()
        async with asyncio.timeout(END_S):
            await self.process.wait()

    async def _read(self) -> None:
        assert self.process.stdout
        while line := await self.process.stdout.readline():
            self._said.put_nowait(line.decode(errors="replace").rstrip())
        self._said.put_nowait(None)
