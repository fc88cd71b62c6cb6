"""What a pipeline does, seen in its module tree and in the kernels that run; not in the words that asked for
it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from metainf.hosts.diffusers_load import Loaded
from metainf.hosts.diffusers_weights import changed, sampled

KERNELS = {
    "sdpa": (
        "scaled_dot_product_flash",
        "scaled_dot_product_efficient",
        "scaled_dot_product_cudnn",
        "scaled_dot_product_fused",
    ),
    "sage": ("sageattn",),
    "xformers": ("xformers",),
    "flash3": ("flash_attn_3",),
    "flash": ("flash_attn", "flash_fwd"),
}
"""Attention with a fused kernel, by parts of the names of what runs; the first that ran is told."""
PLAIN = ("_scaled_dot_product_attention_math", "aten::softmax", "aten::_softmax")
COMPILED = ("torch-compiled region", "cpp_fused", "triton_", "compiledfunction", "graph_0_")
INTEGER = ("_int_mm", "quantized::linear", "int8", "onednn::qlinear", "_weight_int8pack")
FUSED = ("to_qkv", "to_kv", "to_added_qkv")
_DTYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


def of_modules(torch: Any, loaded: Loaded) -> dict[str, str]:
    """Facts of the parts as they are now."""
    denoiser, pipe = loaded.denoiser, loaded.pipe
    weights = list(denoiser.parameters())
    kinds = Counter(
        str(value.dtype).removeprefix("torch.") for value in weights for _ in range(value.numel() > 0)
    )
    floats = {name: count for name, count in kinds.items() if name in _DTYPES}
    found = {
        "denoiser": type(denoiser).__name__,
        "denoiser_share": f"{_count(denoiser) / loaded.full_params:.4f}",
        "dtype": _DTYPES.get(max(floats, key=lambda name: floats[name], default=""), ""),
        "schedule": type(pipe.scheduler).__name__,
        "fused_qkv": _share(_fused(each) for each in _attentions(denoiser)),
        "memory_format": _memory_format(torch, denoiser),
        "quantized_layers": str(sum(_is_quantized(layer) for layer in denoiser.modules())),
        "pointwise_as_linear": str(sum(type(x).__name__ == "Pointwise" for x in denoiser.modules())),
    }
    vae = getattr(pipe, "vae", None)
    if vae is not None:
        found["autoencoder"] = type(vae).__name__
    if loaded.student_params:
        found["student_share"] = f"{_count(denoiser) / loaded.student_params:.4f}"
    if loaded.teacher:
        other = changed(sampled(denoiser.named_parameters(), torch.float32), loaded.teacher)
        found["denoiser_changed"] = "" if other is None else str(other).lower()
    if found["dtype"] == "fp32" and torch.get_float32_matmul_precision() != "highest" and _on_gpu(weights):
        found["dtype"] = "tf32"
    return found


def of_kernels(names: Iterable[str]) -> dict[str, str]:
    """Facts of the kernels that ran in one pass of the denoiser and one decoding."""
    said = [name.lower() for name in names]

    def ran(words: Iterable[str]) -> bool:
        return any(word in name for word in words for name in said)

    fused, plain = next((name for name, words in KERNELS.items() if ran(words)), ""), ran(PLAIN)
    attention = "mixed" if fused and plain else fused or ("plain" if plain else "")
    return {
        "attention": attention,
        "compiled": str(ran(COMPILED)).lower(),
        "integer_kernels": str(ran(INTEGER)).lower(),
    }


def kernels(torch: Any, work: Any) -> list[str]:
    """Names of all that ran while `work` was done."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as seen:
        work()
    return sorted({event.key for event in seen.key_averages()})


def _attentions(denoiser: Any) -> list[Any]:
    return [x for x in denoiser.modules() if hasattr(x, "to_q") and hasattr(x, "to_v")]


def _fused(attention: Any) -> bool:
    return bool(getattr(attention, "fused_projections", False)) and (
        hasattr(attention, "to_qkv") or hasattr(attention, "to_kv")
    )


def _share(each: Iterable[bool]) -> str:
    found = list(each)
    return f"{sum(found) / len(found):.3f}" if found else ""


def _memory_format(torch: Any, denoiser: Any) -> str:
    """channels_last where the weights of all larger convolutions lie so."""
    held = [x.weight for x in denoiser.modules() if isinstance(x, torch.nn.Conv2d) and min(x.kernel_size) > 1]
    held = [value for value in held if value.shape[1] > 1]
    if not held:
        return ""
    ordered = all(value.is_contiguous(memory_format=torch.channels_last) for value in held)
    return "channels_last" if ordered else "contiguous"


def _is_quantized(layer: Any) -> bool:
    weight = getattr(layer, "weight", None)
    kind = f"{type(layer).__module__}.{type(layer).__name__}" if callable(weight) else type(weight).__module__
    return "torchao" in kind or "quantized.dynamic" in kind


def _count(module: Any) -> int:
    """Parameters, those of quantized layers included; fused projections, which repeat others, are not."""
    repeated = {id(value) for layer in _repeats(module) for value in layer.parameters()}
    total: int = sum(value.numel() for value in module.parameters() if id(value) not in repeated)
    for layer in set(module.modules()) - set(_repeats(module)):
        weight = getattr(layer, "weight", None)
        if callable(weight):
            total += int(weight().numel()) + (0 if layer.bias() is None else int(layer.bias().numel()))
    return total


def _repeats(module: Any) -> list[Any]:
    """Fused projections beside which diffusers keeps the ones that they were made of."""
    kept = [x for x in _attentions(module) if _fused(x)]
    return [getattr(x, name) for x in kept for name in FUSED if getattr(x, name, None) is not None]


def _on_gpu(weights: list[Any]) -> bool:
    return bool(weights) and weights[0].device.type == "cuda"
