"""Which folder of weights a name means."""

from pathlib import Path

from metainf.domain import BadInput
from metainf.measure.weights import SMOLLM2
from metainf.swarm.compute.weights import checkpoint_of, packaged

PACKAGED = (SMOLLM2, SMOLLM2.removesuffix("-Instruct"), f"HuggingFaceTB/{SMOLLM2}")


def folder_of(model: str | None) -> Path:
    """The checkpoint's folder of a folder, a GGUF file, the packaged model's name (also where none is given),
    or a hub name whose files lie in the hub's cache already.

    The first time a GGUF file is unpacked into the user's cache folder. Raises BadInput and MissingExtra."""
    if model is None or model.lower() in [name.lower() for name in PACKAGED]:
        return packaged()
    path = Path(model)
    if path.suffix == ".gguf":
        if not path.is_file():
            raise BadInput(f"expected a GGUF file at {path}, found none")
        return checkpoint_of(path)
    if path.is_dir():
        return path
    if (found := _cached(model)) is not None:
        return found
    raise BadInput(
        f"expected a checkpoint's folder, a GGUF file, {SMOLLM2} or a hub name whose files are in the hub's "
        f"cache, found {model[:200]!r}: the client needs the model's embedding, head and tokenizer"
    )


def _cached(name: str) -> Path | None:
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not a hub name, or nothing in the cache: the library has many kinds
        return None
