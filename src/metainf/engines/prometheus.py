"""Numbers and labels in the Prometheus text that engines publish (text exposition format 0.0.4).

Lines that are not in the format are passed over: a server in trouble must not break what reads it.
"""

import math
import re
from collections.abc import Mapping

from metainf.engines.evidence import Reading

_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?[ \t]+(\S+)(?:[ \t]+-?\d+)?$")
_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\]|\\.)*)"')

Sample = tuple[str, Mapping[str, str], float]


def samples(text: str) -> list[Sample]:
    """(name, labels, value) of each finite sample, in order."""
    found: list[Sample] = []
    for line in text.splitlines():
        match = _LINE.match(line.strip())
        if match is None:
            continue
        try:
            value = float(match[3])
        except ValueError:
            continue
        if math.isfinite(value):
            found.append((match[1], dict(_LABEL.findall(match[2] or "")), value))
    return found


def total(text: str, name: str, without: tuple[str, str] | None = None) -> float | None:
    """The sum of a metric over its labels, less those with the label `without`; None where it is absent.

    A counter is found with and without the ending `_total`, which some client libraries add.
    """
    values = [
        value
        for found, labels, value in samples(text)
        if found in (name, f"{name}_total") and (without is None or labels.get(without[0]) != without[1])
    ]
    return sum(values) if values else None


def gained(reading: Reading, name: str, without: tuple[str, str] | None = None) -> float | None:
    """How much a counter grew between the two readings of the metrics.

    One that appears only after its first use counts from zero. None where either reading is missing, the
    counter is absent, or it fell (a restarted engine).
    """
    after = total(reading.after, name, without)
    if after is None or not samples(reading.before):
        return None
    grown = after - (total(reading.before, name, without) or 0.0)
    return grown if grown >= 0 else None


def label(text: str, name: str, key: str) -> str | None:
    """A label of the first sample of this name; None where it has none."""
    return next((labels.get(key) for found, labels, _ in samples(text) if found == name), None)
