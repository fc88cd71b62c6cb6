"""Ways to draw with another model than the one that was asked for, where people allow that."""

from collections.abc import Sequence

from metainf.domain import Autoencoder, DistilledModel, MemoryMode, Method, Model, Technique, Workload
from metainf.engines.diffusers_script import TINY
from metainf.engines.students import students_of


def stand_ins(model: Model, methods: Sequence[Method]) -> list[Method]:
    """Each of the methods with every student of the model, and with a distilled autoencoder where one fits.

    Parts that wait in the processor's memory stay with the model itself.
    """
    decoders: list[tuple[Technique, ...]] = [()]
    if model.family in TINY:
        decoders.append((Autoencoder(name="tiny"),))
    drawers = [(), *(each.techniques for each in students_of(model))]
    return [
        Method(engine=method.engine, techniques=(*method.techniques, *drawer, *decoder))
        for method in methods
        if method.get(MemoryMode) is None
        for drawer in drawers
        for decoder in decoders
        if drawer or decoder
    ]


def too_large(student: Model, work: Workload, asked: Model) -> str | None:
    """Why a student cannot stand in: more pixels are wanted than it was trained for. None where it can."""
    own, default = student.default_resolution_px, asked.default_resolution_px
    wanted = max(work.width_px or default or 0, work.height_px or default or 0)
    if own is None or wanted <= own:
        return None
    return (
        f"{student.name} was trained for {own} pixels, {wanted} are asked for: --width {own} --height {own}"
    )


def told(method: Method, asked: Model) -> tuple[str, ...]:
    """What to know of a method that draws with another model."""
    notes = []
    if (drawer := method.get(DistilledModel)) is not None:
        notes.append(
            f"another model draws: {drawer.model} in place of {asked.name}; its pictures are its own, and "
            "their quality is not predicted"
        )
    if (decoder := method.get(Autoencoder)) is not None:
        notes.append(
            f"another autoencoder decodes ({decoder.name}, distilled from the model's own): detail is lost"
        )
    return tuple(notes)
