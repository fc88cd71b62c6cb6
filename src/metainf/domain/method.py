"""Method = an engine and at most one setting of each technique (a tagged union)."""

from typing import Annotated, Literal, TypeVar

from pydantic import Field, PositiveInt, field_validator, model_validator

from metainf.domain.base import Frozen

T = TypeVar("T")


class Batching(Frozen):
    """How requests share a step. `tokens` bounds the tokens of one step."""

    kind: Literal["batching"] = "batching"
    mode: Literal["none", "static", "dynamic", "continuous"] = "continuous"
    max_sequences: PositiveInt | None = None
    max_tokens: PositiveInt | None = None


class ChunkedPrefill(Frozen):
    """Long prompts are prefilled in pieces of `tokens`, between the steps of running requests."""

    kind: Literal["chunked_prefill"] = "chunked_prefill"
    enabled: bool = True
    tokens: PositiveInt | None = None


class PrefixCache(Frozen):
    """Keys and values of a prompt's beginning are kept and reused (prompt caching)."""

    kind: Literal["prefix_cache"] = "prefix_cache"
    enabled: bool = True
    tier: Literal["device", "host", "remote"] | None = None


class Speculative(Frozen):
    """Speculative decoding: `algorithm` such as ngram, draft, eagle, eagle3, medusa, mtp, lookahead."""

    kind: Literal["speculative"] = "speculative"
    algorithm: str = Field(min_length=1)
    tokens: PositiveInt | None = None
    draft_model: str | None = None


class WeightQuantization(Frozen):
    """`format` is the engine's name (fp8, nvfp4, awq, gptq, int8dq, Q4_K_M ...)."""

    kind: Literal["weight_quantization"] = "weight_quantization"
    format: str = Field(min_length=1)
    bits: Annotated[float, Field(gt=0, le=32)] | None = None
    activation_bits: Annotated[float, Field(gt=0, le=32)] | None = None


class KvQuantization(Frozen):
    """The key-value cache is kept in a smaller number format."""

    kind: Literal["kv_quantization"] = "kv_quantization"
    format: str = Field(min_length=1)


class Precision(Frozen):
    """Number format of the arithmetic: fp32, tf32, fp16, bf16."""

    kind: Literal["precision"] = "precision"
    dtype: str = Field(min_length=1)


class Pool(Frozen):
    """Parallel layout of one role of a disaggregated deployment."""

    workers: PositiveInt | None = None
    tensor: PositiveInt | None = None
    expert: PositiveInt | None = None
    attention_data: bool | None = None


class Parallelism(Frozen):
    """Degrees; the product of tensor, pipeline and data is the number of devices used."""

    kind: Literal["parallelism"] = "parallelism"
    tensor: PositiveInt | None = None
    pipeline: PositiveInt | None = None
    expert: PositiveInt | None = None
    data: PositiveInt | None = None
    attention_data: bool | None = None
    sequence: str | None = None


class Disaggregation(Frozen):
    """Prefill and decode on separate workers."""

    kind: Literal["disaggregation"] = "disaggregation"
    prefill: Pool = Pool()
    decode: Pool = Pool()


class AttentionBackend(Frozen):
    """Which attention kernels run: flash attention, SDPA, xformers, a GPU backend ..."""

    kind: Literal["attention_backend"] = "attention_backend"
    name: str = Field(min_length=1)


class Compile(Frozen):
    """The model is compiled (torch.compile)."""

    kind: Literal["compile"] = "compile"
    enabled: bool = True


class FusedQkv(Frozen):
    """Query, key and value projections are one matrix product."""

    kind: Literal["fused_qkv"] = "fused_qkv"
    enabled: bool = True


class MemoryMode(Frozen):
    """Offloading and other ways to trade speed for memory (medvram, lowvram, cpu offload)."""

    kind: Literal["memory_mode"] = "memory_mode"
    name: str = Field(min_length=1)


class DistilledModel(Frozen):
    """A smaller model, trained on the outputs of the one that was asked for, draws in its place."""

    kind: Literal["distilled_model"] = "distilled_model"
    model: str = Field(min_length=1)


class Schedule(Frozen):
    """How a diffusion model comes from noise to a picture: by which solver (`ddim`, `lcm`, `turbo` ...), in
    how many denoising `steps` where not those of the workload, and whether each step has a second, unguided
    pass (`guided`; few-step students need none)."""

    kind: Literal["schedule"] = "schedule"
    name: str | None = None
    steps: PositiveInt | None = None
    guided: bool | None = None


class Autoencoder(Frozen):
    """Pictures are decoded by another autoencoder: `tiny` is one that was distilled from the model's own."""

    kind: Literal["autoencoder"] = "autoencoder"
    name: str = Field(min_length=1)


class MemoryFormat(Frozen):
    """The order of pictures' elements in memory, such as channels_last."""

    kind: Literal["memory_format"] = "memory_format"
    name: str = Field(min_length=1)


class Flags(Frozen):
    """Engine flags that no technique above names, kept word for word."""

    kind: Literal["flags"] = "flags"
    values: tuple[str, ...] = Field(min_length=1)


Technique = Annotated[
    Batching
    | ChunkedPrefill
    | PrefixCache
    | Speculative
    | WeightQuantization
    | KvQuantization
    | Precision
    | Parallelism
    | Disaggregation
    | AttentionBackend
    | Compile
    | FusedQkv
    | MemoryMode
    | DistilledModel
    | Schedule
    | Autoencoder
    | MemoryFormat
    | Flags,
    Field(discriminator="kind"),
]


class Method(Frozen):
    """An engine with its techniques. The order in which techniques are given does not change the id."""

    engine: str = Field(min_length=1)
    engine_version: str | None = None
    techniques: tuple[Technique, ...] = ()

    @field_validator("techniques")
    @classmethod
    def _sorted(cls, value: tuple[Technique, ...]) -> tuple[Technique, ...]:
        return tuple(sorted(value, key=lambda technique: technique.kind))

    @model_validator(mode="after")
    def _at_most_one_of_each(self) -> "Method":
        kinds = [technique.kind for technique in self.techniques]
        twice = sorted({kind for kind in kinds if kinds.count(kind) > 1})
        if twice:
            raise ValueError(f"more than one setting of {', '.join(twice)}")
        return self

    def get(self, technique: type[T]) -> T | None:
        """The setting of one technique, or None where the method does not name it."""
        for item in self.techniques:
            if isinstance(item, technique):
                return item
        return None
