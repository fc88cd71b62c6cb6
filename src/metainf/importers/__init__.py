"""Other tools' result files -> records.

Each row of IMPORTERS names a class with `matches(sample)` and `read(path, context)`. `read` yields every row
or run of a file as a Record, or as Rejected with its number and the reason. Traces of requests are no
results: `metainf.importers.traces.read_trace` makes a Workload of one.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, cast

from metainf.domain import BadInput, Record, Rejected, UnknownName
from metainf.importers.context import Context
from metainf.importers.sample import Sample, json_values

IMPORTERS: Mapping[str, str] = MappingProxyType(
    {
        "long-table": "metainf.importers.long_table:LongTable",
        "llm-d-report": "metainf.importers.llmd_report:LlmdReport",
        "inference-perf": "metainf.importers.inference_perf:InferencePerf",
        "inferencex": "metainf.importers.inferencex:InferenceX",
        "vllm-serve": "metainf.importers.vllm_serve:VllmServe",
        "vllm-throughput": "metainf.importers.vllm_throughput:VllmThroughput",
        "vllm-latency": "metainf.importers.vllm_latency:VllmLatency",
        "sglang-serving": "metainf.importers.sglang_serving:SglangServing",
        "guidellm": "metainf.importers.guidellm:GuideLlm",
        "aiperf": "metainf.importers.aiperf:AiPerf",
        "llama-bench": "metainf.importers.llama_bench:LlamaBench",
        "optimum-benchmark": "metainf.importers.optimum_benchmark:OptimumBenchmark",
        "mlperf": "metainf.importers.mlperf:MlPerf",
        "llmperf": "metainf.importers.llmperf:LlmPerf",
        "trtllm-bench": "metainf.importers.trtllm_bench:TrtllmBench",
    }
)
"""Name -> "module:Class". `detect` asks them in this order."""


class Importer(Protocol):
    """What each row of IMPORTERS provides."""

    def matches(self, sample: Sample) -> bool:
        """Whether the file looks like this format."""
        ...

    def read(self, path: Path, context: Context) -> Iterator[Record | Rejected]:
        """Every row kept or rejected, in order. BadInput when the file is not of this format."""
        ...


def importer(name: str) -> Importer:
    """The importer of a name. UnknownName with near misses for any other."""
    if name not in IMPORTERS:
        raise UnknownName("format", name, IMPORTERS)
    module, _, attribute = IMPORTERS[name].partition(":")
    return cast(Importer, getattr(import_module(module), attribute)())


def detect(path: str | Path) -> str:
    """The name of the format of a file. BadInput when the file is empty or of no known format."""
    sample = Sample(Path(path))
    _ = sample.head  # raises for an absent or empty file
    for name in IMPORTERS:
        if importer(name).matches(sample):
            return name
    if sample.beginning.lstrip()[:1] in ("{", "[") and not sample.objects:
        list(json_values(Path(path)))  # raises, naming the line where the JSON breaks off
    raise BadInput(
        f"{path}: expected a result file of one of {', '.join(IMPORTERS)}; found none of them "
        f"(it begins {sample.first_line[:40]!r}); name the format with --format"
    )


def read(
    path: str | Path, format: str | None = None, context: Context | None = None
) -> Iterator[Record | Rejected]:
    """Records and rejections of a file, in order. `context` says what such a file does not.

    Raises BadInput for an unreadable, empty, truncated or foreign file, before the first row.
    """
    name = detect(path) if format is None else format
    return importer(name).read(Path(path), Context() if context is None else context)


__all__ = ["IMPORTERS", "Context", "Importer", "Sample", "detect", "importer", "read"]
