"""What each technique is for, in a sentence."""

from collections.abc import Callable
from typing import Any

from metainf.domain import Pool
from metainf.embed.sentences import listed, told

_ATTENTION = {None: "", True: "data parallel attention", False: "no data parallel attention"}


def _batching(t: Any) -> str:
    sentence = "No batching: one request at a time" if t.mode == "none" else f"{t.mode} batching of requests"
    limits = [
        told(t.max_sequences, "at most {} sequences"),
        told(t.max_tokens, "at most {} tokens in a step"),
    ]
    return ", ".join([sentence, *(limit for limit in limits if limit)])


def _speculative(t: Any) -> str:
    detail = told(t.tokens, ", {} tokens guessed at a time") + told(t.draft_model, ", draft model {}")
    return f"Speculative decoding by {t.algorithm} spends spare compute to cut latency{detail}"


def _weights(t: Any) -> str:
    bits = told(t.bits, ", {} bits for each weight") + told(t.activation_bits, ", {} bits for activations")
    return f"Weights are quantized to {t.format} to save memory and bandwidth{bits}"


def _parallelism(t: Any) -> str:
    ways = ("tensor", "pipeline", "expert", "data")
    degrees = [told(getattr(t, way), f"{way} parallel over {{}}") for way in ways]
    degrees += [_ATTENTION[t.attention_data], told(t.sequence, "sequence {}")]
    return listed("The model is split:", degrees)


def _disaggregation(t: Any) -> str:
    pools = f"prefill pool {_pool(t.prefill)}; decode pool {_pool(t.decode)}"
    return f"Prefill and decode run on separate workers: {pools}"


def _pool(pool: Pool) -> str:
    ways = [
        told(pool.workers, "workers: {}"),
        told(pool.tensor, "tensor parallel over {}"),
        told(pool.expert, "expert parallel over {}"),
        _ATTENTION[pool.attention_data],
    ]
    return ", ".join(way for way in ways if way) or "of unknown size"


def _schedule(t: Any) -> str:
    guided = {None: "", True: ", with guidance", False: ", without guidance"}[t.guided]
    by = told(t.name, " by {}") + told(t.steps, " in {} steps")
    return f"Noise becomes a picture{by}{guided}"


def _switch(on: str, off: str, detail: Callable[[Any], str] = lambda t: "") -> Callable[[Any], str]:
    return lambda t: on + detail(t) if t.enabled else off


TECHNIQUES: dict[str, Callable[[Any], str]] = {
    "batching": _batching,
    "chunked_prefill": _switch(
        "Long prompts are prefilled in chunks",
        "Chunked prefill is off",
        lambda t: told(t.tokens, " of {} tokens"),
    ),
    "prefix_cache": _switch(
        "Prefix caching keeps the key-value cache of shared prompt beginnings",
        "Prefix caching is off",
        lambda t: told(t.tier, " in {} memory"),
    ),
    "speculative": _speculative,
    "weight_quantization": _weights,
    "kv_quantization": lambda t: f"The key-value cache is quantized to {t.format} to hold more requests",
    "precision": lambda t: f"Arithmetic in {t.dtype}",
    "parallelism": _parallelism,
    "disaggregation": _disaggregation,
    "attention_backend": lambda t: f"Attention kernels from {t.name}",
    "compile": _switch("The model graph is compiled", "The model runs eagerly, not compiled"),
    "fused_qkv": _switch("Query, key and value projections are fused", "Projections are not fused"),
    "memory_mode": lambda t: f"Memory is saved at the cost of speed by {t.name}",
    "distilled_model": lambda t: f"The distilled model {t.model} draws in place of the full one",
    "schedule": _schedule,
    "autoencoder": lambda t: f"Pictures are decoded by a {t.name} autoencoder",
    "memory_format": lambda t: f"Pictures lie in memory as {t.name}",
    "flags": lambda t: f"Further flags: {' '.join(t.values)}",
}
