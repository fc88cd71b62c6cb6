"""The receipts of a session, each bound to the one before, in the order in which they were asked for."""

from dataclasses import dataclass, field

from metainf.swarm.net.stream import Stream
from metainf.swarm.trust.sealed import digest


@dataclass
class Gathered:
    """Sealed receipts for a sealed order."""

    order: str
    texts: list[str] = field(default_factory=list)

    @property
    def previous(self) -> str:
        """What the next receipt must name."""
        return digest(self.texts[-1] if self.texts else self.order)

    async def ask(self, stream: Stream) -> None:
        """Ask one stage. Raises StageFailed, and then nothing is added: the next names the one before."""
        if self.order and (found := await stream.receipt(self.previous)) is not None:
            self.texts.append(found)
