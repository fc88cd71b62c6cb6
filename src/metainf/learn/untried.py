"""What an engine was never seen to do may not work, though nothing says so.

The history tells how often a combination of engine and technique, once somebody tried it, ran at least
once: that share is the chance given to a combination which nobody tried. Runs that were published are mostly
runs that worked, so the share is rather too high than too low.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import rows_of, text
from metainf.embed.remembering import coded, remembered
from metainf.learn.table import Table
from metainf.learn.views import Floats

TECHNIQUES = ("speculative", "weight_format", "kv_format", "attention_backend")


def fit(table: Table) -> dict[str, Any]:
    """Of each technique: the pairs of engine and setting that were tried, and the share of them that ran
    (with one success and one failure added)."""
    found = {}
    for technique in TECHNIQUES:
        pairs = _pairs(table.columns, technique)
        worked = {pair for pair, ok in zip(pairs, table.ok.tolist(), strict=True) if ok and pair}
        every = set(pairs) - {""}
        found[technique] = {"tried": sorted(every), "share": (len(worked) + 1) / (len(every) + 2)}
    return found


def p_works(columns: Columns, known: Mapping[str, Any]) -> Floats:
    """(n,) chance that what was never tried in a row runs; 1 where everything was tried."""
    chance = np.ones(rows_of(columns))
    for technique, facts in known.items():
        pairs, place = _distinct(text(columns, "engine"), text(columns, technique))
        shares = dict.fromkeys(facts["tried"], 1.0) | {"": 1.0}
        chance *= np.array([shares.get(pair, facts["share"]) for pair in pairs])[place]
    return chance


def told(columns: Columns, known: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A sentence for each row's technique that was never tried with its engine."""
    found: list[tuple[str, ...]] = [()] * rows_of(columns)
    for technique, facts in known.items():
        for row, pair in enumerate(_pairs(columns, technique)):
            if pair and pair not in facts["tried"]:
                engine, _, setting = pair.partition(" ")
                what = f"no run known of {engine} with {technique.replace('_', ' ')} {setting}"
                found[row] += (f"{what}: {facts['share']:.0%} of such pairs ran when tried",)
    return found


def _pairs(columns: Columns, technique: str) -> list[str]:
    """`engine setting` of each row, empty where the technique is not set."""
    pairs, place = _distinct(text(columns, "engine"), text(columns, technique))
    return [pairs[i] for i in place.tolist()]


@remembered
def _distinct(engines: NDArray[Any], settings: NDArray[Any]) -> tuple[list[str], NDArray[np.intp]]:
    """Every `engine setting` there is, and the number of each row's."""
    (makers, maker), (kinds, kind) = coded(engines), coded(settings)
    pairs = [f"{engine} {setting}" if setting else "" for engine in makers for setting in kinds]
    return pairs, maker * len(kinds) + kind
