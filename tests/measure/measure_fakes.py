"""An engine that is a fake, and a sweep of it that can run in a process of its own.

`python measure_fakes.py STORE [--resume]` runs a sweep of six runs.
"""

import sys
from collections.abc import Mapping
from typing import Any, ClassVar

from metainf.domain import Batching, Device, Hardware, Method, Model, PrefixCache, Speculative
from metainf.engines.command import Command, Words
from metainf.engines.evidence import Evidence, Reading
from metainf.engines.serving import ServingEngine
from metainf.measure.order import Order
from metainf.measure.recipes import recipe
from metainf.measure.serving import Patience, Subject
from metainf.measure.trial import Rules
from metainf.measure.words import ClosedLoop, Request, Traffic

PROGRAM = ("python", "-m", "metainf.testing.model_server")


class FakeEngine(ServingEngine):
    """The fake server as an engine: prefix caching and a number of slots are its techniques."""

    name = "fake"
    title = "a fake"
    offers: tuple[type, ...] = (Batching, PrefixCache, Speculative)
    words: ClassVar[Words] = Words(
        program=PROGRAM, tensor="", pipeline="", sequences="--slots", context="", layouts=(), weights={},
        caches={}, speculative={}, drafted=(),
    )  # fmt: skip

    def __init__(self, *more: str, evidence: Evidence | None = None) -> None:
        self.more, self.told = more, evidence or Evidence()

    def serves(self, device: Device) -> bool:
        return True

    def start(self, command: Command) -> None:
        command.add(*self.more)

    def batch(self, command: Command) -> None:
        if (batching := command.get(Batching)) is not None:
            command.add("--slots", batching.max_sequences)

    def keep_prefixes(self, command: Command, prefix: PrefixCache) -> None:
        if prefix.enabled:
            command.add("--prefix-cache")

    def speculate(self, command: Command, speculative: Speculative) -> None:
        pass

    def compute(self, command: Command) -> None:
        pass

    def limit(self, command: Command) -> None:
        pass

    def evidence(self, reading: Reading) -> Evidence:
        return self.told


SUBJECT = Subject(
    Model(name="fake/model", params_b=0.1),
    Hardware(device=Device(name="fake-cpu", kind="cpu", memory_gib=8), count=1, nodes=1),
)


def traffic(requests: int = 6, in_flight: int = 3, name: str = "short", **more: Any) -> Traffic:
    return Traffic(
        name=name,
        requests=tuple(Request(f"{i} how far is the moon from here", 5) for i in range(requests)),
        pacing=ClosedLoop(in_flight),
        reference=(Request("tell me more of it", 6),),
        **more,
    )


def methods(engine: FakeEngine, *names: str) -> list[tuple[str, Method]]:
    return [(name, recipe(name, engine)) for name in names]


def order(engine: FakeEngine, *names: str, **more: Any) -> Order:
    rules = Rules(Patience(ready_s=20, run_s=20, grace_s=1))
    given: Mapping[str, Any] = {"traffics": [traffic()], "rules": rules} | more
    return Order(SUBJECT, methods(engine, *(names or ("baseline", "continuous"))), **given)


def main(store_path: str, resume: bool) -> None:
    """Two methods on three traffics; a line with what is done before each run."""
    from metainf.measure.sweep import prepare, sweep
    from metainf.store import open_store

    engine = FakeEngine("--itl-ms", "5")
    traffics = [traffic(name=f"short {place}") for place in range(3)]
    asked = order(engine, traffics=traffics)
    with open_store(store_path) as store:
        layout = prepare(asked, store, lambda _: engine, "today", resume)
        print("runs", len(layout.runs), flush=True)
        sweep(asked, layout, store, lambda _: engine, tell=lambda now: print("done", now.done, flush=True))


if __name__ == "__main__":
    main(sys.argv[1], "--resume" in sys.argv)
