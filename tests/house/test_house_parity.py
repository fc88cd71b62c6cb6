"""What one table names, the others know."""

import importlib
import pkgutil
from collections.abc import Iterator
from typing import get_args

import numpy as np
import pytest

import metainf
from metainf.domain import Disaggregation, Method, Pool, Technique
from metainf.embed.columns import encode_method
from metainf.engines import ENGINES, Engine, engine, engines
from metainf.importers import IMPORTERS, importer

KINDS: tuple[type, ...] = get_args(get_args(Technique)[0])
NOT_LAUNCHED: dict[type, str] = {
    Disaggregation: "needs a router and one command for each pool; records hold it, no engine starts it",
}
EXAMPLE: dict[str, dict[str, object]] = {
    "speculative": {"algorithm": "ngram", "tokens": 4},
    "weight_quantization": {"format": "fp8", "bits": 8.0},
    "kv_quantization": {"format": "fp8"},
    "precision": {"dtype": "fp32"},
    "parallelism": {"tensor": 2},
    "disaggregation": {"prefill": Pool(workers=2)},
    "attention_backend": {"name": "flash"},
    "memory_mode": {"name": "medvram"},
    "distilled_model": {"model": "segmind/SSD-1B"},
    "schedule": {"name": "lcm", "steps": 4},
    "autoencoder": {"name": "tiny"},
    "memory_format": {"name": "channels_last"},
    "flags": {"values": ("--a-flag",)},
}


def kind_of(technique: type) -> str:
    return str(technique.model_fields["kind"].default)


def same(left: float | str, right: float | str) -> bool:
    return left == right or (isinstance(left, float) and np.isnan(left) and np.isnan(float(right)))


def packages() -> Iterator[str]:
    for found in pkgutil.walk_packages(metainf.__path__, "metainf."):
        if found.ispkg:
            yield found.name


@pytest.mark.parametrize("name", IMPORTERS)
def test_importers_load_and_read(name: str) -> None:
    found = importer(name)
    assert callable(found.matches) and callable(found.read)


@pytest.mark.parametrize("name", ENGINES)
def test_engines_load_under_their_own_name(name: str) -> None:
    found = engine(name)
    assert isinstance(found, Engine)
    assert found.name == name and found.title
    assert set(found.offers) <= set(KINDS)


@pytest.mark.parametrize("technique", KINDS, ids=kind_of)
def test_every_technique_changes_a_column(technique: type) -> None:
    one = technique(**EXAMPLE.get(kind_of(technique), {}))
    plain, row = encode_method(Method(engine="e")), encode_method(Method(engine="e", techniques=(one,)))
    assert plain.keys() == row.keys()
    assert any(not same(plain[name], row[name]) for name in row), f"no column tells of {kind_of(technique)}"


@pytest.mark.parametrize("technique", KINDS, ids=kind_of)
def test_every_technique_is_offered_or_excused(technique: type) -> None:
    offering = [name for name, found in engines().items() if technique in found.offers]
    if technique in NOT_LAUNCHED:
        assert not offering, f"{offering} offer it: take it out of NOT_LAUNCHED"
    else:
        assert offering, f"no engine offers {kind_of(technique)}"


@pytest.mark.parametrize("name", sorted(packages()))
def test_public_names_resolve(name: str) -> None:
    module = importlib.import_module(name)
    public = list(getattr(module, "__all__", ()))
    missing = [each for each in public if not hasattr(module, each)]
    assert not missing, f"{name}.__all__ names what is not there: {missing}"
    assert len(public) == len(set(public))
    assert module.__doc__, f"{name} does not say what it is"
