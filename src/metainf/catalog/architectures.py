"""Architectures to run with random weights: `sdxl-like/small`, `flux-like/full`.

True speeds of an architecture need no trained weights, and its pictures are noise. What is run so is called
synthetic wherever it is named: in the model's name, in its source, and in what commands print. Text encoders
are left out; their outputs are made up.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from metainf.domain import Model, UnknownName

SIZES = ("full", "small", "tiny")
ENDING = "-like"
SYNTHETIC = "synthetic: random weights"
"""How the source of such a model begins."""
_NAME = re.compile(rf"(?P<name>[\w.-]+){ENDING}(?:/(?P<size>\w+))?")


@dataclass(frozen=True)
class Architecture:
    """One architecture at one size, in the words of diffusers: classes, and the configurations of its parts.

    `tiny_autoencoder` is None where no distilled one fits; `student` names the smaller model that stands in
    for it where one is published.
    """

    name: str
    of: str
    pipeline: str
    denoiser: str
    denoiser_config: Mapping[str, Any]
    denoiser_params: int
    autoencoder: str
    autoencoder_config: Mapping[str, Any]
    autoencoder_params: int
    tiny_autoencoder: Mapping[str, Any] | None
    px: int
    steps: int
    guided: bool
    student: str | None

    @property
    def model(self) -> Model:
        """Its facts. The text encoders count nothing, as none run."""
        return Model.of(
            {
                "name": self.name,
                "modality": "image",
                "family": self.pipeline,
                "source": f"{SYNTHETIC} in the architecture of {self.of}, without text encoders",
                "denoiser": self.denoiser,
                "denoiser_params_b": self.denoiser_params / 1e9,
                "text_encoder_params_b": 0.0,
                "vae_params_b": self.autoencoder_params / 1e9,
                "params_b": (self.denoiser_params + self.autoencoder_params) / 1e9,
                "default_resolution_px": self.px,
                "default_steps": self.steps,
                "guidance_doubles": self.guided,
            }
        )


@cache
def architectures() -> Mapping[str, Architecture]:
    """All of them by name, such as `sdxl-like/small`."""
    text = (files("metainf.catalog") / "data" / "architectures.json").read_text(encoding="utf-8")
    rows = json.loads(text)["rows"]
    found = [_read(row, size) for row in rows for size in SIZES]
    return MappingProxyType({each.name: each for each in found})


def architecture(name: str) -> Architecture | None:
    """The architecture of that name; None for a name of another sort. `sdxl-like` alone is the full size.

    Raises UnknownName with near misses for a name of this sort that no row has.
    """
    asked = _NAME.fullmatch(name)
    if asked is None:
        return None
    full = f"{asked['name']}{ENDING}/{asked['size'] or SIZES[0]}"
    if full not in architectures():
        raise UnknownName("architecture", name, architectures())
    return architectures()[full]


def is_synthetic(model: Model) -> bool:
    """Whether a model's weights are random."""
    return (model.source or "").startswith(SYNTHETIC)


def _read(row: Mapping[str, Any], size: str) -> Architecture:
    own, student = row["sizes"][size], row.get("student")
    return Architecture(
        name=f"{row['name']}{ENDING}/{size}",
        of=row["of"],
        pipeline=row["pipeline"],
        denoiser=row["denoiser"],
        denoiser_config=own["denoiser"],
        denoiser_params=own["denoiser_params"],
        autoencoder=row["autoencoder"],
        autoencoder_config=own["autoencoder"],
        autoencoder_params=own["autoencoder_params"],
        tiny_autoencoder=own.get("tiny_autoencoder"),
        px=own["px"],
        steps=row["steps"],
        guided=row["guided"],
        student=None if student is None else f"{student}{ENDING}/{size}",
    )
