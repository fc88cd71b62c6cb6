"""Who is judged: every chooser with its role."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metainf.domain import BadInput
from metainf.embed.joint import Kind
from metainf.learn.baselines import (
    BestPerHardware,
    Chooser,
    FairBest,
    NearestSetting,
    Oracle,
    Portfolio,
    Random,
    SingleBest,
)
from metainf.learn.classics import Alors, Isac
from metainf.learn.forecast import Learner
from metainf.learn.learnt import Learnt, Remembered
from metainf.learn.peers import NAME, PeerChooser
from metainf.learn.regression import Fitter, Regression, boosted, forest, gradient
from metainf.learn.relative import MethodChooser
from metainf.learn.splits import By
from metainf.learn.worded import Worded

Role = Literal["bound", "baseline", "paper", "peer", "ablation", "ours"]
Words = Mapping[str, NDArray[np.float32]]
OURS, SINGLE = "MetaInf", "single best"
SERVING = ("aic_silicon",)
"""Sources whose runs state load and both token times, so that the serving learner can be fitted on them."""


@dataclass(frozen=True)
class Entry:
    """A chooser that is judged. Entries of one `group` share fits, so they are run together."""

    name: str
    role: Role
    make: Callable[[], Chooser]
    group: str


def entries(source: str, by: By, words: Words | None = None, only: Sequence[str] = ()) -> list[Entry]:
    """The choosers judged on a source. `words`: vectors of its descriptions, for the text ablations.

    Raises BadInput for a name in `only` that no source knows.
    """
    found = [*_rules(), *_regressions(words), *_ours(source, by)]
    if only:
        known = {entry.name for entry in found} | set(NAMES)
        if missing := [name for name in only if name not in known]:
            raise BadInput(f"no chooser {', '.join(missing)}; expected some of {', '.join(sorted(known))}")
        kept = {*only, SINGLE}
        found = [entry for entry in found if entry.name in kept]
    return found


def _rules() -> list[Entry]:
    made: dict[str, Callable[[], Chooser]] = {
        "random": Random,
        SINGLE: SingleBest,
        "single best, blind": partial(SingleBest, blind=True),
        "single best, shrunk": FairBest,
        "best per hardware": BestPerHardware,
        "nearest setting": NearestSetting,
        "greedy portfolio": Portfolio,
        "ISAC": Isac,
        "ALORS": Alors,
    }
    bound = Entry("oracle", "bound", Oracle, "rules")
    return [bound, *(Entry(name, "baseline", make, "rules") for name, make in made.items())]


def _regressions(words: Words | None) -> list[Entry]:
    fitters: dict[str, tuple[Fitter, Kind, Role]] = {
        "random forest": (forest, "classical", "baseline"),
        "gradient boosting": (gradient, "classical", "baseline"),
        "XGBoost, classical": (boosted, "classical", "paper"),
        "XGBoost, one-hot": (boosted, "onehot", "paper"),
    }
    found = [
        Entry(name, role, partial(_learnt, fitter, kind), name)
        for name, (fitter, kind, role) in fitters.items()
    ]
    if words is not None:
        for name, also in (("XGBoost, text", False), ("XGBoost, text and classical", True)):
            found.append(Entry(name, "paper", partial(Worded, words, also), name))
    return found


def _learnt(fitter: Fitter, kind: Kind) -> Chooser:
    return Learnt(partial(_regression, fitter, kind))


def _regression(fitter: Fitter, kind: Kind, only: tuple[str, ...]) -> Learner:
    return Regression(fitter, kind, only)


def _ours(source: str, by: By) -> list[Entry]:
    side, group = side_of(by), OURS
    if source in SERVING:
        return [
            Entry("MetaInf, prior alone", "ablation", partial(_serving, side, False), group),
            Entry(OURS, "ours", partial(_serving, side, True), group),
        ]
    key = "device" if by == "hardware" else "model_group"
    return [
        Entry("MetaInf, no prior", "ablation", partial(MethodChooser, key, 1.0), "no prior"),
        Entry(OURS, "ours", partial(MethodChooser, key), group),
    ]


def _serving(side: Literal["model", "hardware"], residual: bool) -> Chooser:
    return Learnt(lambda _: Remembered(side, residual))


def side_of(by: By) -> Literal["model", "hardware"]:
    """The learner that the predictor asks under a split: where the model is known, the one that learns from
    its runs."""
    return "model" if by == "model" else "hardware"


PEER_ENTRY = Entry(NAME, "peer", PeerChooser, "rules")
NAMES = frozenset(
    entry.name for source in ("aic_silicon", "") for entry in (*entries(source, "model", {}), PEER_ENTRY)
)
"""Every chooser of any source."""
