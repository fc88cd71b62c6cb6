"""optimum-benchmark 0.6 `benchmark.json` (config and report) or `benchmark_report.json` (report alone).

Seconds, MB (1e6 bytes), energy in kWh. Text: prefill, decode, per_token; diffusion: call, per_step. Any block
may be null. decode counts batch x (new tokens - 1) tokens.
"""

from typing import Any

from metainf.domain import (
    AttentionBackend,
    BadInput,
    Compile,
    Lengths,
    Precision,
    Technique,
    Workload,
)
from metainf.importers.context import weights
from metainf.importers.fields import at, block, number, some_metrics, spread, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

PARTS = {"load_model", "load", "prefill", "decode", "per_token", "call", "per_step", "generate", "forward"}
GIB_PER_MB = 1e6 / 2**30
JOULES_PER_KWH = 3.6e6
DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


class OptimumBenchmark(RunImporter):
    name = "optimum-benchmark"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        if not isinstance(raw, dict):
            return False
        report = raw.get("report", raw)
        return isinstance(report, dict) and any(
            isinstance(part, dict) and "latency" in part and "throughput" in part
            for part in (report.get(name) for name in PARTS)
        )

    def run(self, raw: Any) -> Run:
        report = block(raw, "report") or raw
        config = block(raw, "config")
        for name in PARTS & report.keys():
            unit = word(report, f"{name}.latency.unit")
            if unit not in (None, "s"):
                raise BadInput(f"{name}.latency.unit: expected s, found {unit!r}")
        version = word(config, "environment.optimum_benchmark_version")
        image = bool(block(report, "per_step")) or (
            bool(block(report, "call")) and not block(report, "decode")
        )
        return Run(
            metrics=some_metrics(_metrics(report)),
            modality="image" if image else "text",
            workload=_workload(config),
            model=word(config, "backend.model"),
            hardware=_hardware(config),
            count=_devices(config),
            engine=word(config, "backend.name"),
            engine_version=word(config, "backend.version"),
            techniques=tuple(_techniques(config)),
            tool=f"optimum-benchmark {version}" if version else None,
        )


def _metrics(report: Any) -> dict[str, float | None]:
    whole_call = "generate" if block(report, "generate.latency") else "call"
    if not block(report, f"{whole_call}.latency"):
        whole_call = "forward"
    steps = number(report, "per_step.latency.mean")
    memory = [
        number(report, f"{part}.memory.{kind}", GIB_PER_MB)
        for kind in ("max_global_vram", "max_ram")
        for part in ("decode", "prefill", "generate", "call", "forward")
    ]
    images = word(report, "call.throughput.unit") == "images/s"
    energy = number(report, f"{whole_call}.energy.total", JOULES_PER_KWH)
    return {
        "output_tokens_per_s": number(report, "decode.throughput.value"),
        "images_per_s": number(report, "call.throughput.value") if images else None,
        "steps_per_s": None if steps is None else 1 / steps,
        **spread("ttft", report, "prefill.latency"),
        **spread("tpot", report, "per_token.latency"),
        **spread("e2e", report, f"{whole_call}.latency"),
        "memory_gib": next((value for value in memory if value is not None), None),
        "energy_j_per_request": energy,
    }


def _workload(config: Any) -> Workload:
    shapes = block(config, "scenario.input_shapes")
    inside = whole(shapes, "sequence_length")
    outside = whole(config, "scenario.generate_kwargs.max_new_tokens")
    return Workload(
        input_tokens=None if inside is None else Lengths(mean=inside),
        output_tokens=None if outside is None else Lengths(mean=outside),
        batch_size=whole(shapes, "batch_size"),
        width_px=whole(config, "scenario.call_kwargs.width"),
        height_px=whole(config, "scenario.call_kwargs.height"),
        steps=whole(config, "scenario.call_kwargs.num_inference_steps"),
    )


def _hardware(config: Any) -> str | None:
    if word(config, "backend.device") == "cpu":
        return word(config, "environment.cpu")
    gpus = at(config, "environment.gpu")
    if isinstance(gpus, list):
        if len(set(map(str, gpus))) > 1:
            raise BadInput(f"environment.gpu: expected devices of one kind, found {gpus}")
        return str(gpus[0]) if gpus else None
    return word(config, "environment.gpu")


def _devices(config: Any) -> int | None:
    ids = word(config, "backend.device_ids")
    if word(config, "backend.device") == "cpu":
        return 1
    return len(ids.split(",")) if ids else whole(config, "environment.gpu_count")


def _techniques(config: Any) -> list[Technique]:
    backend = block(config, "backend")
    out: list[Technique] = []
    dtype, scheme = word(backend, "torch_dtype"), word(backend, "quantization_scheme")
    if dtype in DTYPES:
        out.append(Precision(dtype=DTYPES[dtype]))
    if scheme:
        out.append(weights(scheme))
    if isinstance(at(backend, "torch_compile"), bool):
        out.append(Compile(enabled=bool(at(backend, "torch_compile"))))
    attention = word(backend, "attn_implementation")
    if attention:
        out.append(AttentionBackend(name=attention))
    return out
