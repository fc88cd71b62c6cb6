"""Memory arithmetic: weights, key-value cache and working space, per device.

Conventions. A GiB is 2**30 bytes. The cache of multi-head latent attention holds one latent vector and
the rotary part per token and layer, the same on every tensor-parallel rank. Sliding windows are not
credited, because the model facts do not say how many layers use them: the result is an upper bound.
Working space (activations, graphs, communication buffers, runtime) is an estimate of ours; it is the
least certain part.
"""

import math
from dataclasses import dataclass

from metainf.domain import Batching, ChunkedPrefill, Hardware, Method, Model, Parallelism, Workload
from metainf.engines.formats import is_gguf, kv_bits, weight_bits
from metainf.engines.launch import degrees

GIB = 2**30
USABLE_SHARE = 0.9  # the share of device memory serving engines claim by default
RUNTIME_GIB = 1.2  # context, kernels and captured graphs
DEFAULT_STEP_TOKENS = 8192
DEFAULT_CONTEXT_TOKENS = 2048


@dataclass(frozen=True)
class Requirement:
    """What one device must hold, in GiB, and how many sequences the rest of it has room for."""

    weights_gib: float
    kv_gib_per_sequence: float
    working_gib: float
    available_gib: float

    @property
    def least_gib(self) -> float:
        """Weights, working space and the cache of one full-length sequence."""
        return self.weights_gib + self.working_gib + self.kv_gib_per_sequence

    @property
    def fits(self) -> bool:
        """True where at least one full-length sequence has room."""
        return self.least_gib <= self.available_gib

    @property
    def max_sequences(self) -> int:
        """Full-length sequences that fit at once; zero where the weights alone do not."""
        room = self.available_gib - self.weights_gib - self.working_gib
        if room <= 0:
            return 0
        return int(room / self.kv_gib_per_sequence) if self.kv_gib_per_sequence > 0 else 10**6

    @property
    def reason(self) -> str:
        """`needs 41.2 GiB per device (...), 21.6 GiB usable there`."""
        return (
            f"needs {self.least_gib:.1f} GiB per device (weights {self.weights_gib:.1f}, one sequence "
            f"{self.kv_gib_per_sequence:.2f}, working space {self.working_gib:.1f}), "
            f"{self.available_gib:.1f} GiB usable there"
        )


def weights_gib(model: Model, bits: float, *, whole: bool = False) -> float | None:
    """Weights of the whole model at `bits` per weight; None without a parameter count.

    Below 16 bits the embedding and output matrices stay at 16 (as AWQ, GPTQ, FP8 and NVFP4 checkpoints
    keep them) unless `whole` says that `bits` is an average over the whole file, as for GGUF.
    """
    if model.modality in ("image", "video"):
        parts = (model.text_encoder_params_b or 0.0) + (model.vae_params_b or 0.0)
        if model.denoiser_params_b is None:
            return None
        return (model.denoiser_params_b * bits + parts * max(bits, 16.0)) * 1e9 / 8 / GIB
    if model.params_b is None:
        return None
    kept = 0.0
    if bits < 16 and not whole and model.vocab_size and model.hidden_size:
        kept = model.vocab_size * model.hidden_size * (1 if model.tie_embeddings else 2) / 1e9
        kept = min(kept, model.params_b)
    return ((model.params_b - kept) * bits + kept * 16) * 1e9 / 8 / GIB


def kv_elements_per_token(model: Model, tensor: int = 1, pipeline: int = 1) -> float | None:
    """Cached elements per token on one device; None where the attention shape is unknown."""
    layers = model.num_layers if model.kv_layers is None else model.kv_layers
    if layers is None:
        return None
    per_stage = math.ceil(layers / pipeline)
    if model.kv_lora_rank is not None:
        return float(per_stage * (model.kv_lora_rank + (model.qk_rope_head_dim or 0)))
    heads = model.num_kv_heads or model.num_heads
    size = model.head_dim
    if size is None and model.hidden_size and model.num_heads:
        size = model.hidden_size // model.num_heads
    if heads is None or size is None:
        return None
    return float(per_stage * 2 * max(1, math.ceil(heads / tensor)) * size)


def kv_gib_per_token(model: Model, bits: float = 16, tensor: int = 1, pipeline: int = 1) -> float | None:
    """Key-value cache per token on one device, in GiB."""
    elements = kv_elements_per_token(model, tensor, pipeline)
    return None if elements is None else elements * bits / 8 / GIB


def context_tokens(workload: Workload) -> float:
    """Longest known request: the maxima, else the 99th percentiles, else the means."""
    total = 0.0
    for lengths in (workload.input_tokens, workload.output_tokens):
        if lengths is None:
            total += DEFAULT_CONTEXT_TOKENS / 2
            continue
        total += next(v for v in (lengths.max, lengths.p99, lengths.mean) if v is not None)
    return total


def _expert_share(model: Model) -> float:
    """Share of the parameters that sits in routed experts; zero for dense models."""
    sizes = (model.num_experts, model.moe_intermediate_size, model.hidden_size, model.num_layers)
    if model.params_b is None or any(size is None for size in sizes):
        return 0.0
    experts, inner, hidden, layers = (float(size or 0) for size in sizes)
    moe_layers = layers - float(model.first_k_dense or 0)
    return min(0.98, experts * 3 * inner * hidden * moe_layers / (model.params_b * 1e9))


def requirement(model: Model, method: Method, hardware: Hardware, workload: Workload) -> Requirement | None:
    """What a method needs on each device, or None where the model, format or memory is not known."""
    bits, cache_bits, memory = weight_bits(model, method), kv_bits(method), hardware.device.memory_gib
    if bits is None or cache_bits is None or memory is None:
        return None
    total = weights_gib(model, bits, whole=_is_gguf_method(method))
    if total is None:
        return None
    parallelism = method.get(Parallelism)
    tensor, pipeline, data = degrees(parallelism, None)
    weights = total / (tensor * pipeline)
    if parallelism is not None and parallelism.expert is not None and data > 1:
        share = _expert_share(model)
        weights = weights * (1 - share) + total * share / (tensor * pipeline * data)
    if model.modality in ("image", "video"):
        side = workload.height_px or model.default_resolution_px or 1024
        working = RUNTIME_GIB + 2.0 * (side / 1024) ** 2 * (workload.batch_size or 1)
        return Requirement(weights, 0.0, working, memory * USABLE_SHARE)
    per_token = kv_gib_per_token(model, cache_bits, tensor, pipeline)
    if per_token is None:
        return None
    working = RUNTIME_GIB + _activation_gib(model, step_tokens(method), tensor)
    return Requirement(weights, per_token * context_tokens(workload), working, memory * USABLE_SHARE)


def step_tokens(method: Method) -> int:
    """Tokens of one step: the chunk size, else the batching limit, else the common default of 8192."""
    chunk, batching = method.get(ChunkedPrefill), method.get(Batching)
    if chunk is not None and chunk.tokens is not None:
        return chunk.tokens
    if batching is not None and batching.max_tokens is not None:
        return batching.max_tokens
    return DEFAULT_STEP_TOKENS


def _activation_gib(model: Model, tokens: int, tensor: int) -> float:
    hidden = model.hidden_size or 4096
    inner = max(model.intermediate_size or 0, 2 * hidden)
    logits = (model.vocab_size or 0) * 256 * 4 / tensor
    return (tokens * (4 * hidden + 2 * inner / tensor) * 2 + logits) / GIB


def _is_gguf_method(method: Method) -> bool:
    quantized = next((t for t in method.techniques if t.kind == "weight_quantization"), None)
    return quantized is not None and is_gguf(quantized.format)
