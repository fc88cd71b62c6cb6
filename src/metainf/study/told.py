"""Where the study's numbers come from, in a few lines. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from metainf.domain import Conditions, Failed, Record
from metainf.learn.report import table
from metainf.measure.monitor import BUSY_SHARE
from metainf.study.bench import Bench, in_grid, name_of
from metainf.study.tables import number, share


def provenance(records: Sequence[Record], named: Sequence[tuple[str, Bench]]) -> str:
    """Machine, versions, load, dates, counts and failures."""
    kept = [record for record in records if in_grid(record)]
    failed = [record for record in kept if isinstance(record.outcome, Failed)]
    left = len(records) - len(kept)
    lines = [f"* {len(kept)} records, {len(failed)} of them failures; {_repeats(kept)}."]
    if left:
        lines.append(f"* {left} more records are of other traffic than these cells and are left out.")
    lines += [
        f"* Machine: {_listed(_machine(record) for record in kept)}.",
        f"* Model: {_listed(_model(record) for record in kept)}.",
        f"* Engines: {_listed(_version(record) for record in kept if record.method.engine_version)}.",
        f"* Made {_days(kept)}; tool: {_listed(r.provenance.tool for r in kept)}.",
        *(f"* {name}: {_noise(bench)}" for name, bench in named),
        *_load([r.provenance.conditions for r in kept if r.provenance.conditions is not None]),
    ]
    return "\n".join(lines) + "\n" + _failures(failed)


def _listed(found: Iterable[str | None]) -> str:
    return "; ".join(sorted({text for text in found if text is not None})) or "not recorded"


def _machine(record: Record) -> str:
    device, conditions = record.setting.hardware.device, record.provenance.conditions
    cores = f", {conditions.cores} cores" if conditions is not None and conditions.cores else ""
    return f"{device.title or device.name}{cores}"


def _model(record: Record) -> str:
    model = record.setting.model
    weights = model.quantization or model.dtype
    return f"{model.name}, {weights or 'its own'} weights where a method names no other"


def _version(record: Record) -> str:
    return f"{record.method.engine} {record.method.engine_version}"


def _days(records: Sequence[Record]) -> str:
    days = sorted({record.provenance.date[:10] for record in records if record.provenance.date})
    if not days:
        return "on a day that was not recorded"
    return f"on {days[0]}" if len(days) == 1 else f"from {days[0]} to {days[-1]}"


def _repeats(records: Sequence[Record]) -> str:
    counted = Counter(
        (
            record.method.engine,
            name_of(record),
            record.setting.workload.name,
            record.setting.workload.concurrency,
        )
        for record in records
    )
    by_count = Counter(counted.values())
    said = [f"{number} run {_times(count)}" for count, number in sorted(by_count.items())]
    return f"of {len(counted)} combinations of engine, method and cell {', '.join(said)}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _noise(bench: Bench) -> str:
    spread = bench.spread
    if not spread.freedom:
        return f"nothing was repeated; a spread of {share(spread.deviation)} between repeats is assumed."
    return (
        f"repeats spread by {100 * spread.deviation:.1f} % (standard deviation of the logarithm, from "
        f"{spread.freedom} {'repeat' if spread.freedom == 1 else 'repeats'})."
    )


def _load(conditions: Sequence[Conditions]) -> list[str]:
    lines = []
    loads = [each.other_load for each in conditions if each.other_load is not None]
    if loads:
        lines.append(
            f"* Load average before a run: median {number(median(loads))}, highest {number(max(loads))}; it "
            "counts the runs before it too."
        )
    shares = [each.other_cpu_share for each in conditions if each.other_cpu_share is not None]
    if shares:
        busy = sum(each > BUSY_SHARE for each in shares)
        lines.append(
            f"* Other programs used {share(median(shares))} of the cores during a run in the median and "
            f"{share(max(shares))} at most; more than {share(BUSY_SHARE)} in {busy} of {len(shares)} runs."
        )
    return lines


def _failures(failed: Sequence[Record]) -> str:
    counted = Counter(
        (r.method.engine, name_of(r), str(r.setting.workload.name), r.outcome.reason.replace("_", " "))
        for r in failed
        if isinstance(r.outcome, Failed)
    )
    if not counted:
        return ""
    rows = [(*key, str(count)) for key, count in sorted(counted.items())]
    return "\nWhat failed:\n\n" + table(("engine", "method", "workload", "reason", "runs"), rows)
