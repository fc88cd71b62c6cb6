"""What a comparison of methods is learnt from: rough ideal times, facts, and methods in words.

Language and picture models share one matrix; NaN stands for what a row does not say. The ideal times are
coarser than `physics` (one formula for every engine and device, no layout puzzles), which is enough where
only the ranking of methods inside one setting counts. Logarithms are natural; counts of devices and degrees
are in powers of two. No measured value is read.
"""

import re
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metainf.embed.columns import Columns
from metainf.embed.layout import Floats, by_name, model_sizes, num, rates, sixteen_bit_rest, text

Kind = Literal["none", "step", "run", "speed", "rate_per_device", "energy"]
GROUPS: dict[str, tuple[str, ...]] = {
    "model": ("params", "active", "layers", "hidden", "kv_bytes", "experts", "denoiser_tflop"),
    "device": ("bandwidth", "flops", "memory", "compute_capability", "laptop"),
    "work": ("load", "tokens_in", "tokens_out", "pixels", "steps", "frames"),
    "load": ("load", "devices", "t_roof", "weights_share", "kv_share", "load_per_device"),
}
"""Features by which two models, devices, works or loads are called alike."""
UNKNOWN_LOAD = 64.0
_MXFP4_BITS = 4.25
_UNPACKING = 0.75
_TOKEN_NAMES = (
    "engine",
    "kv_format",
    "sequence",
    "batching",
    "speculative",
    "attention_backend",
    "memory_mode",
)
_TOKEN_NUMBERS = (
    "tensor", "pipeline", "expert", "data", "attention_data", "disaggregated", "prefix_cache",
    "chunked_prefill", "chunk_tokens", "speculative_tokens", "max_sequences", "max_step_tokens", "compile",
    "fused_qkv", "num_devices",
)  # fmt: skip


def load(c: Columns) -> Floats:
    """Requests in flight: concurrency, else batch size, else a `bs=` in the name of the workload, else all
    requests at once; NaN where none of them is known."""
    named = by_name(text(c, "workload"), lambda name: _after(name, r"\bbs=(\d+)"))
    queued = np.where(np.isfinite(named), named, num(c, "num_requests", np.nan))
    return num(c, "concurrency", num(c, "batch_size", queued))


def _after(name: str, pattern: str) -> float:
    hit = re.search(pattern, name)
    return float(hit.group(1)) if hit else float("nan")


def features(c: Columns) -> tuple[Floats, tuple[str, ...]]:
    """Feature matrix (n, d) with NaN for unknown, and the d names."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found = _facts(c) | _times(c)
    values = np.stack([np.asarray(v, dtype=np.float64) for v in found.values()], axis=1)
    return np.where(np.isfinite(values), values, np.nan), tuple(found)


def _known(c: Columns, name: str) -> Floats:
    return num(c, name, np.nan)


def _facts(c: Columns) -> dict[str, Floats]:
    model = model_sizes(c)
    shaped = np.isfinite(_known(c, "num_layers"))
    sized = np.isfinite(_known(c, "params_b"))
    flops = np.fmax(_known(c, "fp16_tflops"), _known(c, "bf16_tflops"))
    found = {
        "params": np.log(_known(c, "params_b")),
        "active": np.where(sized, np.log(model["active"] / 1e9), np.nan),
        "kv_bytes": np.where(shaped, np.log(model["kv16"]), np.nan),
        "experts": np.where(shaped, np.log1p(model["experts"]), np.nan),
        "top_k": np.where(shaped, np.log1p(model["top_k"]), np.nan),
        "flops": np.log(flops),
        "low_flops": np.log(np.fmax(_known(c, "fp8_tflops"), _known(c, "int8_tops"))),
        "single_flops": np.log(_known(c, "fp32_tflops")),
        "load": np.log(load(c)),
        "pixels": np.log(_known(c, "width_px") * _known(c, "height_px")),
        "laptop": by_name(text(c, "device"), _laptop),
        "version": by_name(text(c, "engine_version"), lambda name: _after(name, r"^v?(\d+\.\d+)")),
    }
    for short, name in (
        ("layers", "num_layers"), ("hidden", "hidden_size"), ("denoiser_tflop", "denoiser_tflop_per_step"),
        ("steps", "steps"), ("frames", "frames"), ("rate", "request_rate_per_s"), ("memory", "memory_gib"),
        ("bandwidth", "memory_bandwidth_gb_per_s"), ("tdp", "tdp_w"), ("step_tokens", "max_step_tokens"),
    ):  # fmt: skip
        found[short] = np.log(_known(c, name))
    for short, name in (
        ("tokens_in", "input_tokens"),
        ("tokens_out", "output_tokens"),
        ("link", "scaleup_gb_per_s"),
    ):
        found[short] = np.log1p(_known(c, name))
    found["compute_capability"] = _known(c, "compute_capability")
    return found | {
        k: np.log2(np.maximum(num(c, k, 1.0), 1.0)) for k in ("tensor", "pipeline", "expert", "data")
    }


def _laptop(name: str) -> float:
    return float(bool(re.search(r"laptop|max-q|mobile", name.lower())))


def _times(c: Columns) -> dict[str, Floats]:
    """Logs of ideal times in seconds on all devices of a run, and how full their memory is."""
    model, rate = model_sizes(c), rates(c)
    total, active = model["total"], model["active"]
    bits = np.where(sixteen_bit_rest(c) & (rate["bits"] == 16), _MXFP4_BITS, rate["bits"])
    said = load(c)
    batch = np.where(np.isfinite(said), said, UNKNOWN_LOAD)
    tokens_in, tokens_out = num(c, "input_tokens", 512.0), np.maximum(num(c, "output_tokens", 256.0), 1.0)
    miss = np.where(model["experts"] > 0, 1 - model["top_k"] / np.maximum(model["experts"], 1), 0.0)
    weights = total * bits / 8
    read = (active + (total - active) * (1 - miss**batch)) * bits / 8
    tflop = _known(c, "denoiser_tflop_per_step")
    drawn = np.isfinite(tflop) | np.isfinite(_known(c, "width_px"))
    tflop = np.where(np.isfinite(tflop), tflop, 2.0 * total / 1e9)
    devices = np.maximum(num(c, "num_devices", 1.0), 1.0)
    memory = rate["memory"]
    width = np.where(drawn, devices, _width(c, devices, weights / (0.9 * memory)))
    kv = model["kv16"] * rate["kv_share"]
    mean_kv, full_kv = kv * (tokens_in + tokens_out / 2), kv * (tokens_in + tokens_out)
    t_weights = read / devices / rate["mem"]
    t_kv = np.where(drawn, 0.0, mean_kv * batch / devices / rate["mem"])
    drawing = tflop * 1e12 * num(c, "steps", 30.0) * batch
    t_flop = np.where(drawn, drawing, 2 * active * batch) / devices / rate["peak"] / 0.5
    served, admitted = _served(c, rate, width, np.stack([weights, read, active, model["kv16"]]))
    return {
        "devices": np.log2(width),
        "all_devices": np.log2(devices),
        "bits": bits,
        "kv_bits": 16 * rate["kv_share"],
        "t_weights": np.log(t_weights),
        "t_kv": np.where(drawn, np.nan, np.log(t_kv)),
        "t_flop": np.log(t_flop),
        "t_roof": np.log((t_weights + t_kv) / 0.7 + t_flop + 1e-3),
        "t_served": np.log(served),
        "admitted": np.log(admitted),
        "weights_share": np.log(weights / width / memory),
        "kv_share": np.where(drawn, np.nan, np.log(full_kv * batch / width / memory)),
        "load_per_device": np.log(batch / width),
        "weights": np.log(weights / width),
    }


def _served(c: Columns, rate: dict[str, Floats], width: Floats, sizes: Floats) -> tuple[Floats, Floats]:
    """Seconds between tokens of a request in an engine under load, and the requests that it runs at once.

    sizes: bytes of weights held and read, active parameters, bytes of a token in a 16-bit cache. A step
    decodes every running request and prefills what their successors need, up to the tokens of a step.
    """
    weights, read, active, token_bytes = sizes
    said = load(c)
    batch = np.where(np.isfinite(said), said, UNKNOWN_LOAD)
    tokens_in, tokens_out = num(c, "input_tokens", 512.0), np.maximum(num(c, "output_tokens", 256.0), 1.0)
    memory = rate["memory"] * width
    each = token_bytes * _cache_share(c, rate["bits"])
    room = np.maximum(0.9 * memory - weights, 0.02 * memory)
    fit = room / (each * (tokens_in + tokens_out))
    admitted = np.maximum(np.minimum(np.minimum(batch, _cap(c, rate["memory"])), fit), 1.0)
    prefilled = np.minimum(admitted * tokens_in / tokens_out, _chunk(c, rate["memory"]))
    decoded = np.minimum(admitted, prefilled * tokens_out / np.maximum(tokens_in, 1.0) + 1.0)
    work = 2 * active / width / _served_peak(c, rate) / 0.4
    cache = each * (tokens_in + tokens_out / 2) / width / rate["mem"] / 0.5
    step = read / width / rate["mem"] / 0.7 + decoded * (cache + 2e-5) + work * (decoded + prefilled)
    return step + 2e-3, admitted


def _served_peak(c: Columns, rate: dict[str, Floats]) -> Floats:
    """FLOP/s under load: formats that are only stored small are unpacked on the way, at a cost."""
    no_units = by_name(text(c, "weight_format"), lambda name: float(name.startswith("fp8"))) > 0
    no_units &= ~np.isfinite(_known(c, "fp8_tflops"))
    stored = (rate["bits"] < 12) & (num(c, "activation_bits", 16.0) > 12) & ~sixteen_bit_rest(c)
    return np.where(stored | no_units, _UNPACKING * rate["bf16"], rate["peak"])


def _cache_share(c: Columns, bits: Floats) -> Floats:
    """Size of the cache relative to 16 bits: as stated; else TensorRT-LLM follows eight-bit weights."""
    follows = (text(c, "engine") == "tensorrt-llm") & (bits == 8)
    return num(c, "kv_bits", np.where(follows, 8.0, 16.0)) / 16.0


def _chunk(c: Columns, memory: Floats) -> Floats:
    """Tokens of one step: as stated, else 8192; vLLM's default is 2048 where it admits fewer than 1024."""
    small = (text(c, "engine") == "vllm") & (_cap(c, memory) < 1024)
    return num(c, "max_step_tokens", num(c, "chunk_tokens", np.where(small, 2048.0, 8192.0)))


def _width(c: Columns, devices: Floats, need: Floats) -> Floats:
    """Devices that one engine really uses: without a stated degree, the fewest that hold the weights."""
    stated = by_name(text(c, "flags"), lambda flags: float(bool(re.search(r"(^|\s)-(tp|pp)\b", flags)))) > 0
    for name in ("tensor", "pipeline", "data"):
        stated |= np.isfinite(_known(c, name))
    fewest = np.minimum(2.0 ** np.ceil(np.log2(np.maximum(need, 1.0))), devices)
    return np.where(stated, devices, fewest)


def _cap(c: Columns, memory: Floats) -> Floats:
    """Sequences an engine runs at once: as stated, else its default (vLLM V1: 1024 on devices of 70 GB and
    more other than the A100, else 256; MindIE 200)."""
    large = (memory >= 70e9) & (by_name(text(c, "device"), lambda name: float("a100" in name.lower())) == 0)
    engine = text(c, "engine")
    usual = np.where(
        engine == "vllm", np.where(large, 1024.0, 256.0), np.where(engine == "mindie", 200.0, 2048.0)
    )
    return num(c, "max_sequences", usual)


def ideal(matrix: Floats, names: tuple[str, ...], kind: Kind) -> Floats:
    """Log of the ideal value (larger is better), or of the ideal time of a "step" or "run" in seconds; (n,).

    Not to scale: it is made to be fitted with a slope and a level. 0 everywhere for "none".
    """
    col = {name: np.nan_to_num(matrix[:, place]) for place, name in enumerate(names)}
    served, devices = col["load"] - col["t_roof"], np.log(2.0) * col["all_devices"]
    if kind == "step":
        return np.asarray(col["t_roof"])
    if kind == "run":
        drawn = np.isfinite(matrix[:, names.index("pixels")])
        tokens_out = np.log(np.expm1(np.maximum(col["tokens_out"], 0.7)))
        return np.asarray(col["t_roof"] + np.where(drawn, 0.0, tokens_out))
    if kind == "speed":
        return np.asarray(-col["t_served"])
    if kind == "rate_per_device":
        return np.asarray(served - devices)
    if kind == "energy":
        return np.asarray(served - 0.7 * devices)
    return np.zeros(len(matrix))


def tokens(c: Columns, methods: NDArray[Any]) -> list[frozenset[str]]:
    """The method of each row as a set of words: engine, formats, degrees, techniques and flags.

    methods: identifiers of the methods, which become words of their own.
    """
    bits, version = rates(c)["bits"], text(c, "engine_version")
    names = {key: text(c, key) for key in (*_TOKEN_NAMES, "weight_format", "dtype", "flags")}
    numbers = {key: _known(c, key) for key in _TOKEN_NUMBERS}
    found = []
    for row, method in enumerate(methods.tolist()):
        words = {f"id={method}", f"bits={bits[row]:.0f}"}
        words |= {
            f"{key}={value[row]:g}" for key, value in numbers.items() if value[row] > 1 or value[row] == 0
        }
        words |= {f"{key}=1" for key, value in numbers.items() if value[row] == 1 and key in _SWITCHES}
        for key, value in names.items():
            parts = re.split(r"[+,\s:|]+", str(value[row]).lower())
            words |= {f"{key}={part}" for part in parts if part not in ("", "none", "default")}
        release = re.match(r"v?\d+\.\d+", str(version[row]))
        if release:
            words.add(f"version={release[0]}")
            if names["attention_backend"][row]:
                words.add(f"{str(names['attention_backend'][row]).lower()}@{release[0]}")
        if "rocm" in str(version[row]):
            words.add("build=rocm")
        found.append(frozenset(words))
    return found


_SWITCHES = ("attention_data", "prefix_cache", "chunked_prefill", "compile", "fused_qkv", "disaggregated")
