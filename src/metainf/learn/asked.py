"""What is asked of each source: its views."""

from dataclasses import replace
from typing import Literal

from metainf.learn.views import View

Quality = Literal["listed", "any", "same"]

_TOKENS = View("tokens_per_s_per_device")
_FAMILY = View("tokens_per_s_per_device", options="family")
VIEWS: dict[str, tuple[View, ...]] = {
    "aic_silicon": (
        _FAMILY,
        replace(_FAMILY, quality="same"),
        replace(_FAMILY, value="speed"),
        replace(_FAMILY, limit="tpot_s"),
        replace(_FAMILY, limit="tpot_s", quality="same"),
    ),
    "argonne": (replace(_TOKENS, devices="fixed"), replace(_TOKENS, limit="e2e_s")),
    "mlenergy_v3": (
        View("energy", work="text"),
        View("energy", work="pictures"),
        View("energy", "tpot_s", work="text"),
        View("energy", "e2e_s", work="pictures"),
        View("tokens_per_s_per_device", "energy_j_per_token", work="text"),
    ),
    "gpustack": (View("speed"), View("speed", quality="same"), _TOKENS),
    "lhl_strix_halo": (View("prefill"), _TOKENS),
    "diffusers_torchao": (
        View("images_per_s"),
        View("images_per_s", quality="same"),
        View("images_per_s", "e2e_s", quality="same"),
    ),
    "diffusers_docs": (View("steps_per_s"),),
    "lambda_sd": (View("images_per_s"), View("images_per_s", quality="same")),
    "sdwebui": (View("steps_per_s"),),
    "spec_bench": (View("speedup"),),
    "dstack": (_TOKENS, replace(_TOKENS, limit="tpot_s")),
    "mlenergy_v2": (View("energy", "tpot_s", work="text"), View("energy", "e2e_s", work="pictures")),
    "small_engine_tables": (_TOKENS,),
}
NO_CHOICE = {"mlperf_dc": "its methods are whole systems of submitters, each tuned by its vendor"}
"""Sources that are not judged unless they are named, and why."""
PEER_VIEWS = (_FAMILY, replace(_FAMILY, limit="tpot_s"))
DEFAULT_VIEWS = (_TOKENS, View("images_per_s"), View("steps_per_s"))


def views_of(source: str, quality: Quality, peer: bool = False) -> tuple[View, ...]:
    """The views of a source: as listed, or all of them with quality traded ("any") or kept ("same").

    peer: add the two main ones on the rows that a peer predicts.
    """
    listed = VIEWS.get(source, DEFAULT_VIEWS)
    if peer:
        listed += tuple(replace(view, rows="peer") for view in PEER_VIEWS)
    if quality == "listed":
        return listed
    return tuple(dict.fromkeys(replace(view, quality=quality) for view in listed))
