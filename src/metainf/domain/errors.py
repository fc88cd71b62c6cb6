"""The errors that MetaInf raises on purpose.

MetaInfError
├── BadInput            a value, file or flag that cannot be understood
│   └── UnknownName     a name that no catalogue entry has; carries the near misses
├── NotSupported        a question that no part of MetaInf can answer; carries what comes nearest
├── NoFeasible          nothing meets the limits; carries the binding limit and the cheapest way out
├── StoreError          the record store refuses or cannot be opened
├── ArtifactError       a trained predictor that is foreign, broken or of another version
└── MissingExtra        an optional part is not installed; names the pip line

Every message says what was expected, what was found, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_LISTS = {
    "model": "models list",
    "device": "hardware list",
    "hardware": "hardware list",
    "workload": "workloads list",
    "engine": "methods list",
}


class MetaInfError(Exception):
    """Base of every error raised on purpose."""


class BadInput(MetaInfError):
    """A value, file or flag that cannot be understood."""


class UnknownName(BadInput):
    """A name that no entry has. `near` holds the closest known names."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind, self.name = kind, name
        self.near = near_misses(name, known)
        hint = f"did you mean {', '.join(self.near)}?" if self.near else "no known name is close to it"
        command = _LISTS.get(kind)
        told = f" (metainf {command} shows all)" if command else ""
        super().__init__(f"unknown {kind} {name!r}: {hint}{told}")

    def explained(self, why: str) -> "UnknownName":
        """The same error with one more sentence: where else was looked, and what came of it."""
        self.args = (f"{self}; {why}",)
        return self


class NotSupported(MetaInfError):
    """What cannot be predicted or run, with the nearest thing that can."""


class NoFeasible(MetaInfError):
    """No candidate meets the limits."""


class StoreError(MetaInfError):
    """The record store refuses or cannot be opened."""


class ArtifactError(MetaInfError):
    """A trained predictor that is foreign, broken or of another version."""


class MissingExtra(MetaInfError):
    """An optional part of MetaInf is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional part: pip install 'metainf[{extra}]'")


def near_misses(name: str, known: Iterable[str], limit: int = 4) -> list[str]:
    """Closest known names, compared without case and on the last path component too."""
    names = list(known)
    wanted = name.lower()
    inside = [n for n in names if wanted and wanted in n.lower()]
    keys = {n.lower(): n for n in names} | {n.lower().rsplit("/", 1)[-1]: n for n in names}
    close = [keys[k] for k in get_close_matches(wanted, keys, n=limit, cutoff=0.55)]
    return list(dict.fromkeys(sorted(inside, key=len)[:limit] + close))[:limit]
