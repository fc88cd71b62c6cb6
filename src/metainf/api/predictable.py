"""What must be known of a device before its speed can be predicted, and what comes nearest otherwise."""

import math

from metainf import catalog
from metainf.domain import Device, Hardware

NEEDED = {"memory_gib": "memory", "memory_bandwidth_gb_per_s": "memory bandwidth"}


def why_not(hardware: Hardware) -> str | None:
    """Why nothing can be predicted on this hardware, with the nearest that can; None where it can be."""
    device = hardware.device
    lacking = [words for field, words in NEEDED.items() if getattr(device, field) is None]
    if not lacking:
        return None
    near = nearest_device(device)
    other = f", or ask about {near.name}, the nearest that is known" if near is not None else ""
    return f"the {' and '.join(lacking)} of {device.name} is not known: give it in a .toml file{other}"


def nearest_device(device: Device) -> Device | None:
    """The known device of the same kind closest in make, architecture, memory and compute."""
    known = [
        d
        for d in catalog.devices().values()
        if d.kind == device.kind and all(getattr(d, field) is not None for field in NEEDED)
    ]
    return min(known, key=lambda other: (_distance(device, other), other.name), default=None)


def _distance(one: Device, other: Device) -> float:
    apart = 2.0 * (one.vendor != other.vendor) + 1.0 * (one.arch != other.arch)
    for field in ("memory_gib", "fp32_tflops", "fp16_tflops", "tdp_w"):
        a, b = getattr(one, field), getattr(other, field)
        apart += abs(math.log(a / b)) if a is not None and b is not None else 0.0
    return apart
