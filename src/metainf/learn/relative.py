"""The chooser of every source but the serving one: five experts, weighed by how they fare inside the history.

Experts: two rules that know options by name (the single best, the nearest setting) and three predictors of
what each option would measure (a Gaussian process, boosted trees, a forest; see `contrast`). Their scores,
as logs of expected value relative to the best of the cell, are averaged. Who counts how much is settled on
folds inside the training table that leave out whole groups, as the judge will; the test fold is not read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.roofline import Kind
from metainf.learn.baselines import Chooser, NearestSetting, SingleBest
from metainf.learn.contrast import Engine, History, Relative, alike, describe, history
from metainf.learn.process import Numbers, Runs
from metainf.learn.shared_error import Gambles, expected_share_at
from metainf.learn.table import Table
from metainf.learn.views import QUANTILES, Floats, Options, View, budgets, judge, options

FOLDS = 3
FLOOR = 0.02
"""Utilities below this share of the best are taken as this share."""
UNKNOWN = 0.8
"""Utility of an option that a rule never saw, relative to the known ones of its cell."""
SHARPNESS, LEAST_ERROR = 2.0, 0.003
ENGINES: tuple[Engine, ...] = ("process", "trees", "forest")
RULES: dict[str, type[Chooser]] = {"single best": SingleBest, "nearest setting": NearestSetting}
UNJUDGED = {"single best": 0.5, "process": 0.25, "trees": 0.25}
"""Weights where the history has nothing to hold out."""
OTHERWISE = ("model_group", "device", "workload")
"""What is held out inside where the history has one group of the kind that is asked about."""
Mix = tuple[float, dict[str, float]]
MIXES: tuple[Mix, ...] = (
    (1.0, {"single best": 1.0}),
    (1.0, {"nearest setting": 1.0}),
    (1.0, {"process": 1.0}),
    (1.0, {"trees": 1.0}),
    (1.0, {"forest": 1.0}),
    (2.0, {"process": 0.5, "trees": 0.5}),
    (2.0, {"process": 1 / 3, "trees": 1 / 3, "forest": 1 / 3}),
    (1.0, UNJUDGED),
    (1.0, {"nearest setting": 0.5, "process": 0.25, "trees": 0.25}),
)
"""Mixes of experts that are compared, each after its weight before anything is known."""
WITHOUT_IDEAL: tuple[Mix, ...] = ((2.0, {"trees": 0.5, "forest": 0.5}),)
"""Compared too where the value has no ideal for the process to lean on."""
_IDEAL: dict[str, Kind] = {
    "tokens_per_s_per_device": "rate_per_device", "speed": "speed", "energy": "energy",
    "tpot_s": "step", "e2e_s": "run",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """Options of cells, with what each expert says of them before a budget is known.

    value, limit: predicted natural logs (m,) by engine. rules: scores (m, k) by rule and by told.
    """

    found: Options
    allowed: Floats
    value: dict[str, Floats]
    limit: dict[str, Floats]
    rules: dict[tuple[str, bool], Floats]

    def scores(self, told: bool, scale: dict[str, float]) -> dict[str, Floats]:
        """Log expected values (m, k) by expert, at most 0 and 0 for the best of each cell.

        Under a limit that is not told an engine scores by the expected share of the best feasible value.
        """
        result = {}
        for name, value in self.value.items():
            score = np.repeat(value[:, None], self.allowed.shape[1], axis=1)
            if self.limit and not told:
                score = self._shares(value, self.limit[name], scale[name])
            result[name] = self._topped(score)
        for name in RULES:
            result[name] = self._topped(self._logs(self.rules[name, told]))
        return result

    def _shares(self, value: Floats, limit: Floats, scale: float) -> Floats:
        """Log expected shares (m, k) under predicted natural logs of values and limits (m,).

        A budget is known by its place among the limits of the cell, as the rules by name know it, which
        cancels the level of the prediction.
        """
        found, rng = np.empty(self.allowed.shape), np.random.default_rng(0)
        for cell in self.found.cells:
            one = np.ones(len(cell))
            gambles = Gambles(value[cell], limit[cell], scale * one, 0.0 * one)
            found[cell] = expected_share_at(gambles, QUANTILES, rng)
        return found

    def _logs(self, share: Floats) -> Floats:
        """Logs of utilities; an unknown option is taken for somewhat worse than the cell's mean."""
        known = share >= 0
        logs = np.where(known, np.log(np.maximum(share, FLOOR)), 0.0)
        cell, cells = self.found.cell, int(self.found.cell.max()) + 1
        for place in range(share.shape[1]):
            count = np.bincount(cell, weights=known[:, place], minlength=cells)
            total = np.bincount(cell, weights=logs[:, place], minlength=cells)
            middle = total / np.maximum(count, 1) + np.log(UNKNOWN)
            logs[:, place] = np.where(known[:, place], logs[:, place], middle[cell])
        return logs

    def _topped(self, score: Floats) -> Floats:
        top = np.full((int(self.found.cell.max()) + 1, score.shape[1]), -np.inf)
        np.maximum.at(top, self.found.cell, score)
        return np.asarray(score - top[self.found.cell])


class Experts:
    """All experts, fitted on one training table."""

    def __init__(self, train: Table, past: History, view: View) -> None:
        def fitted(name: str, limit: bool) -> dict[str, Relative]:
            sample = past.limit if limit else past.value
            return {e: Relative(_IDEAL.get(name, "none"), e).fit(past.runs, sample) for e in ENGINES}

        self.view, self.value = view, fitted(view.value, False)
        self.limit = fitted(view.limit, True) if view.limit else {}
        self.rules = {name: rule() for name, rule in RULES.items()}
        for rule in self.rules.values():
            rule.fit(train, view)

    def on(self, test: Table, found: Options, runs: Runs, unit: Numbers) -> Case:
        """Predictions for options. `unit`: the run of each member of each option, in order."""
        sizes = np.array([len(member) for member in found.members])
        option = np.repeat(np.arange(len(sizes)), sizes)

        def merged(learner: Relative) -> Floats:
            return np.asarray(np.bincount(option, weights=learner.predict(runs)[unit]) / sizes)

        return Case(
            found,
            budgets(found, self.view),
            {name: merged(learner) for name, learner in self.value.items()},
            {name: merged(learner) for name, learner in self.limit.items()},
            {
                (name, told): rule.score(test, found, told)
                for name, rule in self.rules.items()
                for told in (False, True)
            },
        )


class MethodChooser:
    """Experts weighed inside the history. `by`: the key of the table whose groups are held out.

    A `tree_share` sets the weights instead: of the trees, and for the rest of the process.
    """

    def __init__(self, by: str = "model_group", tree_share: float | None = None) -> None:
        self.by, self.share = by, tree_share

    def fit(self, train: Table, view: View) -> None:
        """Learn from the training rows. Raises BadInput where none measures what the view asks for."""
        self.view, self.train = view, train
        self.past = history(train, view)
        self.experts = Experts(train, self.past, view)
        self.cases, self.groups = self._inside()
        self.scale = {name: self._scale(name) for name in self.experts.limit}
        self.trusted: dict[bool, dict[str, float]] = {}

    def score(self, test: Table, found: Options, told: bool) -> Floats:
        """Scores (m options, k budgets), higher is better: the mean of the experts' log expected values."""
        told = told or self.view.limit is None
        if not len(found.value):
            return np.zeros(budgets(found, self.view).shape)
        runs = describe(test.take(np.concatenate(found.members)), self.view)
        first, unit = alike(runs, np.zeros((len(runs), 1)))
        case = self.experts.on(test, found, runs.take(first), unit)
        return mixed(case.scores(told, self.scale), self.weights(told))

    def weights(self, told: bool) -> dict[str, float]:
        """Weight of each expert; they sum to 1.

        A mix counts by exp(−SHARPNESS × excess regret / its standard error over groups) on inner folds.
        Where these leave out groups of another kind than asked about, that counts for half, UNJUDGED for
        the other half.
        """
        if self.share is not None:
            return {"trees": self.share, "process": 1 - self.share}
        if not len(self.groups):
            return UNJUDGED
        told = told or self.view.limit is None
        if told not in self.trusted:
            mixes = MIXES if self.view.value in _IDEAL else MIXES + WITHOUT_IDEAL
            regret = np.concatenate([_regrets(case, told, self.scale, mixes) for case in self.cases], axis=1)
            trust = np.array([prior for prior, _ in mixes]) * _trust(regret, self.groups)
            total = dict.fromkeys((*RULES, *ENGINES), 0.0)
            for share, (_, mix) in zip(trust / trust.sum(), mixes, strict=True):
                for name, weight in mix.items():
                    total[name] += float(share) * weight
            if self.key != self.by:
                total = {name: (share + UNJUDGED.get(name, 0.0)) / 2 for name, share in total.items()}
            self.trusted[told] = total
        return self.trusted[told]

    def _inside(self) -> tuple[list[Case], Numbers]:
        """What experts fitted on the other folds say of each inner fold, and the group of each case."""
        cases: list[Case] = []
        groups = [np.zeros(0, dtype=np.str_)]
        self.key, fold = self._dealt()
        for number in range(int(fold.max()) + 1):
            train, test = self.train.take(fold != number), self.train.take(fold == number)
            here, kept = options(test, self.view), np.flatnonzero(fold[self.past.rows] != number)
            if not len(here.value) or not len(kept) or not len(options(train, self.view).value):
                continue
            place = self.past.place[np.flatnonzero(fold == number)[np.concatenate(here.members)]]
            first, unit = np.unique(place, return_inverse=True)
            experts = Experts(train, self.past.take(kept), self.view)
            cases.append(experts.on(test, here, self.past.runs.take(first), unit.ravel()))
            heads = here.rows[[cell[0] for cell in here.cells]]
            groups.append(np.repeat(test.keys[self.key][heads], cases[-1].allowed.shape[1]))
        return cases, np.unique(np.concatenate(groups), return_inverse=True)[1].ravel()

    def _dealt(self) -> tuple[str, Numbers]:
        """The key by which whole groups are held out inside, and the inner fold of each row."""
        rows = options(self.train, self.view).rows
        for key in (self.by, *OTHERWISE, "free_cell" if self.view.limit else "cell"):
            labels = self.train.keys[key]
            if len(np.unique(labels[rows])) > 1:
                dealt = dict(zip(labels[rows].tolist(), deal(labels[rows], FOLDS).tolist(), strict=True))
                return key, np.array([dealt.get(label, 0) for label in labels.tolist()], dtype=np.intp)
        return "", np.zeros(len(self.train), dtype=np.intp)

    def _scale(self, name: str) -> float:
        """Error scale (natural log) inside cells of a predicted limit, on groups never seen (inner folds)."""
        error = []
        for case in self.cases:
            gap = np.log(case.found.limit) - case.limit[name]
            error += [gap[cell] - np.median(gap[cell]) for cell in case.found.cells]
        if not error:
            return float(np.std(self.past.limit.log)) + 1e-3
        return 1.4826 * float(np.median(np.abs(np.concatenate(error)))) + 1e-3


def mixed(scores: dict[str, Floats], weights: dict[str, float]) -> Floats:
    """Weighted sum of the scores of experts."""
    return np.asarray(sum(scores[name] * weight for name, weight in weights.items() if weight > 0))


def _regrets(case: Case, told: bool, scale: dict[str, float], mixes: Sequence[Mix]) -> Floats:
    """Regret of each mix (mixes, cases)."""
    scores = case.scores(told, scale)
    parts = [judge(case.found, case.allowed, mixed(scores, mix), told).regret for _, mix in mixes]
    return np.array(parts)


def _trust(regret: Floats, groups: Numbers) -> Floats:
    """How far each row of regrets (mixes, cases) is to be trusted, 1 for the least regret."""
    apart = regret - regret[int(np.argmin(regret.mean(axis=1)))]
    excess, count = apart.mean(axis=1), np.bincount(groups)
    sums = np.stack([np.bincount(groups, weights=row) for row in apart]) - excess[:, None] * count
    error = np.sqrt((sums**2).sum(axis=1)) / len(groups)
    return np.asarray(np.exp(-SHARPNESS * excess / np.maximum(error, LEAST_ERROR)))


def deal(labels: NDArray[Any], most: int) -> Numbers:
    """Fold of each row: whole labels to at most `most` folds, the largest first to the emptiest."""
    names, place, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    filled, fold = np.zeros(min(most, len(names))), np.zeros(len(names), dtype=np.intp)
    for name in np.argsort(-sizes, kind="stable"):
        fold[name] = int(np.argmin(filled))
        filled[fold[name]] += sizes[name]
    return np.asarray(fold[place.ravel()])
