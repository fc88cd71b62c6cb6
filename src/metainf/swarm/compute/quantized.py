"""Linear layers whose weights are whole numbers of eight bits, one scale for each output.

Weights become floats again for each pass, in tiles that stay in the processor's cache: a token then reads a
quarter of the memory that float32 weights take. Activations keep their format, so that a session's numbers do
not depend on the others in its pass.
"""

from typing import Any

from metainf.domain import BadInput

QUANTIZATIONS = ("none", "int8")
TILE = 1 << 20
"""Weights that are made floats at a time."""


def int8_linear(outputs: int, inputs: int, bias: bool, transposed: bool) -> Any:
    """A module without memory yet: `weight` [outputs, inputs] int8, `scale` [outputs], `bias`. `transposed`
    says that the checkpoint holds the weights as [inputs, outputs]."""
    import torch
    from torch.nn.functional import linear

    class Int8Linear(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            empty = {"device": "meta"}
            self.register_buffer("weight", torch.empty((outputs, inputs), dtype=torch.int8, **empty))
            self.register_buffer("scale", torch.empty(outputs, **empty))
            self.register_buffer("bias", torch.empty(outputs, **empty) if bias else None)
            self.transposed, self.tile = transposed, max(1, TILE // inputs)

        def forward(self, hidden: Any) -> Any:
            tiles = self.weight.split(self.tile)
            parts = [linear(hidden, tile.to(hidden.dtype)) for tile in tiles]
            made = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
            made *= self.scale
            return made if self.bias is None else made.add_(self.bias)

    return Int8Linear()


def replaced(layers: Any) -> None:
    """Put such modules in the place of all linear ones of the layers, which have no memory yet."""
    import torch
    from transformers.pytorch_utils import Conv1D

    for parent in list(layers.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, torch.nn.Linear):
                shape, transposed = child.weight.shape, False
            elif isinstance(child, Conv1D):
                shape, transposed = child.weight.shape[::-1], True
            else:
                continue
            setattr(parent, name, int8_linear(shape[0], shape[1], child.bias is not None, transposed))


def as_int8(weight: Any) -> tuple[Any, Any]:
    """The nearest whole numbers within ±127 and the scale of each output, float32, of [outputs, inputs]."""
    import torch

    wide = weight.float()
    scale = wide.abs().amax(dim=1) / 127
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return (wide / scale[:, None]).round().to(torch.int8).contiguous(), scale


def quantized(layers: Any, tensors: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """A layer's tensors with int8 weights and scales wherever `replaced` has put such a module."""
    import torch

    made: dict[str, Any] = {}
    for name, tensor in tensors.items():
        owner, _, kind = name.rpartition(".")
        module = layers.get_submodule(owner)
        if kind != "weight" or getattr(module, "weight", tensor).dtype != torch.int8:
            made[name] = tensor.to(dtype)
            continue
        weight, scale = as_int8(tensor.T if module.transposed else tensor)
        made[name], made[f"{owner}.scale"] = weight, scale.to(dtype)
    return made


def check(quantization: str) -> None:
    """Raises BadInput for one that is not known."""
    if quantization not in QUANTIZATIONS:
        known = ", ".join(QUANTIZATIONS)
        raise BadInput(f"expected weights quantized as one of {known}, found {quantization[:32]!r}")
