"""The results page, written from an evaluation and never by hand."""

from collections.abc import Sequence
from typing import Any

COLUMNS = ("name", "regret", "interval", "regret_told", "top1", "top1_clear", "f1", "gap", "infeasible")
HEAD = """# How good are the answers?

This page is written by `metainf evaluate --report docs/results.md` from the records in a store; none of
its numbers is typed by hand. A fold leaves out every record of one model architecture (with all its
aliases) or of one device type; no learner sees a row of what it is judged on, nor a row that repeats
its values under another name.

*Regret* is 1 − value/best over the options measured in a cell. Under a budget (the quartiles of what was
measured in the cell) a pick that breaks it has value 0; *told* means that the chooser sees only the
options that meet the budget. *Top-1* counts exact hits, *clear* only where the best two differ by more
than 2 %. *Gap* is the share of the distance from the single best to the oracle that is closed.
"""


def page(result: dict[str, Any]) -> str:
    """Markdown of an evaluation."""
    parts = [HEAD, *(_section(section) for section in result["views"])]
    if result["errors"]:
        head = (
            "source",
            "leave out",
            "learner",
            "metric",
            "rows",
            "median APE",
            "mean APE",
            "90 % covers",
            "width ×",
        )
        rows = [
            (
                e["source"],
                e["by"],
                e["learner"],
                e["metric"],
                e["rows"],
                _share(e["median_ape"]),
                _share(e["mean_ape"]),
                _share(e["coverage"]),
                e["width"],
            )
            for e in result["errors"]
        ]
        parts.append("## Error and coverage of the predicted numbers\n\n" + _table(head, rows))
    return "\n".join(parts)


def _section(section: dict[str, Any]) -> str:
    view, by, cells = section["view"], section["by"], section["cells"]
    title = f"## {section['source']}: {view}, leave one {by} out ({cells} cells)\n"
    head = (
        "chooser",
        "regret",
        "95 % interval",
        "regret told",
        "top-1",
        "top-1 clear",
        "macro-F1",
        "gap",
        "over budget",
    )
    rows = [tuple(c[key] for key in COLUMNS) for c in sorted(section["choosers"], key=lambda c: c["regret"])]
    return title + "\n" + _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join("–" if item is None else str(item) for item in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
