"""What the parts and kernels of a diffusion pipeline prove of a method, or gainsay."""

from collections.abc import Callable, Mapping
from typing import Any

from metainf.domain import (
    Autoencoder,
    Compile,
    DistilledModel,
    FusedQkv,
    MemoryFormat,
    Schedule,
    WeightQuantization,
)
from metainf.engines.diffusers_script import SCHEDULES

Verdict = tuple[list[str], bool]
INTEGER = ("int8dq", "qint8")
"""Formats that compute in integers; others widen their weights first."""
SMALLER = 0.97
"""Share of the parameters below which a denoiser is another, smaller one."""


def quantized(asked: WeightQuantization, seen: Any) -> Verdict:
    """Of layers that were quantized while loading."""
    if seen.quantized_layers is None:
        return [], False
    if seen.quantized_layers == 0:
        return [f"weights in {asked.format} were asked for, no layer is quantized"], False
    if asked.format in INTEGER and seen.integer_kernels is False:
        return [f"{asked.format} was asked for, but no kernel computed in integers"], False
    return [], asked.format not in INTEGER or bool(seen.integer_kernels)


def _compiled(asked: Compile, seen: Any) -> Verdict:
    if seen.compiled is None or seen.compiled == asked.enabled:
        return [], seen.compiled is not None
    return [
        f"compile was asked {'on' if asked.enabled else 'off'}, the kernels that ran say otherwise"
    ], False


def _fused(asked: FusedQkv, seen: Any) -> Verdict:
    if seen.fused_qkv is None:
        return [], False
    if asked.enabled != (seen.fused_qkv > 0):
        return [f"fused_qkv was asked {'on' if asked.enabled else 'off'}, the modules say otherwise"], False
    return [], True


def _ordered(asked: MemoryFormat, seen: Any) -> Verdict:
    if seen.memory_format is None:
        return [], False
    same = seen.memory_format == asked.name
    return ([] if same else [f"{asked.name} was asked for, the weights lie {seen.memory_format}"]), same


def _distilled(asked: DistilledModel, seen: Any) -> Verdict:
    """Proven by a denoiser of fewer parameters, or by other weights where the student is as large as its
    teacher; gainsaid by the teacher's own weights and by a size that is not the student's."""
    share, known = seen.denoiser_share, seen.student_share
    if share is None:
        return [], False
    if seen.denoiser_changed is False:
        return [f"{asked.model} was asked for, but the weights that draw are those without it"], False
    if known is not None and abs(known - 1) > 1 - SMALLER:
        return [f"{asked.model} was asked for, but what draws has {known:.0%} of its parameters"], False
    if share > 1 + (1 - SMALLER):
        return [f"{asked.model} was asked for, but more parameters draw than without it"], False
    return [], bool(seen.denoiser_changed) or share < SMALLER


def _scheduled(asked: Schedule, seen: Any) -> Verdict:
    said = []
    known = SCHEDULES.get((asked.name or "").lower(), (asked.name, {}))[0]
    if asked.name is not None and seen.scheduler not in (None, known):
        said.append(f"schedule {asked.name} was asked for, {seen.scheduler} runs")
    if asked.steps is not None and seen.drawn_steps is not None and seen.drawn_steps != asked.steps:
        said.append(f"{asked.steps} steps were asked for, {seen.drawn_steps:g} were made")
    told = (asked.name is None or seen.scheduler is not None) and (
        asked.steps is None or seen.drawn_steps is not None
    )
    return said, told


def _decoded(asked: Autoencoder, seen: Any) -> Verdict:
    if seen.autoencoder is None:
        return [], False
    same = "Tiny" in seen.autoencoder
    return ([] if same else [f"a {asked.name} autoencoder was asked for, {seen.autoencoder} decodes"]), same


DRAWING: Mapping[type, Callable[[Any, Any], Verdict]] = {
    Compile: _compiled,
    FusedQkv: _fused,
    MemoryFormat: _ordered,
    DistilledModel: _distilled,
    Schedule: _scheduled,
    Autoencoder: _decoded,
}
