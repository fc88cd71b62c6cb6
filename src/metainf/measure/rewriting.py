"""A GGUF file written anew with the `gguf` package: in another number format, or with fewer layers.

One tensor is in memory at a time. The new file appears under its name only when it is whole.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metainf.catalog.gguf_model import FILE_TYPES
from metainf.domain import BadInput, MissingExtra

Progress = Callable[[int, int], None]
"""Called with (tensors written, tensors in all)."""

_ENDS = ("token_embd.weight", "output.weight")
_ABANDONED_S = 3600.0  # a conversion at work writes more often than this


@dataclass(frozen=True)
class Rewrite:
    """What changes: the `kind` of numbers, and how many of the first `layers` stay; None leaves it."""

    kind: str | None = None
    layers: int | None = None

    def keeps(self, name: str) -> bool:
        """Whether a tensor stays, by its name (`blk.12.ffn_up.weight`)."""
        parts = name.split(".")
        return self.layers is None or parts[0] != "blk" or int(parts[1]) < self.layers

    def kind_of(self, tensor: Any, gguf: Any) -> Any:
        """The type to write a tensor in: norms as they are, rows that blocks do not fill in F16."""
        types, held = gguf.GGMLQuantizationType, tensor.tensor_type
        if self.kind is None or len(tensor.shape) < 2:
            return held
        wanted = types[self.kind]
        if tensor.name in _ENDS and self.kind.startswith(("Q4", "Q5")):
            wanted = types.Q8_0
        block, _ = gguf.GGML_QUANT_SIZES[wanted]
        return wanted if int(tensor.shape[0]) % block == 0 else types.F16

    def metadata(self, architecture: str) -> dict[str, int]:
        """What the new file states otherwise than the old."""
        found: dict[str, int] = {}
        if self.kind is not None:
            found["general.file_type"] = next(n for n, name in FILE_TYPES.items() if name == self.kind)
        if self.layers is not None:
            found[f"{architecture}.block_count"] = self.layers
        return found


def rewritten(path: Path, target: Path, change: Rewrite, progress: Progress | None = None) -> Path:
    """Write `path` with this change to `target`; a failure or a kill leaves no target.

    Raises MissingExtra without the package, BadInput for a file whose tensors cannot be read.
    """
    try:
        import gguf
    except ImportError:
        raise MissingExtra("rewriting GGUF weights", "gguf") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    for old in target.parent.glob("*.part"):
        if time.time() - old.stat().st_mtime > _ABANDONED_S:
            old.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(
        dir=target.parent, prefix=target.stem, suffix=".part", delete=False
    ) as file:
        part = Path(file.name)
    try:
        try:
            reader = gguf.GGUFReader(path)
        except (ValueError, IndexError, KeyError) as error:
            raise BadInput(f"{path} is no whole GGUF file: {error}") from None
        _write(gguf, reader, part, change, progress)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _write(gguf: Any, reader: Any, part: Path, change: Rewrite, progress: Progress | None) -> None:
    architecture = str(reader.fields["general.architecture"].contents())
    changed = change.metadata(architecture)
    writer = gguf.GGUFWriter(part, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        inner = field.types[-1] if len(field.types) > 1 else None
        writer.add_key_value(name, changed.get(name, field.contents()), field.types[0], inner)
    kept = [(tensor, change.kind_of(tensor, gguf)) for tensor in reader.tensors if change.keeps(tensor.name)]
    for tensor, kind in kept:
        _announce(gguf, writer, tensor, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for done, (tensor, kind) in enumerate(kept, 1):
        data = tensor.data
        if kind != tensor.tensor_type:
            data = gguf.quantize(gguf.dequantize(data, tensor.tensor_type), kind)
        writer.write_tensor_data(data)
        if progress is not None:
            progress(done, len(kept))
    writer.close()


def _announce(gguf: Any, writer: Any, tensor: Any, kind: Any) -> None:
    """Name, shape, type and size of a tensor; blocked types give the bytes of a row as its length."""
    import numpy as np

    types = gguf.GGMLQuantizationType
    block, size = gguf.GGML_QUANT_SIZES[kind]
    rows = [int(n) for n in reversed(tensor.shape)]
    plain = {types.F32: np.float32, types.F16: np.float16}.get(kind)
    if plain is None:
        rows[-1] = rows[-1] // block * size
    bytes_in_all = int(tensor.n_elements) // block * size
    writer.add_tensor_info(tensor.name, rows, np.dtype(plain or np.uint8), bytes_in_all, kind)
