"""Hugging Face folders written anew for engines that read no GGUF: weights in int8, or fewer layers.

int8 is W8A8: whole numbers of eight bits with one scale for each row, made by rounding to the nearest, and
activations rounded while they are computed, in the layout of the compressed-tensors project
(`int-quantized`). One tensor is in memory at a time, and a folder appears only when it is whole.
"""

import hashlib
import json
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from metainf.catalog.weights import header
from metainf.domain import BadInput, Method, Model, NotSupported, Speculative, WeightQuantization
from metainf.engines.formats import canonical
from metainf.measure.rewriting import Progress
from metainf.measure.weights import cache_folder, draft_layers

MATRIX = "_proj.weight"
"""How the names of the matrices end that are rounded; embeddings, norms and the head stay."""
ROUNDED, READERS = ("int8", "w8a8"), ("vllm",)
"""Weight formats that are made here, and the engines that read them."""
_HEADER = "__metadata__"
_INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "ignore": ["lm_head"],
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {
                "num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False
            },
            "input_activations": {
                "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True
            },
        }
    },
}  # fmt: skip

Floats = NDArray[np.float32]
Piece = tuple[str, str, tuple[int, ...], bytes]  # name, number format, shape, content


@dataclass(frozen=True)
class Change:
    """What a new folder has otherwise: matrices in `int8`, or only the first `layers`."""

    int8: bool = False
    layers: int | None = None

    @property
    def name(self) -> str:
        return "int8" if self.int8 else f"first-{self.layers}-layers"

    def keeps(self, name: str) -> bool:
        """Whether a tensor stays, by its name (`model.layers.12.mlp.up_proj.weight`)."""
        parts = name.split(".")
        number = parts[parts.index("layers") + 1] if "layers" in parts[:-1] else ""
        return self.layers is None or not number.isdecimal() or int(number) < self.layers

    def config(self, told: Mapping[str, Any]) -> dict[str, Any]:
        more = {"quantization_config": _INT8} if self.int8 else {"num_hidden_layers": self.layers}
        return {**told, **more}


def located_checkpoint(
    model: Model,
    method: Method,
    cache: Path | None = None,
    progress: Progress | None = None,
    write: bool = True,
) -> tuple[Model, Method]:
    """The model with its `source` the folder that the method needs, and the method with its draft's path.

    For `int8` that is a folder in the cache, made here unless the checkpoint is quantized already. A
    `draft_model` named `first-4-layers` becomes the first layers of the model, one named `int8` the model
    rounded. Without `write` they are only named. Raises BadInput and NotSupported for weights that cannot be
    written anew.
    """
    folder = Path(model.source or model.name).expanduser().resolve()
    quantized, drafted = method.get(WeightQuantization), method.get(Speculative)
    source, rounds = folder, method.engine in READERS and model.quantization is None
    if rounds and quantized is not None and canonical(quantized.format) in ROUNDED:
        source = _made(folder, Change(int8=True), cache, progress, write)
    draft = None if drafted is None else drafted.draft_model
    if drafted is not None and draft is not None:
        layers, path, change = draft_layers(draft), Path(draft).expanduser(), None
        if layers is not None or draft.lower() in ROUNDED:
            change = Change(int8=layers is None, layers=layers)
            path = _made(folder, change, cache, progress, write)
        if change is not None or path.exists():
            named = drafted.model_copy(update={"draft_model": str(path.resolve())})
            others = tuple(item for item in method.techniques if item is not drafted)
            method = method.model_copy(update={"techniques": (*others, named)})
    return model.model_copy(update={"source": str(source)}), method


def _made(folder: Path, change: Change, cache: Path | None, progress: Progress | None, write: bool) -> Path:
    """The new folder in the cache, named after the weights as they are now; written if need be."""
    told = _config(folder)
    if change.layers is not None and not 0 < change.layers < told.get("num_hidden_layers", 0):
        most = max(1, told.get("num_hidden_layers", 2) - 1)
        raise BadInput(f"expected 1 to {most} layers for a draft of {folder.name}, found {change.layers}")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(f"expected .safetensors files in {folder}, found none")
    stamps = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    key = hashlib.sha256(f"{folder.resolve()}:{stamps}".encode()).hexdigest()[:10]
    target = (cache or cache_folder()) / key / f"{folder.name}-{change.name}"
    if write and not target.exists():
        _write(folder, files, target, change, progress)
    return target


def _write(folder: Path, files: list[Path], target: Path, change: Change, progress: Progress | None) -> None:
    names = [name for file in files for name in header(file) if change.keeps(name)]
    if change.int8 and not any(name.endswith(MATRIX) for name in names):
        raise NotSupported(
            f"cannot round {folder.name} to int8: expected matrices named ...{MATRIX}, found none"
        )
    if change.int8 and _config(folder).get("num_experts"):
        raise NotSupported(f"cannot round {folder.name} to int8: only dense models are rounded here")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, ignore_cleanup_errors=True) as made:
        new, done = Path(made) / target.name, 0
        new.mkdir()
        for each in folder.iterdir():
            if each.is_file() and each.suffix not in (".safetensors", ".gguf", ".bin"):
                shutil.copy(each, new / each.name)
        config = change.config(_config(folder))
        (new / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for file in files:
            done = _rewrite(file, new / file.name, change, _told(progress, done, len(names)))
        new.rename(target)


def _told(progress: Progress | None, before: int, total: int) -> Callable[[int], int]:
    def tell(done: int) -> int:
        if progress is not None:
            progress(before + done, total)
        return before + done

    return tell


def _rewrite(file: Path, target: Path, change: Change, tell: Callable[[int], int]) -> int:
    """Write one file anew, through a body of its own, since the header tells the sizes first."""
    entries: dict[str, Any] = {_HEADER: {"format": "pt"}}
    at = count = 0
    with tempfile.TemporaryFile(dir=target.parent) as body:
        for count, pieces in enumerate(_pieces(file, change), 1):
            for name, kind, shape, content in pieces:
                entries[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + len(content)]}
                body.write(content)
                at += len(content)
            tell(count)
        head = json.dumps(entries).encode()
        head += b" " * (-len(head) % 8)
        body.seek(0)
        with target.open("wb") as whole:
            whole.write(struct.pack("<Q", len(head)) + head)
            shutil.copyfileobj(body, whole)
    return tell(count)


def _pieces(file: Path, change: Change) -> Iterator[list[Piece]]:
    """What becomes of each tensor that stays: itself, or rounded numbers and their scales."""
    entries = header(file)
    with file.open("rb") as weights:
        start = 8 + int(struct.unpack("<Q", weights.read(8))[0])
        for name, entry in entries.items():
            if not change.keeps(name):
                continue
            kind, shape, content = entry["dtype"], tuple(entry["shape"]), _content(weights, start, entry)
            if change.int8 and name.endswith(MATRIX) and len(shape) == 2:
                rounded, scales = to_int8(_floats(content, kind, name).reshape(shape))
                yield [
                    (name, "I8", shape, rounded.tobytes()),
                    (f"{name}_scale", "F32", (shape[0], 1), scales.tobytes()),
                ]
            else:
                yield [(name, kind, shape, content)]


def to_int8(matrix: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Whole numbers from -127 to 127 of the shape (rows, columns), and a scale for each row (rows, 1)."""
    scales = np.maximum(np.abs(matrix).max(axis=1, keepdims=True), np.float32(1e-8)) / np.float32(127)
    return np.clip(np.rint(matrix / scales), -127, 127).astype(np.int8), scales.astype(np.float32)


def _floats(content: bytes, kind: str, name: str) -> Floats:
    if kind == "BF16":
        return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32)
    if kind not in ("F32", "F16"):
        raise NotSupported(f"cannot round {name} to int8: expected F32, F16 or BF16 numbers, found {kind}")
    return np.frombuffer(content, "<f4" if kind == "F32" else "<f2").astype(np.float32)


def _content(weights: BinaryIO, start: int, entry: Mapping[str, Any]) -> bytes:
    first, last = entry["data_offsets"]
    weights.seek(start + first)
    return weights.read(last - first)


def _config(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise BadInput(f"expected a readable config.json in {folder}, found none: {error}") from None
