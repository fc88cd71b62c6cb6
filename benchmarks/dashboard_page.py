"""The table of docs/dashboard.md, from what bench_dashboard.py measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- made by benchmarks/bench_dashboard.py -->", "<!-- end of what it made -->"
Found = Mapping[str, Any]


def write(page: Path, report: Found, about: Found) -> None:
    """Put the section between the marks of a page."""
    head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    told = f"{head}{BEGIN}\n{section(report, about)}\n{END}{rest.partition(END)[2]}"
    page.write_text(told, encoding="utf-8")


def section(report: Found, about: Found) -> str:
    """The lines of the page."""
    stores: Found = report["stores"]
    head = ["ms", *(f"{name}{what}" for name in stores for what in ("", ", processor"))]
    lines = [
        f"`python benchmarks/bench_dashboard.py --write docs/dashboard.md` on {about['cores']} cores "
        f"({about['processor']}), {report['records']:,} records; load average {about['load']} at the end:",
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    rows = [cells(one) for one in stores.values()]
    for place, (name, *_) in enumerate(rows[0]):
        lines.append("| " + " | ".join([name, *(cell for row in rows for cell in row[place][1:])]) + " |")
    lines += [
        "",
        "*Processor* is that of service, database and browser together, the median of a row's times.",
    ]
    waits = [f"{name} {one['count_s']:.0f} s" for name, one in stores.items() if "count_s" in one]
    if waits:
        lines.append(f"Counting the records, once in a store's life: {', '.join(waits)}.")
    lines += verdicts(stores)
    return "\n".join(lines)


def cells(one: Found) -> list[tuple[str, str, str]]:
    """Name, time and processor time of each row, for one store."""
    filters = one["filters"]
    opened = [each for name, each in filters.items() if name.startswith("Model ")]
    return [
        ("first paint, page's files in the browser, five times", *between(one["paint"])),
        ("first paint, nothing in the browser, five times", *between(one["paint_nothing_kept"])),
        (
            f"filter by device, metric, engine, source, columns, {len(filters) - len(opened)}: median, most",
            f"{one['filter_median_ms']:.0f}, {one['filter_most_ms']:.0f}",
            f"{one['filter_processor_ms']:.0f}",
        ),
        ("a model opened into its workloads: first, second", *listed(opened)),
        (
            "`GET /v1/tensor`: all, of one source, workloads of a model",
            *listed([one[f"tensor_{name}"] for name in ("all", "of_a_source", "of_workloads")]),
        ),
    ]


def between(times: Sequence[Found]) -> tuple[str, str]:
    """The least and the most, and the middle of the processor's."""
    ms = sorted(each["ms"] for each in times)
    processor = sorted(each["processor_ms"] for each in times)
    return f"{ms[0]:.0f} to {ms[-1]:.0f}", f"{processor[len(processor) // 2]:.0f}"


def listed(times: Sequence[Found]) -> tuple[str, str]:
    """Each."""
    return (
        ", ".join(f"{each['ms']:.0f}" for each in times),
        ", ".join(f"{each['processor_ms']:.0f}" for each in times),
    )


def verdicts(stores: Found) -> list[str]:
    """Which bars were met: a first paint within 1 s, a filter and an opened model within 300 ms."""
    told = []
    for name, one in stores.items():
        paint = max(each["ms"] for each in (*one["paint"], *one["paint_nothing_kept"]))
        most = max(each["ms"] for each in one["filters"].values())
        late = [
            words
            for words, ms, bar in (("a first paint", paint, 1000), ("a filter or an opened model", most, 300))
            if ms > bar
        ]
        told.append(
            f"{name}: " + (f"longer than its bar: {', '.join(late)}." if late else "every bar was met.")
        )
    return told
