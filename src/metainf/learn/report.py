"""The results page, written from an evaluation and never by hand."""

from collections.abc import Mapping, Sequence
from typing import Any

from metainf.learn import over_time
from metainf.learn.contest import OURS, SINGLE
from metainf.learn.summary import PAPER, best_of

Line = Mapping[str, Any]
HEAD = """# How good are the answers?

This page is written by `metainf evaluate --report docs/results.md` from the records in a store; none of
its numbers is typed by hand. A fold leaves out every record of one model architecture (with all its
aliases), one device type, one workload, or everything after a date; no learner sees a row of what it is
judged on, nor a row that repeats its values under another name. Where a source has more than {folds} such
groups, whole groups are dealt to {folds} folds, the largest first to the emptiest.

## How to read it

* A *cell* is one model, workload and device type. At *fixed load* its options are the configurations (and
  device counts) measured there; *under* a limit, load is free too and the budgets are the 25th, 50th and
  75th percentile of what the cell measured. Repeats are merged by their median. An option is a method
  whatever its engine version, or where said the method's coarse family.
* *Regret* is 1 − value/best. A pick that breaks the budget has value 0. *Told* means that the chooser sees
  only the options that meet the budget. Options of equal score are picked with equal chance.
* *One quality* compares only methods of the same number formats. Without it, a choice trades quality for
  speed (FP4 against FP8 weights), as the usual static comparison does; the strict line stands beside it.
* *Top-1* and *macro-F1* on *clear* cases only: the best two differ by more than noise (2 %, or the median
  variation of repeats where that is larger).
* *Gap* is the share of the way from the single best to the oracle. *Faster* is the geometric mean of the
  value of the pick (told) against the default: the feasible option with the fewest techniques switched on; of
  these the family most frequent in the source, and the mean where several remain.
* *Single best* takes the option with the best mean value/best on the training side, one for each budget;
  told, it is trained on feasible decisions alone. *Blind* goes on with the averages that count broken
  budgets as 0. *Shrunk* measures options against the mean of their cells and draws rare ones to the average.
* Intervals are 95 % bootstrap intervals over cells; verdicts follow from the paired bootstrap of MetaInf
  against the best of all baselines and all XGBoost variants, the best being chosen after the fact.
* Cost: on one device type, the cost of a token is least where the tokens per second of a device are most, so
  the views of tokens per second and device are also those of cost.
"""
SHOWN = (
    ("chooser", "name"), ("regret", "regret"), ("95 % interval", ""), ("told", "regret_told"),
    ("top-1 clear", "top1_clear"), ("F1 clear", "f1_clear"), ("gap", "gap"),
    ("over budget", "infeasible"), ("faster", "acceleration"),
)  # fmt: skip


def page(result: Mapping[str, Any], figures: Mapping[str, str] | None = None) -> str:
    """Markdown of an evaluation. `figures`: paths by title, relative to the page."""
    views = result["views"]
    folds, rolling = result["plan"]["most_folds"], tuple(result["plan"].get("by", ())) == ("rolling",)
    parts = [(over_time.HEAD if rolling else HEAD).format(folds=folds), _over_time(views)]
    if views:
        ran = any(line["name"] == OURS for view in views for line in view["choosers"])
        parts += ["## In one table\n", overview(views), _behind(views)] if ran else ["MetaInf was not run.\n"]
    parts += [f"![{title}]({path})\n" for title, path in (figures or {}).items()]
    if views:
        parts += [_peer(views), _ablations(views), "## Every chooser\n", *(_section(view) for view in views)]
    if result["errors"]:
        parts += ["## Error and coverage of the predicted numbers\n", _errors(result["errors"])]
    if result["notes"]:
        parts += ["## What was not run, and why\n", _notes(result["notes"])]
    return "\n".join(part for part in parts if part)


def _over_time(views: Sequence[Line]) -> str:
    """Regret at each date of a rolling split."""
    rows = over_time.rows(views)
    about = over_time.ABOUT.format(least=over_time.LEAST_CELLS)
    return f"{over_time.TITLE}\n\n{about}\n{table(over_time.COLUMNS, rows)}" if rows else ""


def mark_of(view: Line) -> tuple[str, ...]:
    """The regrets that a view asks for."""
    return ("regret", "regret_told") if view["limited"] else ("regret",)


def title_of(view: Line) -> str:
    """Source, view and split of a section."""
    held = {"time": "after a date", "rolling": "from date to date"}.get(view["by"], f"unseen {view['by']}")
    return f"{view['source']}: {view['view']}, {held}"


def overview(views: Sequence[Line]) -> str:
    """One line for each view and split: MetaInf beside the best of each kind."""
    head = (
        "source, view, left out",
        "cells",
        OURS,
        "best XGBoost",
        "best baseline",
        SINGLE,
        "gap",
        "verdict",
    )
    rows = []
    for view in views:
        lines = view["choosers"]
        by_name = {line["name"]: line for line in lines}
        if OURS not in by_name:
            continue
        for mark in mark_of(view):
            told = ", told" if mark == "regret_told" else ""
            pair = view["paired"][mark].get("rival")
            gap = by_name[OURS]["gap_told" if told else "gap"]
            best = (_best(lines, role, mark) for role in ("paper", "baseline"))
            ours = f"**{_number(by_name[OURS][mark])}**"
            single = _number(by_name[SINGLE][mark])
            rows.append((title_of(view) + told, view["cells"], ours, *best, single, gap, _short(pair)))
    return table(head, rows)


def _best(lines: Sequence[Line], role: str, mark: str) -> str:
    line = best_of(lines, (role,), mark)
    return "–" if line is None else f"{_number(line[mark])} ({line['name']})"


def _short(pair: Line | None) -> str:
    if pair is None:
        return "–"
    span = f"{pair['difference']:+.3f} ({pair['low']:+.3f} to {pair['high']:+.3f})"
    if pair["high"] < 0:
        return f"better {span}"
    if pair["low"] > 0:
        return f"**worse** {span}"
    return f"even {span}"


def _behind(views: Sequence[Line]) -> str:
    """Where MetaInf is not the best, and where the paper's accuracy is not reached, in words."""
    worse = [
        f"* {title_of(view)}: {said}"
        for view in views
        for said in view["verdict"]
        if said.startswith(("MetaInf is worse", "MetaInf is behind"))
    ]
    low = [
        f"* {title_of(view)}: {said}"
        for view in views
        for said in view["verdict"]
        if said.startswith("on clear cases") and "below" in said
    ]
    first = "\n".join(worse) if worse else "Nowhere on this page."
    second = "\n".join(low) if low else "Nowhere on this page."
    return (
        f"### Where MetaInf is not the best\n\n{first}\n\n"
        f"### Where accuracy on clear cases stays below the paper's {PAPER}\n\n{second}\n"
    )


def _peer(views: Sequence[Line]) -> str:
    """The views in which a peer's predictions were judged too."""
    head = ("view", "cells", "chooser", "regret", "told", "top-1 clear", "over budget")
    rows = []
    for view in views:
        if any(line["role"] == "peer" for line in view["choosers"]):
            for line in view["choosers"]:
                if line["role"] in ("peer", "ours") or line["name"] == SINGLE:
                    facts = (line[key] for key in ("regret", "regret_told", "top1_clear", "infeasible"))
                    rows.append((title_of(view), view["cells"], line["name"], *facts))
    if not rows:
        return ""
    return (
        "## Beside the vendor's own tool\n\nIts predictions use measurements of the vendor's kernels on this "
        "very hardware; they are compared, never used as features. On all rows, options that it does not "
        "predict come last.\n\n" + table(head, rows)
    )


def _ablations(views: Sequence[Line]) -> str:
    """Embeddings under XGBoost, and MetaInf with and without its parts: regret (told, under a limit)."""
    names = list(
        dict.fromkeys(
            line["name"]
            for view in views
            for line in view["choosers"]
            if line["role"] in ("paper", "ablation")
        )
    )
    if not names:
        return ""
    rows = []
    for view in views:
        known = {line["name"]: line for line in view["choosers"]}
        for mark in mark_of(view):
            told = ", told" if mark == "regret_told" else ""
            values = (known[name][mark] if name in known else None for name in [*names, OURS])
            rows.append((title_of(view) + told, *values))
    return "## Ablations: regret by embedding and by part\n\n" + table(("view", *names, OURS), rows)


def _section(view: Line) -> str:
    lines = sorted(view["choosers"], key=lambda line: line["regret"])
    rows = []
    for line in lines:
        span = f"{line['regret_low']:.3f}–{line['regret_high']:.3f}"
        rows.append(tuple(line[key] if key else span for _, key in SHOWN))
    kind = "families" if view["choice"] == "family" else "configurations"
    facts = (
        f"{view['cells']} cells, {view['cases']} cases, {view['options']} options, {view['folds']} folds; "
        f"options are {kind}; {view['clear_share']:.0%} clear at a noise of {view['noise']:.1%}"
    )
    said = "\n".join(f"* {line}" for line in view["verdict"])
    body = table([head for head, _ in SHOWN], rows)
    return f"### {title_of(view)}\n\n{facts}.\n\n{said}\n\n{body}"


def _errors(errors: Sequence[Line]) -> str:
    head = (
        "source", "left out", "learner", "metric", "rows of", "rows", "median APE", "mean APE", "90 % covers",
        "width ×",
    )  # fmt: skip
    rows = [
        (
            *(e[key] for key in ("source", "by", "learner", "metric", "on", "rows")),
            *(_share(e[key]) for key in ("median_ape", "mean_ape", "coverage")),
            e["width"],
        )
        for e in errors
    ]
    return table(head, rows)


def _notes(notes: Sequence[Line]) -> str:
    said = [f"* {n['source']}, {n['by']}, {n['view']}, {n['chooser']}: {n['why']}" for n in notes]
    return "\n".join(dict.fromkeys(said)) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table; numbers with three digits, nothing as a dash."""
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(_number(item) for item in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _number(item: Any) -> str:
    if item is None:
        return "–"
    return f"{item:.3f}" if isinstance(item, float) else str(item)


def _share(value: float | None) -> str | None:
    return None if value is None else f"{100 * value:.1f} %"
