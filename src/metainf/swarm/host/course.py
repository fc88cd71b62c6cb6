"""How a text came to be."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from metainf.hosts.tracing import Mark
from metainf.swarm.host.paying import Bill, Purse
from metainf.swarm.net.part import Recovery

Tell = Callable[[str], None]


@dataclass
class Course:
    """How a text came to be: when, along which routes, over which failures. Filled while it is written.

    Seconds count from the request; `restarts` are the times that no way was left and one was waited for.
    With a `purse` the text is paid for, and the `bill` tells how.
    """

    tell: Tell | None = None
    begun_s: float = field(default_factory=time.perf_counter)
    first_s: float | None = None
    last_s: float | None = None
    seed: int | None = None
    routes: list[str] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    restarts: int = 0
    purse: Purse | None = None
    bill: Bill | None = None
    answer: list[int] = field(default_factory=list)
    mark: Mark = field(default_factory=lambda: Mark(""))

    def heard(self, line: str) -> None:
        self.mark.tell(line)
        if line.startswith("route "):
            self.routes.append(line.removeprefix("route "))
        if self.tell is not None:
            self.tell(line)

    def token(self) -> None:
        self.last_s = time.perf_counter() - self.begun_s
        self.first_s = self.last_s if self.first_s is None else self.first_s
