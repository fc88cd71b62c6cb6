"""The calibrated prior: roofline terms and efficiencies give time per output token and to first token.

`THETA` are the a-priori log efficiencies, `WIDTH` how far data may pull them. Closed-loop interference:
within one request's decoding every other running request is prefilled once. A new request waits for the
engine to admit it (some decode steps: schedulers poll, batch and stream in intervals), for the prefills of
the burst it came with, and more as prefilling takes a larger share of the time; requests beyond the
cache's capacity wait for a place.
"""

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import Floats, by_name, num, text
from metainf.embed.physics import MOST_IN_FLIGHT, stated_load, terms

ENGINES = ("tensorrt-llm", "sglang", "vllm")
"""Engines with overheads of their own; any other gets the (geometric) mean of theirs."""
_TINY = 1e-12
_SATURATED = 1.5
"""Computed load of the prefill engines from which on they, not decoding, are taken to set the pace."""
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
    ("inter_fixed", 0.3, 0.8),
    ("queue", 0.08, 0.6),
    ("wait", 0.1, 0.8),
    ("handover", 1.0, 0.8),
    ("full", 1.0, 0.1),
    ("bits4", 1.5, 0.4),
    ("accept", 0.7, 0.15),
    ("skew", 1.15, 0.15),
    ("mem4", 1.4, 0.3),
    ("moe4", 1.0, 0.2),
    ("moe8", 1.15, 0.2),
    ("top_k", 0.5, 0.5),
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
    ("admit", 4.0, 1.0),
    ("pf_layer", 3e-4, 0.7),
    ("tune", 1.0, 0.3),
)
NAMES = tuple(n for n, _, _ in _SHARED) + tuple(f"{n}:{e}" for n, _, _ in _PER_ENGINE for e in ENGINES)
"""Name, a-priori value and prior width (log units) come from the two lists above."""
THETA = np.log(np.array([v for _, v, _ in _SHARED] + [v for _, v, _ in _PER_ENGINE for _ in ENGINES]))
WIDTH = np.array([s for _, _, s in _SHARED] + [s for _, _, s in _PER_ENGINE for _ in ENGINES])


def engine_index(c: Columns) -> NDArray[np.intp]:
    """Number of the engine in `ENGINES`; its length for any other."""
    own = {engine: number for number, engine in enumerate(ENGINES)}
    return by_name(text(c, "engine"), lambda name: own.get(name, len(ENGINES))).astype(np.intp)


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
    """Calibrated prefill of one request: its arithmetic, and what a pass costs however short it is."""
    low = np.where(t["bits"] < 6, p["bits4"], 1.0)
    dull = low * t["peak"] ** p["pf_sat"] * np.where(t["moe"] > 0, p["pf_moe"], 1.0)
    work = p["pf_flop"] * dull * t["p_flop"] + p["pf_attn"] * t["p_attn"] + p["pf_link"] * t["p_link"]
    fixed = e["pf_layer"] * t["layers"] * t["hidden"] ** p["pf_breadth"]
    return e["tune"] * work, np.sqrt((p["pf_weights"] * t["p_weights"]) ** 2 + fixed**2) * 0.5


def _step_time(t: dict[str, Floats], p: dict[str, float], e: dict[str, Floats]) -> dict[str, Floats]:
    """Calibrated parts of one decode step; the tokens that a step yields divide `step`, and it alone.

    Four-bit kernels of dense layers and eight-bit kernels of experts read slower than their bytes say.
    """
    four, eight = t["bits"] < 6, (t["bits"] >= 6) & (t["bits"] < 12)
    low = np.where(four, p["bits4"], 1.0)
    dense = np.where(four & (t["moe"] == 0), p["mem4"], 1.0)
    routed = np.where(four, p["moe4"], np.where(eight, p["moe8"], 1.0))
    skew = p["skew"] ** t["ep_on"]
    weights = dense * p["mem_dense"] * t["t_dense"] + routed * p["mem_moe"] * skew * t["t_moe"]
    memory = weights + p["mem_kv"] * t["t_kv"]
    hops = t["layers"] * t["multi"] * np.sqrt(np.maximum(np.log2(t["w"]), 0))
    compute = p["flop"] * low * t["t_flop"] + p["attn"] * t["t_attn"]
    comm = p["link"] * t["t_link"] + p["hop"] * 2 * hops * np.where(t["far"] > 0, p["far"], 1.0)
    gate = e["layer_moe"] * skew * t["moe"] * (np.maximum(t["top_k"], 1.0) / 8) ** p["top_k"]
    fixed = (
        (e["layer"] + gate) * t["layers"] * t["hidden"] ** p["breadth"]
        + e["step"]
        + e["seq"] * t["b"] / np.where(t["dpa"] > 0, t["w"], 1.0)
    )
    core = np.sqrt(memory**2 + compute**2 + _TINY**2)
    tail = t["draft"] / t["layers"] * (core + comm) + t["draft"] * e["step"]
    tokens = _accepted(p["accept"], t["draft"])
    return {
        "step": (e["tune"] * (core + comm) + fixed + tail) / tokens,
        "tokens": tokens,
        "weights": weights,
        "memory": memory,
        "compute": compute,
        "comm": comm,
        "fixed": fixed,
    }


def _accepted(chance: float, draft: Floats) -> Floats:
    """Mean tokens of a step with `draft` guesses, each right with `chance` if those before it are."""
    a = min(chance, 0.98)
    return np.asarray((1 - a ** (draft + 1)) / (1 - a))


def parts(t: dict[str, Floats], engine: NDArray[np.intp], theta: Floats = THETA) -> dict[str, Floats]:
    """Calibrated times in seconds: `tpot`, `ttft` and what they are made of. `load` is dimensionless."""
    p = {n: float(v) for n, v in zip(NAMES, np.exp(theta), strict=True)}
    e = {}
    for name, _, _ in _PER_ENGINE:
        own = [p[f"{name}:{x}"] for x in ENGINES]
        e[name] = np.array([*own, float(np.exp(np.mean(np.log(own))))])[engine]
    out = _step_time(t, p, e)
    work, launch = _prefill_time(t, p, e)
    prefill, whole_step = work + launch, out["step"] * out["tokens"]
    others = np.maximum(t["b"] - 1, 0) * (1 - t["disagg"])
    inter = p["interfere"] * others * (work + p["inter_fixed"] * launch) / t["osl"]
    tpot = out["step"] + inter
    burst = work * np.minimum(t["conc"] / t["np"], 4096)
    load = burst / (t["osl"] * tpot)
    behind = np.maximum(1 - _SATURATED / np.maximum(load, _TINY), 0.0)
    wait = burst * (p["queue"] + p["wait"] * load / (1 + load) + behind)
    hand = p["handover"] * t["disagg"] * (prefill + whole_step)
    admit = e["admit"] * whole_step
    full = p["full"] * np.maximum(t["over"] - 1, 0) * tpot * t["osl"]
    ttft = e["first"] + prefill + admit + wait + hand + full
    more = {"prefill": prefill, "tpot": tpot, "ttft": ttft, "inter": inter, "wait": wait, "admit": admit}
    return out | more | {"load": load, "full": full, "hand": hand, "first": e["first"]}
