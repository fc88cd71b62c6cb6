"""One short function for each verb: what the command line, a service or a notebook calls."""

from metainf.api.catalogue import (
    describe,
    detect,
    device,
    devices,
    method_in_words,
    methods,
    model,
    model_of_config,
    models,
    offers,
    price,
    prices,
    quotes,
    runnable,
    techniques,
    workload,
    workloads,
)
from metainf.api.choosing import ENGINES, Question, command_of, select, size
from metainf.api.contenders import Tuning
from metainf.api.history import Imported, export, import_file, sources, store
from metainf.api.image_study_page import image_study_page, image_study_plots, write_image_study
from metainf.api.image_studying import image_study_records, image_study_rows, prepare_image_study
from metainf.api.learning import draw_figures, evaluate, evaluation_plan, importance, train, write_report
from metainf.api.measured import Measurement
from metainf.api.measuring import Measuring, Prepared, measure, prepare_measuring
from metainf.api.pictures import pareto_plot, study_plots
from metainf.api.programs import Program, program_of
from metainf.api.spreading import measure_spread
from metainf.api.study_page import study_page, write_study
from metainf.api.studying import Studied, prepare_study, study, study_grid, study_records, study_winners
from metainf.api.tuned import Tuned, Winner
from metainf.api.tuning import Prospect, prepare_tuning, tune

__all__ = [
    "ENGINES",
    "Imported",
    "Measurement",
    "Measuring",
    "Prepared",
    "Program",
    "Prospect",
    "Question",
    "Studied",
    "Tuned",
    "Tuning",
    "Winner",
    "command_of",
    "describe",
    "detect",
    "device",
    "devices",
    "draw_figures",
    "evaluate",
    "evaluation_plan",
    "export",
    "image_study_page",
    "image_study_plots",
    "image_study_records",
    "image_study_rows",
    "import_file",
    "importance",
    "measure",
    "measure_spread",
    "method_in_words",
    "methods",
    "model",
    "model_of_config",
    "models",
    "offers",
    "pareto_plot",
    "prepare_image_study",
    "prepare_measuring",
    "prepare_study",
    "prepare_tuning",
    "price",
    "prices",
    "program_of",
    "quotes",
    "runnable",
    "select",
    "size",
    "sources",
    "store",
    "study",
    "study_grid",
    "study_page",
    "study_plots",
    "study_records",
    "study_winners",
    "techniques",
    "train",
    "tune",
    "workload",
    "workloads",
    "write_image_study",
    "write_report",
    "write_study",
]
