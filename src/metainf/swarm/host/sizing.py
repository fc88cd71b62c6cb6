"""How much memory a block takes, read from the headers of a checkpoint, and how much this machine has."""

import re
from collections.abc import Sequence
from math import prod
from pathlib import Path

from metainf.catalog.huggingface import model_of
from metainf.catalog.weights import BYTES, header
from metainf.domain import BadInput
from metainf.measure.monitor import free_gib
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.plan.joining import CACHE_TOKENS, GIB, Need
from metainf.swarm.plan.table import missing
from metainf.swarm.words import Profile

BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
MATRIX = 2
"""Dimensions of the weights that are held as int8: those of linear layers."""
STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SHARE = 0.9
"""Of the free memory that is taken where nobody says how much."""
CGROUP = Path("/sys/fs/cgroup")


def need(checkpoint: Checkpoint, profile: Profile | None = None, tokens: int = CACHE_TOKENS) -> Need:
    """What the largest block takes under a profile (float32 by default), with the keys and values of so many
    tokens. Raises BadInput where blocks have no weights in the folder.
    """
    profile = profile or Profile(dtype="float32")
    sizes: dict[int, int] = {}
    for path in sorted(set(checkpoint.files.values())):
        for name, tensor in header(path).items():
            if found := BLOCK.search(name):
                size = held_bytes(tensor["shape"], str(tensor.get("dtype")), profile)
                sizes[int(found[1])] = sizes.get(int(found[1]), 0) + size
    lacking = missing([(number, number + 1) for number in sizes], checkpoint.num_blocks)
    if lacking:
        blocks = ", ".join(map(str, lacking[:4]))
        raise BadInput(
            f"expected weights of all {checkpoint.num_blocks} blocks in {checkpoint.folder}, found none of "
            f"{blocks}: fetch the files that are absent"
        )
    model = model_of(checkpoint.told, checkpoint.folder.name)
    heads, dim = model.num_kv_heads or model.num_heads, model.head_dim
    if heads is None or model.hidden_size is None or model.num_heads is None:
        raise BadInput(f"{checkpoint.folder / 'config.json'} does not tell the heads of a block")
    width = heads * (dim or model.hidden_size // model.num_heads)
    return Need(weights=max(sizes.values()), cache=2 * width * WIDTH[profile.dtype] * tokens)


def held_bytes(shape: Sequence[int], stored: str, profile: Profile) -> int:
    """What a tensor of a block takes once it is loaded.

    As int8 a linear layer's weight is one byte a number and a scale for each output (of which there are at
    most as many as the longer side has). What is stored in another number format is kept as stored, too.
    """
    count, width = prod(shape), WIDTH[profile.dtype]
    if profile.quantization == "int8" and len(shape) == MATRIX:
        return count + max(shape) * width
    return count * width + (count * BYTES.get(stored, 4) if stored != STORED[profile.dtype] else 0)


def budget(memory_gib: float | None) -> float:
    """Bytes for blocks and their caches: those that were given, else most of what is free now. Raises
    MissingExtra without psutil."""
    if memory_gib is not None:
        return memory_gib * GIB
    limits = [free_gib() * GIB, *_cgroup(CGROUP)]
    return min(limits) * SHARE


def _cgroup(folder: Path) -> list[float]:
    """What a container may still take; nothing where it has no limit."""
    try:
        most = (folder / "memory.max").read_text().strip()
        used = (folder / "memory.current").read_text().strip()
    except OSError:
        return []
    return [float(int(most) - int(used))] if most.isdigit() and used.isdigit() else []
