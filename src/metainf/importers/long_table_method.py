"""Technique columns of the long table -> Method. Nothing that tells two methods apart is lost."""

import re
from collections.abc import Iterator, Mapping

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Batching,
    ChunkedPrefill,
    Compile,
    Disaggregation,
    Flags,
    FusedQkv,
    KvQuantization,
    MemoryMode,
    Method,
    Parallelism,
    Pool,
    Precision,
    PrefixCache,
    Speculative,
    Technique,
)
from metainf.importers.context import weights

Row = Mapping[str, object]

COLUMNS = (
    *("engine", "engine_version", "precision", "quant", "kv_dtype", "tp", "pp", "ep", "dp", "sp", "disagg"),
    *("spec_decode", "prefix_cache", "chunked_prefill", "attention_backend", "batching", "torch_compile"),
    *("fused_qkv", "kv_cache", "memory_mode", "other_method", "attention_data"),
)
DTYPES = {
    "fp32": "fp32",
    "float32": "fp32",
    "f32": "fp32",
    "tf32": "tf32",
    "fp16": "fp16",
    "float16": "fp16",
    "f16": "fp16",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16/bf16": "fp16/bf16",
}
"""Number formats that are arithmetic, not weight quantization. "fp16/bf16": the source says 16 bit only."""
FORMATS = {
    "gguf (q4_k_m)": ("Q4_K_M", None),
    "gptq (int4)": ("gptq", 4.0),
    "gptq (int8)": ("gptq", 8.0),
    "gptq-marlin (int4)": ("gptq_marlin", 4.0),
    "gptq marlin (int8)": ("gptq_marlin", 8.0),
    "gptq marlin": ("gptq_marlin", None),
    "awq marlin": ("awq_marlin", None),
    "awq-gemm": ("awq_gemm", None),
    "awq-gemv": ("awq_gemv", None),
    "int4-w4a16": ("w4a16", 4.0),
    "fp8 static": ("fp8_static", 8.0),
    "fp8 dynamic": ("fp8_dynamic", 8.0),
}
"""Names of formats as pages write them -> the engine's name and, where the page says it, the bits."""
UNSAID = {"unknown", "none", "", "nan"}
POOL = r"(?P<{0}w>nan|[\d.]+)xtp(?P<{0}t>nan|[\d.]+)ep(?P<{0}e>nan|[\d.]+)dpa(?P<{0}d>nan|[\d.]+)"
POOLS = re.compile(f"P{POOL.format('p')}/D{POOL.format('d')}")
WORKERS = re.compile(r"P(\d+)D(\d+)")


def method_of(row: Row) -> Method:
    """The method that a row's columns describe. BadInput names the column that cannot be understood."""
    engine = text(row, "engine")
    if engine is None:
        raise BadInput("engine: expected a name, found nothing")
    parts: list[Technique] = [*_numbers(row), *_parallel(row), *_serving(row), *_kernels(row)]
    pools, flags = _disaggregated(row)
    if pools is not None:
        parts.append(pools)
    speculative, more = _speculative(text(row, "spec_decode"))
    if speculative is not None:
        parts.append(speculative)
    kv_cache = text(row, "kv_cache")
    values = (*((f"kv_cache={kv_cache}",) if kv_cache else ()), *flags, *more)
    if values:
        parts.append(Flags(values=values))
    return Method(engine=engine, engine_version=text(row, "engine_version"), techniques=tuple(parts))


def text(row: Row, column: str) -> str | None:
    """A text cell without surrounding blanks; None where nothing is said."""
    value = row.get(column)
    if value is None or value != value:
        return None
    return str(value).strip() or None


def count(row: Row, column: str) -> int | None:
    """A whole number of at least 1. Nothing and 0 (how sources write "not said") give None."""
    value = row.get(column)
    if value is None:
        return None
    if not isinstance(value, int | float) or value != value or value < 0 or value % 1:
        raise BadInput(f"{column}: expected a whole number of at least 1, found {value!r}")
    return int(value) or None


def switch(row: Row, column: str) -> bool | None:
    """True, False or not said."""
    said = text(row, column)
    if said is None:
        return None
    known = {"true": True, "on": True, "1": True, "1.0": True, "false": False, "off": False}
    known |= {"0": False, "0.0": False}
    if said.lower() not in known:
        raise BadInput(f"{column}: expected on or off, found {said!r}")
    return known[said.lower()]


def _numbers(row: Row) -> Iterator[Technique]:
    precision, quant = text(row, "precision"), text(row, "quant")
    dtypes = [DTYPES[word.lower()] for word in (quant, precision) if word and word.lower() in DTYPES]
    if dtypes:
        yield Precision(dtype=dtypes[0])
    formats = [w for w in (quant, precision) if w and w.lower() not in DTYPES and w.lower() not in UNSAID]
    if formats:
        name, bits = FORMATS.get(formats[0].lower(), (formats[0], None))
        found = weights(name, bits)
        narrow = re.fullmatch(r"(?:int|fp)(\d+)", (precision or "").lower())
        yield found if found.bits or not narrow else found.model_copy(update={"bits": float(narrow[1])})
    kv_dtype = text(row, "kv_dtype")
    if kv_dtype:
        yield KvQuantization(format=kv_dtype)


def _parallel(row: Row) -> Iterator[Technique]:
    degrees = Parallelism(
        tensor=count(row, "tp"),
        pipeline=count(row, "pp"),
        expert=count(row, "ep"),
        data=count(row, "dp"),
        attention_data=switch(row, "attention_data"),
        sequence=text(row, "sp"),
    )
    if degrees != Parallelism():
        yield degrees


def _serving(row: Row) -> Iterator[Technique]:
    batching = text(row, "batching")
    if batching == "continuous":
        yield Batching(mode="continuous")
    elif batching is not None:
        bound = re.fullmatch(r"(?:n_batch=|b)(\d+)", batching)
        if bound is None:
            raise BadInput(f"batching: expected continuous, n_batch=N or bN, found {batching!r}")
        yield Batching(mode="none", max_tokens=int(bound[1]))  # llama-bench -b: one sequence
    prefix_cache = switch(row, "prefix_cache")
    if prefix_cache is not None:
        yield PrefixCache(enabled=prefix_cache)
    chunked = text(row, "chunked_prefill")
    if chunked is not None:
        said = re.fullmatch(r"(on|off)(?::(default|\d+))?", chunked)
        if said is None:
            raise BadInput(f"chunked_prefill: expected on:TOKENS, on:default or off, found {chunked!r}")
        tokens = int(said[2]) if said[2] and said[2] != "default" else None
        yield ChunkedPrefill(enabled=said[1] == "on", tokens=tokens)


def _kernels(row: Row) -> Iterator[Technique]:
    backend = text(row, "attention_backend")
    if backend:
        yield AttentionBackend(name=backend)
    compiled, fused = switch(row, "torch_compile"), switch(row, "fused_qkv")
    if compiled is not None:
        yield Compile(enabled=compiled)
    if fused is not None:
        yield FusedQkv(enabled=fused)
    memory_mode = text(row, "memory_mode")
    if memory_mode and memory_mode != "none":
        yield MemoryMode(name=memory_mode)


def _disaggregated(row: Row) -> tuple[Disaggregation | None, tuple[str, ...]]:
    """Pools and the rest of other_method."""
    other = text(row, "other_method")
    if not switch(row, "disagg"):
        return None, _flags(other)
    match = POOLS.fullmatch(other or "")
    if match:
        prefill, decode = (_pool(*[match[f"{role}{letter}"] for letter in "wted"]) for role in "pd")
        return Disaggregation(prefill=prefill, decode=decode), ()
    workers = WORKERS.fullmatch(other or "")
    if workers:
        pools = [Pool(workers=int(number)) for number in workers.groups()]
        return Disaggregation(prefill=pools[0], decode=pools[1]), ()
    return Disaggregation(), _flags(other)


def _pool(workers: str, tensor: str, expert: str, attention: str) -> Pool:
    """One role. The table writes attention data parallelism as its degree beside the tensor degree of each
    attention group; their product is the devices of one worker, which is what `Pool.tensor` counts.
    """
    group, degree = _positive(tensor), _positive(attention)
    return Pool(
        workers=_positive(workers),
        tensor=group if group is None or degree is None else group * degree,
        expert=_positive(expert),
        attention_data=None if degree is None else degree > 1,
    )


def _positive(written: str) -> int | None:
    return None if written == "nan" or float(written) == 0 else int(float(written))


def _flags(other: str | None) -> tuple[str, ...]:
    """Command-line flags one by one; other text as one value."""
    if other is None:
        return ()
    if not other.startswith("--"):
        return (other,)
    return tuple(f"--{part.strip()}" for part in re.split(r"(?:^|\s)--", other) if part.strip())


def _speculative(said: str | None) -> tuple[Speculative | None, tuple[str, ...]]:
    """Algorithm, draft tokens and draft model; engine flags that remain."""
    if said is None:
        return None, ()
    if said.lower() == "none":
        return None, ("spec_decode=none",)
    if said.startswith("draft:"):
        _, model, tokens = said.split(":", 2)
        return Speculative(algorithm="draft", draft_model=model, tokens=int(float(tokens))), ()
    algorithm, *flags = said.split(",")
    tokens_flag = "speculative-num-draft-tokens="
    tokens_said = next((int(f.removeprefix(tokens_flag)) for f in flags if f.startswith(tokens_flag)), None)
    rest = tuple(f"--{flag}" for flag in flags if not flag.startswith(tokens_flag))
    return Speculative(algorithm=algorithm.lower(), tokens=tokens_said), rest
