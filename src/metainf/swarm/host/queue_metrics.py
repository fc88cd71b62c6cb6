"""What the queue tells Prometheus: an agent what waits and what came of its requests, a worker what it does.

Names in labels are few, whoever writes to the queue: groups that nobody announces are one, reasons are words
of this program.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from metainf.domain import MissingExtra
from metainf.swarm.plan.overview import Queue

if TYPE_CHECKING:
    from metainf.swarm.host.working import Worker

QUEUE, WORKER = "metainf_queue", "metainf_worker"
OTHER, REFUSED = "other", "refused "
"""What stands for groups without a worker; what stands before a reason in a tally."""
MOST_GROUPS = 200
"""Groups with numbers of their own, the first by name."""


@dataclass(frozen=True)
class OfQueue:
    """A collector of prometheus_client: the tally of an agent (`asked`, `answered`, `refused REASON`), what
    waits, and the groups that workers announce."""

    tally: Counter[str]
    found: Queue
    groups: Collection[str]

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        lost = float(self.found.lost is not None)
        yield GaugeMetricFamily(f"{QUEUE}_lost", "1 while the queue does not answer.", lost)
        if not lost:
            waits = GaugeMetricFamily(
                f"{QUEUE}_waiting",
                "Requests that wait or are worked on, by group and class (0 is served first).",
                labels=["group", "priority"],
            )
            for (group, priority), jobs in sorted(waiting(self.found, self.groups).items()):
                waits.add_metric([group, str(priority)], jobs)
            yield waits
            yield GaugeMetricFamily(f"{QUEUE}_dead", "Requests that nobody could serve.", self.found.dead)
            told = "Messages under names that no agent uses."
            yield GaugeMetricFamily(f"{QUEUE}_strange", told, self.found.strange)
        for name, meaning in (("asked", "Requests that came."), ("answered", "Requests with their answer.")):
            yield CounterMetricFamily(f"{QUEUE}_{name}", meaning, self.tally[name])
        refused = CounterMetricFamily(f"{QUEUE}_refused", "Requests without, by reason.", labels=["reason"])
        for key, count in sorted(self.tally.items()):
            if key.startswith(REFUSED):
                refused.add_metric([key.removeprefix(REFUSED)], count)
        yield refused


def waiting(found: Queue, groups: Collection[str]) -> dict[tuple[str, int], int]:
    """Jobs by group and class; every group that is announced has its numbers, also where they are 0."""
    groups = sorted(groups)[:MOST_GROUPS]
    told = {(group, priority): 0 for group in groups for priority in (0, 1, 2)}
    for each in found.waiting:
        place = (each.group if each.group in groups else OTHER, each.priority)
        told[place] = told.get(place, 0) + each.jobs
    return told


def page(collector: OfQueue) -> tuple[bytes, str]:
    """The metrics in Prometheus' text, and the text's type. Raises MissingExtra."""
    try:
        from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
    except ImportError:
        raise MissingExtra("metrics of the queue", "swarm") from None
    return generate_latest(collector), CONTENT_TYPE_LATEST


class OfWorker:
    """The same of a worker."""

    def __init__(self, worker: "Worker") -> None:
        self.worker = worker

    def collect(self) -> Iterator[Any]:
        """All metrics as they are now."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily

        word, consumer = self.worker.word, self.worker.consumer
        who = {"worker": word.name, "group": word.group, "model": word.model}
        where = {"hardware": word.hardware or "", "region": word.region or ""}
        yield InfoMetricFamily(WORKER, "Who it is.", who | where)
        levels = (
            ("slots", "Requests that are worked on at once.", word.slots),
            ("requests_running", "Requests that are worked on.", consumer.busy),
            ("request_seconds", "What a request lately took, as announced.", word.request_s),
        )
        for name, meaning, level in levels:
            yield GaugeMetricFamily(f"{WORKER}_{name}", meaning, level)
        sums = (
            ("answered", "Requests with an answer, refusals of the model among them.", consumer.done),
            ("given_back", "Requests that are to come again, here or elsewhere.", consumer.given_back),
            ("refused", "Requests that were answered with an error.", consumer.refused),
            ("failed", "Mistakes of the worker, and answers that the queue did not take.", consumer.failed),
        )
        for name, meaning, count in sums:
            yield CounterMetricFamily(f"{WORKER}_{name}", meaning, count)
