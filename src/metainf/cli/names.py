"""What the shell completes: names of the catalogue, from its tables alone."""

import re
from collections.abc import Callable, Iterable

COUNTED = re.compile(r"((?:\d+(?:-\d+)?[x×])?)(.*)")


def model_names(incomplete: str) -> list[str]:
    """Models whose name begins so; without a slash also by the part after the organisation."""
    from metainf.catalog.tables import table

    names = [str(row["name"]) for row in table("models")]
    short = [name.rpartition("/")[2] for name in names] if "/" not in incomplete else []
    return starting(incomplete, [*names, *short])


def hardware_names(incomplete: str) -> list[str]:
    """Devices, after a count such as 2x or 1-4x and after a comma too."""
    from metainf.catalog.tables import table

    before, comma, last = incomplete.rpartition(",")
    count, start = COUNTED.fullmatch(last).groups()  # type: ignore[union-attr]
    found = starting(start, [str(row["name"]) for row in table("devices")])
    return [f"{before}{comma}{count}{name}" for name in found]


def workload_names(incomplete: str) -> list[str]:
    """Named workloads."""
    from metainf.catalog.workloads import workloads

    return starting(incomplete, workloads())


def engine_names(incomplete: str) -> list[str]:
    """Engines."""
    from metainf.engines import ENGINES

    return starting(incomplete, ENGINES)


def format_names(incomplete: str) -> list[str]:
    """Formats of result files."""
    from metainf.importers import IMPORTERS

    return starting(incomplete, IMPORTERS)


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Completion of a fixed list."""
    return lambda incomplete: starting(incomplete, words)


def starting(incomplete: str, names: Iterable[str]) -> list[str]:
    """Names that begin with the text, whatever its case, each once; what was typed stays as it was typed,
    since shells drop completions that do not begin with it."""
    wanted, length = incomplete.lower(), len(incomplete)
    return list(dict.fromkeys(incomplete + n[length:] for n in names if n.lower().startswith(wanted)))
