"""What choosing is worth, as the study's page tells it. Pure."""

from collections.abc import Sequence
from statistics import geometric_mean

from metainf.domain import Record
from metainf.learn.report import table
from metainf.study.bench import Bench
from metainf.study.benches import benches
from metainf.study.choice import always, joint_races, races, single_best, wins
from metainf.study.tables import counted, number, share, times

THRESHOLDS = (0.0, 0.25, 0.5, 0.75, 0.9)
SHOWN = 10
INTRO = """The fastest admitted method of each cell against one method for all cells: how many times as fast
it is, as a geometric mean. A method that failed in a cell counts as the baseline there. Methods that were
tried in more cells come first.
"""


def worth(records: Sequence[Record], named: Sequence[tuple[str, Bench]]) -> str:
    """Each engine alone, engine and method together, and what hangs on the quality gate."""
    parts = [INTRO, *(_choice(name, bench) for name, bench in named), _joint(named)]
    return "\n".join(part for part in [*parts, _thresholds(records, named)] if part)


def _choice(name: str, bench: Bench) -> str:
    held = races(bench)
    if not held:
        return ""
    won = {each.option: each for each in wins(bench)}
    rows = [
        (
            each.option,
            f"{won[each.option].wins} ({won[each.option].clear})" if each.option in won else "0",
            times(each.loss),
            f"{each.cells} of {len(held)}",
            str(each.failed),
        )
        for each in always(held)
    ]
    head = (
        "always",
        "fastest in (clearly)",
        "best of each cell is",
        "tried in cells",
        "failed in",
    )
    return f"### {name}\n\n{table(head, rows)}\n{_ungated(bench)}"


def _ungated(bench: Bench) -> str:
    """What the gate costs: the fastest without it."""
    if not bench.judged:
        return "No answers were compared on this engine, so nothing is held back for its quality.\n"
    faster: dict[str, list[float]] = {}
    for cell in bench.cells:
        gated, free = bench.best(cell), bench.best(cell, gate=False)
        if gated is not None and free is not None and gated != free:
            faster.setdefault(free, []).append(cell.rates[free] / cell.rates[gated])
    if not faster:
        return "Without the quality gate the fastest method of every cell is the same.\n"
    rows = [
        (name, str(len(by)), times(geometric_mean(by)), share(bench.agreement[name]))
        for name, by in sorted(faster.items(), key=lambda each: -len(each[1]))
    ]
    head = ("fastest without the gate", "in cells", "as fast as the fastest admitted", "its agreement")
    count = sum(len(by) for by in faster.values())
    said = f"Without the quality gate another method is the fastest in {count} of {len(bench.cells)} cells:"
    return f"{said}\n\n{table(head, rows)}"


def _joint(named: Sequence[tuple[str, Bench]]) -> str:
    """Engine and method chosen together, where engines ran the same model on the same machine."""
    parts = []
    groups: dict[tuple[str, str], list[tuple[str, Bench]]] = {}
    for name, bench in named:
        groups.setdefault((bench.model, bench.hardware), []).append((name, bench))
    for (model, hardware), together in groups.items():
        shared = joint_races(together)
        if not shared:
            continue
        found = always(shared)
        rows = [
            (one.option, str(one.wins), times(one.loss), f"{one.cells} of {len(shared)}", str(one.failed))
            for one in found[:SHOWN]
        ]
        head = ("always", "fastest in", "best of each cell is", "tried in cells", "failed in")
        engines = ", ".join(name for name, _ in together)
        parts.append(f"### Engine and method together: {engines} ({model}, {hardware})\n")
        parts.append(
            f"{counted(len(shared), 'cell')} measured on more than one of them; agreement is with each "
            f"engine's own baseline. The first {len(rows)} of {counted(len(found), 'choice')}:\n"
        )
        parts.append(table(head, rows))
    return "\n".join(parts)


def _thresholds(records: Sequence[Record], named: Sequence[tuple[str, Bench]]) -> str:
    """How the answer depends on the quality gate."""
    rows = []
    for least in THRESHOLDS:
        for (name, _), bench in zip(named, benches(records, least), strict=True):
            best = single_best(races(bench))
            out = [f"`{method}`" for method in bench.methods if bench.held_back(method)]
            loss = None if best is None else times(best.loss)
            told = "all but the baseline" if len(out) == len(bench.methods) - 1 else ", ".join(out)
            rows.append((number(least), name, told or "none", best and f"`{best.option}`", loss))
    head = (
        "least agreement",
        "engine",
        "not admitted",
        "best single choice",
        "best of each cell is",
    )
    return f"### How much hangs on the quality gate\n\n{table(head, rows)}"
