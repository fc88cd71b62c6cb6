"""How a sweep of pictures looks on a terminal."""

from typing import TYPE_CHECKING

import typer

from metainf.cli.show import table

if TYPE_CHECKING:
    from metainf.api.measured import Measurement

QUALITY = {"psnr_db": "PSNR dB", "real_digits_f1": "like real"}


def draws(found: "Measurement") -> bool:
    """Whether the runs of a sweep drew pictures."""
    return any(record.setting.model.modality in ("image", "video") for _, record in found.swept.records)


def show_drawn(found: "Measurement") -> None:
    """A line for each method, and what the model is where its weights are random."""
    from metainf.catalog.architectures import is_synthetic
    from metainf.cli.measuring import ratio

    named = {line.quality_metric for line in found.lines if line.quality_metric}
    quality = QUALITY.get(next(iter(named)), "quality") if len(named) == 1 else "quality"
    head = (
        "workload",
        "method",
        "images/s",
        "× first",
        "s/batch",
        "ms/step",
        "GiB",
        "J/image",
        quality,
        "runs",
    )
    rows = [
        (
            line.workload,
            line.method,
            line.images_per_s or line.failed,
            ratio(line),
            line.e2e_s,
            None if line.steps_per_s is None else 1e3 / line.steps_per_s,
            line.memory_gib,
            line.energy_j_per_request,
            line.quality,
            line.runs,
        )
        for line in found.lines
    ]
    table(head, rows, below="method")
    models = {record.setting.model.name: record.setting.model for _, record in found.swept.records}
    for model in models.values():
        if is_synthetic(model):
            typer.echo(f"{model.name} is {model.source}: its speeds are real, its pictures are noise.")
