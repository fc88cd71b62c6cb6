"""Roofline terms of served language models: ideal times of a decode step and of a prefill.

All times in seconds at 100 % efficiency, all sizes in bytes, all rates per second and device; the
efficiencies are learned (see `prior`). Sources of the equations: roofline (Williams et al. 2009); experts
touched by a batch E(1 − (1 − k/E)^B) under uniform routing; ring all-reduce 2(W − 1)/W (Patarasuk and
Yuan 2009). Any device and engine is accepted: `layout` states what stands in for unknown numbers.
"""

import numpy as np

from metainf.embed.columns import Columns
from metainf.embed.layout import (
    Floats,
    drafted,
    layout,
    model_sizes,
    num,
    rates,
    sixteen_bit_rest,
    text,
)

GIB = 2.0**30
RUNTIME_GIB = 1.2
"""Context, kernels and captured graphs on each device (an estimate, as in the engines' memory check)."""
MOST_IN_FLIGHT = 65_536.0
_FRESH = 0.5
"""Share of a drafted token's experts that the token before it did not already touch (an estimate)."""


def stated_load(c: Columns) -> Floats:
    """Requests in flight where the row says so (concurrency, else batch size), NaN elsewhere."""
    return num(c, "concurrency", num(c, "batch_size", np.nan))


def terms(c: Columns, in_flight: Floats | None = None) -> dict[str, Floats]:
    """Ideal times and the facts that the calibrated prior needs, each (n,) and finite.

    in_flight: requests in flight; by default the stated load, one where none is stated.
    """
    load = stated_load(c) if in_flight is None else in_flight
    conc = np.clip(np.where(np.isfinite(load), load, 1.0), 1.0, MOST_IN_FLIGHT)
    g, m, r = layout(c, conc), model_sizes(c), rates(c)
    isl, osl = (
        np.maximum(num(c, "input_tokens", 1024.0), 1.0),
        np.maximum(num(c, "output_tokens", 128.0), 2.0),
    )
    bits = r["bits"]
    dense_bits = np.where(sixteen_bit_rest(c), 16.0, np.where(m["experts"] > 0, 8.0, bits))
    dense_bits = np.where(bits >= 6, bits, dense_bits)
    weights = (m["dense"] * dense_bits + m["routed"] * bits) / 8
    reused = np.where(num(c, "prefix_cache", 0.0) > 0, num(c, "prefix_share", 0.0), 0.0)
    m = m | {"reused": isl * reused}
    out = {"conc": conc, "isl": isl, "osl": osl, **_memory(c, g, m, r, weights, conc)}
    stages, memory = g["pipeline"], r["memory"]
    w = _widen(g["w"], weights / stages, memory)
    g = g | {
        "w": w,
        "wp": _widen(g["wp"], weights / stages, memory),
        "dpa": np.where(w > g["w"], w, g["dpa"]),
        "np": np.where(g["disagg"] > 0, g["np"], g["nd"]),
    }
    draft, untold = drafted(c)
    out |= _decode(g, m, r, (dense_bits, weights), (conc, isl, osl, draft))
    out |= _facts(g, m, r) | {"untold": untold}
    out |= _prefill(g, m, r, np.maximum(isl - m["reused"], 1.0), isl)
    return {k: np.asarray(v, dtype=np.float64) for k, v in out.items()}


def _decode(
    g: dict[str, Floats],
    m: dict[str, Floats],
    r: dict[str, Floats],
    stored: tuple[Floats, Floats],
    work: tuple[Floats, Floats, Floats, Floats],
) -> dict[str, Floats]:
    """Ideal times of one decode step. Pipeline stages share the batch and are passed one by one."""
    (dense_bits, weights), (conc, isl, osl, draft) = stored, work
    w, stages = g["w"], g["pipeline"]
    ctx = isl + osl / 2
    seen = m["full"] * ctx + (1 - m["full"]) * np.minimum(ctx, m["window"])
    kv = m["kv16"] * r["kv_share"]
    kv_ways = np.where(g["dpa"] > 1, w, np.where(m["mla"] > 0, 1.0, np.minimum(w, m["kv_heads"])))
    room = np.maximum(0.88 * r["memory"] - weights / w / stages, 0.05 * r["memory"]) * kv_ways * stages
    own = np.maximum(seen - m["reused"], 0.1 * seen)
    cap = np.maximum(room / np.maximum(kv * own, 1.0), 1.0)
    held = conc / g["nd"]
    held = held / np.where((g["disagg"] > 0) & (g["known"] < 1), np.maximum(held / cap, 1.0), 1.0)
    b = np.minimum(held, cap)
    step = np.maximum(b / stages, np.minimum(b, 1.0))
    tokens = step * (1 + draft)
    far = w > r["domain"]
    link = np.where(far, np.minimum(r["link"], 50e9), r["link"])
    miss = np.where(m["experts"] > 0, 1 - m["top_k"] / np.maximum(m["experts"], 1), 0.0)
    touched = np.where(m["experts"] > 0, 1 - miss ** (step * (1 + _FRESH * draft)), 0.0)
    attn_ways = np.where(g["dpa"] > 1, 1.0, w)
    shared = np.where(g["dpa"] > 1, tokens / w * np.maximum(m["top_k"], 1.0), tokens * 2 * (w - 1) / w)
    payload = shared * m["hidden"] * 2 * 2 * m["layers"]
    return {
        "w": w,
        "b": step,
        "draft": draft,
        "over": held / b,
        "multi": (w > 1) * 1.0,
        "far": far * 1.0,
        "touched": touched,
        "t_dense": m["dense"] * dense_bits / 8 / attn_ways / r["mem"],
        "t_moe": m["routed"] * r["bits"] / 8 * touched / w / r["mem"],
        "t_kv": kv * seen * step / kv_ways / r["mem"],
        "t_flop": 2 * m["active"] * tokens / w / r["peak"],
        "t_attn": np.where(
            m["mla"] > 0, m["latent"] * 2 * m["kv_layers"] * ctx * tokens / w / r["bf16"], 0.0
        ),
        "t_link": np.where(w > 1, payload / link, 0.0),
    }


def _prefill(
    g: dict[str, Floats], m: dict[str, Floats], r: dict[str, Floats], tokens: Floats, isl: Floats
) -> dict[str, Floats]:
    """Ideal time of the prefill of one request on its (prefill) engine; `tokens` are not cached yet."""
    wp = np.maximum(np.where(g["disagg"] > 0, g["wp"], g["w"]), 1.0)
    reach = m["full"] * isl + (1 - m["full"]) * np.minimum(isl, 2 * m["window"])
    payload = 2 * (wp - 1) / wp * tokens * m["hidden"] * 2 * 2 * m["layers"]
    return {
        "wp": wp,
        "np": g["np"],
        "p_flop": 2 * (m["active"] - m["embed"]) * tokens / wp / r["peak"],
        "p_attn": 2.0 * m["kv_layers"] * m["qk"] * tokens * reach / wp / r["bf16"],
        "p_link": np.where(wp > 1, payload / r["link"], 0.0),
        "p_weights": (m["dense"] + m["routed"]) * r["bits"] / 8 / wp / r["mem"],
    }


def _memory(
    c: Columns,
    g: dict[str, Floats],
    m: dict[str, Floats],
    r: dict[str, Floats],
    weights: Floats,
    conc: Floats,
) -> dict[str, Floats]:
    """GiB per device: `need_gib` holds every request in flight, `least_gib` what the run cannot do without.

    Paged engines queue what does not fit, so that one sequence is enough; static batches must fit whole.
    A reused prefix is held once. Embeddings count with the weights. Disaggregated rows answer for their
    decode engines.
    """
    ways = g["w"] * g["pipeline"]
    table = np.maximum(m["total"] - m["routed"] - m["dense"], 0.0) * np.maximum(r["bits"], 16.0) / 8
    kept = (weights + table) / ways / GIB + RUNTIME_GIB
    tokens = num(c, "input_tokens", 1024.0) + num(c, "output_tokens", 128.0)
    kv_ways = np.where(g["dpa"] > 1, g["w"], np.where(m["mla"] > 0, 1.0, np.minimum(g["w"], m["kv_heads"])))
    seen = m["full"] * tokens + (1 - m["full"]) * np.minimum(tokens, m["window"])
    one = m["kv16"] * r["kv_share"] * seen / g["pipeline"] / GIB
    held, reused = np.maximum(conc / g["nd"], 1.0), np.minimum(m["reused"] / np.maximum(tokens, 1.0), 0.9)
    every = (held * (1 - reused) + reused) * one / kv_ways
    alone = one / np.where(m["mla"] > 0, 1.0, np.minimum(g["w"], m["kv_heads"]))
    batched = np.isin(text(c, "batching"), ("none", "static")) | (
        np.isfinite(num(c, "batch_size", np.nan)) & ~np.isfinite(num(c, "concurrency", np.nan))
    )
    return {
        "need_gib": kept + every,
        "least_gib": kept + np.where(batched, every, np.minimum(alone, every)),
        "weights_gib": weights / ways / GIB,
        "memory_gib": r["memory"] / 1e9,
        "memory_known": np.isfinite(num(c, "memory_gib", np.nan)) * 1.0,
    }


def _facts(g: dict[str, Floats], m: dict[str, Floats], r: dict[str, Floats]) -> dict[str, Floats]:
    """What the terms carry along unchanged: layout, architecture and device facts."""
    same = {k: m[k] for k in ("layers", "experts", "top_k", "active", "routed", "kv16")}
    return same | {
        "hidden": m["hidden"] / 4096,
        "mem_bw": r["mem"],
        "peak_bf16": r["bf16"],
        "link_bw": r["link"],
        "domain": r["domain"],
        "peak": r["peak"] / 1e15,
        "nd": g["nd"],
        "stages": g["pipeline"],
        "disagg": g["disagg"],
        "known": g["known"],
        "dpa": np.asarray((g["dpa"] > 1) * 1.0),
        "bits": r["bits"],
        "moe": np.asarray((m["experts"] > 0) * 1.0),
        "ep_on": np.asarray(g["ep_on"] * (m["experts"] > 0)),
    }


def _widen(width: Floats, weights: Floats, memory: Floats) -> Floats:
    """Smallest power-of-two multiple of `width` devices that holds the weights."""
    need = np.maximum(weights / (0.9 * memory) / width, 1.0)
    return width * 2.0 ** np.ceil(np.log2(need) - 1e-9)
