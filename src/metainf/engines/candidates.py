"""Candidate methods shared by the serving engines: layouts × formats, then one change at a time.

A plain baseline is proposed for every layout and number format; the changes (speculation, cache format,
chunk size, batch limit) are tried on the two most promising baselines only, so the list stays short.
Methods that a row of the compatibility table calls conflicting or without effect are left out.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from metainf.domain import (
    BadInput,
    Batching,
    ChunkedPrefill,
    Device,
    Hardware,
    KvQuantization,
    Method,
    Model,
    Parallelism,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
    WeightQuantization,
    Workload,
)
from metainf.engines import memory
from metainf.engines.compatibility import check, is_hybrid
from metainf.engines.device_support import computes_bf16
from metainf.engines.drafts import eagle3_draft, has_mtp_head
from metainf.engines.formats import checkpoint_format

MAX_METHODS = 40
MAX_BASELINES = 24
ANY_WORKLOAD = Workload()


@dataclass(frozen=True)
class Choices:
    """What an engine lets the candidate list vary."""

    engine: str
    formats: Callable[[Model, Device], Sequence[WeightQuantization]]
    kv_formats: Callable[[Device], Sequence[str]]
    speculative: Sequence[str] = ()
    chunk_tokens: Sequence[int] = ()
    data_replicas: bool = True
    attention_data: bool = False
    layouts: Callable[[Model, Hardware], Sequence[Parallelism]] | None = field(default=None)


def device_count(hardware: Hardware) -> int:
    """Number of devices; BadInput where the hardware does not say."""
    if hardware.count is None:
        raise BadInput(f"expected a number of devices of {hardware.device.name}, found none: give a count")
    return hardware.count


def layouts(
    model: Model, hardware: Hardware, *, data: bool = True, attention_data: bool = False
) -> list[Parallelism]:
    """Ways to spread a model over all devices, tensor degrees that divide the heads, widest first.

    Tensor parallelism stays inside a node. Mixture-of-experts models get an expert-parallel variant.
    """
    count = device_count(hardware)
    node = (
        count // hardware.nodes if hardware.nodes else min(count, hardware.device.typical_per_node or count)
    )
    fits = [t for t in range(min(count, node), 0, -1) if count % t == 0 and _divides(t, model)]
    moe = (model.num_experts or 1) > 1
    found: list[Parallelism] = []
    for tensor in fits:
        rest = count // tensor
        if rest == 1:
            found.append(Parallelism(tensor=tensor))
        elif data:
            found.append(Parallelism(tensor=tensor, data=rest))
        if moe and count > 1 and (rest == 1 or data):
            found.append(Parallelism(tensor=tensor, data=rest if rest > 1 else None, expert=count))
    for tensor in fits:
        if (rest := count // tensor) > 1 and (model.num_layers or rest) >= rest:
            found.append(Parallelism(tensor=tensor, pipeline=rest))
    if moe and attention_data and count > 1 and count in fits:
        found.append(Parallelism(tensor=count, expert=count, attention_data=True))
    return found


def _divides(tensor: int, model: Model) -> bool:
    heads, kv_heads = model.num_heads, model.num_kv_heads
    if heads is not None and heads % tensor:
        return False
    if model.kv_lora_rank is not None or kv_heads is None:
        return True
    return kv_heads % tensor == 0 or tensor % kv_heads == 0


def proposals(choices: Choices, model: Model, hardware: Hardware, workload: Workload) -> list[Method]:
    """At most 40 distinct methods, those that fit in memory first."""
    spread = choices.layouts or (
        lambda m, h: layouts(m, h, data=choices.data_replicas, attention_data=choices.attention_data)
    )
    baselines = [
        _baseline(choices, layout, weights, hardware, workload, model)
        for weights in _weights(choices, model, hardware.device)
        for layout in spread(model, hardware)
    ]
    fits = [_fits(model, m, hardware, workload) for m in baselines]
    fitting = [m for m, good in zip(baselines, fits, strict=True) if good]
    hopeless = [m for m, good in zip(baselines, fits, strict=True) if not good]
    best = _one_per_format(fitting)[:2]
    changed = [m for base in best for m in _changes(choices, base, model, hardware, workload)]
    ordered = _spread_formats(fitting)[:MAX_BASELINES] + changed
    ordered += _one_per_format(hopeless)[: MAX_METHODS - len(ordered)] if not ordered else []
    return list(_sensible(ordered, model, hardware, workload))[:MAX_METHODS]


def _sensible(
    methods: Iterable[Method], model: Model, hardware: Hardware, workload: Workload
) -> Iterator[Method]:
    for method in dict.fromkeys(methods):
        if all(finding.effect == "harmful" for finding in check(method, model, workload, hardware)):
            yield method


def _weights(choices: Choices, model: Model, device: Device) -> list[WeightQuantization | Precision]:
    """The checkpoint as it is first, then what else the device and engine can run."""
    stored = checkpoint_format(model)
    formats = list(choices.formats(model, device))
    if stored is not None:
        same = [item for item in formats if item.format == stored]
        return list(same[:1]) if same else [WeightQuantization(format=stored)]
    plain = Precision(dtype="bf16" if computes_bf16(device) else "fp16")
    return [plain, *formats]


def _baseline(
    choices: Choices,
    layout: Parallelism,
    weights: WeightQuantization | Precision,
    hardware: Hardware,
    workload: Workload,
    model: Model,
) -> Method:
    techniques: list[Technique] = [layout, weights, Batching(max_sequences=batch_limit(workload))]
    if choices.chunk_tokens:
        roomy = (hardware.device.memory_gib or 0) >= 60
        techniques.append(ChunkedPrefill(tokens=choices.chunk_tokens[-1 if roomy else 0]))
    wanted = workload.prefix_share is None or workload.prefix_share > 0
    techniques.append(PrefixCache(enabled=wanted and not is_hybrid(model)))
    return Method(engine=choices.engine, techniques=tuple(techniques))


def batch_limit(workload: Workload) -> int:
    """Concurrent sequences to allow: the load rounded up to a power of two, 256 where it is unknown."""
    load = workload.concurrency or workload.batch_size
    return 256 if load is None else min(1024, max(8, 1 << (int(load) - 1).bit_length()))


def replaced(method: Method, technique: Technique) -> Method:
    """The method with one technique set or changed."""
    others = tuple(item for item in method.techniques if item.kind != technique.kind)
    return Method(engine=method.engine, engine_version=method.engine_version, techniques=(*others, technique))


def _changes(
    choices: Choices, base: Method, model: Model, hardware: Hardware, workload: Workload
) -> Iterator[Method]:
    for algorithm in choices.speculative:
        if algorithm == "ngram":
            yield replaced(base, Speculative(algorithm="ngram", tokens=4))
        elif algorithm == "eagle3" and (draft := eagle3_draft(model)) is not None:
            yield replaced(base, Speculative(algorithm="eagle3", tokens=3, draft_model=draft))
        elif algorithm == "mtp" and has_mtp_head(model):
            yield replaced(base, Speculative(algorithm="mtp", tokens=1))
    for name in choices.kv_formats(hardware.device):
        yield replaced(base, KvQuantization(format=name))
    chunk = base.get(ChunkedPrefill)
    for tokens in choices.chunk_tokens:
        if chunk is not None and tokens != chunk.tokens:
            yield replaced(base, ChunkedPrefill(tokens=tokens))
    limit = batch_limit(workload)
    for other in (limit // 4, limit * 2):
        if 8 <= other <= 1024:
            yield replaced(base, Batching(max_sequences=other))
    if workload.prefix_share is None:
        current = base.get(PrefixCache)
        yield replaced(base, PrefixCache(enabled=not (current is not None and current.enabled)))


def _fits(model: Model, method: Method, hardware: Hardware, workload: Workload) -> bool:
    need = memory.requirement(model, method, hardware, workload)
    return need is None or need.fits


def _format(method: Method) -> str:
    weights = method.get(WeightQuantization)
    return "" if weights is None else weights.format


def _one_per_format(methods: Sequence[Method]) -> list[Method]:
    first: dict[str, Method] = {}
    for method in methods:
        first.setdefault(_format(method), method)
    return list(first.values())


def _spread_formats(methods: Sequence[Method]) -> list[Method]:
    """Round robin over the formats, so that a cap never drops one format whole."""
    queues: dict[str, list[Method]] = {}
    for method in methods:
        queues.setdefault(_format(method), []).append(method)
    longest = max((len(queue) for queue in queues.values()), default=0)
    return [queue[i] for i in range(longest) for queue in queues.values() if i < len(queue)]
