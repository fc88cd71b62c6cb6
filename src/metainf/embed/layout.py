"""What the physics needs to know of a row: the parallel layout, the model's sizes, the device's rates.

Every number that a source leaves out is replaced here and nowhere else, so that a prior exists for any
row. The replacements (the forecast's error model is what answers for them):
model: 32 layers of width sqrt(parameters / 12 layers), 8e9 parameters where nothing is known, all of
them active; heads of 128; the cache of `num_kv_heads` (else `num_heads`, else 8) heads.
device: 1000 GB/s (CPU 100), 100 FLOP per byte (CPU 20), links of 25 GB/s, 80 GiB (CPU 256), 8 per node.
method: 16-bit weights; the cache at 8 bits where the arithmetic is at most 8 bits, else at 16.
work: 1024 tokens in, 128 out, one request at a time.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.remembering import coded, of_columns, remembered

Floats = NDArray[np.float64]
_BEYOND = 1e12
NO_DRAFT = "spec_decode=none"
"""Flag of a run that is known to draft no tokens."""
_DEGREES = ("tensor", "pipeline", "expert", "data")
_DRAFTING = (
    "speculative", "speculative_tokens", "attention_data", "decode_attention_data", "flags", "kv_lora_rank",
    "num_experts",
)  # fmt: skip
_SIZES = (
    "params_b", "active_params_b", "num_layers", "hidden_size", "intermediate_size", "vocab_size",
    "num_experts", "experts_per_token", "moe_intermediate_size", "first_k_dense", "kv_layers", "num_heads",
    "num_kv_heads", "head_dim", "kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "sliding_window",
)  # fmt: skip
_RATES = (
    "device", "device_kind", "memory_gib", "memory_bandwidth_gb_per_s", "fp32_tflops", "fp16_tflops",
    "bf16_tflops", "fp8_tflops", "int8_tops", "fp4_tflops", "scaleup_gb_per_s", "host_link_gb_per_s",
    "typical_per_node", "weight_bits", "activation_bits", "kv_bits",
)  # fmt: skip


def rows_of(c: Columns) -> int:
    """Number of rows."""
    return len(next(iter(c.values()))) if c else 0


def num(c: Columns, name: str, default: float | Floats) -> Floats:
    """A column with its unknown (or absent) numbers replaced by `default`, cut at 1e12 (absurd anyway)."""
    raw = c.get(name)
    if raw is None:
        return np.broadcast_to(np.asarray(default, dtype=np.float64), rows_of(c)).copy()
    return np.where(np.isfinite(raw), np.minimum(np.maximum(raw, -_BEYOND), _BEYOND), default)


def text(c: Columns, name: str) -> NDArray[Any]:
    """A column of names, "" where absent."""
    raw = c.get(name)
    return np.full(rows_of(c), "") if raw is None else raw


def by_name(names: NDArray[Any], rule: Callable[[str], float]) -> Floats:
    """`rule` of every name, evaluated once for each distinct one."""
    found, place = coded(names)
    return np.array([rule(name) for name in found], dtype=np.float64)[place]


def layout(c: Columns, concurrency: Floats) -> dict[str, Floats]:
    """Devices of one decode engine (w) and prefill engine (wp), engines (nd, np), attention data parallel.

    `data` without experts means replicas, with experts attention data parallelism. Experts without tensor
    parallelism span `expert` devices. `known` is 0 where a disaggregated row does not give its worker
    counts; then latency pools get several decode workers and throughput pools several prefill workers.
    """
    found = _engine_width(c)
    width, dpa, replicas, pipeline = (found[k] for k in ("width", "dpa", "replicas", "pipeline"))
    expert, disagg = num(c, "expert", 1.0), num(c, "disaggregated", 0.0) > 0
    out = {
        "w": width,
        "wp": width,
        "nd": replicas,
        "np": replicas,
        "dpa": dpa,
        "pipeline": pipeline,
        "known": np.ones_like(width),
        "ep_on": (expert > 1) * 1.0,
    }
    if disagg.any():
        roles = _roles(c, concurrency) | {"pipeline": np.ones_like(width)}
        out = {k: np.where(disagg, roles[k], v) for k, v in out.items()}
    out["dpa"] = np.minimum(out["dpa"], out["w"])
    return {k: np.asarray(v, dtype=np.float64) for k, v in (out | {"disagg": disagg}).items()}


@of_columns("engine", "num_devices", *_DEGREES, "attention_data")
def _engine_width(c: Columns) -> dict[str, Floats]:
    """Devices of one engine outside disaggregation."""
    stated = np.isfinite(num(c, "tensor", np.nan)) | np.isfinite(num(c, "pipeline", np.nan))
    stated |= np.isfinite(num(c, "data", np.nan))
    devices = np.maximum(num(c, "num_devices", 1.0), 1.0)
    free = np.where(stated, 1.0, devices)
    layered = text(c, "engine") == "llama.cpp"
    tp = np.maximum(num(c, "tensor", np.where(layered, 1.0, free)), 1.0)
    pp = np.maximum(num(c, "pipeline", np.where(layered, free, 1.0)), 1.0)
    ep, dp = np.maximum(num(c, "expert", 1.0), 1.0), np.maximum(num(c, "data", 1.0), 1.0)
    attention = num(c, "attention_data", np.nan)
    shared = (dp > 1) & ((attention == 1) | ((ep > 1) & (attention != 0)))
    width = np.where((tp == 1) & (ep > 1), ep, tp)
    honest = shared & (tp > 1) & ((ep == tp * dp) | (ep == 1)) & (tp * dp * pp == devices)
    width = np.where(honest | (shared & (tp == 1) & (ep == 1)), tp * dp, width)
    replicas = np.where(shared | ((tp == 1) & (ep > 1)), 1.0, dp)
    dpa = np.where(shared | (attention == 1), width, 1.0)
    return {"width": width, "dpa": dpa, "replicas": replicas, "pipeline": pp}


def _roles(c: Columns, concurrency: Floats) -> dict[str, Floats]:
    """Workers of the two pools of disaggregated rows (meaningless elsewhere).

    An unstated attention data parallelism is taken as on from 16 requests a device or 16 devices on, an
    unstated expert parallelism as on.
    """
    wide = {}
    for role in ("prefill", "decode"):
        wide[role] = np.maximum(num(c, f"{role}_tensor", 1.0), num(c, f"{role}_expert", 1.0))
    wp, wd = np.maximum(wide["prefill"], 1.0), np.maximum(wide["decode"], 1.0)
    counts = num(c, "decode_workers", np.nan)
    known = np.isfinite(counts)
    nd = np.where(known, counts, np.where(concurrency / wd < 64, np.clip(32.0 / wd, 1.0, 4.0), 1.0))
    engines = num(c, "prefill_workers", np.where(known, 1.0, np.clip(concurrency / 512.0, 1.0, 8.0)))
    guess = ((concurrency / (nd * wd) >= 16) | (wd > 16)) * 1.0
    attention = num(c, "decode_attention_data", guess) > 0
    return {
        "w": wd,
        "wp": wp,
        "nd": np.maximum(nd, 1.0),
        "np": np.maximum(engines, 1.0),
        "dpa": np.where(attention, wd, 1.0),
        "known": known * 1.0,
        "ep_on": (num(c, "decode_expert", 2.0) > 1) * 1.0,
    }


def whole(c: Columns) -> Columns:
    """The columns of methods that somebody asks about: what these do not name is off, not untold."""
    return c | {"flags": _told(text(c, "flags"))}


@remembered
def _told(flags: NDArray[Any]) -> NDArray[Any]:
    found, place = coded(flags)
    return np.array([f"{each} {NO_DRAFT}".strip() for each in found], dtype=np.str_)[place]


@of_columns(*_DRAFTING)
def drafted(c: Columns) -> tuple[Floats, Floats]:
    """Tokens drafted for each decode step, and 1 where nobody says whether there are any.

    A draft without a stated length counts as three tokens, as one with attention data parallelism (what
    the InferenceX lists use). Untold are the runs of models with a multi-token head (latent attention and
    experts) that neither name a draft nor carry the flag spec_decode=none: they count as without.
    """
    stated = ~np.isin(text(c, "speculative"), ("", "none"))
    wide = (num(c, "attention_data", 0.0) > 0) | (num(c, "decode_attention_data", 0.0) > 0)
    length = np.clip(num(c, "speculative_tokens", np.where(wide, 1.0, 3.0)), 0.0, 16.0)
    off = by_name(text(c, "flags"), lambda flags: float(NO_DRAFT in flags)) > 0
    head = (num(c, "kv_lora_rank", 0.0) > 0) & (num(c, "num_experts", 0.0) > 0)
    untold = np.asarray(head & ~stated & ~off, dtype=np.float64)
    return np.where(stated, length, 0.0), untold


@of_columns(*_SIZES)
def model_sizes(c: Columns) -> dict[str, Floats]:
    """Parameters by role and bytes of cache per token at 16 bits.

    Half of the cached layers count as full attention where a sliding window is stated.
    """
    layers = np.maximum(num(c, "num_layers", 32.0), 1.0)
    shape = np.where(
        np.isfinite(num(c, "hidden_size", np.nan)), 12 * layers * num(c, "hidden_size", 1) ** 2, 8e9
    )
    total = np.maximum(1e9 * num(c, "params_b", shape / 1e9), 1e5)
    hidden = num(c, "hidden_size", np.sqrt(total / (12 * layers)))
    experts, top_k = num(c, "num_experts", 0.0), num(c, "experts_per_token", 2.0)
    experts = np.where(experts > 1, experts, 0.0)
    inner = num(c, "moe_intermediate_size", num(c, "intermediate_size", 2 * hidden))
    moe_layers = np.where(experts > 0, np.maximum(layers - num(c, "first_k_dense", 0.0), 1.0), 0.0)
    routed = np.minimum(moe_layers * experts * 3.0 * hidden * inner, 0.995 * total)
    some = np.where(experts > 0, total - routed * (1 - np.minimum(top_k / np.maximum(experts, 1), 1)), total)
    active = np.minimum(1e9 * num(c, "active_params_b", some / 1e9), total)
    embed = np.minimum(hidden * num(c, "vocab_size", 128000.0), 0.5 * total)
    dense = np.maximum(total - routed - embed, 0.05 * total * (experts == 0) + embed)
    kv_layers = np.maximum(num(c, "kv_layers", layers), 1.0)
    heads = num(c, "num_heads", np.maximum(hidden / 128, 1.0))
    kv_heads = np.maximum(num(c, "num_kv_heads", np.minimum(heads, 8.0)), 1.0)
    size, rank = num(c, "head_dim", np.maximum(hidden / heads, 1.0)), num(c, "kv_lora_rank", 0.0)
    rope = num(c, "qk_rope_head_dim", 64.0)
    mla = rank > 0
    head = np.where(mla, num(c, "qk_nope_head_dim", size) + rope, size)
    cached = np.where(mla, rank + rope, 2 * kv_heads * size)
    window = num(c, "sliding_window", np.nan)
    return {
        "layers": layers,
        "hidden": hidden,
        "experts": experts,
        "top_k": np.where(experts > 0, np.clip(top_k, 1, np.maximum(experts, 1)), 0.0),
        "routed": routed,
        "dense": dense,
        "active": active,
        "total": total,
        "kv16": 2 * kv_layers * cached,
        "kv_heads": kv_heads,
        "kv_layers": kv_layers,
        "qk": heads * head,
        "mla": mla * 1.0,
        "full": np.where(np.isfinite(window), 0.5, 1.0),
        "window": np.where(np.isfinite(window), window, 1e9),
        "embed": np.minimum(embed, 0.9 * active),
        "latent": heads * (2 * rank + np.where(mla, rope, 0.0)),
    }


@of_columns(*_RATES)
def rates(c: Columns) -> dict[str, Floats]:
    """Peak bytes/s and FLOP/s of one device at the row's number formats; bits per weight."""
    cpu = text(c, "device_kind") == "cpu"
    mem = 1e9 * np.maximum(num(c, "memory_bandwidth_gb_per_s", np.where(cpu, 100.0, 1000.0)), 1.0)
    guess = mem * np.where(cpu, 20.0, 100.0) / 1e12
    fp32 = num(c, "fp32_tflops", np.nan)
    bf16 = num(c, "bf16_tflops", num(c, "fp16_tflops", np.where(np.isfinite(fp32), fp32, guess)))
    bf16 = 1e12 * np.maximum(bf16, 1e-3)
    fp8 = np.maximum(1e12 * num(c, "fp8_tflops", 1e-6 + num(c, "int8_tops", 0.0)), bf16)
    fp4 = np.maximum(1e12 * num(c, "fp4_tflops", 0.0), bf16)
    bits = np.clip(num(c, "weight_bits", 16.0), 1.0, 32.0)
    arithmetic = np.maximum(bits, num(c, "activation_bits", np.where(bits < 6, 16.0, bits)))
    peak = np.where(arithmetic < 6, fp4, np.where(arithmetic < 12, fp8, bf16))
    single = (arithmetic > 24) & np.isfinite(fp32)
    peak = np.where(single, np.minimum(1e12 * np.maximum(np.nan_to_num(fp32), 1e-3), bf16), peak)
    link = np.maximum(num(c, "scaleup_gb_per_s", num(c, "host_link_gb_per_s", 25.0)), 1.0)
    rack = by_name(text(c, "device"), lambda name: float("nvl72" in name)) > 0
    cache = num(c, "kv_bits", np.where(arithmetic < 12, 8.0, 16.0))
    return {
        "mem": mem,
        "peak": peak,
        "bf16": bf16,
        "bits": bits,
        "kv_share": cache / 16.0,
        "link": 1e9 * link,
        "memory": 1e9 * np.maximum(num(c, "memory_gib", np.where(cpu, 256.0, 80.0)), 0.1),
        "domain": np.where(rack, 72.0, np.maximum(num(c, "typical_per_node", 8.0), 1.0)),
    }


@of_columns("model", "weight_format")
def sixteen_bit_rest(c: Columns) -> NDArray[np.bool_]:
    """Rows whose four-bit format covers the experts alone (MXFP4 as gpt-oss ships it)."""
    shipped = by_name(text(c, "model"), lambda name: float("gpt-oss" in name.lower())) > 0
    return np.asarray(shipped | (text(c, "weight_format") == "mxfp4"), dtype=np.bool_)
