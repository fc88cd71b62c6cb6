"""Setting = Model × Workload × Hardware: what is run, what is asked of it, and on what.

Numbers are `None` where the source does not say; nothing is filled in silently.
"""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from metainf.domain.base import Frozen

Modality = Literal["text", "multimodal", "image", "video", "audio"]
Share = Annotated[float, Field(ge=0, le=1)]


class Model(Frozen):
    """Architecture facts of a model. Parameters in billions (1e9), sizes in elements."""

    name: str = Field(min_length=1)
    modality: Modality = "text"
    family: str | None = None
    source: str | None = None
    params_b: PositiveFloat | None = None
    active_params_b: PositiveFloat | None = None
    num_layers: PositiveInt | None = None
    kv_layers: NonNegativeInt | None = None
    hidden_size: PositiveInt | None = None
    num_heads: PositiveInt | None = None
    num_kv_heads: PositiveInt | None = None
    head_dim: PositiveInt | None = None
    attention: str | None = None
    intermediate_size: PositiveInt | None = None
    vocab_size: PositiveInt | None = None
    max_position_embeddings: PositiveInt | None = None
    sliding_window: PositiveInt | None = None
    tie_embeddings: bool | None = None
    num_experts: PositiveInt | None = None
    experts_per_token: PositiveInt | None = None
    moe_intermediate_size: PositiveInt | None = None
    num_shared_experts: NonNegativeInt | None = None
    shared_expert_intermediate: NonNegativeInt | None = None
    first_k_dense: NonNegativeInt | None = None
    kv_lora_rank: PositiveInt | None = None
    q_lora_rank: PositiveInt | None = None
    qk_rope_head_dim: PositiveInt | None = None
    qk_nope_head_dim: PositiveInt | None = None
    v_head_dim: PositiveInt | None = None
    dtype: str | None = None
    quantization: str | None = None
    denoiser: str | None = None
    denoiser_params_b: PositiveFloat | None = None
    denoiser_tflop_per_step: PositiveFloat | None = None
    text_encoder_params_b: NonNegativeFloat | None = None
    vae_params_b: NonNegativeFloat | None = None
    default_resolution_px: PositiveInt | None = None
    default_steps: PositiveInt | None = None
    guidance_doubles: bool | None = None

    @model_validator(mode="after")
    def _active_within_total(self) -> "Model":
        total, active = self.params_b, self.active_params_b
        if total is not None and active is not None and active > total * 1.02:
            raise ValueError(f"active_params_b {active} exceeds params_b {total}")
        return self


class Lengths(Frozen):
    """Distribution of a token count over the requests of a workload."""

    mean: NonNegativeFloat
    std: NonNegativeFloat | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    p50: NonNegativeFloat | None = None
    p90: NonNegativeFloat | None = None
    p99: NonNegativeFloat | None = None
    max: NonNegativeFloat | None = None


class Workload(Frozen):
    """What is asked. Text work has token lengths; image and video work has pixels and steps.

    Load is `concurrency` (closed loop), `request_rate_per_s` (open loop) or `batch_size` (static);
    all may be absent, none may contradict another.
    """

    name: str | None = None
    input_tokens: Lengths | None = None
    output_tokens: Lengths | None = None
    concurrency: PositiveFloat | None = None
    request_rate_per_s: PositiveFloat | None = None
    batch_size: PositiveInt | None = None
    num_requests: PositiveInt | None = None
    prefix_share: Share | None = None
    interarrival_cv: NonNegativeFloat | None = None
    width_px: PositiveInt | None = None
    height_px: PositiveInt | None = None
    steps: PositiveInt | None = None
    frames: PositiveInt | None = None
    content: tuple[str, ...] | None = Field(default=None, max_length=8)

    @model_validator(mode="after")
    def _one_load(self) -> "Workload":
        if (
            self.concurrency is not None
            and self.request_rate_per_s is not None
            and self.batch_size is not None
        ):
            raise ValueError("concurrency, request_rate_per_s and batch_size contradict: give one or two")
        return self


class Device(Frozen):
    """One accelerator or CPU. Compute is dense (no structured sparsity), links are one direction.

    memory_gib is the capacity as sold (80 for an "80 GB" card); bandwidth is in 1e9 bytes/s.
    """

    name: str = Field(min_length=1)
    title: str | None = None
    vendor: str | None = None
    kind: Literal["gpu", "cpu", "tpu", "npu", "apu"] | None = None
    arch: str | None = None
    memory_gib: PositiveFloat | None = None
    memory_bandwidth_gb_per_s: PositiveFloat | None = None
    fp32_tflops: PositiveFloat | None = None
    fp16_tflops: PositiveFloat | None = None
    bf16_tflops: PositiveFloat | None = None
    fp8_tflops: PositiveFloat | None = None
    int8_tops: PositiveFloat | None = None
    fp4_tflops: PositiveFloat | None = None
    scaleup_gb_per_s: PositiveFloat | None = None
    host_link_gb_per_s: PositiveFloat | None = None
    tdp_w: PositiveFloat | None = None
    compute_capability: str | None = None
    release: str | None = None
    typical_per_node: PositiveInt | None = None
    source: str | None = None


class Hardware(Frozen):
    """Devices of one kind, joined. `count` is over all nodes; absent where the source does not say.
    `attestation` names a trusted execution environment that can prove what it runs; its owner's word."""

    device: Device
    count: PositiveInt | None = None
    nodes: PositiveInt | None = None
    platform: str | None = None
    attestation: str | None = None


class Setting(Frozen):
    """The fixed part of a decision."""

    model: Model
    workload: Workload
    hardware: Hardware
