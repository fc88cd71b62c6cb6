"""Pipelines of diffusers: from a folder or a name with their weights, or an architecture with random ones."""

import inspect
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metainf.catalog.architectures import Architecture, architecture
from metainf.domain import BadInput
from metainf.engines.diffusers_script import SCHEDULES, TINY
from metainf.engines.students import student as published
from metainf.hosts.diffusers_weights import Sample, known_params, sampled

SEED = 20_260
"""Of random weights: the same architecture has the same ones in every process."""
PARTS = ("transformer", "unet")
_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
_FLOW = ("SD3Transformer2DModel", "FluxTransformer2DModel", "SanaTransformer2DModel")
_WIDTH_OF_TEXT = ("cross_attention_dim", "joint_attention_dim", "caption_channels")
SWITCHES = ("requires_safety_checker", "force_zeros_for_empty_prompt", "add_watermarker")
"""Of pipelines, about parts that are not there."""
TEXT_TOKENS = 77
WEIGHT_SCALE = 0.7
"""Of the usual initial weights, so that pictures of random weights stay within the numbers of half
precision over many steps."""


@dataclass(frozen=True)
class Loaded:
    """A pipeline, which of its parts removes noise, and how many parameters that part has where nothing is
    distilled. `asks` gives the keywords by which the pipeline is told what the prompts ask. Where a student
    draws: `student_params`, those that it is known to have, and `teacher`, a sample of the weights in whose
    place it draws, where these were read."""

    pipe: Any
    part: str
    full_params: int
    guided: bool
    asks: Callable[[Sequence[str], bool], dict[str, Any]]
    student_params: int | None = None
    teacher: Sample | None = None

    @property
    def denoiser(self) -> Any:
        return getattr(self.pipe, self.part)


def load(model: str, student: str | None, autoencoder: str | None, dtype: Any) -> Loaded:
    """The pipeline of a name or folder. `student`: a distilled model whose denoiser is taken instead.

    Raises BadInput for a part that is not there, OSError for a folder that cannot be read.
    """
    from metainf.hosts.digits import is_digits, load_digits

    if (found := architecture(model)) is not None:
        return _synthetic(found, student, autoencoder, dtype)
    if is_digits(model):
        if autoencoder is not None:
            raise BadInput(f"{model} draws pixels: it has no autoencoder to replace")
        return load_digits(model, student, dtype)
    return _stored(model, student, autoencoder, dtype)


def _stored(model: str, student: str | None, autoencoder: str | None, dtype: Any) -> Loaded:
    import diffusers

    pipe = diffusers.DiffusionPipeline.from_pretrained(model, torch_dtype=dtype)
    part = next((name for name in PARTS if getattr(pipe, name, None) is not None), None)
    if part is None:
        raise BadInput(f"{model}: expected a pipeline with one of {', '.join(PARTS)}, found none of them")
    full, teacher = _params(getattr(pipe, part)), None
    if student is not None:
        teacher = sampled(getattr(pipe, part).named_parameters(), dtype)
        kind = type(getattr(pipe, part))
        known = published(student)
        where = None if known is not None and not known.whole else part
        setattr(pipe, part, kind.from_pretrained(student, subfolder=where, torch_dtype=dtype))
    if autoencoder is not None:
        if getattr(pipe, "vae", None) is None:
            raise BadInput(f"{model}: expected an autoencoder to replace, found none")
        name = TINY.get(type(pipe).__name__, autoencoder) if autoencoder == "tiny" else autoencoder
        pipe.vae = diffusers.AutoencoderTiny.from_pretrained(name, torch_dtype=dtype)
    guided = "negative_prompt" in inspect.signature(type(pipe).__call__).parameters
    size = None if student is None else known_params(student)
    return Loaded(pipe, part, full, guided, lambda prompts, _: {"prompt": list(prompts)}, size, teacher)


def _synthetic(asked: Architecture, student: str | None, autoencoder: str | None, dtype: Any) -> Loaded:
    import diffusers
    import torch

    taken = asked if student is None else architecture(student)
    if taken is None or taken.pipeline != asked.pipeline:
        raise BadInput(f"expected a student of {asked.name} with random weights, found {student}")
    vae_class, vae_config = asked.autoencoder, asked.autoencoder_config
    if autoencoder is not None:
        if asked.tiny_autoencoder is None:
            raise BadInput(f"{asked.name}: no distilled autoencoder is known for this architecture")
        vae_class, vae_config = "AutoencoderTiny", asked.tiny_autoencoder
    torch.manual_seed(SEED)
    denoiser = _made(getattr(diffusers, taken.denoiser), taken.denoiser_config, dtype)
    vae = _made(getattr(diffusers, vae_class), vae_config, dtype)
    part = "unet" if "UNet" in taken.denoiser else "transformer"
    kind = getattr(diffusers, asked.pipeline)
    given: dict[str, Any] = dict.fromkeys(set(inspect.signature(kind).parameters))
    given |= {part: denoiser, "vae": vae, "scheduler": _scheduler(diffusers, asked.denoiser)}
    given |= {name: False for name in SWITCHES if name in given}
    pipe = kind(**given)
    asks = _made_up(pipe, taken.denoiser_config, dtype)
    size = None if student is None else taken.denoiser_params
    return Loaded(pipe, part, asked.denoiser_params, asked.guided, asks, size)


def _made(kind: Any, config: Mapping[str, Any], dtype: Any) -> Any:
    """A part with random weights."""
    import torch

    made = kind(**config).eval().requires_grad_(False)
    with torch.no_grad():
        for value in made.parameters():
            if value.dim() > 1:
                value.mul_(WEIGHT_SCALE)
    return made.to(dtype)


def _scheduler(diffusers: Any, denoiser: str) -> Any:
    if denoiser in _FLOW:
        return diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    return diffusers.DDIMScheduler(**_DIFFUSION, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


def reschedule(loaded: Loaded, name: str) -> None:
    """Another solver in the pipeline's place. BadInput where its kind of diffusion has none of that name."""
    import diffusers

    kind, given = SCHEDULES[name]
    old = loaded.pipe.scheduler
    if "FlowMatch" in type(old).__name__:
        raise BadInput(f"{name}: a flow-matching pipeline keeps its own solver; ask for fewer steps alone")
    loaded.pipe.scheduler = getattr(diffusers, kind).from_config(old.config, **given)


def _made_up(
    pipe: Any, config: Mapping[str, Any], dtype: Any
) -> Callable[[Sequence[str], bool], dict[str, Any]]:
    """Outputs of text encoders that are not there: of each prompt the same numbers every time."""
    import torch

    width = next(config[name] for name in reversed(_WIDTH_OF_TEXT) if config.get(name))
    words = set(inspect.signature(type(pipe).__call__).parameters)
    pooled = config.get("pooled_projection_dim") or _pooled_of_text_time(config)

    def draw(text: str, shape: tuple[int, ...]) -> Any:
        source = torch.Generator().manual_seed(zlib.crc32(text.encode()))
        return torch.randn(shape, generator=source).to(dtype)

    def asks(prompts: Sequence[str], guided: bool) -> dict[str, Any]:
        sides = {"": list(prompts)}
        if guided and "negative_prompt_embeds" in words:
            sides["negative_"] = [""] * len(prompts)
        given: dict[str, Any] = {}
        for side, texts in sides.items():
            given[f"{side}prompt_embeds"] = torch.stack([draw(t, (TEXT_TOKENS, width)) for t in texts])
            if "prompt_attention_mask" in words:
                given[f"{side}prompt_attention_mask"] = torch.ones(len(texts), TEXT_TOKENS, dtype=torch.long)
            if "pooled_prompt_embeds" in words and pooled:
                given[f"{side}pooled_prompt_embeds"] = torch.stack([draw(f"+{t}", (pooled,)) for t in texts])
        if "use_resolution_binning" in words:
            given["use_resolution_binning"] = False
        if "negative_prompt_embeds" in given:
            given["negative_prompt"] = None
        return given

    return asks


def _pooled_of_text_time(config: Mapping[str, Any]) -> int:
    """Width of SDXL's pooled text: what the added embedding leaves beside six numbers of the picture."""
    if config.get("addition_embed_type") != "text_time":
        return 0
    return int(config["projection_class_embeddings_input_dim"]) - 6 * int(config["addition_time_embed_dim"])


def _params(module: Any) -> int:
    return sum(value.numel() for value in module.parameters())


def index_of(folder: Path) -> Mapping[str, Any]:
    """The model_index.json of a folder; empty where there is none."""
    try:
        found: Mapping[str, Any] = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found
