"""The study of pictures as a grid: for each model its drawings, and for each of them the methods. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from metainf.domain import BadInput, Record
from metainf.measure.picture_names import recipe_name
from metainf.measure.recipes import PLAIN
from metainf.measure.summary import Line, summary


@dataclass(frozen=True)
class Canvas:
    """One drawing of a model: its name, what it is, and a line for each method in the order of its runs."""

    name: str
    width_px: int
    height_px: int
    steps: int
    batch: int
    lines: dict[str, Line]

    @property
    def title(self) -> str:
        """Pixels, steps and batch in words."""
        return f"{self.width_px} × {self.height_px}, {self.steps} steps, batch {self.batch}"

    def rate(self, method: str) -> float | None:
        """Images per second, the median of repeats."""
        line = self.lines.get(method)
        return None if line is None else line.images_per_s

    def ratio(self, method: str, other: str = PLAIN) -> float | None:
        """Images per second of one method over another."""
        one, two = self.rate(method), self.rate(other)
        return None if one is None or two is None else one / two


@dataclass(frozen=True)
class Easel:
    """One model on one machine with all its drawings, and its records."""

    model: str
    source: str
    hardware: str
    canvases: tuple[Canvas, ...]
    records: tuple[Record, ...]

    @property
    def methods(self) -> list[str]:
        """All methods, in the order in which the first drawing has them."""
        return list(dict.fromkeys(name for canvas in self.canvases for name in canvas.lines))

    def mean_ratio(self, method: str, other: str = PLAIN) -> float | None:
        """Geometric mean over the drawings of the ratio of two methods."""
        found = [ratio for canvas in self.canvases if (ratio := canvas.ratio(method, other)) is not None]
        return math.exp(fmean(math.log(ratio) for ratio in found)) if found else None

    def quality(self, method: str) -> tuple[float, str] | None:
        """The least quality over the drawings, with its name."""
        held = [line for c in self.canvases if (line := c.lines.get(method)) and line.quality is not None]
        worst = min(held, key=lambda line: line.quality or 0.0, default=None)
        if worst is None or worst.quality is None:
            return None
        return worst.quality, worst.quality_metric or ""

    def warm_up_s(self, method: str) -> float | None:
        """Longest wait before the clock, compiling included."""
        found = [
            record.provenance.conditions.warm_up_s
            for record in self.records
            if recipe_name(record.method) == method
            and record.provenance.conditions is not None
            and record.provenance.conditions.warm_up_s is not None
        ]
        return max(found, default=None)

    def rows(self) -> list[dict[str, Any]]:
        """Plain data, one row for each drawing and method."""
        return [
            {
                "model": self.model,
                "drawing": canvas.title,
                "method": name,
                "images_per_s": line.images_per_s,
                "over_baseline": canvas.ratio(name),
                "s_per_image": None if not line.images_per_s else 1 / line.images_per_s,
                "quality": line.quality,
                "quality_metric": line.quality_metric,
                "failed": line.failed,
            }
            for canvas in self.canvases
            for name, line in canvas.lines.items()
        ]


def easels(records: Sequence[Record]) -> list[Easel]:
    """The grids of all models and machines among the records. BadInput where none draws."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.setting.workload.width_px is not None and record.setting.workload.steps is not None:
            device = record.setting.hardware.device
            groups.setdefault((record.setting.model.name, device.title or device.name), []).append(record)
    if not groups:
        raise BadInput("expected records of pictures, found none: make some with metainf study images run")
    return [_easel(key, held) for key, held in groups.items()]


def _easel(key: tuple[str, str], records: Sequence[Record]) -> Easel:
    lines: dict[str, dict[str, Line]] = {}
    for line in summary([(recipe_name(record.method), record) for record in records]):
        lines.setdefault(line.workload, {})[line.method] = line
    works = {record.setting.workload.name: record.setting.workload for record in records}
    canvases = [
        Canvas(
            name, works[name].width_px or 0, works[name].height_px or 0, works[name].steps or 0,
            works[name].batch_size or 1, found,
        )
        for name, found in lines.items()
    ]  # fmt: skip
    canvases.sort(key=lambda c: (c.width_px * c.height_px, c.steps, c.batch))
    source = records[0].setting.model.source or ""
    return Easel(key[0], source, key[1], tuple(canvases), tuple(records))
