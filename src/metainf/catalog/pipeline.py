"""A Model from a diffusers folder: model_index.json and the configurations of its components."""

import json
from pathlib import Path
from typing import Any

from metainf.catalog.weights import params_b
from metainf.domain import BadInput, Model

DENOISERS = ("transformer", "unet", "prior", "decoder")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3", "text_encoder_4")
VAES = ("vae", "vqvae", "movq")
VIDEO = ("3D", "Temporal", "Motion", "Video")


def read_pipeline(folder: Path) -> Model:
    """Model of a diffusers folder. Parameters are counted where .safetensors files lie beside the configs.

    A part without weights keeps its size unknown. Raises BadInput saying which file is missing or wrong.
    """
    index = _json(folder / "model_index.json")
    present = [part for part in DENOISERS if _class(index.get(part))]
    if not present:
        raise BadInput(f"{folder.name}/model_index.json names no denoiser ({', '.join(DENOISERS)})")
    part = present[0]
    kind = _class(index[part]) or part
    config = _json(folder / part / "config.json")
    heads, width = _shape(config)
    denoiser = params_b(folder / part)
    text = _total([params_b(folder / p) for p in TEXT_ENCODERS if _class(index.get(p))])
    vae = _total([params_b(folder / p) for p in VAES if _class(index.get(p))])
    facts: dict[str, Any] = {
        "name": str(index.get("_name_or_path") or folder.resolve().name),
        "modality": "video" if any(word in kind for word in VIDEO) else "image",
        "family": index.get("_class_name"),
        "source": "diffusers folder read from disk",
        "denoiser": kind,
        "num_layers": _layers(config),
        "num_heads": heads,
        "hidden_size": width,
        "denoiser_params_b": denoiser,
        "text_encoder_params_b": text,
        "vae_params_b": vae,
        "params_b": None if denoiser is None or text is None or vae is None else denoiser + text + vae,
        "default_resolution_px": _resolution(folder, config),
    }
    return Model.of({k: v for k, v in facts.items() if v is not None})


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_bytes())
    except OSError as error:
        raise BadInput(f"diffusers folder lacks {file.parent.name}/{file.name}: {error.strerror}") from None
    except ValueError as error:
        raise BadInput(f"{file.parent.name}/{file.name} is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BadInput(f"{file.parent.name}/{file.name} holds a {type(found).__name__}, expected an object")
    return found


def _class(entry: object) -> str | None:
    """Class of a component: an index entry is [library, class], or [null, null] where it is left out."""
    if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str):
        return entry[1]
    return None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _layers(config: dict[str, Any]) -> int | None:
    single = _whole(config.get("num_single_layers")) or 0
    layers = _whole(config.get("num_layers"))
    return None if layers is None else layers + single


def _shape(config: dict[str, Any]) -> tuple[int | None, int | None]:
    """(heads, width) of a transformer denoiser; a UNet has several of each and gives None."""
    heads, each = _whole(config.get("num_attention_heads")), _whole(config.get("attention_head_dim"))
    return heads, heads * each if heads and each else None


def _resolution(folder: Path, config: dict[str, Any]) -> int | None:
    """Pixels of a side: latent sample size × the scale of the VAE."""
    size = _whole(config.get("sample_size"))
    file = folder / "vae" / "config.json"
    if size is None or not file.exists():
        return None
    blocks = _json(file).get("block_out_channels")
    return size * 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else None


def _total(sizes: list[float | None]) -> float | None:
    known = [size for size in sizes if size is not None]
    return sum(known) if sizes and len(known) == len(sizes) else None
