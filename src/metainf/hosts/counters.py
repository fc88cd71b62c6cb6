"""Counters of a host, written in Prometheus text."""

from collections import Counter
from collections.abc import Mapping


class Counters:
    """Sums, gauges and one row of facts under a common prefix; safe to read while another thread counts."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.sums: Counter[str] = Counter()
        self.step_sizes: Counter[int] = Counter()
        self.facts: dict[str, str] = {}

    def text(self, gauges: Mapping[str, float]) -> str:
        """The page: `info` with the facts, counters ending in _total, steps by their size, gauges."""
        facts = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(self.facts.items()))
        lines = [f"# TYPE {self.prefix}:info gauge", f"{self.prefix}:info{{{facts}}} 1"]
        for name, value in sorted(self.sums.copy().items()):
            lines += [f"# TYPE {self.prefix}:{name}_total counter", f"{self.prefix}:{name}_total {value}"]
        lines.append(f"# TYPE {self.prefix}:steps_of_size_total counter")
        for size, count in sorted(self.step_sizes.copy().items()):
            lines.append(f'{self.prefix}:steps_of_size_total{{requests="{size}"}} {count}')
        for name, level in sorted(gauges.items()):
            lines += [f"# TYPE {self.prefix}:{name} gauge", f"{self.prefix}:{name} {level}"]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
