"""`trtllm-bench ... --report_json` of TensorRT-LLM 1.x: milliseconds; streaming and decoding blocks optional.

machine may be null, ep_size is -1 when unset, issue_rate may be 5e14 (all at once).
"""

from typing import Any

from metainf.domain import (
    Batching,
    KvQuantization,
    Parallelism,
    Precision,
    Speculative,
    Technique,
    Workload,
)
from metainf.importers.context import weights
from metainf.importers.fields import at, block, lengths, number, rate, some_metrics, spread, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"engine", "world_info", "performance"}
DTYPES = {"float16": "fp16", "bfloat16": "bf16", "float32": "fp32"}


class TrtllmBench(RunImporter):
    name = "trtllm-bench"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        found, streaming = block(raw, "performance"), block(raw, "streaming_metrics")
        metrics = {
            "requests_per_s": number(found, "request_throughput_req_s"),
            "output_tokens_per_s": number(found, "system_output_throughput_tok_s"),
            "total_tokens_per_s": number(found, "system_total_throughput_tok_s"),
            "e2e_s": number(found, "avg_request_latency_ms", 1e-3),
            "ttft_s": number(streaming, "avg_ttft_ms", 1e-3),
            "tpot_s": number(streaming, "avg_tpot_ms", 1e-3),
            **spread("e2e", found, "request_latency_percentiles_ms", 1e-3),
            **spread("ttft", streaming, "ttft_percentiles", 1e-3),
            **spread("tpot", streaming, "tpot_percentiles", 1e-3),
            "accepted_tokens": number(raw, "decoding_stats.acceptance_length_percentiles.average"),
        }
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(
                name="trtllm-bench",
                input_tokens=lengths(raw, "dataset.isl_stats"),
                output_tokens=lengths(raw, "dataset.osl_stats"),
                concurrency=number(raw, "request_info.avg_num_concurrent_requests"),
                request_rate_per_s=rate(raw, "world_info.issue_rate"),
                num_requests=whole(raw, "request_info.num_requests"),
            ),
            model=word(raw, "engine.model"),
            hardware=word(raw, "machine.name"),
            count=whole(raw, "world_info.world_size"),
            engine="tensorrt-llm",
            engine_version=word(raw, "engine.version"),
            techniques=tuple(_techniques(raw)),
        )


def _techniques(raw: Any) -> list[Technique]:
    engine, world = block(raw, "engine"), block(raw, "world_info")
    expert = at(world, "ep_size")
    out: list[Technique] = [
        Batching(max_sequences=whole(world, "max_batch_size"), max_tokens=whole(world, "max_num_tokens")),
        Parallelism(
            tensor=whole(world, "tp_size"),
            pipeline=whole(world, "pp_size"),
            expert=None if expert == -1 else whole(world, "ep_size"),
        ),
    ]
    dtype, kv, format_ = (word(engine, key) for key in ("dtype", "kv_cache_dtype", "quantization"))
    if dtype in DTYPES:
        out.append(Precision(dtype=DTYPES[dtype]))
    if kv and kv.lower() not in ("none", "auto", dtype):
        out.append(KvQuantization(format=kv.lower()))
    if format_ and format_.lower() != "none":
        out.append(weights(format_.lower()))
    if block(raw, "decoding_stats"):
        mode = word(raw, "decoding_stats.mode") or word(raw, "decoding_stats.speculative_decoding_mode")
        out.append(Speculative(algorithm=(mode or "unknown").lower()))
    return out
