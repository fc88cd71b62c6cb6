"""What our own hosts publish, read back: facts, counters and how many requests shared a step."""

from dataclasses import dataclass

from metainf.engines.evidence import Reading
from metainf.engines.prometheus import gained, label, samples


@dataclass(frozen=True)
class Page:
    """The pages of one host, whose names begin with `prefix`."""

    reading: Reading
    prefix: str

    def fact(self, key: str) -> str | None:
        """A label of the row of facts; None where it is absent or empty."""
        return label(self.reading.after, f"{self.prefix}:info", key) or None

    def number(self, key: str) -> int | None:
        """A fact that is a whole number."""
        text = self.fact(key)
        return int(text) if text and text.isdigit() else None

    def switch(self, key: str, on: str = "true") -> bool | None:
        """Whether a fact says `on`."""
        text = self.fact(key)
        return None if text is None else text == on

    def gained(self, name: str) -> float | None:
        """How much a counter grew during the requests."""
        return gained(self.reading, f"{self.prefix}:{name}")

    def steps(self) -> dict[float, float]:
        """Steps that ran during the requests, by how many requests shared them."""
        counted: dict[float, float] = {}
        for sign, page in ((-1, self.reading.before), (1, self.reading.after)):
            for name, labels, value in samples(page):
                if name == f"{self.prefix}:steps_of_size_total":
                    size = float(labels["requests"])
                    counted[size] = counted.get(size, 0.0) + sign * value
        return {size: count for size, count in counted.items() if count > 0 and size > 0}

    def peak_running(self) -> float | None:
        """Most requests that shared one step."""
        return max(self.steps(), default=None)

    def mean_running(self) -> float | None:
        """Requests that shared a step, on average over the steps."""
        steps = self.steps()
        return sum(size * count for size, count in steps.items()) / sum(steps.values()) if steps else None
