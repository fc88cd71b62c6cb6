"""Why a forecast is what it is: shares of the end-to-end time in words, and what was learned beyond."""

from typing import TYPE_CHECKING

import numpy as np

from metainf.embed.columns import Columns
from metainf.learn.kin import REASONS
from metainf.learn.views import Floats

if TYPE_CHECKING:
    from metainf.learn.serving import ServingLearner

MOST = 5


def shares(t: dict[str, Floats], p: dict[str, Floats]) -> dict[str, Floats]:
    """Seconds of each cause in the prior's end-to-end time; together they are the whole of it.

    Memory and compute overlap in the roofline; their joint time is divided by the squares of both.
    """
    core = p["memory"] ** 2 + p["compute"] ** 2
    pieces = {
        "reading weights": np.sqrt(core) * p["memory"] * p["weights"] / core,
        "reading the key-value cache": np.sqrt(core) * p["memory"] * (p["memory"] - p["weights"]) / core,
        "compute of decoding": np.sqrt(core) * p["compute"] ** 2 / core,
        "communication between devices": p["comm"],
        "engine overhead": p["fixed"],
    }
    total = sum(pieces.values())
    steps = p["step"] * t["osl"]
    found = {name: np.asarray(piece / total * steps) for name, piece in pieces.items()}
    found["interference of other prefills"] = p["inter"] * (t["osl"] - 1)
    found["prefill of the prompt"] = p["prefill"] + p["hand"]
    found["queueing"] = p["wait"] + p["admit"] + p["full"]
    found["engine overhead"] = found["engine overhead"] + p["first"]
    return found


def mean_shares(t: dict[str, Floats], p: dict[str, Floats], weights: Floats) -> dict[str, float]:
    """Mean share of each cause in the time of a request, largest first."""
    seconds = shares(t, p)
    whole = np.sum(list(seconds.values()), axis=0)
    found = {name: float(np.average(part / whole, weights=weights)) for name, part in seconds.items()}
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def reasons(learner: "ServingLearner", columns: Columns) -> list[list[tuple[str, float]]]:
    """Five strongest (phrase, log contribution) of each row.

    A cause's contribution is −log(1 − its share): how far the log time would fall without it. The
    learned corrections of both times count by their share of the whole, each with its strongest kind of run.
    """
    runs, p = learner.evaluate(columns)
    rows, t = len(runs.engine), runs.t
    seconds = shares(t, p)
    whole = p["ttft"] + p["tpot"] * (t["osl"] - 1)
    phrases = [np.full(rows, name, dtype=object) for name in seconds]
    amounts = [-np.log1p(-np.clip(part / whole, 0.0, 0.99)) for part in seconds.values()]
    learned = learner.corrections(runs)
    for target, weight, spoken in (
        ("tpot", 1 - p["ttft"] / whole, "decoding"),
        ("ttft", p["ttft"] / whole, "first token"),
    ):
        if learner.shrink[target] == 0:
            continue
        top = np.argmax(np.abs(learned[target]), axis=1)
        phrases.append(np.array([f"learned from runs: {spoken}, by {REASONS[i]}" for i in top], dtype=object))
        amounts.append(learned[target].sum(axis=1) * weight)
    table, names = np.stack(amounts, axis=1), np.stack(phrases, axis=1)
    order = np.argsort(-np.abs(table), axis=1, kind="stable")[:, :MOST]
    return [[(str(names[i, j]), float(table[i, j])) for j in row] for i, row in enumerate(order)]
