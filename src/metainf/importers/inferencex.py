"""InferenceX (InferenceMAX) aggregate JSON, read for schema of 2026-11: flat, seconds, rates per GPU.

*_intvty is 1 / TPOT and adds nothing. Rates are multiplied by the number of GPUs, so that they count all.
"""

from typing import Any

from metainf.domain import (
    BadInput,
    Disaggregation,
    Lengths,
    Parallelism,
    Pool,
    Precision,
    Speculative,
    Technique,
    Workload,
)
from metainf.importers.context import weights
from metainf.importers.fields import flat_spread, number, some_metrics, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"hw", "conc", "framework", "isl", "osl", "tput_per_gpu"}
ENGINES = {"trt": "tensorrt-llm", "trtllm": "tensorrt-llm", "dynamo-trt": "tensorrt-llm"}
SIXTEEN_BIT = {"bf16", "fp16"}


class InferenceX(RunImporter):
    name = "InferenceX"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        layout, devices = _layout(raw)
        if devices is None:
            raise BadInput("the run does not say how many GPUs it used (tp, or the pools of a split run)")
        metrics = {
            "total_tokens_per_s": number(raw, "tput_per_gpu", devices),
            "output_tokens_per_s": number(raw, "output_tput_per_gpu", devices),
            **flat_spread("ttft", raw, "{}_ttft"),
            **flat_spread("tpot", raw, "{}_tpot"),
            **flat_spread("itl", raw, "{}_itl"),
            **flat_spread("e2e", raw, "{}_e2el"),
        }
        inside, outside = whole(raw, "isl"), whole(raw, "osl")
        framework = word(raw, "framework") or ""
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(
                name="random",
                input_tokens=None if inside is None else Lengths(mean=inside),
                output_tokens=None if outside is None else Lengths(mean=outside),
                concurrency=number(raw, "conc"),
            ),
            model=word(raw, "model"),
            hardware=(word(raw, "hw") or "").partition("-")[0] or None,
            count=devices,
            engine=ENGINES.get(framework, framework) or None,
            engine_version=(word(raw, "image") or "").rpartition(":")[2] or None,
            techniques=(layout, *_others(raw)),
        )


def _layout(raw: Any) -> tuple[Technique, int | None]:
    """One layout for all GPUs, or a pool per role; and the number of GPUs."""
    if _on(raw, "disagg"):
        pools = {
            role: Pool(
                workers=whole(raw, f"{role}_num_workers"),
                tensor=whole(raw, f"{role}_tp"),
                expert=whole(raw, f"{role}_ep"),
                attention_data=_on(raw, f"{role}_dp_attention"),
            )
            for role in ("prefill", "decode")
        }
        gpus = [whole(raw, f"num_{role}_gpu") for role in pools]
        total = None if None in gpus else sum(n for n in gpus if n)
        return Disaggregation(prefill=pools["prefill"], decode=pools["decode"]), total
    tensor, pipeline = whole(raw, "tp"), whole(raw, "pp")
    layout = Parallelism(
        tensor=tensor,
        pipeline=pipeline,
        expert=whole(raw, "ep"),
        attention_data=_on(raw, "dp_attention"),
    )
    return layout, None if tensor is None else tensor * (pipeline or 1)


def _others(raw: Any) -> list[Technique]:
    out: list[Technique] = []
    precision, drafting = word(raw, "precision"), word(raw, "spec_decoding")
    if precision in SIXTEEN_BIT:
        out.append(Precision(dtype=precision))
    elif precision:
        out.append(weights(precision))
    if drafting and drafting != "none":
        out.append(Speculative(algorithm=drafting))
    return out


def _on(raw: Any, key: str) -> bool | None:
    said = word(raw, key)
    return None if said is None else said.lower() in ("true", "1")
