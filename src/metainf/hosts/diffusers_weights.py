"""Whose weights draw: a few numbers of each of a denoiser's weights, to tell it from another one, and how
many weights a named model is known to have."""

from collections.abc import Iterable, Mapping
from typing import Any

SAMPLED = 64
"""Numbers of each weight that are compared at most: the first of its first row."""
Sample = Mapping[str, tuple[tuple[int, ...], bytes]]
"""Name of a weight -> its shape and its first numbers in fp32."""


def sampled(named: Iterable[tuple[str, Any]], dtype: Any) -> Sample:
    """The sample of named weights as they are once rounded to `dtype`. Weights that lie nowhere or in a
    format without plain numbers are left out."""
    import torch

    return {
        name: (tuple(value.shape), _numbers(value, dtype))
        for name, value in named
        if type(value) in (torch.Tensor, torch.nn.Parameter) and not value.is_meta
    }


def _numbers(value: Any, dtype: Any) -> bytes:
    row = value.detach()
    while row.dim() > 1:
        row = row[0]
    found: bytes = row.reshape(-1)[:SAMPLED].to(dtype).float().cpu().numpy().tobytes()
    return found


def changed(now: Sample, before: Sample) -> bool | None:
    """Whether weights of the same names are other ones, or none is left. None where nothing is told of
    them now."""
    if not now:
        return None
    both = now.keys() & before.keys()
    return not both or any(now[name] != before[name] for name in both)


def known_params(name: str) -> int | None:
    """Parameters that the denoiser of a catalogue's model has; None of a folder and of any other name, whose
    weights tell whether they are a student's."""
    from metainf.catalog import models

    facts = models().get(name)
    size = None if facts is None else facts.denoiser_params_b
    return None if size is None else round(size * 1e9)
