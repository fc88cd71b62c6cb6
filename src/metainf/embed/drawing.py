"""Image and video diffusion as numbers: ideal times of a denoising pass, memory, and methods as words.

Operations of a pass are a catalogue fact at the model's own resolution; elsewhere they grow with the number
of pixels to the power 1.1 (convolutions and projections linearly, attention faster). Without the fact a
U-Net is taken to need 0.2 operations per parameter and latent pixel, a transformer 2 per parameter and
patch and a fifth more for attention; `guessed` marks such rows. Decoding an image takes about 2.5 TFLOP per
512 × 512 pixels with the usual autoencoder, a distilled one 0.14 (both counted by PyTorch).
"""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metainf import catalog
from metainf.embed.columns import Columns, encode_model
from metainf.embed.layout import Floats, by_name, num, rates, rows_of, text

GIB = 2.0**30
LATENT_PX = 64.0
"""Pixels of the picture to one of the latent picture (8 × 8)."""
DECODE_FLOP_PER_PX = 2.5e12 / 512**2
TINY_DECODE_FLOP_PER_PX = 0.14e12 / 512**2
PIPELINE_STEPS = {"flux.1-dev": 28.0}
"""Steps of a pipeline where a run names none and the library's default is not the model card's.

Source: huggingface/diffusers, FluxPipeline (num_inference_steps=28)."""
RUNTIME_GIB, PICTURE_GIB_PER_MPX = 1.2, 2.0
"""Context and kernels; working space of a picture of 1024 × 1024 pixels (as the engines' memory check)."""
_DEGREE = re.compile(r"(?:ulysses|ring|cp)(\d+)")
_FLAGS = ("tome=0.5", "deepcache(i=3", "deepcache(i=5", "tgate", "lcm", "fbcache", "vae_compile", "sparse24")
_SDPA = ("sdp", "sdp-no-mem", "sdpa", "native", "")


def drawn_by(c: Columns) -> Columns:
    """The columns with the facts of the model that really draws, where a method names a distilled one that
    the catalogue knows. What is asked for (pixels, steps) stays that of the model that was asked for."""
    students = text(c, "distilled_model")
    names = [name for name in np.unique(students).tolist() if name in catalog.models()]
    if not names:
        return c
    side, found = num(c, "default_resolution_px", 1024.0), dict(c)
    for name in ("width_px", "height_px"):
        found[name] = num(c, name, side)
    found["steps"] = num(c, "steps", num(c, "default_steps", 50.0))
    for name in names:
        facts, here = encode_model(catalog.models()[name]), students == name
        for column, value in facts.items():
            old = found[column]
            found[column] = np.where(here, np.array(value), old) if rows_of(c) else old
    return found


def known(c: Columns) -> NDArray[np.bool_]:
    """Rows that draw, of a model whose denoiser's size is known, on a device whose rates are known."""
    draws = np.isin(text(c, "modality"), ("image", "video"))
    compute = np.isfinite(num(c, "fp32_tflops", np.nan)) | np.isfinite(num(c, "fp16_tflops", np.nan))
    compute |= np.isfinite(num(c, "bf16_tflops", np.nan))
    memory = np.isfinite(num(c, "memory_bandwidth_gb_per_s", np.nan))
    return np.asarray(draws & compute & memory & np.isfinite(num(c, "denoiser_params_b", np.nan)))


def picture(c: Columns) -> dict[str, Floats]:
    """What is drawn and the ideal seconds of it: `pass_s` of one step of one image (guidance included, all
    devices together), `read_s` of the weights in one step, `decode_s` of one image."""
    side = num(c, "default_resolution_px", 1024.0)
    px = num(c, "width_px", side) * num(c, "height_px", side)
    frames = np.maximum((num(c, "frames", 1.0) + 3) / 4, 1.0)
    named = by_name(text(c, "model"), _pipeline_steps)
    asked = num(c, "steps", np.where(np.isfinite(named), named, num(c, "default_steps", 50.0)))
    steps = num(c, "schedule_steps", asked)
    ways = np.maximum(by_name(text(c, "sequence"), _ways), 1.0)
    replicas = np.maximum(num(c, "data", 1.0), 1.0)
    params = 1e9 * num(c, "denoiser_params_b", 1.0)
    rate = rates(c)
    decode = np.where(text(c, "autoencoder") == "", DECODE_FLOP_PER_PX, TINY_DECODE_FLOP_PER_PX)
    flop, guessed = _flop(c, params, px, frames)
    guided = num(c, "guided", num(c, "guidance_doubles", 0.0))
    passes = np.where(guided > 0, 2.0, 1.0)
    return {
        "steps": steps,
        "batch": np.maximum(num(c, "batch_size", 1.0), 1.0),
        "ways": ways,
        "replicas": replicas,
        "px": px,
        "flop": flop * passes,
        "guessed": guessed,
        "pass_s": flop * passes / ways / rate["peak"],
        "read_s": params * rate["bits"] / 8 / rate["mem"],
        "decode_s": decode * px * frames / rate["bf16"],
        "balance": rate["bf16"] / rate["mem"],
        "need_gib": _memory_gib(c, params, rate["bits"], px),
    }


def _flop(c: Columns, params: Floats, px: Floats, frames: Floats) -> tuple[Floats, Floats]:
    stated = 1e12 * num(c, "denoiser_tflop_per_step", np.nan)
    unet = by_name(text(c, "denoiser"), lambda name: float("UNet" in name)) > 0
    latent = px / LATENT_PX * frames
    rough = np.where(unet, 0.2 * params * latent, 2.4 * params * latent / 4)
    video = text(c, "modality") == "video"
    native = num(c, "default_resolution_px", 1024.0) ** 2
    scaled = stated * np.where(video, 1.0, (px / native) ** 1.1)
    return np.where(np.isfinite(stated), scaled, rough), np.where(np.isfinite(stated), 0.0, 1.0)


def _memory_gib(c: Columns, params: Floats, bits: Floats, px: Floats) -> Floats:
    """Least memory of one device: weights, runtime and the working space of one picture."""
    parts = 1e9 * (num(c, "text_encoder_params_b", 0.0) + num(c, "vae_params_b", 0.0))
    weights = (params * bits + parts * np.maximum(bits, 16.0)) / 8 / GIB
    batch = np.maximum(num(c, "batch_size", 1.0), 1.0)
    return weights + RUNTIME_GIB + PICTURE_GIB_PER_MPX * px / 2**20 * batch


def prior(p: dict[str, Floats], whole: NDArray[np.bool_] | bool = True) -> Floats:
    """Log seconds of one image and step at plausible efficiencies; `whole` includes decoding."""
    step = np.hypot(p["pass_s"] / 0.4, p["read_s"] / p["batch"] / 0.6) + 8e-3 / p["batch"]
    return np.asarray(np.log(step + np.where(whole, p["decode_s"] / 0.3 / p["steps"], 0.0)))


def facts(c: Columns, p: dict[str, Floats]) -> dict[str, Floats]:
    """Numbers of a run that the efficiency may depend on; all finite."""
    flop_s = np.maximum(p["pass_s"], 1e-9)
    return {
        "batch": np.log(p["batch"]),
        "arithmetic of a step": np.log(flop_s * p["batch"]),
        "compute against bandwidth": np.log(p["balance"]),
        "devices of a picture": np.log(p["ways"]),
        "denoiser size": np.log(num(c, "denoiser_params_b", 1.0)),
        "device memory": np.log(num(c, "memory_gib", 16.0)),
        "compute capability": num(c, "compute_capability", 7.5),
        "short steps": 1 / (1 + 100 * flop_s * p["batch"]),
        "guessed operations": p["guessed"],
        "U-Net": by_name(text(c, "denoiser"), lambda name: float("UNet" in name)),
        "no bf16": np.where(np.isfinite(num(c, "bf16_tflops", np.nan)), 0.0, 1.0),
        "AMD": np.where(text(c, "vendor") == "amd", 1.0, 0.0),
        "laptop": by_name(text(c, "device"), _laptop),
    }


def words(c: Columns) -> list[frozenset[str]]:
    """The method of each row as a set of words; the library's own attention is "attention sdpa"."""
    said: dict[tuple[Any, ...], frozenset[str]] = {}
    names = (
        "engine", "weight_format", "attention_backend", "memory_mode", "dtype", "flags", "distilled_model",
        "schedule", "autoencoder", "memory_format",
    )  # fmt: skip
    numbers = ("compile", "fused_qkv")
    columns = [text(c, name).tolist() for name in names] + [num(c, name, 0.0).tolist() for name in numbers]
    columns.append(by_name(text(c, "sequence"), _ring).tolist())
    found = []
    for row in zip(*columns, strict=True) if rows_of(c) else []:
        if row not in said:
            said[row] = _words(row)
        found.append(said[row])
    return found


def _words(row: tuple[Any, ...]) -> frozenset[str]:
    engine, weights, attention, memory, dtype, flags, student, schedule, decoder, order = row[:10]
    compiled, fused, ring = row[10:]
    web = "webui" in engine
    attention = "sdpa" if attention.lower() in _SDPA and not (web and not attention) else attention.lower()
    found = {"engine sd-webui"} if web else set()
    found |= {f"weights {weights.lower()}"} if weights else set()
    found |= {f"attention {attention}"} if attention else set()
    found |= {f"memory mode {part}" for part in memory.lower().split(",") if part}
    told = {"distilled": student, "schedule": schedule, "autoencoder": decoder, "memory format": order}
    found |= {f"{name} {said}" for name, said in told.items() if said}
    found |= {"arithmetic fp32"} if dtype == "fp32" else set()
    found |= {flag for flag in _FLAGS if flag in flags.lower()}
    found |= {name for name, on in (("compiled", compiled), ("fused qkv", fused), ("ring", ring > 1)) if on}
    return frozenset(found)


def _pipeline_steps(name: str) -> float:
    return PIPELINE_STEPS.get(name.rsplit("/", 1)[-1].lower(), float("nan"))


def _ways(name: str) -> float:
    return float(np.prod([int(n) for n in _DEGREE.findall(name)] or [1]))


def _ring(name: str) -> float:
    return max((float(n) for n in re.findall(r"ring(\d+)", name)), default=1.0)


def _laptop(name: str) -> float:
    return float(bool(re.search(r"laptop|max-q|mobile", name.lower())))
