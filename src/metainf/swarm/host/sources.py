"""What a model is called -> the folder of a checkpoint whose blocks can be read."""

from pathlib import Path

from metainf.catalog.models import lookup
from metainf.domain import BadInput, NotSupported
from metainf.measure.weights import SMOLLM2
from metainf.swarm.compute.weights import checkpoint_of, packaged

PACKAGED = (SMOLLM2.lower(), SMOLLM2.removesuffix("-Instruct").lower())


def folder_of(model: str | None, cache: Path | None = None) -> Path:
    """A checkpoint's folder itself, a GGUF file unpacked into the cache folder, the packaged model by its
    name (or none at all), or a hub name whose files lie in the hub's cache already.

    Raises BadInput for what is no model, NotSupported for a model of the catalogue whose weights are not at
    hand: nothing is fetched from the network. MissingWeights where the packaged one is not installed.
    """
    if model is None or _is_packaged(model):
        return packaged(cache)
    path = Path(model).expanduser()
    if path.suffix.lower() == ".gguf":
        if not path.is_file():
            raise BadInput(f"expected a GGUF file at {path}, found none")
        return checkpoint_of(path, cache)
    if path.is_dir():
        return path
    if (found := _cached(model)) is not None:
        return found
    if lookup(model) is not None:
        raise NotSupported(
            f"the weights of {model} are not at hand and nothing is fetched: give the folder of its "
            "checkpoint (config.json and *.safetensors) or a GGUF file"
        )
    raise BadInput(
        f"expected a checkpoint's folder, a GGUF file, {SMOLLM2} or a hub name whose files are in the hub's "
        f"cache, found {model[:200]!r}"
    )


def _is_packaged(model: str) -> bool:
    return model.rsplit("/", 1)[-1].lower() in PACKAGED and not Path(model).exists()


def _cached(name: str) -> Path | None:
    """Where the hub's library keeps the files of that name; None where it has none."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        return None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # not a hub name, or nothing in the cache: the library has many kinds
        return None
