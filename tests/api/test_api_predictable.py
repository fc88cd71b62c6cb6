"""What cannot be predicted is said, with the nearest thing that can; pictures are checked before the work."""

from pathlib import Path

import pytest

from metainf import api
from metainf.api.pictures import check_picture
from metainf.api.predictable import nearest_device, why_not
from metainf.domain import BadInput, Device, Hardware, NoFeasible, NotSupported, Objective

CHAT = {"concurrency": 8}


def ask(model: str, *hardware: str) -> api.Question:
    return api.Question(model, hardware, "sharegpt", CHAT, Objective(), engines=("llama.cpp", "vllm"))


def test_a_device_without_bandwidth_is_left_out_and_named() -> None:
    found = api.select(ask("Qwen/Qwen3-8B", "rtx-3060-laptop-12@0.1", "L4"))
    assert {candidate.hardware.device.name for candidate in found.ranked} == {"l4"}
    told = [e for e in found.excluded if e.hardware.device.name == "rtx-3060-laptop-12"]
    assert told and {e.limit for e in told} == {"unknown"}
    assert all("memory bandwidth" in e.reason and "rtx-3060-12" in e.reason for e in told)


def test_sizing_leaves_it_out_too() -> None:
    with pytest.raises(NoFeasible):
        api.size(ask("Qwen/Qwen3-8B", "rtx-3060-laptop-12@0.1"), 1.0)


def test_sizing_proposes_nothing_that_selection_puts_out() -> None:
    question = ask("Qwen/Qwen3-8B", "L4")
    out = {e.method.id for e in api.select(question).excluded if e.limit in ("memory", "conflict", "unknown")}
    assert out and not out & {sized.method.id for sized in api.size(question, 1.0)}


@pytest.mark.parametrize(
    "device", [d for d in api.devices() if d.memory_bandwidth_gb_per_s is None], ids=lambda d: d.name
)
def test_the_nearest_device_is_of_the_same_kind_and_known(device: Device) -> None:
    near = nearest_device(device)
    assert near is not None and near.kind == device.kind and near.memory_bandwidth_gb_per_s
    assert near.name in (why_not(Hardware(device=device, count=1)) or "")


def test_a_known_device_lacks_nothing() -> None:
    assert why_not(Hardware(device=api.device("H100"), count=1)) is None


def test_a_device_without_anything_near_is_still_answered() -> None:
    odd = Device(name="odd", kind=None)
    told = why_not(Hardware(device=odd))
    assert told is not None and "memory and memory bandwidth of odd" in told


def test_an_image_model_cannot_be_sized_by_tokens() -> None:
    with pytest.raises(NotSupported, match="nearest"):
        api.size(api.Question("sdxl", ["L4"], "sharegpt", CHAT), 5.0)


def test_a_question_wants_an_answer() -> None:
    with pytest.raises(BadInput, match="at least 1 answer"):
        api.Question("Qwen/Qwen3-8B", ["L4"], top=0)


@pytest.mark.parametrize("path", ["front.docx", "front", "absent/front.png"])
def test_a_picture_that_cannot_be_kept_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--plot"):
        check_picture(tmp_path / path)


def test_the_same_answer_gives_the_same_picture(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = api.select(ask("Qwen/Qwen3-8B", "L4", "H100"))
    first, again = (api.pareto_plot(found, tmp_path / name).read_bytes() for name in ("a.svg", "b.svg"))
    assert first == again and b"<svg" in first


def test_a_picture_needs_prices(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    question = api.Question("Qwen/Qwen3-8B", ["mi300a"], "sharegpt", CHAT, Objective(aim="throughput"))
    with pytest.raises(BadInput, match="price"):
        api.pareto_plot(api.select(question), tmp_path / "front.svg")


def test_only_the_asked_answers_are_explained() -> None:
    question = api.Question("Qwen/Qwen3-8B", ["L4"], "sharegpt", CHAT, top=5, explain=2, engines=("vllm",))
    ranked = api.select(question).ranked
    assert [bool(candidate.prediction.reasons) for candidate in ranked] == [True, True, False, False, False]


def test_offers_agree_with_the_engines() -> None:
    offers = api.offers()
    assert set(offers) == set(api.techniques())
    assert "diffusers" in offers["fused_qkv"] and "vllm" not in offers["fused_qkv"]


def test_prices_of_all_tiers() -> None:
    tiers = {price.tier: price for price in api.prices("H100")}
    assert tiers["on-demand"].usd_per_device_hour == api.price("H100")
    assert api.prices("no-such-device") == [] and api.price("no-such-device") is None
