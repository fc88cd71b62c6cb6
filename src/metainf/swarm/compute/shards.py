"""A Hugging Face checkpoint, of which only some tensors are read."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra, NotSupported

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gpt2")
"""Architectures whose blocks are known to give the logits of the whole model; the tests try each."""
CHUNK = 1 << 22


class Checkpoint:
    """A folder with config.json and safetensors. Raises BadInput where it holds none, NotSupported for an
    architecture that is not one of FAMILIES."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        config = folder / "config.json"
        if not config.is_file():
            raise BadInput(f"expected a checkpoint with a config.json in {folder}, found none")
        try:
            self.told: dict[str, Any] = json.loads(config.read_bytes())
        except ValueError as error:
            raise BadInput(f"{config} is not JSON: {error}") from None
        self.family = str(self.told.get("model_type"))
        if self.family not in FAMILIES:
            raise NotSupported(f"blocks of {self.family} are not known: {', '.join(FAMILIES)} are")
        if self.told.get("scale_attn_by_inverse_layer_idx"):
            raise NotSupported("attention that depends on the number of its layer cannot be cut into spans")
        self.num_blocks = int(self.told.get("num_hidden_layers") or self.told.get("n_layer") or 0)
        self.files = self._files()

    def _files(self) -> dict[str, Path]:
        """Where each tensor lies."""
        paths = sorted(self.folder.glob("*.safetensors"))
        if not paths:
            raise BadInput(f"expected *.safetensors in {self.folder}, found none")
        found: dict[str, Path] = {}
        for path in paths:
            with _opened(path) as file:
                found |= dict.fromkeys(file.keys(), path)
        return found

    def digest(self) -> str:
        """Content hash of configuration and weights: two nodes may only work together where it is equal."""
        total = hashlib.blake2b(digest_size=16)
        for path in [self.folder / "config.json", *sorted(set(self.files.values()))]:
            total.update(f"{path.name} {path.stat().st_size}\n".encode())
            with path.open("rb") as file:
                while piece := file.read(CHUNK):
                    total.update(piece)
        return f"b2:{total.hexdigest()}"

    def tensors(self, names: Iterable[str], prefix: str) -> dict[str, Any]:
        """The named tensors, and no others, read from the disk. Names in the file may lack the `prefix`.

        Raises BadInput naming those that are not there.
        """
        wanted: dict[Path, list[tuple[str, str]]] = {}
        lacking = []
        for name in names:
            here = next((n for n in (name, name.removeprefix(f"{prefix}.")) if n in self.files), None)
            if here is None:
                lacking.append(name)
            else:
                wanted.setdefault(self.files[here], []).append((name, here))
        if lacking:
            raise BadInput(f"{self.folder} lacks {len(lacking)} tensors: {', '.join(lacking[:3])}")
        found: dict[str, Any] = {}
        for path, pairs in wanted.items():
            with _opened(path) as file:
                found |= {name: file.get_tensor(here) for name, here in pairs}
        return found

    def holds(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self.files


def _opened(path: Path) -> Any:
    try:
        from safetensors import safe_open
    except ImportError:
        raise MissingExtra("blocks of a model", "swarm") from None
    try:
        return safe_open(str(path), framework="pt")
    except ImportError:
        raise MissingExtra("blocks of a model", "swarm") from None
    except Exception as error:  # the library's error type is not public
        raise BadInput(f"{path} cannot be read: {error}") from None
