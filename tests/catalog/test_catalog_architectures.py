"""Architectures with random weights: named, labelled, and as large as diffusers makes them."""

import pytest

from metainf import catalog
from metainf.catalog.architectures import SIZES, architecture, architectures, is_synthetic
from metainf.catalog.digits import are_trained, classifier_accuracy, digits, weights_of
from metainf.domain import UnknownName


def test_names_lead_to_facts_that_say_synthetic() -> None:
    for name, found in architectures().items():
        model = catalog.find_model(name)
        assert model == found.model and is_synthetic(model) and "random weights" in (model.source or "")
        assert model.modality == "image" and model.denoiser_params_b and model.default_resolution_px
        assert found.of in catalog.models(), "the model that it is like is in the catalogue"
        assert found.student is None or found.student in architectures()
    assert architecture("sdxl-like") is architecture("sdxl-like/full")
    assert architecture("sdxl") is None and not is_synthetic(catalog.find_model("sdxl"))
    with pytest.raises(UnknownName, match="sdxl-like/small"):
        catalog.find_model("sdxxl-like/small")


def test_full_sizes_are_those_of_the_models_they_are_like() -> None:
    for name, found in architectures().items():
        if name.endswith(f"/{SIZES[0]}"):
            known = catalog.models()[found.of]
            assert found.model.denoiser_params_b == pytest.approx(known.denoiser_params_b, rel=0.01), name
            assert found.px == known.default_resolution_px and found.guided == known.guidance_doubles


def test_students_are_smaller() -> None:
    for found in architectures().values():
        if found.student is not None:
            assert architectures()[found.student].denoiser_params < found.denoiser_params


@pytest.mark.parametrize("name", sorted(architectures()))
def test_counts_are_those_of_diffusers(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'metainf[images]'")
    diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed")
    found = architectures()[name]
    with torch.device("meta"):
        parts = (
            getattr(diffusers, found.denoiser)(**found.denoiser_config),
            getattr(diffusers, found.autoencoder)(**found.autoencoder_config),
        )
    counted = [sum(value.numel() for value in part.parameters()) for part in parts]
    assert counted == [found.denoiser_params, found.autoencoder_params]


def test_the_digits_ship_with_their_weights() -> None:
    assert set(digits()) == {"digits", "digits-few", "digits-small"}
    size = 0
    for name, found in digits().items():
        if are_trained():
            with weights_of(name) as file:
                size += file.stat().st_size
        model = catalog.find_model(name)
        assert model.denoiser_params_b == found.params / 1e9 and not is_synthetic(model)
    assert size <= 5e6
    assert digits()["digits-small"].params < 0.3 * digits()["digits"].params
    assert 0.9 < classifier_accuracy() <= 1
