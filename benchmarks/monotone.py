"""How often a predictor moves a metric against a law of arithmetic, on random settings."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from metainf import api
from metainf.api import catalogue
from metainf.domain import (
    Batching,
    Method,
    Parallelism,
    Precision,
    PrefixCache,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.learn.forecast import Forecast
from metainf.learn.predictor import TrainedPredictor

MODELS = (
    "Llama-3.1-8B-Instruct", "Llama-3.1-70B-Instruct", "Qwen3-32B", "Qwen3-8B", "gpt-oss-120b", "DeepSeek-R1",
    "Qwen3-30B-A3B", "Qwen3-235B-A22B",
)  # fmt: skip
DEVICES = ("L4", "A100-80GB", "H100", "H200", "B200", "MI300X", "RTX-4090", "L40S")
Rows = list[list[str]]
Setting = dict[str, Any]


def random_setting(rng: np.random.Generator) -> Setting:
    """One setting of the serving world."""
    return {
        "model": rng.choice(MODELS), "device": rng.choice(DEVICES), "count": int(2 ** rng.integers(0, 4)),
        "engine": rng.choice(("vllm", "sglang", "tensorrt-llm")), "format": rng.choice(("", "fp8")),
        "input": float(np.exp(rng.uniform(4, 9.7))), "output": float(np.exp(rng.uniform(3.5, 7.6))),
        "load": float(2 ** rng.integers(0, 9)), "share": 0.0, "cap": None,
    }  # fmt: skip


def asked(predictor: TrainedPredictor, s: Setting) -> Forecast:
    """The forecast of one setting."""
    work = Workload.of(
        {"input_tokens": {"mean": s["input"]}, "output_tokens": {"mean": s["output"]}}
        | {"concurrency": s["load"], "prefix_share": s["share"]}
    )
    weights = WeightQuantization(format="fp8") if s["format"] else Precision(dtype="bf16")
    parts: list[Technique] = [Parallelism(tensor=s["count"]), weights, PrefixCache()]
    parts += [Batching(max_sequences=s["cap"])] if s["cap"] else []
    hardware = catalogue.hardware_of([f"{s['count']}x{s['device']}"])[0][0]
    return predictor.forecast(
        api.model(str(s["model"])),
        work,
        [(hardware, Method(engine=str(s["engine"]), techniques=tuple(parts)))],
    )


def monotone_rows(predictor: TrainedPredictor, settings: int) -> Rows:
    """How often a step along a knob moves a metric the wrong way."""
    powers = [2.0**n for n in range(9)]
    lengths = [64.0 * 4**n for n in range(5)]
    laws: list[tuple[str, str, Sequence[object], str, int, Callable[[Setting], Setting]]] = [
        ("more in flight, not fewer tokens/s", "load", powers, "output_tokens_per_s", 1, dict),
        ("more in flight, not a shorter TPOT", "load", powers, "tpot_s", 1, dict),
        ("more in flight, not a shorter TTFT", "load", powers, "ttft_s", 1, dict),
        ("more in flight, not more J per token", "load", powers, "energy_j_per_token", -1, dict),
        ("longer input, not a shorter TTFT", "input", lengths, "ttft_s", 1, dict),
        ("more devices, not more memory on each", "count", (1, 2, 4, 8), "memory_gib", -1, dict),
        ("larger cap, not a longer TTFT", "cap", (8, 16, 32, 64, 128, 256), "ttft_s", -1, _busy),
        ("larger reused share, not a longer TTFT", "share", (0, 0.25, 0.5, 0.75, 0.95), "ttft_s", -1, dict),
    ]
    found = []
    for law, knob, values, metric, sign, prepare in laws:
        rng, steps = np.random.default_rng(0), []
        for _ in range(settings):
            base = prepare(random_setting(rng))
            seen = [asked(predictor, {**base, knob: value}).log_median[metric][0] for value in values]
            steps += (sign * np.diff(seen)).tolist()
        moves = np.array(steps)
        wrong, far = np.mean(moves < -1e-9), np.mean(moves < -0.05)
        worst = abs(np.expm1(min(moves.min(), 0.0)))
        found.append([law, str(len(moves)), f"{wrong:.1%}", f"{far:.1%}", f"{worst:.0%}"])
    return found


def _busy(setting: Setting) -> Setting:
    return {**setting, "load": 256.0}
