"""aiperf (0.13) and genai-perf (0.0.16) `profile_export_*.json`: a metric is {unit, avg, p50, ...}.

Times are converted by their unit. inter_token_latency of both tools is (latency - TTFT) / (tokens - 1) per
request, which others call TPOT; aiperf's inter_chunk_latency is the gap between chunks. With GPU telemetry
aiperf adds power and energy of all GPUs of one maker, with speculative decoding the acceptance length.
"""

from collections.abc import Mapping
from typing import Any

from metainf.domain import BadInput, Workload
from metainf.importers.fields import at, block, lengths, number, rate, some_metrics, spread, whole, word
from metainf.importers.runs import Run, RunImporter
from metainf.importers.sample import Sample

KEYS = {"request_throughput", "request_latency", "input_config"}
SECONDS = {"s": 1.0, "sec": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
TIMES = {
    "ttft": "time_to_first_token",
    "tpot": "inter_token_latency",
    "itl": "inter_chunk_latency",
    "e2e": "request_latency",
}
ENERGY = {  # field: (key after the GPUs' maker, unit of the file: factor)
    "power_w": ("total_gpu_power", {"W": 1.0, "watt": 1.0}),
    "energy_j_per_request": ("energy_per_request", {"joules/request": 1.0, "J/request": 1.0}),
    "energy_j_per_token": ("energy_per_output_token", {"mJ/token": 1e-3, "J/token": 1.0}),
}


class AiPerf(RunImporter):
    name = "aiperf"

    def matches(self, sample: Sample) -> bool:
        return self.understands(sample.first)

    def understands(self, raw: Any) -> bool:
        return isinstance(raw, dict) and raw.keys() >= KEYS

    def run(self, raw: Any) -> Run:
        metrics: dict[str, float | None] = {
            "requests_per_s": number(raw, "request_throughput.avg"),
            "output_tokens_per_s": number(raw, "output_token_throughput.avg"),
            "total_tokens_per_s": number(raw, "total_token_throughput.avg"),
            "accepted_tokens": number(raw, "spec_decode_acceptance_length.avg"),
            **_energy(raw),
        }
        for field, key in TIMES.items():
            if block(raw, key):
                metrics |= spread(field, raw, key, _factor(raw, key, SECONDS))
        version = word(raw, "aiperf_version")
        config = block(raw, "input_config")
        return Run(
            metrics=some_metrics(metrics),
            workload=Workload(
                name=word(_first(config, "datasets"), "type") or word(config, "input.prompt_source"),
                input_tokens=lengths(raw, "input_sequence_length"),
                output_tokens=lengths(raw, "output_sequence_length"),
                num_requests=whole(raw, "request_count.avg"),
                **_load(config),
            ),
            model=word(_first(config, "models.items"), "name") or _plain(config, "model_names"),
            date=(word(raw, "start_time") or "")[:10] or None,
            tool=f"aiperf {version}" if version else "genai-perf",
        )


def _factor(raw: Any, key: str, units: Mapping[str, float]) -> float:
    unit = word(raw, f"{key}.unit") or ""
    if unit not in units:
        raise BadInput(f"{key}.unit: expected one of {', '.join(units)}, found {unit!r}")
    return units[unit]


def _energy(raw: Any) -> dict[str, float | None]:
    """Power and energy of the GPUs, where one maker's were watched; of two makers none is the whole."""
    makers = [maker for maker in ("nvidia", "amd") if block(raw, f"{maker}_total_gpu_power")]
    if len(makers) != 1:
        return {}
    keys = {field: (f"{makers[0]}_{key}", units) for field, (key, units) in ENERGY.items()}
    return {
        field: number(raw, f"{key}.avg", _factor(raw, key, units))
        for field, (key, units) in keys.items()
        if block(raw, key)
    }


def _load(config: Any) -> dict[str, Any]:
    """The profiling phase of aiperf, the stimulus or load generator of older layouts."""
    phases = at(config, "phases")
    phase = phases[-1] if isinstance(phases, list) and phases else None
    places = (phase, at(config, "loadgen"), at(config, "perf_analyzer.stimulus"))
    for place in places:
        load = {
            "concurrency": number(place, "concurrency"),
            "request_rate_per_s": rate(place, "request_rate") or rate(place, "rate"),
        }
        if any(load.values()):
            return load
    return {}


def _first(config: Any, path: str) -> Any:
    found = at(config, path)
    return found[0] if isinstance(found, list) and found else None


def _plain(config: Any, path: str) -> str | None:
    found = _first(config, path)
    return found if isinstance(found, str) else None
