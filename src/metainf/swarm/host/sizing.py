"""How much memory a block takes, read from the headers of a checkpoint, and how much this machine has."""

import re
from math import prod
from pathlib import Path

from metainf.catalog.huggingface import model_of
from metainf.catalog.weights import BYTES, header
from metainf.domain import BadInput
from metainf.measure.monitor import free_gib
from metainf.swarm.compute.shards import Checkpoint
from metainf.swarm.plan.joining import GIB, Need
from metainf.swarm.plan.table import missing

BLOCK = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
WIDTH = {"float32": 4, "float16": 2, "bfloat16": 2}
STORED = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
TOKENS = 8192
"""Of all sessions together, for which room is kept in the caches."""
SHARE = 0.9
"""Of the free memory that is taken where nobody says how much."""
CGROUP = Path("/sys/fs/cgroup")


def need(checkpoint: Checkpoint, dtype: str = "float32", tokens: int = TOKENS) -> Need:
    """What the largest block takes. Raises BadInput where blocks have no weights in the folder.

    Weights that are stored in another number format are kept as they are stored too.
    """
    sizes: dict[int, int] = {}
    for path in sorted(set(checkpoint.files.values())):
        for name, tensor in header(path).items():
            if found := BLOCK.search(name):
                count, stored = prod(tensor["shape"]), str(tensor.get("dtype"))
                size = count * WIDTH[dtype] + (count * BYTES.get(stored, 4) if stored != STORED[dtype] else 0)
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
    return Need(weights=max(sizes.values()), cache=2 * width * WIDTH[dtype] * tokens)


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
