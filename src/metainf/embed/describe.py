"""Facts told in plain English, for a language model to embed (paper, section 4.2.1).

Only what is known is told: a fact that is None leaves no words. Units are spelled out. The facts that
move performance most come first, because an encoder cuts long texts. Nothing here does any I/O.
"""

import re
from functools import lru_cache

from metainf.domain import Hardware, Lengths, Method, Model, Setting, Workload
from metainf.embed.describe_method import TECHNIQUES
from metainf.embed.sentences import listed, number, paragraph, told

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
    family = told(model.family, " of the {} family")
    size = [
        told(model.params_b, "{} billion parameters"),
        told(model.active_params_b, "{} billion of them active for each token"),
        told(model.dtype, "weights stored as {}"),
        told(model.quantization, "quantized to {}"),
    ]
    experts = [
        told(model.num_experts, "mixture of {} experts"),
        told(model.experts_per_token, "{} routed experts for each token"),
        told(model.num_shared_experts, "shared experts: {}"),
        told(model.moe_intermediate_size, "expert size {}"),
        told(model.first_k_dense, "{} dense layers first"),
    ]
    attention = [
        told(model.attention, "kind {}"),
        told(model.num_heads, "{} query heads"),
        told(model.num_kv_heads, "{} key-value heads"),
        told(model.head_dim, "head size {}"),
        told(model.kv_lora_rank, "compressed key-value rank {}"),
        told(model.sliding_window, "sliding window of {} tokens"),
    ]
    shape = [
        told(model.num_layers, "{} layers"),
        told(model.kv_layers, "{} layers keep a key-value cache"),
        told(model.hidden_size, "hidden size {}"),
        told(model.intermediate_size, "feed-forward size {}"),
        told(model.vocab_size, "vocabulary of {} tokens"),
        told(model.max_position_embeddings, "context of up to {} tokens"),
    ]
    return paragraph(
        f"{model.name} is a {_MODALITY[model.modality]}{family}",
        listed("It has", size),
        listed("It is a", experts),
        listed("Attention:", attention),
        listed("Shape:", shape),
        listed("Diffusion:", _diffusion(model)),
    )


def _diffusion(model: Model) -> list[str]:
    return [
        told(model.denoiser, "denoiser {}"),
        told(model.denoiser_params_b, "denoiser of {} billion parameters"),
        told(model.denoiser_tflop_per_step, "{} teraflop for each step"),
        told(model.text_encoder_params_b, "text encoder of {} billion parameters"),
        told(model.vae_params_b, "image decoder of {} billion parameters"),
        told(model.default_resolution_px, "made for {} pixels"),
        told(model.default_steps, "{} steps by default"),
        _GUIDANCE[model.guidance_doubles],
    ]


@_remember
def describe_workload(workload: Workload) -> str:
    """One paragraph on what is asked: lengths, load, sharing, pixels, and a sample of the content."""
    load = [
        told(workload.concurrency, "{} requests in flight at a time"),
        told(workload.request_rate_per_s, "{} requests arrive each second"),
        told(workload.interarrival_cv, "arrival gaps with coefficient of variation {}"),
        told(workload.batch_size, "batches of {}"),
        told(workload.num_requests, "{} requests in all"),
    ]
    pictures = [
        told(workload.width_px, "{} pixels wide"),
        told(workload.height_px, "{} pixels high"),
        told(workload.frames, "{} frames"),
        told(workload.steps, "{} denoising steps"),
    ]
    share = workload.prefix_share
    return paragraph(
        f"The workload is {workload.name or 'not named'}",
        _lengths("Prompts", workload.input_tokens),
        _lengths("Answers", workload.output_tokens),
        _balance(workload.input_tokens, workload.output_tokens),
        listed("Load:", load),
        "" if share is None else f"{number(100 * share)} percent of prompt tokens repeat a shared prefix",
        listed("Each output is", pictures),
        *_samples(workload.content),
    )


@_remember
def describe_hardware(hardware: Hardware) -> str:
    """One paragraph on the machine: devices, memory, bandwidth, compute for each number format, power."""
    device = hardware.device
    count = "An unknown number" if hardware.count is None else number(hardware.count)
    kind = _KIND[device.kind] if device.kind else None
    made = " ".join(word for word in (device.vendor, device.arch, kind) if word) or None
    many = "each" if hardware.count != 1 else "it"
    memory = [
        told(device.memory_gib, "{} gibibytes of memory"),
        told(device.memory_bandwidth_gb_per_s, "{} gigabytes per second of memory bandwidth"),
    ]
    compute = [
        told(device.fp32_tflops, "{} teraflops in 32-bit floats"),
        told(device.fp16_tflops, "{} teraflops in 16-bit floats"),
        told(device.bf16_tflops, "{} teraflops in bfloat16"),
        told(device.fp8_tflops, "{} teraflops in 8-bit floats"),
        told(device.int8_tops, "{} teraops in 8-bit integers"),
        told(device.fp4_tflops, "{} teraflops in 4-bit floats"),
    ]
    links = [
        told(device.scaleup_gb_per_s, "{} gigabytes per second to its neighbours"),
        told(device.host_link_gb_per_s, "{} gigabytes per second to the host"),
    ]
    return paragraph(
        f"{count} × {device.title or device.name}{told(made, ' ({})')}",
        told(hardware.nodes, "Machines: {}"),
        told(hardware.platform, "Platform: {}"),
        listed(f"Memory of {many}:", memory),
        listed(f"Compute of {many}:", compute),
        listed("Links:", links),
        told(device.tdp_w, "Power limit {} watts"),
        told(device.compute_capability, "Compute capability {}"),
        told(device.release, "Released {}"),
    )


@_remember
def describe_method(method: Method) -> str:
    """One paragraph on an engine and its techniques, with what each technique is for."""
    engine = f"{method.engine}{told(method.engine_version, ' version {}')}"
    if not method.techniques:
        return paragraph(f"The inference engine is {engine} with no technique named")
    return paragraph(f"The inference engine is {engine}", *(TECHNIQUES[t.kind](t) for t in method.techniques))


def _lengths(what: str, lengths: Lengths | None) -> str:
    if lengths is None:
        return ""
    facts = [f"{number(lengths.mean)} tokens on average"]
    if lengths.std is not None:
        facts.append(f"{_spread(lengths.std, lengths.mean)} (standard deviation {number(lengths.std)})")
    facts += [told(lengths.p50, "median {}"), told(lengths.p90, "90th percentile {}")]
    facts += [told(lengths.p99, "99th percentile {}"), told(lengths.max, "at most {}")]
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
