"""What an engine says that it did, read from its own metrics and log, and what that proves of a method.

Every engine that can be measured reads its own words into an `Evidence`; a technique that was asked for
and does not show in it was not measured.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from metainf.domain import (
    AttentionBackend,
    Batching,
    ChunkedPrefill,
    KvQuantization,
    Method,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    WeightQuantization,
)
from metainf.engines.evidence_drawn import DRAWING, quantized
from metainf.engines.formats import canonical, is_gguf

UNQUANTIZED = "unquantized"  # a weight format: the engine says that there is no quantization
_ALGORITHMS = {"draft_model": "draft", "ngram-simple": "ngram", "nextn": "mtp"}
_LOOKS_UP = ("ngram", "prompt_lookup")
"""These draft what stood in the text before, so that a text without repeats gives them nothing to draft."""
_KERNELS = {"on": "flash", "flash_attention": "flash", "flash_attn": "flash", "off": "none", "eager": "none"}
_DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "f16": "fp16",
    "float32": "fp32",
    "f32": "fp32",
}
_PLAIN_CACHE = ("auto", "fp16", "bf16", "fp32")
_CONTAINERS = {"compressed_tensors": ("int8", "w8a8", "fp8", "nvfp4"), "w8a8_int8": ("int8", "w8a8")}


@dataclass(frozen=True)
class Reading:
    """Texts from a running engine: its log, and its metrics before and after the timed requests. `recent` is
    what it logged since `before`, None where that is not known."""

    log: str = ""
    before: str = ""
    after: str = ""
    recent: str | None = None

    @property
    def events(self) -> str:
        """The log in which to look for what happened; settings are told at the start of all of it."""
        return self.log if self.recent is None else self.recent


@dataclass(frozen=True)
class Evidence:
    """The engine's own account of the timed requests; None where it does not say.

    `continuous`     requests joined a running batch (False: they waited until it was done)
    `peak_running`, `mean_running`  requests in the engine at once
    `step_tokens`    most tokens of one prefill step; `context_tokens` is all that the engine can hold
    `prompt_tokens`  of the timed requests, those found in the cache (`prefix_hit_tokens`) included
    `draft_steps`    steps that verified drafts, counted once for each request in them
    `speculative`    our name of the algorithm; `none` where the engine says that it runs none
    `fused_qkv`      share of the attention layers whose projections are one; `denoiser_share` the parameters
                     that remove noise over those of the model that was asked for; `student_share` the same
                     over those that the named student is known to have; `denoiser_changed` whether their
                     weights are others than those of the model that was asked for; `drawn_steps` per batch
    """

    version: str | None = None
    max_sequences: int | None = None
    continuous: bool | None = None
    peak_running: float | None = None
    mean_running: float | None = None
    step_tokens: int | None = None
    context_tokens: int | None = None
    chunked_prefill: bool | None = None
    prefix_cache: bool | None = None
    prompt_tokens: float | None = None
    prefix_hit_tokens: float | None = None
    speculative: str | None = None
    draft_steps: float | None = None
    drafted_tokens: float | None = None
    accepted_tokens: float | None = None
    weight_format: str | None = None
    kv_format: str | None = None
    attention: str | None = None
    precision: str | None = None
    tensor: int | None = None
    pipeline: int | None = None
    quantized_layers: int | None = None
    integer_kernels: bool | None = None
    compiled: bool | None = None
    fused_qkv: float | None = None
    memory_format: str | None = None
    denoiser_share: float | None = None
    student_share: float | None = None
    denoiser_changed: bool | None = None
    drawn_steps: float | None = None
    scheduler: str | None = None
    autoencoder: str | None = None

    @property
    def hit_rate(self) -> float | None:
        """Share of the prompt tokens that came from the prefix cache."""
        if not self.prompt_tokens or self.prefix_hit_tokens is None:
            return None
        return self.prefix_hit_tokens / self.prompt_tokens

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that were accepted."""
        if not self.drafted_tokens or self.accepted_tokens is None:
            return None
        return self.accepted_tokens / self.drafted_tokens

    @property
    def tokens_per_step(self) -> float | None:
        """Tokens that a request gained by a step which verified drafts, that of the step itself included."""
        if not self.draft_steps or self.accepted_tokens is None:
            return None
        return 1 + self.accepted_tokens / self.draft_steps


def contradictions(method: Method, evidence: Evidence) -> tuple[str, ...]:
    """One sentence for each technique that the engine's own account gainsays.

    That is one asked for and not there, one there and not asked for, or one of another size or format. What
    the engine does not tell contradicts nothing: see `unproven`.
    """
    found = [said for item in method.techniques for said in _judged(item, evidence)[0]]
    running, drafted = evidence.speculative, evidence.drafted_tokens
    if method.get(Speculative) is None and (drafted or running not in (None, "none")):
        count = "" if drafted is None else f" and drafted {drafted:.0f} tokens"
        found.append(f"speculative was not asked for, but the engine runs {running or 'it'}{count}")
    if method.get(KvQuantization) is None and evidence.kv_format is not None:
        kept = _dtype(evidence.kv_format)
        if kept not in _PLAIN_CACHE:
            found.append(f"kv_quantization was not asked for, but the cache is kept in {kept}")
    return tuple(found)


def unproven(method: Method, evidence: Evidence) -> tuple[str, ...]:
    """The kinds of techniques, such as `prefix_cache`, of whose working the engine gives no sign."""
    kinds = []
    for item in method.techniques:
        said, proven = _judged(item, evidence)
        if not proven and not said:
            kinds.append(item.kind)
    return tuple(kinds)


Verdict = tuple[list[str], bool]  # what contradicts, and whether the evidence shows the technique at work


def _judged(item: Any, evidence: Evidence) -> Verdict:
    judge = _JUDGES.get(type(item))
    return judge(item, evidence) if judge is not None else ([], False)


def _batching(asked: Batching, seen: Evidence) -> Verdict:
    said = []
    bound = 1 if asked.mode == "none" else asked.max_sequences
    if bound is not None and seen.max_sequences is not None and seen.max_sequences != bound:
        said.append(f"batching of at most {bound} was asked for, the engine takes {seen.max_sequences}")
    if bound is not None and (seen.peak_running or 0) > bound:
        said.append(
            f"batching of at most {bound} was asked for, {seen.peak_running:.0f} requests ran at once"
        )
    if asked.mode == "continuous" and bound != 1 and seen.continuous is False:
        said.append("continuous batching was asked for, but requests waited until a batch was done")
    if asked.mode == "static" and seen.continuous:
        said.append("static batching was asked for, but requests joined a running batch")
    together = max(seen.peak_running or 0, seen.mean_running or 0) > 1
    if bound == 1:
        return said, seen.max_sequences == 1 or seen.peak_running == 1
    return said, seen.continuous is False if asked.mode == "static" else together or bool(seen.continuous)


def _chunked(asked: ChunkedPrefill, seen: Evidence) -> Verdict:
    said = []
    if seen.chunked_prefill is not None and seen.chunked_prefill != asked.enabled:
        said.append(
            f"chunked_prefill was asked {_on(asked.enabled)}, the engine has it {_on(not asked.enabled)}"
        )
    taken = seen.step_tokens  # an engine takes no more than its context, which some round up
    if asked.enabled and asked.tokens and taken is not None and taken != asked.tokens:
        shortened = taken < asked.tokens and seen.context_tokens in range(taken, asked.tokens + 1)
        if not shortened:
            said.append(f"chunks of {asked.tokens} tokens were asked for, the engine takes {taken}")
    return said, seen.step_tokens is not None if asked.tokens else seen.chunked_prefill is not None


def _prefixes(asked: PrefixCache, seen: Evidence) -> Verdict:
    hits = seen.prefix_hit_tokens
    if not asked.enabled:
        if hits:
            return [f"prefix_cache was asked off, but {hits:.0f} prompt tokens came from it"], False
        said = ["prefix_cache was asked off, the engine has it on"] if seen.prefix_cache else []
        return said, hits is not None or seen.prefix_cache is False
    said = ["prefix_cache was asked on, the engine has it off"] if seen.prefix_cache is False else []
    return said, bool(hits) or bool(seen.prefix_cache)


def _speculative(asked: Speculative, seen: Evidence) -> Verdict:
    name = asked.algorithm.lower()
    wanted, found = _ALGORITHMS.get(name, name), seen.speculative
    if found is not None and _ALGORITHMS.get(found.lower(), found.lower()) != wanted:
        return [f"speculative {wanted} was asked for, the engine runs {found}"], False
    if seen.drafted_tokens == 0 and wanted not in _LOOKS_UP:
        return [f"speculative {wanted} was asked for, but no token was drafted"], False
    return [], found is not None or bool(seen.drafted_tokens)


def _weights(asked: WeightQuantization, seen: Evidence) -> Verdict:
    found = seen.weight_format
    if found is None:
        return quantized(asked, seen)
    held, wanted = canonical(found), canonical(asked.format)
    same = held == wanted or wanted in _CONTAINERS.get(held, ()) or (held == "gguf" and is_gguf(asked.format))
    return ([] if same else [f"weights in {asked.format} were asked for, the engine loaded {found}"]), same


def _cache(asked: KvQuantization, seen: Evidence) -> Verdict:
    if seen.kv_format is None:
        return [], False
    same = canonical(seen.kv_format) == canonical(asked.format)
    said = [] if same else [f"a cache in {asked.format} was asked for, the engine keeps {seen.kv_format}"]
    return said, same


def _precision(asked: Precision, seen: Evidence) -> Verdict:
    if seen.precision is None or _dtype(asked.dtype) == "auto":
        return [], False
    same = _dtype(seen.precision) == _dtype(asked.dtype)
    return ([] if same else [f"{asked.dtype} was asked for, the engine computes in {seen.precision}"]), same


def _attention(asked: AttentionBackend, seen: Evidence) -> Verdict:
    if seen.attention is None or asked.name.lower() == "auto":
        return [], False
    wanted, found = _kernel(asked.name), _kernel(seen.attention)
    said = (
        [] if wanted == found else [f"attention {asked.name} was asked for, the engine runs {seen.attention}"]
    )
    return said, wanted == found


def _layout(asked: Parallelism, seen: Evidence) -> Verdict:
    degrees = {"tensor": (asked.tensor, seen.tensor), "pipeline": (asked.pipeline, seen.pipeline)}
    said = [
        f"{name} degree {wanted} was asked for, the engine runs {found}"
        for name, (wanted, found) in degrees.items()
        if wanted is not None and found is not None and wanted != found
    ]
    others = (asked.expert or 1) * (asked.data or 1)
    return said, others == 1 and all(f is not None for wanted, f in degrees.values() if wanted is not None)


def _on(enabled: bool) -> str:
    return "on" if enabled else "off"


def _dtype(name: str) -> str:
    plain = name.lower().removeprefix("torch.")
    return _DTYPES.get(plain, plain)


def _kernel(name: str) -> str:
    return _KERNELS.get(name.lower(), name.lower())


_JUDGES: Mapping[type, Callable[[Any, Evidence], Verdict]] = {
    Batching: _batching,
    ChunkedPrefill: _chunked,
    PrefixCache: _prefixes,
    Speculative: _speculative,
    WeightQuantization: _weights,
    KvQuantization: _cache,
    Precision: _precision,
    AttentionBackend: _attention,
    Parallelism: _layout,
    **DRAWING,
}
