"""Selection: from predictions and an objective to one answer. Quiet: no I/O, clock or randomness."""

from metainf.selection.choose import Rules, select
from metainf.selection.front import pareto
from metainf.selection.predictor import Forecaster, MethodsFor, Pair, Predictor, Priced
from metainf.selection.sizing import Sized, Target, size

__all__ = [
    "Forecaster",
    "MethodsFor",
    "Pair",
    "Predictor",
    "Priced",
    "Rules",
    "Sized",
    "Target",
    "pareto",
    "select",
    "size",
]
