"""The shipped serving predictor on whole campaigns that taught it nothing.

Rows are those of sources of which no row has both token times and a load, so that none took part in the
fit of the serving learners: other people's engines, prompts and ways of measuring.
"""

import numpy as np

from metainf.learn.predictor import TrainedPredictor
from metainf.learn.table import Table
from metainf.learn.views import load_of

FEWEST = 20
HEAD = (
    "source",
    "device",
    "models were",
    "runs",
    "models",
    "predicted / measured",
    "median APE",
    "90 % covers",
)


def campaign_rows(history: Table, predictor: TrainedPredictor) -> list[list[str]]:
    """Time per output token by source and device; models of the fit apart from those it never saw."""
    metrics, keys = history.metrics, history.keys
    served = history.ok & np.isin(history.columns["modality"], ("text", "multimodal"))
    load = np.isfinite(load_of(history))
    taught = np.unique(keys["source"][served & load & np.isfinite(metrics["tpot_s"] + metrics["ttft_s"])])
    asked = served & load & np.isfinite(metrics["tpot_s"]) & ~np.isin(keys["source"], taught)
    asked &= np.isfinite(history.columns["params_b"])
    known = np.isin(keys["model_group"], sorted(predictor.known["model"]))
    found = []
    for source in np.unique(keys["source"][asked]):
        for device in np.unique(keys["device"][asked & (keys["source"] == source)]):
            for side, of_side in (("seen", known), ("never seen", ~known)):
                rows = asked & (keys["source"] == source) & (keys["device"] == device) & of_side
                if rows.sum() >= FEWEST:
                    found.append(
                        [source, device, side, *_judged(history.take(np.flatnonzero(rows)), predictor)]
                    )
    return found


def _judged(rows: Table, predictor: TrainedPredictor) -> list[str]:
    new_device = rows.keys["device"][0] not in predictor.known["hardware"]
    side = predictor.learners["hardware" if new_device else "model"]
    forecast = side.forecast(rows.columns)
    left = forecast.log_median["tpot_s"] - np.log(rows.metrics["tpot_s"])
    inside = np.mean(np.abs(left) <= 1.645 * forecast.log_scale["tpot_s"])
    return [
        str(len(rows)), str(len(np.unique(rows.keys["model_group"]))), f"{np.exp(np.median(left)):.2f}",
        f"{np.median(np.abs(np.expm1(left))):.1%}", f"{inside:.1%}",
    ]  # fmt: skip
