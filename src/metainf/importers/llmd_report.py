"""llm-d "benchmark report", YAML or JSON: v0.1 and v0.2. Every statistic names its unit; it is obeyed.

v0.1: `scenario.host` lists one accelerator per instance; v0.2: `scenario.stack` lists components, of which
the inference engines count. Prefill and decode roles make a disaggregated method.
"""

from collections.abc import Mapping
from typing import Any

from metainf.domain import BadInput, Disaggregation, Parallelism, Pool, Technique, Workload
from metainf.importers.fields import at, block, lengths, number, rate, some_metrics, spread, whole, word
from metainf.importers.runs import Run, YamlImporter, all_failed
from metainf.importers.sample import Sample

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
UNITS |= {f"{unit}/token": scale for unit, scale in UNITS.items()}
TIMES = {
    "ttft": "time_to_first_token",
    "tpot": "time_per_output_token",
    "itl": "inter_token_latency",
    "e2e": "request_latency",
}
RATES = {
    "requests_per_s": ("requests_per_sec", "request_rate"),
    "output_tokens_per_s": ("output_tokens_per_sec", "output_token_rate"),
    "total_tokens_per_s": ("total_tokens_per_sec", "total_token_rate"),
}


class LlmdReport(YamlImporter):
    name = "llm-d benchmark report"

    def matches(self, sample: Sample) -> bool:
        if sample.objects:
            return self.understands(sample.first)
        lines = {line.partition(":")[0] for line in sample.beginning.splitlines()}
        return {"version", "scenario"} <= lines and bool({"metrics", "results"} & lines)

    def understands(self, raw: Any) -> bool:
        return (
            isinstance(raw, dict) and raw.keys() >= {"version"} and bool({"metrics", "results"} & raw.keys())
        )

    def run(self, raw: Any) -> Run:
        version = word(raw, "version")
        if version not in ("0.1", "0.2", "0.2.1"):
            raise BadInput(f"version: expected a report of 0.1 or 0.2, found {version!r}")
        old = version == "0.1"
        found = block(raw, "metrics" if old else "results.request_performance.aggregate")
        if not block(found, "latency") or not block(found, "throughput"):
            raise BadInput("expected latency and throughput, found one missing (a truncated file?)")
        instances = _instances_01(raw) if old else _instances_02(raw)
        layout, devices, hardware = _layout(instances)
        load = block(raw, "scenario.load.args") if old else block(raw, "scenario.load.standardized")
        total, failures = number(found, "requests.total"), number(found, "requests.failures") or 0
        failed = all_failed((total or 0) - failures, total)
        first: Mapping[str, Any] = instances[0] if instances else {}
        return Run(
            outcome=failed,
            metrics=None if failed else some_metrics(_metrics(found) | {"memory_gib": _memory_gib(raw)}),
            workload=Workload(
                name=word(raw, "scenario.load.name") or word(load, "tool"),
                input_tokens=lengths(found, "requests.input_length"),
                output_tokens=lengths(found, "requests.output_length"),
                concurrency=rate(load, "concurrency"),
                request_rate_per_s=rate(load, "qps_values" if old else "rate_qps"),
                num_requests=whole(found, "requests.total"),
            ),
            model=word(raw, "scenario.model.name") if old else first.get("model"),
            hardware=hardware,
            count=devices,
            engine=first.get("engine"),
            engine_version=first.get("version"),
            techniques=layout,
            date=(word(raw, "run.time.start") or "")[:10] or None,
            tool=f"llm-d benchmark report {version}",
        )


def _metrics(found: Any) -> dict[str, float | None]:
    metrics: dict[str, float | None] = {}
    for field, keys in RATES.items():
        for key in keys:
            value = at(found, f"throughput.{key}")
            path = f"throughput.{key}.mean" if isinstance(value, Mapping) else f"throughput.{key}"
            metrics[field] = metrics.get(field) or number(found, path)
    for field, key in TIMES.items():
        stats = block(found, f"latency.{key}")
        if stats:
            unit = word(stats, "units")
            if unit not in UNITS:
                raise BadInput(f"latency.{key}.units: expected one of {', '.join(UNITS)}, found {unit!r}")
            metrics |= spread(field, stats, "", UNITS[unit])
    return metrics


def _memory_gib(raw: Any) -> float | None:
    """The most that an accelerator held, of the components that were watched (v0.2, GiB only)."""
    watched = at(raw, "results.observability.components") or []
    used = [block(one, "aggregate.gpu_memory_usage") for one in watched]
    peaks = [number(one, "max") for one in used if word(one, "units") == "GiB"]
    return max((peak for peak in peaks if peak is not None), default=None)


def _instances_01(raw: Any) -> list[dict[str, Any]]:
    """Role, replicas, device, count and degrees of each instance."""
    roles, devices = at(raw, "scenario.host.type") or [], at(raw, "scenario.host.accelerator") or []
    engines = at(raw, "scenario.platform.engine") or []
    if len(roles) != len(devices):
        raise BadInput(
            f"scenario.host: expected one accelerator per type, found {len(devices)}, {len(roles)}"
        )
    out = []
    for i, (role, device) in enumerate(zip(roles, devices, strict=True)):
        engine = engines[i] if i < len(engines) else {}
        out.append(
            {
                "role": role,
                "replicas": 1,
                "device": word(device, "model"),
                "count": whole(device, "count"),
                "degrees": block(device, "parallelism"),
                "engine": word(engine, "name"),
                "version": word(engine, "version"),
            }
        )
    return out


def _instances_02(raw: Any) -> list[dict[str, Any]]:
    out = []
    for component in at(raw, "scenario.stack") or []:
        part = block(component, "standardized")
        if word(part, "kind") != "inference_engine":
            continue
        device = block(part, "accelerator")
        out.append(
            {
                "role": word(part, "role"),
                "replicas": whole(part, "replicas") or 1,
                "device": word(device, "model"),
                "count": whole(device, "count"),
                "degrees": block(device, "parallelism"),
                "model": word(part, "model.name"),
                "engine": word(part, "tool"),
                "version": (word(part, "tool_version") or "").rpartition(":")[2] or None,
            }
        )
    return out


def _layout(
    instances: list[dict[str, Any]],
) -> tuple[tuple[Technique, ...], int | None, str | None]:
    """Technique, number of devices over all instances, and the one kind of device."""
    if not instances:
        return (), None, None
    kinds = {one["device"] for one in instances}
    if len(kinds) > 1:
        raise BadInput(f"expected devices of one kind, found {', '.join(sorted(map(str, kinds)))}")
    counts = [one["count"] * one["replicas"] if one["count"] else None for one in instances]
    devices = None if None in counts else sum(filter(None, counts))
    pools = {role: [one for one in instances if one["role"] == role] for role in ("prefill", "decode")}
    if all(pools.values()):
        split = Disaggregation(prefill=_pool(pools["prefill"]), decode=_pool(pools["decode"]))
        return (split,), devices, kinds.pop()
    layouts = {_degrees(one) for one in instances}
    if len(layouts) > 1:
        raise BadInput("expected instances of one parallel layout, found several")
    replicas = sum(one["replicas"] for one in instances)
    layout = layouts.pop()
    if replicas > 1:
        layout = layout.model_copy(update={"data": (layout.data or 1) * replicas})
    return (layout,), devices, kinds.pop()


def _degrees(one: Mapping[str, Any]) -> Parallelism:
    found = one["degrees"]
    return Parallelism(
        tensor=whole(found, "tp"),
        pipeline=whole(found, "pp"),
        expert=whole(found, "ep"),
        data=whole(found, "dp"),
    )


def _pool(members: list[dict[str, Any]]) -> Pool:
    layouts = {_degrees(one) for one in members}
    if len(layouts) > 1:
        raise BadInput("expected workers of one role to share a parallel layout, found several")
    layout = layouts.pop()
    return Pool(
        workers=sum(one["replicas"] for one in members),
        tensor=layout.tensor,
        expert=layout.expert,
        attention_data=None if layout.data is None else layout.data > 1,
    )
