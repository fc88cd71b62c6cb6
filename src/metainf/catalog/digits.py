"""Models that draw handwritten digits, shipped with their weights: see `metainf.hosts.digits`."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from metainf.domain import Model

CLASSES, EDGE_PX, PATCH_PX, STEPS = 10, 8, 4, 20
TEACHER, FEW, SMALL = "digits", "digits-few", "digits-small"
SOURCE = "trained on scikit-learn's digits by benchmarks/train_digits.py"


@dataclass(frozen=True)
class Digits:
    """One of the models: its network's configuration in diffusers' words, and its parameters."""

    name: str
    config: Mapping[str, Any]
    params: int

    @property
    def model(self) -> Model:
        """Its facts."""
        return Model(
            name=self.name, modality="image", family="digits", source=SOURCE, denoiser="PriorTransformer",
            denoiser_params_b=self.params / 1e9, params_b=self.params / 1e9, text_encoder_params_b=0.0,
            vae_params_b=0.0, default_resolution_px=EDGE_PX, default_steps=STEPS,
            guidance_doubles=self.name != FEW,
        )  # fmt: skip


@cache
def digits() -> Mapping[str, Digits]:
    """All of them by name."""
    rows = _index()["rows"]
    return MappingProxyType({r["name"]: Digits(r["name"], r["config"], r["params"]) for r in rows})


def classifier_accuracy() -> float:
    """Share of real digits that the classifier recognises, as told when the models were trained."""
    return float(_index()["classifier_accuracy"])


def real_resemblance() -> float:
    """How like other real digits 200 real ones are (`metainf.measure.resembling`), as told at the same time:
    the most that a model which draws so many can be told to reach."""
    return float(_index()["real_resemblance"])


def _index() -> Mapping[str, Any]:
    text = (files("metainf.catalog") / "data" / "digits" / "index.json").read_text(encoding="utf-8")
    found: Mapping[str, Any] = json.loads(text)
    return found


def are_trained() -> bool:
    """Whether the weights of all of them are here."""
    folder = files("metainf.catalog") / "data" / "digits"
    return all((folder / f"{name}.safetensors").is_file() for name in digits())


@contextmanager
def weights_of(name: str) -> Iterator[Path]:
    """The weights file of one, in safetensors."""
    with as_file(files("metainf.catalog") / "data" / "digits" / f"{name}.safetensors") as path:
        yield path
