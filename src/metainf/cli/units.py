"""Numbers with units as people type them: 500ms, 0.5s, 1.5k."""

import math
import re

_SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "min": 60.0}
_TIMES = {"": 1.0, "k": 1e3, "m": 1e6}


def seconds(text: str | None) -> float | None:
    """A duration in seconds: "500ms", "0.5s", "0.5". Raises BadInput for anything else."""
    return _read(text, _SECONDS, "a duration such as 500ms or 0.5s")


def amount(text: str | None) -> float | None:
    """A positive number: "4", "1.5k"."""
    return _read(text, _TIMES, "a positive number such as 4 or 1.5k")


def _read(text: str | None, units: dict[str, float], expected: str) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*([a-zµ]*)\s*", text)
    value = float(found[1]) * units.get(found[2], math.nan) if found else math.nan
    if not (0 < value < math.inf):
        from metainf.domain.errors import BadInput

        raise BadInput(f"expected {expected}, found {text!r}")
    return value
