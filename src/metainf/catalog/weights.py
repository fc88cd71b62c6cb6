"""How many parameters the .safetensors files of a folder hold: headers and index are read, weights never.

Layout from the safetensors project: 8 bytes with the length of the header, then the header in JSON.
"""

import json
import struct
from math import prod
from pathlib import Path
from typing import Any

from metainf.domain import BadInput

INDEX_ENDING = ".safetensors.index.json"
VARIANTS = (".fp16", ".bf16", ".non_ema", ".fp8")
BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
"""Bytes of one parameter of each floating type; integers may hold several parameters each."""


def params_b(folder: Path) -> float | None:
    """Billions of parameters of one variant of a folder's weights.

    None where there are no weights, where they are packed into integers, or where only some files of a
    split checkpoint lie there and its index does not tell the rest. Raises BadInput for a broken file.
    """
    files = _plain(sorted(folder.glob("*.safetensors")))
    indexes = _plain(sorted(folder.glob(f"*{INDEX_ENDING}")))
    heads = {file.name: header(file) for file in files}
    if any(_packed(head) for head in heads.values()):
        return None
    if not indexes:
        return sum(map(_count, heads.values())) / 1e9 if heads else None
    index = read_index(indexes[0])
    named = set(index["weight_map"].values())
    if named <= set(heads):
        return sum(_count(heads[name]) for name in named) / 1e9
    return _told(index, [heads[name] for name in sorted(named & set(heads))])


def read_index(file: Path) -> dict[str, Any]:
    """Index of a split checkpoint. Raises BadInput where it is not one."""
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{file.name} is not a readable index of safetensors files: {error}") from None
    parts = found.get("weight_map") if isinstance(found, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(name, str) for name in parts.values()):
        raise BadInput(f"{file.name}: expected a weight_map from tensors to files, found none")
    return dict(found)


def header(file: Path) -> dict[str, Any]:
    """Tensors of one file: name -> {dtype, shape}. Raises BadInput for a foreign or truncated one."""
    try:
        with file.open("rb") as opened:
            (size,) = struct.unpack("<Q", opened.read(8))
            if size > file.stat().st_size:
                raise ValueError("header longer than the file")
            found = json.loads(opened.read(size))
        tensors = {name: tensor for name, tensor in found.items() if name != "__metadata__"}
        for tensor in tensors.values():
            tensor["shape"] = [int(dimension) for dimension in tensor["shape"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, struct.error) as error:
        raise BadInput(f"{file.name} is not a readable safetensors file: {error}") from None
    return tensors


def _plain(files: list[Path]) -> list[Path]:
    plain = [file for file in files if not any(variant in file.name for variant in VARIANTS)]
    return plain or files


def _count(head: dict[str, Any]) -> int:
    return sum(prod(tensor["shape"]) for tensor in head.values())


def _packed(head: dict[str, Any]) -> bool:
    """Whether most weights sit in integers: quantized checkpoints hold several in each."""
    whole: int = sum(prod(t["shape"]) for t in head.values() if str(t.get("dtype", "F16")) not in BYTES)
    return whole > 0.5 * _count(head)


def _told(index: dict[str, Any], heads: list[dict[str, Any]]) -> float | None:
    """Billions that an index tells: its count, else its bytes by the type that its known files hold."""
    facts = index.get("metadata")
    facts = facts if isinstance(facts, dict) else {}
    total, size = facts.get("total_parameters"), facts.get("total_size")
    if isinstance(total, int) and total > 0:
        return total / 1e9
    kinds = {str(tensor.get("dtype")) for head in heads for tensor in head.values()}
    if not isinstance(size, int | float) or size <= 0 or len(kinds) != 1 or not kinds <= set(BYTES):
        return None
    return float(size) / BYTES[kinds.pop()] / 1e9
