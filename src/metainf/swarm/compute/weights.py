"""Checkpoints made here: of a GGUF file, once, in the cache folder; and of random weights, for tests."""

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

from metainf.domain import BadInput, MissingExtra
from metainf.measure.weights import bundled, cache_folder


def packaged(cache: Path | None = None) -> Path:
    """SmolLM2-135M-Instruct in float32, from the packaged GGUF. MissingWeights without the package."""
    return checkpoint_of(bundled(), cache)


def checkpoint_of(source: Path, cache: Path | None = None, dtype: str = "float32") -> Path:
    """The folder of a checkpoint of a GGUF file's weights; what quantizing lost stays lost.

    The folder appears only when it is whole. Raises BadInput for a broken file, MissingExtra.
    """
    stamp = source.stat()
    told = f"{source.name} {stamp.st_size} {stamp.st_mtime_ns} {dtype}"
    mark = hashlib.blake2b(told.encode(), digest_size=5).hexdigest()
    folder = (cache or cache_folder()) / f"blocks-{mark}" / source.stem
    if folder.is_dir():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch) / source.stem
        _unpack(source, made, dtype)
        if not folder.is_dir():
            shutil.move(made, folder)
    return folder


def _unpack(source: Path, folder: Path, dtype: str) -> None:
    try:
        import accelerate  # noqa: F401
        import gguf  # noqa: F401
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    except ImportError:
        raise MissingExtra("reading GGUF weights for blocks", "swarm") from None
    place, name = str(source.parent), source.name
    try:
        AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(
            place,
            gguf_file=name,
            dtype=getattr(torch, dtype),
            quantization_config=GgufConfig(dequantize=True),
        )
    except (ValueError, OSError, RuntimeError) as error:
        raise BadInput(f"{source} cannot be read: {error}") from None
    config = model.config
    config.__dict__.pop("quantization_config", None)
    whole = type(model)(config).to(getattr(torch, dtype))
    lacking = [
        key
        for key in whole.load_state_dict(model.state_dict(), strict=False).missing_keys
        if not key.endswith("lm_head.weight")
    ]
    if lacking:
        raise BadInput(f"{source} lacks {', '.join(lacking[:3])}")
    whole.save_pretrained(folder)


def random_checkpoint(config: dict[str, Any], folder: Path, seed: int = 0, spread: float = 0.3) -> Path:
    """A checkpoint of any architecture that the transformers library knows: `config` as its config.json tells
    it, all weights normal with that standard deviation, which lets small models say many different things.

    The same seed gives the same weights. Raises BadInput for an architecture the library does not know or a
    configuration that it refuses, MissingExtra.
    """
    try:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM
    except ImportError:
        raise MissingExtra("random weights for blocks", "swarm") from None
    told = dict(config)
    try:
        made = AutoConfig.for_model(str(told.pop("model_type", "")), **told)
        model = AutoModelForCausalLM.from_config(made, dtype=torch.float32)
    except (ValueError, TypeError, KeyError) as error:
        raise BadInput(f"expected the configuration of a language model: {error}") from None
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=spread, generator=source)
    model.save_pretrained(folder)
    return folder
