"""Two more tables of the results page as data: error and coverage of predicted numbers, and the ablations.

`python -m metainf.api.evidence docs/results.md` makes the data that ships; a test holds the two together.
"""

import json
import sys
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, Frozen

ACCURACY = "## Error and coverage of the predicted numbers"
ABLATIONS = "## Ablations: regret by embedding and by part"


class Accuracy(Frozen):
    """How far one metric of one source was predicted off, on rows left out of training.

    Errors are shares of the measured value. `covered`: the share within the 90 % interval, whose upper bound
    is `width` times the lower one (median). `rows_of`: all rows, or those that the vendor's tool answers too.
    """

    source: str
    left_out: str
    learner: str
    metric: str
    rows_of: str
    rows: int
    median_ape: float
    mean_ape: float
    covered: float | None = None
    width: float | None = None


class Ablation(Frozen):
    """Regret in one view, by learner or by what MetaInf was left without."""

    view: str
    regret: dict[str, float]


class Evidence(Frozen):
    """Both tables."""

    accuracy: tuple[Accuracy, ...]
    ablations: tuple[Ablation, ...]


@cache
def evidence() -> Evidence:
    """What ships."""
    return Evidence.parse((files("metainf.learn") / "data" / "evidence.json").read_text(encoding="utf-8"))


def read_page(text: str) -> Evidence:
    """Both tables of a results page. BadInput where one is not there."""
    return Evidence.of(
        {
            "accuracy": [_accuracy(row) for row in _rows(text, ACCURACY)],
            "ablations": [
                {"view": row.pop("view"), "regret": {name: float(v) for name, v in row.items() if v != "–"}}
                for row in _rows(text, ABLATIONS)
            ],
        }
    )


def _rows(text: str, title: str) -> Iterator[dict[str, str]]:
    _, found, rest = text.partition(f"{title}\n")
    lines = [line for line in rest.split("\n#")[0].splitlines() if line.startswith("|")]
    if not found or len(lines) < 3:
        raise BadInput(f"expected a results page with the section `{title[3:]}`, found none")
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return (dict(zip(cells[0], row, strict=True)) for row in cells[2:])


def _accuracy(row: dict[str, str]) -> dict[str, Any]:
    told: dict[str, Any] = {name.replace(" ", "_"): row[name] for name in ("source", "left out", "learner")}
    told |= {"metric": row["metric"], "rows_of": row["rows of"], "rows": int(row["rows"])}
    told |= {"median_ape": _share(row["median APE"]), "mean_ape": _share(row["mean APE"])}
    told |= {"covered": _share(row["90 % covers"])}
    return told | {"width": None if row["width ×"] == "–" else float(row["width ×"])}


def _share(cell: str) -> float | None:
    return None if cell == "–" else round(float(cell.removesuffix("%")) / 100, 6)


if __name__ == "__main__":
    page = read_page(Path(sys.argv[1]).read_text(encoding="utf-8"))
    parts = {
        name: [json.dumps(each, ensure_ascii=False) for each in rows]
        for name, rows in page.model_dump(mode="json", exclude_none=True).items()
    }
    shown = [f'"{name}": [\n' + ",\n".join(lines) + "\n]" for name, lines in parts.items()]
    print("{" + ",\n".join(shown) + "}")
