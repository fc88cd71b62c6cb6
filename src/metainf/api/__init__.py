"""One short function for each verb: what the command line, a service or a notebook calls."""

from metainf.api.catalogue import (
    describe,
    detect,
    device,
    devices,
    method_in_words,
    methods,
    model,
    models,
    price,
    techniques,
    workloads,
)
from metainf.api.choosing import Question, command_of, pareto_plot, select, size
from metainf.api.history import Imported, import_file, sources, store
from metainf.api.learning import draw_figures, evaluate, evaluation_plan, importance, train, write_report

__all__ = [
    "Imported",
    "Question",
    "command_of",
    "describe",
    "detect",
    "device",
    "devices",
    "draw_figures",
    "evaluate",
    "evaluation_plan",
    "import_file",
    "importance",
    "method_in_words",
    "methods",
    "model",
    "models",
    "pareto_plot",
    "price",
    "select",
    "size",
    "sources",
    "store",
    "techniques",
    "train",
    "workloads",
    "write_report",
]
