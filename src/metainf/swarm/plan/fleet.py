"""Nodes for a simulated swarm, with the memory and speed of real devices of the catalogue.

Speeds are arithmetic (a block's bytes over the memory bandwidth, its operations over the compute), not
measured. Places are invented: nodes live around six cities on a plane of milliseconds.
"""

from dataclasses import dataclass

import numpy as np

from metainf.catalog.devices import devices
from metainf.domain import BadInput, Device, Model
from metainf.swarm.plan.table import Floats, Ints

BYTES_PER_PARAMETER = 2.0
SHARE_OF_BANDWIDTH, SHARE_OF_COMPUTE, SHARE_OF_MEMORY = 0.6, 0.35, 0.8
BATCH = 8
"""Sessions whose steps one reading of the weights serves; the most that a node takes into one pass."""
CITIES = np.array([[0.0, 0.0], [18.0, 6.0], [70.0, 10.0], [95.0, 35.0], [60.0, 85.0], [150.0, 60.0]])
SPREAD_MS = 5.0


@dataclass(frozen=True)
class Fleet:
    """One row a node. Milliseconds, but `block passes a second` counts a full batch; places are in ms."""

    names: tuple[str, ...]
    memory_blocks: Ints
    decode_ms: Floats
    prefill_ms: Floats
    blocks_per_s: Floats
    places: Floats

    def __len__(self) -> int:
        return len(self.names)


def usable(model: Model, most_gib: float = np.inf) -> list[Device]:
    """Devices of the catalogue that hold at least one block, have at most `most_gib` of memory, and whose
    bandwidth and compute are known."""
    return [
        device
        for device in devices().values()
        if device.kind in ("gpu", "apu")
        and device.memory_bandwidth_gb_per_s is not None
        and device.fp16_tflops is not None
        and device.memory_gib is not None
        and device.memory_gib <= most_gib
        and device.memory_gib * 2**30 * SHARE_OF_MEMORY >= _block_bytes(model)
    ]


def fleet(model: Model, count: int, rng: np.random.Generator, most_gib: float = np.inf) -> Fleet:
    """`count` nodes, drawn evenly from the usable devices. Raises BadInput for a model of
    unknown size."""
    found = usable(model, most_gib)
    if not found:
        raise BadInput(f"expected devices that hold a block of {model.name}, found none")
    drawn = [found[int(each)] for each in rng.integers(0, len(found), count)]
    size = _block_bytes(model)
    bandwidth = np.array([device.memory_bandwidth_gb_per_s or np.nan for device in drawn]) * 1e9
    compute = np.array([device.fp16_tflops or np.nan for device in drawn]) * 1e12
    memory = np.array([device.memory_gib or np.nan for device in drawn]) * 2**30 * SHARE_OF_MEMORY
    decode_s = size / (bandwidth * SHARE_OF_BANDWIDTH)
    operations = 2 * size / BYTES_PER_PARAMETER
    homes = CITIES[rng.integers(0, len(CITIES), count)]
    return Fleet(
        names=tuple(device.name for device in drawn),
        memory_blocks=(memory // size).astype(np.int64),
        decode_ms=decode_s * 1000,
        prefill_ms=operations / (compute * SHARE_OF_COMPUTE) * 1000,
        blocks_per_s=BATCH / decode_s,
        places=homes + rng.normal(0, SPREAD_MS, (count, 2)),
    )


def _block_bytes(model: Model) -> float:
    if model.params_b is None or model.num_layers is None:
        raise BadInput(f"expected a model with known parameters and layers, found {model.name}")
    return model.params_b * 1e9 * BYTES_PER_PARAMETER / model.num_layers
