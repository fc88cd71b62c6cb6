"""`vllm bench serve --save-result` (also --append-result: one object per line), read for vLLM 0.6 - 0.33.

Summaries are in milliseconds; request_rate may be the text "inf"; --metadata KEY=VALUE pairs stand at the top
level as texts. Lengths are means from the totals. Behind a drafting server spec_decode_acceptance_length is
tokens per step, the one of the model itself counted.
"""

from typing import Any

from metainf.domain import Parallelism, Technique, Workload
from metainf.importers.fields import flat_spread, mean_length, number, rate, some_metrics, whole, word
from metainf.importers.runs import Run, RunImporter, all_failed
from metainf.importers.sample import Sample

ENGINES = ("vllm", "tgi", "sglang", "tensorrt-llm", "deepspeed-mii", "lmdeploy", "llama.cpp", "scalellm")
HARDWARE = ("hardware", "gpu", "accelerator", "device")
KEYS = {"request_throughput", "output_throughput", "total_input_tokens", "completed", "num_prompts"}
DEGREES = {"tensor": "tensor_parallel_size", "pipeline": "pipeline_parallel_size"}


class VllmServe(RunImporter):
    name = "vllm bench serve"

    def matches(self, sample: Sample) -> bool:
        return sample.first.keys() >= KEYS

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        completed, prompts = number(raw, "completed"), whole(raw, "num_prompts")
        failed = all_failed(completed, prompts)
        backend = word(raw, "backend") or word(raw, "endpoint_type") or ""
        techniques, devices = degrees(raw)
        return Run(
            outcome=failed,
            metrics=None if failed else some_metrics(serving_metrics(raw)),
            workload=Workload(
                name=word(raw, "dataset_name"),
                input_tokens=mean_length(number(raw, "total_input_tokens"), completed),
                output_tokens=mean_length(number(raw, "total_output_tokens"), completed),
                concurrency=number(raw, "max_concurrency"),
                request_rate_per_s=rate(raw, "request_rate"),
                num_requests=prompts,
            ),
            model=word(raw, "model_id"),
            hardware=next((found for key in HARDWARE if (found := word(raw, key))), None),
            count=devices,
            engine=next((engine for engine in ENGINES if backend.startswith(engine)), None),
            techniques=techniques,
            date=day(word(raw, "date")),
        )


def serving_metrics(raw: Any) -> dict[str, float | None]:
    """Rates per second, latencies from milliseconds."""
    return {
        "requests_per_s": number(raw, "request_throughput"),
        "output_tokens_per_s": number(raw, "output_throughput"),
        "total_tokens_per_s": number(raw, "total_token_throughput"),
        "accepted_tokens": number(raw, "spec_decode_acceptance_length"),
        **flat_spread("ttft", raw, "{}_ttft_ms", 1e-3),
        **flat_spread("tpot", raw, "{}_tpot_ms", 1e-3),
        **flat_spread("itl", raw, "{}_itl_ms", 1e-3),
        **flat_spread("e2e", raw, "{}_e2el_ms", 1e-3),
    }


def degrees(raw: Any) -> tuple[tuple[Technique, ...], int | None]:
    """Parallel degrees given as --metadata, and the number of devices that they make."""
    tensor, pipeline = (whole(raw, key) for key in DEGREES.values())
    if tensor is None:
        return (), None
    return (Parallelism(tensor=tensor, pipeline=pipeline),), tensor * (pipeline or 1)


def day(stamp: str | None) -> str | None:
    """2026-11-21 of the tool's 20261121-120259; any other text unchanged."""
    if stamp and len(stamp) >= 8 and stamp[:8].isdigit():
        return f"{stamp[:4]}-{stamp[4:6]}-{stamp[6:8]}"
    return stamp
