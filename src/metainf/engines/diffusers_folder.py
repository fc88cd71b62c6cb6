"""What a pipeline's folder must hold, told from its model_index.json before anything runs. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from metainf.domain import Autoencoder, BadInput, DistilledModel, Method, NotSupported
from metainf.engines.diffusers_script import TINY
from metainf.engines.students import student

DENOISERS = ("transformer", "unet")
_UNET = ("unet", "vae", "scheduler")
_TRANSFORMER = ("transformer", "vae", "scheduler")
_TEXT = ("text_encoder", "tokenizer")
NEEDS: Mapping[str, tuple[str, ...]] = {
    "StableDiffusionPipeline": (*_UNET, *_TEXT),
    "StableDiffusionXLPipeline": (*_UNET, "text_encoder_2", "tokenizer_2"),
    "StableDiffusion3Pipeline": (*_TRANSFORMER, *_TEXT),
    "FluxPipeline": (*_TRANSFORMER, *_TEXT, "text_encoder_2", "tokenizer_2"),
    "PixArtAlphaPipeline": (*_TRANSFORMER, *_TEXT),
    "PixArtSigmaPipeline": (*_TRANSFORMER, *_TEXT),
    "SanaPipeline": (*_TRANSFORMER, *_TEXT),
}
"""Parts without which a pipeline of diffusers 0.42 draws nothing. Of other pipelines the denoiser alone is
asked for."""


@dataclass(frozen=True)
class PipelineFolder:
    """What lies in one. `index`: its model_index.json; `folders`: names of what lies beside it; `known`:
    whether diffusers has the class that the index names; `students`: what lies in other folders that a method
    may name, by their paths."""

    name: str
    index: Mapping[str, Any]
    folders: Collection[str]
    known: bool = True
    students: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def pipeline(self) -> str:
        """The class of diffusers that the index names."""
        return str(self.index.get("_class_name"))

    def has(self, part: str) -> bool:
        """Whether the index names a class for a part."""
        entry = self.index.get(part)
        return isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)


def require_pipeline(folder: PipelineFolder) -> None:
    """BadInput where the folder cannot draw: no index, a class that is none, a part left out or not there."""
    if not folder.index:
        raise BadInput(f"{folder.name}: expected a model_index.json, as diffusers saves one, found none")
    where = f"{folder.name}/model_index.json"
    if not folder.known:
        raise BadInput(f"{where}: expected a pipeline of diffusers as _class_name, found {folder.pipeline!r}")
    if not any(folder.has(part) for part in DENOISERS):
        raise BadInput(f"{where}: expected one of {', '.join(DENOISERS)}, found none of them")
    missing = [part for part in NEEDS.get(folder.pipeline, ()) if not folder.has(part)]
    if missing:
        raise BadInput(f"{where}: expected {', '.join(missing)} for a {folder.pipeline}, found none")
    named = [part for part in folder.index if folder.has(part)]
    absent = [part for part in named if part not in folder.folders]
    if absent:
        raise BadInput(
            f"{folder.name}: model_index.json names {', '.join(absent)}, and no such folder is there"
        )


def require_replaceable(folder: PipelineFolder, method: Method) -> None:
    """NotSupported where a method replaces a part that the pipeline does not have, or by a folder without
    it."""
    decoder, drawer = method.get(Autoencoder), method.get(DistilledModel)
    if decoder is not None and not folder.has("vae"):
        raise NotSupported(
            f"{folder.name} has no autoencoder that another could stand in for: leave tiny-vae out"
        )
    if decoder is not None and decoder.name == "tiny" and folder.pipeline not in TINY:
        raise NotSupported(
            f"no distilled autoencoder is known for a {folder.pipeline}: name one, tiny-vae:FOLDER"
        )
    if drawer is None or student(drawer.model) is not None or drawer.model not in folder.students:
        return
    part = next(part for part in DENOISERS if folder.has(part))
    if part not in folder.students[drawer.model]:
        raise NotSupported(
            f"{drawer.model}: expected a folder {part} with the student's denoiser, found none"
        )
