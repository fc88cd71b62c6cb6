"""The calibrated prior: roofline terms and efficiencies give time per output token and to first token.

`THETA` are the a-priori log efficiencies, `WIDTH` how far data may pull them. Closed-loop interference:
within one request's decoding every other running request is prefilled once. Waiting grows with the
load of the prefill engine; requests beyond the cache's capacity wait for a place.
"""

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import Floats, num, text
from metainf.embed.physics import MOST_IN_FLIGHT, stated_load, terms

ENGINES = ("tensorrt-llm", "sglang", "vllm")
"""Engines with overheads of their own; any other gets the (geometric) mean of theirs."""
_TINY = 1e-12
_SHARED = (
    ("mem_dense", 1 / 0.75, 0.4),
    ("mem_moe", 1 / 0.6, 0.5),
    ("mem_kv", 1 / 0.6, 0.5),
    ("flop", 1 / 0.35, 0.5),
    ("attn", 1 / 0.4, 0.5),
    ("link", 1 / 0.5, 0.6),
    ("pf_flop", 1 / 0.45, 0.4),
    ("pf_attn", 1 / 0.4, 0.5),
    ("pf_link", 1 / 0.5, 0.6),
    ("pf_weights", 1.0, 0.6),
    ("hop", 6e-6, 0.7),
    ("interfere", 1.0, 0.4),
    ("queue", 0.15, 0.8),
    ("wait", 0.3, 0.8),
    ("handover", 3.0, 0.8),
    ("bits4", 1.5, 0.4),
    ("accept", 1.7, 0.15),
    ("skew", 1.15, 0.15),
    ("mem4", 1.15, 0.2),
    ("pf_moe", 1.5, 0.5),
    ("pf_sat", 0.2, 0.7),
    ("far", 3.0, 0.6),
    ("breadth", 0.3, 0.7),
    ("pf_breadth", 0.5, 0.7),
)
_PER_ENGINE = (
    ("layer_moe", 2e-5, 0.7),
    ("layer", 2.5e-5, 0.6),
    ("step", 8e-4, 0.8),
    ("seq", 1e-5, 0.8),
    ("first", 2e-2, 0.8),
    ("pf_layer", 3e-4, 0.7),
    ("tune", 1.0, 0.3),
)
NAMES = tuple(n for n, _, _ in _SHARED) + tuple(f"{n}:{e}" for n, _, _ in _PER_ENGINE for e in ENGINES)
"""Name, a-priori value and prior width (log units) come from the two lists above."""
THETA = np.log(np.array([v for _, v, _ in _SHARED] + [v for _, v, _ in _PER_ENGINE for _ in ENGINES]))
WIDTH = np.array([s for _, _, s in _SHARED] + [s for _, _, s in _PER_ENGINE for _ in ENGINES])


def engine_index(c: Columns) -> NDArray[np.intp]:
    """Number of the engine in `ENGINES`; its length for any other."""
    names = text(c, "engine")
    return np.select([names == engine for engine in ENGINES], range(len(ENGINES)), len(ENGINES)).astype(
        np.intp
    )


def in_flight(c: Columns, theta: Floats = THETA) -> Floats:
    """Requests in flight: as stated, else by Little's law from the request rate, else one.

    The rate's fixed point L = rate · latency(L) is approached in eight damped steps; an overloaded
    system ends at a large L.
    """
    stated, rate = stated_load(c), num(c, "request_rate_per_s", np.nan)
    open_loop = ~np.isfinite(stated) & np.isfinite(rate)
    load = np.where(np.isfinite(stated), stated, 1.0)
    if not open_loop.any():
        return load
    part = {name: values[open_loop] for name, values in c.items()}
    engine, guess = engine_index(part), np.maximum(rate[open_loop], 1.0)
    for _ in range(8):
        t = terms(part, guess)
        out = parts(t, engine, theta)
        latency = out["ttft"] + out["tpot"] * (t["osl"] - 1)
        guess = np.sqrt(guess * np.clip(rate[open_loop] * latency, 1.0, MOST_IN_FLIGHT))
    load[open_loop] = guess
    return load


def _prefill_time(t: dict[str, Floats], p: dict[str, float], e: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Calibrated prefill of one request: its arithmetic part, and with its fixed cost."""
    low = np.where(t["bits"] < 6, p["bits4"], 1.0)
    dull = low * t["peak"] ** p["pf_sat"] * np.where(t["moe"] > 0, p["pf_moe"], 1.0)
    pf = p["pf_flop"] * dull * t["p_flop"] + p["pf_attn"] * t["p_attn"] + p["pf_link"] * t["p_link"]
    fixed = e["pf_layer"] * t["layers"] * t["hidden"] ** p["pf_breadth"]
    return pf, e["tune"] * pf + np.sqrt((p["pf_weights"] * t["p_weights"]) ** 2 + fixed**2) * 0.5


def _step_time(t: dict[str, Floats], p: dict[str, float], e: dict[str, Floats]) -> dict[str, Floats]:
    """Calibrated parts of one decode step; multi-token acceptance divides all of them."""
    low = np.where(t["bits"] < 6, p["bits4"], 1.0)
    thin = np.where(t["bits"] < 6, p["mem4"], 1.0)
    skew = p["skew"] ** t["ep_on"]
    weights = thin * (p["mem_dense"] * t["t_dense"] + p["mem_moe"] * skew * t["t_moe"])
    memory = weights + p["mem_kv"] * t["t_kv"]
    hops = t["layers"] * t["multi"] * np.sqrt(np.maximum(np.log2(t["w"]), 0))
    compute = p["flop"] * low * t["t_flop"] + p["attn"] * t["t_attn"]
    comm = p["link"] * t["t_link"] + p["hop"] * 2 * hops * np.where(t["far"] > 0, p["far"], 1.0)
    fixed = (
        (e["layer"] + e["layer_moe"] * skew * t["moe"]) * t["layers"] * t["hidden"] ** p["breadth"]
        + e["step"]
        + e["seq"] * t["b"] / np.where(t["dpa"] > 0, t["w"], 1.0)
    )
    core = np.sqrt(memory**2 + compute**2 + _TINY**2)
    step = (e["tune"] * (core + comm) + fixed) / p["accept"] ** t["spec"]
    return {
        "step": step,
        "weights": weights,
        "memory": memory,
        "compute": compute,
        "comm": comm,
        "fixed": fixed,
    }


def parts(t: dict[str, Floats], engine: NDArray[np.intp], theta: Floats = THETA) -> dict[str, Floats]:
    """Calibrated times in seconds: `tpot`, `ttft` and what they are made of. `load` is dimensionless."""
    p = {n: float(v) for n, v in zip(NAMES, np.exp(theta), strict=True)}
    e = {}
    for name, _, _ in _PER_ENGINE:
        own = [p[f"{name}:{x}"] for x in ENGINES]
        e[name] = np.array([*own, float(np.exp(np.mean(np.log(own))))])[engine]
    out = _step_time(t, p, e)
    pf, prefill = _prefill_time(t, p, e)
    mixed = e["tune"] * pf * (1 - t["disagg"])
    inter = p["interfere"] * np.maximum(t["b"] - 1, 0) * mixed / t["osl"]
    tpot = out["step"] + inter
    load = prefill * t["conc"] / t["np"] / (t["osl"] * tpot)
    crowd = np.minimum(t["conc"] / t["np"], 4096) ** 0.8
    wait = prefill * (p["queue"] * crowd + p["wait"] * np.minimum(load, 4.0))
    hand = p["handover"] * t["disagg"] * (prefill + out["step"])
    full = np.maximum(t["over"] - 1, 0) * tpot * t["osl"] * 0.5
    ttft = e["first"] + prefill + out["step"] + wait + hand + full
    more = {"prefill": prefill, "tpot": tpot, "ttft": ttft, "inter": inter, "wait": wait}
    return out | more | {"load": load, "full": full, "hand": hand, "first": e["first"]}
