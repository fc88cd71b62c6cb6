"""One engine's part of the study's page: the grid, latencies, memory and counts. Pure."""

from metainf.learn.report import table
from metainf.measure.recipes import PLAIN
from metainf.measure.summary import Line
from metainf.study.bench import Bench, Cell

GATED, LEVEL = "†", "~"
LATENCY_WORKLOAD, LATENCY_IN_FLIGHT = "mixed", 16


def engine_section(name: str, bench: Bench, figure: str | None) -> str:
    """Everything of one engine, with its figure where there is one."""
    parts = [f"## {name}\n", _grid(bench)]
    if figure is not None:
        said = (
            "One panel for each workload; both axes are logarithmic; bars span the repeats. A method that "
            "failed has no mark."
        )
        parts += [f"![Throughput by requests in flight, {name}]({figure})\n", f"{said}\n"]
    parts += [_latencies(bench), _counts(bench)]
    return "\n".join(part for part in parts if part)


def number(value: float | None) -> str:
    """Three digits at most, a dash for nothing."""
    if value is None:
        return "–"
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def times(value: float) -> str:
    return f"{number(value)}×"


def share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def counted(count: int, what: str) -> str:
    """2 cells, 1 cell."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def _grid(bench: Bench) -> str:
    others = [name for name in bench.methods if name != PLAIN]
    marks = [f"{name} {GATED}" if bench.held_back(name) else name for name in others]
    rows = []
    for cell in bench.cells:
        level = bench.level_with_best(cell)
        row = [cell.workload, str(cell.in_flight), _marked(_plain(cell), PLAIN, level)]
        row += [_marked(_relative(bench, cell, name), name, level) for name in others]
        rows.append(row)
    said = (
        f"`{PLAIN}` in tokens per second, every other method as a multiple of it (in tokens per second where "
        f"the baseline has no number, marked tok/s). **Bold** is the fastest admitted method, `{LEVEL}` what "
        "the noise cannot tell from it; a dash was not run.\n\n"
    )
    return said + table(("workload", "in flight", PLAIN, *marks), rows)


def _plain(cell: Cell) -> str:
    line = cell.lines.get(PLAIN)
    return "–" if line is None else _or_failed(line, number(line.output_tokens_per_s))


def _relative(bench: Bench, cell: Cell, name: str) -> str:
    line, ratio = cell.lines.get(name), bench.ratio(cell, name, PLAIN)
    if line is None:
        return "–"
    return _or_failed(
        line, f"{number(line.output_tokens_per_s)} tok/s" if ratio is None else number(ratio.value)
    )


def _or_failed(line: Line, told: str) -> str:
    """The number, with what failed of its repeats."""
    if line.output_tokens_per_s is None:
        return f"failed: {_words(line.failed)}"
    return (
        told
        if not line.failures
        else f"{told} ({line.failures} of {line.runs} failed: {_words(line.failed)})"
    )


def _words(reason: str | None) -> str:
    return (reason or "unknown").replace("_", " ")


def _marked(told: str, name: str, level: list[str]) -> str:
    if name in level[:1]:
        return f"**{told}**"
    return f"{LEVEL}{told}" if name in level else told


def _latencies(bench: Bench) -> str:
    """Times to the first token and per token, on one workload at one load."""
    cell = _latency_cell(bench)
    rows = []
    for name in bench.methods:
        line = cell.lines.get(name)
        if line is not None:
            numbers = (line.ttft_p50_s, line.ttft_p99_s, line.tpot_p50_s, line.tpot_p99_s)
            told = [number(None if value is None else 1e3 * value) for value in numbers]
            rows.append((f"{name} {GATED}" if bench.held_back(name) else name, *told))
    head = ("method", "TTFT p50 (ms)", "TTFT p99 (ms)", "TPOT p50 (ms)", "TPOT p99 (ms)")
    said = (
        f"Latencies on `{cell.workload}` with {cell.in_flight} in flight: time to the first token (TTFT, "
        "with the wait before a request was taken) and per token after it (TPOT). In a run of fewer than a "
        "hundred requests p99 is about the slowest.\n\n"
    )
    return said + table(head, rows)


def _latency_cell(bench: Bench) -> Cell:
    """The mixed workload at the load nearest below 16, where they were run."""

    def wish(cell: Cell) -> tuple[bool, bool, int, int]:
        below = cell.in_flight <= LATENCY_IN_FLIGHT
        near = cell.in_flight if below else -cell.in_flight
        return cell.workload == LATENCY_WORKLOAD, below, near, len(cell.rates)

    return max(bench.cells, key=wish)


def _counts(bench: Bench) -> str:
    """Memory and the engine's own counts, each the largest over the cells."""
    rows = []
    for name in bench.methods:
        memory, _ = _largest(bench, name, "memory_gib")
        hits, hit_on = _largest(bench, name, "prefix_hit_share")
        taken, taken_on = _largest(bench, name, "accepted_share")
        rows.append(
            (
                name,
                number(memory),
                f"{share(hits)} ({hit_on})" if hits else share(hits),
                f"{share(taken)} ({taken_on})" if taken else share(taken),
                share(bench.agreement.get(name)),
                _admission(bench, name),
            )
        )
    head = ("method", "peak memory (GiB)", "prefix tokens found", "drafts accepted", "agreement", "admitted")
    return "Memory and the engine's own counts: the largest over the cells, and where.\n\n" + table(
        head, rows
    )


def _admission(bench: Bench, name: str) -> str:
    if not any(name in cell.rates for cell in bench.cells):
        return "has no numbers"
    return "yes" if bench.admitted(name) else "no"


def _largest(bench: Bench, name: str, key: str) -> tuple[float | None, str]:
    found = [
        (value, f"{cell.workload}, {cell.in_flight}")
        for cell in bench.cells
        if name in cell.lines and (value := getattr(cell.lines[name], key)) is not None
    ]
    return max(found, key=lambda each: float(each[0])) if found else (None, "")
