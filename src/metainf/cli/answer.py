"""How a selection looks: a table where the terminal is wide, one short paragraph a candidate where not."""

from collections.abc import Sequence
from typing import Any

from metainf.cli import private
from metainf.cli.show import cell, console, table
from metainf.domain.objective import Candidate, Objective, Selection
from metainf.domain.setting import Workload

WIDE = 180
"""Columns from which the table leaves room for methods in words."""
MOST_LEFT_OUT = 8
NUMBERS = (
    ("tok/s", "output_tokens_per_s", 1.0),
    ("TTFT s", "ttft_s", 1.0),
    ("TPOT ms", "tpot_s", 1e3),
    ("J/token", "energy_j_per_token", 1.0),
)
"""Title, metric and factor of the columns; a metric that no candidate has makes none."""
DRAWN = (
    ("images/s", "images_per_s", 1.0),
    ("s/batch", "e2e_s", 1.0),
    ("GiB", "memory_gib", 1.0),
    ("J/image", "energy_j_per_request", 1.0),
)
"""The same for what draws."""
LIMITS = (
    ("max_usd_per_hour", "{} $/h"),
    ("max_usd", "{} $ in all"),
    ("max_ttft_s", "TTFT {} s"),
    ("max_tpot_s", "TPOT {} s"),
    ("max_e2e_s", "{} s in all"),
    ("min_requests_per_s", "at least {} requests/s"),
    ("min_quality_recovery", "at least {} of the quality"),
)


def show(found: Selection) -> None:
    """Print the answer: the question as understood, the ranking, the command, why, and what was left out."""
    from metainf import api

    out = console()
    out.print(f"\n{question(found)}", soft_wrap=True)
    words = [api.method_in_words(candidate.method) for candidate in found.ranked]
    if out.width >= WIDE:
        _table(found.ranked, words)
    else:
        _paragraphs(found.ranked, words)
    best = found.ranked[0]
    _list("Privacy", private.told(found))
    _run(found)
    _list("Why", best.prediction.reasons)
    _list("Nearest measured", best.prediction.nearest)
    _list("Mind", best.notes)
    told = [f"{e.limit}: {machine(e)}, {e.method.engine}: {e.reason}" for e in found.excluded]
    if len(told) > MOST_LEFT_OUT:
        told = [
            *told[:MOST_LEFT_OUT],
            f"and {len(told) - MOST_LEFT_OUT} more such groups (--json shows them)",
        ]
    _list("Left out", told)


def _run(found: Selection) -> None:
    """How to run the first: its command line, or the program that draws."""
    from metainf import api

    out, command = console(), found.ranked[0].command
    program = api.program_of(found)
    if program is not None:
        told = f"Run the first: save as {program.name}, then {program.command}"
        out.print(f"{told}\n\n{program.text}", soft_wrap=True, markup=False)
    elif command:
        lines = command.replace("\n", "\n  ")
        out.print(f"Run the first:\n  {lines}\n", soft_wrap=True, markup=False)


def question(found: Selection) -> str:
    """The question as it was understood, load and limits included."""
    aim = found.objective.aim.replace("_", " ")
    return (
        f"{found.model.name}, {workload(found.workload)}\n"
        f"Best {aim}{_limits(found.objective)}, met with a chance of {found.objective.confidence:.0%} or more"
    )


def workload(work: Workload) -> str:
    """Name, lengths and load; a load that was not stated is said, with what is assumed."""
    parts = [work.name] if work.name else []
    sides = ((work.input_tokens, "in"), (work.output_tokens, "out"))
    parts += [f"{lengths.mean:,.0f} tokens {way}" for lengths, way in sides if lengths is not None]
    if work.concurrency is not None:
        parts.append(f"{cell(work.concurrency)} requests in flight")
    elif work.batch_size is not None:
        parts.append(f"batches of {work.batch_size}")
    elif work.request_rate_per_s is not None:
        parts.append(f"{cell(work.request_rate_per_s)} requests/s arriving")
    else:
        parts.append("one request in flight, as no load was stated (--concurrency or --rate states it)")
    return ", ".join(parts)


def interval(estimate: Any, times: float = 1.0) -> str | None:
    """Median with the bounds of the 90 % interval."""
    if estimate is None:
        return None
    return f"{cell(estimate.value * times)} ({cell(estimate.low * times)}–{cell(estimate.high * times)})"


def machine(item: Any) -> str:
    """Count and device of a candidate or of one left out."""
    return f"{item.hardware.count or '?'}× {item.hardware.device.name}"


def _limits(objective: Objective) -> str:
    told = [(getattr(objective, name), words) for name, words in LIMITS]
    said = [words.format(cell(value)) for value, words in told if value is not None]
    return f" within {', '.join(said)}" if said else ", no limits"


def _columns(ranked: Sequence[Candidate]) -> list[tuple[str, str, float]]:
    shown = DRAWN if any("images_per_s" in c.prediction.metrics for c in ranked) else NUMBERS
    return [row for row in shown if any(row[1] in c.prediction.metrics for c in ranked)]


def _table(ranked: Sequence[Candidate], words: Sequence[str]) -> None:
    columns = _columns(ranked)
    priced = any(c.privacy is not None for c in ranked)
    head = (
        "#",
        "hardware",
        "method",
        *(row[0] for row in columns),
        "$/h",
        "$/M tokens",
        *(("privacy costs",) if priced else ()),
        "works",
        "in limits",
    )
    rows = [
        (
            str(place),
            machine(c),
            words[place - 1],
            *(interval(c.prediction.metrics.get(name), times) for _, name, times in columns),
            c.usd_per_hour,
            interval(c.usd_per_million_tokens),
            *((private.price(c),) if priced else ()),
            f"{c.prediction.p_ok:.0%}",
            f"{c.p_feasible:.0%}",
        )
        for place, c in enumerate(ranked, 1)
    ]
    table(head, rows)


def _paragraphs(ranked: Sequence[Candidate], words: Sequence[str]) -> None:
    from rich.padding import Padding

    out = console()
    for place, c in enumerate(ranked, 1):
        price = "price unknown" if c.usd_per_hour is None else f"{cell(c.usd_per_hour)} $/h"
        numbers = [
            f"{title} {interval(c.prediction.metrics[name], times)}"
            for title, name, times in _columns(ranked)
            if name in c.prediction.metrics
        ]
        cost = interval(c.usd_per_million_tokens)
        numbers += [f"$/M tokens {cost}"] if cost else []
        dearer = private.price(c)
        numbers += [f"privacy costs {dearer}"] if dearer else []
        out.print(
            f"\n{place}. {machine(c)}, {price}: works {c.prediction.p_ok:.0%}, in limits {c.p_feasible:.0%}"
        )
        out.print(Padding(words[place - 1], (0, 0, 0, 3), expand=False), markup=False)
        out.print(Padding(" · ".join(numbers), (0, 0, 0, 3), expand=False), markup=False)
    out.print()


def _list(title: str, lines: Sequence[str]) -> None:
    if lines:
        text = "\n".join(f"  • {line}" for line in lines)
        console().print(f"{title}\n{text}\n", soft_wrap=True, markup=False)
