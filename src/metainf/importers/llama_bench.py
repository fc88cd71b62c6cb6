"""llama-bench of llama.cpp: JSON, JSON lines and CSV, columns of 2023 to 2026.

A row is one test: n_prompt only (prompt processing), n_gen only (generation), or both. avg_ts is tokens per
second of that test over all its tokens; one sequence at a time. CSV booleans are 0/1, all cells are text.
build_number counts commits, so it is 0 or 1 of a tree without its history: then the commit names the build.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Batching,
    Flags,
    KvQuantization,
    Lengths,
    Metrics,
    Precision,
    Technique,
    Workload,
)
from metainf.importers.context import weights
from metainf.importers.fields import number, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample, text_of

KEYS = {"build_commit", "model_filename", "n_prompt", "n_gen", "avg_ts"}
QUANT = re.compile(r"[-._]((?:UD-|i1-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32))$", re.IGNORECASE)
NAMELESS = {"ggml-model", "model"}
FLAGS = ("n_ubatch", "n_threads", "n_gpu_layers", "n_cpu_moe", "split_mode", "no_kv_offload", "tensor_split")
ON = {"1", "true", "on"}
BOOL = {"True": "1", "False": "0"}
SIXTEEN = {"f16": "fp16", "bf16": "bf16", "f32": "fp32"}


class LlamaBench(RunImporter):
    name = "llama-bench"

    def matches(self, sample: Sample) -> bool:
        if sample.objects:
            return sample.first.keys() >= KEYS
        return set(sample.first_line.replace('"', "").split(",")) >= KEYS

    def runs(self, path: Path) -> Iterator[Any]:
        if Sample(path).objects:
            yield from super().runs(path)
            return
        lines = (line for line in text_of(path).splitlines() if line.strip())
        try:
            yield from csv.DictReader(lines, restkey="beyond", strict=True)
        except csv.Error as error:
            raise BadInput(f"{path}: expected CSV, broken off or wrong ({error})") from None

    def run(self, raw: Any) -> Run:
        if "beyond" in raw:
            named = len(raw) - 1
            raise BadInput(f"expected {named} cells as the header names, found {named + len(raw['beyond'])}")
        short = [str(key) for key in (*KEYS, *raw) if raw.get(key) is None]
        if short:
            raise BadInput(f"expected a llama-bench row, found no {', '.join(sorted(set(short)))}")
        name, quant = _model(raw)
        build = word(raw, "build_number")
        hardware, count = _hardware(raw)
        metrics, workload, derived = _test(raw)
        return Run(
            metrics=metrics,
            derived=derived,
            workload=workload,
            model=name,
            params_b=number(raw, "model_n_params", 1e-9),
            hardware=hardware,
            count=count,
            engine="llama.cpp",
            engine_version=f"b{build}" if build and build not in ("0", "1") else word(raw, "build_commit"),
            techniques=tuple(_techniques(raw, quant)),
            date=(word(raw, "test_time") or "")[:10] or None,
        )


def _test(raw: Any) -> tuple[Metrics, Workload, tuple[str, ...] | None]:
    """What avg_ts stands for depends on which of prompt and generation the test has."""
    speed, time_s = number(raw, "avg_ts"), number(raw, "avg_ns", 1e-9)
    if speed is None:
        raise BadInput("avg_ts: expected tokens per second, found nothing")
    prompt, output, depth = (whole(raw, key) or 0 for key in ("n_prompt", "n_gen", "n_depth"))
    if prompt and output:
        kind, metrics = "pp+tg", Metrics(total_tokens_per_s=speed, e2e_s=time_s)
    elif prompt:
        kind, metrics = "pp", Metrics(prefill_tokens_per_s=speed, e2e_s=time_s)
    elif output:
        kind, metrics = "tg", Metrics(output_tokens_per_s=speed, tpot_s=1 / speed, e2e_s=time_s)
    else:
        raise BadInput("n_prompt and n_gen: expected at least one token, found none")
    workload = Workload(
        name=f"llama-bench:{kind}" + (f"@d{depth}" if depth else ""),
        input_tokens=Lengths(mean=prompt),
        output_tokens=Lengths(mean=output),
        batch_size=1,
    )
    return metrics, workload, ("tpot_s",) if kind == "tg" else None


def _model(raw: Any) -> tuple[str, str | None]:
    """Model name and quantization of "models/Qwen2.5-7B-Instruct-Q4_K_M.gguf"."""
    stem = re.split(r"[\\/]", str(raw["model_filename"]))[-1].removesuffix(".gguf")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    match = QUANT.search(stem)
    quant = re.sub(r"^I1-", "i1-", match[1].upper()) if match else None
    name = stem[: match.start()] if match else stem
    if name.lower() in NAMELESS:
        name = re.sub(r"\s(mostly\s)?I?(Q\d|F16|BF16|F32).*$", "", word(raw, "model_type") or name)
    return name, quant


def _hardware(raw: Any) -> tuple[str | None, int | None]:
    """The GPUs, or the CPU where no layer was offloaded."""
    gpus = [gpu.strip() for gpu in (word(raw, "gpu_info") or "").split(",") if gpu.strip()]
    if not gpus or word(raw, "n_gpu_layers") == "0" or word(raw, "backends") == "CPU":
        return word(raw, "cpu_info"), 1
    if len(set(gpus)) > 1:
        raise BadInput(f"gpu_info: expected devices of one kind, found {', '.join(gpus)}")
    return gpus[0], len(gpus)


def _techniques(raw: Any, quant: str | None) -> Iterator[Technique]:
    bound = whole(raw, "n_batch")
    yield Batching(mode="none", max_tokens=bound)
    if quant and quant.lower() in SIXTEEN:
        yield Precision(dtype=SIXTEEN[quant.lower()])
    elif quant:
        yield weights(quant)
    kinds = [word(raw, key) for key in ("type_k", "type_v")]
    if any(kind and kind != "f16" for kind in kinds):
        yield KvQuantization(format="/".join(dict.fromkeys(kind for kind in kinds if kind)))
    older = [key for key in ("cuda", "metal", "vulkan", "opencl", "sycl") if _on(raw, key)]
    backend = (word(raw, "backends") or "+".join(older) or "cpu").lower()
    yield AttentionBackend(name=backend + ("+fa" if _on(raw, "flash_attn") else ""))
    flags = tuple(f"{key}={BOOL.get(value, value)}" for key in FLAGS if (value := word(raw, key)) is not None)
    if flags:
        yield Flags(values=flags)


def _on(raw: Any, key: str) -> bool:
    return (word(raw, key) or "").lower() in ON
