"""Facts told in plain English, for a language model to embed (paper, section 4.2.1).

Only what is known is told: a fact that is None leaves no words. Units are spelled out. The facts that
move performance most come first, because an encoder cuts long texts. Nothing here does any I/O.
"""

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from metainf.domain import Hardware, Lengths, Method, Model, Pool, Setting, Workload

PARTS = ("model", "workload", "hardware", "method")
"""The four things that are described, in the order of the columns."""

SAMPLE_CHARACTERS = 160
SAMPLES = 2

_remember = lru_cache(maxsize=16_384)  # a campaign describes few things many times

_MODALITY = {
    "text": "language model that generates text",
    "multimodal": "multimodal model that reads images and text and generates text",
    "image": "diffusion model that generates images from text",
    "video": "diffusion model that generates video from text",
    "audio": "model for audio",
}
_KIND = {"gpu": "GPU", "cpu": "CPU", "tpu": "TPU", "npu": "NPU", "apu": "APU"}
_GUIDANCE = {None: "", True: "guidance doubles the work", False: "guidance does not double it"}
_ATTENTION = {None: "", True: "data parallel attention", False: "no data parallel attention"}


def describe(setting: Setting, method: Method | None = None) -> str:
    """All parts of one setting (and method) as paragraphs, a blank line between them."""
    return "\n\n".join(paragraphs(setting, method).values())


def paragraphs(setting: Setting, method: Method | None = None) -> dict[str, str]:
    """One paragraph for each part, keyed as in PARTS; `method` is absent where none is given."""
    told = {
        "model": describe_model(setting.model),
        "workload": describe_workload(setting.workload),
        "hardware": describe_hardware(setting.hardware),
    }
    return told if method is None else told | {"method": describe_method(method)}


@_remember
def describe_model(model: Model) -> str:
    """One paragraph on a model: size, shape, attention, experts, diffusion parts."""
    family = _if(model.family, " of the {} family")
    size = [
        _if(model.params_b, "{} billion parameters"),
        _if(model.active_params_b, "{} billion of them active for each token"),
        _if(model.dtype, "weights stored as {}"),
        _if(model.quantization, "quantized to {}"),
    ]
    experts = [
        _if(model.num_experts, "mixture of {} experts"),
        _if(model.experts_per_token, "{} routed experts for each token"),
        _if(model.num_shared_experts, "shared experts: {}"),
        _if(model.moe_intermediate_size, "expert size {}"),
        _if(model.first_k_dense, "{} dense layers first"),
    ]
    attention = [
        _if(model.attention, "kind {}"),
        _if(model.num_heads, "{} query heads"),
        _if(model.num_kv_heads, "{} key-value heads"),
        _if(model.head_dim, "head size {}"),
        _if(model.kv_lora_rank, "compressed key-value rank {}"),
        _if(model.sliding_window, "sliding window of {} tokens"),
    ]
    shape = [
        _if(model.num_layers, "{} layers"),
        _if(model.kv_layers, "{} layers keep a key-value cache"),
        _if(model.hidden_size, "hidden size {}"),
        _if(model.intermediate_size, "feed-forward size {}"),
        _if(model.vocab_size, "vocabulary of {} tokens"),
        _if(model.max_position_embeddings, "context of up to {} tokens"),
    ]
    return _paragraph(
        f"{model.name} is a {_MODALITY[model.modality]}{family}",
        _list("It has", size),
        _list("It is a", experts),
        _list("Attention:", attention),
        _list("Shape:", shape),
        _list("Diffusion:", _diffusion(model)),
    )


def _diffusion(model: Model) -> list[str]:
    return [
        _if(model.denoiser, "denoiser {}"),
        _if(model.denoiser_params_b, "denoiser of {} billion parameters"),
        _if(model.denoiser_tflop_per_step, "{} teraflop for each step"),
        _if(model.text_encoder_params_b, "text encoder of {} billion parameters"),
        _if(model.vae_params_b, "image decoder of {} billion parameters"),
        _if(model.default_resolution_px, "made for {} pixels"),
        _if(model.default_steps, "{} steps by default"),
        _GUIDANCE[model.guidance_doubles],
    ]


@_remember
def describe_workload(workload: Workload) -> str:
    """One paragraph on what is asked: lengths, load, sharing, pixels, and a sample of the content."""
    load = [
        _if(workload.concurrency, "{} requests in flight at a time"),
        _if(workload.request_rate_per_s, "{} requests arrive each second"),
        _if(workload.interarrival_cv, "arrival gaps with coefficient of variation {}"),
        _if(workload.batch_size, "batches of {}"),
        _if(workload.num_requests, "{} requests in all"),
    ]
    pictures = [
        _if(workload.width_px, "{} pixels wide"),
        _if(workload.height_px, "{} pixels high"),
        _if(workload.frames, "{} frames"),
        _if(workload.steps, "{} denoising steps"),
    ]
    share = workload.prefix_share
    return _paragraph(
        f"The workload is {workload.name or 'not named'}",
        _lengths("Prompts", workload.input_tokens),
        _lengths("Answers", workload.output_tokens),
        _balance(workload.input_tokens, workload.output_tokens),
        _list("Load:", load),
        "" if share is None else f"{_number(100 * share)} percent of prompt tokens repeat a shared prefix",
        _list("Each output is", pictures),
        *_samples(workload.content),
    )


@_remember
def describe_hardware(hardware: Hardware) -> str:
    """One paragraph on the machine: devices, memory, bandwidth, compute for each number format, power."""
    device = hardware.device
    count = "An unknown number" if hardware.count is None else _number(hardware.count)
    kind = _KIND[device.kind] if device.kind else None
    made = " ".join(word for word in (device.vendor, device.arch, kind) if word) or None
    many = "each" if hardware.count != 1 else "it"
    memory = [
        _if(device.memory_gib, "{} gibibytes of memory"),
        _if(device.memory_bandwidth_gb_per_s, "{} gigabytes per second of memory bandwidth"),
    ]
    compute = [
        _if(device.fp32_tflops, "{} teraflops in 32-bit floats"),
        _if(device.fp16_tflops, "{} teraflops in 16-bit floats"),
        _if(device.bf16_tflops, "{} teraflops in bfloat16"),
        _if(device.fp8_tflops, "{} teraflops in 8-bit floats"),
        _if(device.int8_tops, "{} teraops in 8-bit integers"),
        _if(device.fp4_tflops, "{} teraflops in 4-bit floats"),
    ]
    links = [
        _if(device.scaleup_gb_per_s, "{} gigabytes per second to its neighbours"),
        _if(device.host_link_gb_per_s, "{} gigabytes per second to the host"),
    ]
    return _paragraph(
        f"{count} × {device.title or device.name}{_if(made, ' ({})')}",
        _if(hardware.nodes, "Machines: {}"),
        _if(hardware.platform, "Platform: {}"),
        _list(f"Memory of {many}:", memory),
        _list(f"Compute of {many}:", compute),
        _list("Links:", links),
        _if(device.tdp_w, "Power limit {} watts"),
        _if(device.compute_capability, "Compute capability {}"),
        _if(device.release, "Released {}"),
    )


@_remember
def describe_method(method: Method) -> str:
    """One paragraph on an engine and its techniques, with what each technique is for."""
    engine = f"{method.engine}{_if(method.engine_version, ' version {}')}"
    if not method.techniques:
        return _paragraph(f"The inference engine is {engine} with no technique named")
    return _paragraph(
        f"The inference engine is {engine}", *(_TECHNIQUES[t.kind](t) for t in method.techniques)
    )


def _batching(t: Any) -> str:
    sentence = "No batching: one request at a time" if t.mode == "none" else f"{t.mode} batching of requests"
    limits = [_if(t.max_sequences, "at most {} sequences"), _if(t.max_tokens, "at most {} tokens in a step")]
    return ", ".join([sentence, *(limit for limit in limits if limit)])


def _speculative(t: Any) -> str:
    detail = _if(t.tokens, ", {} tokens guessed at a time") + _if(t.draft_model, ", draft model {}")
    return f"Speculative decoding by {t.algorithm} spends spare compute to cut latency{detail}"


def _weights(t: Any) -> str:
    bits = _if(t.bits, ", {} bits for each weight") + _if(t.activation_bits, ", {} bits for activations")
    return f"Weights are quantized to {t.format} to save memory and bandwidth{bits}"


def _parallelism(t: Any) -> str:
    ways = ("tensor", "pipeline", "expert", "data")
    degrees = [_if(getattr(t, way), f"{way} parallel over {{}}") for way in ways]
    degrees += [_ATTENTION[t.attention_data], _if(t.sequence, "sequence {}")]
    return _list("The model is split:", degrees)


def _disaggregation(t: Any) -> str:
    pools = f"prefill pool {_pool(t.prefill)}; decode pool {_pool(t.decode)}"
    return f"Prefill and decode run on separate workers: {pools}"


def _pool(pool: Pool) -> str:
    ways = [
        _if(pool.workers, "workers: {}"),
        _if(pool.tensor, "tensor parallel over {}"),
        _if(pool.expert, "expert parallel over {}"),
        _ATTENTION[pool.attention_data],
    ]
    return ", ".join(way for way in ways if way) or "of unknown size"


def _switch(on: str, off: str, detail: Callable[[Any], str] = lambda t: "") -> Callable[[Any], str]:
    return lambda t: on + detail(t) if t.enabled else off


_TECHNIQUES: dict[str, Callable[[Any], str]] = {
    "batching": _batching,
    "chunked_prefill": _switch(
        "Long prompts are prefilled in chunks",
        "Chunked prefill is off",
        lambda t: _if(t.tokens, " of {} tokens"),
    ),
    "prefix_cache": _switch(
        "Prefix caching keeps the key-value cache of shared prompt beginnings",
        "Prefix caching is off",
        lambda t: _if(t.tier, " in {} memory"),
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
    "flags": lambda t: f"Further flags: {' '.join(t.values)}",
}


def _lengths(what: str, lengths: Lengths | None) -> str:
    if lengths is None:
        return ""
    facts = [f"{_number(lengths.mean)} tokens on average"]
    if lengths.std is not None:
        facts.append(f"{_spread(lengths.std, lengths.mean)} (standard deviation {_number(lengths.std)})")
    facts += [_if(lengths.p50, "median {}"), _if(lengths.p90, "90th percentile {}")]
    facts += [_if(lengths.p99, "99th percentile {}"), _if(lengths.max, "at most {}")]
    return f"{what} have {', '.join(fact for fact in facts if fact)}"


def _spread(std: float, mean: float) -> str:
    variation = std / mean if mean else 0.0
    words = ((0.05, "nearly constant"), (0.5, "varying little"), (1.0, "varying widely"))
    return next((word for limit, word in words if variation <= limit), "varying extremely, with a long tail")


def _balance(prompt: Lengths | None, answer: Lengths | None) -> str:
    if prompt is None or answer is None or not prompt.mean or not answer.mean:
        return ""
    if prompt.mean >= 4 * answer.mean:
        return "Prompts are much longer than answers, so prefill weighs heavily"
    if answer.mean >= 2 * prompt.mean:
        return "Answers are much longer than prompts, so decoding weighs heavily"
    return "Prompts and answers are of like length"


def _samples(content: tuple[str, ...] | None) -> list[str]:
    clean = (re.sub(r"\s+", " ", text).strip() for text in content or ())
    return [f'A sample of the content: "{text[:SAMPLE_CHARACTERS]}"' for text in clean if text][:SAMPLES]


def _if(value: Any, template: str) -> str:
    """The template around a value that is known, else nothing."""
    if value is None:
        return ""
    return template.format(value if isinstance(value, str) else _number(value))


def _number(value: float) -> str:
    """Whole numbers whole; others to four digits."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 1e15 else f"{value:.4g}"


def _list(start: str, facts: Iterable[str]) -> str:
    told = [fact for fact in facts if fact]
    return f"{start} {', '.join(told)}" if told else ""


def _paragraph(*sentences: str) -> str:
    return " ".join(f"{s[0].upper()}{s[1:]}." for s in sentences if s)
