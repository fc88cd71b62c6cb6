"""What a diffusion model can draw and which methods its parts allow, told before anything runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from metainf.domain import (
    Autoencoder,
    BadInput,
    DistilledModel,
    FusedQkv,
    MemoryFormat,
    Method,
    Model,
    NotSupported,
    Schedule,
    Workload,
)


@dataclass(frozen=True)
class Parts:
    """What one denoiser allows. `multiple_px`: width and height are multiples of it; `exactly_px`: the only
    edge that it draws. Facts of diffusers 0.42, whose classes these are."""

    multiple_px: int
    exactly_px: int | None = None
    fuses_qkv: bool = True
    tiny_autoencoder: bool = True
    convolves: bool = False
    solvers: bool = False


KNOWN: Mapping[str, Parts] = {
    "UNet2DConditionModel": Parts(8, convolves=True, solvers=True),
    "PriorTransformer": Parts(8, 8, fuses_qkv=False, tiny_autoencoder=False, solvers=True),
    "SD3Transformer2DModel": Parts(16),
    "FluxTransformer2DModel": Parts(16),
    "PixArtTransformer2DModel": Parts(16, solvers=True),
    "SanaTransformer2DModel": Parts(32, fuses_qkv=False, tiny_autoencoder=False),
}


def require_pixels(model: Model, workload: Workload) -> None:
    """BadInput where width or height is no multiple of what the denoiser and the autoencoder need."""
    parts = KNOWN.get(model.denoiser or "")
    for name, edge in (("width", workload.width_px), ("height", workload.height_px)):
        if parts is None or edge is None:
            continue
        if parts.exactly_px is not None and edge != parts.exactly_px:
            raise BadInput(f"{model.name} draws {parts.exactly_px} pixels of {name} only, found {edge}")
        if edge % parts.multiple_px:
            near = max(1, round(edge / parts.multiple_px)) * parts.multiple_px
            raise BadInput(
                f"expected a {name} that is a multiple of {parts.multiple_px} pixels for {model.name} "
                f"({model.denoiser}), found {edge}: the nearest is {near}"
            )


def require_parts(model: Model, method: Method) -> None:
    """NotSupported where a method needs a part that the model does not have, or a student is the model."""
    student = method.get(DistilledModel)
    if student is not None and student.model == model.name:
        raise NotSupported(f"{model.name} cannot be its own student: name a model distilled from it")
    parts = KNOWN.get(model.denoiser or "")
    if parts is None:
        return
    fused, schedule = method.get(FusedQkv), method.get(Schedule)
    if fused is not None and fused.enabled and not parts.fuses_qkv:
        raise NotSupported(f"{model.denoiser} cannot fuse its projections in diffusers: leave fused-qkv out")
    if method.get(Autoencoder) is not None and not parts.tiny_autoencoder:
        why = "draws pixels and has no autoencoder" if parts.exactly_px else "has no distilled autoencoder"
        raise NotSupported(f"{model.name} {why} that a tiny one could stand in for: leave tiny-vae out")
    if method.get(MemoryFormat) is not None and not parts.convolves:
        raise NotSupported(f"{model.denoiser} has no convolutions to lay out: leave channels-last out")
    if schedule is not None and schedule.name is not None and not parts.solvers:
        raise NotSupported(
            f"{model.name} is a flow model and keeps its own solver: ask for fewer steps (steps-N), not for "
            f"{schedule.name}"
        )
